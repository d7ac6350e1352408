// SPDX-License-Identifier: BSL-1.0
// The Linux event source against a real kernel, in network namespaces of its own: what the kernel says of real interfaces.
#if defined(__linux__)
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <rejoin/network/netlink.hpp>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace rejoin;
using Kind = NetworkChange::Kind;

namespace {

// Moves this process into an empty network namespace. Where that is not allowed the test says so, by its name, and ends.
bool in_fresh_namespace(const char* name) {
    if (unshare(CLONE_NEWNET) == 0) return true;
    WARN("skipped: " << name << ": needs root, to make network namespaces");
    return false;
}

void ip_command(const std::string& arguments) {
    INFO("ip " << arguments);
    REQUIRE(std::system(("ip " + arguments).c_str()) == 0);
}

IpAddress ip(TextView text) {
    auto parsed = IpAddress::parse(text);
    REQUIRE(parsed);
    return *parsed;
}

// Two uplinks, v0 and w0, whose other ends are v1 and w1. Nothing happens on them by itself: no IPv6 address is made up, and none but
// those of a test has to be checked.
void make_uplinks() {
    ip_command("link set lo up");
    for (const char* name : {"v", "w"}) {
        const std::string n = name;
        ip_command("link add " + n + "0 type veth peer name " + n + "1");
        ip_command("link set " + n + "0 addrgenmode none");
        ip_command("link set " + n + "1 addrgenmode none");
        ip_command("link set " + n + "1 up");
        ip_command("link set " + n + "0 up");
    }
    ip_command("address add 192.0.2.7/24 dev v0");
    ip_command("address add 198.51.100.7/24 dev w0");
    ip_command("-6 address add 2001:db8::7/64 dev v0 nodad");
}

struct Heard {
    Kind kind;
    std::string name;
    bool major;
    bool hits_v0;  // a connection from 192.0.2.7
    std::string text;
};

struct Watcher {
    Watcher() { network.observe(observer); }
    void hear(const NetworkChange& change) {
        if (!change.early) return;
        heard.push_back(
            {change.kind, change.interface_name.c_str(), change.major, change.affects(v0_address, {}), describe(change).c_str()});
    }
    // Runs the loop until it is so. Gives up after a time that no correct run needs.
    template <class Condition>
    bool until(Condition condition) {
        const TimePoint deadline = loop.now() + Duration::seconds(20);
        while (!condition()) {
            if (loop.now() > deadline) {
                for (const Heard& h : heard) UNSCOPED_INFO(h.text);
                return false;
            }
            REQUIRE(loop.run_once(Duration::milliseconds(50)));
        }
        return true;
    }
    const Heard* find(Kind kind, const std::string& name = {}) const {
        for (const Heard& h : heard)
            if (h.kind == kind && (name.empty() || h.name == name)) return &h;
        return nullptr;
    }
    bool until_heard(Kind kind, const std::string& name = {}) {
        return until([&] { return find(kind, name) != nullptr; });
    }
    std::uint32_t index(TextView name) const {
        for (const Interface& i : network.state().interfaces)
            if (i.name == name) return i.index;
        return 0;
    }
    const Route& route(Family family) const { return network.state().route_for(family); }

    const IpAddress v0_address = ip("192.0.2.7");
    Loop loop;
    Netlink& network = Netlink::of(loop);
    std::vector<Heard> heard;
    NetworkObserver observer{Delegate<void(const NetworkChange&)>::to<&Watcher::hear>(this)};
};

// The socket on which the kernel's messages arrive, which no user needs to know.
int events_descriptor() {
    for (int fd = 3; fd < 256; ++fd) {
        sockaddr_nl address{};
        socklen_t size = sizeof address;
        if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0 && address.nl_family == AF_NETLINK && address.nl_groups != 0)
            return fd;
    }
    return -1;
}
bool has_message(int fd) {
    pollfd one{fd, POLLIN, 0};
    return poll(&one, 1, 0) == 1;
}
// Messages that sockets of this namespace lost, as the kernel counts them.
unsigned long lost_messages() {
    std::FILE* file = std::fopen("/proc/self/net/netlink", "r");
    REQUIRE(file != nullptr);
    unsigned long total = 0, drops = 0;
    char line[256];
    while (std::fgets(line, sizeof line, file) != nullptr)
        if (std::sscanf(line, "%*x %*d %*d %*x %*d %*d %*d %*d %lu", &drops) == 1) total += drops;
    std::fclose(file);
    return total;
}

