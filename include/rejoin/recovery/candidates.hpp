// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/core/time.hpp>
#include <rejoin/network/state.hpp>

namespace rejoin::inline v0_1 {

/// The addresses of one name, and the order in which to try them: by RFC 8305 §4, both families in turn, beginning with the family that the
/// system puts first (RFC 6724). The last winner comes first; one that lost stands behind the others until its penalty is over, which
/// doubles with each loss. Pure: time comes in.
class Candidates {
public:
    /// A loser's first penalty, and the longest.
    static constexpr Duration penalty = Duration::seconds(1);
    static constexpr Duration penalty_max = Duration::seconds(60);

    /// Takes new addresses, in the system's order; what is known of those that stay is kept. False, and nothing has changed, when memory is
    /// out.
    [[gnu::cold]] bool set(const Array<IpAddress>& addresses) {
        Array<Candidate> fresh;
        if (!fresh.reserve(addresses.size())) return false;
        std::size_t at[2] = {};  // in each family
        Family turn = addresses.empty() ? Family::none : addresses[0].family;
        while (fresh.size() < addresses.size()) {
            std::size_t& i = at[turn == Family::v6];
            while (i < addresses.size() && addresses[i].family != turn) ++i;
            if (i < addresses.size()) fresh.push({addresses[i++], {}, 0, false});
            turn = turn == Family::v4 ? Family::v6 : Family::v4;
        }
        for (Candidate& candidate : fresh)
            if (const Candidate* known = find(candidate.ip)) candidate = *known;
        const bool had_winner = has_winner_;
        const IpAddress winner = had_winner ? all_[0].ip : IpAddress();
        all_ = std::move(fresh);
        has_winner_ = false;
        if (had_winner) won(winner);
        restart();
        return true;
    }
    bool empty() const { return all_.empty(); }
    std::size_t size() const { return all_.size(); }
    bool has(const IpAddress& ip) const { return const_cast<Candidates*>(this)->find(ip) != nullptr; }

    /// Begins a new round: each address may be tried again.
    void restart() {
        for (Candidate& candidate : all_) candidate.tried = false;
    }
    /// Whether each address has been tried in this round.
    bool round_over() const {
        for (const Candidate& candidate : all_)
            if (!candidate.tried) return false;
        return true;
    }
    /// The address to try next; of family none when there is none at all. Begins a new round where one is over.
    IpAddress next(TimePoint now) {
        if (round_over()) restart();
        Candidate* best = nullptr;
        for (Candidate& candidate : all_) {
            if (candidate.tried) continue;
            if (best == nullptr || (best->penalised(now) && candidate.behind_until < best->behind_until)) best = &candidate;
        }
        if (best == nullptr) return {};
        best->tried = true;
        return best->ip;
    }

    /// This one failed.
    void lost(const IpAddress& ip, TimePoint now) {
        Candidate* candidate = find(ip);
        if (candidate == nullptr) return;
        Duration longer = penalty * (std::int64_t{1} << candidate->losses);
        if (candidate->losses < 6) ++candidate->losses;
        candidate->behind_until = now + (longer < penalty_max ? longer : penalty_max);
    }
    /// This one serves: it is the first from now on.
    void won(const IpAddress& ip) {
        Candidate* candidate = find(ip);
        if (candidate == nullptr) return;
        Candidate winner = *candidate;
        winner.losses = 0;
        winner.behind_until = {};
        for (; candidate != all_.begin(); --candidate) *candidate = candidate[-1];
        all_[0] = winner;
        has_winner_ = true;
    }

private:
    struct Candidate {
        IpAddress ip;
        TimePoint behind_until;
        std::uint8_t losses;
        bool tried;
        bool penalised(TimePoint now) const { return behind_until > now; }
    };
    Candidate* find(const IpAddress& ip) {
        for (Candidate& candidate : all_)
            if (candidate.ip == ip) return &candidate;
        return nullptr;
    }

    Array<Candidate> all_;
    bool has_winner_ = false;
};

/// The `n`th interface, from 0, by which `peer` may be reached beside the one that the system's route takes, in the state's order: it runs,
/// and has an address of the peer's family that is usable, preferred and good beyond its link. 0 when there is none. Never one when the
/// route leads through a tunnel, whose user wants nothing to go beside it, nor to a peer that only its own link reaches. Pure.
[[gnu::cold]] inline std::uint32_t other_interface(const NetworkState& network, const IpAddress& peer, std::size_t n) {
    const IpAddress to = unmapped(peer);
    const Route& route = network.route_for(to.family);
    const Interface* const usual = route.present ? network.find_interface(route.interface_index) : nullptr;
    if (to.is_loopback() || to.is_link_local() || (usual != nullptr && usual->point_to_point)) return 0;
    for (const Interface& i : network.interfaces)
        if (network.on_link(i.index, to)) return 0;
    for (const Interface& i : network.interfaces) {
        if (&i == usual || !i.running() || i.loopback || i.noise || i.point_to_point) continue;
        for (const InterfaceAddress& a : network.addresses) {
            if (a.interface_index != i.index || a.ip.family != to.family || !a.usable() || a.deprecated || a.ip.is_link_local()) continue;
            if (n-- == 0) return i.index;
            break;
        }
    }
    return 0;
}

}  // namespace rejoin::inline v0_1
