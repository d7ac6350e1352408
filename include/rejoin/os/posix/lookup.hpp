// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/os/socket_address.hpp>

#if !defined(_WIN32)
#include <errno.h>
#include <netdb.h>

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
        const IpAddress ip = detail::ip_of(at->ai_addr);
        if (ip.family != Family::none && !found.push(ip)) break;
    }
    ::freeaddrinfo(list);
    if (found.empty()) return no_address;
    return found;
}

}  // namespace rejoin::inline v0_1
#endif
