// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/ip_helper.hpp>
#include <rejoin/network/netlink.hpp>
#include <rejoin/network/no_events.hpp>
#include <rejoin/network/polling.hpp>
#include <rejoin/network/route_socket.hpp>
#include <rejoin/os/bsd/routing_socket.hpp>
#include <rejoin/os/windows/ip_helper.hpp>

namespace rejoin::inline v0_1 {

/// The event source `Native` or, where the system does not let it open (some sandboxes, Android, gVisor), `Polling`. One a loop.
template <class Native>
class OrPolling {
public:
    explicit OrPolling(Loop& loop) : native_(Native::of(loop)), polling_(native_.error() ? &Polling::of(loop) : nullptr) {}
    static OrPolling& of(Loop& loop) { return loop.service<OrPolling>(); }

    const NetworkState& state() const { return polling_ != nullptr ? polling_->state() : native_.state(); }
    /// Tells `observer` of every change from now on, until it is unlinked or destroyed.
    void observe(NetworkObserver& observer) { polling_ != nullptr ? polling_->observe(observer) : native_.observe(observer); }
    /// Why the system's own source could not be opened, if so. `state().known` says whether polling does.
    Error error() const { return native_.error(); }
    /// Whether changes are looked for every ten seconds, because the system does not tell of them.
    bool polling() const { return polling_ != nullptr; }

private:
    Native& native_;
    Polling* polling_;
};

/// The event source of the system that is compiled for: `Netlink` on Linux, `RouteSocket` on macOS and the BSDs,
/// `IpHelper` on Windows.
#if defined(__linux__)
using SystemEvents = OrPolling<Netlink>;
#elif !defined(_WIN32)
using RouteSocket = RouteSocketOf<RoutingSocket, DnsWatch>;
using SystemEvents = OrPolling<RouteSocket>;
#else
using IpHelper = IpHelperOf<NetworkNotice, NetworkReader>;
using SystemEvents = OrPolling<IpHelper>;
#endif

}  // namespace rejoin::inline v0_1
