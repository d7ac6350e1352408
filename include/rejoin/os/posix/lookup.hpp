// SPDX-License-Identifier: BSL-1.0
#pragma once

#if !defined(_WIN32)
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <rejoin/core/address.hpp>
#include <rejoin/core/array.hpp>

namespace rejoin::inline v0_1 {

/// A look-up that found nothing.
inline constexpr Error no_address = Error::resolver(EAI_NONAME);

/// The addresses of a name, in the system's order of preference (RFC 6724), at most 16: getaddrinfo(3). Waits, for as long as the
/// system's resolver does (5 to 30 s when no server answers). Any thread.
[[gnu::cold]] inline Result<Array<IpAddress>> look_up(const char* name) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_ADDRCONFIG;
    addrinfo* list = nullptr;
    const int error = ::getaddrinfo(name, nullptr, &hints, &list);
    if (error == EAI_SYSTEM) return Error::system(errno);
    if (error != 0) return Error::resolver(error);
    Array<IpAddress> found;
    for (const addrinfo* at = list; at != nullptr && found.size() < 16; at = at->ai_next) {
        IpAddress ip;
        if (at->ai_family == AF_INET) {
            ip.family = Family::v4;
            std::memcpy(ip.bytes, &reinterpret_cast<const sockaddr_in*>(at->ai_addr)->sin_addr, 4);
        } else if (at->ai_family == AF_INET6) {
            const auto* v6 = reinterpret_cast<const sockaddr_in6*>(at->ai_addr);
            ip.family = Family::v6;
            std::memcpy(ip.bytes, &v6->sin6_addr, 16);
            ip.scope = v6->sin6_scope_id;
        } else {
            continue;
        }
        if (!found.push(ip)) break;
    }
    ::freeaddrinfo(list);
    if (found.empty()) return no_address;
    return found;
}

}  // namespace rejoin::inline v0_1
#endif
