// SPDX-License-Identifier: BSL-1.0
// Made by amalgamate.cmake from include/: edit there.
#pragma once
#include <rejoin/opening.hpp>

// How one host comes to be reached by another over TCP, with as little opened as possible: the one that wants to be reached has a `Reach`,
// the other a `Prober`, and what they say to each other goes by whatever they have already, such as `Signal`.
namespace rejoin::inline v0_1 {

/// In the order in which they are tried: the smallest opening is none.
enum class ReachStep : std::uint8_t {
    as_it_is,           ///< nothing was needed
    simultaneous_open,  ///< both connect at the same moment (RFC 9293, 3.5): nothing was opened, and it holds for this connection alone
    mapping,            ///< the gateway was asked
    rule,               ///< this host's firewall was opened, with privilege
    failed,             ///< nothing helped
};

/// What both say to each other: 28 bytes. Pure.
struct ReachMessage {
    enum class Kind : std::uint8_t {
        ask = 1,  ///< try to reach me there
        ready,    ///< of `simultaneous_open`: I connect from there, from now on
        told,     ///< I have tried
    };
    static constexpr std::size_t size = 28;
    Kind kind = Kind::ask;
    ReachStep step = ReachStep::as_it_is;
    bool reached = false;
    std::uint32_t attempt = 0;  ///< whose answers are meant
    IpAddress ip;
    std::uint16_t port = 0;

    void encode(std::byte (&to)[size]) const {
        std::memset(to, 0, sizeof to);
        to[0] = std::byte{'R'};
        to[1] = static_cast<std::byte>(kind);
        to[2] = static_cast<std::byte>(step);
        to[3] = static_cast<std::byte>(reached ? 1 : 0);
        store_big(to + 4, attempt);
        store_big(to + 8, port);
        std::memcpy(to + 12, mapped(ip).bytes, 16);
    }
    /// `malformed` for what is none.
    static Result<ReachMessage> decode(Bytes bytes) {
        if (bytes.size() != size || bytes[0] != std::byte{'R'} || std::to_integer<unsigned>(bytes[3]) > 1 || bytes[10] != std::byte{0} ||
            bytes[11] != std::byte{0})
            return Errc::malformed;
        ReachMessage message;
        const auto kind = std::to_integer<std::uint8_t>(bytes[1]), step = std::to_integer<std::uint8_t>(bytes[2]);
        if (kind < 1 || kind > 3 || step >= static_cast<std::uint8_t>(ReachStep::failed)) return Errc::malformed;
        message.kind = static_cast<Kind>(kind);
        message.step = static_cast<ReachStep>(step);
        message.reached = bytes[3] == std::byte{1};
        message.attempt = load_big<std::uint32_t>(bytes.data() + 4);
        message.port = load_big<std::uint16_t>(bytes.data() + 8);
        IpAddress ip;
        ip.family = Family::v6;
        std::memcpy(ip.bytes, bytes.data() + 12, 16);
        message.ip = unmapped(ip);
        if (message.kind != Kind::told && (message.port == 0 || message.ip.is_unspecified())) return Errc::malformed;
        return message;
    }
};

namespace detail {

// Connects to one place from one port, again and again until that succeeds or it is enough.
class Connector {
public:
    Connector(Loop& loop, Delegate<void(Result<Socket>&&)> done)
        : loop_(loop),
          done_(done),
          watch_(loop, Delegate<void(Ready)>::to<&Connector::ready>(this)),
          again_(loop, Delegate<void()>::to<&Connector::due>(this)) {}
    ~Connector() { watch_.stop(); }

