// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/socket.hpp>

#if defined(__linux__)
#include <sys/syscall.h>
#endif

namespace rejoin::inline v0_1 {

#if defined(__linux__)
/// Takes a copy of a socket out of another process, which need not help: `fd` is its number there (pidfd_getfd(2), Linux 5.6 and later).
/// This process has to be allowed to trace that one (ptrace(2): the same user, as a rule, or CAP_SYS_PTRACE). Both have it then, and one of
/// the two has to stop using it. The system's error: ESRCH, EBADF, EPERM, ENOSYS; `invalid_argument` for what is no socket.
inline Result<Socket> pull_socket(std::int32_t process, int fd) {
    const int other = static_cast<int>(::syscall(SYS_pidfd_open, process, 0));
    if (other < 0) return Error::system(errno);
    const int copy = static_cast<int>(::syscall(SYS_pidfd_getfd, other, fd, 0));
    const int error = errno;
    ::close(other);
    if (copy < 0) return Error::system(error);
    Socket socket = Socket::of_received(copy);
    if (!socket.check_in()) return Errc::invalid_argument;
    return socket;
}
#else
template <bool exists = false>
Result<Socket> pull_socket(std::int32_t, int) {
    static_assert(exists, "this system lets no process take a descriptor out of another one (Linux does, by pidfd_getfd)");
    return Errc::unsupported;
}
#endif

}  // namespace rejoin::inline v0_1
