// SPDX-License-Identifier: BSL-1.0
// What it costs to push a socket to another process: the bare system calls, blocking, and behind epoll as a receiver with an event loop
// makes them; libuv; and rejoin: interleaved, both processes on one processor. One way: from before the send until the receiver has the
// descriptor and knows what it is. Exchange: until the sender may forget it.
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <uv.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <rejoin.hpp>
#include <vector>

namespace {

using namespace rejoin;
using handoff::Channel;
using handoff::Parcel;

constexpr int rounds = 60, pushes = 200;  // of each way in turn
constexpr double one_way_bar = 1.10, exchange_bar = 1.2;

// Where the receiver notes when it had the descriptor.
struct Shared {
    std::int64_t arrived = 0;
};
Shared* shared = nullptr;
void arrived() { __atomic_store_n(&shared->arrived, monotonic_now().nanoseconds(), __ATOMIC_RELEASE); }

void pin() {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    if (::sched_setaffinity(0, sizeof one, &one) != 0) std::printf("not pinned to one processor\n");
}
void pair(int (&ends)[2]) {
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
}

// ---- The bare system calls: a byte with the descriptor, and a byte back.

struct BareMessage {
    BareMessage() {
        header.msg_iov = &piece;
        header.msg_iovlen = 1;
        header.msg_control = control;
        header.msg_controllen = sizeof control;
    }
    char byte = 'x';
    iovec piece{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr header{};
};
[[noreturn]] void bare_receiver(int channel, bool behind_epoll) {
    const int epoll = behind_epoll ? ::epoll_create1(0) : -1;
    epoll_event event{};
    event.events = EPOLLIN;
    if (behind_epoll && ::epoll_ctl(epoll, EPOLL_CTL_ADD, channel, &event) != 0) ::_exit(1);
    for (;;) {
        if (behind_epoll && ::epoll_wait(epoll, &event, 1, -1) != 1) ::_exit(1);
        BareMessage message;
        const ssize_t n = ::recvmsg(channel, &message.header, MSG_CMSG_CLOEXEC);
        int got = -1;
        if (n > 0) std::memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&message.header)), sizeof got);
        arrived();
        if (n <= 0) ::_exit(0);
        ::close(got);
        if (::send(channel, "y", 1, 0) != 1) ::_exit(1);
    }
}
struct Bare {
    explicit Bare(int fd) : channel(fd) {}  // who sends waits for the answer, and for nothing else
    ~Bare() { ::close(channel); }
    void push(int fd) {
        BareMessage message;
        cmsghdr* const header = CMSG_FIRSTHDR(&message.header);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
        char answer = 0;
        if (::sendmsg(channel, &message.header, MSG_NOSIGNAL) != 1 || ::recv(channel, &answer, 1, 0) != 1) std::abort();
        ::close(fd);
    }
    int channel;
};

// ---- libuv, as it is meant to be used: uv_write2 of a byte, and a byte back.

struct UvEnd {
    UvEnd(int fd, uv_read_cb on_read) {
        uv_loop_init(&loop);
        uv_pipe_init(&loop, &pipe, 1);
        uv_pipe_open(&pipe, fd);
        pipe.data = this;
        uv_read_start(
            reinterpret_cast<uv_stream_t*>(&pipe),
            [](uv_handle_t* handle, size_t, uv_buf_t* buffer) {
                auto* self = static_cast<UvEnd*>(handle->data);
                *buffer = uv_buf_init(self->room, sizeof self->room);
            },
            on_read);
    }
    uv_loop_t loop;
    uv_pipe_t pipe;
    uv_tcp_t got;
    uv_write_t answer;
    char room[64];
    bool done = false;
};
[[noreturn]] void uv_receiver(int fd) {
    UvEnd end(fd, [](uv_stream_t* stream, ssize_t n, const uv_buf_t*) {
        auto* self = static_cast<UvEnd*>(stream->data);
        if (n <= 0) ::_exit(0);
        if (uv_pipe_pending_count(&self->pipe) != 1) ::_exit(1);
        uv_tcp_init(&self->loop, &self->got);
        if (uv_accept(stream, reinterpret_cast<uv_stream_t*>(&self->got)) != 0) ::_exit(1);
        arrived();
        self->got.data = self;
        uv_close(reinterpret_cast<uv_handle_t*>(&self->got), [](uv_handle_t* handle) {
            auto* back = static_cast<UvEnd*>(handle->data);
            static char yes[] = "y";
            uv_buf_t buffer = uv_buf_init(yes, 1);
            uv_write(&back->answer, reinterpret_cast<uv_stream_t*>(&back->pipe), &buffer, 1, nullptr);
        });
    });
    uv_run(&end.loop, UV_RUN_DEFAULT);
    ::_exit(0);
}
struct Uv {
    explicit Uv(int fd) : end(fd, [](uv_stream_t* stream, ssize_t, const uv_buf_t*) { static_cast<UvEnd*>(stream->data)->done = true; }) {}
    void push(int fd) {
        uv_tcp_t handle;
        uv_tcp_init(&end.loop, &handle);
        uv_tcp_open(&handle, fd);
        static char x[] = "x";
        uv_buf_t buffer = uv_buf_init(x, 1);
        uv_write_t request;
        end.done = false;
        uv_write2(&request, reinterpret_cast<uv_stream_t*>(&end.pipe), &buffer, 1, reinterpret_cast<uv_stream_t*>(&handle), nullptr);
        while (!end.done) uv_run(&end.loop, UV_RUN_ONCE);
        bool closed = false;
        handle.data = &closed;
        uv_close(reinterpret_cast<uv_handle_t*>(&handle), [](uv_handle_t* h) { *static_cast<bool*>(h->data) = true; });
        while (!closed) uv_run(&end.loop, UV_RUN_NOWAIT);
    }
    UvEnd end;
};

