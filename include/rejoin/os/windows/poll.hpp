// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/windows/winsock.hpp>

#if defined(_WIN32)

namespace rejoin::inline v0_1::detail {

using PollHandle = SOCKET;
using PollEntry = WSAPOLLFD;
inline constexpr short poll_in = POLLRDNORM, poll_out = POLLWRNORM;

inline int poll_wait(PollEntry* entries, std::size_t count, int timeout) { return ::WSAPoll(entries, static_cast<ULONG>(count), timeout); }

/// Why an entry cannot be watched, if so.
inline Error poll_refuses(PollEntry entry) {
    const bool refused = entry.fd == INVALID_SOCKET || poll_wait(&entry, 1, 0) < 0 || (entry.revents & POLLNVAL) != 0;
    return refused ? Error::system(WSAENOTSOCK) : Error();
}

/// What any thread may ring to end a wait: a datagram socket of this host that is connected to itself, readable until `clear`.
class Bell {
public:
    Bell() = default;
    Bell(const Bell&) = delete;
    ~Bell() {
        if (fd_ != INVALID_SOCKET) ::closesocket(fd_);
    }
    Error open() {
        if (const Error error = start_winsock()) return error;
        fd_ = ::WSASocketW(AF_INET, SOCK_DGRAM, 0, nullptr, 0, WSA_FLAG_OVERLAPPED | no_handle_inherit);
        if (fd_ == INVALID_SOCKET) return winsock_error();
        sockaddr_in self{};
        self.sin_family = AF_INET;
        self.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int size = sizeof self;
        u_long on = 1;
        auto* const address = reinterpret_cast<sockaddr*>(&self);
        if (::ioctlsocket(fd_, static_cast<long>(FIONBIO), &on) != 0 || ::bind(fd_, address, size) != 0 ||
            ::getsockname(fd_, address, &size) != 0 || ::connect(fd_, address, size) != 0)
            return winsock_error();
        return {};
    }
    SOCKET fd() const { return fd_; }
    void ring() { ::send(fd_, "", 1, 0); }
    void clear() {
        char rung;
        while (::recv(fd_, &rung, 1, 0) > 0) {
        }
    }

private:
    SOCKET fd_ = INVALID_SOCKET;
};

}  // namespace rejoin::inline v0_1::detail
#endif
