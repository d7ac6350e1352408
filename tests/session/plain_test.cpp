// SPDX-License-Identifier: BSL-1.0
#include <rejoin/session/plain.hpp>

#include "bytes.hpp"
#include "catch.hpp"

using namespace rejoin;
using session::Plain;
using test::Buffer;
using test::pattern;

namespace {

// What is to be written next, in one piece.
Buffer front(const Plain& plain) {
    Bytes pieces[Plain::pieces_max];
    Buffer all;
    const std::size_t n = plain.gather(pieces);
    for (std::size_t i = 0; i < n; ++i) all = test::join(all, pieces[i]);
    return all;
}

}  // namespace

TEST_CASE("without a session, what is sent goes out as it is, however writes are cut") {
    Plain::Options options;
    options.queue_limit = 1000;
    for (std::size_t cut = 1; cut <= 700; ++cut) {
        Plain plain;
        plain.set_options(options);
        REQUIRE(front(plain).empty());
        REQUIRE(plain.send(pattern(400)));
        plain.wrote(300);
        REQUIRE(plain.send(pattern(300, 400)));  // the queue wraps in its block
        Buffer out;
        while (!plain.empty()) {
            Buffer round = front(plain);
            round.resize(std::min(round.size(), cut));
            REQUIRE_FALSE(round.empty());
            out = test::join(out, round);
            plain.wrote(round.size());
        }
        REQUIRE(out == pattern(400, 300));
        REQUIRE(plain.unacknowledged() == 0);
        REQUIRE(plain.sent() == 700);
    }
}

TEST_CASE("without a session, a send is taken whole or refused whole") {
    Plain::Options options;
    options.queue_limit = 100;
    Plain plain;
    plain.set_options(options);
    REQUIRE(plain.send_limit() == 100);
    REQUIRE(plain.send(pattern(101)).error() == Errc::too_large);
    REQUIRE_FALSE(plain.take_drained());
    REQUIRE(plain.send(pattern(60)));
    REQUIRE(plain.send_space() == 40);
    REQUIRE(plain.send(pattern(41)).error() == Errc::would_block);
    REQUIRE(plain.unacknowledged() == 60);
    plain.wrote(9);
    REQUIRE_FALSE(plain.take_drained());
    plain.wrote(1);
    REQUIRE(plain.take_drained());
    REQUIRE_FALSE(plain.take_drained());
    plain.finish();
    REQUIRE(plain.finishing());
    REQUIRE(plain.send(pattern(1)).error() == Errc::invalid_state);
    REQUIRE(test::to_hex(front(plain)) == test::to_hex(pattern(50, 10)));
    REQUIRE(plain.sent() == 60);
    REQUIRE(plain.received() == 0);
    plain.delivered(7);
    REQUIRE(plain.received() == 7);
}

TEST_CASE("without a session, a new connection starts with nothing queued, and what was refused is still owed an answer") {
    Plain::Options options;
    options.queue_limit = 10;
    Plain plain;
    plain.set_options(options);
    REQUIRE(plain.send(pattern(10)));
    REQUIRE(plain.send(pattern(1)).error() == Errc::would_block);
    plain.restart();
    REQUIRE(plain.empty());
    REQUIRE(plain.take_drained());
    REQUIRE(plain.send(pattern(5)));
    REQUIRE(test::to_hex(front(plain)) == test::to_hex(pattern(5)));
}

TEST_CASE("options of a transport without a session have bounds") {
    REQUIRE(Plain::Options().valid());
    REQUIRE_FALSE(Plain::Options{0}.valid());
}
