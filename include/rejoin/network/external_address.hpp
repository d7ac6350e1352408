// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/feed.hpp>
#include <rejoin/os/entropy.hpp>
#include <rejoin/os/resolver.hpp>
#include <rejoin/os/socket.hpp>
#include <rejoin/stun/client.hpp>

namespace rejoin::inline v0_1 {

/// How a NAT on the way treats one local port, as far as the answers of several servers show (RFC 5780 §4.3).
enum class NatMapping : std::uint8_t {
    unknown,  ///< fewer than two servers have answered
    same,     ///< every server sees the same address and port: endpoint-independent, or no NAT at all
    differs,  ///< servers see different ones: address- or port-dependent ("symmetric"); peers cannot be told where to send to
};

/// Where the packets of one local address seem to come from.
struct External {
    IpAddress address;       ///< of family `none` while nothing is known
    std::uint16_t port = 0;  ///< the port of the last look-up's mapping; each look-up has another
    Endpoint server;         ///< the first server that said so
    NatMapping mapping = NatMapping::unknown;
    /// Why the last look-up brought nothing, if so: what was known before stays known. `invalid_state`: none is through yet;
    /// `address_lost`: no usable local address or no route; `unsupported`: no server of the family, or it refused; `timed_out`: none
    /// answered; or the system's or the resolver's error.
    Error error = Errc::invalid_state;
};

namespace detail {

/// What the servers say together: the address that most of them see; of as many, the one that was `known`, else the one of the server
/// listed first. Pure.
struct ExternalVote {
    const stun::Transaction* winner = nullptr;  ///< the first in the list that says so; null when nobody answered
    int answers = 0;
    bool disagree = false;  ///< about the address or the port
};
inline ExternalVote count_votes(std::span<const stun::Transaction> asked, const IpAddress& known) {
    ExternalVote vote;
    int most = 0;
    for (const stun::Transaction& t : asked) {
        if (t.state() != stun::Transaction::State::answered) continue;
        ++vote.answers;
        int same = 0;
        for (const stun::Transaction& other : asked) {
            if (other.state() != stun::Transaction::State::answered) continue;
            if (other.mapped().ip() == t.mapped().ip()) ++same;
            if (!(other.mapped() == t.mapped())) vote.disagree = true;
        }
        if (same > most || (same == most && t.mapped().ip() == known && !(vote.winner->mapped().ip() == known))) {
            most = same;
            vote.winner = &t;
        }
    }
    return vote;
}

}  // namespace detail

/// An event source that adds the external address to any other: it passes on every change of `E`, and asks STUN servers where the host's
/// packets seem to come from, in rounds: when the servers are set, after every change that is major or may help, after waking, and at
/// an interval. `external_address_changed` is told when a family's external address is known for the first time (`old_address` is of
/// family `none`) and whenever it or that of another local address is another than before; never for a round that found the same or
/// nothing. Belongs to the loop's thread; `SystemEvents`, `Scripted` and `NoEvents` will do, as any other event source will.
///
///     using Events = ExternalAddress<SystemEvents>;
///     Events::of(loop).set_servers(servers);
///     Pipe<Events, Resumable<Tcp>, Persistent> pipe{loop};
///
/// A round asks all servers from one socket for each local address: the source of the route to the internet of each family, and every
/// other usable address that is neither loopback nor link-local, of an interface that runs, as long as its family has a route. Where
/// the network is not `known`, the system chooses. What counts is said by most of the servers that answer, at the latest half an RTO
/// after the first. Datagrams from elsewhere, or without the random id of a request under way, change nothing.
template <class E>
class ExternalAddress {
public:
    static constexpr std::size_t servers_max = 8;
    static constexpr std::size_t local_addresses_max = 8;  ///< further ones are not asked for

    struct Options {
        /// From the start of one round to the next, when nothing changes here. What changes behind a router alone (a provider's new
        /// address, once a day or rarer) is noticed within it; a host on battery wakes for it 12 times an hour. A server that has not
        /// answered when the next round starts has timed out. `Duration::unlimited()`: only after changes.
        Duration interval = Duration::seconds(300);
        /// From a change to the round that it causes: changes come in showers, and routes a moment after addresses. Such rounds begin
        /// five times as far apart, or further.
        Duration after_change = Duration::milliseconds(100);
        /// A request that is not answered is repeated after this, then after twice as long and so on: `stun::Transaction`.
        Duration rto = stun::Transaction::default_rto;
    };

