// SPDX-License-Identifier: BSL-1.0
// The same as rejoin.cpp, written by hand on epoll as a careful programmer would: non-blocking, messages put together from whatever
// arrives, output queued when the socket is full, every error looked at.
#include <fcntl.h>
#include <sys/epoll.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "echo.hpp"

namespace {

struct Connection {
    int fd = -1;
    bool writing = false;
    std::size_t queued = 0;
    char out[4096];
    std::size_t received = 0;
    long left = 0;
    bool done = false;
    bool failed = false;
};

void watch(int epoll, Connection& c, int what) {
    epoll_event event{};
    event.events = EPOLLIN | (c.writing ? EPOLLOUT : 0u);
    event.data.ptr = &c;
    if (::epoll_ctl(epoll, what, c.fd, &event) != 0) c.failed = true;
}

bool queue(Connection& c, const char* bytes, std::size_t size) {
    if (size > sizeof c.out - c.queued) return false;
    std::memcpy(c.out + c.queued, bytes, size);
    c.queued += size;
    return true;
}

void flush(int epoll, Connection& c) {
    std::size_t sent = 0;
    while (sent < c.queued) {
        const ssize_t n = ::send(c.fd, c.out + sent, c.queued - sent, MSG_NOSIGNAL);
        if (n > 0) {
            sent += static_cast<std::size_t>(n);
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            c.failed = true;
            return;
        }
    }
    c.queued -= sent;
    if (c.queued > 0) std::memmove(c.out, c.out + sent, c.queued);
    if (c.writing != (c.queued > 0)) {
        c.writing = c.queued > 0;
        watch(epoll, c, EPOLL_CTL_MOD);
    }
}

void on_message(Connection& c) {
    static const char message[64] = {};
    if (--c.left == 0)
        c.done = true;
    else if (!queue(c, message, sizeof message))
        c.failed = true;
}

void on_readable(Connection& c) {
    static char buffer[65536];
    const ssize_t n = ::recv(c.fd, buffer, sizeof buffer, 0);
    if (n > 0) {
        c.received += static_cast<std::size_t>(n);
        while (c.received >= 64) {
            c.received -= 64;
            on_message(c);
        }
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        c.failed = true;
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc > 1 && std::strcmp(argv[1], "echo") == 0) return echo(3), 0;
    Connection c;
    c.left = argc > 1 ? std::atol(argv[1]) : 1000;
    const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
    c.fd = connect_to_echo(argv[0]);
    ::fcntl(c.fd, F_SETFL, ::fcntl(c.fd, F_GETFL) | O_NONBLOCK);
    watch(epoll, c, EPOLL_CTL_ADD);
    const char message[64] = {};
    if (!queue(c, message, sizeof message)) return 1;
    flush(epoll, c);
    while (!c.done && !c.failed) {
        epoll_event events[64];
        const int n = ::epoll_wait(epoll, events, 64, -1);
        if (n < 0 && errno != EINTR) return 1;
        for (int i = 0; i < n; ++i) {
            auto& ready = *static_cast<Connection*>(events[i].data.ptr);
            if ((events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) on_readable(ready);
            if (ready.queued > 0 && !ready.failed) flush(epoll, ready);
        }
    }
    return c.failed ? 1 : 0;
}
