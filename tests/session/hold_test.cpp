// SPDX-License-Identifier: BSL-1.0
#include "session/ends.hpp"

using namespace test;

namespace {

Buffer take(Session& session, std::size_t room) {
    Buffer to(room);
    to.resize(session.take_held(to));
    session.held_delivered();
    return to;
}

}  // namespace

TEST_CASE("what comes while the application takes nothing waits, unacknowledged") {
    Pair pair;
    pair.server.session->hold(true);
    REQUIRE(pair.client.session->send(bytes("one")));
    pair.settle();
    REQUIRE(pair.client.session->send(bytes("two")));
    pair.settle();
    CHECK(pair.server.heard.empty());
    CHECK(pair.server.session->held() == 6);
    CHECK(pair.server.session->received() == 0);
    CHECK(pair.client.session->unacknowledged() == 6);
    CHECK_FALSE(pair.server.session->full());

    pair.server.session->hold(false);
    REQUIRE(pair.client.session->send(bytes("three")));  // waits behind what waits
    pair.settle();
    CHECK(pair.server.heard.empty());
    CHECK(take(*pair.server.session, 4) == bytes("onet"));
    CHECK(pair.server.session->received() == 4);
    CHECK(take(*pair.server.session, 100) == bytes("wothree"));
    CHECK(take(*pair.server.session, 100).empty());
    pair.settle();
    CHECK(pair.client.session->unacknowledged() == 0);
    REQUIRE(pair.client.session->send(bytes("four")));
    pair.settle();
    CHECK(pair.server.heard == bytes("four"));
}

TEST_CASE("what is no data is heard while data waits") {
    Pair pair;
    pair.server.session->hold(true);
    REQUIRE(pair.client.session->send(pattern(100)));
    REQUIRE(pair.server.session->send(bytes("acknowledge this")));
    pair.settle();
    CHECK(pair.server.session->held() == 100);
    CHECK(pair.client.heard == bytes("acknowledge this"));
    CHECK(pair.server.session->unacknowledged() == 0);
    pair.client.session->probe(at(1));
    pair.settle();
    CHECK_FALSE(pair.client.session->probe_unanswered());
}

TEST_CASE("an end waits behind what waits") {
    Pair pair;
    pair.server.session->hold(true);
    REQUIRE(pair.client.session->send(bytes("the last words")));
    pair.client.session->finish();
    pair.settle();
    CHECK_FALSE(pair.server.session->peer_finished());
    CHECK(take(*pair.server.session, 5) == bytes("the l"));
    CHECK_FALSE(pair.server.session->peer_finished());
    CHECK(take(*pair.server.session, 100) == bytes("ast words"));
    CHECK(pair.server.session->peer_finished());
    CHECK(pair.server.session->received() == 15);
    pair.server.session->finish();
    pair.settle();
    CHECK(pair.client.session->ended());
    CHECK(pair.server.session->ended());
}

TEST_CASE("an end with nothing before it waits for nobody") {
    Pair pair;
    pair.server.session->hold(true);
    pair.client.session->finish();
    pair.settle();
    CHECK(pair.server.session->peer_finished());
}

TEST_CASE("data or another end behind an end is malformed while that waits") {
    End end(true);
    REQUIRE(end.attach());
    end.session->hold(true);
    REQUIRE_FALSE(end.read_hex("10 000001 aa  14 000000"));
    CHECK(end.read_hex(GENERATE("10 000001 bb", "14 000000")) == Errc::malformed);
}

TEST_CASE("no more is on its way than the peer keeps, however much is queued") {
    End sender(false);
    REQUIRE(sender.attach(0, 0, 5000));
    REQUIRE(sender.session->send(pattern(20'000)));
    sender.session->finish();
    CHECK(sender.write().size() == 4 + 5000);
    CHECK(sender.write().empty());
    REQUIRE_FALSE(sender.read_hex("11 000008 00000000 000003e8"));  // 1000 have been taken
    CHECK(sender.write().size() == 4 + 1000);
    REQUIRE_FALSE(sender.read_hex("11 000008 00000000 00001770"));
    CHECK(sender.write().size() == 4 + 5000);
    REQUIRE_FALSE(sender.read_hex("11 000008 00000000 00002af8"));
    CHECK(sender.write().size() == 4 + 5000);
    REQUIRE_FALSE(sender.read_hex("11 000008 00000000 00003e80"));
    CHECK(sender.write().size() == 4 + 4000 + 4);  // FIN with it
}

TEST_CASE("a peer that minds the window never fills this end up, and one that does not is seen") {
    session::Options options;
    options.replay_limit = 4096;
    Pair pair(options);
    pair.server.session->hold(true);
    for (int i = 0; i < 3; ++i) static_cast<void>(pair.client.session->send(pattern(2048)));
    pair.settle();
    CHECK(pair.server.session->held() == 4096);
    CHECK_FALSE(pair.server.session->full());
    REQUIRE_FALSE(pair.server.read_hex("10 000001 aa"));
    CHECK(pair.server.session->full());
}

TEST_CASE("what waits comes again over a new connection, and is delivered once") {
    Pair pair;
    const Buffer all = pattern(1000);
    pair.server.session->hold(true);
    REQUIRE(pair.client.session->send(all));
    pair.settle();
    Buffer taken = take(*pair.server.session, 300);
    pair.break_it();
    taken = join(taken, take(*pair.server.session, 100));  // also while there is no connection
    pair.join_anew();
    CHECK(pair.server.session->held() == 0);
    pair.server.session->hold(false);
    pair.settle();
    CHECK(join(taken, pair.server.heard) == all);
    CHECK(pair.client.session->unacknowledged() == 0);
}

TEST_CASE("a handler that has had enough gets the rest of what was read later") {
    Pair pair;
    REQUIRE(pair.client.session->send(pattern(1000)));
    pair.server.session->set_piece(100);
    Buffer heard;
    bool gone = false;
    const Error error = pair.server.session->receive(
        pair.client.write(), at(0),
        [&](Bytes part) {
            CHECK(part.size() == 100);
            heard = join(heard, part);
            if (heard.size() == 300) pair.server.session->hold(true);
            return true;
        },
        gone);
    REQUIRE_FALSE(error);
    CHECK(heard == pattern(300));
    CHECK(pair.server.session->held() == 700);
    CHECK(take(*pair.server.session, 1000) == pattern(100, 300));  // a piece, here too
}

TEST_CASE("what waits is charged to the budget, and given back") {
    session::Budget budget;
    budget.limit = 4096;
    Pair pair;
    pair.server.session->set_budget(&budget);
    pair.server.session->hold(true);
    REQUIRE(pair.client.session->send(pattern(3000)));
    pair.settle();
    CHECK(budget.used == 4096);
    CHECK_FALSE(pair.server.session->full());
    REQUIRE(pair.client.session->send(pattern(3000)));
    pair.settle();
    CHECK(pair.server.session->full());  // kept, as it is here, but no more is to be read
    CHECK(pair.server.session->held() == 6000);
    CHECK(budget.used == 4096);
    const auto how = GENERATE(0, 1, 2, 3);
    if (how == 0) take(*pair.server.session, 10'000);
    if (how == 1) {
        pair.break_it();
        pair.join_anew();
    }
    if (how == 2) {
        pair.server.session->set_budget(nullptr);
        CHECK(budget.used == 0);
    }
    if (how == 3) {
        delete pair.server.session;
        pair.server.session = new Session;
    }
    CHECK(budget.used == 0);
}