// Runs `check` in a process of its own, which may spoil itself.
template <class Check>
bool in_child(Check check) {
    const pid_t child = fork();
    if (child == 0) _exit(check() ? 0 : 1);
    int status = 1;
    return waitpid(child, &status, 0) == child && status == 0;
}

}  // namespace

TEST_CASE("netlink: the state of this host is known at once, and one source serves a loop", "[live]") {
    Loop loop;
    Netlink& network = Netlink::of(loop);
    REQUIRE_FALSE(network.error());
    REQUIRE(network.state().known);
    REQUIRE(&Netlink::of(loop) == &network);
    REQUIRE(network.state().interfaces.size() >= 1);
    REQUIRE(network.route_to({}).error() == Errc::invalid_argument);
}

TEST_CASE("netlink: without descriptors there is an error, and nothing is claimed to be known") {
    REQUIRE(in_child([] {
        Loop loop;
        const int next = dup(0);
        const rlimit none{static_cast<rlim_t>(next), static_cast<rlim_t>(next)};
        close(next);
        if (setrlimit(RLIMIT_NOFILE, &none) != 0) return false;
        const Netlink& network = Netlink::of(loop);
        return network.error() == Error::system(EMFILE) && !network.state().known && !network.state().offline() &&
               Netlink::of(loop).route_to(IpAddress::v4(127, 0, 0, 1)).error() == Error::system(EMFILE);
    }));
}

#if defined(SYS_sendto)
TEST_CASE("netlink: in a sandbox that forbids to ask the kernel there is an error, and the loop goes on", "[native]") {
    REQUIRE(in_child([] {
        Loop loop;
        sock_filter refuse[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),  // the number of the system call
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sendto, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        const sock_fprog program{4, refuse};
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return false;
        const Netlink& network = Netlink::of(loop);
        return network.error() == Error::system(EPERM) && !network.state().known && events_descriptor() == -1 &&
               static_cast<bool>(loop.run_once(Duration()));
    }));
}
#endif

TEST_CASE("netlink: the name servers are known, and their change is told", "[netlab]") {
    if (!in_fresh_namespace("name servers")) return;
    REQUIRE(in_child([] {
        const auto write = [](const char* address) {
            FILE* file = std::fopen("/etc/new", "w");
            std::fprintf(file, "nameserver %s\n", address);
            std::fclose(file);
            return std::rename("/etc/new", "/etc/resolv.conf") == 0;
        };
        if (unshare(CLONE_NEWNS) != 0 || mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
            mount("none", "/etc", "tmpfs", 0, nullptr) != 0 || !write("192.0.2.1"))
            return false;
        Watcher watcher;
        const Array<IpAddress>& servers = watcher.network.state().dns_servers;
        return servers.size() == 1 && servers[0] == IpAddress::v4(192, 0, 2, 1) && write("192.0.2.2") &&
               watcher.until_heard(Kind::dns_changed) && servers.size() == 1 && servers[0] == IpAddress::v4(192, 0, 2, 2);
    }));
}

TEST_CASE("netlink: a sleep is told before what the network says after it", "[netlab]") {
    if (!in_fresh_namespace("sleep")) return;
    REQUIRE(in_child([] {
        Watcher watcher;
        // To this process the boot-time clock jumps as it does over a sleep (time_namespaces(7)).
        if (unshare(CLONE_NEWTIME) != 0) return false;
        FILE* offsets = std::fopen("/proc/self/timens_offsets", "w");
        if (offsets == nullptr || std::fprintf(offsets, "boottime 3600 0\n") < 0 || std::fclose(offsets) != 0) return false;
        // Its own process from here on: only a new one, or one without threads, which sanitizers have, enters such a namespace.
        return in_child([&watcher] {
            ip_command("link set lo up");
            if (!watcher.until_heard(Kind::interface_up, "lo")) return false;
            const Heard* const woke = watcher.find(Kind::woke);
            return woke == &watcher.heard.front() && woke->major && woke->text == "The host woke after 3600 s of sleep.";
        });
    }));
}

