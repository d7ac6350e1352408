// SPDX-License-Identifier: BSL-1.0
#include <rejoin/recovery/candidates.hpp>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace rejoin;

namespace {

const TimePoint start = TimePoint::from_nanoseconds(1'000'000'000'000);
constexpr Duration seconds(int n) { return Duration::seconds(n); }
IpAddress ip(const char* text) { return *IpAddress::parse(text); }

Array<IpAddress> list(std::vector<const char*> texts) {
    Array<IpAddress> all;
    for (const char* text : texts) all.push(ip(text));
    return all;
}
std::string next(Candidates& candidates, TimePoint now = start) { return to_text(candidates.next(now)).c_str(); }
// One round.
std::string order(Candidates& candidates, TimePoint now = start) {
    std::string all;
    candidates.restart();
    do all += (all.empty() ? "" : " ") + next(candidates, now);
    while (!candidates.round_over());
    return all;
}

}  // namespace

TEST_CASE("candidates: both families in turn, beginning with the one that the system puts first") {
    Candidates candidates;
    CHECK(candidates.empty());
    CHECK(next(candidates) == "none");
    REQUIRE(candidates.set(list({"::1", "::2", "::3", "10.0.0.1", "10.0.0.2"})));
    CHECK(order(candidates) == "::1 10.0.0.1 ::2 10.0.0.2 ::3");
    REQUIRE(candidates.set(list({"10.0.0.1", "10.0.0.2", "::1"})));
    CHECK(order(candidates) == "10.0.0.1 ::1 10.0.0.2");
    REQUIRE(candidates.set(list({"10.0.0.1"})));
    CHECK(next(candidates) == "10.0.0.1");
    CHECK(candidates.round_over());
    CHECK(next(candidates) == "10.0.0.1");
    REQUIRE(candidates.set({}));
    CHECK(candidates.empty());
    CHECK(candidates.round_over());
}

TEST_CASE("candidates: the winner is the first next time, and a loser stands behind the others for a while") {
    Candidates candidates;
    REQUIRE(candidates.set(list({"::1", "::2", "10.0.0.1"})));
    candidates.won(ip("10.0.0.1"));
    CHECK(order(candidates) == "10.0.0.1 ::1 ::2");
    candidates.lost(ip("10.0.0.1"), start);
    CHECK(order(candidates) == "::1 ::2 10.0.0.1");
    CHECK(order(candidates, start + Candidates::penalty) == "10.0.0.1 ::1 ::2");
    // Those that have lost come by when their penalty is over, and it doubles, up to a minute.
    candidates.lost(ip("10.0.0.1"), start);
    candidates.lost(ip("::1"), start);
    CHECK(order(candidates) == "::2 ::1 10.0.0.1");
    CHECK(order(candidates, start + seconds(1)) == "::1 ::2 10.0.0.1");
    CHECK(order(candidates, start + seconds(2)) == "10.0.0.1 ::1 ::2");
    for (int i = 0; i < 100; ++i) candidates.lost(ip("10.0.0.1"), start);
    CHECK(order(candidates, start + seconds(59)) == "::1 ::2 10.0.0.1");
    CHECK(order(candidates, start + seconds(60)) == "10.0.0.1 ::1 ::2");
    candidates.won(ip("10.0.0.1"));  // all is forgiven
    CHECK(order(candidates, start + seconds(1)) == "10.0.0.1 ::1 ::2");
    candidates.lost(ip("10.0.0.1"), start);
    CHECK(order(candidates, start + seconds(1)) == "10.0.0.1 ::1 ::2");
    candidates.won(ip("192.0.2.1"));  // not one of them
    candidates.lost(ip("192.0.2.1"), start);
    CHECK(order(candidates, start + seconds(1)) == "10.0.0.1 ::1 ::2");
}

TEST_CASE("candidates: what is known of an address outlives a new look-up, and what has gone is forgotten") {
    Candidates candidates;
    REQUIRE(candidates.set(list({"::1", "::2", "10.0.0.1"})));
    candidates.won(ip("::2"));
    candidates.lost(ip("::1"), start);
    REQUIRE(candidates.set(list({"10.0.0.2", "::1", "::2"})));
    CHECK(order(candidates) == "::2 10.0.0.2 ::1");
    REQUIRE(candidates.set(list({"10.0.0.2", "::1"})));
    CHECK(order(candidates) == "10.0.0.2 ::1");
    REQUIRE(candidates.set(list({"::1", "::2"})));
    CHECK(order(candidates, start + seconds(1)) == "::1 ::2");
    CHECK(candidates.has(ip("::2")));
    CHECK_FALSE(candidates.has(ip("10.0.0.2")));
}

namespace {

void add(NetworkState& state, std::uint32_t index, const char* address, std::uint8_t prefix_length = 24) {
    Interface i;
    i.index = index;
    i.up = i.carrier = true;
    REQUIRE((state.find_interface(index) != nullptr || state.put(i)));
    InterfaceAddress a;
    a.interface_index = index;
    a.ip = ip(address);
    a.prefix_length = prefix_length;
    REQUIRE(state.put(a));
}
Interface& interface_of(NetworkState& state, std::uint32_t index) {
    for (Interface& i : state.interfaces)
        if (i.index == index) return i;
    FAIL("no such interface");
    return state.interfaces[0];
}

}  // namespace

TEST_CASE("candidates: another interface is one that runs, and has an address that reaches beyond its link") {
    NetworkState state;
    add(state, 2, "10.1.0.2");
    add(state, 3, "10.2.0.2");
    add(state, 4, "10.3.0.2");
    add(state, 3, "fd00:2::2", 64);
    state.route[0] = {true, 2, {}, {}};
    const IpAddress away = ip("192.0.2.1");
    CHECK(other_interface(state, away, 0) == 3);
    CHECK(other_interface(state, away, 1) == 4);
    CHECK(other_interface(state, away, 2) == 0);
    CHECK(other_interface(state, ip("::ffff:192.0.2.1"), 0) == 3);
    CHECK(other_interface(state, ip("2001:db8::1"), 0) == 3);
    CHECK(other_interface(state, ip("2001:db8::1"), 1) == 0);
    CHECK(other_interface(state, ip("127.0.0.1"), 0) == 0);
    CHECK(other_interface(state, ip("169.254.0.1"), 0) == 0);
    CHECK(other_interface(state, ip("10.1.0.9"), 0) == 0);  // it is here
    SECTION("without a route") {
        state.route[0] = {};
        CHECK(other_interface(state, away, 0) == 2);
    }
    SECTION("what leads through a tunnel goes nowhere else") {
        interface_of(state, 2).point_to_point = true;
        CHECK(other_interface(state, away, 0) == 0);
        CHECK(other_interface(state, ip("2001:db8::1"), 0) == 3);
    }
    SECTION("a tunnel, one without a link, one that is the system's own") {
        interface_of(state, 3).point_to_point = true;
        CHECK(other_interface(state, away, 0) == 4);
        interface_of(state, 4).carrier = false;
        CHECK(other_interface(state, away, 0) == 0);
        interface_of(state, 4).carrier = true;
        interface_of(state, 4).noise = true;
        CHECK(other_interface(state, away, 0) == 0);
    }
    SECTION("addresses that are no good") {
        state.addresses[1].deprecated = true;
        CHECK(other_interface(state, away, 0) == 4);
        state.addresses[2].tentative = true;
        CHECK(other_interface(state, away, 0) == 0);
        add(state, 5, "169.254.1.1", 16);
        CHECK(other_interface(state, away, 0) == 0);
    }
}
