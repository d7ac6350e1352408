// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/handlers.hpp>
#include <rejoin/core/random.hpp>
#include <rejoin/network/no_events.hpp>
#include <rejoin/network/system.hpp>
#include <rejoin/os/entropy.hpp>
#include <rejoin/os/resolver.hpp>
#include <rejoin/policies.hpp>
#include <rejoin/recovery/classify.hpp>
#include <rejoin/recovery/fail_fast.hpp>
#include <rejoin/recovery/persistent.hpp>
#include <rejoin/transport/resumable.hpp>
#include <rejoin/transport/tcp.hpp>

namespace rejoin::inline v0_1 {

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

/// The state and, where there is one, the failure that led to it, in one sentence.
inline Description describe(PipeState state, const Failure& why) {
    static constexpr const char* names[] = {"idle", "connecting", "connected", "interrupted", "closing", "closed"};
    Description text(names[static_cast<std::size_t>(state)]);
    if (why) text.append(": ").append(describe(why));
    return text;
}

/// When a handler hears of a change of the network: when it has held for `ChangeFeed::settle_time`, or as soon as it is noticed.
enum class Notice : std::uint8_t { settled, at_once };

/// What a pipe has done so far in its present conversation, or in the last one.
struct Statistics {
    std::uint64_t bytes_sent = 0;            ///< of the stream, queued by `send`
    std::uint64_t bytes_received = 0;        ///< of the stream, delivered to handlers
    std::uint64_t bytes_replayed = 0;        ///< sent again over a new connection
    std::uint64_t bytes_unacknowledged = 0;  ///< sent or queued, and not known to have reached the peer's program (plain TCP: the system)
    std::uint64_t connections = 0;           ///< opened and, where there is a session, joined
    std::uint64_t resumes = 0;               ///< of these, how many went on with the session
    Duration without_connection;             ///< in all, since the first connection
    Duration round_trip;                     ///< smoothed; zero while unknown, and always for a transport without a session
};

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

/// Who made an accepted pipe and destroys it.
class PipeOwner {
public:
    virtual void pipe_detached() = 0;
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
    static constexpr bool patient = requires(R & policy, TimePoint now) { policy.patience(now); };

public:
    struct Options {
        typename T::Options transport;
        typename R::Options recovery;
        /// The local address to connect from; of family `none`: the system's choice.
        IpAddress from;
        /// How long one attempt may take, for a recovery policy that does not start others beside it.
        Duration connect_timeout = Duration::seconds(10);
        /// How long the peer's program may take to let a connection in that its system has accepted; then another is tried.
        Duration handshake_timeout = Duration::seconds(5);
        /// How long `close` may take before it becomes an `abort`.
        Duration close_timeout = Duration::seconds(30);
        /// Gives up when there was no connection for this long.
        Duration give_up_after = Duration::unlimited();
    };

    /// An idle pipe with the default options.
    explicit Pipe(Loop& loop) : Pipe(loop, &default_options, nullptr) {}
    /// An idle pipe; the options are copied.
    Pipe(Loop& loop, const Options& options) : Pipe(loop, new (std::nothrow) Options(options), nullptr) {}
    Pipe(const Pipe&) = delete;
    ~Pipe() {
        if (relay_ != nullptr) std::exchange(relay_, nullptr)->relay_partner_gone(true);
        if constexpr (survives) say_goodbye();
        drop_everything();
        delete name_;
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
        return add(notice == Notice::settled ? network_handlers_ : early_network_handlers_, std::move(handler));
    }
    /// After `send` was refused with `would_block`: there is room again.
    HandlerId on_drained(Function<void()> handler) { return add(drained_handlers_, std::move(handler)); }
    /// Takes a handler away; false when there is none of that id.
    bool remove_handler(HandlerId id) {
        return id != 0 && (receive_handlers_.remove(id) || state_handlers_.remove(id) || network_handlers_.remove(id) ||
                           early_network_handlers_.remove(id) || drained_handlers_.remove(id));
    }

