// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/handlers.hpp>
#include <rejoin/core/random.hpp>
#include <rejoin/events.hpp>
#include <rejoin/handoff/parcel.hpp>
#include <rejoin/network/no_events.hpp>
#include <rejoin/network/system.hpp>
#include <rejoin/os/entropy.hpp>
#include <rejoin/os/resolver.hpp>
#include <rejoin/policies.hpp>
#include <rejoin/recovery/candidates.hpp>
#include <rejoin/recovery/classify.hpp>
#include <rejoin/recovery/fail_fast.hpp>
#include <rejoin/recovery/path_watch.hpp>
#include <rejoin/recovery/persistent.hpp>
#include <rejoin/recovery/servers.hpp>
#include <rejoin/transport/resumable.hpp>
#include <rejoin/transport/tcp.hpp>
#include <rejoin/transport/udp.hpp>

namespace rejoin::inline v0_1 {

/// When a handler hears of a change of the network: when it has held for `ChangeFeed::settle_time`, or as soon as it is noticed.
enum class Notice : std::uint8_t { settled, at_once };

namespace detail {

/// One side of two linked pipes, whatever their policies.
class Relay {
public:
    virtual Result<void> relay_send(Bytes) = 0;
    /// How many bytes it takes now, and at most.
    virtual std::size_t relay_space() = 0;
    virtual std::size_t relay_limit() = 0;
    virtual void relay_finish() = 0;
    virtual void relay_resume() = 0;
    virtual void relay_partner_gone(bool failed) = 0;

protected:
    ~Relay() = default;
};

/// How many connections are being attempted on one loop. Attempts beside attempts help one pipe, and hurt when thousands make them.
struct Crowd {
    explicit Crowd(Loop&) {}
    static constexpr unsigned ample = 512;
    /// A pause of `d`, as much longer as there are more attempts than are ample.
    Duration stretch(Duration d) const { return attempts <= ample ? d : d * attempts / ample; }
    unsigned attempts = 0;
};

// A member that is not there.
struct Nothing {
    template <class... Args>
    explicit Nothing(Args&&...) {}
    Nothing() = default;
};

/// What a policy shares among the pipes to one server.
template <class R>
struct ServerOf {
    using Type = Nothing;
};
template <class R>
requires requires { typename R::Server; }
struct ServerOf<R> {
    using Type = typename R::Server;
};

/// The counts of a conversation.
struct Tally {
    std::uint32_t connections = 0, resumes = 0, interruptions = 0;
    std::uint32_t longest_without_ms = 0;
    Duration without;
    void was_without(Duration d) {
        without = without + d;
        const std::int64_t ms = d.milliseconds();
        if (ms > longest_without_ms) longest_without_ms = ms < UINT32_MAX ? static_cast<std::uint32_t>(ms) : UINT32_MAX;
    }
};

/// Who made an accepted pipe and destroys it.
class PipeOwner {
public:
    virtual void pipe_detached() = 0;
    virtual void pipe_departed() = 0;
    virtual void pipe_closed() = 0;

protected:
    ~PipeOwner() = default;
};

}  // namespace detail

template <class T, class E, class R>
class Listener;

/// One conversation with one peer, over however many connections it takes. `E` tells of the network, `T` carries the bytes, `R` decides
/// what to do when something fails: policies.hpp has their contracts.
///
/// Belongs to its loop's thread, and is neither copied nor moved. A handler may destroy the pipe, add and remove handlers, and call
/// anything. Destroying a pipe gives the conversation up at once; `close` ends it in order.
template <EventSource E, Transport T, RecoveryPolicy R>
class Pipe final : private ConnectionObserver, private detail::Relay {
    using Connection = typename T::Connection;
    using Session = typename T::Session;
    static constexpr bool survives = Session::survives_connections;
    static constexpr bool shares = requires { typename R::Server; };
    using Servers = detail::Servers<typename detail::ServerOf<R>::Type>;
    static constexpr bool patient = requires(R & policy, TimePoint now) { policy.patience(now); };

public:
    struct Options {
        typename T::Options transport;
        typename R::Options recovery;
        /// The local address to connect from; of family `none`: the system's choice.
        IpAddress from;
        /// Whether a session may go on by another interface than the one that the system's routes prefer, when the path by that one is in
        /// doubt, or leads nowhere for a second. Never around a tunnel.
        bool other_interfaces = true;
        /// How long one attempt may take, for a recovery policy that does not start others beside it.
        Duration connect_timeout = Duration::seconds(10);
        /// How long the peer's program may take to let a connection in that its system has accepted; then another is tried.
        Duration handshake_timeout = Duration::seconds(5);
        /// How long `close` may take before it becomes an `abort`.
        Duration close_timeout = Duration::seconds(30);
        /// Gives up when there was no connection for this long.
        Duration give_up_after = Duration::unlimited();
        /// Is told the local endpoint while the pipe is connected, so that others can reach it: an `Opening`, which lives longer than this
        /// pipe. Null: nobody.
        Opener* opener = nullptr;
    };

    /// An idle pipe with the default options.
    explicit Pipe(Loop& loop) : Pipe(loop, &default_options, nullptr) {}
    /// An idle pipe; the options are copied.
    Pipe(Loop& loop, const Options& options) : Pipe(loop, new (std::nothrow) Options(options), nullptr) {}
    Pipe(const Pipe&) = delete;
    [[gnu::cold]] ~Pipe() {
        if (options_->opener != nullptr && state_ != PipeState::idle && state_ != PipeState::closed) options_->opener->closed();
        if (relay_ != nullptr) std::exchange(relay_, nullptr)->relay_partner_gone(true);
        if constexpr (survives) say_goodbye();
        drop_everything();
        delete dial_;
        delete rare_;
        if (options_ != &default_options && owner_ == nullptr) delete options_;
    }

    // ---- Handlers. Each `on_…` returns an id for `remove_handler`, or 0 when the handler is empty or memory is out.

    /// Bytes of the stream, as they come: they hold until the handler returns.
    HandlerId on_receive(Function<void(Bytes)> handler) { return add(receive_handlers_, std::move(handler)); }
    /// The state changed, or, while connecting or interrupted, an attempt failed in another way than the last one.
    HandlerId on_state(Function<void(PipeState, const Failure&)> handler) { return add(state_handlers_, std::move(handler)); }
    /// The host's network changed, whether or not it concerns this pipe. `Notice::settled`: the change has held for a second; what cancels
    /// itself is not told. `Notice::at_once`: as soon as it is noticed. (The pipe itself acts at once.)
    HandlerId on_network_change(Function<void(const NetworkChange&)> handler, Notice notice = Notice::settled) {
        if (rare() == nullptr) return 0;
        return add(notice == Notice::settled ? rare_->network : rare_->early_network, std::move(handler));
    }
    /// What the pipe does, and why, event by event: for a log, or a `Recorder`. They are told together, in order, when the handlers of the
    /// present turn are through; what was not told when the pipe is destroyed is not told.
    HandlerId on_event(Function<void(const Event&)> handler) { return rare() == nullptr ? 0 : add(rare_->events, std::move(handler)); }
    /// After `send` was refused with `would_block`: there is room again.
    HandlerId on_drained(Function<void()> handler) { return rare() == nullptr ? 0 : add(rare_->drained, std::move(handler)); }
    /// Takes a handler away; false when there is none of that id.
    [[gnu::cold]] bool remove_handler(HandlerId id) {
        if (id == 0) return false;
        if (receive_handlers_.remove(id) || state_handlers_.remove(id)) return true;
        return rare_ != nullptr &&
               (rare_->drained.remove(id) || rare_->network.remove(id) || rare_->early_network.remove(id) || rare_->events.remove(id));
    }

    // ---- Opening.

    /// Connects to `to`, from `idle` or `closed` (then with a new session). Nothing has happened yet when it returns; `on_state` tells.
    /// `invalid_argument` for an endpoint that is none or has port 0, and for options outside their bounds; `invalid_state`;
    /// `out_of_memory`.
    [[gnu::cold]] Result<void> connect(const Endpoint& to) {
        if (!to.valid() || to.port() == 0) return Errc::invalid_argument;
        if (auto fresh = start_over(); !fresh) return fresh;
        if (auto aimed = aim(to); !aimed) return aimed;
        state_ = PipeState::connecting;
        start_due_ = true;
        kick_.schedule();
        return {};
    }
    /// Goes on over a connected stream socket, made non-blocking and close-on-exec, as the side that connected: a session starts on it. The
    /// pipe owns it from here on. Later connections go to the socket's peer, if that is an IP address.
    [[gnu::cold]] Result<void> adopt(Socket socket) requires requires(Connection& c) { c.adopt(Socket()); }
    {
        if (!socket) return Errc::invalid_argument;
        if (!socket.connected()) return Errc::invalid_argument;
        const Endpoint to = socket.peer_endpoint();
        if (auto fresh = start_over(); !fresh) return fresh;
        if (auto aimed = aim(to); !aimed) return aimed;
        auto* attempt = new_attempt();
        if (attempt == nullptr) return Errc::out_of_memory;
        attempt->to = to.ip();
        if (auto adopted = attempt->connection->adopt(std::move(socket)); !adopted) {
            drop_attempts();
            return adopted;
        }
        state_ = PipeState::connecting;
        adopted_ = true;
        kick_.schedule();
        return {};
    }

