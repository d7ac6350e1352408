// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/router/upnp.hpp>

namespace rejoin::inline v0_1::router {

/// How a mapping is held.
enum class Method : std::uint8_t { none, pcp, nat_pmp, upnp };
constexpr const char* to_text(Method method) {
    constexpr const char* names[] = {"none", "PCP", "NAT-PMP", "UPnP"};
    return names[static_cast<int>(method)];
}

/// A port that is to be reached from beyond the gateway.
struct Want {
    Protocol protocol = Protocol::tcp;
    std::uint16_t port = 0;                       ///< of this host
    std::uint16_t external_port = 0;              ///< asked for; 0: the same. The gateway may give another
    Duration lifetime = Duration::seconds(1200);  ///< renewed at half of it; at least 2 s, at most a day
    Text<56> name;                                ///< for people who look at the gateway's list
};

/// Asks a gateway for a mapping, or for IPv6 for a pinhole, by PCP, NAT-PMP and UPnP, and keeps it. Pure: bytes and times go in, and what
/// is to be sent comes out. Each method has a head start over the next, and an answer that it is not there starts the next at once.
///
///     idle --start--> asking --granted--> mapped --renewed at half its life--> mapped
///                        ^--lost: expired, or the gateway does not have it any more, or is another--'
///     asking --nobody grants it--> failed --moved, or after a while--> asking
///     any --close--> closing --taken back, or no answer--> closed
class Mapper {
public:
    enum class State : std::uint8_t { idle, asking, mapped, failed, closing, closed };
    /// Something to be sent.
    struct Output {
        enum class Kind : std::uint8_t {
            control,  ///< a datagram to the gateway, `pcp_port`
            search,   ///< a datagram to `to`
            http,     ///< a request over TCP to `to`; its answer, or that there is none, to `http`
        };
        Kind kind = Kind::control;
        Endpoint to;
        IpAddress from;  ///< of `http`, where it matters: the local address
        upnp::Request text;
        Bytes bytes() const { return TextView(text).bytes(); }
    };

    /// Begins. `local` is this host's address on the way to `gateway`, of the same family; for IPv6, `gateway_v4` is where UPnP is asked,
    /// if there is one. The nonce is random, and the same as long as the mapping is to be.
    void start(const Want& want, const IpAddress& gateway, const IpAddress& local, const IpAddress& gateway_v4, const pcp::Nonce& nonce,
               TimePoint now) {
        state_ = State::idle;
        want_ = want;
        if (want_.external_port == 0) want_.external_port = want_.port;
        std::memcpy(nonce_, nonce, sizeof nonce_);
        moved(gateway, local, gateway_v4, now);
    }
    /// The gateway, or this host's address, is another now: asks there.
    void moved(const IpAddress& gateway, const IpAddress& local, const IpAddress& gateway_v4, TimePoint now) {
        if (state_ == State::closing || state_ == State::closed) return;
        gateway_ = gateway;
        local_ = local;
        gateway_v4_ = gateway.family == Family::v4 ? gateway : gateway_v4;
        epoch_ = {};
        ask(now);
    }
    bool is_at(const IpAddress& gateway, const IpAddress& local) const { return gateway_ == gateway && local_ == local; }
    /// Takes back what was granted, and what may be granted yet. `closed` follows, within a second.
    void close(TimePoint now) {
        if (state_ == State::closing || state_ == State::closed) return;
        const bool asking = state_ == State::asking;
        const auto take_back = [&](Lane& lane, Method method) {
            lane = {0, now, method_ == method || (asking && lane.alive && lane.tries > 0)};
        };
        take_back(pcp_, Method::pcp);
        take_back(nat_pmp_, Method::nat_pmp);
        upnp_.alive = method_ == Method::upnp || (asking && step_ == Step::adding);  // of which the answer is waited for
        if (method_ == Method::upnp)
            exchange(Step::removing, now);
        else if (!upnp_.alive)
            step_ = Step::none;
        send_pcp_ = send_nat_pmp_ = send_address_ = false;
        searches_ = 0;
        give_up_ = now + closing_max;
        state_ = pcp_.alive || nat_pmp_.alive || upnp_.alive ? State::closing : State::closed;
    }

