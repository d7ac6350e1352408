// SPDX-License-Identifier: BSL-1.0
#include <rejoin/os/local_socket.hpp>

#include "catch.hpp"

#if !defined(_WIN32)
#include <sys/wait.h>

#include <cstdlib>
#include <string>

#include "os/system.hpp"

using namespace rejoin;

namespace {

// A folder of one's own, gone at the end.
struct Folder {
    explicit Folder(mode_t mode = 0700) {
        char name[] = "/tmp/rejoin-test-XXXXXX";
        REQUIRE(::mkdtemp(name) != nullptr);
        path = name;
        REQUIRE(::chmod(name, mode) == 0);
    }
    ~Folder() {
        ::unlink((path + "/s").c_str());
        ::rmdir(path.c_str());
    }
    std::string path;
};
struct Two {
    Two() { REQUIRE(UnixSocket::pair(one, other)); }
    Socket one, other;
};
// Sends `n` descriptors with one byte, as a careless or hostile peer may.
void send_descriptors(const Socket& from, const int* fds, std::size_t n) {
    char byte = 'x';
    iovec piece{&byte, 1};
    std::string control(CMSG_SPACE(n * sizeof(int)), '\0');
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = static_cast<decltype(message.msg_controllen)>(control.size());
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = static_cast<decltype(header->cmsg_len)>(CMSG_LEN(n * sizeof(int)));
    std::memcpy(CMSG_DATA(header), fds, n * sizeof(int));
    REQUIRE(::sendmsg(from.fd(), &message, 0) == 1);
}

}  // namespace

TEST_CASE("a descriptor goes over with the first byte, and is close-on-exec there") {
    Two two;
    Socket moving, rest;
    REQUIRE(UnixSocket::pair(moving, rest));
    CHECK(careful(moving));
    REQUIRE(UnixSocket::send(two.one, TextView("ab").bytes(), &moving));
    REQUIRE(UnixSocket::send(two.one, TextView("c").bytes()));
    std::byte room[10];
    auto first = UnixSocket::receive(two.other, MutableBytes(room, 1));
    REQUIRE(first);
    CHECK(first->bytes == 1);
    CHECK(first->descriptor);
    REQUIRE(careful(first->socket));
    Socket moved = std::move(first->socket);
    const auto rest_of_it = UnixSocket::receive(two.other, room);
    REQUIRE(rest_of_it);
    CHECK_FALSE(rest_of_it->descriptor);
    moving.close();
    REQUIRE(moved.send(TextView("hello").bytes()));
    CHECK(*rest.receive(room) == 5);
    CHECK(UnixSocket::receive(two.other, room).error() == Errc::would_block);
    two.one.close();
    const auto end = UnixSocket::receive(two.other, room);
    REQUIRE(end);
    CHECK(end->bytes == 0);
    CHECK(UnixSocket::send(two.other, TextView("x").bytes()).error() == Error::system(EPIPE));
}

TEST_CASE("more descriptors than one are refused, and none stays open") {
    for (std::size_t count : {2u, 3u, 20u, 253u}) {
        CAPTURE(count);
        Two two;
        const int before = open_descriptors();
        std::vector<int> fds(count, two.one.fd());
        send_descriptors(two.one, fds.data(), count);
        std::byte room[10];
        CHECK(UnixSocket::receive(two.other, room).error() == Errc::malformed);
        CHECK(open_descriptors() == before);
    }
}

TEST_CASE("a descriptor that is no socket is closed when it is looked at") {
    Two two;
    const int before = open_descriptors();
    const int folder = ::open("/", O_RDONLY | O_CLOEXEC);
    send_descriptors(two.one, &folder, 1);
    ::close(folder);
    std::byte room[10];
    auto received = UnixSocket::receive(two.other, room);
    REQUIRE(received);
    CHECK(received->descriptor);
    CHECK_FALSE(received->socket.check_in());
    CHECK(open_descriptors() == before);
}

TEST_CASE("one listens in a folder of one's own, and nowhere else") {
    Folder folder;
    const std::string path = folder.path + "/s";
    CHECK(UnixSocket::connect(path).error() == Error::system(ENOENT));
    auto listening = UnixSocket::listen(path, 10);
    REQUIRE(listening);
    CHECK(careful(*listening));
    auto caller = UnixSocket::connect(path);
    REQUIRE(caller);
    auto called = listening->accept();
    REQUIRE(called);
    REQUIRE(caller->send(TextView("hi").bytes()));
    std::byte room[4];
    CHECK(*called->receive(room) == 2);
    for (const Socket* end : {&*caller, &*called}) {
        const auto peer = UnixSocket::peer_credentials(*end);
        REQUIRE(peer);
        CHECK(peer->user == ::geteuid());
#if defined(__linux__)
        CHECK(peer->process == ::getpid());
#endif
    }

    CHECK(UnixSocket::listen(path, 10).error() == Error::system(EADDRINUSE));

    // What a process that is gone has left behind is replaced.
    listening->close();
    CHECK(UnixSocket::connect(path).error() == Error::system(ECONNREFUSED));
    auto again = UnixSocket::listen(path, 10);
    REQUIRE(again);
    CHECK(UnixSocket::connect(path));

    for (int bits : {0755, 0710, 0701, 0777}) {
        const auto mode = static_cast<mode_t>(bits);
        CAPTURE(mode);
        Folder open(mode);
        CHECK(UnixSocket::listen(open.path + "/s", 10).error() == Error::system(EPERM));
    }
    CHECK(UnixSocket::listen("/tmp/rejoin-test-socket", 10).error() == Error::system(EPERM));
    CHECK(UnixSocket::listen("", 10).error() == Errc::invalid_argument);
    CHECK(UnixSocket::listen(std::string(200, 'x'), 10).error() == Errc::invalid_argument);
    CHECK(UnixSocket::connect(std::string("a\0b", 3)).error() == Errc::invalid_argument);
    CHECK(UnixSocket::listen("/nonexistent/s", 10).error() == Error::system(ENOENT));
}

#if defined(__linux__)
TEST_CASE("an abstract name needs no folder, and vanishes with its socket") {
    const std::string name = "@rejoin-test-" + std::to_string(::getpid());
    {
        auto listening = UnixSocket::listen(name, 10);
        REQUIRE(listening);
        CHECK(UnixSocket::connect(name));
        CHECK(UnixSocket::listen(name, 10).error() == Error::system(EADDRINUSE));
    }
    CHECK(UnixSocket::connect(name).error() == Error::system(ECONNREFUSED));
}

TEST_CASE("a socket that is not for descriptors refuses them, where the system can") {
    Two two;
    if (!UnixSocket::refuse_descriptors(two.other)) return;
    CHECK(UnixSocket::send(two.one, TextView("x").bytes(), &two.one).error() == Error::system(EPERM));
    CHECK(UnixSocket::send(two.one, TextView("x").bytes()));
}
#endif
#endif
