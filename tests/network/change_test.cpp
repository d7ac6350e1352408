// SPDX-License-Identifier: BSL-1.0
#include <rejoin/network/change.hpp>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace rejoin;
using Kind = NetworkChange::Kind;

namespace {

IpAddress ip(TextView text, std::uint32_t scope = 0) {
    auto parsed = IpAddress::parse(text);
    REQUIRE(parsed);
    parsed->scope = scope;
    return *parsed;
}
Interface interface_of(std::uint32_t index, TextView name, bool up = true, bool carrier = true) {
    return {index, Text<15>(name), up, carrier, name == TextView("lo")};
}

// A laptop: loopback, a wire (2) and a radio (3), each with an address; both families leave by the wire.
NetworkState laptop() {
    NetworkState state;
    state.known = true;
    for (const Interface& i : {interface_of(1, "lo"), interface_of(2, "wire"), interface_of(3, "radio")}) REQUIRE(state.put(i));
    for (const InterfaceAddress& a : {InterfaceAddress{1, ip("127.0.0.1"), 8}, InterfaceAddress{2, ip("192.0.2.7"), 24},
                                      InterfaceAddress{2, ip("2001:db8::7"), 64}, InterfaceAddress{2, ip("fe80::7", 2), 64},
                                      InterfaceAddress{3, ip("198.51.100.7"), 24}, InterfaceAddress{3, ip("fe80::7", 3), 64}})
        REQUIRE(state.put(a));
    state.route[0] = {true, 2, ip("192.0.2.1"), ip("192.0.2.7")};
    state.route[1] = {true, 2, ip("fe80::1", 2), ip("2001:db8::7")};
    return state;
}

const IpAddress far_away = IpAddress::v4(203, 0, 113, 9);

std::vector<NetworkChange> changes(const NetworkState& before, const NetworkState& after) {
    std::vector<NetworkChange> all;
    diff(before, after, [&](const NetworkChange& change) { all.push_back(change); });
    return all;
}
std::vector<Kind> kinds(const std::vector<NetworkChange>& changes) {
    std::vector<Kind> all;
    for (const NetworkChange& change : changes) all.push_back(change.kind);
    return all;
}

}  // namespace

TEST_CASE("network state: finds what it holds") {
    NetworkState state = laptop();
    REQUIRE(state.find_interface(2)->name == TextView("wire"));
    REQUIRE(state.find_interface(4) == nullptr);
    REQUIRE(state.find_address(3, ip("198.51.100.7"))->prefix_length == 24);
    REQUIRE(state.find_address(2, ip("198.51.100.7")) == nullptr);
    REQUIRE(state.active_interface() == 2);
    REQUIRE(&state.route_for(Family::v6) == &state.route[1]);
    REQUIRE(state.connected());
    REQUIRE_FALSE(state.offline());

    REQUIRE(state.interface_of(ip("192.0.2.7")) == 2);
    REQUIRE(state.interface_of(ip("::ffff:192.0.2.7")) == 2);
    REQUIRE(state.interface_of(ip("fe80::7", 3)) == 3);
    REQUIRE(state.interface_of(ip("fe80::7")) == 2);
    REQUIRE(state.interface_of(ip("fe80::7", 1)) == 0);
    REQUIRE(state.interface_of(ip("127.0.0.9")) == 1);
    REQUIRE(state.interface_of(ip("::1")) == 1);
    REQUIRE(state.interface_of(ip("0.0.0.0")) == 0);
    REQUIRE(state.interface_of({}) == 0);

    state.route[0] = {};
    REQUIRE(state.active_interface() == 2);
    state.route[1] = {};
    REQUIRE(state.active_interface() == 0);
    REQUIRE(state.offline());
    REQUIRE_FALSE(NetworkState().offline());  // nobody knows
}

