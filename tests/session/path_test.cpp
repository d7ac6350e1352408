// SPDX-License-Identifier: BSL-1.0
// What an end learns of the path from what comes through, and what does not.
#include "ends.hpp"

using namespace test;

TEST_CASE("a connection is stuck when more than a small packet went out and nothing of it came through") {
    Pair pair;
    Session& client = *pair.client.session;
    CHECK_FALSE(client.waiting());
    CHECK(client.barren());
    REQUIRE(client.send(pattern(1001)));
    CHECK_FALSE(client.waiting());
    pair.client.write();
    CHECK(client.waiting());
    CHECK(client.stuck());
    REQUIRE_FALSE(pair.client.read_hex("12000008 0000000000000001"));  // a PING comes through, what we say does not
    CHECK(client.stuck());
    CHECK_FALSE(client.barren());
    REQUIRE_FALSE(pair.client.read_hex("11000008 0000000000000001"));
    CHECK_FALSE(client.stuck());
    CHECK(client.waiting());
    // Over the next connection the rest is sent again, and is stuck again.
    pair.break_it();
    CHECK_FALSE(client.stuck());
    REQUIRE(client.attach({1, 0, 1, 1 << 20}, {}, {}, at(0)));
    CHECK_FALSE(client.stuck());
    CHECK(client.barren());
    pair.client.write();
    CHECK_FALSE(client.stuck());  // a thousand bytes are a small packet
    REQUIRE(client.send(pattern(1, 1001)));
    pair.client.write();
    CHECK(client.stuck());
    REQUIRE_FALSE(pair.client.read_hex("11000008 00000000000003ea"));
    CHECK_FALSE(client.stuck());
    CHECK_FALSE(client.waiting());
}

TEST_CASE("where connections die in quiet times, they are probed twice as often, down to once a second") {
    session::Options options;
    options.liveness_interval = ms(5000);
    End end(false, options);
    Session& session = *end.session;
    const auto dies_quietly = [&](std::int64_t after) {
        REQUIRE(end.attach());
        session.on_time(at(after));
        end.write();
        session.found_dead();
        session.detach();
    };
    dies_quietly(5000);
    CHECK(session.liveness_interval() == ms(5000));  // it may have been anything
    SECTION("and again") {
        dies_quietly(5000);
        CHECK(session.liveness_interval() == ms(2500));
        REQUIRE(end.attach());
        CHECK(session.deadline(at(0)) == at(2500));
        for (int i = 0; i < 10; ++i) dies_quietly(2500);
        CHECK(session.liveness_interval() == ms(1000));
        CHECK(session.probes() == 12);
        session.unlearn();
        CHECK(session.liveness_interval() == ms(5000));
        session.set_liveness_interval(ms(300));  // who asks for less gets it
        dies_quietly(300);
        dies_quietly(300);
        CHECK(session.liveness_interval() == ms(300));
        session.set_liveness_interval(ms(60'000));
        CHECK(session.liveness_interval() == ms(60'000));
        dies_quietly(60'000);
        dies_quietly(60'000);
        CHECK(session.liveness_interval() == ms(30'000));
        session.set_liveness_interval(ms(20'000));
        CHECK(session.liveness_interval() == ms(10'000));
        session.set_liveness_interval({});
        CHECK(session.liveness_interval() == ms(1));
        session.unlearn();
        session.set_liveness_interval(Duration::unlimited());
        CHECK(session.liveness_interval() == ms(UINT32_MAX));
    }
    SECTION("but not where a quiet time has been survived since") {
        REQUIRE(end.attach());
        session.on_time(at(5000));
        end.write();
        REQUIRE_FALSE(end.read_hex(std::string("13000008 0000000000000000"), at(5010)));
        session.detach();
        dies_quietly(5000);
        CHECK(session.liveness_interval() == ms(5000));
    }
    SECTION("nor where it was not quiet before, or nothing was asked") {
        REQUIRE(end.attach());
        REQUIRE_FALSE(end.read_hex("12000008 0000000000000001", at(4000)));
        end.write();
        session.on_time(at(5000));
        session.found_dead();
        CHECK(session.liveness_interval() == ms(5000));
        session.detach();
        REQUIRE(end.attach());
        session.found_dead();
        CHECK(session.liveness_interval() == ms(5000));
    }
}
