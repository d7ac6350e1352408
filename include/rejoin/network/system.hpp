// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/netlink.hpp>
#include <rejoin/network/no_events.hpp>

namespace rejoin::inline v0_1 {

/// The event source of the system that is compiled for: `Netlink` on Linux. Elsewhere none yet.
#if defined(__linux__)
using SystemEvents = Netlink;
#else
using SystemEvents = NoEvents;
#endif

}  // namespace rejoin::inline v0_1
