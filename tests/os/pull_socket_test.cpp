// SPDX-License-Identifier: BSL-1.0
#include "catch.hpp"

#if defined(__linux__)
#include <rejoin/os/local_socket.hpp>
#include <rejoin/os/pull_socket.hpp>

#include <sys/wait.h>

#include "os/system.hpp"
#include "skip.hpp"

using namespace rejoin;

namespace {

// A process that holds a connection, and lives until its far end, which is here, is closed.
struct Holder {
    Holder() {
        Socket near_end;
        REQUIRE(UnixSocket::pair(near_end, far_end));
        fd = near_end.fd();
        process = ::fork();
        if (process == 0) {
            far_end.close();
            wait_for(near_end, poll_in);
            ::_exit(0);
        }
    }
    ~Holder() {
        far_end.close();
        ::waitpid(process, nullptr, 0);
    }
    Socket far_end;
    int fd = -1;
    pid_t process = -1;
};

}  // namespace

TEST_CASE("a socket is taken out of another process, which knows nothing of it", "[native]") {
    Holder holder;
    auto pulled = pull_socket(holder.process, holder.fd);
    if (pulled.error() == Error::system(EPERM) || pulled.error() == Error::system(ENOSYS))
        return test::skip("pidfd_getfd(2) is not allowed");
    REQUIRE(pulled);
    CHECK(careful(*pulled));
    REQUIRE(pulled->send(TextView("hello").bytes()));
    std::byte room[10];
    const auto n = holder.far_end.receive(room);
    REQUIRE(n);
    CHECK(*n == 5);
}

TEST_CASE("what cannot be taken out of another process says why", "[native]") {
    const int before = open_descriptors();
    Holder holder;
    CHECK(pull_socket(holder.process, 9999).error() == Error::system(EBADF));
    CHECK(pull_socket(-1, 0).error() == Error::system(EINVAL));
    const int folder = ::open("/", O_RDONLY | O_CLOEXEC);
    CHECK(pull_socket(::getpid(), folder).error() == Errc::invalid_argument);
    ::close(folder);
    const pid_t gone = ::fork();
    if (gone == 0) ::_exit(0);
    ::waitpid(gone, nullptr, 0);
    CHECK(pull_socket(gone, 0).error() == Error::system(ESRCH));
    if (::geteuid() == 0) {
        const pid_t other = ::fork();
        if (other == 0) {
            const bool changed = ::setresgid(65534, 65534, 65534) == 0 && ::setresuid(65534, 65534, 65534) == 0;
            ::_exit(changed && pull_socket(holder.process, holder.fd).error() == Error::system(EPERM) ? 0 : 1);
        }
        int status = -1;
        ::waitpid(other, &status, 0);
        CHECK(status == 0);
    }
    CHECK(open_descriptors() == before + 1);
}
#endif