    /// Use `of`, so that a loop has one.
    explicit ExternalAddress(Loop& loop)
        : loop_(loop),
          events_(E::of(loop)),
          observer_(Delegate<void(const NetworkChange&)>::to<&ExternalAddress::changed>(this)),
          timer_(loop, Delegate<void()>::to<&ExternalAddress::due>(this)) {
        events_.observe(observer_);
    }
    ExternalAddress(const ExternalAddress&) = delete;
    ~ExternalAddress() {
        for (Local* local : locals_) delete local;
    }
    /// The one of this loop, made when first asked for. Lives as long as the loop.
    static ExternalAddress& of(Loop& loop) { return loop.service<ExternalAddress>(); }

    const NetworkState& state() const { return events_.state(); }
    /// Tells `observer` of every change from now on, until it is unlinked or destroyed.
    void observe(NetworkObserver& observer) { observers_.add(observer); }
    /// Why `E` cannot watch, if so. (Why no external address is known: `external`.)
    Error error() const { return events_.error(); }

    /// Asks these servers from now on, beginning in the next turn; none ends it. They are copied; names are resolved in every round. What
    /// is known stays. Several operators' servers are better than several of one: the majority is believed, and a mapping
    /// that depends on the address shows only between addresses. `too_large`: more than `servers_max`; `invalid_argument`: one is not
    /// valid or has port 0, or the `rto` is not positive or longer than the `interval`.
    Result<void> set_servers(std::span<const Endpoint> servers, const Options& options = {}) {
        if (servers.size() > servers_max) return Errc::too_large;
        for (const Endpoint& server : servers)
            if (!server.valid() || server.port() == 0) return Errc::invalid_argument;
        if (options.rto <= Duration() || options.interval < options.rto || options.after_change < Duration()) return Errc::invalid_argument;
        for (Server& server : servers_) server.forget();
        for (std::size_t i = 0; i < servers.size(); ++i) servers_[i].endpoint = servers[i];
        options_ = options;
        server_count_ = servers.size();
        round_at_ = server_count_ != 0 ? loop_.now() : TimePoint::never();
        for (Local* local : locals_) {
            local->close();
            local->through = true;
        }
        arm();
        return {};
    }

    /// The external address of a family: that of the local address by which its route leads to the internet. Holds until the loop goes on.
    const External& external(Family family) const {
        const Local* local = leading(family);
        return local != nullptr ? local->external : family == Family::v6 ? nowhere_[1] : nowhere_[0];
    }
    /// The external address of a local one, or null when that is none that is asked for. Holds until the loop goes on.
    const External* external(const IpAddress& local_address) const {
        for (const Local* local : locals_)
            if (same_address(local->ip, unmapped(local_address))) return &local->external;
        return nullptr;
    }

private:
    using Transaction = stun::Transaction;

    // A server, and what its name was last resolved to.
    struct Server {
        ExternalAddress* owner = nullptr;
        Endpoint endpoint;
        IpAddress resolved[2];
        Error error;
        Resolver::Query query{Delegate<void(Resolver::Answer&&)>::template to<&Server::answered>(this)};

        const IpAddress& address(Family family) const {
            if (endpoint.name() != nullptr) return resolved[family == Family::v6];
            static constexpr IpAddress none;
            return endpoint.ip().family == family ? endpoint.ip() : none;
        }
        void forget() {
            query.cancel();
            endpoint = {};
            resolved[0] = resolved[1] = {};
            error = {};
        }
        void answered(Resolver::Answer&& answer) {
            error = answer.error();
            if (answer)
                for (Family family : {Family::v4, Family::v6}) {
                    IpAddress& to = resolved[family == Family::v6];
                    to = {};
                    for (const IpAddress& ip : *answer)
                        if (ip.family == family && to.family == Family::none) to = ip;
                }
            owner->go_on();
        }
    };

    // A local address, and the look-up from it. The socket is open while that is under way.
    struct Local {
        Local(ExternalAddress& o, const IpAddress& i, std::uint32_t index)
            : owner(o), ip(i), interface_index(index), watch(o.loop_, Delegate<void(Ready)>::template to<&Local::readable>(this)) {}

        void close() {
            watch.stop();
            socket.close();
            for (Transaction& transaction : transactions) transaction = {};
        }
        void readable(Ready) {
            std::byte buffer[1500];  // no answer to a request of 28 bytes is longer
            Endpoint from;
            for (int n = 0; n < 16 && socket; ++n) {  // however many come, others get their turn
                const auto size = socket.receive_from(buffer, from);
                if (!size && size.error() == Errc::would_block) break;
                if (!size) continue;
                for (Transaction& transaction : transactions)
                    if (transaction.receive(from, {buffer, *size}) && transaction.state() == Transaction::State::answered &&
                        transaction.mapped().ip().family != ip.family)
                        transaction.fail(Errc::unsupported);  // a translator's IPv4 address is not this family's
            }
            owner.go_on();
        }

