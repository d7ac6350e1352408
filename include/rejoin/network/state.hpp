// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <cstring>
#include <rejoin/core/address.hpp>
#include <rejoin/core/array.hpp>
#include <rejoin/core/text.hpp>

namespace rejoin::inline v0_1 {

/// One network interface of the host.
struct Interface {
    std::uint32_t index = 0;  ///< the system's number for it; never 0
    Text<15> name;            ///< as the system shows it
    bool up = false;          ///< switched on by whoever runs the host
    bool carrier = false;     ///< its link is there: the cable, the radio, the other end
    bool loopback = false;
    bool point_to_point = false;  ///< a tunnel, a modem: what the system leads there is meant to go nowhere else
    bool noise = false;  ///< made by the system for its own ends (macOS: awdl, llw, anpi, utun …): it comes and goes without meaning

    /// Whether packets can pass.
    bool running() const { return up && carrier; }
};

/// One address of one interface.
struct InterfaceAddress {
    std::uint32_t interface_index = 0;
    IpAddress ip;  ///< a link-local IPv6 address has the interface as its scope
    std::uint8_t prefix_length = 0;
    bool tentative = false;   ///< still being checked for another owner (RFC 4862 §5.4)
    bool duplicate = false;   ///< the check found one
    bool deprecated = false;  ///< its preferred lifetime is over: fit for old connections, not for new ones (RFC 4862 §5.5.4)
    bool temporary = false;   ///< made up for a day or so, for privacy (RFC 8981)

    /// Whether packets can be sent from it.
    bool usable() const { return !tentative && !duplicate; }

    friend bool operator==(const InterfaceAddress&, const InterfaceAddress&) = default;
};

/// Where the system sends a packet. All zero when it has nowhere to send it.
struct Route {
    bool present = false;
    std::uint32_t interface_index = 0;  ///< the interface it leaves by
    IpAddress gateway;                  ///< the next router; of family `none` when the destination is on the link
    IpAddress source;                   ///< the local address that the system picks for it; may be of family `none`

    friend bool operator==(const Route&, const Route&) = default;
};

/// The routes to these stand for the routes to the internet. They are looked up and never sent to.
inline constexpr IpAddress internet_v4 = IpAddress::v4(8, 8, 8, 8);
inline constexpr IpAddress internet_v6 = {{0x20, 0x01, 0x48, 0x60, 0x48, 0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0x88, 0x88}, 0, Family::v6};

/// What a host's network looks like at one moment. Compare two of them with `diff`.
struct NetworkState {
    Array<Interface> interfaces;
    Array<InterfaceAddress> addresses;
    Array<IpAddress> dns_servers;  ///< the name servers, in the system's order
    Route route[2];                ///< the routes really taken to the internet: IPv4, IPv6. `route_for` picks one
    bool known = false;            ///< false while nobody has looked: then the rest is empty, and says nothing

    /// How many name servers are kept: more than any system asks.
    static constexpr std::size_t dns_servers_max = 8;

    /// The route to the internet for `family`; for `none`, the IPv4 one.
    Route& route_for(Family family) { return route[family == Family::v6]; }
    const Route& route_for(Family family) const { return route[family == Family::v6]; }

    /// Whether there is a route to the internet, by either family.
    bool connected() const { return route[0].present || route[1].present; }
    /// Whether it is certain that there is none, so that an attempt would be wasted.
    bool offline() const { return known && !connected(); }
    /// The interface that leads to the internet, by IPv4 if it can; 0 when there is none.
    std::uint32_t active_interface() const {
        for (const Route& r : route)
            if (r.present) return r.interface_index;
        return 0;
    }

