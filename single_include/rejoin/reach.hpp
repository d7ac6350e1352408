// SPDX-License-Identifier: BSL-1.0
// Made by amalgamate.cmake from include/: edit there.
#pragma once
#include <rejoin/opening.hpp>

namespace rejoin::inline v0_1 {

/// In the order in which they are tried: the smallest opening is none.
enum class ReachStep : std::uint8_t {
    as_it_is,           ///< nothing was needed
    simultaneous_open,  ///< both begin at the same moment (RFC 9293, 3.5; UDP: RFC 5128, 3.3): nothing was opened, and it holds for this
                        ///< conversation alone
    mapping,            ///< the gateway was asked
    rule,               ///< this host's firewall was opened, with privilege
    failed,             ///< nothing helped
};

/// What both say to each other, and over UDP what is tried with: 28 bytes. Pure.
struct ReachMessage {
    enum class Kind : std::uint8_t {
        ask = 1,  ///< try to reach me there
        ready,    ///< of `simultaneous_open`: I connect from there, from now on
        told,     ///< I have tried
        probe,    ///< UDP: does this arrive?
        answer,   ///< UDP: it does
    };
    static constexpr std::size_t size = 28;
    Kind kind = Kind::ask;
    ReachStep step = ReachStep::as_it_is;
    firewall::Protocol protocol = firewall::Protocol::tcp;
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
        to[10] = static_cast<std::byte>(protocol);
        std::memcpy(to + 12, mapped(ip).bytes, 16);
    }
    /// `malformed` for what is none.
    static Result<ReachMessage> decode(Bytes bytes) {
        if (bytes.size() != size || bytes[0] != std::byte{'R'} || std::to_integer<unsigned>(bytes[3]) > 1 || bytes[11] != std::byte{0})
            return Errc::malformed;
        ReachMessage message;
        const auto kind = std::to_integer<std::uint8_t>(bytes[1]), step = std::to_integer<std::uint8_t>(bytes[2]);
        if (kind < 1 || kind > 5 || step >= static_cast<std::uint8_t>(ReachStep::failed)) return Errc::malformed;
        message.kind = static_cast<Kind>(kind);
        message.protocol = static_cast<firewall::Protocol>(bytes[10]);
        if (message.protocol != firewall::Protocol::tcp && message.protocol != firewall::Protocol::udp) return Errc::malformed;
        message.step = static_cast<ReachStep>(step);
        message.reached = bytes[3] == std::byte{1};
        message.attempt = load_big<std::uint32_t>(bytes.data() + 4);
        message.port = load_big<std::uint16_t>(bytes.data() + 8);
        IpAddress ip;
        ip.family = Family::v6;
        std::memcpy(ip.bytes, bytes.data() + 12, 16);
        message.ip = unmapped(ip);
        const bool says_where = message.kind == Kind::ask || message.kind == Kind::ready;
        if (says_where && (message.port == 0 || message.ip.is_unspecified())) return Errc::malformed;
        return message;
    }
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

namespace detail {

// So long one try takes: a packet there and back, and one that was lost.
inline constexpr Duration probe_max = Duration::seconds(2), meeting_max = Duration::seconds(4), meeting_pause = Duration::milliseconds(50);

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
    // `meeting`: whoever is there may not be ready yet.
    void start(const Endpoint& to, TimePoint until, bool meeting) {
        to_ = to;
        until_ = until;
        meeting_ = meeting;
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
        if (!meeting_ || loop_.now() + meeting_pause >= until_) return end(error);
        again_.after(meeting_pause);
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
    bool meeting_ = false;
};

// Sends a datagram to one place from one port, again and again, until it is answered or it is enough.
class DatagramProbe {
public:
    DatagramProbe(Loop& loop, Delegate<void(Result<Socket>&&)> done)
        : loop_(loop),
          done_(done),
          watch_(loop, Delegate<void(Ready)>::to<&DatagramProbe::ready>(this)),
          again_(loop, Delegate<void()>::to<&DatagramProbe::due>(this)) {}
    ~DatagramProbe() { watch_.stop(); }

