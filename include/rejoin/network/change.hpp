// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/function.hpp>
#include <rejoin/core/time.hpp>
#include <rejoin/network/state.hpp>

namespace rejoin::inline v0_1 {

/// One difference between two states of the network: the same on every system for the same happening.
struct NetworkChange {
    enum class Kind : std::uint8_t {
        interface_removed,
        interface_down,  ///< switched off; its carrier is then not reported apart
        carrier_down,    ///< still switched on, but its link is gone
        address_removed,
        address_unusable,    ///< another host has it, or it is being checked again
        address_deprecated,  ///< its preferred lifetime is over: connections that use it go on, and do well to move
        interface_added,
        interface_up,    ///< switched on; `carrier_up` follows when packets can pass
        carrier_up,      ///< packets can pass from now on
        address_added,   ///< `address_usable` follows when packets can be sent from it
        address_usable,  ///< packets can be sent from it from now on
        route_added,     ///< there is a route to the internet where there was none, for `family`
        route_changed,   ///< it leaves by another interface, through another gateway, or with another source address
        route_removed,
        active_interface_changed,  ///< another interface leads to the internet
        connectivity_lost,         ///< no route to the internet is left, by either family
        connectivity_regained,     ///< the first route to the internet is there
        dns_changed,               ///< the name servers, or their order
        external_address_changed,  ///< the address that the internet sees, for `family`: `ExternalAddress` tells
        woke,                      ///< the host was suspended, for `slept`
    };

    Kind kind = Kind::interface_added;
    /// Told as soon as it was noticed: what comes next may undo it.
    bool early = false;
    /// Told because it has held for `ChangeFeed::settle_time`.
    bool settled = false;
    /// It concerns only an interface that the system keeps for its own ends, over which no route to the internet leads.
    bool noise = false;
    /// Existing connections are probably dead or on the wrong path. Not so for a loss that touches link-local addresses alone, as
    /// containers that come and go make many. A connection asks `affects`.
    bool major = false;
    Family family = Family::none;       ///< of the address or the route
    std::uint32_t interface_index = 0;  ///< the interface in question; for routes the new one, or the old one if there is no new one
    Text<15> interface_name;
    IpAddress address;  ///< the address in question; for routes the source address
    IpAddress gateway;  ///< for routes
    /// Of `external_address_changed`: the address before (of family `none`: not known), and who said what it is now.
    IpAddress old_address;
    IpAddress server;
    std::uint16_t server_port = 0;
    /// Of `external_address_changed`: the local address that the internet sees at another one now. Of family `none` where no connection is
    /// hit: `address` is the first that is known, or that of a local address which leads to the internet now and did not before.
    IpAddress local_address;
    /// Of `external_address_changed`: the servers see different ones, so that a peer will see yet another (RFC 4787 §4.1).
    bool servers_disagree = false;
    Duration slept;  ///< of `woke`
    /// The states that were compared, this change and all others of the moment included. Valid for the duration of the call.
    const NetworkState* before = nullptr;
    const NetworkState* after = nullptr;

    /// Whether a connection between these two addresses is hit: its address is gone or unusable, its interface is gone, down or without
    /// carrier, or its packets go to the internet and took a route that was lost, moved away or got another gateway or another external
    /// address. A sleep hits everything but loopback. A peer in a prefix of the connection's own interface is reached without a route.
    /// Changes for the better hit nothing. Only during the call that delivers the change.
    [[gnu::cold]] bool affects(const IpAddress& local, const IpAddress& peer) const {
        if (before == nullptr || after == nullptr) return false;
        const IpAddress ip = unmapped(local);
        const std::uint32_t over = before->interface_of(ip);
        if (over == 0) return false;
        switch (kind) {
            case Kind::interface_removed:
            case Kind::interface_down:
            case Kind::carrier_down:
                return over == interface_index;
            case Kind::address_removed:
            case Kind::address_unusable:
            case Kind::address_deprecated:
                return same_address(ip, address);
            case Kind::route_changed:
            case Kind::route_removed:
            case Kind::active_interface_changed:
            case Kind::connectivity_lost: {
                if (ip.is_loopback() || (family != Family::none && family != ip.family) || before->on_link(over, peer)) return false;
                const Route& was = before->route_for(ip.family);
                const Route& is = after->route_for(ip.family);
                return was.present && was.interface_index == over && !(is.present && same_path(was, is));
            }
            case Kind::external_address_changed:
                return same_address(ip, local_address) && !before->on_link(over, peer);
            case Kind::woke:
                return !ip.is_loopback();
            default:
                return false;
        }
    }

    /// Whether what failed before may work now: there is a new way, or an old one is back.
    bool may_help() const {
        return kind == Kind::carrier_up || kind == Kind::address_added || kind == Kind::address_usable || kind == Kind::route_added ||
               kind == Kind::route_changed || kind == Kind::active_interface_changed || kind == Kind::connectivity_regained ||
               kind == Kind::dns_changed || kind == Kind::woke;
    }

