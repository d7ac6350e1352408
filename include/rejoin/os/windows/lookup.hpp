// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/os/socket_address.hpp>

#if defined(_WIN32)

namespace rejoin::inline v0_1 {

/// A look-up that found nothing.
inline constexpr Error no_address = Error::resolver(WSAHOST_NOT_FOUND);

/// The addresses of a name (UTF-8), in the system's order of preference (RFC 6724), at most 16: GetAddrInfoW, whose codes are
/// Winsock's. Waits, for as long as the system's resolver does. Any thread.
inline Result<Array<IpAddress>> look_up(const char* name) {
    if (const Error error = detail::start_winsock()) return error;
    wchar_t wide[256];
    if (::MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, name, -1, wide, 256) == 0) return no_address;
    ADDRINFOW hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_ADDRCONFIG;
    ADDRINFOW* list = nullptr;
    const int error = ::GetAddrInfoW(wide, nullptr, &hints, &list);
    if (error == WSA_NOT_ENOUGH_MEMORY) return Errc::out_of_memory;
    if (error != 0) return Error::resolver(error);
    Array<IpAddress> found;
    for (const ADDRINFOW* at = list; at != nullptr && found.size() < 16; at = at->ai_next) {
        const IpAddress ip = detail::ip_of(at->ai_addr);
        if (ip.family != Family::none && !found.push(ip)) break;
    }
    ::FreeAddrInfoW(list);
    if (found.empty()) return no_address;
    return found;
}

}  // namespace rejoin::inline v0_1
#endif