        ExternalAddress& owner;
        const IpAddress ip;
        std::uint32_t interface_index;
        bool wanted = true;
        bool through = false;  // the round is, for this one
        External external;
        Error send_error;  // the system did not take the last request
        TimePoint decide_at = TimePoint::never();
        Socket socket;
        Loop::Watch watch;  // after the socket: it stops before that is closed
        Transaction transactions[servers_max];
    };

    void changed(const NetworkChange& change) {
        if (server_count_ != 0 && change.early && !change.noise && (change.major || change.may_help())) {
            TimePoint at = loop_.now() + options_.after_change;
            if (at < last_round_ + options_.after_change * 5) at = last_round_ + options_.after_change * 5;
            if (at < round_at_) round_at_ = at;
            arm();
        }
        observers_.publish(change);
    }

    void due() {
        if (loop_.now() >= round_at_) begin_round();
        go_on();
    }

    void begin_round() {
        const TimePoint now = loop_.now();
        for (Local* local : locals_)  // the interval is shorter than some server's silence
            if (!local->through && now >= last_round_ + options_.interval)
                finish(*local, local->decide_at == TimePoint::never() ? Errc::timed_out : Errc::ok);
        last_round_ = now;
        round_at_ = now + options_.interval;
        choose_locals();
        for (Local* local : locals_) open(*local);
        for (std::size_t i = 0; i < server_count_; ++i) {
            servers_[i].owner = this;
            if (servers_[i].endpoint.name() == nullptr) continue;
            if (auto started = servers_[i].query.start(Resolver::of(loop_), servers_[i].endpoint.name()); !started)
                servers_[i].error = started.error();
        }
    }

    // Brings `locals_` up to date: those that lead to the internet first, then as the state lists them.
    void choose_locals() {
        for (Local* local : locals_) local->wanted = false;
        const NetworkState& now = state();
        for (Family family : {Family::v4, Family::v6}) {
            IpAddress any;
            any.family = family;
            const Route& route = now.route_for(family);
            nowhere_[family == Family::v6].error = Errc::address_lost;
            if (!now.known)
                want(any, 0);
            else if (route.present && !route.source.is_unspecified() && !route.source.is_link_local())
                want(route.source, route.interface_index);
        }
        for (const InterfaceAddress& a : now.addresses) {
            const Interface* by = now.find_interface(a.interface_index);
            if (now.known && a.usable() && !a.ip.is_loopback() && !a.ip.is_link_local() && by != nullptr && by->running() && !by->noise &&
                now.route_for(a.ip.family).present)
                want(a.ip, a.interface_index);
        }
        for (std::size_t i = locals_.size(); i-- > 0;) {
            if (locals_[i]->wanted) continue;
            delete locals_[i];
            locals_.erase(i);
        }
    }
    void want(const IpAddress& ip, std::uint32_t interface_index) {
        std::size_t wanted = 0;
        for (Local* local : locals_) {
            if (local->ip == ip && !std::exchange(local->wanted, true)) local->interface_index = interface_index;
            if (local->ip == ip) return;
            if (local->wanted) ++wanted;
        }
        if (wanted >= local_addresses_max) return;
        auto* local = new (std::nothrow) Local(*this, ip, interface_index);
        if (local != nullptr && !locals_.push(local)) delete local;
    }

    // A new socket for each round: a port that answers of before do not find, nor those who have seen it.
    void open(Local& local) {
        local.close();
        local.through = false;
        local.decide_at = TimePoint::never();
        local.send_error = {};
        auto socket = Socket::udp(local.ip.family);
        if (socket) {
            local.socket = std::move(*socket);
            Result<void> ready = local.socket.bind(local.ip, 0);
            if (ready) ready = local.watch.start(local.socket.fd(), Ready::readable);
            if (ready) return;
            socket = ready.error();
        }
        finish(local, socket.error());
    }

    // Asks whom there is to ask, hears what there is to be heard, and says when it has to be called again.
    void go_on() {
        for (Local* local : locals_) {
            if (local->through) continue;
            bool waiting = false;
            for (std::size_t i = 0; i < server_count_; ++i) {
                ask(*local, local->transactions[i], servers_[i]);
                waiting = waiting || local->transactions[i].state() == Transaction::State::running || servers_[i].query.busy();
            }
            judge(*local, waiting);
        }
        arm();
    }