    State state() const { return state_; }
    Method method() const { return method_; }
    /// Where it is reached from beyond; not `valid` where the gateway has not said.
    Endpoint external() const { return state_ == State::mapped ? Endpoint(external_, external_port_) : Endpoint(); }
    /// Why nobody grants it: `unsupported`: no gateway that could; `overloaded`, `unsupported` or `timed_out` as the last said.
    Error error() const { return state_ == State::failed ? error_ : Error(); }
    /// Once after each change of these.
    bool changed() { return std::exchange(changed_, false); }

    /// When `advance` has something to do.
    TimePoint deadline() const {
        TimePoint next = TimePoint::never();
        const auto sooner = [&](TimePoint when) { next = when < next ? when : next; };
        switch (state_) {
            case State::asking:
                if (pcp_.alive) sooner(pcp_.due);
                if (nat_pmp_.alive) sooner(nat_pmp_.due);
                if (upnp_.alive) sooner(upnp_.due);
                break;
            case State::mapped:
                sooner(renew_at_);
                sooner(expires_);
                if (pcp_.alive) sooner(pcp_.due);
                if (nat_pmp_.alive) sooner(nat_pmp_.due);
                if (step_ != Step::none) sooner(upnp_.due);
                break;
            case State::closing:
                sooner(give_up_);
                if (pcp_.alive) sooner(pcp_.due);
                if (nat_pmp_.alive) sooner(nat_pmp_.due);
                break;
            case State::failed:
                sooner(renew_at_);
                break;
            default:
                break;
        }
        return next;
    }
    void advance(TimePoint now) {
        if (deadline() > now) return;
        switch (state_) {
            case State::asking:
                send_due(now);
                if (upnp_.alive && upnp_.due <= now) advance_upnp(now);
                if (state_ == State::asking) fail_if_dead(now);
                return;
            case State::mapped:
                if (expires_ <= now) return ask(now);
                if (step_ != Step::none && upnp_.due <= now) step_ = Step::none;  // no answer: with the next renewal
                if (renew_at_ <= now) renew(now);
                send_due(now);
                return;
            case State::closing:
                if (give_up_ <= now) return finish();
                send_due(now);
                return;
            case State::failed:
                return ask(now);
            default:
                return;
        }
    }

    /// The next of what is to be sent now; false when there is nothing.
    bool next(Output& out) {
        const std::uint32_t lifetime = state_ == State::closing ? 0 : seconds();
        out.to = Endpoint(gateway_, pcp_port);
        out.kind = Output::Kind::control;
        if (std::exchange(send_pcp_, false)) {
            std::byte request[pcp::request_size];
            pcp::encode_map(request, nonce_, local_, want_.protocol, want_.port, external_port(), external_, lifetime);
            return put(out, request);
        }
        if (std::exchange(send_nat_pmp_, false)) {
            std::byte request[nat_pmp::request_size];
            nat_pmp::encode_map(request, want_.protocol, want_.port, external_port(), lifetime);
            send_address_ = lifetime != 0;
            return put(out, request);
        }
        if (std::exchange(send_address_, false)) return put(out, nat_pmp::address_request);
        if (searches_ > 0) {
            --searches_;
            out.kind = Output::Kind::search;
            out.to = searches_ % 2 == 0 ? Endpoint(gateway_v4_, upnp::ssdp_port) : Endpoint(upnp::ssdp_group, upnp::ssdp_port);
            out.text = TextView(upnp::search(out.to, 1 + searches_ / 2));
            return true;
        }
        if (std::exchange(send_http_, false)) {
            out.kind = Output::Kind::http;
            make_request(out);
            return true;
        }
        return false;
    }