// ---- rejoin: OFFER, ACCEPT, COMMIT.

[[noreturn]] void rejoin_receiver(int fd) {
    Loop loop;
    Channel channel(loop);
    channel.admit([](const Parcel&) {
        arrived();
        return true;
    });
    channel.on_parcel([](Parcel&&) {});
    channel.on_close([](Error) { ::_exit(0); });
    if (!channel.start(Socket(fd))) ::_exit(1);
    static_cast<void>(loop.run());
    ::_exit(0);
}
struct Rejoin {
    explicit Rejoin(int fd) {
        if (!channel.start(Socket(fd))) std::abort();
    }
    void push(int fd) {
        Parcel parcel;
        parcel.socket = Socket::of_received(fd);
        parcel.kind = SocketKind::stream;
        bool done = false;
        if (!channel.offer(std::move(parcel), [&](Error error, Parcel&&) {
                if (error) std::abort();
                done = true;
            }))
            std::abort();
        while (!done) static_cast<void>(loop.run_once(Duration::seconds(1)));
    }
    Loop loop;
    Channel channel{loop};
};

struct Seen {
    std::vector<double> one_way, exchange;
};
template <class Sender>
class Pusher {
public:
    explicit Pusher(void (*receiver)(int)) {
        int ends[2];
        pair(ends);
        child_ = ::fork();
        if (child_ == 0) {
            ::close(ends[0]);
            receiver(ends[1]);
        }
        ::close(ends[1]);
        sender_.emplace(ends[0]);
    }
    ~Pusher() {
        ::kill(child_, SIGKILL);
        ::waitpid(child_, nullptr, 0);
    }
    // A connection of its own each time, made before the clock runs.
    void run(Seen& seen) {
        int fds[pushes], far[pushes];
        for (int i = 0; i < pushes; ++i) {
            int ends[2];
            pair(ends);
            fds[i] = ends[0], far[i] = ends[1];
        }
        for (int fd : fds) {
            const std::int64_t before = monotonic_now().nanoseconds();
            sender_->push(fd);
            const std::int64_t after = monotonic_now().nanoseconds();
            for (int i = 0; i < 4; ++i) ::sched_yield();  // the receiver does what is left to do, and waits again
            seen.one_way.push_back(static_cast<double>(__atomic_load_n(&shared->arrived, __ATOMIC_ACQUIRE) - before));
            seen.exchange.push_back(static_cast<double>(after - before));
        }
        for (int fd : far) ::close(fd);
    }

private:
    pid_t child_ = -1;
    std::optional<Sender> sender_;
};

double median(std::vector<double>& values) {
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
    return values[values.size() / 2];
}

}  // namespace

int main() {
    pin();
    shared = static_cast<Shared*>(::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    if (shared == MAP_FAILED) return 1;
    Seen bare_seen, epoll_seen, uv_seen, rejoin_seen;
    {
        Pusher<Bare> bare([](int fd) { bare_receiver(fd, false); });
        Pusher<Bare> behind_epoll([](int fd) { bare_receiver(fd, true); });
        Pusher<Uv> uv([](int fd) { uv_receiver(fd); });
        Pusher<Rejoin> ours([](int fd) { rejoin_receiver(fd); });
        for (int round = 0; round < rounds; ++round) {
            bare.run(bare_seen);
            behind_epoll.run(epoll_seen);
            uv.run(uv_seen);
            ours.run(rejoin_seen);
        }
    }
    bool held = true;
    const auto print = [&](const char* what, double ours, double peer, const char* name, double bar) {
        const bool ok = ours / peer <= bar;
        held = held && ok;
        std::printf("%-9s rejoin %6.2f us   %s %6.2f us   ratio %5.2f  (bar: at most %.2f)  %s\n", what, ours / 1e3, name, peer / 1e3,
                    ours / peer, bar, ok ? "held" : "MISSED");
    };
    const double ours = median(rejoin_seen.one_way), whole = median(rejoin_seen.exchange);
    print("one way", ours, median(bare_seen.one_way), "bare ", one_way_bar);
    print("one way", ours, median(epoll_seen.one_way), "epoll", one_way_bar);
    print("one way", ours, median(uv_seen.one_way), "libuv", 1.0);
    print("exchange", whole, median(bare_seen.exchange), "bare ", exchange_bar);
    print("exchange", whole, median(epoll_seen.exchange), "epoll", exchange_bar);
    print("exchange", whole, median(uv_seen.exchange), "libuv", 1.0);
    return held ? 0 : 1;
}
