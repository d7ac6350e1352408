// SPDX-License-Identifier: BSL-1.0
// How long after an outage data comes again, by rejoin and by what there is beside it, on the same outage of real links (as root). Each
// client sends a small message every 10 ms, and what counts is when one arrives. `outage_bench [silent] [address] [crowd]`; all of them
// when none is named. The exit status is 0 when every bar is held, 77 without root.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cstring>

#include "lab_bench.hpp"

namespace {

using namespace lab_bench;
using namespace netlab;
using rejoin::Duration;
using rejoin::monotonic_now;
using rejoin::TimePoint;
using Server = rejoin::Listener<rejoin::Resumable<rejoin::Tcp>>;

constexpr int mptcp = 262;  // IPPROTO_MPTCP
const Duration between_messages = Duration::milliseconds(10);

/// What a receiver saw.
struct Arrivals {
    std::atomic<std::uint64_t> messages = 0;
    std::atomic<std::int64_t> after = INT64_MAX;  ///< set by the experiment: what comes later counts
    std::atomic<std::int64_t> first = 0;          ///< the first that counted

    void arrived() {
        const std::int64_t now = monotonic_now().nanoseconds();
        ++messages;
        if (now > after && first == 0) first = now;
    }
    void count_after(TimePoint when) {
        first = 0;
        after = when.nanoseconds();
    }
    bool again() const { return first != 0; }
    Duration since(TimePoint when) const { return TimePoint::from_nanoseconds(first) - when; }
};

/// One client and one server that talk by rejoin.
struct Rejoin {
    explicit Rejoin(const Lab& lab)
        : receiver(lab, Host::server,
                   [this] {
                       rejoin::Loop loop;
                       Server server{loop};
                       server.on_accept([this](rejoin::ResumablePipe& pipe) {
                           pipe.on_receive([this, &pipe](rejoin::Bytes) {
                               seen->arrived();
                               if (pipe.statistics().connections > 1) moved->arrived();
                           });
                       });
                       if (!server.listen({"0.0.0.0", port})) throw failed("listen");
                       loop.run();
                   }),
          sender(lab, Host::client, [] {
              rejoin::Loop loop;
              rejoin::ResumablePipe pipe{loop};
              std::function<void()> send = [&] {
                  const std::byte message[64] = {};
                  static_cast<void>(pipe.send(message));
                  loop.after(between_messages, [&] { send(); });
              };
              if (!pipe.connect({"10.8.0.2", port})) throw failed("connect");
              send();
              loop.run();
          }) {}
    Shared<Arrivals> seen, moved;  // all that arrived; and what arrived by another connection than the first
    Process receiver, sender;
};

/// The same by the system's own calls.
struct Plain {
    Plain(const Lab& lab, int protocol, std::uint16_t at)
        : receiver(lab, Host::server,
                   [=, this] {
                       const int listener = open(protocol, at, [](int fd, const sockaddr* address, socklen_t size) {
                           return bind(fd, address, size) == 0 ? listen(fd, 8) : -1;
                       });
                       const int fd = accept(listener, nullptr, nullptr);
                       char bytes[4096];
                       while (recv(fd, bytes, sizeof bytes, 0) > 0) seen->arrived();
                   }),
          sender(lab, Host::client, [=] {
              const int fd = open(protocol, at, [](int s, const sockaddr* address, socklen_t size) { return connect(s, address, size); });
              const int on = 1;
              setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
              for (const char message[64] = {};; usleep(10'000)) send(fd, message, sizeof message, MSG_DONTWAIT | MSG_NOSIGNAL);
          }) {}

    Shared<Arrivals> seen;
    Process receiver, sender;

private:
    // Tries until it works: the other end may not be there yet.
    static int open(int protocol, std::uint16_t at, int (*use)(int, const sockaddr*, socklen_t)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(at);
        address.sin_addr.s_addr = htonl(0x0a080002);  // 10.8.0.2
        for (;; usleep(10'000)) {
            const int fd = socket(AF_INET, SOCK_STREAM, protocol);
            if (fd < 0) throw failed("socket");
            if (use(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
            close(fd);
        }
    }
};

/// Data again after a silent outage of 5 s has ended.
bool silent() {
    std::vector<double> ours, plain_tcp;
    for (unsigned run = 0; run < 5; ++run) {
        Lab lab;
        Rejoin rejoin(lab);
        Plain plain(lab, 0, 4001);
        need(wait_for([&] { return rejoin.seen->messages > 50 && plain.seen->messages > 50; }, Duration::seconds(30)), "first data");
        lab.drop();
        usleep(5'000'000 + 50'000 * run);  // both sides try at intervals: their end meets every phase of them
        const TimePoint restored = monotonic_now();
        rejoin.seen->count_after(restored);
        plain.seen->count_after(restored);
        lab.restore();
        need(wait_for([&] { return rejoin.seen->again() && plain.seen->again(); }, Duration::seconds(60)), "data after the outage");
        ours.push_back(milliseconds(rejoin.seen->since(restored)));
        plain_tcp.push_back(milliseconds(plain.seen->since(restored)));
    }
    const double ratio = median(ours) / median(plain_tcp);
    const bool held = median(ours) <= 300 && ratio <= 0.2;
    std::printf(
        "data again after a silent outage of 5 s, median (worst) of %zu: rejoin %.0f (%.0f) ms, plain TCP %.0f (%.0f) ms, ratio %.2f "
        "(bar: at most 300 ms, and 0.20)  %s\n",
        ours.size(), median(ours), worst(ours), median(plain_tcp), worst(plain_tcp), ratio, held ? "held" : "MISSED");
    return held;
}

/// Data again after the connection's own address has gone, and another uplink is up.
bool address() {
    const Duration patience = Duration::seconds(10);
    std::vector<double> ours, by_mptcp;
    bool plain_ever = false;
    for (int run = 0; run < 20; ++run) {
        const bool peers_too = run % 7 == 0;  // they take long
        Lab lab;
        lab.in(Host::client, "ip mptcp limits set subflows 2; ip mptcp endpoint add 10.2.0.2 dev a1 subflow");
        lab.in(Host::server, "ip mptcp limits set subflows 2");
        Rejoin rejoin(lab);
        std::unique_ptr<Plain> plain, multipath;
        if (peers_too) {
            plain = std::make_unique<Plain>(lab, 0, 4001);
            multipath = std::make_unique<Plain>(lab, mptcp, 4002);
        }
        need(wait_for(
                 [&] {
                     return rejoin.seen->messages > 50 && (!peers_too || (plain->seen->messages > 50 && multipath->seen->messages > 50));
                 },
                 Duration::seconds(30)),
             "first data");
        const TimePoint gone = monotonic_now();
        rejoin.moved->count_after(gone);
        lab.in(Host::client, "ip addr del 10.1.0.2/24 dev a0");
        if (peers_too) {
            // What was on its way has arrived by then.
            usleep(50'000);
            plain->seen->count_after(monotonic_now());
            multipath->seen->count_after(monotonic_now());
        }
        need(wait_for([&] { return rejoin.moved->again(); }, Duration::seconds(60)), "data after the address went");
        ours.push_back(milliseconds(rejoin.moved->since(gone)));
        if (!peers_too) continue;
        plain_ever = wait_for([&] { return plain->seen->again(); }, patience) || plain_ever;
        by_mptcp.push_back(multipath->seen->again() ? milliseconds(multipath->seen->since(gone)) : 1e9);
    }
    const bool held = median(ours) <= 250 && !plain_ever;
    std::printf(
        "data again after the own address went, median (worst) of %zu: rejoin %.1f (%.1f) ms, MPTCP %.0f ms, plain TCP %s within %lld s "
        "(bar: at most 250 ms)  %s\n",
        ours.size(), median(ours), worst(ours), median(by_mptcp), plain_ever ? "came back" : "nothing",
        static_cast<long long>(patience.milliseconds() / 1000), held ? "held" : "MISSED");
    return held;
}

/// Ten thousand pipes of one process lose their path at once and regain it.
struct Crowd {
    static constexpr std::uint32_t size = 10'000;
    std::atomic<std::uint32_t> connected = 0, sent = 0, arrived = 0, resumed = 0;
    std::atomic<std::uint32_t> round = 0;  ///< set by the experiment: every pipe sends a message once it has changed
    std::atomic<std::int64_t> at[size];    ///< when its message arrived
};

std::int64_t counter(const Lab& lab, const char* name) {
    // /proc/net/snmp and netstat: a line of names, and one of numbers below it.
    return std::stoll(lab.ask(Host::server, std::string("cat /proc/net/snmp /proc/net/netstat | awk -v n=") + name +
                                                " '{ if (h) for (i = 2; i <= NF; i++) if (a[i] == n) print $i; h = !h; split($0, a) }'"));
}
double cpu_seconds(pid_t pid) {
    FILE* const file = fopen(("/proc/" + std::to_string(pid) + "/stat").c_str(), "r");
    unsigned long user = 0, kernel = 0;
    if (file == nullptr || fscanf(file, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel) != 2) user = 0;
    if (file != nullptr) fclose(file);
    return static_cast<double>(user + kernel) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

void crowd_server(Crowd& crowd) {
    rejoin::Loop loop;
    Server::Options options;
    options.limits.half_made_per_peer = options.limits.half_made;  // they all have one address
    Server server{loop, options};
    std::uint32_t round = 0;
    server.on_accept([&](rejoin::ResumablePipe& pipe) {
        ++crowd.connected;
        pipe.on_receive([&](rejoin::Bytes bytes) {
            if (round != crowd.round) {
                round = crowd.round;
                crowd.arrived = 0;
            }
            std::uint32_t n = 0;
            std::memcpy(&n, bytes.data(), sizeof n);
            if (bytes.size() != sizeof n || n >= Crowd::size) std::abort();  // each pipe says its number
            crowd.at[n] = monotonic_now().nanoseconds();
            ++crowd.arrived;
        });
    });
    if (!server.listen({"0.0.0.0", port})) throw failed("listen");
    loop.run();
}
void crowd_client(Crowd& crowd) {
    rejoin::Loop loop;
    std::vector<std::unique_ptr<rejoin::ResumablePipe>> pipes;
    std::uint32_t round = 0;
    std::function<void()> look = [&] {
        // Not all at once to begin with: that is another experiment.
        for (int i = 0; i < 50 && pipes.size() < Crowd::size; ++i) {
            pipes.push_back(std::make_unique<rejoin::ResumablePipe>(loop));
            if (!pipes.back()->connect({"10.8.0.2", port})) throw failed("connect");
        }
        if (round != crowd.round) {
            round = crowd.round;
            crowd.sent = 0;
            for (std::uint32_t n = 0; n < Crowd::size; ++n, ++crowd.sent)
                if (!pipes[n]->send(std::as_bytes(std::span(&n, 1)))) throw failed("send");
        }
        std::uint32_t resumed = 0;
        for (auto& pipe : pipes)
            if (pipe->statistics().resumes > 0) ++resumed;
        crowd.resumed = resumed;
        loop.after(Duration::milliseconds(20), [&] { look(); });
    };
    look();
    loop.run();
}

bool crowd(const char* how, const char* cut, const char* mend, Host where) {
    Lab lab;
    // Neither ports nor the router's table are what is measured.
    lab.in(Host::router, "nft delete chain inet lab nat");
    lab.in(Host::client, "echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range");
    Shared<Crowd> crowd;
    Process server(lab, Host::server, [&] { crowd_server(*crowd); });
    Process client(lab, Host::client, [&] { crowd_client(*crowd); });
    need(wait_for([&] { return crowd->connected == Crowd::size; }, Duration::seconds(120)), "ten thousand connections");
    const std::int64_t opened = counter(lab, "PassiveOpens"), overflowed = counter(lab, "ListenOverflows");
    const double client_cpu = cpu_seconds(client.id()), server_cpu = cpu_seconds(server.id());

    lab.in(where, cut);
    ++crowd->round;  // everybody has something to say, and nobody hears it
    need(wait_for([&] { return crowd->sent == Crowd::size; }, Duration::seconds(30)), "ten thousand messages");
    usleep(5'000'000);
    const std::uint32_t early = crowd->arrived;
    const double client_waiting = cpu_seconds(client.id()) - client_cpu;
    const TimePoint restored = monotonic_now();
    lab.in(where, mend);
    const bool all = wait_for([&] { return crowd->arrived == Crowd::size; }, Duration::seconds(60));
    need(wait_for([&] { return crowd->resumed == Crowd::size; }, Duration::seconds(60)) || all, "resumes");

    std::vector<double> times;
    for (const auto& at : crowd->at) times.push_back(milliseconds(TimePoint::from_nanoseconds(at) - restored));
    const double accepted = static_cast<double>(counter(lab, "PassiveOpens") - opened);
    const bool held = all && early == 0 && worst(times) <= 5000 && accepted <= 3.0 * Crowd::size;
    std::printf(
        "%u pipes lose their path at once for 5 s, %s: %u have data again, median %.0f ms, worst %.0f ms; resumed %u, connections "
        "accepted %.0f (%.2f a pipe), accept queue overflows %lld; processor: client %.2f s during the outage and %.2f s after, server "
        "%.2f s "
        "(bar: all, worst 5000 ms, 3 connections a pipe)  %s\n",
        Crowd::size, how, crowd->arrived.load(), median(times), worst(times), crowd->resumed.load(), accepted, accepted / Crowd::size,
        static_cast<long long>(counter(lab, "ListenOverflows") - overflowed), client_waiting,
        cpu_seconds(client.id()) - client_cpu - client_waiting, cpu_seconds(server.id()) - server_cpu, held ? "held" : "MISSED");
    return held;
}

bool crowds() {
    rlimit descriptors{};
    if (getrlimit(RLIMIT_NOFILE, &descriptors) != 0) throw failed("getrlimit");
    descriptors.rlim_cur = descriptors.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &descriptors) != 0) throw failed("setrlimit");
    const bool told = crowd("the client's link being down", "ip link set a0 down; ip link set a1 down",
                            "ip link set a0 up; ip route add default via 10.1.0.1", Host::client);
    const bool untold =
        crowd("the router dropping everything", "nft add rule inet lab forward drop", "nft flush chain inet lab forward", Host::router);
    return told && untold;
}

}  // namespace

int main(int argc, char** argv) {
    const auto wanted = [&](const char* name) {
        return argc == 1 || std::any_of(argv + 1, argv + argc, [&](const char* argument) { return std::strcmp(argument, name) == 0; });
    };
    return run_as_root([&] {
        const bool after_silence = !wanted("silent") || silent();
        const bool after_address = !wanted("address") || address();
        const bool after_crowd = !wanted("crowd") || crowds();
        return after_silence && after_address && after_crowd;
    });
}
