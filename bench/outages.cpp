// SPDX-License-Identifier: BSL-1.0
// What outages cost: the time without data and the bytes lost or repeated, by rejoin, by plain TCP as it is usually written (keep-alive and
// user timeout of 10 s, a second's sleep before it connects again), and by MPTCP where it applies; each outage once, on real links, for
// all of them at the same moment (as root). `outages [table] [connect] [herd] [offline]`; all of it when nothing is named. The exit status
// is 0 when every bar is held, 77 without root.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cmath>
#include <cstring>
#include <map>

#include "../tests/netlab/herd.hpp"
#include "lab_bench.hpp"

namespace {

using namespace lab_bench;
using namespace netlab;
using rejoin::Duration;
using rejoin::IpAddress;
using rejoin::monotonic_now;
using rejoin::TimePoint;

constexpr int mptcp = 262;  // IPPROTO_MPTCP
const Duration between_messages = Duration::milliseconds(10);

/// What a receiver saw of numbered messages of one size.
struct Arrivals {
    std::atomic<std::uint64_t> messages = 0, lost = 0, repeated = 0;
    std::atomic<std::int64_t> last = 0;     ///< when
    std::atomic<std::int64_t> longest = 0;  ///< the longest time without one since `watch`
    std::uint64_t expected = 0;

    void arrived(std::uint64_t number) {
        const std::int64_t now = monotonic_now().nanoseconds();
        longest = std::max(longest.load(), now - last);
        last = now;
        ++messages;
        if (number < expected) {
            ++repeated;
        } else {
            lost += number - expected;
            expected = number + 1;
        }
    }
    void watch() { longest = 0; }
    bool talks_since(TimePoint when) const { return last > when.nanoseconds(); }
};

/// Puts messages together that arrive in pieces.
class Assembly {
public:
    Assembly(Arrivals& seen, std::size_t size) : seen_(seen), size_(size) {}
    void take(rejoin::Bytes bytes) {
        for (std::byte b : bytes) {
            if (at_ < sizeof number_) reinterpret_cast<std::byte*>(&number_)[at_] = b;
            if (++at_ < size_) continue;
            at_ = 0;
            seen_.arrived(number_);
        }
    }

private:
    Arrivals& seen_;
    const std::size_t size_;
    std::size_t at_ = 0;
    std::uint64_t number_ = 0;
};

class Message {
public:
    explicit Message(std::size_t size) : bytes_(size) {}
    /// The next one, until it is `sent`.
    rejoin::Bytes next() {
        std::memcpy(bytes_.data(), &number_, sizeof number_);
        return {bytes_.data(), bytes_.size()};
    }
    void sent() { ++number_; }

private:
    std::vector<std::byte> bytes_;
    std::uint64_t number_ = 0;
};

/// One client and one server that talk by rejoin.
struct Rejoin {
    Rejoin(const Lab& lab, std::size_t size)
        : receiver(lab, Host::server,
                   [this, size] {
                       rejoin::Loop loop;
                       rejoin::Listener<rejoin::Resumable<rejoin::Tcp>> server{loop};
                       Assembly assembly(*seen, size);
                       server.on_accept(
                           [&](rejoin::ResumablePipe& pipe) { pipe.on_receive([&](rejoin::Bytes bytes) { assembly.take(bytes); }); });
                       if (!server.listen({"0.0.0.0", port})) throw failed("listen");
                       loop.run();
                   }),
          sender(lab, Host::client, [size] {
              rejoin::Loop loop;
              rejoin::ResumablePipe pipe{loop};
              Message message(size);
              std::function<void()> send = [&] {
                  if (pipe.send(message.next())) message.sent();  // else the buffer is full
                  loop.after(between_messages, [&] { send(); });
              };
              if (!pipe.connect({"10.8.0.2", port})) throw failed("connect");
              send();
              loop.run();
          }) {}
    Shared<Arrivals> seen;
    Process receiver, sender;
};

/// The same by the system's own calls.
struct Plain {
    Plain(const Lab& lab, int protocol, std::uint16_t at, std::size_t size)
        : receiver(lab, Host::server, [=, this] { receive(*seen, protocol, at, size); }),
          sender(lab, Host::client, [=] { send(protocol, at, size); }) {}

