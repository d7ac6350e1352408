// SPDX-License-Identifier: BSL-1.0
#include <netinet/in.h>
#include <sys/socket.h>

#include "conversation.hpp"

// What may be in the way of the first connection.
namespace {

using namespace netlab;

TEST_CASE("whatever is in the way of a connection is told as what it is, and waited out", "[netlab]") {
    using K = FailureKind;
    struct Row {
        const char* what;
        Host host;
        std::string inject;
        const char* undo;
        K kind;  // none: silence
    };
    static const std::string reject = "nft add rule inet lab forward ip daddr 10.8.0.2 reject with ";
    static const char* const flush = "nft flush chain inet lab forward";
    static const std::vector<Row> rows = {
        {"SYNs are dropped", Host::router, "nft add rule inet lab forward drop", flush, K::none},
        {"ICMP: host unreachable", Host::router, reject + "icmp type host-unreachable", flush, K::unreachable},
        {"ICMP: network unreachable", Host::router, reject + "icmp type net-unreachable", flush, K::no_route},
        {"ICMP: administratively prohibited", Host::router, reject + "icmp type admin-prohibited", flush, K::unreachable},
        {"ICMP: no such protocol", Host::router, reject + "icmp type prot-unreachable", flush, K::unreachable},
        {"ICMP: port unreachable", Host::router, reject + "icmp type port-unreachable", flush, K::refused},
        {"a reset", Host::router, "nft add rule inet lab forward tcp dport 4000 reject with tcp reset", flush, K::refused},
        {"no route", Host::client, "for m in 100 200; do ip route del default metric $m; ip -6 route del default metric $m; done",
         "ip route add default via 10.1.0.1 metric 100", K::no_route},
        {"a route that prohibits", Host::client, "ip route add prohibit 10.8.0.0/24", "ip route del prohibit 10.8.0.0/24", K::no_route},
        {"a route that is a black hole", Host::client, "ip route add blackhole 10.8.0.0/24", "ip route del blackhole 10.8.0.0/24",
         K::no_route},
        {"a route that is unreachable", Host::client, "ip route add unreachable 10.8.0.0/24", "ip route del unreachable 10.8.0.0/24",
         K::unreachable},
        {"a gateway that is dead", Host::router, "ip addr del 10.1.0.1/24 dev ra0", "ip addr add 10.1.0.1/24 dev ra0", K::unreachable},
        {"a gateway with another's hardware address", Host::client,
         "ip neigh replace 10.1.0.1 lladdr 02:00:00:00:00:01 dev a0 nud permanent", "ip neigh del 10.1.0.1 dev a0", K::none},
        {"this host's own firewall", Host::client,
         "nft 'table inet host { chain output { type filter hook output priority filter; tcp dport 4000 drop; }; }'",
         "nft delete table inet host", K::none},
    };
    const Row& row = rows[static_cast<std::size_t>(GENERATE(range(0, 14)))];
    REQUIRE(rows.size() == 14);
    INFO(row.what);
    ResumablePipe::Options options;
    options.other_interfaces = false;
    Conversation c{options, {}, nullptr};
    c.lab.in(row.host, row.inject);
    REQUIRE(c.until([&] { return row.kind != K::no_route || c.pipe.network().known; }));
    REQUIRE(c.pipe.connect({"10.8.0.2", port}));
    if (row.kind == K::none)
        REQUIRE(c.until([&] { return c.pipe.statistics().attempts > 2; }));
    else
        REQUIRE(c.meets(row.kind));
    REQUIRE(c.client.state == PipeState::connecting);
    c.began = rejoin::monotonic_now();
    c.in(row.host, row.undo);
    c.talks();
    std::printf("%s: connected %.0f ms after it was over\n", row.what, static_cast<double>((c.joined_at - c.began).nanoseconds()) / 1e6);
    c.end();
}

TEST_CASE("a gateway that is dead, or a link that is, is gone around by another interface", "[netlab]") {
    const char* const inject = GENERATE("ip addr del 10.1.0.1/24 dev ra0", "ip link set ra0 down");
    Conversation c{{}, {}, nullptr};
    c.lab.in(Host::router, inject);
    REQUIRE(c.pipe.connect({"10.8.0.2", port}));
    c.talks();
    REQUIRE(c.pipe.local_endpoint().ip() == rejoin::IpAddress::v4(10, 2, 0, 2));
    c.end();
}

TEST_CASE("no port is left", "[netlab]") {
    Conversation c{{}, {}, nullptr};
    // One port, and a connection that has it.
    c.lab.in(Host::client, "echo 50000 50000 >/proc/sys/net/ipv4/ip_local_port_range");
    const Descriptor taken(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(0x0a080002);  // 10.8.0.2
    REQUIRE(connect(taken.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
    REQUIRE(c.pipe.connect({"10.8.0.2", port}));
    REQUIRE(c.meets(FailureKind::exhausted));
    c.in(Host::client, "echo 40000 50000 >/proc/sys/net/ipv4/ip_local_port_range");
    c.talks();
    c.end();
}

TEST_CASE("an interface that is down, or gone, leads nowhere, and says so", "[netlab]") {
    Lab lab;
    lab.enter(Host::client);
    rejoin::Loop loop;
    struct Heard : rejoin::ConnectionObserver {
        void on_open() override {}
        bool on_bytes(rejoin::Bytes) override { return true; }
        bool on_writable() override { return true; }
        void on_end() override {}
        void on_error(rejoin::Error e) override { error = e; }
        rejoin::Error error;
    } heard;
    const auto index = static_cast<std::uint32_t>(std::stoi(lab.ask(Host::client, "ip -o link show a1 | cut -d: -f1")));
    const auto open = [&](std::uint32_t over) {
        heard.error = {};
        rejoin::TcpConnection connection(loop, heard);
        auto opened = connection.open({"10.8.0.2", port}, rejoin::Way{{}, over, 0});
        if (!opened) return rejoin::classify(opened.error(), rejoin::Stage::connecting).kind;
        REQUIRE(eventually(loop, [&] { return static_cast<bool>(heard.error); }));
        return rejoin::classify(heard.error, rejoin::Stage::connecting).kind;
    };
    REQUIRE(open(index) == FailureKind::refused);  // nobody listens there yet, so it leads there
    lab.in(Host::client, "ip link set a1 down");
    REQUIRE(open(index) == FailureKind::no_route);
    lab.in(Host::client, "ip link del a1");
    REQUIRE(open(index) == FailureKind::no_route);
}

/// A name with these addresses, in this order.
void name(rejoin::Loop& loop, std::vector<std::string> addresses) {
    rejoin::Resolver::of(loop).replace([=](const char*, rejoin::Function<void(rejoin::Resolver::Answer)> done) {
        rejoin::Array<rejoin::IpAddress> all;
        for (const std::string& address : addresses) all.push(*rejoin::IpAddress::parse(address.c_str()));
        done(std::move(all));
    });
}

TEST_CASE("IPv6 is broken: a quarter of a second later IPv4 has it", "[netlab]") {
    struct Row {
        const char* what;
        Host host;
        const char* inject;
    };
    static const Row rows[] = {
        {"dropped", Host::router, "nft add rule inet lab forward ip6 daddr fd00:8::2 drop"},
        {"a black hole here", Host::client, "ip route add blackhole fd00:8::/64"},
        {"a router without a route", Host::router, "ip -6 route del fd00:8::/64"},
    };
    const Row& row = rows[GENERATE(0, 1, 2)];
    INFO(row.what);
    Conversation c{{}, {}, nullptr, "::"};
    c.lab.in(row.host, row.inject);
    name(c.loop, {"fd00:8::2", "10.8.0.2"});
    const TimePoint began = rejoin::monotonic_now();
    REQUIRE(c.pipe.connect({"both.families", port}));
    c.talks();
    std::printf("IPv6 broken (%s): connected after %.0f ms\n", row.what, static_cast<double>((c.joined_at - began).nanoseconds()) / 1e6);
    REQUIRE(c.pipe.statistics().attempts <= 4);
    REQUIRE(rejoin::unmapped(c.pipe.peer_endpoint().ip()) == rejoin::IpAddress::v4(10, 8, 0, 2));
    c.end();
}

TEST_CASE("an address that is still being checked is used as soon as it may be", "[netlab]") {
    ResumablePipe::Options options;
    options.from = *rejoin::IpAddress::parse("fd00:1::9");
    Conversation c{options, {}, nullptr, "::"};
    TimePoint usable;
    c.pipe.on_network_change(
        [&](const rejoin::NetworkChange& change) {
            if (change.kind == rejoin::NetworkChange::Kind::address_usable && change.address == options.from)
                usable = rejoin::monotonic_now();
        },
        rejoin::Notice::at_once);
    c.lab.in(Host::client, "echo 1 >/proc/sys/net/ipv6/conf/a0/accept_dad; ip addr add fd00:1::9/64 dev a0");
    REQUIRE(c.pipe.connect({"fd00:8::2", port}));
    REQUIRE(c.meets(FailureKind::address_unavailable));
    REQUIRE(usable == TimePoint());
    REQUIRE(c.until([&] { return c.client.received > 0; }));
    REQUIRE(usable != TimePoint());
    std::printf("duplicate-address detection: data %.0f ms after the address was usable\n",
                static_cast<double>((TimePoint::from_nanoseconds(c.client.received_at) - usable).nanoseconds()) / 1e6);
    c.talks();
    c.end();
}

TEST_CASE("an address that another host has is not used until that host has given it up", "[netlab]") {
    ResumablePipe::Options options;
    options.from = *rejoin::IpAddress::parse("fd00:1::9");
    Conversation c{options, {}, nullptr, "::"};
    c.lab.in(Host::router, "ip addr add fd00:1::9/64 dev ra0 nodad");
    c.lab.in(Host::client, "echo 1 >/proc/sys/net/ipv6/conf/a0/accept_dad; ip addr add fd00:1::9/64 dev a0");
    REQUIRE(c.pipe.connect({"fd00:8::2", port}));
    REQUIRE(c.until([&] {
        for (const rejoin::InterfaceAddress& a : c.pipe.network().addresses)
            if (a.ip == options.from && a.duplicate) return true;
        return false;
    }));
    const std::size_t before = c.met.size();
    REQUIRE(c.until([&] { return c.met.size() > before; }));
    REQUIRE(c.met.back().kind == FailureKind::address_unavailable);
    c.lab.in(Host::router, "ip addr del fd00:1::9/64 dev ra0");
    c.in(Host::client, "ip addr del fd00:1::9/64 dev a0; ip addr add fd00:1::9/64 dev a0");
    c.talks();
    c.end();
}

TEST_CASE("a server that accepts and says nothing is left after its time, and is there when it speaks", "[netlab]") {
    ResumablePipe::Options options;
    options.handshake_timeout = Duration::milliseconds(500);
    Conversation c{options, {}, nullptr};
    c.server_process.signal(SIGSTOP);
    REQUIRE(c.pipe.connect({"10.8.0.2", port}));
    REQUIRE(c.meets(FailureKind::timed_out));
    REQUIRE(c.met.back().stage == rejoin::Stage::handshaking);
    c.server_process.signal(SIGCONT);
    c.talks();
    c.end();
}

}  // namespace
