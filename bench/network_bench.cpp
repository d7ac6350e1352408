// SPDX-License-Identifier: BSL-1.0
// Watching the network, rejoin beside others, in one run and in a network namespace of its own (needs root; no packet leaves it):
// notice: how long after a link is switched off, an address added, the gateway or the active interface another one, a handler runs,
//         beside a bare recv on netlink that is told of that alone
// routes: what 200,000 routes that are added and removed cost a watcher, beside a bare reader and beside libnl's cache manager
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <rejoin/network/netlink.hpp>
#include <rejoin/network/polling.hpp>
#include <vector>
#if __has_include(<netlink/cache.h>)
#include <netlink/cache.h>
#include <netlink/route/route.h>
#define HAVE_LIBNL 1
#endif

using namespace rejoin;
using Kind = NetworkChange::Kind;

namespace {

constexpr double notice_bar = 1.2;   // at most so many times the bare reader's median
constexpr double routes_bar = 0.01;  // at most this share of the others' processor time
constexpr int idle_seconds = 60;
constexpr double idle_bar = 0.0001;
constexpr int notice_blocks = 20, notice_rounds = 25;
constexpr std::uint32_t usual_gateway = 0xc0000201, other_gateway = 0xc00002fe, gateway_of_v1 = 0xcb007101;
constexpr int routes = 200'000, default_changes = 10;

// What a reader tells the program that started it, through shared memory.
struct Report {
    void clear() { ready = 0, back = 0, noticed_at = 0, processor = 0, lost = 0, default_changes = 0; }
    void notice();
    std::atomic<int> ready, back, default_changes;    // back: what was noticed is undone, and that was noticed too
    std::atomic<std::int64_t> noticed_at, processor;  // nanoseconds
    std::atomic<unsigned long> lost;                  // messages that the kernel could not deliver
};

std::int64_t clock_ns(clockid_t clock) {
    timespec t{};
    clock_gettime(clock, &t);
    return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}
void Report::notice() {
    if (noticed_at == 0) noticed_at = clock_ns(CLOCK_MONOTONIC);
}
void require(bool ok, const char* what) {
    if (ok) return;
    std::perror(what);
    std::exit(2);
}

volatile sig_atomic_t stopped = 0;

// A reader in a process of its own: `read` returns when `stopped` is set, which a signal does that interrupts any system call.
template <class Read>
pid_t start(Report& report, Read read) {
    report.ready = 0;
    const pid_t child = fork();
    require(child >= 0, "fork");
    if (child == 0) {
        struct sigaction action {};
        action.sa_handler = [](int) { stopped = 1; };
        sigaction(SIGUSR1, &action, nullptr);
        read(report);
        _exit(0);
    }
    while (report.ready == 0) usleep(100);
    return child;
}
void stop(pid_t child) {
    while (kill(child, SIGUSR1) == 0 && waitpid(child, nullptr, WNOHANG) == 0) usleep(1000);
}

// Lost messages of the netlink socket, as the kernel counts them.
unsigned long lost_by(int fd) {
    sockaddr_nl address{};
    socklen_t size = sizeof address;
    require(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0, "getsockname");
    std::FILE* file = std::fopen("/proc/self/net/netlink", "r");
    require(file != nullptr, "/proc/self/net/netlink");
    char line[256];
    unsigned long lost = 0, drops = 0;
    unsigned port = 0;
    while (std::fgets(line, sizeof line, file) != nullptr)
        if (std::sscanf(line, "%*x 0 %u %*x %*d %*d %*d %*d %lu", &port, &drops) == 2 && port == address.nl_pid) lost = drops;
    std::fclose(file);
    return lost;
}
int netlink_socket(unsigned groups) {
    const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = groups;
    require(fd >= 0 && bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0, "netlink");
    return fd;
}

struct Handler {
    void hear(const NetworkChange& change) {
        if (!change.early) return;
        const IpAddress added = IpAddress::v4(198, 51, 100, 7), gateway = IpAddress::v4(192, 0, 2, 254);
        if ((change.kind == Kind::interface_down && change.interface_name == TextView("v0")) ||
            (change.kind == Kind::address_usable && change.address == added) ||
            (change.kind == Kind::route_changed && change.gateway == gateway) ||
            (change.kind == Kind::active_interface_changed && change.interface_name == TextView("v1")))
            report.notice();
        if ((change.kind == Kind::interface_up && change.interface_name == TextView("v0")) ||
            (change.kind == Kind::address_removed && change.address == added) ||
            (change.kind == Kind::route_changed && change.gateway == IpAddress::v4(192, 0, 2, 1)))
            report.back = 1;
        if (change.kind == Kind::route_changed || change.kind == Kind::route_added) ++report.default_changes;
    }
    Report& report;
    NetworkObserver observer{Delegate<void(const NetworkChange&)>::to<&Handler::hear>(this)};
};
void read_with_rejoin(Report& report) {
    // The source's own socket is the only one bound to groups.
    const auto events = [] {
        for (int fd = 3; fd < 64; ++fd) {
            sockaddr_nl address{};
            socklen_t size = sizeof address;
            if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0 && address.nl_family == AF_NETLINK &&
                address.nl_groups != 0)
                return fd;
        }
        return -1;
    };
    Loop loop;
    Netlink& network = Netlink::of(loop);
    require(!network.error(), "rejoin");
    Handler handler{report};
    network.observe(handler.observer);
    const std::int64_t before = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    report.ready = 1;
    while (stopped == 0) static_cast<void>(loop.run_once());
    report.processor = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - before;
    report.lost = lost_by(events());
}