    // Takes a port, of that address.
    Result<std::uint16_t> bind(const IpAddress& ip) {
        stop();
        auto made = Socket::udp(ip.family);
        if (!made) return made.error();
        made->reuse_address();  // a port now, and not when it sends
        if (auto bound = made->bind(ip, 0); !bound) return bound.error();
        socket_ = std::move(*made);
        return socket_.local_endpoint().port();
    }
    // `meeting`: whoever is there may not listen yet, and may be seen elsewhere than where it says.
    void start(const ReachMessage& probe, const Endpoint& to, TimePoint until, bool meeting) {
        probe_ = probe;
        probe_.kind = ReachMessage::Kind::probe;
        to_ = to;
        until_ = until;
        if (!meeting)  // then a closed port is told
            if (auto connected = socket_.connect(to.ip(), to.port()); !connected) return end(connected.error());
        meeting_ = meeting;
        if (auto watched = watch_.start(socket_.fd(), Ready::readable); !watched) return end(watched.error());
        due();
    }
    void stop() {
        watch_.stop();
        again_.cancel();
        socket_.close();
    }

private:
    void due() {
        if (loop_.now() >= until_) return end(Errc::timed_out);
        std::byte bytes[ReachMessage::size];
        probe_.encode(bytes);
        // What the system refuses now it may take next time.
        static_cast<void>(meeting_ ? socket_.send_to(bytes, to_.ip(), to_.port()).error() : socket_.send(Bytes(bytes)).error());
        again_.after(meeting_pause);
    }
    void ready(Ready) {
        for (int i = 0; i < 16; ++i) {
            std::byte room[ReachMessage::size + 1];
            Endpoint from;
            const auto size = socket_.receive_from(room, from);
            if (!size && size.error() == Errc::would_block) return;
            if (!size && size.error() != Errc::too_large && !meeting_) return end(size.error());
            if (!size) continue;
            const auto message = ReachMessage::decode(Bytes(room, *size));
            if (!message || message->attempt != probe_.attempt || message->step != probe_.step) continue;
            if (message->kind == ReachMessage::Kind::probe) to_ = from;
            if (message->kind != ReachMessage::Kind::answer) continue;
            watch_.stop();
            again_.cancel();
            if (auto connected = socket_.connect(from.ip(), from.port()); !connected) return end(connected.error());
            return done_(std::move(socket_));
        }
    }
    void end(Error error) {
        stop();
        done_(error);
    }

    Loop& loop_;
    Delegate<void(Result<Socket>&&)> done_;
    Loop::Watch watch_;
    Loop::Timer again_;
    Socket socket_;
    ReachMessage probe_;
    Endpoint to_;
    TimePoint until_;
    bool meeting_ = false;
};

}  // namespace detail

}  // namespace rejoin::inline v0_1

// How one host comes to be reached by another over TCP or UDP, with as little opened as possible: the one that wants to be reached has a
// `Reach`, the other a `Prober`, and what they say to each other goes by whatever they have already, such as `Signal`.
namespace rejoin::inline v0_1 {

/// The other side: tries what it is asked to, and says how it went. Belongs to its loop's thread. `on_connected` may destroy it.
class Prober {
public:
    explicit Prober(Loop& loop)
        : loop_(loop),
          connector_(loop, Delegate<void(Result<Socket>&&)>::to<&Prober::connected>(this)),
          datagrams_(loop, Delegate<void(Result<Socket>&&)>::to<&Prober::connected>(this)) {}
    Prober(const Prober&) = delete;

    /// What is to be said to the other side; holds until it returns.
    void on_send(Function<void(Bytes)> handler) { on_send_ = std::move(handler); }
    /// Both have met: the connection, or the connected UDP socket, to be adopted by a pipe. (Those that only try are closed at once.) Over
    /// UDP a `ReachMessage` or two may still come by it. Called once: to be set anew where they are to meet again.
    void on_connected(Function<void(Socket&&)> handler) { on_connected_ = std::move(handler); }
    /// This host's address, as the other side sees it; else that from which it goes there.
    void set_address(const IpAddress& own) { own_ = own; }