    /// A datagram came from there, on the socket from which those to `pcp_port` went. Of anybody but the gateway it changes nothing.
    void control(const Endpoint& from, Bytes datagram, TimePoint now) {
        if (!same_host(from.ip(), gateway_) || from.port() != pcp_port) return;
        if (const auto answer = pcp::decode_map(datagram, nonce_);
            answer.kind != pcp::Answer::Kind::none && (pcp_.alive || method_ == Method::pcp)) {
            if (answer.kind == pcp::Answer::Kind::granted) return granted(Method::pcp, answer.granted, now);
            if (state_ == State::closing) return taken_back(pcp_);
            if (state_ == State::mapped && method_ == Method::pcp) return ask(now);  // it was ours, and is not any more
            return dead(pcp_, answer.kind == pcp::Answer::Kind::refused ? Errc::overloaded : Errc::unsupported, nat_pmp_, now);
        }
        if (!nat_pmp_.alive && method_ != Method::nat_pmp) return;
        const auto answer = nat_pmp::decode(datagram);
        switch (answer.kind) {
            case nat_pmp::Answer::Kind::none:
                return;
            case nat_pmp::Answer::Kind::address:
                return addressed(answer.granted, now, Duration());
            case nat_pmp::Answer::Kind::granted:
                return granted(Method::nat_pmp, answer.granted, now);
            case nat_pmp::Answer::Kind::refused:
                if (state_ == State::closing) return taken_back(nat_pmp_);
                if (state_ == State::mapped && method_ == Method::nat_pmp) return ask(now);
                return dead(nat_pmp_, answer.code == 1 || answer.code == 5 ? Errc::unsupported : Errc::overloaded, upnp_, now);
        }
    }
    /// The gateway has said something to everybody, at `announcement_port`. Where it has lost its mappings, they are asked for anew, within
    /// five seconds: not by all its hosts at once.
    void announced(const IpAddress& from, Bytes datagram, TimePoint now) {
        if (!same_host(from, gateway_)) return;
        const Duration wait = Duration::milliseconds(std::to_integer<std::int64_t>(nonce_[0]) * 5000 / 256);
        const auto epoch = pcp::decode_announce(datagram);
        const auto address = nat_pmp::decode(datagram);
        if (!epoch && address.kind != nat_pmp::Answer::Kind::address) return;
        if (state_ == State::failed) renew_by(now + wait);  // it does either, and did not before
        if (state_ != State::mapped || method_ == Method::upnp) return;
        // A gateway that speaks both has one clock for both (RFC 6887, appendix A).
        if (epoch && epoch_.restarted(*epoch, now)) renew_by(now + wait);
        if (!epoch) addressed(address.granted, now, wait);
    }
    /// Nobody listens at the gateway's `pcp_port`: the system says so.
    void refused(TimePoint now) {
        if (state_ == State::closing) {
            pcp_.alive = false;
            return taken_back(nat_pmp_);
        }
        if (state_ != State::asking) return;
        nat_pmp_.alive = false;
        dead(pcp_, Errc::unsupported, upnp_, now);
    }
    /// A datagram came on the socket from which searches went.
    void found(const Endpoint& from, Bytes datagram, TimePoint now) {
        if (step_ != Step::searching || !same_host(from.ip(), gateway_v4_)) return;
        auto at = upnp::location(datagram, gateway_v4_);
        if (!at) return;
        description_ = std::move(*at);
        exchange(Step::describing, now);
    }
    /// The answer to the request that was sent last; or why there is none.
    void http(const Result<upnp::HttpAnswer>& answer, TimePoint now) {
        const Step step = std::exchange(step_, Step::none);
        if (step == Step::none || step == Step::searching) return;
        if (step == Step::removing || (state_ == State::closing && !answer)) return taken_back(upnp_);
        if (!answer && step == Step::adding && pinholes() && service_.control.at.ip().family == Family::v6 && state_ == State::asking) {
            service_.control.at = Endpoint(gateway_v4_, service_.control.at.port());
            return exchange(Step::adding, now);
        }
        if (!answer) return upnp_failed(answer.error(), now);
        if (step == Step::describing) {
            if (answer->status != 200) return upnp_failed(Errc::malformed, now);
            auto service = upnp::find_service({answer->body.data(), answer->body.size()}, description_, gateway_v4_, pinholes());
            if (!service) return upnp_failed(service.error(), now);
            service_ = std::move(*service);
            // A pinhole leads to whoever asks for it (WANIPv6FirewallControl 1): so that is asked over IPv6, wherever the gateway was
            // found; over IPv4 where it hears nobody there.
            if (pinholes()) service_.control.at = Endpoint(gateway_, service_.control.at.port());
            attempts_ = 0;
            forever_ = false;
            return exchange(pinholes() ? Step::adding : Step::addressing, now);
        }
        const char* const wanted = step == Step::addressing ? "NewExternalIPAddress" : pinholes() ? "UniqueID" : "NewReservedPort";
        const auto outcome = upnp::read_action(*answer, wanted);
        if (state_ == State::closing && (!outcome || outcome->error != 0)) return taken_back(upnp_);
        if (!outcome) return upnp_failed(outcome.error(), now);
        if (step == Step::addressing) {
            const auto ip = IpAddress::parse(outcome->value);
            if (ip && ip->family == Family::v4 && !ip->is_unspecified()) external_ = *ip;
            return exchange(Step::adding, now);
        }
        if (outcome->error == 725 && !std::exchange(forever_, true))
            return exchange(Step::adding, now);                                  // it knows no end but the gateway's
        if (outcome->error == 718 && !pinholes() && attempts_ < attempts_max) {  // the port is another host's
            ++attempts_;
            return exchange(Step::adding, now);
        }
        if (outcome->error != 0) return upnp_failed(Errc::overloaded, now);
        Granted got;
        got.lifetime = seconds();
        got.external_port = static_cast<std::uint16_t>(pinholes() ? want_.port : external_port());
        std::uint32_t number = 0;
        if (!pinholes() && upnp::detail::number(outcome->value, 65535, number) && number != 0)
            got.external_port = static_cast<std::uint16_t>(number);
        if (pinholes() && upnp::detail::number(outcome->value, 65535, number)) pinhole_ = static_cast<std::uint16_t>(number);
        got.internal_port = want_.port;
        got.protocol = want_.protocol;
        got.external = pinholes() ? local_ : external_;
        if (state_ == State::closing) {  // it was being asked for
            external_port_ = got.external_port;
            return exchange(Step::removing, now);
        }
        granted(Method::upnp, got, now);
    }

private:
    static constexpr int pcp_tries = 4, searches_max = 3, attempts_max = 8;
    static constexpr Duration first_wait = Duration::milliseconds(250);  // RFC 6886, 3.1; PCP's 3 s are for hosts that can wait
    static constexpr Duration head_start = Duration::milliseconds(40), first_search_wait = Duration::milliseconds(100),
                              search_wait = Duration::milliseconds(1000), http_max = Duration::seconds(3),
                              closing_max = Duration::milliseconds(1000), again = Duration::seconds(600);