    // Takes a port, of that address; what is told to the other side before it begins.
    Result<std::uint16_t> bind(const IpAddress& ip) {
        stop();
        auto made = Socket::tcp(ip.family);
        if (!made) return made.error();
        made->reuse_address();
        if (auto bound = made->bind(ip, 0); !bound) return bound.error();
        socket_ = std::move(*made);
        from_ = socket_.local_endpoint();
        return from_.port();
    }
    void start(const Endpoint& to, TimePoint until, Duration pause) {
        to_ = to;
        until_ = until;
        pause_ = pause;
        attempt();
    }
    void stop() {
        watch_.stop();
        again_.cancel();
        socket_.close();
        from_ = {};
    }

private:
    void attempt() {
        if (!socket_) {
            auto made = Socket::tcp(to_.ip().family);
            if (!made) return end(made.error());
            if (from_.valid()) {
                made->reuse_address();
                if (auto bound = made->bind(from_.ip(), from_.port()); !bound) return end(bound.error());
            }
            socket_ = std::move(*made);
        }
        if (auto connected = socket_.connect(to_.ip(), to_.port()); !connected && connected.error() != Errc::would_block)
            return refused(connected.error());
        if (auto watched = watch_.start(socket_.fd(), Ready::writable); !watched) return end(watched.error());
        again_.at(until_);
    }
    void ready(Ready) {
        if (const Error error = socket_.take_error()) return refused(error);
        watch_.stop();
        again_.cancel();
        done_(std::move(socket_));
    }
    void refused(Error error) {
        watch_.stop();
        socket_.close();
        if (loop_.now() + pause_ >= until_ || pause_ == Duration()) return end(error);
        again_.after(pause_);
    }
    void due() {
        if (loop_.now() >= until_) return end(Errc::timed_out);
        attempt();
    }
    void end(Error error) {
        watch_.stop();
        again_.cancel();
        socket_.close();
        done_(error);
    }

    Loop& loop_;
    Delegate<void(Result<Socket>&&)> done_;
    Loop::Watch watch_;
    Loop::Timer again_;
    Socket socket_;
    Endpoint from_, to_;
    TimePoint until_;
    Duration pause_;
};

// So long one try takes: a packet there and back, and one that was lost.
inline constexpr Duration probe_max = Duration::seconds(2), meeting_max = Duration::seconds(4), meeting_pause = Duration::milliseconds(50);

}  // namespace detail

/// The other side: tries what it is asked to, and says how it went. Belongs to its loop's thread. A handler may destroy it.
class Prober {
public:
    explicit Prober(Loop& loop) : loop_(loop), connector_(loop, Delegate<void(Result<Socket>&&)>::to<&Prober::connected>(this)) {}
    Prober(const Prober&) = delete;

    /// What is to be said to the other side; holds until it returns.
    void on_send(Function<void(Bytes)> handler) { on_send_ = std::move(handler); }
    /// Both have met: the connection, to be adopted by a pipe. (Connections that only try are closed at once.)
    void on_connected(Function<void(Socket&&)> handler) { on_connected_ = std::move(handler); }
    /// This host's address, as the other side sees it; else that from which it goes there.
    void set_address(const IpAddress& own) { own_ = own; }

    /// What the other side has said. `malformed` for what is no message of this, which changes nothing.
    Result<void> hear(Bytes bytes) {
        const auto message = ReachMessage::decode(bytes);
        if (!message) return message.error();
        if (message->kind != ReachMessage::Kind::ask) return {};
        asked_ = *message;
        connector_.stop();
        const Endpoint to(asked_.ip, asked_.port);
        if (asked_.step != ReachStep::simultaneous_open) {
            connector_.start(to, loop_.now() + detail::probe_max, {});
            return {};
        }
        const IpAddress from = source_address(asked_.ip);
        const auto port = connector_.bind(from);
        if (!port) return say(ReachMessage::Kind::told, false), Result<void>();
        asked_.ip = own_.family != Family::none ? own_ : from;
        asked_.port = *port;
        connector_.start(to, loop_.now() + detail::meeting_max, detail::meeting_pause);
        say(ReachMessage::Kind::ready, false);
        return {};
    }

private:
    void say(ReachMessage::Kind kind, bool reached) {
        ReachMessage answer = asked_;
        answer.kind = kind;
        answer.reached = reached;
        std::byte bytes[ReachMessage::size];
        answer.encode(bytes);
        if (on_send_) on_send_(bytes);
    }
    void connected(Result<Socket>&& socket) {
        if (socket && asked_.step == ReachStep::simultaneous_open && on_connected_) {
            Function<void(Socket &&)>& handler = on_connected_;
            return handler(std::move(*socket));
        }
        say(ReachMessage::Kind::told, static_cast<bool>(socket));
    }