    // ---- The stream.

    /// Queues bytes whole, or refuses them whole. They go out together when the handlers of the present turn are through. Before the
    /// first connection and, with a session, between connections they wait. `would_block`: over the limit, `on_drained` tells when to go
    /// on; `too_large`: more than the limit altogether; `invalid_state`: closing, closed, or idle; `out_of_memory`.
    [[gnu::noinline]] Result<void> send(Bytes bytes) {
        if (state_ != PipeState::connected) {
            if (state_ == PipeState::closing || state_ == PipeState::closed || state_ == PipeState::idle) return Errc::invalid_state;
            if constexpr (!survives)
                if (state_ == PipeState::interrupted) return session_.refuse();
        }
        auto queued = session_.send(bytes);
        if (!queued) return queued;
        // Much at once goes out while it is warm in the cache; the rest waits for company.
        unflushed_ = bytes.size() < flush_at_once - unflushed_ ? unflushed_ + static_cast<std::uint32_t>(bytes.size()) : flush_at_once;
        if (unflushed_ == flush_at_once && connection_ != nullptr) static_cast<void>(flush());  // an error shows again when kicked
        if (!reading_) kick_.schedule();
        if (relay_ != nullptr) relay_->relay_resume();
        return queued;
    }
    /// The same for text.
    Result<void> send(TextView text) { return send(text.bytes()); }

    /// Takes nothing more from the peer until `resume`: the peer's sends fill its own buffer. With a session, as much as the peer's replay
    /// limit is kept here meanwhile, and acknowledgements of what this side sends go on being heard.
    void pause() { set_paused(true); }
    void resume() { set_paused(false); }

    /// Relays between this pipe and `other`, both ways, with back-pressure: bytes go over instead of to `on_receive` handlers, an end on
    /// one side ends the other in order, a failure or destruction of one aborts the other. `invalid_state` when one is linked already, or
    /// has been closed.
    template <class E2, class T2, class R2>
    Result<void> link(Pipe<E2, T2, R2>& other) {
        if (relay_ != nullptr || other.relay_ != nullptr || static_cast<void*>(&other) == static_cast<void*>(this) ||
            state_ >= PipeState::closing || other.state_ >= PipeState::closing)
            return Errc::invalid_state;
        relay_ = &other;
        other.relay_ = this;
        relay_resume();
        other.relay_resume();
        return {};
    }

    // ---- Ending.

    /// Ends the conversation in order: everything queued is delivered, over new connections if need be, what the peer still sends is
    /// received, and then the pipe is `closed`. Becomes an `abort` after `Options::close_timeout`.
    void close() { begin_closing(); }
    /// Gives the conversation up at once, delivered or not; the peer is told if that is possible. `closed`, as `cancelled`.
    void abort() {
        if (state_ == PipeState::closed || state_ == PipeState::idle) return;
        say_goodbye();
        fail(classify(Errc::cancelled, Stage::established));
    }
    /// What is spoken over the connection says that it is of no use, for that reason: it is closed, behind what is queued as far as the
    /// system takes it now, and what follows is up to the recovery policy, as after a break. `invalid_state` unless connected. Only
    /// without a session, which sees to that itself.
    [[gnu::cold]] Result<void> interrupt(Error why) requires(!survives) {
        if (state_ != PipeState::connected || owner_ != nullptr) return Errc::invalid_state;
        static_cast<void>(flush());
        broken(why);
        return {};
    }
    /// Gives the connected socket to the caller, with nothing of the pipe left on it; the pipe is then `closed`. `would_block` while
    /// something is queued, `invalid_state` without a connection, `unsupported` with a session, whose state a bare socket would lose.
    Result<Socket> release() {
        if constexpr (survives || !requires(Connection & c) { c.release(); }) {
            return Errc::unsupported;
        } else {
            if (connection_ == nullptr || state_ != PipeState::connected) return Errc::invalid_state;
            if (session_.unacknowledged() != 0) return Errc::would_block;
            Socket socket = connection_->release();
            fail({});
            return socket;
        }
    }

    // ---- Moving to another process (handoff/README.md).

    /// Takes the conversation out of this process: its socket, what is queued, and its session; the pipe is then `closed`. A session may be
    /// without a connection. Inside `on_receive` the caller puts into `unread` what it has not used; with a session, where more may have
    /// been read than was delivered, that is `would_block` there: `Loop::post` it. `would_block` too while datagrams are queued;
    /// `invalid_state` when it is linked, and unless it is connected or, with a session, interrupted; `out_of_memory`.
    [[gnu::cold]] Result<handoff::Parcel> depart() requires requires(Connection& c) { c.release(); }
    {
        if (relay_ != nullptr || (state_ != PipeState::connected && !(survives && state_ == PipeState::interrupted)))
            return Errc::invalid_state;
        if (delivering_) return Errc::would_block;
        handoff::Parcel parcel;
        if (dial_ != nullptr) parcel.peer = dial_->peer;
        if constexpr (survives) {
            parcel.resumable = true;
            if (auto saved = session_.save(parcel.session); !saved) return saved.error();
        } else if constexpr (Session::has_end) {
            if (!session_.save(parcel.unsent)) return Errc::out_of_memory;
            session_.restart();
        } else {
            if (session_.unacknowledged() != 0) return Errc::would_block;
        }
        if (connection_ != nullptr) {
            parcel.socket = connection_->release();
            parcel.kind = Session::has_end ? SocketKind::stream : SocketKind::datagram;
        }
        if (owner_ != nullptr) owner_->pipe_departed();
        fail({});
        return parcel;
    }
    /// Goes on with a conversation of the side that connects, from `idle` or `closed`, in place of `connect`; `on_state` tells. Its socket
    /// and session are the pipe's from here on; `note` and `unread` stay with the caller, who sees to what was read before. Errors, with
    /// nothing changed: `invalid_argument` for a parcel of another kind than this transport's, or that was accepted, which is for a
    /// `Listener`; `invalid_state`; `malformed`, `too_large` and `would_block` as `session::Session::restore`; `out_of_memory`; the
    /// system's.
    [[gnu::cold]] Result<void> adopt(handoff::Parcel&& parcel) requires requires(Connection& c) { c.release(); }
    {
        if (parcel.resumable != survives || (!parcel.socket && !survives)) return Errc::invalid_argument;
        if (survives && (parcel.session.accepted || static_cast<bool>(parcel.socket) != parcel.session.attached))
            return Errc::invalid_argument;
        const Endpoint to = parcel.peer.valid() ? parcel.peer : parcel.socket.peer_endpoint();
        if (parcel.socket ? !parcel.socket.connected() : !to.valid()) return Errc::invalid_argument;
        if (auto fresh = start_over(); !fresh) return fresh;
        if constexpr (survives) {
            if (auto restored = session_.restore(parcel.session, loop_.now()); !restored) return forget(restored.error());
        } else if (!parcel.unsent.empty()) {
            if (auto queued = session_.send({parcel.unsent.data(), parcel.unsent.size()}); !queued) return forget(queued.error());
        }
        if (auto aimed = aim(to); !aimed) return forget(aimed.error());
        if (parcel.socket) {
            Attempt* const attempt = new_attempt();
            if (attempt == nullptr) return forget(Errc::out_of_memory);
            attempt->to = to.ip();
            if (auto adopted = attempt->connection->adopt(std::move(parcel.socket)); !adopted) {
                parcel.socket = attempt->connection->release();
                drop_attempts();
                return forget(adopted.error());
            }
            adopted_ = true;
        } else {
            start_due_ = true;
        }
        state_ = PipeState::connecting;
        kick_.schedule();
        return {};
    }

    // ---- Looking.

