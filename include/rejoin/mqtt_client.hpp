// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/mqtt/session.hpp>
#include <rejoin/pipe.hpp>

namespace rejoin::inline v0_1::mqtt {

/// The ports that MQTT has, over TCP and over TLS (IANA).
inline constexpr std::uint16_t default_port = 1883, default_tls_port = 8883;

enum class ClientState : std::uint8_t {
    idle,
    connecting,   ///< to a server, or waiting until one can be reached; never let in so far
    connected,    ///< the server has let it in
    interrupted,  ///< it had, and the connection is gone: it comes back by itself
    closed,       ///< for good: in order, or for the reason that was told
};

/// Why a client is where it is: what became of its connection, or what the server said.
struct Trouble {
    Failure failure;
    Reason reason = Reason::success;        ///< of CONNACK or DISCONNECT
    Violation violation = Violation::none;  ///< what the server did wrong
    explicit operator bool() const { return static_cast<bool>(failure) || failed(reason) || violation != Violation::none; }
};

/// The first endpoint in a Server Reference: a list, with spaces between, of hosts with or without a port (5.0, 4.11). Not `valid` where
/// there is none.
inline Endpoint server_of(TextView reference, int usual_port = default_port) {
    while (reference.size() > 0) {
        std::size_t n = 0;
        while (n < reference.size() && reference[n] != ' ') ++n;
        if (Endpoint to = Endpoint::parse({reference.data(), n}, usual_port); to.valid() && to.port() != 0) return to;
        if (n < reference.size()) ++n;
        reference = {reference.data() + n, reference.size() - n};
    }
    return {};
}

namespace detail {

// The bytes of MQTT over a transport that carries a stream.
template <class T>
struct Over {
    static_assert(!T::Session::survives_connections && T::Session::has_end,
                  "mqtt::Client goes over a stream without a session, such as Tcp");
    struct Session : T::Session {
        static constexpr bool end_is_a_break = true;  // a server that ends the connection says nothing of the session
    };
    using Connection = typename T::Connection;
    using Options = typename T::Options;
};

}  // namespace detail

/// An MQTT client, which comes back by itself: whatever was accepted for publication is delivered, or its failure told, over one connection
/// after another, and what was subscribed to is subscribed to again where the server has forgotten. `E`, `T` and `R` are the policies of
/// the pipe that it goes over.
///
/// Belongs to its loop's thread, and is neither copied nor moved. A handler may destroy the client and call anything. Destroying it gives
/// up at once, and the server publishes its will; `close` ends in order.
template <EventSource E = SystemEvents, Transport T = Tcp, RecoveryPolicy R = Persistent>
class Client {
    using Stream = Pipe<E, detail::Over<T>, R>;

public:
    struct Options {
        typename Stream::Options pipe;
        Version version = Version::v5;
        Limits limits;
        /// How long `close` waits until everything has been delivered.
        Duration close_timeout = Duration::seconds(10);
    };

    explicit Client(Loop& loop) : Client(loop, Options()) {}
    Client(Loop& loop, const Options& options)
        : loop_(loop),
          options_(options),
          session_(options.version, options.limits),
          pipe_(loop, options.pipe),
          deadline_(loop, Delegate<void()>::template to<&Client::late>(this)),
          kick_(loop, Delegate<void()>::template to<&Client::kicked>(this)) {
        pipe_.on_state([this](PipeState state, const Failure& why) { pipe_changed(state, why); });
        pipe_.on_receive([this](Bytes bytes) { received(bytes); });
        pipe_.on_drained([this] { kick_.schedule(); });
    }
    Client(const Client&) = delete;

    // ---- Handlers. Each `on_…` returns an id for `remove_handler`, or 0 when the handler is empty or memory is out.

    /// A message has come: its topic, payload and properties hold until the handlers have returned. With a QoS it is acknowledged then.
    HandlerId on_message(Function<void(const Packet&)> handler) { return add(message_, std::move(handler)); }
    /// What became of a message that `publish` accepted: no error and no failed reason, and it has arrived: with QoS 0 it was given to the
    /// connection, else the server has it. `timed_out`: it expired; `too_large`, `unsupported`: the server does not take it; `cancelled`:
    /// the client was closed before.
    HandlerId on_delivery(Function<void(Token, Error, Reason)> handler) { return add(delivery_, std::move(handler)); }
    /// The server has granted a subscription, or refused it, which then is no more; or has ended one.
    HandlerId on_subscription(Function<void(Token, Reason)> handler) { return add(subscription_, std::move(handler)); }
    HandlerId on_state(Function<void(ClientState, const Trouble&)> handler) { return add(state_changed_, std::move(handler)); }
    /// After `publish` was refused with `would_block`: there is room again.
    HandlerId on_drained(Function<void()> handler) { return add(drained_, std::move(handler)); }
    /// Takes a handler away; false when there is none of that id.
    bool remove_handler(HandlerId id) {
        return id != 0 && (message_.remove(id) || delivery_.remove(id) || subscription_.remove(id) || state_changed_.remove(id) ||
                           drained_.remove(id));
    }

