// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <concepts>
#include <rejoin/network/feed.hpp>
#include <rejoin/os/loop.hpp>
#include <rejoin/recovery/action.hpp>
#include <rejoin/recovery/failure.hpp>
#include <rejoin/transport/connection.hpp>

// The three policies of `Pipe<EventSource, Transport, RecoveryPolicy>`: what a class has to have to be one. examples/policies.cpp writes
// all three from outside.
namespace rejoin::inline v0_1 {

/// Knows the state of the host's network and reports changes of it. One exists a loop, however many pipes listen.
///
///     static E& of(Loop&)                     the loop's one; `loop.service<E>()` makes it as `E(loop)` when first asked for
///     const NetworkState& state() const       now; empty and not `known` where it has not looked
///     void observe(NetworkObserver&)          tells the observer of every change from now on, on the loop's thread, until it is unlinked:
///                                             early and, when it has held, as settled. `ChangeFeed` does it. After `state()` has changed,
///                                             never inside `of` or `observe`.
template <class E>
concept EventSource = requires(E& source, const E& seen, Loop& loop, NetworkObserver& observer) {
    { E::of(loop) } -> std::same_as<E&>;
    { seen.state() } -> std::convertible_to<const NetworkState&>;
    source.observe(observer);
};

/// One connection of a transport: opened once or adopted, and destroyed to close it. Never blocks, calls its observer on the loop's
/// thread, and may be destroyed in any such call.
///
///     C(Loop&, ConnectionObserver&)                   not open yet
///     void set_observer(ConnectionObserver&)          from now on
///     Result<void> open(const Endpoint& to, const Way&)
///                                                     starts to connect to a numeric endpoint, on that way; `on_open` or `on_error` comes
///                                                     later, never inside
///     Result<size_t> write(std::span<const Bytes>)    takes what it can, in order, at least a byte; else `would_block`, or why not
///     void want_writable()                            asks for one `on_writable`
///     void pause(bool), bool paused()                 stops and resumes `on_bytes`
///     void set_read_limit(uint32_t)                   at most so many bytes in one `on_bytes`
///     void end()                                      ends the sending direction, after what was written
///     void abort()                                    discards what was not sent; nothing more is heard
///     Endpoint local_endpoint(), peer_endpoint()
///  Optional:
///     Result<void> adopt(Socket), Socket release()    for `Pipe::adopt`, `release` and `Listener`; adopted is open at once
///     PathInfo path_info()                            tells a silent peer whose kernel answers from a dead path
template <class C>
concept TransportConnection = requires(C& c, const C& seen, Loop& loop, ConnectionObserver& observer, const Endpoint& to, const Way& way,
                                       std::span<const Bytes> pieces) {
    C(loop, observer);
    c.set_observer(observer);
    { c.open(to, way) } -> std::same_as<Result<void>>;
    { c.write(pieces) } -> std::same_as<Result<std::size_t>>;
    c.want_writable();
    c.pause(true);
    { seen.paused() } -> std::convertible_to<bool>;
    c.set_read_limit(std::uint32_t{});
    c.end();
    c.abort();
    { seen.local_endpoint() } -> std::convertible_to<Endpoint>;
    { seen.peer_endpoint() } -> std::convertible_to<Endpoint>;
};

/// How bytes travel: names the connection, and what survives it.
///
///     T::Connection    a `TransportConnection`
///     T::Session       `session::Plain` (nothing survives) or `session::Session` (everything does). One that has `end_is_a_break` is of a
///                      protocol in which the peer's end of the connection is not the end of the conversation
///     T::Options       the session's options
///  For `Listener` also:
///     T::Acceptor      A::Accepted, which C::adopt takes; A(Loop&, Delegate<void(A::Accepted&&)>), Result<void> listen(const Endpoint&,
///     int backlog), void close(),
///                      bool listening(), Endpoint local_endpoint(); optional: void rest(Duration), void go_on(), to leave a crowd in the
///                      system's queue for a while
template <class T>
concept Transport = requires {
    typename T::Connection;
    typename T::Session;
    typename T::Options;
    { T::Session::survives_connections } -> std::convertible_to<bool>;
}
&&TransportConnection<typename T::Connection>;

/// Decides what to do about a failure. Pure: no clock, no system call. An accepted pipe has none, as its peer does the connecting.
///
///     R::Options                                      default-constructible
///     R(const R::Options&, uint64_t seed)             the options outlive it; the seed is random, for jitter
///     Action decide(const Failure&, const NetworkState&, TimePoint now)
///                                                     an attempt failed or the connection broke
///  Optional:
///     Duration patience(TimePoint now)                how long to leave an attempt alone before another is started beside it; without
///                                                     this, an attempt has the pipe's `connect_timeout` and no other beside it
///     void connected(TimePoint now)                   a connection is open and joined
///     Duration network_regained(TimePoint now)        the network changed for the better: when to try; without this, at once
///     void network_changed(TimePoint now)             the network changed under the connection, or for the better
///     Duration liveness_interval(const NetworkState&, Duration usual)
///                                                     how often a quiet connection of a session is to be probed on this network, where
///                                                     `usual` is what the transport's options say
///  Optional, all together, to share something among the pipes of one loop to one server (as it was asked for, by name or number):
///     R::Server                                       what is shared; default-constructible. `TimePoint next(TimePoint now) const`: when
///                                                     the pipe that waits for longest is to ask again; never: not before a pipe to this
///                                                     server was asked `decide`, `connected`, `leave` or `idle`
///     void join(R::Server&), void leave()             from when a conversation begins until it is over
///     bool admitted(TimePoint now)                    whether an attempt may be made now; if not, the pipe waits for its turn
///     void idle()                                     no attempt of this pipe is to come
template <class R>
concept RecoveryPolicy = requires(R& policy, const typename R::Options& options, std::uint64_t seed, const Failure& failure,
                                  const NetworkState& network, TimePoint now) {
    requires std::default_initializable<typename R::Options>;
    R(options, seed);
    { policy.decide(failure, network, now) } -> std::same_as<Action>;
};

}  // namespace rejoin::inline v0_1
