// SPDX-License-Identifier: BSL-1.0
#pragma once

// `Firewall`: that of the host.
#include <rejoin/firewall/linux.hpp>

namespace rejoin::inline v0_1::firewall {

#if defined(__linux__)
using Firewall = LinuxFirewall;
#endif

}  // namespace rejoin::inline v0_1::firewall