    PipeState state() const { return state_; }
    [[gnu::cold]] Statistics statistics() const {
        Statistics s;
        s.bytes_sent = session_.sent();
        s.bytes_received = session_.received();
        if constexpr (survives) {
            if (session_.peer_finished()) --s.bytes_received;  // FIN counts as one there
            s.bytes_replayed = session_.replayed();
            s.round_trip = session_.round_trip();
            s.probes = session_.probes();
        }
        s.bytes_unacknowledged = session_.unacknowledged();
        detail::Tally tally = tally_;
        if (interrupted_at_ != TimePoint()) tally.was_without(loop_.now() - interrupted_at_);
        s.connections = tally.connections;
        s.resumes = tally.resumes;
        s.interruptions = tally.interruptions;
        if (dial_ != nullptr) {
            s.standbys = dial_->standbys;
            s.attempts = dial_->attempts;
        }
        s.without_connection = tally.without;
        s.longest_without_connection = Duration::milliseconds(tally.longest_without_ms);
        return s;
    }
    /// What the pipe is doing at this moment, and why. `describe` says it in words.
    [[gnu::cold]] Explanation explain() const {
        using Doing = Explanation::Doing;
        Explanation e;
        e.state = state_;
        e.cause = cause_;
        e.online = !events().state().offline();
        e.failure = last_failure_;
        if (interrupted_at_ != TimePoint()) e.without = loop_.now() - interrupted_at_;
        for (const Attempt* a = attempts_; a != nullptr; a = a->next) ++e.attempts;
        e.unacknowledged = session_.unacknowledged();
        if (connection_ != nullptr) {
            e.local = unmapped(connection_->local_endpoint().ip());
            e.peer = unmapped(connection_->peer_endpoint().ip());
        }
        if (state_ == PipeState::idle || state_ == PipeState::closed)
            e.doing = Doing::nothing;
        else if (connection_ != nullptr)
            e.doing = cause_ != Cause::none ? Doing::racing : state_ == PipeState::closing ? Doing::finishing : Doing::talking;
        else if (attempts_ != nullptr)
            e.doing = Doing::trying;
        else if (parked_)
            e.doing = Doing::waiting_for_network;
        else if (waits_for_turn())
            e.doing = Doing::waiting_for_server;
        else if (dial_ != nullptr && dial_->target != nullptr && dial_->target->query.busy() && dial_->target->candidates.empty())
            e.doing = Doing::resolving;
        else if (dial_ != nullptr && dial_->retry.armed())
            e.doing = Doing::pausing, e.until = dial_->retry.when();
        return e;
    }
    /// The network as the event source knows it; valid until the loop's next turn.
    const NetworkState& network() const { return events().state(); }
    /// Of the connection in use; not `valid` without one.
    Endpoint local_endpoint() const { return connection_ == nullptr ? Endpoint() : connection_->local_endpoint(); }
    /// Of the connection in use, or what was asked for.
    Endpoint peer_endpoint() const {
        return connection_ != nullptr ? connection_->peer_endpoint() : dial_ != nullptr ? dial_->peer : Endpoint();
    }

private:
    template <class T2, class E2, class R2>
    friend class Listener;
    template <EventSource E2, Transport T2, RecoveryPolicy R2>
    friend class Pipe;

    static constexpr std::uint32_t flush_at_once = 64 * 1024;
    static constexpr std::uint32_t relay_piece = 64 * 1024;
    static constexpr std::uint16_t narrow_segment = 1000;  // less than what any path of today passes, tunnels in tunnels included
    // How often the kernel is asked what becomes of what was sent: twice between the first retransmission and the second.
    static constexpr Duration look_every = Duration::milliseconds(100);
    static constexpr Duration loss_again = Duration::seconds(10);
    static constexpr unsigned attempts_max = 4;  // a quarter of a second apart they cover the second between two SYNs of one of them
    static inline constexpr Options default_options{};

    // The peer where it has a name, which is being looked up or was, or where it sends this client elsewhere.
    struct Target {
        explicit Target(Pipe& pipe) : query(Delegate<void(Resolver::Answer&&)>::template to<&Pipe::resolved>(&pipe)) {}
        Resolver::Query query;
        Candidates candidates;
        Endpoint elsewhere;  // valid while the server has sent us there
        unsigned redirections = 0;
    };

    // One connection on its way to be the one in use.
    struct Attempt final : ConnectionObserver {
        explicit Attempt(Pipe& p)
            : pipe(p), crowd(p.loop_.template service<detail::Crowd>()), connection(new (std::nothrow) Connection(p.loop_, *this)) {
            ++crowd.attempts;
        }
        ~Attempt() {
            --crowd.attempts;
            delete connection;
        }
        void on_open() override { pipe.attempt_opened(*this); }
        bool on_bytes(Bytes bytes) override { return pipe.attempt_bytes(*this, bytes); }
        bool on_writable() override { return pipe.attempt_write(*this); }
        void on_end() override { pipe.attempt_failed(*this, Errc::end_of_stream); }
        void on_error(Error error) override { pipe.attempt_failed(*this, error); }

        Pipe& pipe;
        detail::Crowd& crowd;
        Connection* connection;
        Attempt* next = nullptr;
        TimePoint asked_at;
        IpAddress to;
        std::uint32_t interface_index = 0;  // 0: the system's choice
        Stage stage = Stage::connecting;
        [[no_unique_address]] std::conditional_t<survives, session::ClientHandshake, detail::Nothing> handshake;
    };

    // What pipes seldom have.
    struct Rare {
        Handlers<> drained;
        Handlers<const NetworkChange&> network, early_network;
        Handlers<const Event&> events;
        Array<Event> pending;  // to be told
    };

    // Its place among the pipes to one server.
    struct Turn {
        explicit Turn(Pipe& pipe) : waiter(Delegate<void()>::template to<&Pipe::turn_came>(&pipe)) {}
        typename Servers::Server* server = nullptr;
        typename Servers::Waiter waiter;
    };

    // What the side that connects needs for it.
    struct Dial {
        explicit Dial(Pipe& pipe)
            : recovery(pipe.options_->recovery, random_seed()),
              turn(pipe),
              retry(pipe.loop_, Delegate<void()>::template to<&Pipe::retry_due>(&pipe)) {}
        ~Dial() { delete target; }
        R recovery;
        [[no_unique_address]] std::conditional_t<shares, Turn, detail::Nothing> turn;
        Loop::Timer retry;  // the next attempt
        Endpoint peer;
        Target* target = nullptr;  // where there is more to it
        TimePoint started_at;
        PathWatch watch;
        std::uint32_t round = 0;                   // attempts since the break, or since the standby was wanted
        std::uint32_t over = 0;                    // the interface of the connection in use; 0: the system's choice
        std::uint32_t standbys = 0, attempts = 0;  // in all
    };

    [[gnu::cold]] Pipe(Loop& loop, const Options* options, detail::PipeOwner* owner)
        : loop_(loop),
          options_(options == nullptr ? &default_options : options),
          owner_(owner),
          tick_(loop, Delegate<void()>::template to<&Pipe::tick_due>(this)),
          kick_(loop, Delegate<void()>::template to<&Pipe::kicked>(this)),
          observer_(Delegate<void(const NetworkChange&)>::template to<&Pipe::network_changed>(this)) {
        session_.set_options(options_->transport);
        if (owner == nullptr && options != nullptr) dial_ = new (std::nothrow) Dial(*this);
        events().observe(observer_);
    }

    // Looked up each time: it is asked seldom, and there are many pipes.
    E& events() const { return E::of(loop_); }
    template <class... Args>
    [[gnu::cold]] HandlerId add(Handlers<Args...>& handlers, Function<void(Args...)> handler) {
        return handlers.add(++last_handler_, std::move(handler)) ? last_handler_ : 0;
    }
    [[gnu::cold]] Rare* rare() {
        if (rare_ == nullptr) rare_ = new (std::nothrow) Rare;
        return rare_;
    }
    [[gnu::cold]] bool set_state(PipeState state, const Failure& why) {
        state_ = state;
        reported_ = why.kind;
        if (options_->opener != nullptr && state == PipeState::closed) options_->opener->closed();
        note(Event::Kind::state, why);
        return state_handlers_(state, why);
    }
    // An event to be told when the turn's handlers are through, so that its handlers too may do anything; null where nobody listens.
    [[gnu::cold]] Event* note(Event::Kind kind, const Failure& why = {}) {
        constexpr std::size_t pending_max = 256;
        if (rare_ == nullptr || rare_->events.empty() || rare_->pending.size() == pending_max || !rare_->pending.push({})) return nullptr;
        kick_.schedule();
        Event& event = rare_->pending.back();
        event.kind = kind;
        event.state = state_;
        event.cause = cause_;
        event.at = loop_.now();
        event.failure = why;
        return &event;
    }
    [[gnu::cold]] bool tell_events() {
        const Array<Event> pending = std::move(rare_->pending);
        rare_->pending = {};
        for (const Event& event : pending)
            if (!rare_->events(event)) return false;
        return true;
    }
    void note_to(Event* event, const IpAddress& ip, std::uint16_t port, std::uint32_t interface_index) {
        if (event == nullptr) return;
        event->peer = ip;
        event->port = port;
        event->interface_index = interface_index;
    }
    [[gnu::cold]] void drop_attempts() {
        while (attempts_ != nullptr) delete std::exchange(attempts_, attempts_->next);
    }
    [[gnu::cold]] void drop_attempt(Attempt& attempt) {
        Attempt** at = &attempts_;
        while (*at != &attempt) at = &(*at)->next;
        *at = attempt.next;
        delete &attempt;
    }
    // Those by the system's choice that go by what was before the change. Whether there were any.
    [[gnu::cold]] bool drop_attempts_hit(const NetworkChange& change) {
        bool any = false;
        for (Attempt** at = &attempts_; *at != nullptr;) {
            Attempt* const one = *at;
            const bool hit = one->interface_index == 0 && change.affects(one->connection->local_endpoint().ip(), one->to);
            if (hit) {
                *at = one->next;
                delete one;
            } else {
                at = &one->next;
            }
            any = any || hit;
        }
        return any;
    }
    void drop_retired() { delete std::exchange(retired_, nullptr); }
    [[gnu::cold]] void drop_connection() {
        drop_retired();
        delete std::exchange(connection_, nullptr);
    }
    [[gnu::cold]] void drop_everything() {
        drop_attempts();
        drop_connection();
        tick_.cancel();
        kick_.cancel();
        if (dial_ != nullptr) {
            dial_->retry.cancel();
            if (dial_->target != nullptr) dial_->target->query.cancel();
            leave_server();
        }
        cause_ = Cause::none;
        parked_ = start_due_ = adopted_ = moving_ = returning_ = partner_failed_ = partner_closed_ = false;
    }
    // Tells the peer of a session that it is over, if that fits into the system's buffer now. Without a session there is but the reset to
    // tell a conversation given up from one that ended in order.
    [[gnu::cold]] void say_goodbye() {
        if (connection_ == nullptr) return;
        if constexpr (survives) {
            if (session_.at_frame_boundary() && state_ != PipeState::closed) {
                const Bytes frame[] = {Session::abort_frame};
                static_cast<void>(connection_->write(frame));
            }
        } else {
            connection_->abort();
        }
    }

