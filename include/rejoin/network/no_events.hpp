// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/feed.hpp>

namespace rejoin::inline v0_1 {

class Loop;

/// The event source that watches nothing, for pipes that want to know nothing of the network. An empty type: it costs nothing.
struct NoEvents {
    static NoEvents& of(Loop&) {
        static NoEvents none;
        return none;
    }
    /// Always empty and not `known`.
    const NetworkState& state() const {
        static const NetworkState unknown;
        return unknown;
    }
    /// Never calls it.
    void observe(NetworkObserver&) {}
    Error error() const { return {}; }
};

}  // namespace rejoin::inline v0_1
