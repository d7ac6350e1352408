// SPDX-License-Identifier: BSL-1.0
#include "catch.hpp"
#include "lab.hpp"

namespace {

using namespace netlab;
using rejoin::IpAddress;
using rejoin::NetworkChange;
using Kind = rejoin::NetworkChange::Kind;

struct Seen {
    Kind kind;
    std::string interface_name;
    IpAddress address, gateway;
    bool major;
};

TEST_CASE("changes of the host's network reach the handlers of a pipe as they happen", "[netlab]") {
    Lab lab;
    lab.in(Host::router, "ip addr add 10.1.0.254/24 dev ra0");
    lab.enter(Host::client);
    rejoin::Loop loop;
    rejoin::ResumablePipe pipe{loop};
    std::vector<Seen> seen;
    pipe.on_network_change(
        [&](const NetworkChange& change) {
            seen.push_back({change.kind, change.interface_name.c_str(), change.address, change.gateway, change.major});
        },
        rejoin::Notice::at_once);
    const auto happens = [&](Host host, const std::string& commands) {
        seen.clear();
        meanwhile(loop, [&] { lab.in(host, commands); });
    };
    // Whether it comes, or has come since the last happening.
    const auto change = [&](Kind kind, const char* interface_name, bool major, auto matches) {
        return eventually(loop, [&] {
            for (const Seen& s : seen)
                if (s.kind == kind && s.interface_name == interface_name && s.major == major && matches(s)) return true;
            return false;
        });
    };
    const auto any = [](const Seen&) { return true; };
    const auto of = [](const char* address) { return [address](const Seen& s) { return s.address == *IpAddress::parse(address); }; };
    const auto through = [](const char* gateway) { return [gateway](const Seen& s) { return s.gateway == *IpAddress::parse(gateway); }; };
    REQUIRE(pipe.network().known);
    REQUIRE(pipe.network().route_for(rejoin::Family::v4).gateway == *IpAddress::parse("10.1.0.1"));

    SECTION("interfaces") {
        happens(Host::client, "ip link set a1 down");
        REQUIRE(change(Kind::interface_down, "a1", true, any));
        happens(Host::client, "ip link set a1 up");
        REQUIRE(change(Kind::interface_up, "a1", false, any));
        REQUIRE(change(Kind::carrier_up, "a1", false, any));
        happens(Host::router, "ip link set ra1 down");
        REQUIRE(change(Kind::carrier_down, "a1", true, any));
        happens(Host::router, "ip link set ra1 up");
        REQUIRE(change(Kind::carrier_up, "a1", false, any));
        happens(Host::client, "ip link add c0 type veth peer name c1");
        REQUIRE(change(Kind::interface_added, "c0", false, any));
        happens(Host::client, "ip link del c0");
        REQUIRE(change(Kind::interface_removed, "c0", false, any));
    }
    SECTION("addresses") {
        happens(Host::client, "ip addr add 10.1.0.3/24 dev a0");
        REQUIRE(change(Kind::address_added, "a0", false, of("10.1.0.3")));
        REQUIRE(change(Kind::address_usable, "a0", false, of("10.1.0.3")));
        happens(Host::client, "ip addr del 10.1.0.3/24 dev a0");
        REQUIRE(change(Kind::address_removed, "a0", true, of("10.1.0.3")));
        // Checked for another owner first: then usable is later than added.
        lab.in(Host::client, "echo 1 >/proc/sys/net/ipv6/conf/a0/accept_dad");
        happens(Host::client, "ip addr add fd00:1::3/64 dev a0");
        REQUIRE(change(Kind::address_added, "a0", false, of("fd00:1::3")));
        REQUIRE(change(Kind::address_usable, "a0", false, of("fd00:1::3")));
    }
    SECTION("routes") {
        happens(Host::client, "ip route replace default via 10.1.0.254 metric 100");
        REQUIRE(change(Kind::route_changed, "a0", true, through("10.1.0.254")));
        happens(Host::client, "ip route del default metric 100");
        REQUIRE(change(Kind::route_changed, "a1", true, through("10.2.0.1")));
        REQUIRE(change(Kind::active_interface_changed, "a1", true, any));
        happens(Host::client, "ip -6 route del default metric 100; ip -6 route del default metric 200; ip route del default");
        REQUIRE(change(Kind::route_removed, "a1", true, through("10.2.0.1")));
        REQUIRE(change(Kind::connectivity_lost, "a1", true, any));
        happens(Host::client, "ip -6 route add default via fd00:2::1");
        REQUIRE(change(Kind::route_added, "a1", false, through("fd00:2::1")));
        REQUIRE(change(Kind::connectivity_regained, "a1", false, any));
    }
}

}  // namespace
