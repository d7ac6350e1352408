// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/function.hpp>
#include <rejoin/firewall/router/mapper.hpp>
#include <rejoin/os/entropy.hpp>
#include <rejoin/os/loop.hpp>
#include <rejoin/os/socket.hpp>

namespace rejoin::inline v0_1::router {

/// A port of this host that is reached from beyond the gateway, as long as this lives: asked for by PCP, NAT-PMP and UPnP, renewed, and
/// taken back by `close`. Destroying it lets it run out, or asks the gateway once to end it where a datagram is enough. Requests go to the
/// gateway alone, but for the search that UPnP begins with.
///
/// Belongs to its loop's thread, and is neither copied nor moved. Its handler may destroy it.
class Mapping {
public:
    explicit Mapping(Loop& loop)
        : loop_(loop),
          control_watch_(loop, Delegate<void(Ready)>::to<&Mapping::control_ready>(this)),
          search_watch_(loop, Delegate<void(Ready)>::to<&Mapping::search_ready>(this)),
          announcement_watch_(loop, Delegate<void(Ready)>::to<&Mapping::announcement_ready>(this)),
          http_watch_(loop, Delegate<void(Ready)>::to<&Mapping::http_ready>(this)),
          timer_(loop, Delegate<void()>::to<&Mapping::due>(this)) {}
    Mapping(const Mapping&) = delete;
    ~Mapping() {
        on_change_ = {};
        if (mapper_.state() == Mapper::State::asking || (mapper_.state() == Mapper::State::mapped && mapper_.method() != Method::upnp)) {
            mapper_.close(loop_.now());
            mapper_.advance(loop_.now());
            send();
        }
        if (destroyed_ != nullptr) *destroyed_ = true;
        stop();
    }

    /// It is mapped, or is not any more, or elsewhere; or nobody grants it.
    void on_change(Function<void()> handler) { on_change_ = std::move(handler); }

    /// Asks `gateway` to map the port to `local`, which is this host's address on the way there, of the same family. For IPv6 that is a
    /// pinhole, and `gateway_v4` is where UPnP is asked for one. `invalid_argument`; `invalid_state` unless
    /// it was never begun, or is closed; the system's error.
    Result<void> start(const Want& want, const IpAddress& gateway, const IpAddress& local, const IpAddress& gateway_v4 = {}) {
        using State = Mapper::State;
        if (const State is = state(); is == State::asking || is == State::mapped || is == State::failed) return Errc::invalid_state;
        if (want.port == 0 || gateway.family == Family::none || gateway.family != local.family) return Errc::invalid_argument;
        pcp::Nonce nonce;
        if (auto random = entropy(nonce); !random) return random;
        if (auto opened = open(gateway, local); !opened) return opened;
        mapper_.start(want, gateway, local, gateway_v4, nonce, loop_.now());
        pump();
        return {};
    }
    /// The way out is another now: asks there. Nothing happens where it is the same.
    Result<void> moved(const IpAddress& gateway, const IpAddress& local, const IpAddress& gateway_v4 = {}) {
        const Mapper::State is = state();
        if (is == Mapper::State::idle || is == Mapper::State::closing || is == Mapper::State::closed || mapper_.is_at(gateway, local))
            return {};
        if (gateway.family == Family::none || gateway.family != local.family) return Errc::invalid_argument;
        if (auto opened = open(gateway, local); !opened) return opened;
        mapper_.moved(gateway, local, gateway_v4, loop_.now());
        pump();
        return {};
    }
    /// Takes it back; `on_change` tells when that is done, a second later at most.
    void close() {
        mapper_.close(loop_.now());
        pump();
    }