    Shared<Arrivals> seen;
    Process receiver, sender;

private:
    static sockaddr_in server_address(std::uint16_t at) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(at);
        address.sin_addr.s_addr = htonl(0x0a080002);  // 10.8.0.2
        return address;
    }
    static void receive(Arrivals& seen, int protocol, std::uint16_t at, std::size_t size) {
        sockaddr_in address = server_address(at);
        address.sin_addr.s_addr = INADDR_ANY;
        const int listener = socket(AF_INET, SOCK_STREAM, protocol);
        if (listener < 0 || bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || listen(listener, 8) != 0)
            throw failed("listen");
        std::map<int, Assembly> all;
        for (;;) {
            std::vector<pollfd> entries{{listener, POLLIN, 0}};
            for (const auto& [fd, assembly] : all) entries.push_back({fd, POLLIN, 0});
            poll(entries.data(), entries.size(), -1);
            for (const pollfd& entry : entries) {
                if (entry.revents == 0) continue;
                if (entry.fd == listener) {
                    if (const int fd = accept(listener, nullptr, nullptr); fd >= 0) all.emplace(fd, Assembly(seen, size));
                    continue;
                }
                std::byte bytes[65536];
                const ssize_t n = recv(entry.fd, bytes, sizeof bytes, 0);
                if (n > 0) {
                    all.at(entry.fd).take({bytes, static_cast<std::size_t>(n)});
                } else {
                    close(entry.fd);
                    all.erase(entry.fd);
                }
            }
        }
    }
    static void send(int protocol, std::uint16_t at, std::size_t size) {
        const sockaddr_in address = server_address(at);
        Message message(size);
        for (;; sleep(1)) {
            const int fd = socket(AF_INET, SOCK_STREAM, protocol);
            if (fd < 0) throw failed("socket");
            const int on = 1, ten = 10, ten_thousand = 10'000;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            if (protocol == 0) {
                setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
                setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &ten, sizeof ten);
                setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ten_thousand, sizeof ten_thousand);
            }
            if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
                for (bool alive = true; alive; usleep(10'000)) {
                    const rejoin::Bytes bytes = message.next();
                    alive = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
                    message.sent();
                }
            close(fd);
        }
    }
};

struct Outage {
    const char* what;
    bool to_another_uplink;  // which is what MPTCP is for
    std::size_t size;        // of a message
    Host host;
    const char* inject;
    double lasts;  // seconds
    const char* undo;
};
constexpr const char* strict_nat =
    "echo 0 >/proc/sys/net/netfilter/nf_conntrack_tcp_loose; nft add rule inet lab forward ct state invalid drop; conntrack -F 2>/dev/null";
constexpr Outage outages[] = {
    {"the uplink goes, another is up", true, 64, Host::client, "ip link set a0 down", 0, ""},
    {"the own address goes, another uplink is up", true, 64, Host::client, "ip addr del 10.1.0.2/24 dev a0", 0, ""},
    {"the path dies silently, another uplink is up", true, 64, Host::router,
     "nft 'add rule inet lab forward iifname \"ra0\" drop; add rule inet lab forward oifname \"ra0\" drop'", 0, ""},
    {"the own address is replaced", false, 64, Host::client,
     "ip addr del 10.1.0.2/24 dev a0; ip addr add 10.1.0.3/24 dev a0; ip route add default via 10.1.0.1 metric 100", 0, ""},
    {"the connection is reset", false, 64, Host::server, "ss -K state established '( sport = :4000 or sport = :4001 )' >/dev/null 2>&1", 0,
     ""},
    {"everything is dropped for 5 s", false, 64, Host::router, "nft add rule inet lab forward drop", 5, "nft flush chain inet lab forward"},
    {"no link for 5 s", false, 64, Host::client, "ip link set a1 down; ip link set a0 down", 5,
     "ip link set a0 up; ip route add default via 10.1.0.1 metric 100"},
    {"the NAT forgets its connections", false, 64, Host::router, strict_nat, 0, ""},
    {"the NAT maps connections anew", false, 64, Host::router,
     "nft 'flush chain inet lab nat; add rule inet lab nat oifname \"rb*\" meta l4proto tcp masquerade to :20000-20999';"
     "conntrack -F 2>/dev/null",
     0, ""},
    {"large packets vanish", false, 8192, Host::router,
     "nft 'add chain inet lab output { type filter hook output priority filter; };"
     "     add rule inet lab output icmp type destination-unreachable drop'; ip link set rb0 mtu 1200",
     0, ""},
};