    /// Goes to the server, from `idle`, as that client; copied. Where the server sends its clients elsewhere (5.0, MQTT 4.13), it goes
    /// there: for good, or until it cannot stay there any more. Errors of `Session::configure` and `Pipe::connect`.
    Result<void> connect(const Endpoint& to, const Connect& who) {
        if (state_ != ClientState::idle) return Errc::invalid_state;
        if (auto configured = session_.configure(who); !configured) return configured;
        if (auto connecting = pipe_.connect(to); !connecting) return connecting;
        home_ = to;
        state_ = ClientState::connecting;
        return {};
    }
    /// As `Session::publish`, connected or not; `invalid_state` once closing.
    Result<Token> publish(const Message& message) {
        if (closing_ || state_ == ClientState::closed) return Errc::invalid_state;
        auto token = session_.publish(message, loop_.now());
        if (token) wake();
        return token;
    }
    /// The same for text, with a QoS.
    Result<Token> publish(TextView topic, TextView payload, Qos qos = Qos::at_most_once) {
        Message message;
        message.topic = topic;
        message.payload = payload.bytes();
        message.qos = qos;
        return publish(message);
    }
    /// As `Session::subscribe` and `unsubscribe`.
    Result<Token> subscribe(const Subscription& subscription) {
        auto token = session_.subscribe(subscription);
        if (token) wake();
        return token;
    }
    Result<Token> subscribe(TextView filter, Qos qos = Qos::at_most_once) {
        Subscription subscription;
        subscription.filter = filter;
        subscription.qos = qos;
        return subscribe(subscription);
    }
    Result<Token> unsubscribe(TextView filter) {
        auto token = session_.unsubscribe(filter);
        if (token) wake();
        return token;
    }
    /// Says goodbye to the server once everything that was accepted is delivered; then `closed`. After `Options::close_timeout` at the
    /// latest.
    void close() {
        if (closing_ || state_ == ClientState::closed || state_ == ClientState::idle) return;
        closing_ = true;
        close_by_ = loop_.now() + options_.close_timeout;
        wake();
        arm();
    }

    ClientState state() const { return state_; }
    /// What the connection is doing, and why.
    Explanation explain() const { return pipe_.explain(); }
    Statistics statistics() const { return pipe_.statistics(); }
    /// Bytes of one packet that the server takes at most, as it said when it let this client in last.
    std::size_t packet_limit() const { return session_.packet_limit(); }
    /// Bytes of messages that were accepted and not delivered yet, 64 more counted for each.
    std::size_t queued() const { return session_.queued(); }

private:
    template <class... Args>
    HandlerId add(Handlers<Args...>& handlers, Function<void(Args...)> handler) {
        return handlers.add(++last_handler_, std::move(handler)) ? last_handler_ : 0;
    }
    // This, and whatever else returns a bool here, says with false that a handler has destroyed the client, or ended the connection.
    bool set_state(ClientState state, const Trouble& why) {
        state_ = state;
        return state_changed_(state, why);
    }
    void wake() { kick_.schedule(); }
    void arm() {
        TimePoint next = session_.deadline();
        if (closing_ && close_by_ < next) next = close_by_;
        if (state_ != ClientState::closed) deadline_.at(next);
    }

    void pipe_changed(PipeState state, const Failure& why) {
        switch (state) {
            case PipeState::connected:
                if (const auto opened = session_.opened(loop_.now()); !opened)
                    return give_up({classify(opened.error(), Stage::handshaking)});
                wake();
                return arm();
            case PipeState::interrupted:
            case PipeState::connecting: {
                if (!why) return;
                session_.lost();
                trouble_.failure = why;
                return std::exchange(away_, false) ? go_to(home_) : tell_interrupted();
            }
            case PipeState::closed: {
                session_.lost();
                deadline_.cancel();
                if (next_.valid() && !closing_ && pipe_.connect(std::exchange(next_, Endpoint()))) return tell_interrupted();
                Trouble trouble = std::exchange(trouble_, Trouble());
                if (!closing_) trouble.failure = why;
                state_ = ClientState::closed;  // nothing is accepted any more
                session_.cancel();
                if (tell_all(loop_.now())) state_changed_(ClientState::closed, trouble);
                return;
            }
            default:
                return;
        }
    }
    void tell_interrupted() {
        const bool known = state_ == ClientState::connected || state_ == ClientState::interrupted;
        if (set_state(known ? ClientState::interrupted : ClientState::connecting, std::exchange(trouble_, Trouble()))) arm();
    }
    void give_up(const Trouble& why) {
        trouble_ = why;
        pipe_.abort();
    }
    // Another connection is tried, as the recovery policy has it.
    void drop(Error error) {
        trouble_.violation = session_.violation();
        flush();  // 5.0 tells the server what it has done
        // A server that breaks the protocol may be another one next time: it is as if it had gone away.
        static_cast<void>(pipe_.interrupt(error == Errc::unresponsive ? Errc::unresponsive : Errc::end_of_stream));
    }