TEST_CASE("netlink: interfaces come, go up, lose and regain carrier, go down and vanish", "[netlab]") {
    if (!in_fresh_namespace("interfaces")) return;
    Watcher watcher;
    REQUIRE(watcher.network.state().interfaces.size() == 1);
    ip_command("link add v0 type veth peer name v1");
    REQUIRE(watcher.until_heard(Kind::interface_added, "v0"));
    REQUIRE(watcher.until_heard(Kind::interface_added, "v1"));
    ip_command("link set v0 up");
    REQUIRE(watcher.until_heard(Kind::interface_up, "v0"));
    REQUIRE(watcher.find(Kind::carrier_up) == nullptr);
    ip_command("link set v1 up");
    REQUIRE(watcher.until_heard(Kind::carrier_up, "v0"));
    REQUIRE(watcher.network.state().find_interface(watcher.index("v0"))->running());
    ip_command("link set v1 down");
    REQUIRE(watcher.until_heard(Kind::carrier_down, "v0"));
    REQUIRE(watcher.find(Kind::interface_down, "v0") == nullptr);
    watcher.heard.clear();
    ip_command("link set v1 up");
    REQUIRE(watcher.until_heard(Kind::carrier_up, "v0"));
    ip_command("link set v0 down");
    REQUIRE(watcher.until_heard(Kind::interface_down, "v0"));
    REQUIRE(watcher.find(Kind::carrier_down, "v0") == nullptr);
    ip_command("link delete v0");
    REQUIRE(watcher.until_heard(Kind::interface_removed, "v0"));
    REQUIRE(watcher.until_heard(Kind::interface_removed, "v1"));
    REQUIRE(watcher.network.state().interfaces.size() == 1);
}

TEST_CASE("netlink: a bridge takes an interface in and lets it go, and the interface stays", "[netlab]") {
    if (!in_fresh_namespace("a bridge")) return;
    make_uplinks();
    ip_command("link add bridge type bridge");
    Watcher watcher;
    ip_command("link set v0 master bridge");
    ip_command("link set v0 nomaster");
    ip_command("link delete bridge");
    REQUIRE(watcher.until_heard(Kind::interface_removed, "bridge"));
    REQUIRE(watcher.find(Kind::interface_removed, "v0") == nullptr);
    REQUIRE(watcher.index("v0") != 0);
}

TEST_CASE("netlink: IPv4 addresses are usable at once, and their removal hits their connections", "[netlab]") {
    if (!in_fresh_namespace("IPv4 addresses")) return;
    make_uplinks();
    Watcher watcher;
    ip_command("address add 203.0.113.7/24 dev v0");
    REQUIRE(watcher.until_heard(Kind::address_usable, "v0"));
    REQUIRE(watcher.find(Kind::address_added, "v0") != nullptr);
    ip_command("address delete 203.0.113.7/24 dev v0");
    REQUIRE(watcher.until_heard(Kind::address_removed, "v0"));
    REQUIRE_FALSE(watcher.find(Kind::address_removed)->hits_v0);
    watcher.heard.clear();
    ip_command("address delete 192.0.2.7/24 dev v0");
    REQUIRE(watcher.until_heard(Kind::address_removed, "v0"));
    REQUIRE(watcher.find(Kind::address_removed)->major);
    REQUIRE(watcher.find(Kind::address_removed)->hits_v0);
    REQUIRE(watcher.network.state().find_address(watcher.index("v0"), ip("192.0.2.7")) == nullptr);
}

TEST_CASE("netlink: an IPv6 address is usable when its uniqueness has been checked", "[netlab]") {
    if (!in_fresh_namespace("IPv6 addresses")) return;
    make_uplinks();
    Watcher watcher;
    const auto usable = [&] {
        const InterfaceAddress* address = watcher.network.state().find_address(watcher.index("v0"), ip("2001:db8::8"));
        return address != nullptr && address->usable();
    };
    ip_command("-6 address add 2001:db8::8/64 dev v0");
    REQUIRE(watcher.until([&] {
        const Heard* added = watcher.find(Kind::address_added, "v0");
        return added != nullptr && added->text == "Address 2001:db8::8 was added to v0.";
    }));
    REQUIRE_FALSE(usable());
    REQUIRE(watcher.until(usable));
    REQUIRE(watcher.until([&] {
        for (const Heard& h : watcher.heard)
            if (h.text == "Address 2001:db8::8 can be used on v0.") return true;
        return false;
    }));
}