    /// The interface, or null. The pointer holds until the state changes.
    const Interface* find_interface(std::uint32_t index) const {
        for (const Interface& i : interfaces)
            if (i.index == index) return &i;
        return nullptr;
    }
    /// The interface's entry for an address, or null. The pointer holds until the state changes.
    const InterfaceAddress* find_address(std::uint32_t interface_index, const IpAddress& ip) const {
        for (const InterfaceAddress& a : addresses)
            if (a.interface_index == interface_index && a.ip == ip) return &a;
        return nullptr;
    }
    /// The interface that a local address belongs to, or 0. An IPv4 address may come mapped into IPv6 (RFC 4291 §2.5.5.2), as a socket
    /// for both families has it; every loopback address belongs to the loopback interface; a link-local one without a scope, to the
    /// first interface that has it.
    std::uint32_t interface_of(const IpAddress& local) const;
    /// Whether packets to `peer` need no router when they leave by that interface: it lies in the prefix of one of its addresses.
    bool on_link(std::uint32_t interface_index, const IpAddress& peer) const;

    /// Adds an interface or an address, or replaces what was known of it; false when memory is out, and nothing has changed.
    [[gnu::cold]] bool put(const Interface& interface_) {
        for (Interface& i : interfaces)
            if (i.index == interface_.index) {
                i = interface_;
                return true;
            }
        return interfaces.push(interface_);
    }
    [[gnu::cold]] bool put(const InterfaceAddress& address) {
        for (InterfaceAddress& a : addresses)
            if (same_entry(a, address)) {
                a = address;
                return true;
            }
        return addresses.push(address);
    }
    /// Removes an interface, with its addresses. What is not there is not missed.
    [[gnu::cold]] void remove_interface(std::uint32_t index) {
        for (std::size_t i = interfaces.size(); i-- > 0;)
            if (interfaces[i].index == index) interfaces.erase(i);
        for (std::size_t i = addresses.size(); i-- > 0;)
            if (addresses[i].interface_index == index) addresses.erase(i);
    }
    /// Removes the address of that interface and prefix length: the same one may stay under another length.
    [[gnu::cold]] void remove(const InterfaceAddress& address) {
        for (std::size_t i = addresses.size(); i-- > 0;)
            if (same_entry(addresses[i], address)) addresses.erase(i);
    }

    /// Becomes a copy of `other`; false when memory is out, and then without the whole of it.
    [[gnu::cold]] bool copy_from(const NetworkState& other) {
        route[0] = other.route[0];
        route[1] = other.route[1];
        known = other.known;
        return interfaces.copy_from(other.interfaces) && addresses.copy_from(other.addresses) && dns_servers.copy_from(other.dns_servers);
    }

private:
    static bool same_entry(const InterfaceAddress& a, const InterfaceAddress& b) {
        return a.interface_index == b.interface_index && a.prefix_length == b.prefix_length && a.ip == b.ip;
    }
};

/// Whether both are the same address. A link-local one without a scope is the same as one with any.
inline bool same_address(IpAddress a, const IpAddress& b) {
    if (a.scope == 0 || b.scope == 0) a.scope = b.scope;
    return a == b;
}

inline std::uint32_t NetworkState::interface_of(const IpAddress& local) const {
    const IpAddress ip = unmapped(local);
    for (const InterfaceAddress& a : addresses)
        if (same_address(a.ip, ip)) return a.interface_index;
    if (ip.is_loopback())
        for (const Interface& i : interfaces)
            if (i.loopback) return i.index;
    return 0;
}

inline bool NetworkState::on_link(std::uint32_t interface_index, const IpAddress& peer) const {
    const IpAddress ip = unmapped(peer);
    for (const InterfaceAddress& a : addresses) {
        if (a.interface_index != interface_index || a.ip.family != ip.family) continue;
        const std::size_t whole = a.prefix_length / 8, rest = a.prefix_length % 8;
        if (whole > ip.size() || (whole == ip.size() && rest != 0) || std::memcmp(a.ip.bytes, ip.bytes, whole) != 0) continue;
        if (rest == 0 || (a.ip.bytes[whole] ^ ip.bytes[whole]) >> (8 - rest) == 0) return true;
    }
    return false;
}

}  // namespace rejoin::inline v0_1
