// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

/// The other end: sends back whatever comes over the connection that it accepts, until that ends.
inline void echo(int listener) {
    const int one = 1;
    const int fd = ::accept(listener, nullptr, nullptr);
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    char buffer[4096];
    for (ssize_t n; (n = ::recv(fd, buffer, sizeof buffer, 0)) > 0;)
        if (::send(fd, buffer, static_cast<std::size_t>(n), MSG_NOSIGNAL) != n) break;
}

/// A connected TCP socket over loopback whose other end is `echo` in a process of its own: `program`, which is this one, run with "echo"
/// and the listening socket as descriptor 3, so that no tool counts it. Blocking; ends the program on failure.
inline int connect_to_echo(const char* program) {
    const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    if (::bind(listener, reinterpret_cast<sockaddr*>(&at), size) != 0 || ::listen(listener, 1) != 0 ||
        ::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size) != 0)
        std::exit(2);
    if (::fork() == 0) {
        ::dup2(listener, 3);
        ::execl(program, program, "echo", static_cast<char*>(nullptr));
        ::_exit(2);
    }
    const int one = 1;
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    if (::connect(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) std::exit(2);
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    ::close(listener);
    return fd;
}