TEST_CASE("network state: put replaces, remove removes") {
    NetworkState state = laptop();
    REQUIRE(state.put(interface_of(2, "renamed", false)));
    REQUIRE(state.interfaces.size() == 3);
    REQUIRE(state.find_interface(2)->name == TextView("renamed"));
    REQUIRE_FALSE(state.find_interface(2)->up);

    REQUIRE(state.put(InterfaceAddress{2, ip("192.0.2.7"), 24, true}));
    REQUIRE(state.addresses.size() == 6);
    REQUIRE_FALSE(state.find_address(2, ip("192.0.2.7"))->usable());
    REQUIRE(state.put(InterfaceAddress{2, ip("192.0.2.7"), 32}));  // another length is another entry
    REQUIRE(state.addresses.size() == 7);
    state.remove({2, ip("192.0.2.7"), 24});
    REQUIRE(state.find_address(2, ip("192.0.2.7"))->prefix_length == 32);
    state.remove({2, ip("192.0.2.7"), 24});
    REQUIRE(state.addresses.size() == 6);

    state.remove_interface(2);
    REQUIRE(state.interfaces.size() == 2);
    REQUIRE(state.addresses.size() == 3);
    state.remove_interface(2);
    REQUIRE(state.interfaces.size() == 2);
}

TEST_CASE("network state: a copy says the same, whatever was there before") {
    const NetworkState state = laptop();
    NetworkState copy;
    copy.put(interface_of(9, "old"));
    REQUIRE(copy.copy_from(state));
    REQUIRE(copy.known);
    REQUIRE(copy.interfaces.size() == 3);
    REQUIRE(copy.addresses.size() == 6);
    REQUIRE(changes(state, copy).empty());
    REQUIRE(copy.route[1] == state.route[1]);
}

TEST_CASE("diff: each kind of change") {
    struct Row {
        const char* what;
        void (*change)(NetworkState&);
        std::vector<Kind> kinds;
        std::vector<bool> major;
        const char* first;  // in words
    };
    const std::vector<Row> rows = {
        {"nothing", [](NetworkState&) {}, {}, {}, ""},
        {"interface switched off",
         [](NetworkState& s) { s.put(interface_of(3, "radio", false, false)); },
         {Kind::interface_down},
         {true},
         "Interface radio was switched off."},
        {"carrier lost",
         [](NetworkState& s) { s.put(interface_of(3, "radio", true, false)); },
         {Kind::carrier_down},
         {true},
         "Interface radio lost its link."},
        {"interface removed, without its addresses' removal having been told",
         [](NetworkState& s) { s.remove_interface(3); },
         {Kind::interface_removed, Kind::address_removed, Kind::address_removed},
         {true, true, false},
         "Interface radio is gone."},
        {"address removed",
         [](NetworkState& s) {
             s.remove({3, ip("198.51.100.7"), 24});
         },
         {Kind::address_removed},
         {true},
         "Address 198.51.100.7 was removed from radio."},
        {"link-local address removed",
         [](NetworkState& s) {
             s.remove({3, ip("fe80::7", 3), 64});
         },
         {Kind::address_removed},
         {false},
         "Address fe80::7%3 was removed from radio."},
        {"address replaced by itself with another prefix length",
         [](NetworkState& s) {
             s.remove({3, ip("198.51.100.7"), 24});
             s.put(InterfaceAddress{3, ip("198.51.100.7"), 16});
         },
         {},
         {},
         ""},
        {"address found to be a duplicate",
         [](NetworkState& s) {
             s.put(InterfaceAddress{3, ip("198.51.100.7"), 24, false, true});
         },
         {Kind::address_unusable},
         {true},
         "Address 198.51.100.7 cannot be used any more on radio."},
        {"address deprecated",
         [](NetworkState& s) {
             s.put(InterfaceAddress{3, ip("198.51.100.7"), 24, false, false, true});
         },
         {Kind::address_deprecated},
         {false},
         "Address 198.51.100.7 is not meant for new connections any more on radio."},
        {"interface added, off",
         [](NetworkState& s) { s.put(interface_of(4, "tun", false, false)); },
         {Kind::interface_added},
         {false},
         "Interface tun appeared."},
        {"interface added, running",
         [](NetworkState& s) { s.put(interface_of(4, "tun")); },
         {Kind::interface_added, Kind::interface_up, Kind::carrier_up},
         {false, false, false},
         "Interface tun appeared."},
        {"address added, being checked",
         [](NetworkState& s) {
             s.put(InterfaceAddress{3, ip("2001:db8::8"), 64, true});
         },
         {Kind::address_added},
         {false},
         "Address 2001:db8::8 was added to radio."},
        {"address added, usable",
         [](NetworkState& s) {
             s.put(InterfaceAddress{3, ip("2001:db8::8"), 64});
         },
         {Kind::address_added, Kind::address_usable},
         {false, false},
         "Address 2001:db8::8 was added to radio."},
        {"gateway changed",
         [](NetworkState& s) { s.route[0].gateway = ip("192.0.2.2"); },
         {Kind::route_changed},
         {true},
         "IPv4 now goes to the internet by wire through 192.0.2.2."},
        {"source changed",
         [](NetworkState& s) { s.route[1].source = ip("2001:db8::8"); },
         {Kind::route_changed},
         {false},
         "IPv6 now goes to the internet by wire through fe80::1%2."},
        {"route removed",
         [](NetworkState& s) { s.route[1] = {}; },
         {Kind::route_removed},
         {true},
         "IPv6 has no route to the internet any more; it went by wire."},
        {"IPv4 moves to the radio, which becomes the active interface",
         [](NetworkState& s) {
             s.route[0] = {true, 3, {}, ip("198.51.100.7")};
         },
         {Kind::route_changed, Kind::active_interface_changed},
         {true, true},
         "IPv4 now goes to the internet by radio."},
        {"everything moves to the radio",
         [](NetworkState& s) {
             s.put(interface_of(2, "wire", true, false));
             s.route[0] = {true, 3, {}, ip("198.51.100.7")};
             s.route[1] = {};
         },
         {Kind::carrier_down, Kind::route_changed, Kind::route_removed, Kind::active_interface_changed},
         {true, true, true, true},
         "Interface wire lost its link."},
        {"both routes removed",
         [](NetworkState& s) { s.route[0] = s.route[1] = {}; },
         {Kind::route_removed, Kind::route_removed, Kind::connectivity_lost},
         {true, true, true},
         "IPv4 has no route to the internet any more; it went by wire."},
    };
    for (const Row& row : rows) {
        INFO(row.what);
        const NetworkState before = laptop();
        NetworkState after = laptop();
        row.change(after);
        const auto all = changes(before, after);
        REQUIRE(kinds(all) == row.kinds);
        for (std::size_t i = 0; i < all.size(); ++i) {
            CHECK(all[i].major == row.major[i]);
            CHECK(all[i].before == &before);
            CHECK(all[i].after == &after);
        }
        if (!all.empty()) CHECK(describe(all[0]).c_str() == std::string(row.first));
    }
}