/// What one of the three made of an outage, each time.
struct Seen {
    std::vector<double> without;  // milliseconds
    std::uint64_t wrong = 0;      // bytes lost or repeated
    bool back = true;
    std::string text() const {
        char text[32];
        std::snprintf(text, sizeof text, back ? "%.0f ms" : "not back", back ? median(without) : 0);
        return text;
    }
};
void measure(const Outage& outage, Seen* by_plain, Seen& by_mptcp, Seen& by_rejoin) {
    Lab lab;
    lab.in(Host::client, "ip mptcp limits set subflows 2; ip mptcp endpoint add 10.2.0.2 dev a1 subflow");
    lab.in(Host::server, "ip mptcp limits set subflows 2");
    Rejoin rejoin(lab, outage.size);
    std::unique_ptr<Plain> plain, multipath;
    if (by_plain != nullptr) plain = std::make_unique<Plain>(lab, 0, 4001, outage.size);
    if (outage.to_another_uplink) multipath = std::make_unique<Plain>(lab, mptcp, 4002, outage.size);
    std::vector<std::pair<Arrivals*, Seen*>> all{{&*rejoin.seen, &by_rejoin}};
    if (plain) all.emplace_back(&*plain->seen, by_plain);
    if (multipath) all.emplace_back(&*multipath->seen, &by_mptcp);
    const auto everybody_talks = [&](TimePoint when) {
        return std::all_of(all.begin(), all.end(), [&](const auto& a) { return a.first->messages > 50 && a.first->talks_since(when); });
    };
    need(wait_for([&] { return everybody_talks({}); }, Duration::seconds(30)), "first data");
    for (const auto& [seen, result] : all) seen->watch();
    lab.in(outage.host, outage.inject);
    usleep(static_cast<useconds_t>(outage.lasts * 1e6));
    if (*outage.undo != 0) lab.in(outage.host, outage.undo);
    // Who is back must stay: something is to arrive two seconds from now.
    const TimePoint then = monotonic_now() + Duration::seconds(2);
    wait_for([&] { return everybody_talks(then); }, Duration::seconds(30));
    for (const auto& [seen, result] : all) {
        result->without.push_back(milliseconds(Duration::nanoseconds(seen->longest)));
        result->wrong += (seen->lost + seen->repeated) * outage.size;
        result->back = result->back && seen->talks_since(then);
    }
}
bool table() {
    double log_plain = 0, log_mptcp = 0;
    int of_plain = 0, of_mptcp = 0;
    bool whole = true;
    std::puts("| outage | plain TCP | bytes lost | MPTCP | rejoin | bytes lost or repeated |\n| --- | --- | --- | --- | --- | --- |");
    for (const Outage& outage : outages) {
        Seen plain, multipath, rejoin;
        const int runs = outage.to_another_uplink ? 5 : 1;  // the quick ones vary: medians
        for (int run = 0; run < runs; ++run) measure(outage, run == 0 ? &plain : nullptr, multipath, rejoin);
        std::printf("| %s | %s | %llu | %s | %s | %llu |\n", outage.what, plain.text().c_str(),
                    static_cast<unsigned long long>(plain.wrong), outage.to_another_uplink ? multipath.text().c_str() : "",
                    rejoin.text().c_str(), static_cast<unsigned long long>(rejoin.wrong));
        whole = whole && rejoin.back && rejoin.wrong == 0;
        const auto against = [&](const Seen& other, double& log, int& of) {
            if (!other.back || !rejoin.back) return;
            log += std::log(median(rejoin.without) / median(other.without));
            ++of;
        };
        against(plain, log_plain, of_plain);
        if (outage.to_another_uplink) against(multipath, log_mptcp, of_mptcp);
    }
    const double against_plain = std::exp(log_plain / std::max(of_plain, 1)), against_mptcp = std::exp(log_mptcp / std::max(of_mptcp, 1));
    const bool held = whole && against_plain <= 0.2;
    std::printf(
        "time without data, rejoin against plain TCP, geometric mean over the %d that both survive: %.2f (bar: at most 0.20, all back, "
        "nothing "
        "lost or repeated)  %s\n",
        of_plain, against_plain, held ? "held" : "MISSED");
    std::printf("against MPTCP, over %d changes to another uplink: %.2f (bar: at most 0.50)  %s\n", of_mptcp, against_mptcp,
                against_mptcp <= 0.5 ? "held" : "MISSED");
    return held && against_mptcp <= 0.5;
}