    void received(Bytes bytes) {
        const TimePoint now = loop_.now();
        for (;;) {
            Event event;
            const auto there = session_.next(bytes, now, event);
            if (!there) return drop(there.error());
            if (!*there) break;
            if (!tell(event)) return;
            if (pipe_.state() != PipeState::connected) return;
        }
        if (!session_.takes_more()) pipe_.pause();
        wake();
        arm();
    }
    bool tell(const Event& event) {
        switch (event.kind) {
            case Event::Kind::connected:
                return set_state(ClientState::connected, {});
            case Event::Kind::refused:
            case Event::Kind::disconnected:
                return refused(event), false;
            case Event::Kind::message:
                return message_(event.packet);
            case Event::Kind::delivered:
            case Event::Kind::failed:
                return delivery_(event.token, event.error, event.reason);
            case Event::Kind::subscribed:
            case Event::Kind::unsubscribed:
                return subscription_(event.token, event.reason);
        }
        return true;
    }
    // The pipe connects there once it is closed.
    void go_to(const Endpoint& to) {
        next_ = to;
        pipe_.abort();
    }
    // Where another server was named. Those that go on sending this client to each other count as busy.
    bool redirected(const Event& event, TimePoint now) {
        const bool moved = event.reason == Reason::server_moved;
        if (!moved && event.reason != Reason::use_another_server) return false;
        if (now - redirected_at_ > redirections_last) redirections_ = 0;
        const Endpoint to = server_of(event.packet.properties.text(Property::server_reference));
        if (!to.valid() || redirections_ == redirections_max) return false;
        ++redirections_;
        redirected_at_ = now;
        away_ = !moved;
        if (moved) home_ = to;
        go_to(to);
        return true;
    }
    // What will be the same next time ends it; the rest is a matter of patience.
    void refused(const Event& event) {
        Trouble trouble;
        trouble.reason = event.reason;
        trouble_ = trouble;
        if (redirected(event, loop_.now())) return;
        switch (event.reason) {
            case Reason::unsupported_protocol_version:
            case Reason::client_identifier_not_valid:
            case Reason::bad_user_name_or_password:
            case Reason::not_authorized:
            case Reason::banned:
            case Reason::bad_authentication_method:
            case Reason::session_taken_over:  // by another client of that name: to come back would take it from that one
                return give_up(trouble);
            default:
                static_cast<void>(pipe_.interrupt(Errc::overloaded));
        }
    }
    // What has happened without the server.
    bool tell_all(TimePoint now) {
        Bytes nothing;
        for (Event event;;) {
            const auto there = session_.next(nothing, now, event);
            if (!there || !*there) return true;
            if (!tell(event)) return false;
        }
    }
    void kicked() {
        const TimePoint now = loop_.now();
        flush();
        if (!tell_all(now)) return;
        if (session_.takes_more() && pipe_.state() == PipeState::connected) pipe_.resume();
        if (session_.drained() && !drained_()) return;
        if (closing_ && pipe_.state() == PipeState::connected && session_.state() == Session::State::connected && session_.idle()) {
            static_cast<void>(session_.leave());
            flush();
            pipe_.close();
        }
        arm();
    }
    // One turn's messages go out in one system call: the pipe gathers them.
    void flush() {
        const TimePoint now = loop_.now();
        while (pipe_.state() == PipeState::connected) {
            const Bytes out = session_.pending(now), piece = out.first(out.size() < piece_size ? out.size() : piece_size);
            if (piece.empty() || !pipe_.send(piece)) return;
            session_.wrote(piece.size(), now);
        }
    }
    void late() {
        const TimePoint now = loop_.now();
        if (closing_ && now >= close_by_) return pipe_.abort();
        if (const Error error = session_.expire(now)) return drop(error);
        wake();
        arm();
    }

    static constexpr std::size_t piece_size = 64 * 1024;
    static constexpr int redirections_max = 4;
    static constexpr Duration redirections_last = Duration::seconds(60);

    Loop& loop_;
    const Options options_;
    Session session_;
    Stream pipe_;
    Loop::Timer deadline_;
    Loop::Deferred kick_;
    Handlers<const Packet&> message_;
    Handlers<Token, Error, Reason> delivery_;
    Handlers<Token, Reason> subscription_;
    Handlers<ClientState, const Trouble&> state_changed_;
    Handlers<> drained_;
    HandlerId last_handler_ = 0;
    Endpoint home_;  // to where it returns from a server that it was sent to for a while
    Endpoint next_;  // to where it goes from here
    TimePoint redirected_at_;
    int redirections_ = 0;
    bool away_ = false;
    Trouble trouble_;  // what the server said, to be told with what the pipe says
    TimePoint close_by_;
    ClientState state_ = ClientState::idle;
    bool closing_ = false;
};

}  // namespace rejoin::inline v0_1::mqtt
