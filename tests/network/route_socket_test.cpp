// SPDX-License-Identifier: BSL-1.0
// The event source of macOS and the BSDs, over a system that is scripted: every message is written as that system's kernel writes it.
#if !defined(_WIN32)  // for want of a pair of datagram sockets
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <map>
#include <rejoin/network/route_socket.hpp>
#include <string>
#include <vector>

#include "catch.hpp"
#include "network/route_messages.hpp"
#include "os/until.hpp"

using namespace rejoin;
using namespace bsd;
using Kind = NetworkChange::Kind;
using Said = Kernel::Said;

namespace {

IpAddress ip(const char* text, std::uint32_t scope = 0) {
    IpAddress address = *IpAddress::parse(text);
    address.scope = scope;
    return address;
}

struct TestRoute {
    bool there = false;
    IpAddress gateway;
    unsigned index = 0;
    IpAddress source;
};

// What the scripted kernel knows. One at a time.
struct Host {
    explicit Host(System s) : kernel{s, std::endian::native} {
        REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
        for (int end : ends) REQUIRE(::fcntl(end, F_SETFL, O_NONBLOCK) == 0);
        list = interface_in_list(1, loopback, "lo0") + interface_in_list(3, running, "en0") + address_in_list(3, ip("192.0.2.7"), 24);
        names[1] = "lo0";
        names[3] = "en0";
        route[0] = {true, ip("192.0.2.254"), 3, ip("192.0.2.7")};
        is = this;
    }
    Host(const Host&) = delete;
    ~Host() {
        ::close(ends[0]);
        ::close(ends[1]);
        is = nullptr;
    }

    void tell(const Buffer& message) { REQUIRE(::send(ends[1], message.data(), message.size(), 0) >= 0); }
    bool freebsd() const { return kernel.writer().freebsd(); }
    Buffer interface_in_list(unsigned index, std::uint32_t ifm_flags, const char* name) const {
        return freebsd() ? kernel.list_interface(index, ifm_flags, 0, name) : kernel.interface_(index, ifm_flags, 0, name);
    }
    Buffer address_in_list(unsigned index, const IpAddress& a, unsigned length) const {
        return freebsd() ? kernel.list_address(index, a, length) : kernel.address(Said::is, index, a, length);
    }