/// How long the first connection takes where something is in its way.
double connects_after(const Lab& lab, std::vector<std::string> addresses, const IpAddress& from, bool& usable_first, double& after_usable) {
    lab.enter(Host::client);
    rejoin::Loop loop;
    rejoin::Resolver::of(loop).replace([&](const char*, rejoin::Function<void(rejoin::Resolver::Answer)> done) {
        rejoin::Array<IpAddress> all;
        for (const std::string& address : addresses) all.push(*IpAddress::parse(address.c_str()));
        done(std::move(all));
    });
    rejoin::ResumablePipe::Options options;
    options.from = from;
    rejoin::ResumablePipe pipe(loop, options);
    TimePoint usable, connected;
    pipe.on_network_change(
        [&](const rejoin::NetworkChange& change) {
            if (change.kind == rejoin::NetworkChange::Kind::address_usable && change.address == from) usable = monotonic_now();
        },
        rejoin::Notice::at_once);
    pipe.on_state([&](rejoin::PipeState state, const rejoin::Failure&) {
        if (state == rejoin::PipeState::connected) connected = monotonic_now(), loop.stop();
    });
    const TimePoint began = monotonic_now();
    if (!pipe.connect({"a.name", port})) throw failed("connect");
    static_cast<void>(loop.run_for(Duration::seconds(30)));
    need(connected != TimePoint(), "a connection");
    usable_first = usable != TimePoint();
    after_usable = usable_first ? milliseconds(connected - usable) : 0;
    lab.leave();
    return milliseconds(connected - began);
}
bool connect() {
    std::vector<double> broken_v6, after_usable;
    for (int run = 0; run < 5; ++run) {
        Lab lab;
        Shared<Side> side;
        const Process server(lab, Host::server, [&] { serve(*side, "::"); });
        need(wait_for([&] { return side->ready.load(); }, Duration::seconds(10)), "a server");
        lab.drop("ip6 daddr fd00:8::2");
        bool seen = false;
        double after = 0;
        broken_v6.push_back(connects_after(lab, {"fd00:8::2", "10.8.0.2"}, {}, seen, after));
        lab.restore();
        lab.in(Host::client, "echo 1 >/proc/sys/net/ipv6/conf/a0/accept_dad; ip addr add fd00:1::9/64 dev a0");
        connects_after(lab, {"fd00:8::2"}, *IpAddress::parse("fd00:1::9"), seen, after);
        need(seen, "an address that was not usable at first");
        after_usable.push_back(after);
    }
    const bool v6 = median(broken_v6) <= 300, dad = median(after_usable) <= 100;
    std::printf("IPv6 broken, IPv4 fine: connected after %.0f ms, worst %.0f of %zu (bar: 300 ms)  %s\n", median(broken_v6),
                worst(broken_v6), broken_v6.size(), v6 ? "held" : "MISSED");
    std::printf("duplicate-address detection: joined %.0f ms after the address was usable, worst %.0f (bar: 100 ms)  %s\n",
                median(after_usable), worst(after_usable), dad ? "held" : "MISSED");
    return v6 && dad;
}