    // ---- Attempts.

    [[gnu::cold]] Result<void> start_over() {
        if (dial_ == nullptr && owner_ == nullptr) return Errc::out_of_memory;
        if (!options_->transport.valid()) return Errc::invalid_argument;
        if (owner_ != nullptr || (state_ != PipeState::idle && state_ != PipeState::closed)) return Errc::invalid_state;
        if (state_ == PipeState::closed) {
            renew_session();
            dial_->recovery.~R();
            ::new (static_cast<void*>(&dial_->recovery)) R(options_->recovery, random_seed());
            tally_ = {};
            dial_->standbys = dial_->attempts = 0;
            last_failure_ = {};
        }
        interrupted_at_ = TimePoint();
        peer_ended_ = our_end_sent_ = narrow_ = false;
        dial_->round = dial_->over = 0;
        dial_->started_at = loop_.now();
        return {};
    }
    [[gnu::cold]] void renew_session() {
        session_.~Session();
        ::new (static_cast<void*>(&session_)) Session;
        session_.set_options(options_->transport);
        if constexpr (survives) session_.hold(paused_);
    }
    // What could not be adopted.
    [[gnu::cold]] Error forget(Error why) {
        renew_session();
        leave_server();
        return why;
    }
    // From here on the peer is `to`.
    [[gnu::cold]] Result<void> aim(const Endpoint& to) {
        leave_server();  // of a socket that could not be adopted
        dial_->peer = to;
        delete std::exchange(dial_->target, nullptr);
        if (to.name() != nullptr && (dial_->target = new (std::nothrow) Target(*this)) == nullptr) return Errc::out_of_memory;
        if constexpr (shares) {
            dial_->turn.server = loop_.template service<Servers>().join(to);
            if (dial_->turn.server == nullptr) return Errc::out_of_memory;
            dial_->recovery.join(dial_->turn.server->state);
        }
        return {};
    }
    [[gnu::cold]] void leave_server() {
        if constexpr (shares) {
            dial_->turn.waiter.unlink();
            if (dial_->turn.server == nullptr) return;
            dial_->recovery.leave();
            dial_->turn.server->look();
            loop_.template service<Servers>().leave(*std::exchange(dial_->turn.server, nullptr));
        }
    }
    // What was decided, or came about, may be somebody else's turn.
    [[gnu::cold]] void look_for_turns() {
        if constexpr (shares)
            if (dial_ != nullptr && dial_->turn.server != nullptr) dial_->turn.server->look();
    }
    bool waits_for_turn() const {
        if constexpr (shares)
            return dial_ != nullptr && dial_->turn.waiter.linked();
        else
            return false;
    }
    [[gnu::cold]] void turn_came() { attempt(); }

    // The turn's handlers are through: start what was asked for, and write what was queued.
    void kicked() {
        if (rare_ != nullptr && !rare_->pending.empty() && !tell_events()) return;
        if (std::exchange(partner_failed_, false)) return abort();
        if (std::exchange(partner_closed_, false) && !begin_closing()) return;
        if (start_due_) {
            start_due_ = false;
            if (state_ == PipeState::connecting && !set_state(PipeState::connecting, {})) return;
            if (start_due_) return;                                                       // it was called off, and asked for anew
            if (state_ != PipeState::connecting && state_ != PipeState::closing) return;  // closing: with something to deliver first
            return static_cast<void>(attempt());
        }
        if (adopted_) {
            adopted_ = false;
            arm_patience();
            if (attempts_ != nullptr) return attempt_opened(*attempts_);
        }
        if constexpr (survives)
            if (!paused_ && session_.held() > 0 && !(deliver_held() && after_progress())) return;
        if (connection_ == nullptr) return;
        if (std::exchange(moving_, false) && !standby(Cause::network)) return;
        if (const Error error = flush()) return static_cast<void>(broken(error));
        arm_tick();
        after_flush();
    }

    bool named() const { return dial_->peer.name() != nullptr && !(dial_->target != nullptr && dial_->target->elsewhere.valid()); }
    [[gnu::cold]] bool resolve() {
        if (!dial_->target->query.busy()) {
            note(Event::Kind::resolving);
            if (auto started = dial_->target->query.start(Resolver::of(loop_), dial_->peer.name()); !started)
                return recover(classify(started.error(), Stage::resolving));
        }
        arm_retry(patient ? TimePoint::never() : loop_.now() + options_->connect_timeout);
        return true;
    }
    [[gnu::cold]] void resolved(Resolver::Answer&& answer) {
        Candidates& known = dial_->target->candidates;
        const bool first = known.empty();
        if (!answer) {
            // Addresses that are known go on being tried.
            if (first) recover(classify(answer.error(), Stage::resolving));
            return;
        }
        bool news = false;
        for (const IpAddress& ip : *answer) news = news || !known.has(ip);
        if (!known.set(*answer)) {
            if (first) recover(classify(Errc::out_of_memory, Stage::resolving));
            return;
        }
        if (Event* event = note(Event::Kind::resolved)) event->count = static_cast<std::uint32_t>(known.size());
        if (first || (news && connection_ == nullptr && attempts_ == nullptr && !parked_)) attempt();
    }

    [[gnu::cold]] Attempt* new_attempt() {
        Attempt** at = &attempts_;
        unsigned count = 0;
        for (; *at != nullptr; at = &(*at)->next) ++count;
        auto* attempt = new (std::nothrow) Attempt(*this);
        if (attempt == nullptr || attempt->connection == nullptr) {
            delete attempt;
            return nullptr;
        }
        *at = attempt;
        if (count == attempts_max) drop_attempt(*attempts_);
        return attempt;
    }
    // By which interface the `n`th attempt in a row goes: a path in doubt has the others first; otherwise the system's choice has a second.
    [[gnu::cold]] std::uint32_t interface_for(unsigned n, const IpAddress& to) const {
        if (!survives || !options_->other_interfaces || options_->from.family != Family::none) return 0;
        std::size_t which = 0;
        if (cause_ == Cause::loss) {
            if (dial_->over != 0) return 0;
            which = n;
        } else if (cause_ == Cause::silence || cause_ == Cause::retransmissions) {
            if (n % 2 == (dial_->over == 0 ? 1 : 0)) return 0;
            which = n / 2;
        } else {
            if (n < attempts_max || n % 2 == 0) return 0;
            which = (n - attempts_max) / 2;
        }
        const std::uint32_t index = other_interface(events().state(), to, which);
        return index != 0 || which == 0 ? index : other_interface(events().state(), to, 0);
    }
    // Races another connection beside the one in use. Returns false when the pipe is gone.
    [[gnu::cold]] bool standby(Cause cause) {
        cause_ = cause;
        returning_ = false;
        dial_->round = 0;
        ++dial_->standbys;
        note(Event::Kind::standby);
        return attempt();
    }
    // The one in use goes on, and nothing else is tried.
    [[gnu::cold]] void call_off() {
        drop_attempts();
        dial_->retry.cancel();
        parked_ = false;
        note(Event::Kind::called_off);
        cause_ = Cause::none;
        returning_ = false;
        if constexpr (shares) {
            dial_->turn.waiter.unlink();
            dial_->recovery.idle();
        }
        look_for_turns();
    }
    bool racing() const { return attempts_ != nullptr || parked_ || (dial_ != nullptr && dial_->retry.armed()) || waits_for_turn(); }