// What a careful program without a library does with each message: it looks at the type, and at what it asks for.
template <class F>
void for_each_message(const char* data, ssize_t size, F f) {
    for (ssize_t at = 0; at + static_cast<ssize_t>(sizeof(nlmsghdr)) <= size;) {
        const auto& message = *reinterpret_cast<const nlmsghdr*>(data + at);
        f(message);
        at += static_cast<ssize_t>((message.nlmsg_len + 3) & ~3u);
    }
}
template <class F>
void read_bare(Report& report, unsigned groups, F is_it) {
    const int fd = netlink_socket(groups);
    alignas(nlmsghdr) static char buffer[32768];
    report.ready = 1;
    while (stopped == 0) {
        const ssize_t size = recv(fd, buffer, sizeof buffer, 0);
        for_each_message(buffer, size, [&](const nlmsghdr& m) {
            if (is_it(m)) report.notice();
        });
    }
}
void read_links_bare(Report& report) {
    read_bare(report, RTMGRP_LINK, [v0 = static_cast<int>(if_nametoindex("v0"))](const nlmsghdr& m) {
        const auto* link = static_cast<const ifinfomsg*>(NLMSG_DATA(&m));
        return m.nlmsg_type == RTM_NEWLINK && link->ifi_index == v0 && (link->ifi_flags & IFF_UP) == 0;
    });
}
void read_addresses_bare(Report& report) {
    read_bare(report, RTMGRP_IPV4_IFADDR, [](const nlmsghdr& m) { return m.nlmsg_type == RTM_NEWADDR; });
}
template <std::uint32_t gateway>
void read_gateway_bare(Report& report) {
    read_bare(report, RTMGRP_IPV4_ROUTE, [](const nlmsghdr& m) {
        const auto* route = static_cast<const rtmsg*>(NLMSG_DATA(&m));
        if (m.nlmsg_type != RTM_NEWROUTE || route->rtm_dst_len != 0) return false;
        auto left = static_cast<unsigned>(RTM_PAYLOAD(&m));
        for (const rtattr* a = RTM_RTA(route); RTA_OK(a, left); a = RTA_NEXT(a, left))
            if (a->rta_type == RTA_GATEWAY) return *static_cast<const std::uint32_t*>(RTA_DATA(a)) == htonl(gateway);
        return false;
    });
}
void read_routes_bare(Report& report) {
    const int fd =
        netlink_socket(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE | RTMGRP_IPV4_RULE);
    alignas(nlmsghdr) static char buffer[32768];
    const std::int64_t before = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    report.ready = 1;
    while (stopped == 0) {
        const ssize_t size = recv(fd, buffer, sizeof buffer, 0);
        for_each_message(buffer, size, [&](const nlmsghdr& m) {
            if (m.nlmsg_type == RTM_NEWROUTE && static_cast<const rtmsg*>(NLMSG_DATA(&m))->rtm_dst_len == 0) ++report.default_changes;
        });
    }
    report.processor = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - before;
    report.lost = lost_by(fd);
}
#if defined(HAVE_LIBNL)
void read_with_libnl(Report& report) {
    nl_cache_mngr* manager = nullptr;
    nl_cache* cache = nullptr;
    require(nl_cache_mngr_alloc(nullptr, NETLINK_ROUTE, NL_AUTO_PROVIDE, &manager) == 0, "libnl");
    const auto changed = [](nl_cache*, nl_object* object, int action, void* to) {
        auto* route = reinterpret_cast<rtnl_route*>(object);
        auto* told = static_cast<Report*>(to);
        if (action != NL_ACT_DEL && nl_addr_get_prefixlen(rtnl_route_get_dst(route)) == 0) ++told->default_changes;
    };
    require(nl_cache_mngr_add(manager, "route/link", nullptr, nullptr, &cache) == 0 &&
                nl_cache_mngr_add(manager, "route/addr", nullptr, nullptr, &cache) == 0 &&
                nl_cache_mngr_add(manager, "route/route", changed, &report, &cache) == 0,
            "libnl caches");
    const std::int64_t before = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    report.ready = 1;
    while (stopped == 0) static_cast<void>(nl_cache_mngr_poll(manager, -1));
    report.processor = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - before;
    report.lost = lost_by(nl_cache_mngr_get_fd(manager));
}
#endif