TEST_CASE("netlink: an IPv6 address that somebody else has is not usable", "[netlab]") {
    if (!in_fresh_namespace("duplicate addresses")) return;
    make_uplinks();
    ip_command("-6 address add 2001:db8::8/64 dev v1 nodad");
    Watcher watcher;
    ip_command("-6 address add 2001:db8::8/64 dev v0");
    REQUIRE(watcher.until([&] {
        const InterfaceAddress* address = watcher.network.state().find_address(watcher.index("v0"), ip("2001:db8::8"));
        return address != nullptr && address->duplicate;
    }));
    REQUIRE_FALSE(watcher.network.state().find_address(watcher.index("v0"), ip("2001:db8::8"))->usable());
    REQUIRE(watcher.find(Kind::address_usable) == nullptr);
}

TEST_CASE("netlink: default routes come, change and go, in both families", "[netlab]") {
    if (!in_fresh_namespace("default routes")) return;
    make_uplinks();
    Watcher watcher;
    REQUIRE(watcher.network.state().offline());
    ip_command("route add default via 192.0.2.1");
    REQUIRE(watcher.until_heard(Kind::connectivity_regained, "v0"));
    REQUIRE(watcher.find(Kind::route_added)->text == "IPv4 has a route to the internet by v0 through 192.0.2.1.");
    REQUIRE(watcher.route(Family::v4) == Route{true, watcher.index("v0"), ip("192.0.2.1"), ip("192.0.2.7")});
    REQUIRE(*watcher.network.route_to(ip("203.0.113.9")) == watcher.route(Family::v4));
    REQUIRE(watcher.network.route_to(ip("198.51.100.9"))->interface_index == watcher.index("w0"));
    REQUIRE(watcher.network.route_to(ip("198.51.100.9"))->gateway == IpAddress());
    REQUIRE(watcher.network.route_to(ip("127.0.0.1"))->interface_index == watcher.index("lo"));
    REQUIRE_FALSE(watcher.network.route_to(ip("2001:db8:1::1"))->present);

    watcher.heard.clear();
    ip_command("-6 route add default via 2001:db8::1");
    REQUIRE(watcher.until_heard(Kind::route_added, "v0"));
    REQUIRE(watcher.route(Family::v6) == Route{true, watcher.index("v0"), ip("2001:db8::1"), ip("2001:db8::7")});

    watcher.heard.clear();
    ip_command("route replace default via 192.0.2.2");
    REQUIRE(watcher.until_heard(Kind::route_changed, "v0"));
    REQUIRE(watcher.find(Kind::route_changed)->hits_v0);
    REQUIRE(watcher.find(Kind::active_interface_changed) == nullptr);

    watcher.heard.clear();
    ip_command("route replace default via 198.51.100.1");
    REQUIRE(watcher.until_heard(Kind::active_interface_changed, "w0"));
    REQUIRE(watcher.find(Kind::route_changed)->hits_v0);

    watcher.heard.clear();
    ip_command("route delete default");
    REQUIRE(watcher.until_heard(Kind::route_removed, "w0"));
    REQUIRE_FALSE(watcher.find(Kind::route_removed)->hits_v0);
    REQUIRE(watcher.find(Kind::connectivity_lost) == nullptr);
    ip_command("-6 route delete default");
    REQUIRE(watcher.until_heard(Kind::connectivity_lost));
}

TEST_CASE("netlink: of several default routes the one with the lowest metric is taken, and the next one takes over", "[netlab]") {
    if (!in_fresh_namespace("metrics")) return;
    make_uplinks();
    ip_command("route add default via 198.51.100.1 metric 20");
    ip_command("route add default via 192.0.2.1 metric 10");
    ip_command("-6 route add default via 2001:db8::1");
    Watcher watcher;
    REQUIRE(watcher.route(Family::v4).gateway == ip("192.0.2.1"));
    ip_command("route del default metric 10");
    REQUIRE(watcher.until_heard(Kind::active_interface_changed, "w0"));
    REQUIRE(watcher.find(Kind::route_changed, "w0") != nullptr);
    REQUIRE(watcher.find(Kind::route_removed) == nullptr);
    REQUIRE(watcher.route(Family::v4).gateway == ip("198.51.100.1"));
    REQUIRE(watcher.route(Family::v6).gateway == ip("2001:db8::1"));  // the other family minds its own
    watcher.heard.clear();
    ip_command("route add default via 192.0.2.1 metric 30");  // worse: nothing changes
    ip_command("route del default metric 20");
    REQUIRE(watcher.until_heard(Kind::active_interface_changed, "v0"));
    REQUIRE(watcher.heard.size() == 2);
    ip_command("-6 route del default");
    REQUIRE(watcher.until_heard(Kind::route_removed, "v0"));
    REQUIRE(watcher.network.state().connected());
}