    Loop& loop_;
    detail::Connector connector_;
    Function<void(Bytes)> on_send_;
    Function<void(Socket&&)> on_connected_;
    ReachMessage asked_;
    IpAddress own_;
};

/// The side that wants to be reached at what it listens on: tries one step after another, and stops at the first that the other side has
/// proven. What was opened on the way and did not help is closed again; what did stays open as long as this lives. Belongs to its loop's
/// thread, and is neither copied nor moved. `on_done` may destroy it.
template <EventSource E = SystemEvents>
class Reach {
public:
    struct Options {
        firewall::Rule rule;  ///< who opens, and for how long: `app` has to be there
        bool mapping = true;  ///< asks the gateway, where nothing less helps
        bool host = false;    ///< opens this host's firewall, where nothing else helps; takes privilege
        IpAddress
            address;  ///< this host's, as the other side sees it; of family none: that of the listener, or that from which it goes there
        firewall::Firewall::Options firewall;
    };
    struct Outcome {
        ReachStep step = ReachStep::failed;
        Endpoint at;                               ///< where it was reached
        Socket socket;                             ///< of `simultaneous_open`: the connection
        const firewall::Report* report = nullptr;  ///< what is in the way on this host, with the commands, where nothing helped
    };

    Reach(Loop& loop, const Options& options)
        : loop_(loop),
          options_(options),
          connector_(loop, Delegate<void(Result<Socket>&&)>::template to<&Reach::connected>(this)),
          patience_(loop, Delegate<void()>::template to<&Reach::next>(this)),
          look_(loop, Delegate<void()>::template to<&Reach::look>(this)) {}
    Reach(const Reach&) = delete;

    void on_send(Function<void(Bytes)> handler) { on_send_ = std::move(handler); }
    void on_done(Function<void(Outcome&&)> handler) { on_done_ = std::move(handler); }