    enum class Step : std::uint8_t { none, searching, describing, addressing, adding, removing };
    struct Lane {
        int tries = 0;
        TimePoint due;
        bool alive = false;
    };

    bool pinholes() const { return local_.family == Family::v6; }
    std::uint32_t seconds() const {
        const std::int64_t s = (want_.lifetime.milliseconds() + 999) / 1000;
        return static_cast<std::uint32_t>(s < 2 ? 2 : s > 86'400 ? 86'400 : s);
    }
    std::uint16_t external_port() const {
        if (external_port_ != 0) return external_port_;
        return static_cast<std::uint16_t>(want_.external_port + attempts_ == 0x10000 ? 1024 : want_.external_port + attempts_);
    }
    static bool same_host(IpAddress a, IpAddress b) {
        a.scope = b.scope = 0;
        return a == b;
    }
    template <std::size_t N>
    static bool put(Output& out, const std::byte (&bytes)[N]) {
        out.text = TextView(reinterpret_cast<const char*>(bytes), N);
        return true;
    }
    void ask(TimePoint now) {
        changed_ = changed_ || state_ == State::mapped;
        state_ = State::asking;
        method_ = Method::none;
        error_ = Errc::unsupported;
        external_ = {};
        external_port_ = 0;
        attempts_ = 0;
        searches_ = 0;
        step_ = Step::none;
        send_pcp_ = send_nat_pmp_ = send_address_ = send_http_ = false;
        pcp_ = {0, now, true};
        nat_pmp_ = {0, now + head_start, local_.family == Family::v4};
        upnp_ = {0, now + head_start * 2, gateway_v4_.family == Family::v4};
        advance(now);
    }
    // Whether it is to be sent once more; it has had all its tries else.
    static bool step_of(Lane& lane, int tries, TimePoint now) {
        if (lane.tries == tries) {
            lane.alive = false;
            return false;
        }
        lane.due = now + first_wait * (1 << lane.tries++);
        return true;
    }
    // What does not work starts the next at once.
    void dead(Lane& lane, Errc why, Lane& next, TimePoint now) {
        if (state_ != State::asking) return;
        lane.alive = false;
        if (why != Errc::unsupported || error_ == Errc::unsupported) error_ = why;
        Lane& other = next.alive ? next : upnp_;
        if (other.alive && other.tries == 0 && other.due > now) other.due = now;
        advance(now);
        fail_if_dead(now);
    }
    void fail_if_dead(TimePoint now) {
        if (state_ != State::asking || pcp_.alive || nat_pmp_.alive || upnp_.alive) return;
        state_ = State::failed;
        renew_at_ = now + again;
        changed_ = true;
    }
    void advance_upnp(TimePoint now) {
        if (step_ != Step::none && step_ != Step::searching) return upnp_failed(Errc::timed_out, now);
        if (upnp_.tries == searches_max) {
            step_ = Step::none;
            upnp_.alive = false;
            return;
        }
        // First the gateway alone, which answers at once, and where it does not the group, and for either version. Small devices answer one
        // after another.
        const bool first = upnp_.tries++ == 0;
        step_ = Step::searching;
        searches_ = first ? 1 : 4;
        upnp_.due = now + (first ? first_search_wait : search_wait);
    }
    void upnp_failed(Error why, TimePoint now) {
        step_ = Step::none;
        if (state_ == State::mapped) return;  // with the next renewal
        upnp_.alive = false;
        error_ = why;
        fail_if_dead(now);
    }
    void exchange(Step step, TimePoint now) {
        step_ = step;
        send_http_ = true;
        upnp_.due = now + http_max;
    }
    void make_request(Output& out) {
        out.to = step_ == Step::describing ? description_.at : service_.control.at;
        out.from = out.to.ip().family == Family::v6 ? local_ : IpAddress();
        if (step_ == Step::describing) {
            out.text = upnp::get(description_);
            return;
        }
        const char* const protocol = want_.protocol == Protocol::tcp ? "TCP" : "UDP";
        const std::uint32_t lease = forever_ ? 0 : seconds();
        if (step_ == Step::addressing) {
            out.text = upnp::Action(service_, "GetExternalIPAddress").request();
        } else if (pinholes() && step_ == Step::removing) {
            out.text = upnp::Action(service_, "DeletePinhole").add("UniqueID", pinhole_).request();
        } else if (pinholes() && method_ == Method::upnp) {
            out.text = upnp::Action(service_, "UpdatePinhole").add("UniqueID", pinhole_).add("NewLeaseTime", lease).request();
        } else if (pinholes()) {
            out.text = upnp::Action(service_, "AddPinhole")
                           .add("RemoteHost", "")
                           .add("RemotePort", std::uint32_t{0})
                           .add("InternalClient", rejoin::to_text(local_))
                           .add("InternalPort", want_.port)
                           .add("Protocol", static_cast<std::uint32_t>(want_.protocol))
                           .add("LeaseTime", lease)
                           .request();
        } else if (step_ == Step::removing) {
            out.text = upnp::Action(service_, "DeletePortMapping")
                           .add("NewRemoteHost", "")
                           .add("NewExternalPort", external_port_)
                           .add("NewProtocol", protocol)
                           .request();
        } else {
            out.text = upnp::Action(service_, service_.version == 2 ? "AddAnyPortMapping" : "AddPortMapping")
                           .add("NewRemoteHost", "")
                           .add("NewExternalPort", external_port())
                           .add("NewProtocol", protocol)
                           .add("NewInternalPort", want_.port)
                           .add("NewInternalClient", rejoin::to_text(local_))
                           .add("NewEnabled", std::uint32_t{1})
                           .add("NewPortMappingDescription", want_.name)
                           .add("NewLeaseDuration", lease)
                           .request();
        }
    }
    void renew_by(TimePoint when) { renew_at_ = when < renew_at_ ? when : renew_at_; }
    // NAT-PMP says it apart from what it grants.
    void addressed(const Granted& said, TimePoint now, Duration wait) {
        if (!said.external.is_unspecified() && !(external_ == said.external)) {
            external_ = said.external;
            changed_ = changed_ || state_ == State::mapped;
        }
        if (epoch_.restarted(said.epoch, now) && state_ == State::mapped) renew_by(now + wait);
    }
    void renew(TimePoint now) {
        // Again after half of what is left, and not more often than every second.
        const Duration left = (expires_ - now) * 1 / 2;
        renew_at_ = now + (left > Duration::seconds(1) ? left : Duration::seconds(1));
        if (method_ == Method::upnp) return exchange(Step::adding, now);
        (method_ == Method::pcp ? pcp_ : nat_pmp_) = {0, now, true};
    }
    void granted(Method method, const Granted& got, TimePoint now) {
        if (got.protocol != want_.protocol || got.internal_port != want_.port) return;
        const bool restarted = method != Method::upnp && epoch_.restarted(got.epoch, now);
        if (state_ == State::closing) {
            if (got.lifetime == 0) taken_back(method == Method::pcp ? pcp_ : nat_pmp_);
            return;
        }
        if (state_ == State::mapped && method != method_) return;  // a slower one
        if (state_ != State::asking && state_ != State::mapped) return;
        if (got.lifetime == 0 || got.external_port == 0) {  // neither is a grant
            if (method == Method::pcp) dead(pcp_, Errc::malformed, nat_pmp_, now);
            if (method == Method::nat_pmp) dead(nat_pmp_, Errc::malformed, upnp_, now);
            return;
        }
        const IpAddress external = got.external.is_unspecified() ? external_ : got.external;
        changed_ = changed_ || state_ != State::mapped || restarted || external_port_ != got.external_port || !(external_ == external);
        state_ = State::mapped;
        method_ = method;
        external_ = external;
        external_port_ = got.external_port;
        pcp_.alive = nat_pmp_.alive = upnp_.alive = false;
        if (method != Method::upnp) step_ = Step::none, searches_ = 0, send_http_ = false;
        send_pcp_ = send_nat_pmp_ = false;
        // What is granted for ever, or for longer than was asked, is looked after all the same.
        const std::uint32_t life = got.lifetime < seconds() ? got.lifetime : seconds();
        expires_ = now + Duration::seconds(life);
        renew_at_ = now + Duration::milliseconds(std::int64_t{life} * 500);
    }
    void send_due(TimePoint now) {
        if (pcp_.alive && pcp_.due <= now && step_of(pcp_, pcp_tries, now)) send_pcp_ = true;
        if (nat_pmp_.alive && nat_pmp_.due <= now && step_of(nat_pmp_, pcp_tries, now)) send_nat_pmp_ = true;
    }
    void taken_back(Lane& lane) {
        lane.alive = false;
        if (!pcp_.alive && !nat_pmp_.alive && !upnp_.alive) finish();
    }
    void finish() {
        state_ = State::closed;
        changed_ = true;
    }

    State state_ = State::idle;
    Method method_ = Method::none;
    Step step_ = Step::none;
    bool changed_ = false, forever_ = false;
    bool send_pcp_ = false, send_nat_pmp_ = false, send_address_ = false, send_http_ = false;
    int searches_ = 0, attempts_ = 0;
    Want want_;
    pcp::Nonce nonce_ = {};
    IpAddress gateway_, local_, gateway_v4_, external_;
    std::uint16_t external_port_ = 0, pinhole_ = 0;
    Epoch epoch_;
    Lane pcp_, nat_pmp_, upnp_;
    TimePoint renew_at_, expires_, give_up_;
    Error error_;
    upnp::Url description_;
    upnp::Service service_;
};

}  // namespace rejoin::inline v0_1::router
