// SPDX-License-Identifier: BSL-1.0
#include "conversation.hpp"

// What may become of the path under a connection.
namespace {

using namespace netlab;
using rejoin::IpAddress;

const IpAddress by_a1 = IpAddress::v4(10, 2, 0, 2);

ResumablePipe::Options by_the_route_alone() {
    ResumablePipe::Options options;
    options.other_interfaces = false;
    return options;
}

TEST_CASE("the path dies while another interface has one", "[netlab]") {
    Conversation c;
    SECTION("under data: the other has it after two retransmissions") {}
    SECTION("in a quiet time: the next probe tells") {
        c.client.quiet = c.server->quiet = true;
        REQUIRE(c.until([&] { return c.client.unacknowledged == 0 && c.server->unacknowledged == 0; }));
    }
    c.began = rejoin::monotonic_now();
    c.in(Host::router, "nft 'add rule inet lab forward iifname \"ra0\" drop; add rule inet lab forward oifname \"ra0\" drop'");
    REQUIRE(c.until([&] { return c.pipe.statistics().connections > 1; }));
    c.client.quiet = c.server->quiet = false;
    REQUIRE(c.rejoined());
    c.report("path dead, another interface");
    REQUIRE(c.pipe.local_endpoint().ip() == by_a1);
    c.nobody_saw_a_break();
    c.end();
}

TEST_CASE("ICMP errors do not end a connection", "[netlab]") {
    Conversation c(by_the_route_alone());
    c.in(Host::router, "nft add rule inet lab forward ip daddr 10.8.0.2 reject with icmp type host-unreachable");
    const TimePoint rejected = rejoin::monotonic_now();
    REQUIRE(c.until([&] { return rejoin::monotonic_now() - rejected > Duration::milliseconds(1500); }));
    c.in(Host::router, "nft flush chain inet lab forward");
    REQUIRE(c.data_after(rejoin::monotonic_now()));
    c.end();
}

TEST_CASE("the own address goes, and is back before another connection can be had", "[netlab]") {
    Conversation c(by_the_route_alone());
    c.in(Host::client, "ip link set a1 down; ip addr del 10.1.0.2/24 dev a0");
    REQUIRE(c.until([&] { return c.pipe.statistics().standbys > 0; }));
    c.in(Host::client, "ip addr add 10.1.0.2/24 dev a0; ip route add default via 10.1.0.1 metric 100");
    REQUIRE(c.data_after(rejoin::monotonic_now()));
    REQUIRE(c.until([&] { return c.pipe.explain().doing == rejoin::Explanation::Doing::talking; }));
    REQUIRE(c.client.interruptions <= 1);  // on a machine so busy that it took three seconds
    c.end();
}

TEST_CASE("a deprecated address is left early", "[netlab]") {
    Conversation c{{}, {}, "fd00:8::2", "::"};
    c.in(Host::client, "ip addr add fd00:1::3/64 dev a0 nodad; ip addr change fd00:1::2/64 dev a0 preferred_lft 0 valid_lft forever");
    REQUIRE(c.until([&] { return c.pipe.local_endpoint().ip() == *IpAddress::parse("fd00:1::3"); }));
    c.in(Host::client, "ip addr del fd00:1::2/64 dev a0");
    c.nobody_saw_a_break();
    c.end();
}

TEST_CASE("large packets vanish: the session goes on with small ones", "[netlab]") {
    Conversation c;
    c.in(Host::router,
         "nft 'add chain inet lab output { type filter hook output priority filter; };"
         "     add rule inet lab output icmp type destination-unreachable drop'; ip link set rb0 mtu 1200");
    bool narrowed = false;
    c.pipe.on_event([&](const rejoin::Event& event) { narrowed = narrowed || event.kind == rejoin::Event::Kind::narrowed; });
    REQUIRE(c.until([&] { return narrowed; }));
    // Both ends' large messages get through again.
    const std::uint64_t there = c.server->received, here = c.client.received;
    REQUIRE(c.until([&] { return c.server->received > there + 50'000 && c.client.received > here + 50'000; }));
    std::printf("large packets vanish: %d connections\n", static_cast<int>(c.client.connections));
    // And they go on while the network stays as it is.
    const std::uint64_t connections = c.client.connections;
    c.in(Host::server, "ss -K state established sport = :4000 >/dev/null 2>&1");
    REQUIRE(c.until([&] { return c.client.connections > connections; }));
    const std::uint64_t then = c.server->received;
    REQUIRE(c.until([&] { return c.server->received > then + 50'000; }));
    REQUIRE(c.client.connections == connections + 1);
    c.end();
}

// What does not belong to a connection that the router knows is dropped.
const char* const strict = "echo 0 >/proc/sys/net/netfilter/nf_conntrack_tcp_loose; nft add rule inet lab forward ct state invalid drop; ";

TEST_CASE("the NAT forgets its connections", "[netlab]") {
    Conversation c(by_the_route_alone());
    c.began = rejoin::monotonic_now();
    c.in(Host::router, std::string(strict) + "conntrack -F 2>/dev/null");
    REQUIRE(c.rejoined());
    c.report("NAT flushed");
    c.end();
}

TEST_CASE("the NAT maps connections anew", "[netlab]") {
    Conversation c;
    c.began = rejoin::monotonic_now();
    c.in(Host::router,
         "nft 'flush chain inet lab nat; add rule inet lab nat oifname \"rb*\" meta l4proto tcp masquerade to :20000-20999';"
         "conntrack -F 2>/dev/null");
    REQUIRE(c.rejoined());
    c.report("NAT mapping changed");
    c.end();
}

TEST_CASE("a NAT that forgets quiet connections is spoken to more often", "[netlab]") {
    ResumablePipe::Options options = by_the_route_alone();
    options.transport.liveness_interval = Duration::seconds(3);
    options.transport.suspect_after = Duration::milliseconds(300);
    ServerOptions server_options;
    server_options.pipe.transport.liveness_interval = Duration::seconds(60);
    Conversation c(options, server_options);
    c.client.quiet = c.server->quiet = true;
    c.in(Host::router,
         std::string(strict) + "echo 2 >/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established; conntrack -F 2>/dev/null");
    // Found dead again and again, until it is asked every second and a half.
    REQUIRE(c.until([&] { return c.pipe.statistics().connections >= 3; }));
    TimePoint since = rejoin::monotonic_now();
    std::uint64_t connections = c.pipe.statistics().connections, probes = c.pipe.statistics().probes;
    REQUIRE(c.until([&] {
        if (std::exchange(connections, c.pipe.statistics().connections) != connections) {  // a machine too busy for that
            since = rejoin::monotonic_now();
            probes = c.pipe.statistics().probes;
        }
        return rejoin::monotonic_now() - since > Duration::seconds(7);
    }));
    REQUIRE(c.pipe.statistics().probes >= probes + 4);
    c.client.quiet = c.server->quiet = false;
    REQUIRE(c.data_after(rejoin::monotonic_now()));
    c.end();
}

TEST_CASE("a path that loses a third of what is sent is left for another", "[netlab]") {
    Conversation c;
    c.began = rejoin::monotonic_now();
    c.in(Host::router,
         "nft 'add rule inet lab forward iifname \"ra0\" numgen random mod 100 < 30 drop;"
         "     add rule inet lab forward oifname \"ra0\" numgen random mod 100 < 30 drop'");
    REQUIRE(c.until([&] { return c.pipe.local_endpoint().ip() == by_a1; }));
    REQUIRE(c.rejoined());
    c.report("heavy loss");
    c.end();
}

TEST_CASE("a queue of seconds on the way is not a dead path", "[netlab]") {
    ResumablePipe::Options options = by_the_route_alone();
    options.transport.liveness_interval = Duration::seconds(1);
    Conversation c(options);
    // 400 kbit/s, and up to 3 s of them in the queue; the client says as much as it can.
    c.in(Host::client, "tc qdisc add dev a0 root tbf rate 400kbit burst 5kb limit 150kb");
    const TimePoint began = rejoin::monotonic_now();
    REQUIRE(c.until([&] { return rejoin::monotonic_now() - began > Duration::seconds(8); }));
    c.nobody_saw_a_break();
    REQUIRE(c.client.connections == 1);
    c.in(Host::client, "tc qdisc del dev a0 root");
    c.end();
}

TEST_CASE("a stranger in the server's place does not end the session", "[netlab]") {
    Conversation c;
    const Process portal(c.lab, Host::router, [] {
        rejoin::Loop loop;
        rejoin::Listener<rejoin::Tcp> listener{loop};
        listener.on_accept([&](rejoin::Listener<rejoin::Tcp>::AcceptedPipe& pipe) {
            static_cast<void>(pipe.send("HTTP/1.1 302 Found\r\nLocation: http://log.in/\r\n\r\n"));
        });
        if (!listener.listen({"0.0.0.0", 4999})) throw failed("listen");
        loop.run();
    });
    c.in(Host::router,
         "nft 'add chain inet lab before { type nat hook prerouting priority dstnat; };"
         "     add rule inet lab before tcp dport 4000 redirect to :4999'");
    c.in(Host::server, "ss -K state established sport = :4000 >/dev/null 2>&1");
    REQUIRE(c.meets(FailureKind::protocol));
    REQUIRE(c.client.state == PipeState::interrupted);
    c.began = rejoin::monotonic_now();
    c.in(Host::router, "nft flush chain inet lab before");
    REQUIRE(c.rejoined());
    c.report("a stranger");
    c.end();
}

TEST_CASE("something on the way acknowledges and passes nothing on", "[netlab]") {
    Conversation c{by_the_route_alone(), {}, nullptr};
    Process relay(c.lab, Host::router, [] {
        rejoin::Loop loop;
        using Out = rejoin::Pipe<rejoin::NoEvents, rejoin::Tcp, rejoin::FailFast>;
        rejoin::Listener<rejoin::Tcp, rejoin::NoEvents, rejoin::FailFast> listener{loop};
        std::vector<std::unique_ptr<Out>> all;
        listener.on_accept([&](auto& in) {
            all.push_back(std::make_unique<Out>(loop));
            if (!all.back()->connect({"10.8.0.2", port}) || !all.back()->link(in)) throw failed("relay");
        });
        if (!listener.listen({"0.0.0.0", 4999})) throw failed("listen");
        loop.run();
    });
    c.lab.in(Host::router,
             "nft 'add chain inet lab before { type nat hook prerouting priority dstnat; };"
             "     add rule inet lab before iifname \"ra*\" tcp dport 4000 redirect to :4999'");
    REQUIRE(c.pipe.connect({"10.8.0.2", port}));
    c.talks();
    c.began = rejoin::monotonic_now();
    relay.signal(SIGSTOP);
    REQUIRE(c.until([&] { return c.pipe.statistics().standbys > 0; }));
    c.in(Host::router, "nft flush chain inet lab before");
    REQUIRE(c.rejoined());
    relay.signal(SIGKILL);  // with all that it had acknowledged
    c.report("an acknowledging middlebox");
    c.end();
}

TEST_CASE("the way leads to another server: one that knows better sends the session on, one that does not ends it", "[netlab]") {
    const bool knows = GENERATE(true, false);
    Conversation c;
    Shared<Side> other;
    const Process other_server(c.lab, Host::server, [&] {
        rejoin::Loop loop;
        rejoin::Listener<rejoin::Resumable<rejoin::Tcp>> listener{loop};
        if (knows) listener.admit([](const rejoin::Newcomer&) { return rejoin::Admission::elsewhere({"10.9.0.2", port}); });
        if (!listener.listen({"0.0.0.0", 4001})) throw failed("listen");
        other->ready = true;
        loop.run();
    });
    REQUIRE(c.until([&] { return other->ready.load(); }));
    c.in(Host::router,
         "nft 'add chain inet lab before { type nat hook prerouting priority dstnat; };"
         "     add rule inet lab before ip daddr 10.8.0.2 tcp dport 4000 dnat ip to 10.8.0.2:4001'");
    c.in(Host::server, "ss -K state established sport = :4000 >/dev/null 2>&1");
    if (knows) {
        REQUIRE(c.rejoined());
        REQUIRE(c.pipe.peer_endpoint().ip() == IpAddress::v4(10, 9, 0, 2));
        c.end();
    } else {
        REQUIRE(c.until([&] { return c.client.closings == 1; }));
        REQUIRE(c.client.failure == FailureKind::session_unknown);
    }
}

// ---- Datagrams.

using Datagrams = rejoin::Pipe<rejoin::SystemEvents, rejoin::Udp, rejoin::Persistent>;

struct Echoed {
    Echoed()
        : server_process(lab, Host::server,
                         [this] {
                             auto socket = rejoin::Socket::udp(rejoin::Family::v4);
                             if (!socket || !socket->bind(IpAddress::v4(0, 0, 0, 0), port)) throw failed("bind");
                             server->ready = true;
                             std::byte room[2048];
                             rejoin::Endpoint from;
                             for (;; usleep(1000))
                                 while (auto n = socket->receive_from(room, from))
                                     static_cast<void>(socket->send_to({room, *n}, from.ip(), from.port()));
                         }),
          inside(lab) {
        pipe.on_receive([this](rejoin::Bytes) { back = rejoin::monotonic_now(); });
        pipe.on_event([this](const rejoin::Event& event) {
            if (event.kind == rejoin::Event::Kind::lost) lost.push_back(event.failure.kind);
        });
        pipe.on_state([this](PipeState state, const rejoin::Failure&) { interruptions += state == PipeState::interrupted; });
        REQUIRE(eventually(loop, [&] { return server->ready.load(); }));
        REQUIRE(pipe.connect({"10.8.0.2", port}));
        REQUIRE(echoes());
    }
    bool echoes() {
        const TimePoint began = rejoin::monotonic_now();
        return eventually(loop, [&] {
            static_cast<void>(pipe.send("hello"));
            return back > began;
        });
    }
    struct Inside {
        explicit Inside(const Lab& lab) { lab.enter(Host::client); }
    };
    Lab lab;
    Shared<Side> server;
    Process server_process;
    Inside inside;
    rejoin::Loop loop;
    Datagrams pipe{loop};
    TimePoint back;
    std::vector<FailureKind> lost;
    int interruptions = 0;
};

TEST_CASE("datagrams leave by another uplink when one goes", "[netlab]") {
    Echoed e;
    const char* const inject =
        GENERATE("ip link set a0 down", "ip addr del 10.1.0.2/24 dev a0", "ip route add default via 10.2.0.1 metric 50");
    meanwhile(e.loop, [&] { e.lab.in(Host::client, inject); });
    REQUIRE(eventually(e.loop, [&] { return e.pipe.local_endpoint().ip() == by_a1; }));
    REQUIRE(e.echoes());
    REQUIRE(e.interruptions == 0);
}

TEST_CASE("datagrams that this host's firewall refuses are lost and told, and the next get through when it allows them", "[netlab]") {
    Echoed e;
    meanwhile(e.loop, [&] {
        e.lab.in(Host::client, "nft 'table inet host { chain output { type filter hook output priority filter; udp dport 4000 drop; }; }'");
    });
    REQUIRE(eventually(e.loop, [&] {
        static_cast<void>(e.pipe.send("refused"));
        return e.lost.size() > 3;
    }));
    for (FailureKind kind : e.lost) REQUIRE(kind == FailureKind::forbidden);
    meanwhile(e.loop, [&] { e.lab.in(Host::client, "nft delete table inet host"); });
    REQUIRE(e.echoes());
}

TEST_CASE("a closed port is told to who sends datagrams there", "[netlab]") {
    Echoed e;
    e.server_process.signal(SIGKILL);
    e.server_process.wait();
    REQUIRE(eventually(e.loop, [&] {
        static_cast<void>(e.pipe.send("hello"));
        return e.interruptions > 0;
    }));
}

}  // namespace
