// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/if_inet6.hpp>
#include <rejoin/os/posix/file.hpp>

#if defined(__linux__)
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstdlib>

namespace rejoin::inline v0_1 {

namespace detail {

// Calls `use(TextView)` with the first 64 KiB of a file: some hundreds of lines. False when it cannot be read.
template <class Use>
bool with_file(const char* path, Use use) {
    constexpr std::size_t limit = 64 * 1024;
    auto* const buffer = static_cast<char*>(std::malloc(limit));
    if (buffer == nullptr) return false;
    const auto size = read_file(path, {reinterpret_cast<std::byte*>(buffer), limit});
    if (size) use(TextView(buffer, *size));
    std::free(buffer);
    return static_cast<bool>(size);
}

inline bool put_name(ifreq& request, TextView name) {
    if (name.size() == 0 || name.size() >= sizeof request.ifr_name) return false;
    request = {};
    std::memcpy(request.ifr_name, name.data(), name.size());
    return true;
}

// Puts the IPv6 addresses; if `known`, only in place of those that are there. False when memory is out.
inline bool put_proc_addresses(NetworkState& to, bool known) {
    bool stored = true;
    with_file("/proc/net/if_inet6", [&](TextView text) {
        parse_if_inet6(text, [&](const InterfaceAddress& address, TextView) {
            if (!known || to.find_address(address.interface_index, address.ip) != nullptr) stored = to.put(address) && stored;
        });
    });
    return stored;
}

}  // namespace detail

/// Lists interfaces and addresses without netlink, for where that is forbidden: netdevice(7) and /proc/net. False when that is, too.
[[gnu::cold]] inline bool read_proc_interfaces(NetworkState& to) {
    const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    bool stored = true;
    ifreq request{};
    // Two lines of headings, then `  name: numbers`.
    const bool listed = detail::with_file("/proc/net/dev", [&](TextView text) {
        for (std::size_t at = 0; at < text.size(); ++at) {
            while (at < text.size() && text[at] == ' ') ++at;
            const std::size_t name = at;
            while (at < text.size() && text[at] != ':' && text[at] != '\n' && text[at] != ' ') ++at;
            const bool is_name = at < text.size() && text[at] == ':';
            Interface i;
            if (is_name && detail::put_name(request, {text.data() + name, at - name}) && ::ioctl(fd, SIOCGIFINDEX, &request) == 0) {
                i.index = static_cast<std::uint32_t>(request.ifr_ifindex);
                i.name = TextView(request.ifr_name);
                if (::ioctl(fd, SIOCGIFFLAGS, &request) == 0) {
                    const auto flags = static_cast<unsigned short>(request.ifr_flags);
                    i.up = (flags & IFF_UP) != 0;
                    i.carrier = (flags & IFF_RUNNING) != 0;
                    i.loopback = (flags & IFF_LOOPBACK) != 0;
                    i.point_to_point = (flags & IFF_POINTOPOINT) != 0;
                    stored = to.put(i) && stored;
                }
            }
            while (at < text.size() && text[at] != '\n') ++at;
        }
    });
    ifreq entries[64];
    ifconf all{};
    all.ifc_len = sizeof entries;
    all.ifc_req = entries;
    if (::ioctl(fd, SIOCGIFCONF, &all) == 0)
        for (int n = 0; n < all.ifc_len / static_cast<int>(sizeof(ifreq)); ++n) {
            request = entries[n];
            InterfaceAddress address;
            address.ip.family = Family::v4;
            sockaddr_in in{};
            std::memcpy(&in, &request.ifr_addr, sizeof in);
            std::memcpy(address.ip.bytes, &in.sin_addr, 4);
            if (::ioctl(fd, SIOCGIFNETMASK, &request) != 0) continue;
            std::memcpy(&in, &request.ifr_netmask, sizeof in);
            for (std::uint32_t mask = ntohl(in.sin_addr.s_addr); (mask & 0x80000000u) != 0; mask <<= 1) ++address.prefix_length;
            if (::ioctl(fd, SIOCGIFINDEX, &request) != 0) continue;
            address.interface_index = static_cast<std::uint32_t>(request.ifr_ifindex);
            stored = to.put(address) && stored;
        }
    ::close(fd);
    return detail::put_proc_addresses(to, false) && listed && stored;
}

/// Adds what getifaddrs(3) does not tell of IPv6 addresses: whether they are usable, deprecated or temporary.
inline void mark_proc_addresses(NetworkState& state) { static_cast<void>(detail::put_proc_addresses(state, true)); }

}  // namespace rejoin::inline v0_1
#elif !defined(_WIN32)
namespace rejoin::inline v0_1 {

inline bool read_proc_interfaces(NetworkState&) { return false; }
inline void mark_proc_addresses(NetworkState&) {}

}  // namespace rejoin::inline v0_1
#endif