TEST_CASE("netlink: rules choose another table by source, by mark and by destination", "[netlab]") {
    if (!in_fresh_namespace("policy routing")) return;
    make_uplinks();
    ip_command("route add default via 192.0.2.1");
    ip_command("route add default via 198.51.100.1 table 100");
    ip_command("rule add from 198.51.100.7 table 100");
    ip_command("rule add fwmark 5 table 100");
    Watcher watcher;
    const IpAddress far = ip("203.0.113.1");
    const auto gateway = [&](const IpAddress& source, std::uint32_t mark) {
        const auto route = watcher.network.route_to(far, source, mark);
        return route ? route->gateway : IpAddress();
    };
    REQUIRE(gateway({}, 0) == ip("192.0.2.1"));
    REQUIRE(gateway(ip("192.0.2.7"), 0) == ip("192.0.2.1"));
    REQUIRE(gateway(ip("198.51.100.7"), 0) == ip("198.51.100.1"));
    REQUIRE(gateway({}, 5) == ip("198.51.100.1"));
    REQUIRE(gateway({}, 6) == ip("192.0.2.1"));
    REQUIRE(watcher.network.route_to(far, ip("2001:db8::7")).error() == Errc::invalid_argument);
    REQUIRE_FALSE(watcher.network.route_to(far, ip("203.0.113.99"))->present);  // not an address of ours
    // The route to the internet is the one really taken, whatever table it comes from.
    ip_command("rule add to 8.8.8.8 table 100");
    REQUIRE(watcher.until_heard(Kind::active_interface_changed, "w0"));
    REQUIRE(watcher.route(Family::v4).gateway == ip("198.51.100.1"));
    ip_command("rule del to 8.8.8.8 table 100");
    REQUIRE(watcher.until_heard(Kind::active_interface_changed, "v0"));
}

TEST_CASE("netlink: a source watches the network namespace in which it was made", "[netlab]") {
    if (!in_fresh_namespace("namespaces")) return;
    make_uplinks();
    Watcher watcher;
    REQUIRE(watcher.index("v0") != 0);
    const int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    REQUIRE(here >= 0);
    REQUIRE(unshare(CLONE_NEWNET) == 0);
    Loop elsewhere;
    REQUIRE(Netlink::of(elsewhere).state().interfaces.size() == 1);
    ip_command("link set lo up");
    REQUIRE(setns(here, CLONE_NEWNET) == 0);
    close(here);
    ip_command("address add 192.0.2.8/24 dev v0");
    REQUIRE(watcher.until_heard(Kind::address_added, "v0"));
    REQUIRE(watcher.find(Kind::interface_up, "lo") == nullptr);
    REQUIRE(elsewhere.run_once(Duration()));
    REQUIRE(Netlink::of(elsewhere).state().interfaces[0].up);
    REQUIRE(Netlink::of(elsewhere).state().addresses.size() >= 1);
    REQUIRE(Netlink::of(elsewhere).state().interface_of(ip("192.0.2.8")) == 0);
}

TEST_CASE("netlink: without any privilege everything is seen all the same", "[netlab]") {
    if (!in_fresh_namespace("privilege")) return;
    make_uplinks();
    int tell[2];
    REQUIRE(pipe(tell) == 0);
    const pid_t outsider = fork();
    if (outsider == 0) {
        char byte = 0;
        _exit(read(tell[0], &byte, 1) == 1 && std::system("ip address add 192.0.2.8/24 dev v0") == 0 ? 0 : 1);
    }
    REQUIRE(in_child([&] {
        if (setgid(65534) != 0 || setuid(65534) != 0 || setuid(0) == 0) return false;
        Watcher watcher;
        return !watcher.network.error() && watcher.index("v0") != 0 && write(tell[1], "x", 1) == 1 &&
               watcher.until_heard(Kind::address_added, "v0");
    }));
    close(tell[0]);
    close(tell[1]);
    int status = 1;
    REQUIRE(waitpid(outsider, &status, 0) == outsider);
    REQUIRE(status == 0);
}

