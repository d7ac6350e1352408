// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/dns_watch.hpp>
#include <rejoin/network/proc_reader.hpp>
#include <rejoin/network/route_message.hpp>
#include <rejoin/network/state.hpp>
#include <rejoin/os/source_address.hpp>

#if !defined(_WIN32)
#include <ifaddrs.h>
#include <net/if.h>

namespace rejoin::inline v0_1 {

/// Reads what a POSIX system says of its network when it is asked: getifaddrs(3), and which source address it gives a socket. What that
/// does not tell is left out: gateways, and outside Linux what becomes of IPv6 addresses. Belongs to the loop's thread.
class NetworkReader {
public:
    /// `touched` is called when there is something new to read that makes itself heard: the name servers.
    NetworkReader(Loop& loop, Delegate<void()> touched) : dns_(loop, touched) {}

    /// Fills an empty state, and makes it `known`. The error is the system's.
    Result<void> read(NetworkState& to) {
        auto interfaces = read_interfaces(to);
        // Where netlink is forbidden altogether the C library cannot list them either; Linux' files may still do.
        if (!interfaces && !read_proc_interfaces(to)) return interfaces;
        mark_proc_addresses(to);
        to.route[0] = route_to(internet_v4, to);
        to.route[1] = route_to(internet_v6, to);
        dns_.read(to);
        to.known = true;
        return {};
    }

private:
    [[gnu::cold]] static Result<void> read_interfaces(NetworkState& to) {
        ifaddrs* list = nullptr;
        if (::getifaddrs(&list) != 0) return Error::system(errno);
        bool stored = true;
        for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
            Text<15> name;
            for (const char* c = at->ifa_name; *c != 0 && *c != ':'; ++c) name.append(TextView(c, 1));  // without an IPv4 label
            Interface i;
            i.index = ::if_nametoindex(name.c_str());
            if (i.index == 0) continue;  // it went meanwhile
            i.name = name;
            i.up = (at->ifa_flags & IFF_UP) != 0;
            i.carrier = (at->ifa_flags & IFF_RUNNING) != 0;
            i.loopback = (at->ifa_flags & IFF_LOOPBACK) != 0;
            i.point_to_point = (at->ifa_flags & IFF_POINTOPOINT) != 0;
#if defined(__APPLE__)
            i.noise = noise_interface(name);
#endif
            stored = to.put(i) && stored;
            InterfaceAddress address;
            address.interface_index = i.index;
            address.ip = ip_of(at->ifa_addr);
            if (address.ip.family == Family::none) continue;
            if (address.ip.family == Family::v6 && address.ip.is_link_local()) address.ip.scope = i.index;
            address.prefix_length = prefix_length(at->ifa_netmask, address.ip.family);
            stored = to.put(address) && stored;
        }
        ::freeifaddrs(list);
        if (!stored) return Errc::out_of_memory;
        return {};
    }
    static IpAddress ip_of(const sockaddr* from) {
        IpAddress ip;
        if (from == nullptr) return ip;
        if (from->sa_family == AF_INET) {
            ip.family = Family::v4;
            std::memcpy(ip.bytes, &reinterpret_cast<const sockaddr_in*>(from)->sin_addr, 4);
        } else if (from->sa_family == AF_INET6) {
            ip.family = Family::v6;
            std::memcpy(ip.bytes, &reinterpret_cast<const sockaddr_in6*>(from)->sin6_addr, 16);
            // The KAME stacks show the scope inside the address (RFC 4007 does not).
            if (ip.is_link_local()) ip.bytes[2] = ip.bytes[3] = 0;
        }
        return ip;
    }
    // A netmask's own family may not be set.
    static std::uint8_t prefix_length(const sockaddr* mask, Family family) {
        std::uint8_t bytes[16] = {};
        if (mask == nullptr) return family == Family::v4 ? 32 : 128;
        if (family == Family::v4)
            std::memcpy(bytes, &reinterpret_cast<const sockaddr_in*>(mask)->sin_addr, 4);
        else
            std::memcpy(bytes, &reinterpret_cast<const sockaddr_in6*>(mask)->sin6_addr, 16);
        std::uint8_t length = 0;
        for (const std::uint8_t byte : bytes) {
            for (int bit = 7; bit >= 0 && (byte >> bit & 1) != 0; --bit) ++length;
            if (byte != 0xff) break;
        }
        return length;
    }
    // The route that packets would take now, as far as their source tells it.
    [[gnu::cold]] static Route route_to(const IpAddress& destination, const NetworkState& in) {
        Route route;
        route.source = source_address(destination);
        route.interface_index = in.interface_of(route.source);
        const Interface* const by = in.find_interface(route.interface_index);
        if (by == nullptr || !by->running() || by->loopback) return {};
        route.present = true;
        return route;
    }

    DnsWatch dns_;
};

}  // namespace rejoin::inline v0_1
#endif