    /// What the other side has said: it is believed where to try, so it is to be somebody whom this program talks to anyway. `malformed`
    /// for what is no message of this, which changes nothing.
    Result<void> hear(Bytes bytes) {
        const auto message = ReachMessage::decode(bytes);
        if (!message) return message.error();
        if (message->kind != ReachMessage::Kind::ask) return {};
        asked_ = *message;
        connector_.stop();
        datagrams_.stop();
        const Endpoint to(asked_.ip, asked_.port);
        const IpAddress from = source_address(asked_.ip);
        const bool udp = asked_.protocol == firewall::Protocol::udp, meeting = asked_.step == ReachStep::simultaneous_open;
        const auto port = udp ? datagrams_.bind(from) : connector_.bind(from);
        if (!port) return say(asked_, ReachMessage::Kind::told, false), Result<void>();
        const TimePoint until = loop_.now() + (meeting ? detail::meeting_max : detail::probe_max);
        if (meeting) {
            asked_.ip = own_.family != Family::none ? own_ : from;
            asked_.port = *port;
        }
        const ReachMessage ready = asked_;  // what is started may fail at once, and the next be asked for
        udp ? datagrams_.start(ready, to, until, meeting) : connector_.start(to, until, meeting);
        if (meeting) say(ready, ReachMessage::Kind::ready, false);
        return {};
    }

private:
    void say(ReachMessage message, ReachMessage::Kind kind, bool reached) {
        message.kind = kind;
        message.reached = reached;
        std::byte bytes[ReachMessage::size];
        message.encode(bytes);
        if (on_send_) on_send_(bytes);
    }
    void connected(Result<Socket>&& socket) {
        const bool met = socket && asked_.step == ReachStep::simultaneous_open && on_connected_;
        // Who meets over TCP sees it by the connection; over UDP it has to be told.
        if (!met || asked_.protocol == firewall::Protocol::udp) say(asked_, ReachMessage::Kind::told, static_cast<bool>(socket));
        if (!met) return;
        Function<void(Socket &&)> handler = std::move(on_connected_);
        handler(std::move(*socket));
    }

    Loop& loop_;
    detail::Connector connector_;
    detail::DatagramProbe datagrams_;
    Function<void(Bytes)> on_send_;
    Function<void(Socket&&)> on_connected_;
    ReachMessage asked_;
    IpAddress own_;
};

/// The side that wants to be reached at what it listens on, or over UDP by a socket that is to be given to it: tries one step after
/// another, and stops at the first that the other side has proven. What was opened on the way and did not help is closed again; what did
/// stays open as long as this lives. Belongs to its loop's thread, and is neither copied nor moved. `on_done` may destroy it.
template <EventSource E = SystemEvents>
class Reach {
public:
    struct Options {
        firewall::Rule rule;  ///< who opens, and for how long: `app` has to be there; protocol and port are said by `start`
        bool mapping = true;  ///< asks the gateway, where nothing less helps
        bool host = false;    ///< opens this host's firewall, where nothing else helps; takes privilege
        IpAddress
            address;  ///< this host's, as the other side sees it; of family none: that of the listener, or that from which it goes there
        firewall::Firewall::Options firewall;
    };
    struct Outcome {
        ReachStep step = ReachStep::failed;
        Endpoint at;  ///< where it was reached
        /// Of `simultaneous_open`: the connection. UDP: what was given to `start`, connected in that case.
        Socket socket;
        const firewall::Report* report = nullptr;  ///< what is in the way on this host, with the commands, where nothing helped
    };

    Reach(Loop& loop, const Options& options)
        : loop_(loop),
          options_(options),
          connector_(loop, Delegate<void(Result<Socket>&&)>::template to<&Reach::connected>(this)),
          patience_(loop, Delegate<void()>::template to<&Reach::next>(this)),
          watch_(loop, Delegate<void(Ready)>::template to<&Reach::ready>(this)),
          punch_(loop, Delegate<void()>::template to<&Reach::punch>(this)),
          look_(loop, Delegate<void()>::template to<&Reach::look>(this)) {}
    Reach(const Reach&) = delete;
    ~Reach() { watch_.stop(); }

    void on_send(Function<void(Bytes)> handler) { on_send_ = std::move(handler); }
    void on_done(Function<void(Outcome&&)> handler) { on_done_ = std::move(handler); }