bool herd() {
    constexpr std::uint32_t size = 1000;
    Herd herd(size);
    need(herd.all_talk(), "a thousand conversations");
    const TimePoint restarted = herd.restart_server();
    const bool all = herd.all_talk(Duration::seconds(60));
    const double took = milliseconds(monotonic_now() - restarted) / 1e3;
    const auto arrivals = herd.arrivals_since(restarted);
    const std::size_t allowed = 3 * size / 100;  // the steady rate: all of them evenly over the ten seconds
    const bool held = all && took <= 10 && arrivals.most_in_100_ms <= allowed;
    std::printf(
        "%u clients whose server is killed and restarted: back after %.1f s (bar: 10 s), %zu connections, at most %zu in 100 ms "
        "(bar: %zu)  %s\n",
        size, took, arrivals.all, arrivals.most_in_100_ms, allowed, held ? "held" : "MISSED");
    return held;
}

bool offline() {
    constexpr int lasts = 60;
    Lab lab;
    Shared<Side> side;
    const Process server(lab, Host::server, [&] { serve(*side); });
    need(wait_for([&] { return side->ready.load(); }, Duration::seconds(10)), "a server");
    Shared<std::atomic<std::uint64_t>> attempts;
    Shared<std::atomic<bool>> ready;
    const Process quiet(lab, Host::client, [&] {
        rejoin::Loop loop;
        rejoin::ResumablePipe pipe(loop);
        pipe.on_event([&](const rejoin::Event& event) {
            if (event.kind == rejoin::Event::Kind::attempt) ++*attempts;
            if (event.kind == rejoin::Event::Kind::joined) *ready = true;
        });
        if (!pipe.connect({"10.8.0.2", port})) throw failed("connect");
        loop.run();
    });
    need(wait_for([&] { return ready->load(); }, Duration::seconds(30)), "a connection");
    lab.in(Host::client, "ip link set a0 down; ip link set a1 down");
    usleep(5'000'000);  // until it is noticed that the connection is dead
    const std::uint64_t before = *attempts;
    const std::string file = "/tmp/rejoin-offline-" + std::to_string(getpid());
    const std::string trace = "timeout -s INT " + std::to_string(lasts) + " strace -f -c -o " + file + " -p " + std::to_string(quiet.id()) +
                              " 2>/dev/null || true";
    lab.in(Host::client, trace);
    const std::string calls = lab.ask(Host::client, "awk '$NF == \"total\" { print $4 }' " + file + " | head -n 1; rm -f " + file);
    const double rate = std::strtod(calls.c_str(), nullptr) / lasts;
    const std::uint64_t made = *attempts - before;
    const bool held = !calls.empty() && rate < 10 && made == 0;
    std::printf("no network at all for %d s: %.1f system calls a second, %llu attempts (bar: fewer than 10, none)  %s\n", lasts, rate,
                static_cast<unsigned long long>(made), held ? "held" : "MISSED");
    return held;
}

}  // namespace

int main(int argc, char** argv) {
    const auto wanted = [&](const char* name) {
        return argc == 1 || std::any_of(argv + 1, argv + argc, [&](const char* argument) { return std::strcmp(argument, name) == 0; });
    };
    return run_as_root([&] {
        const bool a = !wanted("table") || table();
        const bool b = !wanted("connect") || connect();
        const bool c = !wanted("herd") || herd();
        const bool d = !wanted("offline") || offline();
        return a && b && c && d;
    });
}
