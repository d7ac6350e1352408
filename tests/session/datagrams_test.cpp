// SPDX-License-Identifier: BSL-1.0
#include <rejoin/session/datagrams.hpp>

#include "bytes.hpp"
#include "catch.hpp"

using namespace rejoin;
using session::Datagrams;
using test::Buffer;
using test::pattern;

namespace {

Buffer front(const Datagrams& datagrams) {
    Bytes pieces[Datagrams::pieces_max];
    Buffer all;
    const std::size_t n = datagrams.gather(pieces);
    for (std::size_t i = 0; i < n; ++i) all = test::join(all, pieces[i]);
    return all;
}

}  // namespace

TEST_CASE("datagrams come out one by one as they went in, empty ones too, wherever the queue wraps") {
    const Datagrams::Options options;
    Datagrams datagrams;
    datagrams.set_options(options);
    std::size_t in = 0, out = 0, total = 0;
    const auto size = [](std::size_t n) { return n * 37 % 300; };
    const auto take = [&] {
        REQUIRE(front(datagrams) == pattern(size(out), out));
        datagrams.wrote(0);
        ++out;
    };
    for (int round = 0; round < 1000; ++round) {
        for (int i = 0; i < 3; ++i, ++in) {
            REQUIRE(datagrams.send(pattern(size(in), in)));
            total += size(in);
        }
        while (in - out > 5) take();
    }
    while (!datagrams.empty()) take();
    REQUIRE(in == out);
    REQUIRE(datagrams.unacknowledged() == 0);
    REQUIRE(datagrams.sent() == total);
}

TEST_CASE("a datagram is queued whole or refused whole") {
    Datagrams::Options options;
    options.queue_limit = Datagrams::datagram_max + 4;
    REQUIRE(options.valid());
    Datagrams datagrams;
    datagrams.set_options(options);
    REQUIRE(datagrams.send(pattern(Datagrams::datagram_max + 1)).error() == Errc::too_large);
    REQUIRE(datagrams.send(pattern(Datagrams::datagram_max)));
    REQUIRE(datagrams.send_space() == 0);
    REQUIRE(datagrams.send({}).error() == Errc::would_block);
    REQUIRE_FALSE(datagrams.take_drained());
    datagrams.restart();  // another socket: it goes on waiting
    REQUIRE(front(datagrams) == pattern(Datagrams::datagram_max));
    datagrams.wrote(0);
    REQUIRE(datagrams.take_drained());
    REQUIRE_FALSE(datagrams.take_drained());
    datagrams.finish();
    REQUIRE(datagrams.send({}).error() == Errc::invalid_state);
    --options.queue_limit;
    REQUIRE_FALSE(options.valid());
}

TEST_CASE("when this host's firewall refuses datagrams, another socket is tried every five seconds at most") {
    Datagrams datagrams;
    const TimePoint now = TimePoint::from_nanoseconds(1'000'000'000'000);
    REQUIRE(datagrams.may_replace_socket(now));
    REQUIRE_FALSE(datagrams.may_replace_socket(now + Duration::milliseconds(4999)));
    REQUIRE(datagrams.may_replace_socket(now + Duration::seconds(5)));
}