    /// Begins: `listening` is what is listened on over TCP, and `peer` the other side's address, as far as it is known (for which address
    /// of this host is told). `invalid_argument`; `invalid_state` once begun.
    Result<void> start(const Endpoint& listening, const IpAddress& peer) { return start(listening, peer, firewall::Protocol::tcp); }
    /// The same for UDP, by a socket that is bound: it comes back with the outcome, or stays where it is when this fails. What else comes
    /// by it meanwhile is lost.
    Result<void> start(Socket&& socket, const IpAddress& peer) {
        if (begun_) return Errc::invalid_state;
        if (auto watched = watch_.start(socket.fd(), Ready::readable); !watched) return watched;
        socket_ = std::move(socket);
        auto started = start(socket_.local_endpoint(), peer, firewall::Protocol::udp);
        if (!started) {
            watch_.stop();
            socket = std::move(socket_);
        }
        return started;
    }
    /// What the other side has said. `malformed` for what is no message of this.
    Result<void> hear(Bytes bytes) {
        const auto message = ReachMessage::decode(bytes);
        if (!message) return message.error();
        if (over_ || message->attempt != attempt_ || message->step != step_) return {};
        if (message->kind == ReachMessage::Kind::told) return message->reached ? done(step_) : next(), Result<void>();
        if (message->kind != ReachMessage::Kind::ready || step_ != ReachStep::simultaneous_open) return {};
        there_ = Endpoint(message->ip, message->port);
        udp() ? punch() : connector_.start(there_, loop_.now() + detail::meeting_max, true);
        return {};
    }

private:
    bool udp() const { return rule_.protocol == firewall::Protocol::udp; }
    Result<void> start(const Endpoint& listening, const IpAddress& peer, firewall::Protocol protocol) {
        if (begun_) return Errc::invalid_state;
        rule_ = options_.rule;
        rule_.protocol = protocol;
        rule_.port = listening.port();
        rule_.last_port = 0;
        if (!listening.valid() || listening.name() != nullptr || !rule_.valid()) return Errc::invalid_argument;
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
    // ---- UDP: what comes is answered; and where both are to meet, something goes there, so that what comes from there is let in.

    void send(ReachMessage::Kind kind, const Endpoint& to) {
        ReachMessage message;
        message.kind = kind;
        message.step = step_;
        message.protocol = firewall::Protocol::udp;
        message.attempt = attempt_;
        std::byte bytes[ReachMessage::size];
        message.encode(bytes);
        static_cast<void>(socket_.send_to(bytes, for_socket(to.ip()), to.port()));
    }
    IpAddress for_socket(const IpAddress& ip) const { return listening_.ip().family == Family::v6 ? mapped(ip) : unmapped(ip); }
    void punch() {
        send(ReachMessage::Kind::probe, there_);
        punch_.after(detail::meeting_pause);
    }
    void ready(Ready) {
        for (int i = 0; i < 16; ++i) {
            std::byte room[ReachMessage::size + 1];
            Endpoint from;
            const auto size = socket_.receive_from(room, from);
            if (!size && size.error() == Errc::would_block) return;
            if (!size) continue;
            const auto message = ReachMessage::decode(Bytes(room, *size));
            if (!message || message->kind != ReachMessage::Kind::probe || message->attempt != attempt_ || message->step != step_) continue;
            there_ = from;
            send(ReachMessage::Kind::answer, from);
        }
    }

    void ask(const Endpoint& at) {
        at_ = at;
        patience_.after(step_ == ReachStep::simultaneous_open ? detail::meeting_max * 2 : detail::probe_max * 2);
        ReachMessage message;
        message.kind = ReachMessage::Kind::ask;
        message.step = step_;
        message.protocol = rule_.protocol;
        message.attempt = attempt_;
        message.ip = at.ip();
        message.port = at.port();
        std::byte bytes[ReachMessage::size];
        message.encode(bytes);
        if (on_send_) on_send_(bytes);
    }
    void next() {
        patience_.cancel();
        punch_.cancel();
        connector_.stop();
        switch (step_) {
            case ReachStep::as_it_is: {
                step_ = ReachStep::simultaneous_open;
                if (udp()) return ask({address_, listening_.port()});
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
        options.rule = rule_;
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
        punch_.cancel();
        watch_.stop();
        connector_.stop();
        over_ = true;
        step_ = step;
        if (udp() && step == ReachStep::simultaneous_open) static_cast<void>(socket_.connect(for_socket(there_.ip()), there_.port()));
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
    Loop::Watch watch_;  // of a UDP socket
    Loop::Timer punch_;
    Loop::Deferred look_;
    Function<void(Bytes)> on_send_;
    Function<void(Outcome&&)> on_done_;
    Held opening_{nullptr};
    firewall::Rule rule_;
    Endpoint listening_, at_, there_;
    IpAddress address_, peer_;
    Socket socket_;
    std::uint32_t attempt_ = 0;
    ReachStep step_ = ReachStep::as_it_is;
    bool begun_ = false, over_ = false;
    bool asked_ = false;  // the other side, in this step
};

}  // namespace rejoin::inline v0_1
