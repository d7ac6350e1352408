// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/bytes.hpp>
#include <rejoin/core/error.hpp>

#if !defined(_WIN32)
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

namespace rejoin::inline v0_1 {

/// Reads the beginning of a file, as much as fits into `to`, and returns how much that is. Never waits, whatever kind of file it is
/// (open(2), O_NONBLOCK). The error is the system's.
[[gnu::cold]] inline Result<std::size_t> read_file(const char* path, MutableBytes to) {
    const int fd = ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return Error::system(errno);
    std::size_t size = 0;
    Error error;
    while (size < to.size()) {
        const ssize_t n = ::read(fd, to.data() + size, to.size() - size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) error = Error::system(errno);
        if (n <= 0) break;
        size += static_cast<std::size_t>(n);
    }
    ::close(fd);
    if (error) return error;
    return size;
}

}  // namespace rejoin::inline v0_1
#endif
