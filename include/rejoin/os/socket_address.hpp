// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/address.hpp>
#include <rejoin/os/windows/winsock.hpp>
#if !defined(_WIN32)
#include <netinet/in.h>
#include <sys/socket.h>
#endif

namespace rejoin::inline v0_1::detail {

/// The address of a system's sockaddr; of family `none` when it is of neither family.
inline IpAddress ip_of(const sockaddr* from) {
    IpAddress ip;
    if (from->sa_family == AF_INET) {
        ip.family = Family::v4;
        std::memcpy(ip.bytes, &reinterpret_cast<const sockaddr_in*>(from)->sin_addr, 4);
    } else if (from->sa_family == AF_INET6) {
        const auto* v6 = reinterpret_cast<const sockaddr_in6*>(from);
        ip.family = Family::v6;
        ip.scope = static_cast<std::uint32_t>(v6->sin6_scope_id);
        std::memcpy(ip.bytes, &v6->sin6_addr, 16);
    }
    return ip;
}

/// An address and a port as the system's calls take and give them.
struct SocketAddress {
    SocketAddress() = default;
    SocketAddress(const IpAddress& ip, std::uint16_t port) {
        if (ip.family == Family::v4) {
            v4.sin_family = AF_INET;
            v4.sin_port = htons(port);
            std::memcpy(&v4.sin_addr, ip.bytes, 4);
        } else {
            v6.sin6_family = AF_INET6;
            v6.sin6_port = htons(port);
            v6.sin6_scope_id = ip.scope;
            std::memcpy(&v6.sin6_addr, ip.bytes, 16);
        }
    }
    const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&v6); }
    sockaddr* get() { return reinterpret_cast<sockaddr*>(&v6); }
    socklen_t size() const { return v6.sin6_family == AF_INET ? sizeof v4 : sizeof v6; }
    /// Not valid when it is of neither family.
    Endpoint endpoint() const {
        const IpAddress ip = ip_of(get());
        if (ip.family == Family::none) return {};
        return {ip, ntohs(ip.family == Family::v4 ? v4.sin_port : v6.sin6_port)};
    }

    union {
        sockaddr_in6 v6{};
        sockaddr_in v4;
    };
};

}  // namespace rejoin::inline v0_1::detail
