// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/time.hpp>
#include <rejoin/network/state.hpp>

namespace rejoin::inline v0_1 {

/// Whether a route leads over a link that is dead: without carrier the systems keep the route, and the packets die.
inline bool leads_nowhere(const Route& route, const NetworkState& in) {
    const Interface* const by = in.find_interface(route.interface_index);
    return by != nullptr && !by->running();
}

/// Takes over the routes that a system says it takes. Just after a link has died, a route over it may be the answer although there is
/// another way: it is not believed at once, so that connectivity is not said to be lost and regained. Pure.
class RouteDoubt {
public:
    /// For so long a route that leads nowhere is not believed.
    static constexpr Duration patience = Duration::milliseconds(10);

    /// Makes `answer` the state's route for a family (none, where it leads nowhere), and returns true; or false while it is not believed:
    /// ask again after `patience`.
    [[gnu::cold]] bool take(const Route& answer, Family family, TimePoint now, NetworkState& state) {
        TimePoint& dead_since = dead_since_[family == Family::v6];
        const bool dead = leads_nowhere(answer, state);
        if (!dead || dead_since == TimePoint::never()) dead_since = dead ? now : TimePoint::never();
        if (dead && now - dead_since < patience) return false;
        state.route_for(family) = dead ? Route() : answer;
        return true;
    }

private:
    TimePoint dead_since_[2] = {TimePoint::never(), TimePoint::never()};
};

}  // namespace rejoin::inline v0_1