TEST_CASE("diff: the way back") {
    const NetworkState before = laptop();
    SECTION("switched on, with and without carrier") {
        NetworkState off = laptop();
        off.put(interface_of(3, "radio", false, false));
        REQUIRE(kinds(changes(off, before)) == std::vector{Kind::interface_up, Kind::carrier_up});
        NetworkState waiting = laptop();
        waiting.put(interface_of(3, "radio", true, false));
        REQUIRE(kinds(changes(off, waiting)) == std::vector{Kind::interface_up});
        REQUIRE(kinds(changes(waiting, before)) == std::vector{Kind::carrier_up});
        REQUIRE(describe(changes(waiting, before)[0]) == TextView("Interface radio has a link."));
        REQUIRE(describe(changes(off, waiting)[0]) == TextView("Interface radio was switched on."));
    }
    SECTION("past duplicate-address detection") {
        NetworkState checking = laptop();
        checking.put(InterfaceAddress{3, ip("198.51.100.7"), 24, true});
        const auto all = changes(checking, before);
        REQUIRE(kinds(all) == std::vector{Kind::address_usable});
        REQUIRE(all[0].address == ip("198.51.100.7"));
        REQUIRE(all[0].interface_index == 3);
        REQUIRE(describe(all[0]) == TextView("Address 198.51.100.7 can be used on radio."));
    }
    SECTION("routes") {
        NetworkState lost = laptop();
        lost.route[0] = lost.route[1] = {};
        const auto all = changes(lost, before);
        REQUIRE(kinds(all) == std::vector{Kind::route_added, Kind::route_added, Kind::connectivity_regained});
        REQUIRE(all[0].family == Family::v4);
        REQUIRE(all[0].gateway == ip("192.0.2.1"));
        REQUIRE(all[0].address == ip("192.0.2.7"));
        REQUIRE(all[1].family == Family::v6);
        REQUIRE_FALSE(all[2].major);
        REQUIRE(describe(all[1]) == TextView("IPv6 has a route to the internet by wire through fe80::1%2."));
        REQUIRE(describe(all[2]) == TextView("There is a route to the internet again, by wire."));
        REQUIRE(describe(changes(before, lost)[2]) == TextView("There is no route to the internet any more."));
    }
    SECTION("active interface in words, and a name that is not known") {
        NetworkState moved = laptop();
        moved.route[0].interface_index = 3;
        REQUIRE(describe(changes(before, moved)[1]) == TextView("Interface radio now leads to the internet."));
        moved.route[0].interface_index = 77;
        REQUIRE(describe(changes(before, moved)[1]) == TextView("Interface number 77 now leads to the internet."));
    }
}

