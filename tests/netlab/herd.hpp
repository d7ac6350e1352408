// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <cstring>

#include "lab.hpp"

namespace netlab {

/// Many clients in one process of the lab's client, and a server that can be killed and restarted. A client whose session is gone begins
/// another at once.
class Herd {
public:
    static constexpr std::size_t syns_max = 100'000;
    struct State {
        std::atomic<bool> server_ready = false, recorder_ready = false;
        std::atomic<std::uint32_t> life = 0;     ///< of the server: how often it was started
        std::atomic<std::uint32_t> talking = 0;  ///< clients that have heard from the server in its present life
        std::atomic<std::size_t> syns = 0;
        std::int64_t at[syns_max];  ///< when each came to the server's host, by its kernel, on the clock of the day
    };

    explicit Herd(std::uint32_t size) : size_(size) {
        rlimit descriptors{};
        if (getrlimit(RLIMIT_NOFILE, &descriptors) != 0) throw failed("getrlimit");
        descriptors.rlim_cur = descriptors.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &descriptors) != 0) throw failed("setrlimit");
        recorder_ = Process(lab_, Host::server, [this] { record(*state_); });
        wait_for(state_->recorder_ready);
        start_server();
        clients_ = Process(lab_, Host::client, [this] { clients(*state_, size_); });
    }
    /// Waits until every client has heard from the server as it is now.
    bool all_talk(rejoin::Duration ceiling = rejoin::Duration::seconds(180)) const {
        const rejoin::TimePoint end = rejoin::monotonic_now() + ceiling;
        while (state_->talking < size_) {
            if (rejoin::monotonic_now() > end) return false;
            usleep(1000);
        }
        return true;
    }
    /// Kills the server, and starts another after so long; returns when that one listens.
    rejoin::TimePoint restart_server(rejoin::Duration after = rejoin::Duration::milliseconds(500)) {
        server_.signal(SIGKILL);
        server_.wait();
        usleep(static_cast<useconds_t>(after.milliseconds() * 1000));
        state_->talking = 0;
        start_server();
        return rejoin::monotonic_now();
    }
    struct Arrivals {
        std::size_t all = 0, most_in_100_ms = 0;
    };
    /// The connections that came to the server's host since then.
    Arrivals arrivals_since(rejoin::TimePoint when) const {
        timespec day{};
        clock_gettime(CLOCK_REALTIME, &day);
        const std::int64_t since = day.tv_sec * 1'000'000'000LL + day.tv_nsec - (rejoin::monotonic_now() - when).nanoseconds();
        std::vector<std::int64_t> times;
        for (std::size_t i = 0; i < std::min(state_->syns.load(), syns_max); ++i)
            if (state_->at[i] >= since) times.push_back(state_->at[i]);
        std::sort(times.begin(), times.end());
        Arrivals arrivals{times.size(), 0};
        for (std::size_t first = 0, last = 0; last < times.size(); ++last) {
            while (times[last] - times[first] >= 100'000'000) ++first;
            arrivals.most_in_100_ms = std::max(arrivals.most_in_100_ms, last - first + 1);
        }
        return arrivals;
    }

private:
    static void wait_for(const std::atomic<bool>& flag) {
        for (int i = 0; !flag; ++i, usleep(1000))
            if (i == 60'000) throw std::runtime_error("herd: a process did not start");
    }
    void start_server() {
        state_->server_ready = false;
        ++state_->life;
        server_ = Process(lab_, Host::server, [this] { serve(*state_); });
        wait_for(state_->server_ready);
    }
    static void serve(State& state) {
        rejoin::Loop loop;
        rejoin::Listener<rejoin::Resumable<rejoin::Tcp>>::Options options;
        options.limits.half_made_per_peer = options.limits.half_made;  // they all have one address
        rejoin::Listener<rejoin::Resumable<rejoin::Tcp>> listener{loop, options};
        listener.on_accept([](rejoin::ResumablePipe& pipe) { static_cast<void>(pipe.send("welcome")); });
        if (!listener.listen({"0.0.0.0", port})) throw failed("listen");
        state.server_ready = true;
        loop.run();
    }
    static void clients(State& state, std::uint32_t size) {
        rejoin::Loop loop;
        struct Client {
            Client(rejoin::Loop& l, State& s) : state(s), pipe(l) {
                pipe.on_receive([this](rejoin::Bytes) {
                    if (std::exchange(heard_in, state.life.load()) != state.life) ++state.talking;
                });
                pipe.on_state([this](rejoin::PipeState now, const rejoin::Failure&) {
                    if (now == rejoin::PipeState::closed) static_cast<void>(pipe.connect({"10.8.0.2", port}));
                });
            }
            State& state;
            std::uint32_t heard_in = 0;
            rejoin::ResumablePipe pipe;
        };
        std::vector<std::unique_ptr<Client>> all;
        std::function<void()> more = [&] {  // not all at once to begin with: that is another experiment
            for (int i = 0; i < 10 && all.size() < size; ++i) {
                all.push_back(std::make_unique<Client>(loop, state));
                if (!all.back()->pipe.connect({"10.8.0.2", port})) throw failed("connect");
            }
            if (all.size() < size) loop.after(rejoin::Duration::milliseconds(10), [&] { more(); });
        };
        more();
        loop.run();
    }
    // Sees every SYN that comes to the server's host, and when: what a program is told late, the kernel knows.
    static void record(State& state) {
        const int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_IP));
        const int on = 1, room = 8 << 20;
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) != 0) throw failed("packet socket");
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
        state.recorder_ready = true;
        for (;;) {
            unsigned char packet[128], control[128];
            iovec piece{packet, sizeof packet};
            msghdr message{};
            message.msg_iov = &piece;
            message.msg_iovlen = 1;
            message.msg_control = control;
            message.msg_controllen = sizeof control;
            const ssize_t n = recvmsg(fd, &message, 0);
            const std::size_t header = n < 40 ? 0 : (packet[0] & 15u) * 4u;
            if (n < 40 || packet[9] != IPPROTO_TCP || header + 14 > sizeof packet) continue;
            const unsigned char* const tcp = packet + header;
            if ((tcp[2] << 8 | tcp[3]) != port || (tcp[13] & 0x12) != 0x02) continue;  // SYN without ACK
            for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS) continue;
                timespec when;
                std::memcpy(&when, CMSG_DATA(c), sizeof when);
                const std::size_t i = state.syns;
                if (i < syns_max) state.at[i] = when.tv_sec * 1'000'000'000LL + when.tv_nsec;
                state.syns = i + 1;
            }
        }
    }

    const std::uint32_t size_;
    Lab lab_;
    Shared<State> state_;
    Process recorder_, server_, clients_;
};

}  // namespace netlab