TEST_CASE("netlink: lifetimes make an address deprecated, which is told, and temporary ones are known as such", "[netlab]") {
    if (!in_fresh_namespace("lifetimes")) return;
    make_uplinks();
    Watcher watcher;
    const auto find = [&](const char* address) { return watcher.network.state().find_address(watcher.index("v0"), ip(address)); };
    ip_command("-6 address add 2001:db8::8/64 dev v0 nodad valid_lft 100 preferred_lft 100");
    REQUIRE(watcher.until_heard(Kind::address_usable, "v0"));
    REQUIRE_FALSE(find("2001:db8::8")->deprecated);
    watcher.heard.clear();
    ip_command("-6 address change 2001:db8::8/64 dev v0 valid_lft 100 preferred_lft 0");
    REQUIRE(watcher.until_heard(Kind::address_deprecated, "v0"));
    REQUIRE(find("2001:db8::8")->deprecated);
    REQUIRE(watcher.heard.size() == 1);
    // The kernel makes temporary addresses (RFC 8981) for those that are said to manage them.
    ip_command("link set v0 addrgenmode eui64");
    REQUIRE(std::system("echo 2 >/proc/sys/net/ipv6/conf/v0/use_tempaddr") == 0);
    ip_command("-6 address add 2001:db8:1::1/64 dev v0 nodad mngtmpaddr");
    REQUIRE(watcher.until([&] {
        for (const InterfaceAddress& a : watcher.network.state().addresses)
            if (a.temporary && a.ip.bytes[5] == 1) return true;
        return false;
    }));
    REQUIRE_FALSE(find("2001:db8:1::1")->temporary);
}

TEST_CASE("netlink: routes that refuse are no routes", "[netlab]") {
    if (!in_fresh_namespace("refusing routes")) return;
    make_uplinks();
    ip_command("route add default via 192.0.2.1");
    for (const char* type : {"blackhole", "prohibit", "unreachable"}) {
        Watcher watcher;
        REQUIRE(watcher.network.state().connected());
        ip_command(std::string("route replace ") + type + " default");
        REQUIRE(watcher.until_heard(Kind::connectivity_lost));
        ip_command("route replace default via 192.0.2.1");
        REQUIRE(watcher.until_heard(Kind::connectivity_regained));
    }
}

TEST_CASE("netlink: what a private network lays over the default route is seen", "[netlab]") {
    if (!in_fresh_namespace("overlaid routes")) return;
    make_uplinks();
    ip_command("route add default via 192.0.2.1");
    ip_command("route add default via 198.51.100.1 table 100");
    Watcher watcher;
    const auto moves_to = [&](const char* name, const std::string& command) {
        REQUIRE(watcher.until([] { return !has_message(events_descriptor()); }));
        ip_command(command);
        REQUIRE(has_message(events_descriptor()));
        watcher.heard.clear();
        REQUIRE(watcher.until_heard(Kind::active_interface_changed, name));
    };
    SECTION("two halves") {
        moves_to("w0", "route add 0.0.0.0/1 via 198.51.100.1");
        moves_to("v0", "route delete 0.0.0.0/1");
    }
    SECTION("sixteenths") {
        moves_to("w0", "route add 0.0.0.0/4 via 198.51.100.1");
        moves_to("v0", "route delete 0.0.0.0/4");
    }
    SECTION("a rule and a table of its own") {
        moves_to("w0", "rule add table 100 priority 100");
        moves_to("v0", "rule delete priority 100");
    }
}