    /// Whether packets take the same way by both: interface and gateway.
    static bool same_path(const Route& a, const Route& b) { return a.interface_index == b.interface_index && a.gateway == b.gateway; }
};

namespace detail {

// Looks for an element from where the last one was found: two lists in the same order are compared in one pass.
template <class T, class Same>
const T* find_from(std::size_t& at, const Array<T>& in, Same same) {
    for (std::size_t n = 0; n < in.size(); ++n) {
        const std::size_t i = (at + n) % in.size();
        if (!same(in[i])) continue;
        at = i + 1;
        return &in[i];
    }
    return nullptr;
}
inline const Interface* find_from(std::size_t& at, const Array<Interface>& in, const Interface& what) {
    return find_from(at, in, [&](const Interface& i) { return i.index == what.index; });
}
// Without the prefix length: an address that stays under another length has not gone.
inline const InterfaceAddress* find_from(std::size_t& at, const Array<InterfaceAddress>& in, const InterfaceAddress& what) {
    return find_from(at, in, [&](const InterfaceAddress& a) { return a.interface_index == what.interface_index && a.ip == what.ip; });
}

// One body, whoever asks: it is long.
[[gnu::cold]] inline void diff(const NetworkState& before, const NetworkState& after, Delegate<void(const NetworkChange&)> report) {
    using Kind = NetworkChange::Kind;
    const auto make = [&](Kind kind, std::uint32_t index, bool major) {
        NetworkChange change;
        change.kind = kind;
        change.major = major;
        change.interface_index = index;
        const Interface* named = after.find_interface(index);
        if (named == nullptr) named = before.find_interface(index);
        if (named != nullptr) change.interface_name = named->name;
        change.noise = named != nullptr && named->noise;
        for (const Route* r : {&before.route[0], &before.route[1], &after.route[0], &after.route[1]})
            if (r->present && r->interface_index == index) change.noise = false;
        if (change.noise) change.major = false;
        change.before = &before;
        change.after = &after;
        return change;
    };
    const auto report_interface_loss = [&](Kind kind, const Interface& lost) {
        bool major = false;
        for (const InterfaceAddress& a : before.addresses)
            major = major || (a.interface_index == lost.index && a.usable() && !a.ip.is_link_local());
        report(make(kind, lost.index, major));
    };
    const auto report_address = [&](Kind kind, const InterfaceAddress& a, const NetworkState& in, bool major) {
        if (in.find_address(a.interface_index, a.ip) != &a) return;  // listed before, with another prefix length
        NetworkChange change = make(kind, a.interface_index, major && !a.ip.is_link_local());
        change.family = a.ip.family;
        change.address = a.ip;
        report(change);
    };

    std::size_t at = 0;
    for (const Interface& was : before.interfaces) {
        const Interface* is = find_from(at, after.interfaces, was);
        if (is == nullptr)
            report_interface_loss(Kind::interface_removed, was);
        else if (was.up && !is->up)
            report_interface_loss(Kind::interface_down, was);
        else if (was.running() && !is->running())
            report_interface_loss(Kind::carrier_down, was);
    }
    at = 0;
    for (const InterfaceAddress& was : before.addresses) {
        const InterfaceAddress* is = find_from(at, after.addresses, was);
        if (is == nullptr)
            report_address(Kind::address_removed, was, before, was.usable());
        else if (was.usable() && !is->usable())
            report_address(Kind::address_unusable, was, before, true);
        else if (was.usable() && !was.deprecated && is->deprecated)
            report_address(Kind::address_deprecated, was, before, false);
    }
    at = 0;
    for (const Interface& is : after.interfaces) {
        const Interface* was = find_from(at, before.interfaces, is);
        if (was == nullptr) report(make(Kind::interface_added, is.index, false));
        if (is.up && !(was != nullptr && was->up)) report(make(Kind::interface_up, is.index, false));
        if (is.running() && !(was != nullptr && was->running())) report(make(Kind::carrier_up, is.index, false));
    }
    at = 0;
    for (const InterfaceAddress& is : after.addresses) {
        const InterfaceAddress* was = find_from(at, before.addresses, is);
        if (was == nullptr) report_address(Kind::address_added, is, after, false);
        if (is.usable() && !(was != nullptr && was->usable())) report_address(Kind::address_usable, is, after, false);
    }

    for (Family family : {Family::v4, Family::v6}) {
        const Route& was = before.route_for(family);
        const Route& is = after.route_for(family);
        if (!(was.present || is.present) || was == is) continue;
        const Route& shown = is.present ? is : was;
        NetworkChange change = make(!was.present  ? Kind::route_added
                                    : !is.present ? Kind::route_removed
                                                  : Kind::route_changed,
                                    shown.interface_index, was.present && !(is.present && NetworkChange::same_path(was, is)));
        change.family = family;
        change.address = shown.source;
        change.gateway = shown.gateway;
        report(change);
    }
    const std::uint32_t from = before.active_interface(), to = after.active_interface();
    if (from != 0 && to != 0 && from != to) report(make(Kind::active_interface_changed, to, true));
    if (before.connected() && !after.connected()) report(make(Kind::connectivity_lost, from, true));
    if (!before.connected() && after.connected()) report(make(Kind::connectivity_regained, to, false));
    bool same_dns = before.dns_servers.size() == after.dns_servers.size();
    for (std::size_t i = 0; same_dns && i < after.dns_servers.size(); ++i) same_dns = before.dns_servers[i] == after.dns_servers[i];
    if (!same_dns) report(make(Kind::dns_changed, 0, false));
}

}  // namespace detail

/// Calls `report(const NetworkChange&)` for each difference, in this order: interfaces lost, addresses lost, interfaces gained, addresses
/// gained, each as the states list them; routes, IPv4 before IPv6; the active interface and connectivity; name servers. Two states that
/// say the same make no call, whatever happened between them. `report` must leave both states as they are.
template <class Report>
[[gnu::cold]] void diff(const NetworkState& before, const NetworkState& after, Report&& report) {
    struct Call {
        void operator()(const NetworkChange& change) { to(change); }
        Report& to;
    } call{report};
    detail::diff(before, after, Delegate<void(const NetworkChange&)>::to<&Call::operator()>(&call));
}

namespace detail {

/// What `describe` says of a change: %i is for the interface, %a the address, %o the one before, %f the family, %g the gateway, %s the name
/// servers, %t the time asleep.
inline const char* sentence(const NetworkChange& change) {
    using Kind = NetworkChange::Kind;
    switch (change.kind) {
        case Kind::interface_removed:
            return "Interface %i is gone.";
        case Kind::interface_down:
            return "Interface %i was switched off.";
        case Kind::carrier_down:
            return "Interface %i lost its link.";
        case Kind::address_removed:
            return "Address %a was removed from %i.";
        case Kind::address_unusable:
            return "Address %a cannot be used any more on %i.";
        case Kind::address_deprecated:
            return "Address %a is not meant for new connections any more on %i.";
        case Kind::interface_added:
            return "Interface %i appeared.";
        case Kind::interface_up:
            return "Interface %i was switched on.";
        case Kind::carrier_up:
            return "Interface %i has a link.";
        case Kind::address_added:
            return "Address %a was added to %i.";
        case Kind::address_usable:
            return "Address %a can be used on %i.";
        case Kind::route_added:
            return "%f has a route to the internet by %i%g.";
        case Kind::route_changed:
            return "%f now goes to the internet by %i%g.";
        case Kind::route_removed:
            return "%f has no route to the internet any more; it went by %i.";
        case Kind::active_interface_changed:
            return "Interface %i now leads to the internet.";
        case Kind::connectivity_lost:
            return "There is no route to the internet any more.";
        case Kind::connectivity_regained:
            return "There is a route to the internet again, by %i.";
        case Kind::dns_changed:
            if (change.after == nullptr || change.after->dns_servers.empty()) return "No name server is known any more.";
            return "Names are now looked up at %s.";
        case Kind::external_address_changed:
            if (change.address.family == Family::none) return "%f has no known external address any more.";
            if (change.servers_disagree) return "%f looks different to each server; to one it is now %a%o.";
            return "%f is seen from outside as %a%o.";
        case Kind::woke:
            return "The host woke after %t s of sleep.";
    }
    return "";
}

}  // namespace detail

/// The change in one sentence for people.
[[gnu::cold]] inline Description describe(const NetworkChange& change) {
    Description text;
    const auto append = [&](TextView before, const IpAddress& ip) {
        if (ip.family != Family::none) text.append(before).append(to_text(ip));
    };
    for (const char* at = detail::sentence(change); *at != 0; ++at) {
        switch (*at == '%' ? *++at : 0) {
            case 'i':
                if (change.interface_name.empty())
                    text.append("number ").append_number(change.interface_index);
                else
                    text.append(change.interface_name);
                break;
            case 'a':
                text.append(to_text(change.address));
                break;
            case 'o':
                append("; it was ", change.old_address);
                break;
            case 'f':
                text.append(change.family == Family::v6 ? "IPv6" : "IPv4");
                break;
            case 'g':
                append(" through ", change.gateway);
                break;
            case 's':
                for (const IpAddress& server : change.after->dns_servers)
                    append(&server == change.after->dns_servers.begin() ? "" : ", ", server);
                break;
            case 't':
                text.append_number((change.slept.milliseconds() + 500) / 1000);
                break;
            default:
                text.append({at, 1});
        }
    }
    return text;
}

}  // namespace rejoin::inline v0_1