    // Starts one more. Returns false when the pipe is gone.
    [[gnu::cold]] bool attempt() {
        parked_ = false;
        if (named() && dial_->target->candidates.empty()) return resolve();
        const TimePoint now = loop_.now();
        if constexpr (shares)
            if (!dial_->recovery.admitted(now)) {
                dial_->turn.server->wait(dial_->turn.waiter);
                return paused_for(Duration::unlimited());
            }
        Attempt* attempt = new_attempt();
        if (attempt == nullptr) return recover(classify(Errc::out_of_memory, Stage::connecting));
        const Endpoint& known = dial_->target != nullptr && dial_->target->elsewhere.valid() ? dial_->target->elsewhere : dial_->peer;
        attempt->to = known.name() == nullptr ? known.ip() : dial_->target->candidates.next(now);
        attempt->interface_index = interface_for(dial_->round++, attempt->to);
        ++dial_->attempts;
        note_to(note(Event::Kind::attempt), attempt->to, known.port(), attempt->interface_index);
        const Way way{options_->from, attempt->interface_index, narrow_ ? narrow_segment : std::uint16_t{0}, known.name()};
        if (auto opened = attempt->connection->open({attempt->to, known.port()}, way); !opened) {
            const bool by_another = attempt->interface_index != 0;
            const IpAddress to = attempt->to;
            drop_attempt(*attempt);
            if (!by_another) return failed(to, classify(opened.error(), Stage::connecting, {options_->from, &events().state(), to}));
            if (cause_ != Cause::loss) return this->attempt();  // by the system's choice
            call_off();
            return true;
        }
        arm_patience();
        return true;
    }
    [[gnu::cold]] void arm_patience() {
        const TimePoint now = loop_.now();
        TimePoint next = now + options_->connect_timeout;
        if constexpr (requires { dial_->recovery.patience(now); })
            next = now + loop_.template service<detail::Crowd>().stretch(dial_->recovery.patience(now));
        arm_retry(next);
    }
    // When to go on; or to give up, if that comes first.
    [[gnu::cold]] void arm_retry(TimePoint next) {
        const TimePoint end = (interrupted_at_ == TimePoint() ? dial_->started_at : interrupted_at_) + options_->give_up_after;
        dial_->retry.at(connection_ == nullptr && end < next ? end : next);
    }
    [[gnu::cold]] bool paused_for(Duration d) {
        if (Event* event = note(Event::Kind::waiting)) event->wait = d;
        arm_retry(loop_.now() + d);
        return true;
    }
    [[gnu::cold]] void retry_due() {
        const TimePoint now = loop_.now();
        if (connection_ == nullptr &&
            now - (interrupted_at_ == TimePoint() ? dial_->started_at : interrupted_at_) >= options_->give_up_after)
            return static_cast<void>(fail(last_failure_ ? last_failure_ : classify(Errc::timed_out, Stage::connecting)));
        if (!patient && named() && dial_->target->query.busy() && dial_->target->candidates.empty()) {
            dial_->target->query.cancel();
            return static_cast<void>(recover(classify(Errc::timed_out, Stage::resolving)));
        }
        if (!patient && attempts_ != nullptr) {
            const Stage stage = attempts_->stage;
            const IpAddress to = attempts_->to;
            drop_attempts();
            return static_cast<void>(failed(to, classify(Errc::timed_out, stage)));
        }
        if (cause_ == Cause::loss && connection_ != nullptr && dial_->round >= attempts_max) return call_off();
        // An attempt whose connection is open waits for the other end's program: one more beside it would only wait behind it, and where
        // a crowd is the reason, make it worse. Unless there is another address to try.
        for (Attempt* open = attempts_; open != nullptr; open = open->next) {
            if (open->stage == Stage::connecting) continue;
            if (now - open->asked_at < options_->handshake_timeout) {
                if (named() && !dial_->target->candidates.round_over()) break;
                return arm_patience();
            }
            const Stage stage = open->stage;
            const IpAddress to = open->to;
            drop_attempt(*open);
            return static_cast<void>(failed(to, classify(Errc::timed_out, stage)));
        }
        attempt();
    }

    [[gnu::cold]] void attempt_opened(Attempt& attempt) {
        if constexpr (survives) {
            if (session_.attached() && connection_ == nullptr) {  // it moved here, and goes on over the connection that came with it
                static_cast<void>(take_over(attempt, false, loop_.now()));
                return;
            }
            session::Nonce nonce;
            if (auto random = entropy(nonce.bytes); !random) return attempt_failed(attempt, random.error());
            const auto window = static_cast<std::uint32_t>(options_->transport.replay_limit);
            if (session_.established()) {
                attempt.stage = Stage::resuming;
                attempt.handshake.ask_resume(session_.identity(), nonce, session_.next_epoch(), window);
            } else {
                attempt.stage = Stage::handshaking;
                attempt.handshake.ask_new(nonce, window, options_->transport.pre_shared_key.get());
            }
            attempt.asked_at = loop_.now();
            attempt_write(attempt);
        } else {
            established(attempt, {});
        }
    }
    [[gnu::cold]] bool attempt_write(Attempt& attempt) {
        if constexpr (survives)
            while (!attempt.handshake.pending().empty()) {
                const Bytes piece[] = {attempt.handshake.pending()};
                auto wrote = attempt.connection->write(piece);
                if (wrote) {
                    attempt.handshake.wrote(*wrote);
                } else if (wrote.error() == Errc::would_block) {
                    attempt.connection->want_writable();
                    break;
                } else {
                    attempt_failed(attempt, wrote.error());
                    return false;
                }
            }
        return true;
    }
    [[gnu::cold]] bool attempt_bytes(Attempt& attempt, Bytes bytes) {
        if constexpr (survives) {
            auto joined = attempt.handshake.receive(bytes);
            if (!joined) {
                attempt_failed(attempt, joined.error());
                return false;
            }
            return !*joined || established(attempt, bytes);
        } else {
            return true;
        }
    }
    [[gnu::cold]] void attempt_failed(Attempt& attempt, Error error) {
        const IpAddress to = attempt.to;
        Failure why = classify(error, attempt.stage, {options_->from, &events().state(), to});
        const bool by_another = attempt.interface_index != 0;
        Endpoint elsewhere;
        if constexpr (survives) {
            const session::PushBack& ask = attempt.handshake.push_back();
            if (why.kind == FailureKind::redirected) elsewhere = Endpoint(ask.ip, ask.port);
            if (why.kind == FailureKind::overloaded) why.retry_after_ms = ask.retry_after_ms;
        }
        drop_attempt(attempt);
        if constexpr (survives)
            if (error == Errc::session_unknown && session_.complete()) return static_cast<void>(fail({}));  // it has nothing more to tell
        if (elsewhere.valid() && redirect(elsewhere)) return static_cast<void>(this->attempt());
        if (by_another && why.stage == Stage::connecting) {  // which says nothing of the peer
            note(Event::Kind::failed, why);
            if (cause_ == Cause::loss && attempts_ == nullptr) call_off();
            return;
        }
        failed(to, why);
    }
    // Goes to another server from now on; false where that leads in circles.
    [[gnu::cold]] bool redirect(const Endpoint& elsewhere) {
        constexpr unsigned redirections_max = 4;
        if (dial_->target == nullptr) dial_->target = new (std::nothrow) Target(*this);
        if (dial_->target == nullptr || ++dial_->target->redirections > redirections_max) return false;
        note_to(note(Event::Kind::redirected), elsewhere.ip(), elsewhere.port(), 0);
        dial_->target->elsewhere = elsewhere;
        return true;
    }
    // An attempt to reach `to` failed.
    [[gnu::cold]] bool failed(const IpAddress& to, const Failure& why) {
        note(Event::Kind::failed, why);
        if (dial_->target != nullptr) {
            dial_->target->candidates.lost(to, loop_.now());
            if (dial_->target->elsewhere.valid() && dial_->target->elsewhere.ip() == to) {  // back to the one that was asked for
                dial_->target->elsewhere = {};
                dial_->target->redirections = 0;
            }
        }
        return recover(why);
    }