TEST_CASE("netlink: the IPv4 routes that vanish without a message are missed", "[netlab]") {
    if (!in_fresh_namespace("silent routes")) return;
    make_uplinks();
    ip_command("route add default via 192.0.2.1 metric 10");
    SECTION("link down, no other way") {
        Watcher watcher;
        ip_command("link set v0 down");
        REQUIRE(watcher.until_heard(Kind::connectivity_lost));
        REQUIRE(watcher.find(Kind::interface_down, "v0")->major);
        REQUIRE(watcher.find(Kind::interface_down, "v0")->hits_v0);
        REQUIRE(watcher.find(Kind::route_removed, "v0")->hits_v0);
        REQUIRE(watcher.network.state().offline());
    }
    SECTION("link down, and another way") {
        ip_command("route add default via 198.51.100.1 metric 20");
        Watcher watcher;
        ip_command("link set v0 down");
        REQUIRE(watcher.until_heard(Kind::active_interface_changed, "w0"));
        REQUIRE(watcher.find(Kind::route_changed, "w0")->hits_v0);
        REQUIRE(watcher.route(Family::v4) == Route{true, watcher.index("w0"), ip("198.51.100.1"), ip("198.51.100.7")});
    }
    SECTION("the kernel takes the other way only after its message: connectivity is never lost") {
        ip_command("route add default via 198.51.100.1 metric 20");
        Watcher watcher;
        ip_command("link set v1 down");
        REQUIRE(watcher.until_heard(Kind::carrier_down, "v0"));
        REQUIRE(watcher.route(Family::v4).interface_index == watcher.index("v0"));
        // It leaves the dead way without a message, as it does a moment after the one of a link that was switched off.
        std::FILE* leave = std::fopen("/proc/sys/net/ipv4/conf/all/ignore_routes_with_linkdown", "w");
        REQUIRE(leave != nullptr);
        std::fputs("1", leave);
        REQUIRE(std::fclose(leave) == 0);
        REQUIRE(watcher.until_heard(Kind::active_interface_changed, "w0"));
        REQUIRE(watcher.find(Kind::connectivity_lost) == nullptr);
    }
    SECTION("any change of routes that has no message, soon after one of an address") {
        Watcher watcher;
        ip_command("address add 198.51.100.8/24 dev w0");
        REQUIRE(watcher.until_heard(Kind::address_usable, "w0"));
        ip_command("route add 8.8.8.8/32 via 198.51.100.1");  // too narrow for a message, but it is what is looked up
        REQUIRE(watcher.until_heard(Kind::active_interface_changed, "w0"));
    }
    SECTION("the route moves to a link that has been dead for long") {
        ip_command("link set w1 down");
        Watcher watcher;
        REQUIRE(watcher.until([&] { return !watcher.network.state().find_interface(watcher.index("w0"))->carrier; }));
        Watcher later;  // for which no look is due
        ip_command("route add default via 198.51.100.1 metric 5");
        REQUIRE(later.until_heard(Kind::connectivity_lost));
    }
    SECTION("the last address removed") {
        Watcher watcher;
        ip_command("address delete 192.0.2.7/24 dev v0");
        REQUIRE(watcher.until_heard(Kind::connectivity_lost));
    }
    SECTION("carrier lost: the kernel keeps the route, and it leads nowhere") {
        Watcher watcher;
        ip_command("link set v1 down");
        REQUIRE(watcher.until_heard(Kind::connectivity_lost));
        REQUIRE(watcher.find(Kind::carrier_down, "v0")->hits_v0);
        REQUIRE_FALSE(watcher.network.route_to(ip("203.0.113.9"))->present);
        ip_command("link set v1 up");
        REQUIRE(watcher.until_heard(Kind::connectivity_regained, "v0"));
    }
}

TEST_CASE("netlink: messages that were lost are made up for", "[netlab]") {
    if (!in_fresh_namespace("lost messages")) return;
    make_uplinks();
    ip_command("route add default via 192.0.2.1");
    Watcher watcher;
    const int fd = events_descriptor();
    const int tiny = 1;  // the kernel makes it the least that it allows
    REQUIRE(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &tiny, sizeof tiny) == 0);
    // What stays changed is found although its messages were lost; what was undone meanwhile makes no noise.
    for (int i = 1; i <= 60; ++i) ip_command("address add 10.0.0." + std::to_string(i) + "/32 dev v0");
    ip_command("link set w0 down");
    ip_command("link set w0 up");
    ip_command("address delete 198.51.100.7/24 dev w0");
    ip_command("link add late type veth peer name later");
    ip_command("route replace default via 192.0.2.2");
    REQUIRE(lost_messages() > 0);

    REQUIRE(watcher.until([&] {
        int found = 0;
        for (const InterfaceAddress& a : watcher.network.state().addresses) found += a.ip.bytes[0] == 10 && a.prefix_length == 32;
        return found == 60 && watcher.index("late") != 0 && watcher.route(Family::v4).gateway == ip("192.0.2.2") &&
               watcher.find(Kind::address_removed, "w0") != nullptr;
    }));
    int added = 0;
    for (const Heard& h : watcher.heard) added += h.kind == Kind::address_added && h.name == "v0";
    REQUIRE(added == 60);
    REQUIRE(watcher.find(Kind::interface_down, "w0") == nullptr);
    REQUIRE(watcher.find(Kind::route_changed, "v0") != nullptr);

    // And it goes on: the next single message is heard.
    watcher.heard.clear();
    ip_command("address add 10.0.1.1/32 dev v0");
    REQUIRE(watcher.until_heard(Kind::address_usable, "v0"));
}