    // ---- Opening.

    /// Connects to `to`, from `idle` or `closed` (then with a new session). Nothing has happened yet when it returns; `on_state` tells.
    /// `invalid_argument` for an endpoint that is none or has port 0, and for options outside their bounds; `invalid_state`;
    /// `out_of_memory`.
    Result<void> connect(const Endpoint& to) {
        if (!to.valid() || to.port() == 0) return Errc::invalid_argument;
        if (auto fresh = start_over(); !fresh) return fresh;
        peer_ = to;
        delete std::exchange(name_, nullptr);
        if (to.name() != nullptr && (name_ = new (std::nothrow) Name(*this)) == nullptr) return Errc::out_of_memory;
        next_candidate_ = 0;
        state_ = PipeState::connecting;
        start_due_ = true;
        kick_.schedule();
        return {};
    }
    /// Goes on over a connected socket, made non-blocking and close-on-exec, as the side that connected: a session starts on it. The pipe
    /// owns it from here on. Later connections go to the socket's peer.
    Result<void> adopt(Socket socket) requires requires(Connection& c) { c.adopt(Socket()); }
    {
        if (!socket) return Errc::invalid_argument;
        const Endpoint to = socket.peer_endpoint();
        if (!to.valid()) return Errc::invalid_argument;
        if (auto fresh = start_over(); !fresh) return fresh;
        peer_ = to;
        delete std::exchange(name_, nullptr);
        auto* attempt = new_attempt();
        if (attempt == nullptr) return Errc::out_of_memory;
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
    Result<void> send(Bytes bytes) {
        if (state_ != PipeState::connected) {
            if (state_ == PipeState::closing || state_ == PipeState::closed || state_ == PipeState::idle) return Errc::invalid_state;
            if constexpr (!survives)
                if (state_ == PipeState::interrupted) return session_.refuse();
        }
        auto queued = session_.send(bytes);
        if (!queued) return queued;
        // Much at once goes out while it is warm in the cache; the rest waits for company.
        unflushed_ += bytes.size();
        if (unflushed_ >= flush_at_once && connection_ != nullptr) static_cast<void>(flush());  // an error shows again when kicked
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

    // ---- Looking.

    PipeState state() const { return state_; }
    Statistics statistics() const {
        Statistics s;
        s.bytes_sent = session_.sent();
        s.bytes_received = session_.received();
        if constexpr (survives) {
            if (session_.peer_finished()) --s.bytes_received;  // FIN counts as one there
            s.bytes_replayed = session_.replayed();
            s.round_trip = session_.round_trip();
        }
        s.bytes_unacknowledged = session_.unacknowledged();
        s.connections = connections_;
        s.resumes = resumes_;
        s.without_connection = without_connection_;
        if (interrupted_at_ != TimePoint()) s.without_connection = s.without_connection + (loop_.now() - interrupted_at_);
        return s;
    }
    /// The network as the event source knows it; valid until the loop's next turn.
    const NetworkState& network() const { return events_.state(); }
    /// Of the connection in use; not `valid` without one.
    Endpoint local_endpoint() const { return connection_ == nullptr ? Endpoint() : connection_->local_endpoint(); }
    /// Of the connection in use, or what was asked for.
    Endpoint peer_endpoint() const { return connection_ == nullptr ? peer_ : connection_->peer_endpoint(); }

private:
    template <class T2, class E2, class R2>
    friend class Listener;
    template <EventSource E2, Transport T2, RecoveryPolicy R2>
    friend class Pipe;

    static constexpr std::size_t flush_at_once = 64 * 1024;
    static constexpr std::uint32_t relay_piece = 64 * 1024;
    static constexpr unsigned attempts_max = 4;  // a quarter of a second apart they cover the second between two SYNs of one of them
    static inline constexpr Options default_options{};

    // The peer's name: being looked up, or what came of it.
    struct Name {
        explicit Name(Pipe& pipe) : query(Delegate<void(Resolver::Answer&&)>::template to<&Pipe::resolved>(&pipe)) {}
        Resolver::Query query;
        Array<IpAddress> addresses;
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

        struct Nothing {};
        Pipe& pipe;
        detail::Crowd& crowd;
        Connection* connection;
        Attempt* next = nullptr;
        TimePoint asked_at;
        Stage stage = Stage::connecting;
        [[no_unique_address]] std::conditional_t<survives, session::ClientHandshake, Nothing> handshake;
    };

    Pipe(Loop& loop, const Options* options, detail::PipeOwner* owner)
        : loop_(loop),
          events_(E::of(loop)),
          options_(options == nullptr ? &default_options : options),
          owner_(owner),
          recovery_(options_->recovery, seed()),
          retry_(loop, Delegate<void()>::template to<&Pipe::retry_due>(this)),
          tick_(loop, Delegate<void()>::template to<&Pipe::tick_due>(this)),
          kick_(loop, Delegate<void()>::template to<&Pipe::kicked>(this)),
          observer_(Delegate<void(const NetworkChange&)>::template to<&Pipe::network_changed>(this)) {
        session_.set_options(options_->transport);
        out_of_memory_ = options == nullptr;
        events_.observe(observer_);
    }

    static std::uint64_t seed() {
        std::byte bytes[8] = {};
        static_cast<void>(entropy(bytes));  // without entropy there is no jitter, and no handshake either
        return load_big<std::uint64_t>(bytes);
    }
    template <class... Args>
    HandlerId add(Handlers<Args...>& handlers, Function<void(Args...)> handler) {
        return handlers.add(++last_handler_, std::move(handler)) ? last_handler_ : 0;
    }
    [[gnu::cold]] bool set_state(PipeState state, const Failure& why) {
        state_ = state;
        reported_ = why.kind;
        return state_handlers_(state, why);
    }
    [[gnu::cold]] void drop_attempts() {
        while (attempts_ != nullptr) delete std::exchange(attempts_, attempts_->next);
        standby_for_silence_ = false;
    }
    [[gnu::cold]] void drop_attempt(Attempt& attempt) {
        Attempt** at = &attempts_;
        while (*at != &attempt) at = &(*at)->next;
        *at = attempt.next;
        delete &attempt;
    }
    void drop_retired() { delete std::exchange(retired_, nullptr); }
    void drop_connection() {
        drop_retired();
        delete std::exchange(connection_, nullptr);
    }
    void drop_everything() {
        drop_attempts();
        drop_connection();
        retry_.cancel();
        tick_.cancel();
        kick_.cancel();
        if (name_ != nullptr) name_->query.cancel();
        parked_ = start_due_ = adopted_ = moving_ = partner_failed_ = partner_closed_ = false;
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
        if (out_of_memory_) return Errc::out_of_memory;
        if (!options_->transport.valid()) return Errc::invalid_argument;
        if (owner_ != nullptr || (state_ != PipeState::idle && state_ != PipeState::closed)) return Errc::invalid_state;
        if (state_ == PipeState::closed) {
            session_.~Session();
            ::new (static_cast<void*>(&session_)) Session;
            session_.set_options(options_->transport);
            if constexpr (survives) session_.hold(paused_);
            recovery_.~R();
            ::new (static_cast<void*>(&recovery_)) R(options_->recovery, seed());
            connections_ = resumes_ = 0;
            without_connection_ = Duration();
            last_failure_ = {};
        }
        interrupted_at_ = TimePoint();
        peer_ended_ = our_end_sent_ = false;
        started_at_ = loop_.now();
        return {};
    }

    // The turn's handlers are through: start what was asked for, and write what was queued.
    void kicked() {
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
        if (std::exchange(moving_, false) && !attempt()) return;
        if (const Error error = flush()) return static_cast<void>(broken(error));
        arm_tick();
        after_flush();
    }

    bool resolve() {
        auto started = name_->query.start(Resolver::of(loop_), peer_.name());
        if (!started) return recover(classify(started.error(), Stage::resolving));
        arm_retry(patient ? TimePoint::never() : loop_.now() + options_->connect_timeout);
        return true;
    }
    void resolved(Resolver::Answer&& answer) {
        if (!answer) return static_cast<void>(recover(classify(answer.error(), Stage::resolving)));
        name_->addresses = std::move(*answer);
        next_candidate_ = 0;
        attempt();
    }

    Attempt* new_attempt() {
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
    // Starts one more. Returns false when the pipe is gone.
    bool attempt() {
        parked_ = false;
        if (name_ != nullptr && name_->addresses.empty()) return resolve();
        Attempt* attempt = new_attempt();
        if (attempt == nullptr) return recover(classify(Errc::out_of_memory, Stage::connecting));
        const IpAddress ip = name_ == nullptr ? peer_.ip() : name_->addresses[next_candidate_ % name_->addresses.size()];
        if (auto opened = attempt->connection->open({ip, peer_.port()}, options_->from); !opened) {
            drop_attempt(*attempt);
            return recover(classify(opened.error(), Stage::connecting, {options_->from, &events_.state()}));
        }
        arm_patience();
        return true;
    }
    [[gnu::cold]] void arm_patience() {
        const TimePoint now = loop_.now();
        TimePoint next = now + options_->connect_timeout;
        if constexpr (requires { recovery_.patience(now); })
            next = now + loop_.template service<detail::Crowd>().stretch(recovery_.patience(now));
        arm_retry(next);
    }
    // When to go on; or to give up, if that comes first.
    [[gnu::cold]] void arm_retry(TimePoint next) {
        const TimePoint end = (interrupted_at_ == TimePoint() ? started_at_ : interrupted_at_) + options_->give_up_after;
        retry_.at(connection_ == nullptr && end < next ? end : next);
    }
    void retry_due() {
        const TimePoint now = loop_.now();
        if (connection_ == nullptr && now - (interrupted_at_ == TimePoint() ? started_at_ : interrupted_at_) >= options_->give_up_after)
            return static_cast<void>(fail(last_failure_ ? last_failure_ : classify(Errc::timed_out, Stage::connecting)));
        if (!patient && name_ != nullptr && name_->query.busy()) {
            name_->query.cancel();
            return static_cast<void>(recover(classify(Errc::timed_out, Stage::resolving)));
        }
        if (!patient && attempts_ != nullptr) {
            const Stage stage = attempts_->stage;
            drop_attempts();
            return static_cast<void>(recover(classify(Errc::timed_out, stage)));
        }
        // An attempt whose connection is open waits for the other end's program: one more beside it would only wait behind it, and where
        // a crowd is the reason, make it worse.
        for (Attempt* open = attempts_; open != nullptr; open = open->next) {
            if (open->stage == Stage::connecting) continue;
            if (now - open->asked_at < options_->handshake_timeout) return arm_patience();
            const Stage stage = open->stage;
            drop_attempt(*open);
            return static_cast<void>(recover(classify(Errc::timed_out, stage)));
        }
        if (attempts_ != nullptr) ++next_candidate_;
        attempt();
    }

    [[gnu::cold]] void attempt_opened(Attempt& attempt) {
        if constexpr (survives) {
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
    bool attempt_write(Attempt& attempt) {
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
    bool attempt_bytes(Attempt& attempt, Bytes bytes) {
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
    void attempt_failed(Attempt& attempt, Error error) {
        const Stage stage = attempt.stage;
        drop_attempt(attempt);
        if constexpr (survives)
            if (error == Errc::session_unknown && session_.complete()) return static_cast<void>(fail({}));  // it has nothing more to tell
        recover(classify(error, stage, {options_->from, &events_.state()}));
    }

    // An attempt is now the connection in use. `rest` came behind the handshake. False when the connection does not exist any more.
    [[gnu::cold]] bool established(Attempt& attempt, Bytes rest) {
        const TimePoint now = loop_.now();
        bool resumed = false;
        if constexpr (survives) {
            resumed = attempt.handshake.resuming();
            if (!session_.established()) session_.set_identity(attempt.handshake.identity(), false);
            attempt.handshake.confirm(session_.received(), session_.acknowledged());
            if (!session_.attach(attempt.handshake.agreement(), attempt.handshake.pending(), now - attempt.asked_at, now)) {
                drop_attempt(attempt);
                recover(classify(Errc::malformed, Stage::resuming));
                return false;
            }
        }
        Connection* connection = std::exchange(attempt.connection, nullptr);
        drop_attempts();
        retry_.cancel();
        return use(connection, resumed, now) && take_rest(connection, rest);
    }
    // From here on this is the connection. False when the pipe or the connection is gone.
    [[gnu::cold]] bool use(Connection* connection, bool resumed, TimePoint now) {
        drop_retired();
        retired_ = std::exchange(connection_, connection);
        if (retired_ != nullptr) {
            // Where the other end sees the old connection end before it sees the proof that the new one brings, it looks like a break.
            retired_->set_observer(detail::Nobody::instance());
            retired_->pause(true);
            if (owner_ != nullptr) drop_retired();  // it has seen the proof
        }
        connection->set_observer(*this);
        ++connections_;
        resumes_ += resumed ? 1 : 0;
        if (interrupted_at_ != TimePoint()) without_connection_ = without_connection_ + (now - interrupted_at_);
        interrupted_at_ = TimePoint();
        parked_ = moving_ = false;
        last_failure_ = {};
        if constexpr (requires { recovery_.connected(now); }) recovery_.connected(now);
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

    // ---- Recovery. All of these return false when the pipe is gone.

    bool recover(const Failure& why) {
        last_failure_ = why;
        return perform(recovery_.decide(why, events_.state(), loop_.now()), why);
    }
    bool perform(Action action, const Failure& why) {
        const TimePoint now = loop_.now();
        if (action.kind == Action::Kind::try_next) {
            if (name_ != nullptr && ++next_candidate_ < name_->addresses.size()) return attempt();
            next_candidate_ = 0;
            action = action.delay == Duration::unlimited() ? Action::give_up() : Action::retry_after(action.delay);
            // A name whose every address failed may have moved.
            if (action.kind == Action::Kind::retry_after && name_ != nullptr) name_->addresses.reset();
        }
        if (action.kind == Action::Kind::give_up) {
            const bool peer_answered = why.stage == Stage::handshaking || why.stage == Stage::resuming;
            if (attempts_ != nullptr && !peer_answered && why.stage == Stage::connecting) return true;  // another may do
            if (connection_ == nullptr) return fail(why);
            drop_attempts();  // a standby that cannot be had: the old connection goes on
            retry_.cancel();
            return true;
        }
        if (action.kind == Action::Kind::wait_for_network) {
            parked_ = true;
            arm_retry(TimePoint::never());
        } else {
            arm_retry(now + action.delay);
        }
        if ((state_ == PipeState::connecting || state_ == PipeState::interrupted) && why.kind != reported_) return set_state(state_, why);
        return true;
    }
    // The connection in use is of no use any more.
    bool broken(Error error) {
        const Failure why = classify(error, Stage::established);
        drop_connection();
        tick_.cancel();
        interrupted_at_ = loop_.now();
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
        if (attempts_ != nullptr) {
            last_failure_ = why;
            return state_ == PipeState::closing || set_state(PipeState::interrupted, why);
        }
        next_candidate_ = 0;
        const Action action = recovery_.decide(why, events_.state(), loop_.now());
        last_failure_ = why;
        if (action.kind == Action::Kind::give_up) return fail(why);
        if (state_ != PipeState::closing) {
            if (!set_state(PipeState::interrupted, why)) return false;
            if (state_ != PipeState::interrupted && state_ != PipeState::closing) return true;
        }
        if (action.kind == Action::Kind::retry_after && action.delay == Duration()) return attempt();
        return perform(action, why);
    }
    // The end: in order when `why` is none.
    bool fail(const Failure& why) {
        drop_everything();
        if constexpr (survives) session_.detach();
        interrupted_at_ = TimePoint();
        if (relay_ != nullptr) std::exchange(relay_, nullptr)->relay_partner_gone(static_cast<bool>(why));
        if (owner_ != nullptr) owner_->pipe_closed();
        if (state_ == PipeState::closed) return true;
        return set_state(PipeState::closed, why);
    }

    [[gnu::cold]] void network_changed(const NetworkChange& change) {
        if (change.early && !early_network_handlers_(change)) return;
        if (change.settled && !network_handlers_(change)) return;
        if (state_ == PipeState::idle || state_ == PipeState::closed) return;
        const bool hit =
            connection_ != nullptr && change.major && change.affects(connection_->local_endpoint().ip(), connection_->peer_endpoint().ip());
        if constexpr (!survives)
            // Nothing can be started beside it: given up when it is certain that its address is gone.
            if (hit && change.settled && change.after->interface_of(connection_->local_endpoint().ip()) == 0)
                return static_cast<void>(broken(Errc::address_lost));
        if (!change.early) return;
        if constexpr (survives) {
            if (owner_ != nullptr) {
                // The other side does the connecting; a probe tells soon whether this connection still is one.
                if (hit) session_.probe(loop_.now()), kick_.schedule();
                return;
            }
            // A new connection at once, without waiting for TCP to notice; the old one stays until the new one has resumed. One happening
            // makes several changes: when all of them are known, one attempt takes the way that is left.
            if (hit) {
                moving_ = true;
                kick_.schedule();
                return;
            }
        }
        const bool content = connection_ != nullptr && attempts_ == nullptr && !parked_ && !retry_.armed();
        if (!change.may_help() || start_due_ || (name_ != nullptr && name_->query.busy()) || content) return;
        if constexpr (!survives)
            if (connection_ != nullptr) return;
        if (owner_ != nullptr || (!patient && attempts_ != nullptr)) return;  // an attempt has its time
        Duration d;
        if constexpr (requires { recovery_.network_regained(loop_.now()); }) d = recovery_.network_regained(loop_.now());
        parked_ = false;
        if (retry_.when() > loop_.now() + d) retry_.after(d);
    }

    // ---- The connection in use.

    void on_open() override {}
    bool on_bytes(Bytes bytes) override {
        Connection* const connection = connection_;
        if constexpr (survives) {
            drop_retired();
            if (standby_for_silence_) {  // the silence is over: nothing needs to be tried
                drop_attempts();
                retry_.cancel();
                parked_ = false;
            }
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
    bool on_writable() override {
        Connection* const connection = connection_;
        if (const Error error = flush()) {
            broken(error);
            return false;
        }
        return after_flush() && connection_ == connection;
    }
    void on_end() override {
        if constexpr (survives) {
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
        if (relay_ == nullptr) return receive_handlers_(bytes);
        // Read no faster than the other side takes: it has room for this piece, and is asked before the next.
        auto sent = relay_->relay_send(bytes);
        return sent ? true : fail(classify(sent.error(), Stage::established));
    }

    // Delivers what has come while the pipe was paused. False when the pipe is gone.
    bool deliver_held() {
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
        if constexpr (survives) {
            Bytes pieces[Session::pieces_max];
            while (const std::size_t n = session_.gather(pieces)) {
                std::size_t offered = 0;
                for (std::size_t i = 0; i < n; ++i) offered += pieces[i].size();
                auto wrote = connection_->write({pieces, n});
                if (!wrote && wrote.error() != Errc::would_block) return wrote.error();
                if (wrote) session_.wrote(*wrote);
                if (!wrote || *wrote < offered) {
                    connection_->want_writable();
                    break;
                }
            }
        } else {
            while (!session_.empty()) {
                const Bytes piece = session_.front();
                auto wrote = connection_->write({&piece, 1});
                if (!wrote && wrote.error() != Errc::would_block) return wrote.error();
                if (wrote) session_.wrote(*wrote);
                if (!wrote || *wrote < piece.size()) {
                    connection_->want_writable();
                    break;
                }
            }
            if (session_.finishing() && session_.empty() && !our_end_sent_) {
                our_end_sent_ = true;
                connection_->end();
            }
        }
        return {};
    }
    // What may follow from bytes that went out. False when the pipe is gone.
    bool after_flush() {
        if constexpr (!survives)
            if (our_end_sent_ && peer_ended_) return fail({});
        return after_progress();  // a session's handshake may have acknowledged the last of it
    }
    // What may follow from bytes that were taken or acknowledged. False when the pipe is gone.
    bool after_progress() {
        if (session_.take_drained() && !drained_handlers_()) return false;
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
    TimePoint tick_deadline(TimePoint now) const { return deaf() ? now + options_->transport.suspect_after : session_.deadline(now); }
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
        if constexpr (survives) {
            if (connection_ == nullptr) return;
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
                if (owner_ == nullptr && attempts_ == nullptr && !parked_ && (!answers || session_.overdue(now))) {
                    standby_for_silence_ = true;
                    if (!attempt()) return;
                }
            }
            if (const Error error = flush()) return static_cast<void>(broken(error));
            if (!after_progress()) return;
            arm_tick_anew(now);
        }
    }
    void arm_tick_anew(TimePoint now) {
        if constexpr (survives) {
            TimePoint next = tick_deadline(now);
            if (state_ >= PipeState::closing && close_by_ < next) next = close_by_;
            tick_.at(next);
        }
    }

    void set_paused(bool paused) {
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
    void relay_finish() override {
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

    // Takes over an accepted connection of a transport without a session.
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
    E& events_;
    const Options* options_;
    detail::PipeOwner* owner_;
    Session session_;
    R recovery_;
    Connection* connection_ = nullptr;
    Connection* retired_ = nullptr;  // the one before, until this one has brought something
    Attempt* attempts_ = nullptr;    // the oldest first
    detail::Relay* relay_ = nullptr;
    Endpoint peer_;
    Name* name_ = nullptr;  // where the peer has one
    std::uint32_t next_candidate_ = 0;
    HandlerId last_handler_ = 0;
    Loop::Timer retry_;  // the next attempt
    Loop::Timer tick_;   // the session's deadlines, and that of `close`
    Loop::Deferred kick_;
    NetworkObserver observer_;
    Handlers<Bytes> receive_handlers_;
    Handlers<PipeState, const Failure&> state_handlers_;
    Handlers<const NetworkChange&> network_handlers_, early_network_handlers_;
    Handlers<> drained_handlers_;
    TimePoint started_at_;
    TimePoint interrupted_at_;  // zero while there is a connection, and before the first
    TimePoint close_by_;
    Duration without_connection_;
    std::size_t unflushed_ = 0;  // queued since the last flush
    std::uint32_t connections_ = 0;
    std::uint32_t resumes_ = 0;
    Failure last_failure_;
    FailureKind reported_ = FailureKind::none;
    PipeState state_ = PipeState::idle;
    bool out_of_memory_ = false;  // the options could not be copied: nothing is done with others
    bool start_due_ = false;
    bool adopted_ = false;
    bool parked_ = false;  // waiting for the network, with no timer
    bool moving_ = false;  // the connection was hit by a change of the network
    bool paused_ = false;
    bool standby_for_silence_ = false;
    bool peer_ended_ = false;  // of a transport without a session, as is the next
    bool our_end_sent_ = false;
    bool partner_failed_ = false;  // of the pipe that this one was linked with, as is the next
    bool partner_closed_ = false;
    bool reading_ = false;  // inside the handlers of bytes read
};

/// The pipe for conversations that go on whatever the network does.
using ResumablePipe = Pipe<SystemEvents, Resumable<Tcp>, Persistent>;

}  // namespace rejoin::inline v0_1