    Kernel kernel;
    int ends[2];
    Buffer list;
    std::map<unsigned, std::string> names;
    TestRoute route[2];  // IPv4, IPv6
    std::map<std::string, std::uint32_t> flags;
    std::vector<Buffer> queued;  // answers that come only when they are waited for
    bool queues = false;         // as FreeBSD and NetBSD do
    bool lost = false;           // the next reading says so
    Error refuses;               // to open
    Error cannot_list;
    int lists = 0, questions = 0;
    static inline Host* is = nullptr;
};

template <System S>
class ScriptedSystem {
public:
    static const RouteDialect& dialect() { return bsd::dialect(S); }
    static const RouteDialect& list_dialect() { return S == System::freebsd ? route_dialect::freebsd_list : bsd::dialect(S); }
    Error open() { return Host::is->refuses; }
    int fd() const { return Host::is->ends[0]; }
    Result<std::size_t> receive(MutableBytes to) {
        const ssize_t n = ::recv(fd(), to.data(), to.size(), 0);
        if (std::exchange(Host::is->lost, false)) return Error::system(ENOBUFS);
        if (n < 0) return Errc::would_block;
        return static_cast<std::size_t>(n);
    }
    Result<void> send(Bytes request) {
        Host& host = *Host::is;
        ++host.questions;
        // RTM_GET with its destination behind the header; the rest of the form is the decoder's test.
        const std::size_t header = S == System::macos ? 92 : S == System::freebsd ? 152 : S == System::netbsd ? 120 : 96;
        const bool v4 = static_cast<unsigned char>(request[header + 1]) == 2;
        const TestRoute& route = host.route[v4 ? 0 : 1];
        if (!route.there) return Error::system(ESRCH);
        const auto sequence = load<std::uint32_t>(request.data() + (S == System::openbsd ? 28 : 20), std::endian::native);
        const IpAddress to = v4 ? internet_v4 : internet_v6;
        const Buffer answer = host.kernel.answer(to, host.kernel.ip(route.gateway), route.index, host.names[route.index], route.source,
                                                 up | gateway, process(), sequence);
        // The answer to somebody else's question comes too.
        host.tell(host.kernel.answer(to, host.kernel.ip(route.gateway), 1, "lo0", route.source, up | gateway, process() + 1, sequence));
        if (host.queues)
            host.queued.push_back(answer);
        else
            host.tell(answer);
        return {};
    }
    template <class Sink>
    Result<void> list(Sink sink) {
        ++Host::is->lists;
        if (Host::is->cannot_list) return Host::is->cannot_list;
        sink(Bytes(Host::is->list));
        return {};
    }
    Result<std::uint32_t> address_flags(TextView interface_, const IpAddress& address) {
        static_cast<void>(interface_);
        return Host::is->flags[to_text(address).c_str()];
    }
    Text<15> interface_name(std::uint32_t index) { return Text<15>(Host::is->names[index].c_str()); }
    IpAddress source(const IpAddress& destination) { return Host::is->route[destination.family == Family::v6].source; }
    std::uint32_t process() const { return 77; }
    void wait(Duration) {
        for (const Buffer& answer : Host::is->queued) Host::is->tell(answer);
        Host::is->queued.clear();
    }
};

struct NoDns {
    NoDns(Loop&, Delegate<void()>) {}
    void read(NetworkState&) {}
};

template <System S>
struct Watcher {
    Watcher() : network(loop), observer(Delegate<void(const NetworkChange&)>::to<&Watcher::hear>(this)) { network.observe(observer); }
    void hear(const NetworkChange& change) {
        if (change.early) heard.push_back({change.kind, change.interface_name.c_str(), change.noise});
    }
    bool until_heard(Kind kind, const std::string& on = "") {
        return until(loop, [&] { return has(kind, on); });
    }
    bool has(Kind kind, const std::string& on = "") const {
        for (const Heard& h : heard)
            if (h.kind == kind && (on.empty() || h.interface_ == on)) return true;
        return false;
    }
    // What has been said is through when a change said after it is.
    bool quiet() {
        Host::is->tell(Host::is->kernel.address(Said::is, 1, ip("127.0.0.9"), 8));
        Host::is->tell(Host::is->kernel.address(Said::gone, 1, ip("127.0.0.9"), 8));
        const std::size_t before = heard.size();
        if (!until_heard(Kind::address_removed, "lo0")) return false;
        return before == 0;
    }
    struct Heard {
        Kind kind;
        std::string interface_;
        bool noise;
    };
    Loop loop;
    RouteSocketOf<ScriptedSystem<S>, NoDns> network;
    NetworkObserver observer;
    std::vector<Heard> heard;
};

template <class F>
void on_each(F f) {
    f.template operator()<System::macos>();
    f.template operator()<System::freebsd>();
    f.template operator()<System::netbsd>();
    f.template operator()<System::openbsd>();
}

}  // namespace

TEST_CASE("route socket: the state is known at once, with its routes") {
    on_each([]<System S>() {
        for (bool queues : {false, true}) {
            Host host(S);
            host.queues = queues;
            Watcher<S> watcher;
            REQUIRE_FALSE(watcher.network.error());
            const NetworkState& state = watcher.network.state();
            REQUIRE(state.known);
            REQUIRE(state.interfaces.size() == 2);
            REQUIRE(state.find_interface(3)->name == "en0");
            REQUIRE(state.find_address(3, ip("192.0.2.7"))->prefix_length == 24);
            REQUIRE(state.route[0].present);
            REQUIRE(state.route[0].gateway == ip("192.0.2.254"));
            REQUIRE(state.route[0].source == ip("192.0.2.7"));
            REQUIRE(state.route[0].interface_index == 3);
            REQUIRE_FALSE(state.route[1].present);
            REQUIRE(watcher.quiet());
        }
    });
}

TEST_CASE("route socket: what cannot be opened or listed says why") {
    on_each([]<System S>() {
        for (bool list : {false, true}) {
            Host host(S);
            (list ? host.cannot_list : host.refuses) = Error::system(EPERM);
            Watcher<S> watcher;
            REQUIRE(watcher.network.error() == Error::system(EPERM));
            REQUIRE_FALSE(watcher.network.state().known);
        }
    });
}

TEST_CASE("route socket: a link goes and comes back") {
    on_each([]<System S>() {
        Host host(S);
        Watcher<S> watcher;
        host.tell(host.kernel.interface_(3, not_running, 1));
        REQUIRE(watcher.until_heard(Kind::carrier_down, "en0"));
        // The route stays in the kernel, and leads nowhere.
        REQUIRE(watcher.until_heard(Kind::connectivity_lost));
        REQUIRE(watcher.network.state().offline());
        watcher.heard.clear();
        host.tell(host.kernel.interface_(3, running, 2));
        REQUIRE(watcher.until_heard(Kind::carrier_up, "en0"));
        REQUIRE(watcher.until_heard(Kind::connectivity_regained));
        host.tell(host.kernel.interface_(3, off, 1));
        REQUIRE(watcher.until_heard(Kind::interface_down, "en0"));
    });
}