TEST_CASE("netlink: losing messages again and again does not make it read everything again and again", "[netlab]") {
    if (!in_fresh_namespace("repeated losses")) return;
    make_uplinks();
    Watcher watcher;
    const int tiny = 1;
    REQUIRE(setsockopt(events_descriptor(), SOL_SOCKET, SO_RCVBUF, &tiny, sizeof tiny) == 0);
    const auto is_known = [&](const std::string& address) {
        return watcher.network.state().find_address(watcher.index("v0"), ip(address)) != nullptr;
    };
    const std::int64_t start = monotonic_now().nanoseconds();
    constexpr int rounds = 20;
    int readings = 0;  // only by one can the last address of a round be known
    for (int round = 0; round < rounds; ++round) {
        std::string commands;
        for (int i = 1; i <= 10; ++i) commands += "address add 10." + std::to_string(round) + ".0." + std::to_string(i) + "/32 dev v0\n";
        ip_command("-batch - <<END\n" + commands + "END");
        REQUIRE(watcher.loop.run_once(Duration()));
        readings += is_known("10." + std::to_string(round) + ".0.10");
    }
    const std::int64_t tenths = (monotonic_now().nanoseconds() - start) / 100'000'000;
    INFO(readings << " readings in " << tenths << " tenths of a second");
    REQUIRE(lost_messages() > 0);
    REQUIRE(readings <= tenths + 1);
    REQUIRE(watcher.until([&] { return is_known("10.19.0.10"); }));
    for (int round = 0; round < rounds; ++round) REQUIRE(is_known("10." + std::to_string(round) + ".0.9"));
}

TEST_CASE("netlink: routes to parts of the network wake nobody", "[netlab]") {
    if (!in_fresh_namespace("many routes")) return;
    make_uplinks();
    Watcher watcher;
    const int fd = events_descriptor();
    char path[] = "/tmp/rejoin-routes-XXXXXX";
    const int batch = mkstemp(path);
    REQUIRE(batch >= 0);
    std::string commands;
    for (const char* what : {"add", "delete"})
        for (int i = 0; i < 2000; ++i)
            commands += std::string("route ") + what + " 10." + std::to_string(i / 250) + "." + std::to_string(i % 250) +
                        ".0/24 via 192.0.2.1\n" + "route " + what + " 2001:db8:" + std::to_string(i) + "::/48 via 2001:db8::1\n";
    REQUIRE(write(batch, commands.data(), commands.size()) == static_cast<ssize_t>(commands.size()));
    close(batch);
    ip_command(std::string("-batch ") + path);
    unlink(path);
    // Messages are delivered before the command ends, so there is nothing to wait for. That interfaces and addresses became ready may be
    // among them.
    std::vector<std::byte> datagram(32768);
    int about_routes = 0;
    for (ssize_t size; (size = recv(fd, datagram.data(), datagram.size(), 0)) >= 0;) {
        const Bytes bytes = Bytes(datagram).first(static_cast<std::size_t>(size));
        REQUIRE(decode_netlink(bytes, std::endian::native, [&](const NetlinkUpdate& update) {
            about_routes += update.kind == NetlinkUpdate::Kind::route_is || update.kind == NetlinkUpdate::Kind::routes_touched;
        }));
    }
    REQUIRE(about_routes == 0);
    REQUIRE(lost_messages() == 0);
    ip_command("route add default via 192.0.2.1");
    REQUIRE(watcher.until_heard(Kind::route_added, "v0"));
}
#endif
