// SPDX-License-Identifier: BSL-1.0
#include <random>
#include <rejoin/session/state.hpp>

#include "session/ends.hpp"

using namespace test;
using rejoin::session::State;

namespace {

// What another process does with what was saved here.
Result<void> move(End& end, TimePoint now = at(0)) {
    State state;
    REQUIRE(end.session->save(state));
    auto* moved = new Session;
    moved->set_options(end.options);
    const auto restored = moved->restore(state, now);
    delete std::exchange(end.session, moved);
    return restored;
}

}  // namespace

TEST_CASE("a session moves in the middle of everything, and nothing is lost, repeated or reordered") {
    std::mt19937 random(7);
    for (int run = 0; run < 300; ++run) {
        CAPTURE(run);
        Pair pair;
        Buffer wire[2];  // on its way to the client, to the server
        Buffer sent[2];
        End* const ends[2] = {&pair.client, &pair.server};
        for (int step = 0; step < 120; ++step) {
            const unsigned from = random() % 2;
            End& end = *ends[from];
            switch (random() % 6) {
                case 0: {
                    const Buffer more = pattern(random() % 3000, sent[from].size());
                    if (end.session->send(more)) sent[from] = join(sent[from], more);
                    break;
                }
                case 1: {  // a write that the system takes a part of
                    Bytes pieces[Session::pieces_max];
                    const std::size_t n = end.session->gather(pieces);
                    Buffer all;
                    for (std::size_t i = 0; i < n; ++i) all = join(all, pieces[i]);
                    all.resize(all.empty() ? 0 : random() % (all.size() + 1));
                    wire[1 - from] = join(wire[1 - from], all);
                    end.session->wrote(all.size());
                    break;
                }
                case 2: {  // a read of a part
                    Buffer& in = wire[from];
                    const auto n = static_cast<std::ptrdiff_t>(in.empty() ? 0 : random() % (in.size() + 1));
                    REQUIRE_FALSE(end.read({in.data(), static_cast<std::size_t>(n)}));
                    in.erase(in.begin(), in.begin() + n);
                    break;
                }
                case 3:
                    end.session->acknowledge_now();
                    end.session->probe(at(step));
                    break;
                case 4:
                    end.session->hold(random() % 2 == 0);
                    if (end.session->held() > 0) {
                        Buffer room(500);
                        room.resize(end.session->take_held(room));
                        end.heard = join(end.heard, room);
                        end.session->held_delivered();
                    }
                    break;
                default:
                    REQUIRE(move(end));
            }
        }
        for (End* end : ends) {
            end->session->hold(false);
            Buffer room(1 << 20);
            room.resize(end->session->take_held(room));
            end->heard = join(end->heard, room);
            end->session->held_delivered();
        }
        for (unsigned i = 0; i < 2; ++i) REQUIRE_FALSE(ends[i]->read(wire[i]));
        pair.settle();
        REQUIRE(pair.server.heard == sent[0]);
        REQUIRE(pair.client.heard == sent[1]);
        for (End* end : ends) end->session->finish();
        pair.settle();
        REQUIRE(pair.client.session->ended());
        REQUIRE(pair.server.session->ended());
    }
}

TEST_CASE("a session moves without a connection, and resumes where it is") {
    Pair pair;
    REQUIRE(pair.client.session->send(bytes("before")));
    pair.settle();
    REQUIRE(pair.client.session->send(bytes("lost on the way")));
    static_cast<void>(pair.client.write());
    pair.break_it();
    REQUIRE(move(pair.server));
    REQUIRE(move(pair.client));
    CHECK_FALSE(pair.server.session->attached());
    CHECK(pair.client.session->established());
    pair.join_anew();
    pair.settle();
    CHECK(pair.server.heard == bytes("beforelost on the way"));
}

TEST_CASE("ends that have ended move too") {
    for (int when = 0; when < 6; ++when) {
        CAPTURE(when);
        Pair pair;
        if (when == 0) REQUIRE(move(pair.client));
        pair.client.session->finish();
        if (when == 1) REQUIRE(move(pair.client));
        const Buffer fin = pair.client.write();
        if (when == 2) REQUIRE(move(pair.client));
        REQUIRE_FALSE(pair.server.read(fin));
        if (when == 3) REQUIRE(move(pair.server));
        pair.settle();
        if (when >= 4) REQUIRE(move(when == 4 ? pair.client : pair.server));
        REQUIRE(pair.server.session->peer_finished());
        pair.server.session->finish();
        pair.settle();
        CHECK(pair.client.session->ended());
        CHECK(pair.server.session->ended());
    }
}

TEST_CASE("the budget pays for what moves in, or it stays out") {
    Pair pair;
    REQUIRE(pair.server.session->send(pattern(10'000)));
    State state;
    REQUIRE(pair.server.session->save(state));
    Budget budget;
    budget.limit = 20'000;
    {
        Session moved;
        moved.set_options(pair.server.options);
        moved.set_budget(&budget);
        REQUIRE(moved.restore(state, at(0)));
        CHECK(budget.used >= 10'000);
    }
    CHECK(budget.used == 0);
    budget.limit = 9'000;
    Session moved;
    moved.set_options(pair.server.options);
    moved.set_budget(&budget);
    CHECK(moved.restore(state, at(0)).error() == Errc::would_block);
    CHECK(budget.used == 0);

    session::Options small;
    small.replay_limit = 4096;
    Session narrow;
    narrow.set_options(small);
    CHECK(narrow.restore(state, at(0)).error() == Errc::too_large);
}

TEST_CASE("what no session can be is malformed, and changes nothing") {
    Pair pair;
    REQUIRE(pair.client.session->send(pattern(5000)));
    static_cast<void>(pair.client.write(100));
    State good;
    REQUIRE(pair.client.session->save(good));
    const auto refused = [&](auto change) {
        State state;
        REQUIRE(pair.client.session->save(state));
        change(state);
        Session session;
        session.set_options(pair.client.options);
        const bool malformed = session.restore(state, at(0)).error() == Errc::malformed;
        return malformed && !session.established() && session.unacknowledged() == 0;
    };
    CHECK(refused([](State& s) { s.highest_sent = s.acknowledged + 5001; }));
    CHECK(refused([](State& s) { s.acknowledged = UINT64_MAX - 5; }));
    CHECK(refused([](State& s) { s.sent = s.highest_sent + 1; }));
    CHECK(refused([](State& s) { s.acknowledged = s.sent + 1; }));
    CHECK(refused([](State& s) { s.fin_acknowledged = true; }));
    CHECK(refused([](State& s) { s.finishing = s.fin_acknowledged = true; }));
    CHECK(refused([](State& s) { s.skip = s.received + 1; }));
    CHECK(refused([](State& s) { s.acknowledgement_sent = s.received + 1; }));
    CHECK(refused([](State& s) { s.window = 4095; }));
    CHECK(refused([](State& s) { s.window = (1u << 30) + 1; }));
    CHECK(refused([](State& s) { s.payload_out = 6000; }));
    CHECK(refused([](State& s) { s.payload_in = 1u << 24; }));
    CHECK(refused([](State& s) { static_cast<void>(s.in.extend(12)); }));
    CHECK(refused([](State& s) { static_cast<void>(s.out.extend(200)); }));
    CHECK(refused([](State& s) { s.payload_in = 1, static_cast<void>(s.in.extend(1)); }));
    CHECK(refused([](State& s) { s.peer_finished = s.held_fin = true; }));
    CHECK(refused([](State& s) { s.round_trip = ms(-1); }));
    CHECK_FALSE(refused([](State&) {}));
}