    // An attempt is now the connection in use. `rest` came behind the handshake. False when the connection does not exist any more.
    [[gnu::cold]] bool established(Attempt& attempt, Bytes rest) {
        const TimePoint now = loop_.now();
        bool resumed = false;
        if constexpr (survives) {
            resumed = attempt.handshake.resuming();
            if (!session_.established()) session_.set_identity(attempt.handshake.identity(), false);
            if (cause_ == Cause::silence) session_.found_dead();
            attempt.handshake.confirm(session_.received(), session_.acknowledged());
            if (!session_.attach(attempt.handshake.agreement(), attempt.handshake.pending(), now - attempt.asked_at, now)) {
                drop_attempt(attempt);
                recover(classify(Errc::malformed, Stage::resuming));
                return false;
            }
        }
        if (dial_->target != nullptr) {
            // Whoever had a head start and was overtaken is slow.
            for (const Attempt* other = attempts_; other != &attempt; other = other->next)
                if (!(other->to == attempt.to)) dial_->target->candidates.lost(other->to, now);
            dial_->target->candidates.won(attempt.to);
            dial_->target->redirections = 0;
        }
        dial_->over = attempt.interface_index;
        Connection* const connection = attempt.connection;
        return take_over(attempt, resumed, now) && take_rest(connection, rest);
    }
    // No other is needed. False when the pipe or the connection is gone.
    [[gnu::cold]] bool take_over(Attempt& attempt, bool resumed, TimePoint now) {
        Connection* const connection = std::exchange(attempt.connection, nullptr);
        drop_attempts();
        dial_->retry.cancel();
        return use(connection, resumed, now);
    }
    // From here on this is the connection. False when the pipe or the connection is gone.
    [[gnu::cold]] bool use(Connection* connection, bool resumed, TimePoint now) {
        drop_retired();
        retired_ = std::exchange(connection_, connection);
        if (retired_ != nullptr) {
            // Where the other end sees the old connection end before it sees the proof that the new one brings, it looks like a break.
            retired_->set_observer(detail::Nobody::instance());
            retired_->pause(true);
            if (owner_ != nullptr || !survives) drop_retired();  // it has seen the proof
        }
        connection->set_observer(*this);
        ++tally_.connections;
        tally_.resumes += resumed ? 1 : 0;
        if (interrupted_at_ != TimePoint()) tally_.was_without(now - interrupted_at_);
        interrupted_at_ = TimePoint();
        parked_ = moving_ = returning_ = false;
        last_failure_ = {};
        if (dial_ != nullptr) {
            dial_->round = 0;
            dial_->watch.restart(cause_ == Cause::loss ? now + loss_again : TimePoint());
            if constexpr (shares) dial_->turn.waiter.unlink();
            if constexpr (requires { dial_->recovery.connected(now); }) dial_->recovery.connected(now);
            look_for_turns();
            ask_liveness();
        }
        cause_ = Cause::none;
        if (options_->opener != nullptr) options_->opener->opened(connection->local_endpoint());
        if (Event* event = note(Event::Kind::joined)) {
            event->local = unmapped(connection->local_endpoint().ip());
            const Endpoint peer = connection->peer_endpoint();
            note_to(event, unmapped(peer.ip()), peer.port(), dial_ == nullptr ? 0 : dial_->over);
        }
        if constexpr (!survives)
            if (paused_) connection->pause(true);
        if (relay_ != nullptr) {
            relay_resume();
            relay_->relay_resume();
        }
        kick_.schedule();
        if (state_ == PipeState::connecting || state_ == PipeState::interrupted)
            if (!set_state(PipeState::connected, {})) return false;
        return connection_ == connection;
    }
    bool take_rest(Connection* connection, Bytes rest) { return rest.empty() ? connection_ == connection : on_bytes(rest); }
    // A policy may want quiet connections to be probed more seldom, or more often, on the network as it is.
    [[gnu::cold]] void ask_liveness() {
        if constexpr (survives && requires { dial_->recovery.liveness_interval(events().state(), Duration()); })
            session_.set_liveness_interval(dial_->recovery.liveness_interval(events().state(), options_->transport.liveness_interval));
    }

    // ---- Recovery. All of these return false when the pipe is gone.

    [[gnu::cold]] bool recover(const Failure& why) {
        if (connection_ != nullptr && cause_ == Cause::loss) {  // what there is still works
            if (attempts_ == nullptr) call_off();
            return true;
        }
        last_failure_ = why;
        const Action action = dial_->recovery.decide(why, events().state(), loop_.now());
        look_for_turns();
        return perform(action, why);
    }
    [[gnu::cold]] bool perform(Action action, const Failure& why) {
        if (action.kind == Action::Kind::try_next) {
            if (named() && !dial_->target->candidates.round_over()) return attempt();
            action = action.delay == Duration::unlimited() ? Action::give_up() : Action::retry_after(action.delay);
            // A name whose every address failed may have moved. Those that are known are tried on meanwhile.
            if (action.kind == Action::Kind::retry_after && named() && !dial_->target->query.busy())
                static_cast<void>(dial_->target->query.start(Resolver::of(loop_), dial_->peer.name()));
        }
        if (action.kind == Action::Kind::give_up) {
            const bool peer_answered = why.stage == Stage::handshaking || why.stage == Stage::resuming;
            if (attempts_ != nullptr && !peer_answered && why.stage == Stage::connecting) return true;  // another may do
            if (connection_ == nullptr) return fail(why);
            call_off();  // a standby that cannot be had: the old connection goes on
            return true;
        }
        parked_ = action.kind == Action::Kind::wait_for_network;
        paused_for(parked_ ? Duration::unlimited() : action.delay);
        if ((state_ == PipeState::connecting || state_ == PipeState::interrupted) && why.kind != reported_) return set_state(state_, why);
        return true;
    }
    // The connection in use is of no use any more.
    [[gnu::cold]] bool broken(Error error) {
        const Failure why = classify(error, Stage::established);
        if constexpr (survives) {
            if (why.kind == FailureKind::unresponsive && (session_.stuck() || session_.barren())) narrow();
            if (why.kind == FailureKind::unresponsive || why.kind == FailureKind::reset) session_.found_dead();
        }
        drop_connection();
        tick_.cancel();
        ++tally_.interruptions;
        interrupted_at_ = loop_.now();
        note(Event::Kind::broken, why);
        if constexpr (survives) {
            session_.detach();
            if (why.kind == FailureKind::session_aborted) return fail(why);
            if (owner_ != nullptr) {
                owner_->pipe_detached();
                if (state_ == PipeState::closing) arm_close();
                return state_ != PipeState::connected || set_state(PipeState::interrupted, why);
            }
        } else {
            if (state_ == PipeState::closing) return fail(peer_ended_ && our_end_sent_ ? Failure{} : why);
            if (owner_ != nullptr) return fail(why);
            session_.restart();
            peer_ended_ = our_end_sent_ = false;
        }
        if (state_ == PipeState::closing) arm_close();
        if (attempts_ != nullptr || waits_for_turn() || parked_) {
            // Others are on their way already; or it is known that there is no way, which then is the better reason.
            if (!parked_) last_failure_ = why;
            if (cause_ == Cause::loss) cause_ = Cause::retransmissions;
            if (attempts_ == nullptr) arm_retry(TimePoint::never());
            return state_ == PipeState::closing || set_state(PipeState::interrupted, last_failure_);
        }
        cause_ = Cause::none;
        dial_->round = 0;
        if (dial_->target != nullptr) dial_->target->candidates.restart();
        const Action action = dial_->recovery.decide(why, events().state(), loop_.now());
        look_for_turns();
        last_failure_ = why;
        if (action.kind == Action::Kind::give_up) return fail(why);
        if (state_ != PipeState::closing) {
            if (!set_state(PipeState::interrupted, why)) return false;
            if (state_ != PipeState::interrupted && state_ != PipeState::closing) return true;
        }
        if (action.kind == Action::Kind::retry_after && action.delay == Duration()) return attempt();
        return perform(action, why);
    }
    // Large packets do not get through.
    [[gnu::cold]] void narrow() {
        if (std::exchange(narrow_, true)) return;
        note(Event::Kind::narrowed);
    }
    // The end: in order when `why` is none.
    [[gnu::cold]] bool fail(const Failure& why) {
        drop_everything();
        if constexpr (survives) session_.detach();
        interrupted_at_ = TimePoint();
        if (relay_ != nullptr) std::exchange(relay_, nullptr)->relay_partner_gone(static_cast<bool>(why));
        if (owner_ != nullptr) owner_->pipe_closed();
        if (state_ == PipeState::closed) return true;
        return set_state(PipeState::closed, why);
    }