TEST_CASE("route socket: while a link dies, the other way is waited for") {
    on_each([]<System S>() {
        Host host(S);
        host.list = host.list + host.interface_in_list(4, running, "en1") + host.address_in_list(4, ip("198.51.100.7"), 24);
        host.names[4] = "en1";
        Watcher<S> watcher;
        host.tell(host.kernel.interface_(3, not_running, 1));
        REQUIRE(watcher.until_heard(Kind::carrier_down, "en0"));
        host.route[0] = {true, ip("198.51.100.254"), 4, ip("198.51.100.7")};
        host.tell(host.kernel.default_route(1, ip("198.51.100.254"), 4));
        REQUIRE(watcher.until_heard(Kind::active_interface_changed, "en1"));
        REQUIRE(watcher.network.state().route[0].source == ip("198.51.100.7"));
    });
}

TEST_CASE("route socket: addresses come and go, and what is repeated is not told") {
    on_each([]<System S>() {
        Host host(S);
        Watcher<S> watcher;
        host.tell(host.kernel.address(Said::is, 3, ip("192.0.2.8"), 24));
        REQUIRE(watcher.until_heard(Kind::address_usable, "en0"));
        watcher.heard.clear();
        const int questions = host.questions;
        for (int i = 0; i < 5; ++i) host.tell(host.kernel.address(Said::is, 3, ip("192.0.2.7"), 24));
        for (int i = 0; i < 5; ++i) host.tell(host.kernel.interface_(3, running, 2));
        host.tell(host.kernel.address(Said::gone, 3, ip("192.0.2.8"), 24));
        REQUIRE(watcher.until_heard(Kind::address_removed, "en0"));
        REQUIRE(watcher.heard.size() == 1);
        REQUIRE(watcher.network.state().addresses.size() == 1);
        REQUIRE(until(watcher.loop, [&] { return host.questions > questions; }));
    });
}

TEST_CASE("route socket: the gateway changes, the route goes and comes") {
    on_each([]<System S>() {
        Host host(S);
        Watcher<S> watcher;
        host.route[0].gateway = ip("192.0.2.253");
        host.tell(host.kernel.default_route(3, ip("192.0.2.253"), 3));
        REQUIRE(watcher.until_heard(Kind::route_changed, "en0"));
        REQUIRE(watcher.network.state().route[0].gateway == ip("192.0.2.253"));
        host.route[0].there = false;
        host.tell(host.kernel.default_route(2, ip("192.0.2.253"), 3));
        REQUIRE(watcher.until_heard(Kind::route_removed));
        REQUIRE(watcher.until_heard(Kind::connectivity_lost));
        host.route[1] = {true, ip("fe80::ff", 3), 3, ip("2001:db8::7")};
        host.tell(host.kernel.default_route(1, ip("fe80::ff", 3), 3));
        REQUIRE(watcher.until_heard(Kind::connectivity_regained));
        REQUIRE(watcher.network.state().route[1].gateway == ip("fe80::ff", 3));
        REQUIRE(watcher.network.state().route[1].source == ip("2001:db8::7"));
    });
}

TEST_CASE("route socket: a route that follows without a message is found") {
    on_each([]<System S>() {
        Host host(S);
        Watcher<S> watcher;
        host.tell(host.kernel.address(Said::gone, 3, ip("192.0.2.7"), 24));
        REQUIRE(watcher.until_heard(Kind::address_removed));
        host.route[0].there = false;
        REQUIRE(watcher.until_heard(Kind::route_removed));
    });
}

TEST_CASE("route socket: an interface is announced, and what belongs to it is read") {
    for (int which = 0; which < 3; ++which) {
        const auto check = []<System S>() {
            Host host(S);
            Watcher<S> watcher;
            const Buffer before = host.list;
            host.list = host.list + host.interface_in_list(5, running, "vlan0") + host.address_in_list(5, ip("203.0.113.7"), 24);
            host.names[5] = "vlan0";
            host.tell(host.kernel.announcement(5, "vlan0", false));
            REQUIRE(watcher.until_heard(Kind::interface_added, "vlan0"));
            REQUIRE(watcher.until_heard(Kind::address_usable, "vlan0"));
            host.list = before;
            host.tell(host.kernel.announcement(5, "vlan0", true));
            REQUIRE(watcher.until_heard(Kind::interface_removed, "vlan0"));
            REQUIRE(watcher.until_heard(Kind::address_removed, "vlan0"));
        };
        if (which == 0) check.operator()<System::freebsd>();
        if (which == 1) check.operator()<System::netbsd>();
        if (which == 2) check.operator()<System::openbsd>();
    }
}