void command(const char* text) { require(std::system(text) == 0, text); }

// Of an interface, or of an address that has a name of its own (v0:7).
void switch_flag(const char* name, bool on) {
    static const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ifreq request{};
    std::snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    require(ioctl(fd, SIOCGIFFLAGS, &request) == 0, "flags");
    request.ifr_flags = static_cast<short>(on ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
    require(ioctl(fd, SIOCSIFFLAGS, &request) == 0, "flags");
}
void add_address() {
    static const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ifreq request{};
    std::snprintf(request.ifr_name, sizeof request.ifr_name, "v0:7");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(0xc6336407);
    std::memcpy(&request.ifr_addr, &address, sizeof address);
    require(ioctl(fd, SIOCSIFADDR, &request) == 0, "address");
}

// Many small changes of routes in few system calls.
class RouteWriter {
public:
    // 0: the default route
    void put(bool add, std::uint32_t destination, std::uint32_t gateway, unsigned by = if_nametoindex("v0")) {
        const std::uint8_t length = destination == 0 ? 0 : 32;
        const std::size_t start = buffer_.size();
        nlmsghdr header{};
        header.nlmsg_len = sizeof header + sizeof(rtmsg) + (length == 0 ? 2 : 3) * 8;
        header.nlmsg_type = add ? RTM_NEWROUTE : RTM_DELROUTE;
        header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | (add ? NLM_F_CREATE | NLM_F_REPLACE : 0));
        rtmsg route{};
        route.rtm_family = AF_INET;
        route.rtm_dst_len = length;
        route.rtm_table = RT_TABLE_MAIN;
        route.rtm_protocol = RTPROT_STATIC;
        route.rtm_type = RTN_UNICAST;
        append(&header, sizeof header);
        append(&route, sizeof route);
        if (length != 0) attribute(RTA_DST, htonl(destination));
        attribute(RTA_GATEWAY, htonl(gateway));
        attribute(RTA_OIF, by);
        require(buffer_.size() - start == header.nlmsg_len, "route message");
        if (buffer_.size() > 16'000) flush();
    }
    void flush() {
        require(buffer_.empty() || send(fd_, buffer_.data(), buffer_.size(), 0) > 0, "send");
        buffer_.clear();
        char refused[64];
        require(recv(fd_, refused, sizeof refused, MSG_DONTWAIT) < 0 && errno == EAGAIN, "a route was refused");
    }

private:
    void append(const void* data, std::size_t size) {
        const char* bytes = static_cast<const char*>(data);
        buffer_.insert(buffer_.end(), bytes, bytes + size);
    }
    void attribute(std::uint16_t type, std::uint32_t value) {
        const rtattr head{8, type};
        append(&head, sizeof head);
        append(&value, sizeof value);
    }
    const int fd_ = netlink_socket(0);
    std::vector<char> buffer_;
};

double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
    return values[values.size() / 2];
}