TEST_CASE("diff: the order of the lists does not matter") {
    const NetworkState before = laptop();
    NetworkState after;
    for (std::size_t i = before.interfaces.size(); i-- > 0;) REQUIRE(after.put(before.interfaces[i]));
    for (std::size_t i = before.addresses.size(); i-- > 0;) REQUIRE(after.put(before.addresses[i]));
    after.route[0] = before.route[0];
    after.route[1] = before.route[1];
    REQUIRE(changes(before, after).empty());
    REQUIRE(changes(after, before).empty());
}

TEST_CASE("diff: an address listed twice is told of once") {
    NetworkState before = laptop();
    before.put(InterfaceAddress{3, ip("198.51.100.7"), 32});
    REQUIRE(kinds(changes(laptop(), before)).empty());
    NetworkState after = laptop();
    after.remove({3, ip("198.51.100.7"), 24});
    REQUIRE(kinds(changes(before, after)) == std::vector{Kind::address_removed});
    REQUIRE(kinds(changes(after, before)) == std::vector{Kind::address_added, Kind::address_usable});
}

TEST_CASE("affects: which connections a change hits") {
    const IpAddress wire4 = ip("192.0.2.7"), wire6 = ip("2001:db8::7"), radio4 = ip("198.51.100.7"), wire_link = ip("fe80::7", 2),
                    radio_link = ip("fe80::7", 3), loopback = ip("127.0.0.1"), mapped = ip("::ffff:192.0.2.7");
    const std::vector<IpAddress> locals = {wire4, mapped, wire6, wire_link, radio4, radio_link, loopback, {}, ip("203.0.113.9")};
    struct Row {
        const char* what;
        void (*change)(NetworkState&);
        std::vector<std::vector<IpAddress>> hit;  // by each change in turn
    };
    const std::vector<Row> rows = {
        {"wire switched off", [](NetworkState& s) { s.put(interface_of(2, "wire", false, false)); }, {{wire4, mapped, wire6, wire_link}}},
        {"wire without carrier", [](NetworkState& s) { s.put(interface_of(2, "wire", true, false)); }, {{wire4, mapped, wire6, wire_link}}},
        {"radio gone", [](NetworkState& s) { s.remove_interface(3); }, {{radio4, radio_link}, {radio4}, {radio_link}}},
        {"loopback switched off", [](NetworkState& s) { s.put(interface_of(1, "lo", false, false)); }, {{loopback}}},
        {"address removed",
         [](NetworkState& s) {
             s.remove({2, ip("192.0.2.7"), 24});
         },
         {{wire4, mapped}}},
        {"address unusable",
         [](NetworkState& s) {
             s.put(InterfaceAddress{2, ip("2001:db8::7"), 64, true});
         },
         {{wire6}}},
        {"IPv4 gateway changed", [](NetworkState& s) { s.route[0].gateway = ip("192.0.2.2"); }, {{wire4, mapped}}},
        {"IPv6 source changed", [](NetworkState& s) { s.route[1].source = ip("2001:db8::8"); }, {{}}},
        {"IPv4 route moves",
         [](NetworkState& s) {
             s.route[0] = {true, 3, {}, {}};
         },
         {{wire4, mapped}, {wire4, mapped}}},
        {"both routes lost",
         [](NetworkState& s) { s.route[0] = s.route[1] = {}; },
         {{wire4, mapped}, {wire6, wire_link}, {wire4, mapped, wire6, wire_link}}},
        {"things appear",
         [](NetworkState& s) {
             s.put(interface_of(4, "tun"));
             s.put(InterfaceAddress{2, ip("192.0.2.8"), 24});
         },
         {{}, {}, {}, {}, {}}},
    };
    for (const Row& row : rows) {
        INFO(row.what);
        const NetworkState before = laptop();
        NetworkState after = laptop();
        row.change(after);
        const auto all = changes(before, after);
        REQUIRE(all.size() == row.hit.size());
        for (std::size_t i = 0; i < all.size(); ++i)
            for (const IpAddress& local : locals) {
                bool expected = false;
                for (const IpAddress& hit : row.hit[i]) expected = expected || hit == local;
                INFO(describe(all[i]).c_str() << " " << to_text(local).c_str());
                CHECK(all[i].affects(local, far_away) == expected);
            }
    }
    SECTION("the route comes back: nothing is hit; and without states nobody can say") {
        NetworkState lost = laptop();
        lost.route[0] = {};
        const NetworkState back = laptop();
        for (const NetworkChange& change : changes(lost, back)) CHECK_FALSE(change.affects(wire4, far_away));
        NetworkChange alone;
        alone.kind = Kind::address_removed;
        alone.address = wire4;
        CHECK_FALSE(alone.affects(wire4, far_away));
    }
}