    [[gnu::cold]] void network_changed(const NetworkChange& change) {
        if (rare_ != nullptr) {
            if (change.early && !rare_->early_network(change)) return;
            if (change.settled && !rare_->network(change)) return;
        }
        if (state_ == PipeState::idle || state_ == PipeState::closed) return;
        const bool ours = connection_ != nullptr && change.affects(connection_->local_endpoint().ip(), connection_->peer_endpoint().ip());
        const bool hit = ours && change.major;
        if constexpr (survives) {
            // The flag comes and goes with every announcement of a router: it counts when it has stayed.
            const bool about = change.kind == NetworkChange::Kind::address_deprecated || change.kind == NetworkChange::Kind::address_usable;
            if (about && change.settled && connection_ != nullptr && owner_ == nullptr && !racing() &&
                should_move(*change.after, unmapped(connection_->local_endpoint().ip())))
                return static_cast<void>(standby(Cause::deprecated));
        } else if constexpr (Session::has_end) {
            // Nothing can be started beside it: given up when it is certain that its address is gone.
            if (hit && change.settled && change.after->interface_of(connection_->local_endpoint().ip()) == 0)
                return static_cast<void>(broken(Errc::address_lost));
        }
        if (!change.early) return;
        if (hit || (change.may_help() && change.kind != NetworkChange::Kind::dns_changed)) {
            narrow_ = false;
            if constexpr (survives) session_.unlearn();
            if (dial_ != nullptr) {
                if constexpr (requires { dial_->recovery.network_changed(loop_.now()); }) dial_->recovery.network_changed(loop_.now());
                ask_liveness();
            }
        }
        if (hit && owner_ != nullptr) {
            // The other side does the connecting; a probe tells soon whether this connection still is one.
            if constexpr (survives) session_.probe(loop_.now()), kick_.schedule();
            return;
        }
        if constexpr (survives || !Session::has_end) {
            // A new connection at once, without waiting for the transport to notice; the old one stays until the new one has resumed. One
            // happening makes several changes: when all of them are known, one attempt takes the way that is left. One that was begun
            // between two of them would win, and stay on the worse way.
            const bool late = change.major && owner_ == nullptr && drop_attempts_hit(change);
            if (hit || (late && connection_ != nullptr)) {
                moving_ = true;
                kick_.schedule();
                return;
            }
        }
        if constexpr (survives) {
            // The address that was lost is back, before another connection could be had: if the old one still works, all is well.
            if (cause_ == Cause::network && connection_ != nullptr && change.kind == NetworkChange::Kind::address_usable &&
                same_address(change.address, unmapped(connection_->local_endpoint().ip()))) {
                returning_ = true;
                session_.probe(loop_.now());
                kick_.schedule();
            }
        }
        // A name server that was asked before may never answer.
        if (owner_ != nullptr) return;
        if (change.kind == NetworkChange::Kind::dns_changed && named() && dial_->target->query.busy())
            static_cast<void>(dial_->target->query.start(Resolver::of(loop_), dial_->peer.name()));
        const bool content = connection_ != nullptr && !racing();
        if (!change.may_help() || start_due_ || (named() && dial_->target->candidates.empty() && dial_->target->query.busy()) || content)
            return;
        if constexpr (!survives)
            if (connection_ != nullptr) return;
        if (waits_for_turn() || (!patient && attempts_ != nullptr)) return;  // an attempt has its time
        Duration d;
        if constexpr (requires { dial_->recovery.network_regained(loop_.now()); }) d = dial_->recovery.network_regained(loop_.now());
        parked_ = false;
        if (dial_->retry.when() > loop_.now() + d) dial_->retry.after(d);
    }
    // Whether a connection's address is deprecated, and there is one that is not.
    [[gnu::cold]] static bool should_move(const NetworkState& network, const IpAddress& local) {
        bool deprecated = false, another = false;
        for (const InterfaceAddress& a : network.addresses) {
            if (same_address(a.ip, local)) deprecated = a.deprecated;
            another =
                another || (a.ip.family == local.family && a.usable() && !a.deprecated && !a.ip.is_link_local() && !a.ip.is_loopback());
        }
        return deprecated && another;
    }

    // ---- The connection in use.

    void on_open() override {}
    bool on_bytes(Bytes bytes) override {
        Connection* const connection = connection_;
        if constexpr (survives) {
            drop_retired();
            if (returning_ || cause_ == Cause::silence || cause_ == Cause::retransmissions) reassured();
            bool gone = false;
            const Error error = session_.receive(
                bytes, loop_.now(), [this](Bytes part) { return deliver(part); }, gone);
            if (gone) return false;
            if (connection_ != connection) return false;
            if (error) {
                broken(error);
                return false;
            }
            if (session_.full()) connection->pause(true);
            kick_.schedule();
            if (!after_progress()) return false;
        } else {
            session_.delivered(bytes.size());
            reading_ = true;  // what the handlers send goes out together when they return
            if (!deliver(bytes)) return false;
            reading_ = false;
            if (!session_.empty() && connection_ == connection) {
                if (const Error error = flush()) {
                    broken(error);
                    return false;
                }
                if (!after_flush()) return false;
            }
        }
        return connection_ == connection;
    }
    // Something came although the path was in doubt: nothing else needs to be tried, unless it is what we send that does not arrive.
    [[gnu::cold]] void reassured() {
        if constexpr (requires { connection_->path_info(); })
            if (cause_ == Cause::retransmissions && connection_->path_info().retransmits > 0) return;
        call_off();
    }
    bool on_writable() override {
        Connection* const connection = connection_;
        if (const Error error = flush()) {
            broken(error);
            return false;
        }
        return after_flush() && connection_ == connection;
    }
    void on_end() override {
        if constexpr (survives || requires { Session::end_is_a_break; }) {
            broken(Errc::end_of_stream);
        } else {
            peer_ended_ = true;
            if (relay_ != nullptr && state_ == PipeState::connected) {
                relay_->relay_finish();
                if (our_end_sent_) fail({});
                return;
            }
            if (our_end_sent_) return static_cast<void>(fail({}));
            close();  // what is queued still goes out
        }
    }
    void on_error(Error error) override { broken(error); }

    bool deliver(Bytes bytes) {
        if (relay_ == nullptr) {
            if constexpr (!survives) return receive_handlers_(bytes);
            delivering_ = true;
            if (!receive_handlers_(bytes)) return false;
            delivering_ = false;
            return true;
        }
        // Read no faster than the other side takes: it has room for this piece, and is asked before the next.
        auto sent = relay_->relay_send(bytes);
        return sent ? true : fail(classify(sent.error(), Stage::established));
    }

    // Delivers what has come while the pipe was paused. False when the pipe is gone.
    [[gnu::cold]] bool deliver_held() {
        while (!paused_) {
            const MutableBytes room = loop_.scratch();
            const std::size_t n = session_.take_held(room);
            if (n == 0) break;
            if (!deliver(room.first(n))) return false;
            session_.held_delivered();
        }
        if (connection_ != nullptr && !session_.full()) connection_->pause(false);
        return true;
    }

    // Writes what the session has, as far as the connection takes it.
    Error flush() {
        if (connection_ == nullptr) return {};
        unflushed_ = 0;
        Bytes pieces[Session::pieces_max];
        for (;;) {
            std::size_t n = 0, offered = 0;
            if constexpr (survives)
                n = session_.gather(pieces);
            else if (!session_.empty())
                n = session_.gather(pieces);
            if (n == 0) break;
            for (std::size_t i = 0; i < n; ++i) offered += pieces[i].size();
            auto wrote = connection_->write({pieces, n});
            if (!wrote && wrote.error() != Errc::would_block) {
                if (put_off(wrote.error())) break;
                if constexpr (!survives && !Session::has_end)
                    if (lose(wrote.error())) continue;
                return wrote.error();
            }
            if (wrote) session_.wrote(*wrote);
            if (!wrote || *wrote < offered) {
                connection_->want_writable();
                break;
            }
        }
        if constexpr (!survives)
            if (session_.finishing() && session_.empty() && !our_end_sent_) {
                our_end_sent_ = true;
                connection_->end();
            }
        return {};
    }
    // The system is out of buffers for a moment (ENOBUFS): that is no reason to give a connection up, and there is no telling when it is
    // over.
    [[gnu::cold]] bool put_off(Error error) {
        if (classify(error, Stage::established).kind != FailureKind::exhausted) return false;
        const TimePoint again = loop_.now() + Duration::milliseconds(10);
        if (again < tick_.when()) tick_.at(again);
        return true;
    }
    // A datagram that the system refuses is lost; false when the socket is to be replaced.
    [[gnu::cold]] bool lose(Error error) {
        const Failure why = classify(error, Stage::established);
        if (why.kind != FailureKind::invalid && why.kind != FailureKind::forbidden) return false;
        note(Event::Kind::lost, why);
        session_.wrote(0);
        return why.kind == FailureKind::invalid || !session_.may_replace_socket(loop_.now());
    }
    // What may follow from bytes that went out. False when the pipe is gone.
    bool after_flush() {
        if constexpr (!survives)
            if (our_end_sent_ && (peer_ended_ || !Session::has_end)) return fail({});
        return after_progress();  // a session's handshake may have acknowledged the last of it
    }
    // What may follow from bytes that were taken or acknowledged. False when the pipe is gone.
    bool after_progress() {
        if (session_.take_drained() && rare_ != nullptr && !rare_->drained()) return false;
        if (relay_ != nullptr) relay_->relay_resume();
        if constexpr (survives) {
            if (session_.peer_finished()) {
                if (relay_ != nullptr)
                    relay_->relay_finish();
                else if (!session_.finishing() && !begin_closing())
                    return false;
            }
            if (connection_ != nullptr && session_.ended() && state_ != PipeState::closed) {
                if (owner_ == nullptr) return fail({});
                if (relay_ != nullptr) std::exchange(relay_, nullptr)->relay_partner_gone(false);
                set_paused(false);
                // The other side hangs up when it has read GOODBYE; until then, and a little longer, this end can say it again.
                static_cast<void>(flush());
                close_by_ = loop_.now() + options_->close_timeout;
                arm_close();
                return set_state(PipeState::closed, {});
            }
        }
        return true;
    }