    void ask(Local& local, Transaction& transaction, const Server& server) {
        const IpAddress& to = server.address(local.ip.family);
        if (transaction.state() == Transaction::State::idle && to.family != Family::none) {
            stun::TransactionId id;
            if (auto random = entropy(id.bytes))
                transaction.start(id, {to, server.endpoint.port()}, loop_.now(), options_.rto);
            else
                transaction.fail(random.error());
        }
        if (!transaction.advance(loop_.now())) return;
        const auto request = stun::encode_request(transaction.id());  // 28 bytes, which always fit
        const auto sent = local.socket.send_to(*request, transaction.server().ip(), transaction.server().port());
        // A route may be missing for a moment: the request is repeated in any case.
        local.send_error = sent.error() == Errc::would_block ? Error() : sent.error();
    }

    void judge(Local& local, bool waiting) {
        const detail::ExternalVote vote = detail::count_votes({local.transactions, server_count_}, local.external.address);
        if (vote.answers != 0 && local.decide_at == TimePoint::never()) local.decide_at = loop_.now() + options_.rto / 2;
        if (waiting && loop_.now() < local.decide_at) return;
        IpAddress before = local.external.address;
        if (vote.winner != nullptr) {
            const IpAddress& now = vote.winner->mapped().ip();
            if (vote.answers > 1)
                local.external.mapping = vote.disagree ? NatMapping::differs : NatMapping::same;
            else if (!(now == before))
                local.external.mapping = NatMapping::unknown;
            local.external.address = now;
            local.external.port = vote.winner->mapped().port();
            local.external.server = vote.winner->server();
            local.external.error = {};
        }
        if (!waiting) finish(local, vote.winner != nullptr ? Error() : failure(local));
        if (vote.winner == nullptr) return;

        const bool moved = before.family != Family::none && !(before == local.external.address);
        IpAddress& told = told_[local.ip.family == Family::v6];
        if (&local == leading(local.ip.family)) {
            before = std::exchange(told, local.external.address);
            if (before == told) return;
        } else if (!moved) {
            return;
        }
        NetworkChange change;
        change.kind = NetworkChange::Kind::external_address_changed;
        change.early = change.settled = true;
        change.major = moved;
        change.family = local.ip.family;
        change.interface_index = local.interface_index;
        if (const Interface* by = state().find_interface(local.interface_index)) change.interface_name = by->name;
        if (moved) change.local_address = local.ip;
        change.old_address = before;
        change.address = local.external.address;
        change.server = local.external.server.ip();
        change.server_port = local.external.server.port();
        change.servers_disagree = vote.disagree;
        change.before = change.after = &state();
        observers_.publish(change);
    }
    Error failure(const Local& local) const {
        Error error = local.send_error;
        for (std::size_t i = 0; i < server_count_ && !error; ++i) error = local.transactions[i].error();
        for (std::size_t i = 0; i < server_count_ && !error; ++i) error = servers_[i].error;
        return error ? error : Errc::unsupported;
    }
    void finish(Local& local, Error error) {
        local.external.error = error;
        local.through = true;
        local.close();
    }

    // The local address by which the family's route leads. Where the system does not say: one of that interface, or the one it chooses.
    const Local* leading(Family family) const {
        const Route& route = state().route_for(family);
        const Local* any = nullptr;
        for (const Local* local : locals_) {
            if (local->ip.family != family) continue;
            if (local->ip == route.source) return local;
            if (any == nullptr &&
                (local->ip.is_unspecified() || (route.source.is_unspecified() && local->interface_index == route.interface_index)))
                any = local;
        }
        return any;
    }

    // Sets the one timer to what comes first.
    void arm() {
        TimePoint next = round_at_;
        const auto sooner = [&](TimePoint t) { next = t < next ? t : next; };
        for (const Local* local : locals_) {
            if (local->through) continue;
            for (const Transaction& transaction : local->transactions) sooner(transaction.due());
            if (local->decide_at > loop_.now()) sooner(local->decide_at);
        }
        timer_.at(next);
    }

    Loop& loop_;
    E& events_;
    ObserverList observers_;
    NetworkObserver observer_;
    Loop::Timer timer_;
    Options options_;
    Server servers_[servers_max];
    std::size_t server_count_ = 0;
    Array<Local*> locals_;
    External nowhere_[2];  // of a family that has no local address
    IpAddress told_[2];    // the external address that the observers know of, for each family
    TimePoint last_round_, round_at_ = TimePoint::never();
};

}  // namespace rejoin::inline v0_1