TEST_CASE("may_help: the changes after which another attempt may go better") {
    const NetworkState whole = laptop();
    NetworkState broken = laptop();
    broken.put(interface_of(3, "radio", true, false));
    broken.remove({2, ip("192.0.2.7"), 24});
    broken.route[0] = broken.route[1] = {};
    for (const NetworkChange& change : changes(whole, broken)) CHECK_FALSE(change.may_help());
    for (const NetworkChange& change : changes(broken, whole)) CHECK(change.may_help());
}

TEST_CASE("affects: a peer on the link needs no route") {
    const IpAddress wire4 = ip("192.0.2.7"), wire6 = ip("2001:db8::7");
    const NetworkState whole = laptop();
    NetworkState moved = laptop();
    moved.route[0] = {true, 3, {}, {}};
    moved.route[1] = {};
    for (const NetworkChange& change : changes(whole, moved)) {
        INFO(describe(change).c_str());
        CHECK_FALSE(change.affects(wire4, ip("192.0.2.200")));
        CHECK_FALSE(change.affects(wire4, ip("::ffff:192.0.2.200")));
        CHECK_FALSE(change.affects(wire6, ip("2001:db8::abcd")));
        CHECK(change.affects(change.family == Family::v6 ? wire6 : wire4, far_away));
    }
    NetworkState gone = laptop();
    gone.remove({2, wire4, 24});
    CHECK(changes(whole, gone)[0].affects(wire4, ip("192.0.2.200")));
}

TEST_CASE("affects: a sleep, and another external address") {
    const NetworkState state = laptop();
    NetworkChange change;
    change.before = change.after = &state;
    change.kind = Kind::woke;
    change.major = true;
    CHECK(change.affects(ip("192.0.2.7"), ip("192.0.2.200")));
    CHECK(change.affects(ip("198.51.100.7"), far_away));
    CHECK_FALSE(change.affects(ip("127.0.0.1"), ip("127.0.0.1")));
    CHECK(change.may_help());

    change.kind = Kind::external_address_changed;
    change.family = Family::v4;
    change.interface_index = 2;
    change.address = ip("203.0.113.1");
    CHECK_FALSE(change.affects(ip("192.0.2.7"), far_away));  // the first that is known, or another local address leads now
    change.local_address = ip("192.0.2.7");
    CHECK(change.affects(ip("192.0.2.7"), far_away));
    CHECK(change.affects(ip("::ffff:192.0.2.7"), far_away));
    CHECK_FALSE(change.affects(ip("192.0.2.7"), ip("192.0.2.200")));
    CHECK_FALSE(change.affects(ip("2001:db8::7"), far_away));
    CHECK_FALSE(change.affects(ip("198.51.100.7"), far_away));
    CHECK(describe(change) == TextView("IPv4 is seen from outside as 203.0.113.1."));
    change.old_address = ip("203.0.113.2");
    CHECK(describe(change) == TextView("IPv4 is seen from outside as 203.0.113.1; it was 203.0.113.2."));
    change.servers_disagree = true;
    CHECK(describe(change) == TextView("IPv4 looks different to each server; to one it is now 203.0.113.1; it was 203.0.113.2."));
    change.address = {};
    CHECK(describe(change) == TextView("IPv4 has no known external address any more."));
}