    Mapper::State state() const { return mapper_.state(); }
    Method method() const { return mapper_.method(); }
    /// Where it is reached; not `valid` where that is not known.
    Endpoint external() const { return mapper_.external(); }
    /// Why it is not mapped, where nobody grants it.
    Error error() const { return mapper_.error(); }

private:
    Result<void> open(const IpAddress& gateway, const IpAddress& local) {
        stop();
        auto control = Socket::udp(gateway.family);
        auto search = Socket::udp(Family::v4);
        if (!control) return control.error();
        if (auto bound = control->bind(local, 0); !bound) return bound;
        if (auto connected = control->connect(gateway, pcp_port); !connected) return connected;
        control_ = std::move(*control);
        if (auto watched = control_watch_.start(control_.fd(), Ready::readable); !watched) return watched;
        hear_announcements(gateway, local);
        if (!search) return {};
        IpAddress from = IpAddress::v4(0, 0, 0, 0);
        if (local.family == Family::v4) from = local;
        if (search->bind(from, 0)) {
            search_ = std::move(*search);
            static_cast<void>(search_watch_.start(search_.fd(), Ready::readable));
        }
        return {};
    }
    // Where that fails, a restart of the gateway is seen with the next renewal.
    void hear_announcements(const IpAddress& gateway, const IpAddress& local) {
        auto made = Socket::udp(gateway.family);
        if (!made) return;
        IpAddress group = gateway.family == Family::v4 ? all_hosts_v4 : all_hosts_v6;
        group.scope = gateway.scope;
        if (!made->join(group, announcement_port, local)) return;
        announcements_ = std::move(*made);
        static_cast<void>(announcement_watch_.start(announcements_.fd(), Ready::readable));
    }
    void stop() {
        control_watch_.stop();
        search_watch_.stop();
        announcement_watch_.stop();
        control_.close();
        search_.close();
        announcements_.close();
        end_http();
    }
    void send() {
        Mapper::Output out;
        while (mapper_.next(out)) {
            switch (out.kind) {
                case Mapper::Output::Kind::control:
                    if (const auto sent = control_.send(out.bytes()); !sent && sent.error() != Errc::would_block)
                        mapper_.refused(loop_.now());
                    break;
                case Mapper::Output::Kind::search:
                    if (search_) static_cast<void>(search_.send_to(out.bytes(), out.to.ip(), out.to.port()));
                    break;
                case Mapper::Output::Kind::http:
                    start_http(out);
                    break;
            }
        }
    }
    // What is to be sent, and told. May destroy this.
    void pump() {
        send();
        if (mapper_.state() == Mapper::State::closed) stop();
        timer_.at(mapper_.deadline());
        if (!mapper_.changed() || !on_change_) return;
        bool destroyed = false;
        bool* const outer = std::exchange(destroyed_, &destroyed);
        Function<void()> handler = std::move(on_change_);  // which may be replaced, and outlives what it destroys
        handler();
        if (destroyed) {
            if (outer != nullptr) *outer = true;
            return;
        }
        destroyed_ = outer;
        if (!on_change_) on_change_ = std::move(handler);
    }
    void due() {
        mapper_.advance(loop_.now());
        pump();
    }
    void control_ready(Ready) {
        std::byte room[1500];
        for (int i = 0; i < 16; ++i) {
            const auto size = control_.receive(room);
            if (!size) {
                if (size.error() != Errc::would_block) mapper_.refused(loop_.now());  // nobody listens there
                break;
            }
            mapper_.control(control_.peer_endpoint(), Bytes(room, *size), loop_.now());
        }
        pump();
    }
    void search_ready(Ready) {
        each_datagram(search_, [&](const Endpoint& from, Bytes datagram) { mapper_.found(from, datagram, loop_.now()); });
        pump();
    }
    void announcement_ready(Ready) {
        each_datagram(announcements_,
                      [&](const Endpoint& from, Bytes datagram) { mapper_.announced(unmapped(from.ip()), datagram, loop_.now()); });
        pump();
    }
    template <class F>
    static void each_datagram(Socket& socket, F f) {
        std::byte room[1500];
        for (int i = 0; i < 16; ++i) {
            Endpoint from;
            const auto size = socket.receive_from(room, from);
            if (!size && size.error() == Errc::too_large) continue;
            if (!size) break;
            f(from, Bytes(room, *size));
        }
    }

    // ---- One request over TCP at a time.

    void end_http() {
        http_watch_.stop();
        http_.close();
    }
    void start_http(const Mapper::Output& out) {
        end_http();
        request_ = out.text;
        sent_ = 0;
        answer_.clear();
        auto made = Socket::tcp(out.to.ip().family);
        if (!made) return fail_http(made.error());
        http_ = std::move(*made);
        if (out.from.family != Family::none)
            if (auto bound = http_.bind(out.from, 0); !bound) return fail_http(bound.error());
        if (auto connected = http_.connect(out.to.ip(), out.to.port()); !connected && connected.error() != Errc::would_block)
            return fail_http(connected.error());
        if (auto watched = http_watch_.start(http_.fd(), Ready::writable); !watched) fail_http(watched.error());
    }
    void fail_http(Error error) {
        end_http();
        mapper_.http(error, loop_.now());
    }
    void http_ready(Ready) {
        if (sent_ == 0)
            if (const Error error = http_.take_error()) return fail_http(error), pump();
        if (sent_ < request_.size()) {
            const auto sent = http_.send(TextView(request_.data() + sent_, request_.size() - sent_).bytes());
            if (!sent && sent.error() != Errc::would_block) return fail_http(sent.error()), pump();
            if (sent) sent_ += *sent;
            if (sent_ == request_.size()) http_watch_.change(Ready::readable);
            return;
        }
        char room[8192];
        for (;;) {
            const auto size = http_.receive({reinterpret_cast<std::byte*>(room), sizeof room});
            if (!size && size.error() == Errc::would_block) return;
            if (!size) return fail_http(size.error()), pump();
            if (answer_.size() + *size > 2 * XmlReader::size_max) return fail_http(Errc::too_large), pump();
            if (!answer_.append(room, *size)) return fail_http(Errc::out_of_memory), pump();
            upnp::HttpAnswer answer;
            const auto whole = upnp::read_http({answer_.data(), answer_.size()}, *size == 0, answer);
            if (!whole) return fail_http(whole.error()), pump();
            if (!*whole) continue;
            end_http();
            mapper_.http(std::move(answer), loop_.now());
            return pump();
        }
    }

    Loop& loop_;
    Mapper mapper_;
    Function<void()> on_change_;
    bool* destroyed_ = nullptr;
    Socket control_, search_, announcements_, http_;
    Loop::Watch control_watch_, search_watch_, announcement_watch_, http_watch_;
    Loop::Timer timer_;
    upnp::Request request_;
    std::size_t sent_ = 0;
    Array<char> answer_;
};

}  // namespace rejoin::inline v0_1::router