    /// Begins: `listening` is what is listened on, and `peer` the other side's address, as far as it is known (for which address of this
    /// host is told). `invalid_argument`; `invalid_state` once begun.
    Result<void> start(const Endpoint& listening, const IpAddress& peer) {
        if (begun_) return Errc::invalid_state;
        firewall::Rule rule = options_.rule;
        rule.port = listening.port();
        if (!listening.valid() || listening.name() != nullptr || !rule.valid()) return Errc::invalid_argument;
        std::byte random[4];
        if (auto got = entropy(random); !got) return got;
        attempt_ = load_big<std::uint32_t>(random);
        begun_ = true;
        listening_ = listening;
        peer_ = peer;
        address_ = options_.address;
        if (address_.family == Family::none) address_ = listening.ip().is_unspecified() ? source_address(peer) : unmapped(listening.ip());
        step_ = ReachStep::as_it_is;
        ask({address_, listening_.port()});
        return {};
    }
    /// What the other side has said. `malformed` for what is no message of this.
    Result<void> hear(Bytes bytes) {
        const auto message = ReachMessage::decode(bytes);
        if (!message) return message.error();
        if (message->attempt != attempt_ || message->step != step_ || message->kind == ReachMessage::Kind::ask) return {};
        if (message->kind == ReachMessage::Kind::ready) {
            if (step_ == ReachStep::simultaneous_open)
                connector_.start({message->ip, message->port}, loop_.now() + detail::meeting_max, detail::meeting_pause);
            return {};
        }
        message->reached ? done(step_) : next();
        return {};
    }

private:
    void ask(const Endpoint& at) {
        at_ = at;
        patience_.after(step_ == ReachStep::simultaneous_open ? detail::meeting_max * 2 : detail::probe_max * 2);
        ReachMessage message;
        message.kind = ReachMessage::Kind::ask;
        message.step = step_;
        message.attempt = attempt_;
        message.ip = at.ip();
        message.port = at.port();
        std::byte bytes[ReachMessage::size];
        message.encode(bytes);
        if (on_send_) on_send_(bytes);
    }
    void next() {
        patience_.cancel();
        connector_.stop();
        switch (step_) {
            case ReachStep::as_it_is: {
                step_ = ReachStep::simultaneous_open;
                const auto port = connector_.bind(listening_.ip().is_unspecified() ? source_address(peer_) : unmapped(listening_.ip()));
                return port ? ask({address_, *port}) : next();
            }
            case ReachStep::simultaneous_open:
                step_ = ReachStep::mapping;
                if (!options_.mapping) return next();
                return open(false);
            case ReachStep::mapping:
                step_ = ReachStep::rule;
                return open(options_.host);  // which says what is in the way, if nothing else
            default:
                return done(ReachStep::failed);
        }
    }
    struct Held {
        explicit Held(Opening<E>* o) : opening(o) {}
        Held(const Held&) = delete;
        ~Held() { reset(); }
        void reset() { delete std::exchange(opening, nullptr); }
        explicit operator bool() const { return opening != nullptr; }
        Opening<E>* operator->() const { return opening; }
        Opening<E>* opening;
    };
    void open(bool host) {
        typename Opening<E>::Options options;
        options.rule = options_.rule;
        options.host = host;
        options.gateway = options_.mapping;
        options.firewall = options_.firewall;
        opening_.reset();
        asked_ = false;
        opening_.opening = new (std::nothrow) Opening<E>(loop_, options);
        if (!opening_) return done(ReachStep::failed);
        opening_->on_change([this] { look_.schedule(); });  // not inside: it may be replaced
        opening_->opened(listening_);
        patience_.after(Duration::seconds(6));  // all that a gateway is given
        look_.schedule();
    }
    // Asks once there is something to be tried: where the gateway has mapped it; or where it is, when there is no gateway that maps it.
    void look() {
        if (!opening_ || asked_ || (step_ != ReachStep::mapping && step_ != ReachStep::rule)) return;
        const Family family = address_.family;
        const Endpoint external = opening_->external(family);
        if (!external.valid() && opening_->asks(family)) return;
        asked_ = true;
        const bool may_help = step_ == ReachStep::mapping ? external.valid() : options_.host && opening_->report().let_in();
        if (!may_help) return next();
        ask(external.valid() ? external : Endpoint(address_, listening_.port()));
    }
    void connected(Result<Socket>&& socket) {
        if (!socket) return next();
        at_ = socket->local_endpoint();
        socket_ = std::move(*socket);
        done(step_);
    }
    void done(ReachStep step) {
        patience_.cancel();
        connector_.stop();
        step_ = step;
        Outcome outcome;
        outcome.step = step;
        if (step != ReachStep::failed) outcome.at = at_;
        outcome.socket = std::move(socket_);
        if (opening_) outcome.report = &opening_->report();
        Function<void(Outcome &&)> handler = std::move(on_done_);
        if (handler) handler(std::move(outcome));
    }

    Loop& loop_;
    const Options options_;
    detail::Connector connector_;
    Loop::Timer patience_;
    Loop::Deferred look_;
    Function<void(Bytes)> on_send_;
    Function<void(Outcome&&)> on_done_;
    Held opening_{nullptr};
    Endpoint listening_, at_;
    IpAddress address_, peer_;
    Socket socket_;
    std::uint32_t attempt_ = 0;
    ReachStep step_ = ReachStep::as_it_is;
    bool begun_ = false;
    bool asked_ = false;  // the other side, in this step
};

}  // namespace rejoin::inline v0_1