TEST_CASE("on_link: the prefixes of an interface's addresses") {
    NetworkState state = laptop();
    REQUIRE(state.put(InterfaceAddress{3, ip("10.0.0.1"), 9}));
    REQUIRE(state.put(InterfaceAddress{3, ip("10.200.0.1"), 32}));
    REQUIRE(state.put(InterfaceAddress{3, ip("2001:db8:1::1"), 128}));
    CHECK(state.on_link(2, ip("192.0.2.255")));
    CHECK_FALSE(state.on_link(2, ip("192.0.3.0")));
    CHECK_FALSE(state.on_link(3, ip("192.0.2.255")));
    CHECK(state.on_link(3, ip("10.127.255.255")));
    CHECK_FALSE(state.on_link(3, ip("10.128.0.0")));
    CHECK(state.on_link(3, ip("10.200.0.1")));
    CHECK_FALSE(state.on_link(3, ip("10.200.0.2")));
    CHECK(state.on_link(3, ip("2001:db8:1::1")));
    CHECK_FALSE(state.on_link(3, ip("2001:db8:1::2")));
    CHECK_FALSE(state.on_link(2, {}));
    REQUIRE(state.put(InterfaceAddress{3, ip("10.0.0.2"), 255}));  // nonsense is in no prefix
    CHECK_FALSE(state.on_link(3, ip("10.200.0.3")));
}

TEST_CASE("diff: name servers, and their order") {
    const auto with = [](std::initializer_list<const char*> servers) {
        NetworkState state = laptop();
        for (const char* server : servers) REQUIRE(state.dns_servers.push(ip(server)));
        return state;
    };
    const NetworkState none = with({}), one = with({"192.0.2.53"}), two = with({"192.0.2.53", "2001:db8::53"}),
                       turned = with({"2001:db8::53", "192.0.2.53"});
    CHECK(changes(two, two).empty());
    CHECK(kinds(changes(one, two)) == std::vector{Kind::dns_changed});
    CHECK(kinds(changes(two, turned)) == std::vector{Kind::dns_changed});
    CHECK_FALSE(changes(two, turned)[0].major);
    CHECK(changes(two, turned)[0].may_help());
    CHECK(describe(changes(two, turned)[0]) == TextView("Names are now looked up at 2001:db8::53, 192.0.2.53."));
    CHECK(describe(changes(one, none)[0]) == TextView("No name server is known any more."));
    NetworkState copy;
    REQUIRE(copy.copy_from(two));
    CHECK(changes(copy, two).empty());
}

TEST_CASE("diff: interfaces of the system's own are noise, unless the internet is reached over them") {
    NetworkState before = laptop(), after = laptop();
    Interface awdl = interface_of(7, "awdl0");
    awdl.noise = true;
    REQUIRE(before.put(awdl));
    REQUIRE(before.put(InterfaceAddress{7, ip("10.7.0.1"), 24}));
    auto all = changes(before, after);
    REQUIRE(kinds(all) == std::vector{Kind::interface_removed, Kind::address_removed});
    for (const NetworkChange& change : all) {
        CHECK(change.noise);
        CHECK_FALSE(change.major);
    }
    before.route[0] = {true, 7, {}, ip("10.7.0.1")};  // a private network's tunnel
    all = changes(before, after);
    CHECK_FALSE(all[0].noise);
    CHECK(all[0].major);
    for (const NetworkChange& change : changes(laptop(), NetworkState())) CHECK_FALSE(change.noise);
}
