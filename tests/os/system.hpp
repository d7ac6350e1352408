// SPDX-License-Identifier: BSL-1.0
// What tests name of the system, on each of them.
#pragma once

#include <rejoin/os/poll_poller.hpp>
#include <rejoin/os/socket.hpp>

#if !defined(_WIN32)
#include <dirent.h>
#include <errno.h>

#include <string>
#endif

namespace code {
#if defined(_WIN32)
inline constexpr int bad_descriptor = WSAENOTSOCK, refused = WSAECONNREFUSED, reset = WSAECONNRESET, in_use = WSAEADDRINUSE,
                     not_available = WSAEADDRNOTAVAIL, no_network = WSAENETUNREACH;
#else
inline constexpr int bad_descriptor = EBADF, refused = ECONNREFUSED, reset = ECONNRESET, in_use = EADDRINUSE, not_available = EADDRNOTAVAIL,
                     no_network = ENETUNREACH;
#endif
}  // namespace code

/// Waits until a socket is ready for `events`: `poll_in`, `poll_out`.
inline bool wait_for(const rejoin::Socket& socket, short events) {
    rejoin::detail::PollEntry entry{};
    entry.fd = socket.fd();
    entry.events = events;
    return rejoin::detail::poll_wait(&entry, 1, 60'000) == 1;
}
using rejoin::detail::poll_in;
using rejoin::detail::poll_out;

/// How many descriptors a process has, this one or another; 0 where the system does not tell.
#if defined(_WIN32)
inline int open_descriptors() { return 0; }
#else
inline int open_descriptors(const std::string& process = "self") {
    int n = 0;
    DIR* const folder = ::opendir(("/proc/" + process + "/fd").c_str());
    if (folder == nullptr) return 0;
    while (::readdir(folder) != nullptr) ++n;
    ::closedir(folder);
    return n;
}
#endif

/// Whether a socket does not block, where one can ask, and does not get into other programs that are started.
inline bool careful(const rejoin::Socket& socket) {
#if defined(_WIN32)
    DWORD flags = 0;  // that it does not block cannot be asked for
    return ::GetHandleInformation(reinterpret_cast<HANDLE>(socket.fd()), &flags) != FALSE && (flags & HANDLE_FLAG_INHERIT) == 0;
#else
    return (::fcntl(socket.fd(), F_GETFL) & O_NONBLOCK) != 0 && (::fcntl(socket.fd(), F_GETFD) & FD_CLOEXEC) != 0;
#endif
}
