// SPDX-License-Identifier: BSL-1.0
#include <random>

#include "conversation.hpp"

// Each scenario: a client and a server talk both ways, something happens to the network or to one of them, and afterwards every byte is
// accounted for at both ends.
namespace {

using namespace netlab;

TEST_CASE("own address replaced", "[netlab]") {
    SECTION("IPv4") {
        Conversation c;
        meanwhile(c.loop, [&] {
            c.lab.in(Host::client,
                     "ip addr del 10.1.0.2/24 dev a0; ip addr add 10.1.0.3/24 dev a0; ip route add default via 10.1.0.1 metric 100");
        });
        REQUIRE(c.rejoined());
        c.report("own address replaced");
        REQUIRE(c.until([&] { return c.pipe.local_endpoint().ip() == rejoin::IpAddress::v4(10, 1, 0, 3); }));
        c.end();
    }
    SECTION("IPv6") {
        Conversation c{{}, {}, "fd00:8::2", "::"};
        const auto successor = *rejoin::IpAddress::parse("fd00:1::3");
        meanwhile(c.loop, [&] { c.lab.in(Host::client, "ip addr add fd00:1::3/64 dev a0 nodad; ip addr del fd00:1::2/64 dev a0"); });
        REQUIRE(c.rejoined());
        c.report("own address replaced, IPv6");
        REQUIRE(c.until([&] { return c.pipe.local_endpoint().ip() == successor; }));
        c.end();
    }
}

TEST_CASE("one uplink down while another is up", "[netlab]") {
    Conversation c;
    SECTION("switched off") {
        meanwhile(c.loop, [&] { c.lab.in(Host::client, "ip link set a0 down"); });
        REQUIRE(c.rejoined());
        c.report("one uplink switched off");
        c.nobody_saw_a_break();
    }
    SECTION("removed from the host") {
        meanwhile(c.loop, [&] { c.lab.in(Host::client, "ip link del a0"); });
        REQUIRE(c.rejoined());
        c.report("one uplink removed");
        c.nobody_saw_a_break();
    }
    SECTION("unplugged, where routes without a link are ignored") {
        c.lab.in(Host::client, "echo 1 >/proc/sys/net/ipv4/conf/a0/ignore_routes_with_linkdown");
        c.began = rejoin::monotonic_now();
        meanwhile(c.loop, [&] { c.lab.in(Host::router, "ip link set ra0 down"); });
        REQUIRE(c.rejoined());
        c.report("one uplink unplugged");  // the kernel takes up to a second to see it
    }
    REQUIRE(c.pipe.local_endpoint().ip() == rejoin::IpAddress::v4(10, 2, 0, 2));
    c.end();
}

TEST_CASE("one uplink of the server down while another is up", "[netlab]") {
    Conversation c{{}, {}, "a.name.with.two.addresses"};
    const rejoin::IpAddress first = c.pipe.peer_endpoint().ip();  // 10.8.0.2, if that answered at once
    meanwhile(c.loop, [&] { c.lab.in(Host::server, first.bytes[1] == 8 ? "ip link set b0 down" : "ip link set b1 down"); });
    REQUIRE(c.rejoined());
    c.report("the server's uplink down");
    REQUIRE(c.pipe.peer_endpoint().ip() != first);
    c.end();
}

TEST_CASE("the default route changes", "[netlab]") {
    Conversation c;
    SECTION("to the other uplink") {
        meanwhile(c.loop, [&] { c.lab.in(Host::client, "ip route add default via 10.2.0.1 metric 50"); });
        REQUIRE(c.rejoined());
        c.report("default route to the other uplink");
        REQUIRE(c.pipe.local_endpoint().ip() == rejoin::IpAddress::v4(10, 2, 0, 2));
    }
    SECTION("to another gateway, as the one before vanishes") {
        c.lab.in(Host::router, "echo 1 >/proc/sys/net/ipv4/conf/ra0/promote_secondaries; ip addr add 10.1.0.254/24 dev ra0");
        c.began = rejoin::monotonic_now();
        meanwhile(c.loop, [&] {
            c.lab.in(Host::client, "ip route replace default via 10.1.0.254 metric 100");
            c.lab.in(Host::router, "ip addr del 10.1.0.1/24 dev ra0");
        });
        REQUIRE(c.rejoined());
        c.report("another gateway");
    }
    c.nobody_saw_a_break();
    c.end();
}

TEST_CASE("path silently dropped for 5 s", "[netlab]") {
    Conversation c;
    meanwhile(c.loop, [&] { c.lab.drop(); });
    const TimePoint dropped = rejoin::monotonic_now();
    REQUIRE(c.until([&] { return rejoin::monotonic_now() - dropped >= Duration::seconds(5); }));
    c.began = rejoin::monotonic_now();
    meanwhile(c.loop, [&] { c.lab.restore(); });
    REQUIRE(c.rejoined());
    c.report("silent for 5 s");
    c.end();
}

TEST_CASE("a short silence: nothing is given up before something better is there", "[netlab]") {
    ResumablePipe::Options options;
    options.transport.dead_after = Duration::seconds(60);
    ServerOptions server_options;
    server_options.pipe.transport.dead_after = Duration::seconds(60);
    Conversation c{options, server_options};
    meanwhile(c.loop, [&] { c.lab.drop("tcp flags & syn == 0"); });  // the standby connections get through half-way
    const TimePoint dropped = rejoin::monotonic_now();
    REQUIRE(c.until([&] { return rejoin::monotonic_now() - dropped >= Duration::seconds(2); }));
    meanwhile(c.loop, [&] { c.lab.restore(); });
    REQUIRE(c.data_after(rejoin::monotonic_now()));
    c.nobody_saw_a_break();
    c.end();
}

TEST_CASE("connection reset", "[netlab]") {
    Conversation c;
    SECTION("by something on the way") {
        meanwhile(c.loop, [&] { c.lab.in(Host::router, "nft add rule inet lab forward tcp dport 4000 reject with tcp reset"); });
        REQUIRE(c.until([&] { return c.client.interruptions == 1; }));
        meanwhile(c.loop, [&] { c.lab.restore(); });
    }
    SECTION("by the server's system") {
        meanwhile(c.loop, [&] { c.lab.in(Host::server, "ss -K state established sport = :4000 >/dev/null 2>&1"); });
        REQUIRE(c.until([&] { return c.client.interruptions == 1; }));
    }
    REQUIRE(c.rejoined());
    c.report("connection reset");
    c.end();
}

TEST_CASE("a process that is stopped for 10 s while its system still answers is not declared dead", "[netlab]") {
    Conversation c;
    const TimePoint stopped = rejoin::monotonic_now();
    const auto over = [&] { return rejoin::monotonic_now() - stopped >= Duration::seconds(10); };
    SECTION("the server") {
        c.server_process.signal(SIGSTOP);
        REQUIRE(c.until(over));
        REQUIRE(c.client.state == PipeState::connected);
        c.server_process.signal(SIGCONT);
    }
    SECTION("the client") {
        sleep(10);  // nothing of it runs
        REQUIRE(over());
        REQUIRE(c.server->state == PipeState::connected);
    }
    REQUIRE(c.data_after(rejoin::monotonic_now()));
    c.nobody_saw_a_break();
    REQUIRE(c.client.connections == 1);
    REQUIRE(c.server->connections == 1);
    c.end();
}

TEST_CASE("half-open: the server's system has lost the connection", "[netlab]") {
    Conversation c;
    meanwhile(c.loop, [&] {
        c.lab.drop();
        c.lab.in(Host::server, "ss -K state established sport = :4000 >/dev/null 2>&1");  // nobody hears of it
    });
    REQUIRE(c.until([&] { return c.server->interruptions == 1; }));
    c.began = rejoin::monotonic_now();
    meanwhile(c.loop, [&] { c.lab.restore(); });
    REQUIRE(c.rejoined());
    c.report("half-open");
    c.end();
}

TEST_CASE("half-open: the client's host has vanished", "[netlab]") {
    Lab lab;
    Shared<Side> server, client;
    ServerOptions options;
    options.pipe.transport.keep_detached = Duration::seconds(1);
    Process server_process(lab, Host::server, [&] { serve(*server, "0.0.0.0", options); });
    Process client_process(lab, Host::client, [&] {
        rejoin::Loop loop;
        eventually(loop, [&] { return server->ready.load(); });
        ResumablePipe pipe{loop};
        Talker<ResumablePipe> talker(loop, pipe, *client, Host::client);
        if (!pipe.connect({"10.8.0.2", port})) return;
        loop.run();
    });
    rejoin::Loop loop;
    REQUIRE(eventually(loop, [&] { return server->received > 20'000 && client->received > 20'000; }));
    lab.in(Host::client, "ip link set a0 down; ip link set a1 down");
    client_process.signal(SIGKILL);
    REQUIRE(eventually(loop, [&] { return server->interruptions == 1; }));
    REQUIRE(eventually(loop, [&] { return server->closings == 1; }));
    REQUIRE(server->failure == FailureKind::session_expired);
    REQUIRE(server->unacknowledged > 0);
    REQUIRE(server->sent - server->unacknowledged <= client->received);
    REQUIRE(server->wrong == 0);
    REQUIRE(client->wrong == 0);
}

TEST_CASE("server process restarted", "[netlab]") {
    Conversation c;
    const bool vanishes = GENERATE(false, true);
    CAPTURE(vanishes);
    meanwhile(c.loop, [&] {
        if (vanishes) c.lab.drop();  // the whole host is gone, so that nothing tells of it
        c.server_process.signal(SIGKILL);
        c.server_process.wait();
        if (vanishes) c.lab.restore();
    });
    REQUIRE(c.until([&] { return c.client.interruptions == 1; }));
    const std::uint64_t arrived = c.server->received;
    REQUIRE(c.server->wrong == 0);
    c.server->ready = false;
    c.lab.leave();
    c.server_process = Process(c.lab, Host::server, c.start_server);
    c.lab.enter(Host::client);
    REQUIRE(c.until([&] { return c.client.closings == 1; }));
    REQUIRE(c.client.failure == FailureKind::session_unknown);
    // What the program is told covers everything that did not arrive.
    const auto statistics = c.pipe.statistics();
    REQUIRE(statistics.bytes_sent == c.client.sent);
    REQUIRE(statistics.bytes_unacknowledged > 0);
    REQUIRE(statistics.bytes_sent - statistics.bytes_unacknowledged <= arrived);
    REQUIRE(c.client.wrong == 0);
    REQUIRE(c.server->conversations == 1);
    // It stays at that one report, and the pipe can start anew.
    REQUIRE(c.pipe.connect({"10.8.0.2", port}));
    REQUIRE(c.until([&] { return c.server->conversations == 2; }));
    REQUIRE(c.client.closings == 1);
}

/// Counts how often it is asked.
struct Counted : rejoin::Persistent {
    using Persistent::Persistent;
    rejoin::Action decide(const rejoin::Failure& failure, const rejoin::NetworkState& network, TimePoint now) {
        ++decisions;
        return Persistent::decide(failure, network, now);
    }
    static inline int decisions = 0;
};

int count_of_syns(const Lab& lab) {
    return std::stoi(lab.ask(Host::client, "nft list counter inet host syns | sed -n 's/.*packets \\([0-9]*\\).*/\\1/p'"));
}

TEST_CASE("no route at all: no attempt is burned, and one is made at once when the route is back", "[netlab]") {
    using P = rejoin::Pipe<rejoin::SystemEvents, rejoin::Resumable<rejoin::Tcp>, Counted>;
    P::Options options;
    options.recovery.overlap = Duration::seconds(600);  // so that one attempt is one SYN
    Conversation<P> c{options};
    c.lab.in(Host::client,
             "nft 'table inet host {"
             "  counter syns { };"
             "  chain output { type filter hook output priority filter; tcp flags & (syn | ack) == syn counter name syns; };"
             "}'");
    meanwhile(c.loop, [&] {
        for (const char* family : {"-6", "-4"})
            for (const char* metric : {"200", "100"})
                c.lab.in(Host::client, std::string("ip ") + family + " route del default metric " + metric);
    });
    REQUIRE(c.until([&] { return c.client.state == PipeState::interrupted && c.client.failure == FailureKind::no_route; }));
    const int decisions = Counted::decisions;
    const TimePoint parked = rejoin::monotonic_now();
    REQUIRE(c.until([&] { return rejoin::monotonic_now() - parked > Duration::seconds(2); }));
    REQUIRE(Counted::decisions == decisions);
    REQUIRE(count_of_syns(c.lab) == 0);
    c.began = rejoin::monotonic_now();
    meanwhile(c.loop, [&] { c.lab.in(Host::client, "ip route add default via 10.2.0.1"); });
    REQUIRE(c.rejoined());
    c.report("no route, and then one");
    REQUIRE(count_of_syns(c.lab) == 1);
    c.end();
}

TEST_CASE("the only route of the peer's family goes, and another comes later: no backoff is waited for", "[netlab]") {
    ResumablePipe::Options options;
    options.recovery.backoff_base = options.recovery.backoff_cap = Duration::seconds(600);
    options.transport.suspect_after = options.transport.dead_after = Duration::seconds(600);
    Conversation c{options};
    meanwhile(c.loop, [&] { c.lab.in(Host::client, "ip route del default metric 200; ip addr del 10.1.0.2/24 dev a0"); });
    REQUIRE(c.until([&] { return !c.pipe.network().route_for(rejoin::Family::v4).present; }));
    REQUIRE(c.pipe.network().connected());  // by IPv6, which is of no use to this peer
    meanwhile(c.loop, [&] { c.lab.in(Host::client, "ip route add default via 10.2.0.1"); });
    REQUIRE(c.rejoined());
    c.end();
}

TEST_CASE("a pipe without a session: its address may be away for a moment, and costs a connection when it stays away", "[netlab]") {
    Lab lab;
    Shared<Side> server;
    Process server_process(lab, Host::server, [&] {
        rejoin::Loop loop;
        rejoin::Listener<rejoin::Tcp> listener{loop};
        listener.on_accept([&](rejoin::Listener<rejoin::Tcp>::AcceptedPipe& pipe) {
            ++server->conversations;
            pipe.on_receive([&](rejoin::Bytes bytes) { server->received += bytes.size(); });
        });
        server->ready = static_cast<bool>(listener.listen({"0.0.0.0", port}));
        loop.run();
    });
    lab.enter(Host::client);
    rejoin::Loop loop;
    rejoin::Pipe<rejoin::SystemEvents, rejoin::Tcp, rejoin::Persistent> pipe{loop};
    FailureKind failure = FailureKind::none;
    pipe.on_state([&](PipeState state, const rejoin::Failure& why) {
        if (state == PipeState::interrupted && failure == FailureKind::none) failure = why.kind;
    });
    const auto heard = [&] {
        const std::uint64_t before = server->received;
        static_cast<void>(pipe.send("hello"));
        return eventually(loop, [&] { return server->received > before; });
    };
    REQUIRE(eventually(loop, [&] { return server->ready.load(); }));
    REQUIRE(pipe.connect({"10.8.0.2", port}));
    REQUIRE(heard());
    std::uint64_t connections = 0;
    Duration away;
    do {
        connections = pipe.statistics().connections;
        const TimePoint gone = rejoin::monotonic_now();
        meanwhile(loop, [&] {
            lab.in(Host::client,
                   "ip addr del 10.1.0.2/24 dev a0; ip addr add 10.1.0.2/24 dev a0; ip route add default via 10.1.0.1 metric 100");
        });
        away = rejoin::monotonic_now() - gone;
        REQUIRE(eventually(loop, [&] { return rejoin::monotonic_now() - gone > Duration::milliseconds(1500) + away; }));
        REQUIRE(heard());
    } while (away > Duration::milliseconds(900));  // on a machine this busy it was away for too long
    REQUIRE(pipe.statistics().connections == connections);
    meanwhile(loop, [&] { lab.in(Host::client, "ip addr del 10.1.0.2/24 dev a0"); });
    REQUIRE(eventually(loop, [&] { return pipe.statistics().connections == connections + 1; }));
    REQUIRE(failure == FailureKind::address_lost);
    REQUIRE(pipe.local_endpoint().ip() == rejoin::IpAddress::v4(10, 2, 0, 2));
    REQUIRE(heard());
}

TEST_CASE("whatever happens, in any order", "[netlab]") {
    const char* const given = std::getenv("REJOIN_NETLAB_SEED");
    const auto seed = given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : std::random_device()();
    CAPTURE(seed);
    std::mt19937 random(seed);
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    const auto hasty = [](rejoin::session::Options& options) {
        options.liveness_interval = Duration::milliseconds(500);
        options.suspect_after = Duration::milliseconds(200);
        options.dead_after = Duration::milliseconds(600);
    };
    ResumablePipe::Options options;
    hasty(options.transport);
    options.recovery.backoff_cap = Duration::seconds(1);
    options.recovery.budget_refill = Duration::milliseconds(100);
    ServerOptions server_options;
    hasty(server_options.pipe.transport);
    Conversation c{options, server_options, "a.name.with.two.addresses"};
    // What is down cannot be taken down: then nothing happens.
    const auto in = [&](Host host, const std::string& commands) {
        meanwhile(c.loop, [&] { c.lab.in(host, "(" + commands + ") >/dev/null 2>&1 || true"); });
    };
    const auto for_a_while = [&](int milliseconds) {
        const TimePoint end = rejoin::monotonic_now() + Duration::milliseconds(below(milliseconds));
        c.until([&] { return rejoin::monotonic_now() >= end; });
    };
    const auto uplinks = [&] {
        in(Host::client,
           "for i in 1 2; do ip link set a$((i-1)) up; ip addr replace 10.$i.0.2/24 dev a$((i-1));"
           "  ip route replace default via 10.$i.0.1 metric ${i}00; done");
    };
    const auto hindrance = [&](const char* rule) {
        in(Host::router, std::string("nft 'add rule inet lab forward ") + rule + "'");
        for_a_while(2000);
        meanwhile(c.loop, [&] { c.lab.restore(); });
    };
    for (int n = 0; n < 30; ++n) {
        switch (below(11)) {
            case 0:
                in(Host::client, "ip link set a0 down");
                break;
            case 1:
                in(Host::client, "ip link set a1 down");
                break;
            case 2:
            case 3:
                uplinks();
                break;
            case 4:
                in(Host::client, "ip addr flush dev a0; ip addr add 10.1.0." + std::to_string(3 + below(200)) +
                                     "/24 dev a0; ip route add default via 10.1.0.1 metric 100");
                break;
            case 5:
                hindrance("iifname \"ra*\" drop");
                break;
            case 6:
                hindrance("iifname \"rb*\" drop");
                break;
            case 7:
                hindrance("tcp dport 4000 reject with tcp reset");
                break;
            case 8:
                hindrance("numgen random mod 100 < 20 drop");
                break;
            case 9:
                in(below(2) == 0 ? Host::client : Host::server, "ss -K state established");
                break;
            case 10:
                c.server_process.signal(SIGSTOP);
                for_a_while(300);
                c.server_process.signal(SIGCONT);
                break;
        }
        for_a_while(500);
    }
    uplinks();
    REQUIRE(c.data_after(rejoin::monotonic_now()));
    std::printf("anything, seed %u: %d connections\n", seed, static_cast<int>(c.client.connections));
    c.end();
}

}  // namespace
