// SPDX-License-Identifier: BSL-1.0
#include <rejoin/network/external_address.hpp>

#include "catch.hpp"
#include "lab.hpp"
#include "skip.hpp"

// The external address as a real STUN server (coturn) sees it, behind the router's NAT.
namespace {

using namespace netlab;
using rejoin::Duration;
using rejoin::Endpoint;
using rejoin::Family;
using rejoin::IpAddress;
using rejoin::NatMapping;
using rejoin::NetworkChange;
using rejoin::TimePoint;
using Events = rejoin::ExternalAddress<rejoin::SystemEvents>;
using Kind = NetworkChange::Kind;

IpAddress ip(const char* text) { return *IpAddress::parse(text); }
double milliseconds(Duration d) { return static_cast<double>(d.microseconds()) / 1000; }

// The client's two addresses have an external one each, 10.8.0.101 and 10.8.0.102, and the server has two addresses to ask at.
struct Nat {
    Nat() {
        lab.in(Host::router, "for i in 101 102 103; do ip addr add 10.8.0.$i/24 dev rb0; done");
        lab.in(Host::server, "ip addr add 10.8.0.3/24 dev b0");
        becomes("10.8.0.101");
        server = Process(lab, Host::server, [] {
            execlp("turnserver", "turnserver", "-n", "--stun-only", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp",
                   "--listening-ip=10.8.0.2", "--listening-ip=10.8.0.3", "--listening-ip=fd00:8::2", "--log-file=/dev/null",
                   "--no-stdout-log", "--pidfile=/dev/null", nullptr);
        });
        lab.enter(Host::client);
    }
    /// What a0's address is hidden behind from now on. `how`: for which ports.
    void becomes(const std::string& external, const std::string& how = "") const {
        lab.in(Host::router,
               "nft 'flush chain inet lab nat;"
               "add rule inet lab nat oifname \"rb0\" ip saddr 10.1.0.0/24 snat ip to " +
                   external + " " + how +
                   ";"
                   "add rule inet lab nat oifname \"rb0\" ip saddr 10.2.0.0/24 snat ip to 10.8.0.102;"
                   "add rule inet lab nat oifname \"rb0\" ip6 saddr fd00::/16 masquerade'");
    }
    Lab lab;
    Process server;
};

struct Ear {
    explicit Ear(Events& events) { events.observe(observer); }
    void hear(const NetworkChange& change) {
        (change.kind == Kind::external_address_changed ? external : others).push_back({change, rejoin::monotonic_now()});
        if (change.kind == Kind::external_address_changed) affected.push_back(change.affects(ip("10.1.0.2"), ip("10.8.0.2")));
    }
    struct Heard {
        NetworkChange change;
        TimePoint at;
    };
    std::vector<Heard> external, others;
    std::vector<bool> affected;
    rejoin::NetworkObserver observer{rejoin::Delegate<void(const NetworkChange&)>::to<&Ear::hear>(this)};
};

TEST_CASE("a changed external address is told within a second of the local change, and else within the interval", "[netlab]") {
    if (std::system("command -v turnserver >/dev/null") != 0) return test::skip("needs turnserver, of coturn");
    Nat nat;
    rejoin::Loop loop;
    Events& events = Events::of(loop);
    Ear ear(events);
    const Endpoint servers[] = {{"10.8.0.2", 3478}, {"10.8.0.3", 3478}, {"fd00:8::2", 3478}};
    Events::Options options;
    options.interval = Duration::seconds(2);
    // The server takes a moment to start: the first round repeats its requests, or the next one finds it.
    REQUIRE(events.set_servers(servers, options));
    const auto sees = [&](const char* v4) { return eventually(loop, [&] { return events.external(Family::v4).address == ip(v4); }); };
    REQUIRE(sees("10.8.0.101"));
    REQUIRE(eventually(loop, [&] { return events.external(Family::v6).address == ip("fd00:8::1"); }));
    REQUIRE(eventually(loop, [&] { return events.external(Family::v4).mapping == NatMapping::same; }));
    // The other address goes by the same way, and comes out elsewhere.
    REQUIRE(eventually(loop, [&] {
        const auto* other = events.external(ip("10.2.0.2"));
        return other != nullptr && other->address == ip("10.8.0.102");
    }));
    REQUIRE(ear.external.size() == 2);  // the first of each family

    // Nothing changes here, but at the NAT.
    TimePoint began = rejoin::monotonic_now();
    meanwhile(loop, [&] { nat.becomes("10.8.0.103"); });
    REQUIRE(sees("10.8.0.103"));
    REQUIRE(ear.external.size() == 3);
    CHECK(ear.affected[2]);
    CHECK(ear.external[2].change.old_address == ip("10.8.0.101"));
    CHECK(ear.external[2].change.local_address == ip("10.1.0.2"));
    std::printf("external address: changed at the NAT, told after %.0f ms, with an interval of 2000 ms\n",
                milliseconds(ear.external[2].at - began));
    CHECK(ear.external[2].at - began < options.interval + Duration::seconds(1));

    // From now on rounds follow changes alone.
    options.interval = Duration::seconds(3600);
    const std::uint16_t port = events.external(Family::v4).port;
    REQUIRE(events.set_servers(servers, options));
    REQUIRE(eventually(loop, [&] { return events.external(Family::v4).port != port; }));  // that round is over

    // The NAT's address changes together with something here: the same local address is seen elsewhere.
    nat.becomes("10.8.0.101");
    ear.others.clear();
    meanwhile(loop, [&] { nat.lab.in(Host::client, "ip addr add 10.1.0.3/24 dev a0"); });
    REQUIRE(sees("10.8.0.101"));
    REQUIRE(ear.external.size() == 4);
    CHECK(ear.affected[3]);
    std::printf("external address: changed at the NAT, told %.0f ms after a local change\n",
                milliseconds(ear.external[3].at - ear.others.front().at));
    CHECK(ear.external[3].at - ear.others.front().at < Duration::seconds(1));

    // The way to the internet goes, and another one takes over.
    ear.others.clear();
    meanwhile(loop, [&] { nat.lab.in(Host::client, "ip link set a0 down"); });
    REQUIRE(sees("10.8.0.102"));
    REQUIRE(eventually(loop, [&] { return ear.external.size() == 5; }));
    CHECK(ear.external[4].change.old_address == ip("10.8.0.101"));
    CHECK(ear.external[4].change.address == ip("10.8.0.102"));
    CHECK(ear.external[4].change.interface_name == rejoin::TextView("a1"));
    CHECK_FALSE(ear.external[4].change.major);  // what a1's address is seen at has not moved
    std::printf("external address: another interface leads, told %.0f ms after the local change\n",
                milliseconds(ear.external[4].at - ear.others.front().at));
    CHECK(ear.external[4].at - ear.others.front().at < Duration::seconds(1));
}

TEST_CASE("a pipe opens another connection when its own external address has moved", "[netlab]") {
    if (std::system("command -v turnserver >/dev/null") != 0) return test::skip("needs turnserver, of coturn");
    Nat nat;
    Shared<Side> server;
    Process peer(nat.lab, Host::server, [&] { serve(*server); });
    rejoin::Loop loop;
    const Endpoint servers[] = {{"10.8.0.2", 3478}};
    Events::Options options;
    options.interval = Duration::seconds(1);
    REQUIRE(Events::of(loop).set_servers(servers, options));
    using Pipe = rejoin::Pipe<Events, rejoin::Resumable<rejoin::Tcp>, rejoin::Persistent>;
    Pipe pipe{loop};
    Side client;
    Talker<Pipe> talker(loop, pipe, client, Host::client);
    REQUIRE(eventually(loop, [&] { return server->ready.load(); }));
    REQUIRE(pipe.connect({"10.8.0.2", port}));
    REQUIRE(
        eventually(loop, [&] { return client.received > 20'000 && Events::of(loop).external(Family::v4).address == ip("10.8.0.101"); }));
    CHECK(pipe.statistics().connections == 1);
    meanwhile(loop, [&] { nat.becomes("10.8.0.103"); });
    REQUIRE(eventually(loop, [&] { return pipe.statistics().resumes == 1; }));
    CHECK(client.interruptions == 0);
}

TEST_CASE("a NAT that maps each server to another port shows as one", "[netlab]") {
    if (std::system("command -v turnserver >/dev/null") != 0) return test::skip("needs turnserver, of coturn");
    Nat nat;
    nat.becomes("10.8.0.101", "fully-random");
    rejoin::Loop loop;
    Events& events = Events::of(loop);
    const Endpoint servers[] = {{"10.8.0.2", 3478}, {"10.8.0.3", 3478}};
    Events::Options options;
    options.interval = Duration::seconds(2);
    REQUIRE(events.set_servers(servers, options));
    REQUIRE(eventually(loop, [&] { return events.external(Family::v4).mapping == NatMapping::differs; }));
    CHECK(events.external(Family::v4).address == ip("10.8.0.101"));
}

}  // namespace