// What was missed ends the measurement, and does not hold it up for ever.
template <class F>
void until(F done, const char* what) {
    const std::int64_t end = clock_ns(CLOCK_MONOTONIC) + 30'000'000'000;
    while (!done()) {
        errno = ETIMEDOUT;
        require(clock_ns(CLOCK_MONOTONIC) < end, what);
        usleep(100);
    }
}

// Both read the same events, in processes of their own; who was there first, which the kernel serves last, takes turns.
template <class Change>
bool notice(const char* what, std::array<Report, 2>& reports, void (*read_bare)(Report&), Change change) {
    std::vector<double> rejoin_us, bare_us, apart_us;
    for (int block = 0; block < notice_blocks; ++block) {
        std::array<pid_t, 2> children{};
        for (int i = 0; i < 2; ++i) {
            const int who = (block + i) % 2;
            children[static_cast<std::size_t>(who)] = who == 0 ? start(reports[0], read_with_rejoin) : start(reports[1], read_bare);
        }
        for (int round = 0; round < notice_rounds; ++round) {
            usleep(3000);  // both are asleep again
            for (Report& report : reports) report.noticed_at = 0;
            const std::int64_t at = clock_ns(CLOCK_MONOTONIC);
            change(true);
            until([&] { return reports[0].noticed_at != 0 && reports[1].noticed_at != 0; }, what);
            rejoin_us.push_back(static_cast<double>(reports[0].noticed_at - at) / 1000);
            bare_us.push_back(static_cast<double>(reports[1].noticed_at - at) / 1000);
            apart_us.push_back(static_cast<double>(reports[0].noticed_at - reports[1].noticed_at) / 1000);
            reports[0].back = 0;
            change(false);
            until([&] { return reports[0].back != 0; }, what);  // or it would be overtaken, and then there is no change
        }
        for (pid_t child : children) stop(child);
    }
    const double ours = median(rejoin_us), bare = median(bare_us), ratio = ours / bare;
    const bool held = ratio <= notice_bar;
    std::printf("notice of %-29s rejoin %7.1f us   bare recv %7.1f us   ratio %5.3f  (bar: at most %.2f)  %s\n", what, ours, bare, ratio,
                notice_bar, held ? "held" : "MISSED");
    std::printf("    median over %zu events; of the same event, rejoin is %.1f us after the bare reader\n", rejoin_us.size(),
                median(apart_us));
    return held;
}
bool notices(std::array<Report, 2>& reports) {
    RouteWriter writer;
    const auto lead = [&](std::uint32_t gateway, const char* by) {
        writer.put(true, 0, gateway, if_nametoindex(by));
        writer.flush();
    };
    bool held = notice("a link going down", reports, read_links_bare, [](bool there) { switch_flag("v0", !there); });
    held &=
        notice("an address added", reports, read_addresses_bare, [](bool there) { there ? add_address() : switch_flag("v0:7", false); });
    lead(usual_gateway, "v0");
    held &= notice("another gateway", reports, read_gateway_bare<other_gateway>,
                   [&](bool there) { lead(there ? other_gateway : usual_gateway, "v0"); });
    held &= notice("another active interface", reports, read_gateway_bare<gateway_of_v1>,
                   [&](bool there) { there ? lead(gateway_of_v1, "v1") : lead(usual_gateway, "v0"); });
    writer.put(false, 0, usual_gateway);
    writer.flush();
    return held;
}

