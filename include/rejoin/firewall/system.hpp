// SPDX-License-Identifier: BSL-1.0
#pragma once

// `Firewall`: that of the host.
#include <rejoin/firewall/bsd.hpp>
#include <rejoin/firewall/linux.hpp>
#include <rejoin/firewall/windows.hpp>

namespace rejoin::inline v0_1::firewall {

#if defined(__linux__)
using Firewall = LinuxFirewall;
#elif defined(_WIN32)
using Firewall = WindowsFirewall<windows::ComPolicy>;
#else
using Firewall = BsdFirewall;
#endif

}  // namespace rejoin::inline v0_1::firewall