TEST_CASE("route socket: an interface that is first heard of without its name is asked for") {
    on_each([]<System S>() {
        Host host(S);
        Watcher<S> watcher;
        host.names[9] = "bridge0";
        host.tell(host.kernel.interface_(9, running, 2));
        REQUIRE(watcher.until_heard(Kind::interface_added, "bridge0"));
        host.tell(host.kernel.interface_(10, running, 2));  // gone before anybody could ask
        host.tell(host.kernel.address(Said::is, 9, ip("203.0.113.7"), 24));
        REQUIRE(watcher.until_heard(Kind::address_usable, "bridge0"));
        REQUIRE(watcher.network.state().find_interface(10) == nullptr);
    });
}

TEST_CASE("route socket: macOS' own interfaces are noise, and told") {
    Host host(System::macos);
    Watcher<System::macos> watcher;
    host.names[8] = "utun3";
    host.tell(host.kernel.interface_(8, running, 2));
    REQUIRE(watcher.until_heard(Kind::interface_added, "utun3"));
    for (const auto& heard : watcher.heard) REQUIRE(heard.noise);
}

TEST_CASE("route socket: messages that were lost are made up for, and each difference that is left is told once") {
    on_each([]<System S>() {
        for (int how = 0; how < 3; ++how) {
            if (how == 1 && S != System::openbsd) continue;
            Host host(S);
            Watcher<S> watcher;
            host.list = host.interface_in_list(1, loopback, "lo0") + host.interface_in_list(3, running, "en0") +
                        host.address_in_list(3, ip("192.0.2.9"), 24);
            host.route[0].source = ip("192.0.2.9");
            if (how == 0) host.lost = true;
            if (how == 0) host.tell({});
            if (how == 1) host.tell(host.kernel.desync());
            if (how == 2) host.tell({std::byte{1}, std::byte{0}, std::byte{5}});  // makes no sense
            REQUIRE(watcher.until_heard(Kind::address_usable));
            REQUIRE(watcher.until_heard(Kind::address_removed));
            REQUIRE(watcher.until_heard(Kind::route_changed));
            REQUIRE(watcher.heard.size() == 4);  // removed, added, usable, the route
            REQUIRE(watcher.network.state().addresses.size() == 1);
        }
    });
}

TEST_CASE("route socket: however often messages are lost, everything is read again only so often") {
    Host host(System::freebsd);
    Watcher<System::freebsd> watcher;
    const int before = host.lists;
    const TimePoint start = monotonic_now();
    while (monotonic_now() - start < Duration::milliseconds(250)) {
        host.lost = true;
        host.tell({});
        REQUIRE(watcher.loop.run_once(Duration::milliseconds(1)));
    }
    const auto allowed = (monotonic_now() - start).milliseconds() / 100 + 1;
    REQUIRE(host.lists > before);
    REQUIRE(host.lists - before <= allowed);
}

TEST_CASE("route socket: an address is usable when its check is over, though nobody tells") {
    on_each([]<System S>() {
        if (S == System::netbsd) return;  // which tells
        Host host(S);
        host.flags["2001:db8::7"] = 0x02;
        Watcher<S> watcher;
        host.tell(host.kernel.address(Said::is, 3, ip("2001:db8::7"), 64));
        REQUIRE(watcher.until_heard(Kind::address_added));
        REQUIRE_FALSE(watcher.has(Kind::address_usable));
        host.flags["2001:db8::7"] = 0;
        REQUIRE(watcher.until_heard(Kind::address_usable));
    });
    Host host(System::netbsd);
    Watcher<System::netbsd> watcher;
    host.tell(host.kernel.address(Said::is, 3, ip("2001:db8::7"), 64, 0x02));
    REQUIRE(watcher.until_heard(Kind::address_added));
    REQUIRE_FALSE(watcher.has(Kind::address_usable));
    host.tell(host.kernel.address(Said::changed, 3, ip("2001:db8::7"), 64, 0));
    REQUIRE(watcher.until_heard(Kind::address_usable));
}
#endif