template <class Read>
void watch_routes(const char* name, Report& report, Read read) {
    report.clear();
    const pid_t child = start(report, read);
    RouteWriter writer;
    const std::int64_t start_at = clock_ns(CLOCK_MONOTONIC);
    int written = 0, changed = 0;
    for (bool add : {true, false})
        for (int i = 0; i < routes; ++i) {
            writer.put(add, 0x0a000000u + static_cast<std::uint32_t>(i), 0xc0000201);
            if (++written % (2 * routes / default_changes) != 0) continue;
            writer.put(true, 0, 0xc0000201u + static_cast<std::uint32_t>(++changed));
            writer.flush();
            usleep(20'000);  // a change that is overtaken by the next is none
        }
    writer.flush();
    const double seconds = static_cast<double>(clock_ns(CLOCK_MONOTONIC) - start_at) / 1e9;
    usleep(500'000);  // what is queued is read
    stop(child);
    writer.put(false, 0, 0xc0000201u + static_cast<std::uint32_t>(changed));
    writer.flush();
    std::printf("    %-22s %9.4f s of processor time in %.1f s, %8lu messages lost, %2d of %d default-route changes seen\n", name,
                static_cast<double>(report.processor) / 1e9, seconds, report.lost.load(), report.default_changes.load(), default_changes);
}

bool many_routes(Report& report) {
    std::printf("%d routes added and removed\n", routes);
    watch_routes("rejoin", report, read_with_rejoin);
    const double ours = static_cast<double>(report.processor);
    bool held = report.lost == 0 && report.default_changes == default_changes;
    const auto against = [&](const char* name, auto read) {
        watch_routes(name, report, read);
        const double ratio = ours / static_cast<double>(report.processor);
        const bool ok = ratio <= routes_bar;
        held = held && ok;
        std::printf("    processor time, rejoin to %s: ratio %.5f  (bar: at most %.2f)  %s\n", name, ratio, routes_bar,
                    ok ? "held" : "MISSED");
    };
    against("bare reader", read_routes_bare);
#if defined(HAVE_LIBNL)
    against("libnl cache manager", read_with_libnl);
#else
    std::printf("    libnl cache manager: not measured, libnl-route-3-dev was not there\n");
#endif
    std::printf("no message lost, no default-route change missed, by rejoin: %s\n", held ? "held" : "MISSED");
    return held;
}

// What a look costs where nothing is told, against making the native source anew, which reads everything once.
void looks() {
    constexpr int rounds = 2000;
    Loop loop;
    Polling& polling = Polling::of(loop);
    std::int64_t start = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < rounds; ++i) polling.look();
    const double look = static_cast<double>(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - start) / rounds / 1000;
    start = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < rounds; ++i) Netlink source(loop);
    const double dump = static_cast<double>(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - start) / rounds / 1000;
    std::printf("a look of polling, %zu addresses   %7.1f us   netlink read whole %7.1f us   ratio %5.2f\n",
                polling.state().addresses.size(), look, dump, look / dump);
}

// Both sources on a network on which nothing happens.
bool idle() {
    bool held = true;
    const auto watch = [&](const char* name, auto make) {
        Loop loop;
        make(loop);
        static_cast<void>(loop.run_for(Duration::milliseconds(1500)));  // what follows from the start is through
        const std::int64_t before = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        int turns = 0;
        const TimePoint end = monotonic_now() + Duration::seconds(idle_seconds);
        while (monotonic_now() < end) static_cast<void>(loop.run_once(end - monotonic_now())), ++turns;
        const double share = static_cast<double>(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - before) / 1e9 / idle_seconds;
        const bool ok = share < idle_bar && turns <= idle_seconds / 10 + 1;
        held = held && ok;
        std::printf(
            "watching an idle network, %-8s %.5f %% of a processor, woken %d times in %d s   (bar: below %.2f %%, once in 10 s)  %s\n",
            name, share * 100, turns - 1, idle_seconds, idle_bar * 100, ok ? "held" : "MISSED");
    };
    watch("netlink", [](Loop& loop) { Netlink::of(loop); });
    watch("polling", [](Loop& loop) { Polling::of(loop); });
    return held;
}

}  // namespace

int main() {
    if (unshare(CLONE_NEWNET) != 0) {
        std::puts("skipped: needs root, to make a network namespace");
        return 77;
    }
    std::setvbuf(stdout, nullptr, _IOLBF, 0);  // and nothing is printed twice by the children
    command("ip link set lo up");
    command("ip link add v0 type veth peer name v1");
    command("ip link set v1 up");
    command("ip link set v0 up");
    command("ip address add 192.0.2.100/24 dev v0");
    command("ip address add 203.0.113.2/24 dev v1");
    command("ip -6 address add 2001:db8::7/64 dev v0 nodad");
    void* shared = mmap(nullptr, sizeof(std::array<Report, 2>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    require(shared != MAP_FAILED, "mmap");
    auto& reports = *static_cast<std::array<Report, 2>*>(shared);
    const bool noticed = notices(reports);
    const bool watched = many_routes(reports[0]);
    looks();
    const bool cheap = idle();
    return noticed && watched && cheap ? 0 : 1;
}
