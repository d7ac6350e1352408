// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/error.hpp>

// Winsock and what it brings of windows.h, lean, whether the program included windows.h before or includes it afterwards. A program that
// needs the rest of windows.h, or its macros `min` and `max`, includes it first. What is defined here for the inclusion alone is undefined
// again.
#if defined(_WIN32)
#if defined(_MSC_VER) && defined(_WINSOCKAPI_) && !defined(_WINSOCK2API_)
#error "rejoin needs Winsock 2: include <winsock2.h> before <windows.h>, or define WIN32_LEAN_AND_MEAN before it"
#endif
#if !defined(WIN32_LEAN_AND_MEAN)
#define WIN32_LEAN_AND_MEAN
#define REJOIN_LEAN
#endif
#if !defined(NOMINMAX)
#define NOMINMAX
#define REJOIN_NOMINMAX
#endif
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wcpp"  // MinGW warns where windows.h came first, and copes
#endif

#include <winsock2.h>

#include <ws2tcpip.h>

#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
#if defined(REJOIN_LEAN)
#undef REJOIN_LEAN
#undef WIN32_LEAN_AND_MEAN
#endif
#if defined(REJOIN_NOMINMAX)
#undef REJOIN_NOMINMAX
#undef NOMINMAX
#endif
#if _WIN32_WINNT < 0x0601
#error "rejoin needs Windows 7 or later: _WIN32_WINNT is set to less than 0x0601"
#endif
#if defined(_MSC_VER)
#pragma comment(lib, "ws2_32")
#endif

namespace rejoin::inline v0_1::detail {

/// Readies Winsock for this process, the first time. It is never put away again: the system does that when the process ends. Any thread.
inline Error start_winsock() {
    static const int error = [] {
        WSADATA data;
        return ::WSAStartup(0x0202, &data);
    }();
    return error == 0 ? Error() : Error::system(error);
}

inline constexpr DWORD no_handle_inherit = 0x80;  // WSA_FLAG_NO_HANDLE_INHERIT, of Windows 7 and later

inline Error winsock_error() {
    const int code = ::WSAGetLastError();
    return code == WSAEWOULDBLOCK ? Error(Errc::would_block) : Error::system(code);
}

}  // namespace rejoin::inline v0_1::detail
#endif