    // What `close` does. False when the pipe is gone.
    [[gnu::cold]] bool begin_closing() {
        if (state_ == PipeState::closing || state_ == PipeState::closed) return true;
        bool nothing_to_end = connection_ == nullptr && session_.unacknowledged() == 0;
        if constexpr (survives) nothing_to_end = nothing_to_end && !session_.established();
        if (nothing_to_end) return fail({});
        session_.finish();
        close_by_ = loop_.now() + options_->close_timeout;
        arm_close();
        kick_.schedule();
        if (relay_ != nullptr) relay_->relay_resume();
        return set_state(PipeState::closing, {});
    }
    void arm_close() {
        if (!tick_.armed() || close_by_ < tick_.when()) tick_.at(close_by_);
    }
    // A connection that is not read hears no answers: it speaks from time to time instead, so that the other side knows it is there.
    bool deaf() const { return connection_ != nullptr && connection_->paused(); }
    // Whether the kernel is asked what becomes of what was sent.
    bool looks() const {
        if constexpr (survives && requires { connection_->path_info(); })
            return owner_ == nullptr && session_.waiting();
        else
            return false;
    }
    TimePoint tick_deadline(TimePoint now) const {
        const TimePoint next = deaf() ? now + options_->transport.suspect_after : session_.deadline(now);
        return looks() && now + look_every < next ? now + look_every : next;
    }
    void arm_tick() {
        if constexpr (survives) {
            const TimePoint next = tick_deadline(loop_.now());
            if (next < tick_.when()) tick_.at(next);
        }
    }
    [[gnu::cold]] void tick_due() {
        const TimePoint now = loop_.now();
        if (state_ == PipeState::closed && now >= close_by_)
            return static_cast<void>(broken(Errc::timed_out));  // a peer that stays on the line
        if (state_ == PipeState::closing) {
            if (now >= close_by_) {
                say_goodbye();
                return static_cast<void>(fail(classify(Errc::timed_out, Stage::established)));
            }
            tick_.at(close_by_);
        }
        if (connection_ == nullptr) return;
        if constexpr (survives) {
            if (looks() && !look(now)) return;
            if (session_.acknowledgement_due()) session_.acknowledge_now();
            if (deaf()) session_.excuse(now);
            const auto liveness = deaf() ? Session::Liveness::fine : session_.on_time(now);
            if (liveness != Session::Liveness::fine) {
                bool answers = false;
                if constexpr (requires { connection_->path_info(); })
                    answers = connection_->path_info().acknowledges(now - session_.probed_at());
                if (!answers && liveness == Session::Liveness::dead) return static_cast<void>(broken(Errc::unresponsive));
                if (answers) session_.excuse(now);
                // A kernel that answers may be the peer's, whose program is stopped, or that of something on the way, which passes nothing
                // on. A connection beside this one tells: only the program itself can let it in.
                const bool doubtful = !answers || session_.overdue(now);
                if (doubtful && session_.barren()) narrow();
                if (owner_ == nullptr && !racing() && doubtful && !standby(Cause::silence)) return;
                if (connection_ == nullptr) return;
            }
        }
        if (const Error error = flush()) return static_cast<void>(broken(error));
        if (!after_flush()) return;
        arm_tick_anew(now);
    }
    // Asks the kernel what becomes of what was sent. False when the pipe is gone, or the connection.
    [[gnu::cold]] bool look(TimePoint now) {
        if constexpr (survives && requires { connection_->path_info(); }) {
            const auto verdict = dial_->watch.look(connection_->path_info(), now);
            if (verdict == PathWatch::Verdict::suspect && session_.stuck()) narrow();
            if (verdict == PathWatch::Verdict::fine || racing()) return true;
            Cause cause = Cause::retransmissions;
            if (verdict == PathWatch::Verdict::lossy) {
                const IpAddress peer = connection_->peer_endpoint().ip();
                const bool another = options_->other_interfaces && options_->from.family == Family::none &&
                                     (dial_->over != 0 || other_interface(events().state(), peer, 0) != 0);
                if (!another) return true;
                dial_->watch.restart(now + loss_again);
                cause = Cause::loss;
            }
            return standby(cause) && connection_ != nullptr;
        }
        return true;
    }
    void arm_tick_anew(TimePoint now) {
        if constexpr (survives) {
            TimePoint next = tick_deadline(now);
            if (state_ >= PipeState::closing && close_by_ < next) next = close_by_;
            if (next < tick_.when()) tick_.at(next);  // or earlier, where a write was put off
        }
    }

    [[gnu::cold]] void set_paused(bool paused) {
        if (paused == paused_) return;
        paused_ = paused;
        if constexpr (survives) {
            session_.hold(paused);
            if (!paused) kick_.schedule();
        } else if (connection_ != nullptr) {
            connection_->pause(paused);
        }
    }

    // ---- Linked with another pipe.

    Result<void> relay_send(Bytes bytes) override { return send(bytes); }
    std::size_t relay_space() override {
        const bool takes =
            state_ == PipeState::connecting || state_ == PipeState::connected || (survives && state_ == PipeState::interrupted);
        return takes && !session_.finishing() ? session_.send_space() : 0;
    }
    std::size_t relay_limit() override { return session_.send_limit(); }
    [[gnu::cold]] void relay_finish() override {
        if (state_ == PipeState::closing || state_ == PipeState::closed || session_.finishing()) return;
        session_.finish();
        kick_.schedule();
    }
    void relay_resume() override {
        if (relay_ == nullptr) return;
        const std::size_t half = (relay_->relay_limit() + 1) / 2;
        const std::uint32_t piece = half < relay_piece ? static_cast<std::uint32_t>(half) : relay_piece;
        if constexpr (survives)
            session_.set_piece(piece);
        else if (connection_ != nullptr)
            connection_->set_read_limit(piece);
        set_paused(relay_->relay_space() < piece);
    }
    [[gnu::cold]] void relay_partner_gone(bool failed) override {
        // Followed up when kicked: the partner may be in the middle of anything, and this side's handlers may destroy it.
        relay_ = nullptr;
        set_paused(false);
        (failed ? partner_failed_ : partner_closed_) = true;
        kick_.schedule();
    }

    // ---- For the listener.

    // Is without a connection from the start. False when the pipe is gone.
    [[gnu::cold]] bool arrive_without(TimePoint now) {
        interrupted_at_ = now;
        owner_->pipe_detached();
        return set_state(PipeState::interrupted, classify(Errc::end_of_stream, Stage::established));
    }
    // Takes over an accepted connection, of a transport without a session or with one that came along.
    bool accept(Connection* connection) { return use(connection, false, loop_.now()); }
    // Takes over an accepted connection that has joined. False when the pipe is gone, or the connection.
    [[gnu::cold]] bool accept(Connection* connection, const session::Agreement& agreement, Duration round_trip, bool resumed) {
        const TimePoint now = loop_.now();
        if (!session_.attach(agreement, {}, round_trip, now)) {  // impossible claims: as if it had not come
            delete connection;
            if (connection_ == nullptr) owner_->pipe_detached();
            return false;
        }
        return use(connection, resumed, now);
    }

    Loop& loop_;
    const Options* options_;
    detail::PipeOwner* owner_;
    Session session_;
    Dial* dial_ = nullptr;  // of an accepted pipe, and where memory is out: null
    Connection* connection_ = nullptr;
    Connection* retired_ = nullptr;  // the one before, until this one has brought something
    Attempt* attempts_ = nullptr;    // the oldest first
    detail::Relay* relay_ = nullptr;
    Rare* rare_ = nullptr;
    HandlerId last_handler_ = 0;
    std::uint32_t unflushed_ = 0;  // queued since the last flush, up to `flush_at_once`
    Loop::Timer tick_;             // the session's deadlines, and that of `close`
    Loop::Deferred kick_;
    NetworkObserver observer_;
    Handlers<Bytes> receive_handlers_;
    Handlers<PipeState, const Failure&> state_handlers_;
    TimePoint interrupted_at_;  // zero while there is a connection, and before the first
    TimePoint close_by_;
    detail::Tally tally_;
    Failure last_failure_;
    FailureKind reported_ = FailureKind::none;
    PipeState state_ = PipeState::idle;
    Cause cause_ = Cause::none;  // why another connection is raced beside the one in use
    bool start_due_ = false;
    bool adopted_ = false;
    bool parked_ = false;     // waiting for the network, with no timer
    bool moving_ = false;     // the connection was hit by a change of the network
    bool returning_ = false;  // its address is back
    bool paused_ = false;
    bool narrow_ = false;      // large packets do not get through
    bool peer_ended_ = false;  // of a transport without a session, as is the next
    bool our_end_sent_ = false;
    bool partner_failed_ = false;  // of the pipe that this one was linked with, as is the next
    bool partner_closed_ = false;
    bool reading_ = false;     // inside the handlers of bytes read
    bool delivering_ = false;  // the same, with a session
};

/// The pipe for conversations that go on whatever the network does.
using ResumablePipe = Pipe<SystemEvents, Resumable<Tcp>, Persistent>;

}  // namespace rejoin::inline v0_1
