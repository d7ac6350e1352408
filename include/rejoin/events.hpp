// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/address.hpp>
#include <rejoin/network/change.hpp>
#include <rejoin/recovery/failure.hpp>

// What a pipe does and why: as a state, as a value (`Pipe::explain`), as a stream of events (`Pipe::on_event`), and in numbers
// (`Pipe::statistics`).
namespace rejoin::inline v0_1 {

/// Lets others reach what a listener listens on, or a pipe has: told as that comes and goes. An `Opening` is one. Neither call may destroy
/// whoever makes it.
class Opener {
public:
    virtual void opened(const Endpoint& local) = 0;
    virtual void closed() = 0;

protected:
    ~Opener() = default;
};

/// Where a pipe stands.
///
///     idle --connect--> connecting --> connected <--> interrupted
///     any but idle: --close--> closing --> closed; a failure that recovery does not meet --> closed; closed --connect--> connecting
enum class PipeState : std::uint8_t {
    idle,
    connecting,  ///< on the way to the first connection
    connected,
    interrupted,  ///< without a connection, and on the way to the next one; a session goes on
    closing,      ///< delivering what is queued, or reading what the peer still sends
    closed,       ///< over: in order when the failure that comes with it is none
};

namespace detail {
inline TextView name_of(PipeState state) {
    static constexpr const char* names[] = {"idle", "connecting", "connected", "interrupted", "closing", "closed"};
    return names[static_cast<std::size_t>(state)];
}
// Seconds with three places.
inline Text<31> seconds_text(Duration d) {
    Text<31> text;
    return text.append_number(d.milliseconds() / 1000).append(".").append_number(d.milliseconds() % 1000, 3).append(" s");
}
}  // namespace detail

/// The state and, where there is one, the failure that led to it, in one sentence.
inline Description describe(PipeState state, const Failure& why) {
    Description text(detail::name_of(state));
    if (why) text.append(": ").append(describe(why));
    return text;
}

/// What a pipe has done so far in its present conversation, or in the last one.
struct Statistics {
    std::uint64_t bytes_sent = 0;            ///< of the stream, queued by `send`
    std::uint64_t bytes_received = 0;        ///< of the stream, delivered to handlers
    std::uint64_t bytes_replayed = 0;        ///< sent again over a new connection
    std::uint64_t bytes_unacknowledged = 0;  ///< sent or queued, and not known to have reached the peer's program (plain TCP: the system)
    std::uint64_t connections = 0;           ///< opened and, where there is a session, joined
    std::uint64_t resumes = 0;               ///< of these, how many went on with the session
    std::uint64_t interruptions = 0;         ///< how often a connection broke with none to take its place
    std::uint64_t standbys = 0;              ///< how often another was raced beside one in use
    std::uint64_t attempts = 0;              ///< connections begun, whatever became of them
    std::uint64_t probes = 0;                ///< sent on quiet connections
    Duration without_connection;             ///< in all, since the first connection
    Duration longest_without_connection;     ///< in whole milliseconds
    Duration round_trip;                     ///< smoothed; zero while unknown, and always for a transport without a session
};

/// Why another connection is raced beside one in use.
enum class Cause : std::uint8_t {
    none,
    silence,          ///< nothing was heard for too long
    retransmissions,  ///< what was sent had to be sent again twice
    loss,             ///< much of what is sent is lost, and there is another interface
    network,          ///< a change of the network has hit it
    deprecated,       ///< its address is not meant to be used any more
};

/// One thing that a pipe did, or that was done to it. A value of fixed size; its text is made by `describe`.
struct Event {
    enum class Kind : std::uint8_t {
        state,       ///< the pipe's state is `state` now; `failure` says why
        attempt,     ///< a connection was begun, to `peer`; by `interface_index` where that is not the system's choice
        failed,      ///< an attempt failed, with `failure`
        joined,      ///< a connection between `local` and `peer` is the one in use now
        broken,      ///< the one in use is of no use any more: `failure`
        standby,     ///< another is raced beside it: `cause`
        called_off,  ///< and is not needed any more, or not to be had
        waiting,     ///< nothing is tried for `wait`; unlimited: until something happens
        redirected,  ///< the server sends this client to `peer`
        resolving,   ///< the name is looked up
        resolved,    ///< so many addresses are known: `count`
        lost,        ///< a datagram could not be sent: `failure`
        narrowed,    ///< large packets do not get through: connections use small segments from now on
    };
    Kind kind = Kind::state;
    PipeState state = PipeState::idle;  ///< of the pipe when it happened
    Cause cause = Cause::none;
    TimePoint at;
    Failure failure;
    IpAddress local, peer;
    std::uint16_t port = 0;  ///< of `peer`
    std::uint32_t interface_index = 0;
    std::uint32_t count = 0;
    Duration wait;
};

namespace detail {
inline TextView text_of(Cause cause) {
    static constexpr const char* texts[] = {"",
                                            "nothing was heard for too long",
                                            "what was sent had to be sent again twice",
                                            "much is lost on the way",
                                            "the network has changed under it",
                                            "its address is not meant to be used any more"};
    return texts[static_cast<std::size_t>(cause)];
}
}  // namespace detail

/// The event in one sentence for people, without its time.
[[gnu::cold]] inline Description describe(const Event& event) {
    using Kind = Event::Kind;
    const auto peer = [&] { return to_text(Endpoint(event.peer, event.port)); };
    Description text;
    switch (event.kind) {
        case Kind::state:
            return describe(event.state, event.failure);
        case Kind::attempt:
            text.append("trying ").append(peer());
            return event.interface_index == 0 ? text : text.append(" by interface ").append_number(event.interface_index);
        case Kind::failed:
            return text.append("an attempt failed: ").append(describe(event.failure));
        case Kind::joined:
            return text.append("talking from ").append(to_text(event.local)).append(" to ").append(peer());
        case Kind::broken:
            return text.append("lost the connection: ").append(describe(event.failure));
        case Kind::standby:
            return text.append("racing another connection: ").append(detail::text_of(event.cause));
        case Kind::called_off:
            return TextView("the other connection is not needed any more");
        case Kind::waiting:
            if (event.wait == Duration::unlimited()) return TextView("waiting for a change");
            return text.append("waiting for ").append(detail::seconds_text(event.wait));
        case Kind::redirected:
            return text.append("the server sends this client to ").append(peer());
        case Kind::resolving:
            return TextView("looking the name up");
        case Kind::resolved:
            return text.append_number(event.count).append(event.count == 1 ? " address is known" : " addresses are known");
        case Kind::lost:
            return text.append("a datagram could not be sent: ").append(describe(event.failure));
        case Kind::narrowed:
            return TextView("large packets do not get through: from now on with small segments");
    }
    return text;
}

/// Keeps the last `N` events, for the report that a user sends: `pipe.on_event([&](const Event& e) { recorder.add(e); })`.
template <std::size_t N>
class Recorder {
public:
    void add(const Event& event) { events_[total_++ % N] = event; }
    /// How many are kept, and how many there were in all.
    std::size_t size() const { return total_ < N ? total_ : N; }
    std::size_t total() const { return total_; }
    /// The `i`th of those that are kept, the oldest first.
    const Event& operator[](std::size_t i) const { return events_[(total_ - size() + i) % N]; }
    /// One line of the report: when, counted from the first event that is kept, and what.
    [[gnu::cold]] Description line(std::size_t i) const {
        const Event& event = (*this)[i];
        Description text(detail::seconds_text(event.at - (*this)[0].at));
        return text.append("  ").append(describe(event));
    }

private:
    Event events_[N];
    std::size_t total_ = 0;
};

/// What a pipe is doing, and why.
struct Explanation {
    enum class Doing : std::uint8_t {
        nothing,
        talking,              ///< all is well
        racing,               ///< talking, while another connection is tried: `cause`
        resolving,            ///< looking the name up
        trying,               ///< `attempts` connections are on their way
        pausing,              ///< until `until`; then it tries again
        waiting_for_network,  ///< this host is not connected
        waiting_for_server,   ///< the server is down or busy: others try, or it was asked to be left alone
        finishing,            ///< delivering what is queued
    };
    PipeState state = PipeState::idle;
    Doing doing = Doing::nothing;
    Cause cause = Cause::none;
    bool online = true;              ///< whether the host has a route to the internet, as far as is known
    Failure failure;                 ///< the last one; none while all is well
    TimePoint until;                 ///< of `pausing`
    Duration without;                ///< how long there has been no connection
    unsigned attempts = 0;           ///< on their way
    IpAddress local, peer;           ///< of the connection in use, if there is one
    std::size_t unacknowledged = 0;  ///< bytes that wait to reach the peer's program
};

/// The explanation for people, in a sentence or two.
[[gnu::cold]] inline Description describe(const Explanation& e) {
    using Doing = Explanation::Doing;
    Description text;
    switch (e.doing) {
        case Doing::nothing:
            text.append(detail::name_of(e.state));
            break;
        case Doing::talking:
            text.append("talking from ").append(to_text(e.local)).append(" to ").append(to_text(e.peer));
            break;
        case Doing::racing:
            text.append("talking, and racing another connection: ").append(detail::text_of(e.cause));
            break;
        case Doing::resolving:
            text.append("looking the name up");
            break;
        case Doing::trying:
            text.append_number(e.attempts).append(e.attempts == 1 ? " connection is" : " connections are").append(" on the way");
            break;
        case Doing::pausing:
            text.append("about to try again");
            break;
        case Doing::waiting_for_network:
            text.append("waiting for a network");
            break;
        case Doing::waiting_for_server:
            text.append("waiting for the server to be ready");
            break;
        case Doing::finishing:
            text.append("delivering the last ").append_number(static_cast<std::int64_t>(e.unacknowledged)).append(" bytes");
            break;
    }
    if (e.without > Duration()) text.append(", without a connection for ").append(detail::seconds_text(e.without));
    if (e.failure) text.append("; last: ").append(describe(e.failure));
    return text;
}

}  // namespace rejoin::inline v0_1
