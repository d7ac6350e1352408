// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/error.hpp>

#if !defined(_WIN32)
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace rejoin::inline v0_1::detail {

using PollHandle = int;
using PollEntry = pollfd;
inline constexpr short poll_in = POLLIN, poll_out = POLLOUT;

inline int poll_wait(PollEntry* entries, std::size_t count, int timeout) { return ::poll(entries, static_cast<nfds_t>(count), timeout); }

/// Why an entry cannot be watched, if so.
inline Error poll_refuses(PollEntry entry) {
    if (entry.fd < 0) return Error::system(EBADF);  // poll(2) passes over it
    if (poll_wait(&entry, 1, 0) < 0) return Error::system(errno);
    return (entry.revents & POLLNVAL) != 0 ? Error::system(EBADF) : Error();
}

/// What any thread may ring to end a wait: a pipe, readable until `clear`.
class Bell {
public:
    Bell() = default;
    Bell(const Bell&) = delete;
    ~Bell() {
        for (int fd : ends_)
            if (fd >= 0) ::close(fd);
    }
    Error open() {
        if (::pipe(ends_) != 0) return Error::system(errno);
        for (int fd : ends_) {
            ::fcntl(fd, F_SETFL, O_NONBLOCK);
            ::fcntl(fd, F_SETFD, FD_CLOEXEC);
        }
        return {};
    }
    int fd() const { return ends_[0]; }
    void ring() {
        const char one = 1;
        [[maybe_unused]] const ssize_t n = ::write(ends_[1], &one, 1);  // fails only when it is full, and rings already
    }
    void clear() {
        char rung[64];
        while (::read(ends_[0], rung, sizeof rung) == sizeof rung) {
        }
    }

private:
    int ends_[2] = {-1, -1};
};

}  // namespace rejoin::inline v0_1::detail
#endif
