// SPDX-License-Identifier: BSL-1.0
#include "ends.hpp"

using namespace rejoin;
using namespace rejoin::session;
using test::Buffer;
using test::End;
using test::Pair;
using test::pattern;
using test::to_hex;

namespace {

session::Options with_limit(std::size_t limit) {
    session::Options options;
    options.replay_limit = limit;
    return options;
}
Buffer frame(FrameType type, Bytes payload = {}) {
    Buffer out(frame_header_size);
    write_frame_header(out.data(), type, payload.size());
    return test::join(out, payload);
}
Buffer number(FrameType type, std::uint64_t n) {
    std::byte raw[8];
    store_big(raw, n);
    return frame(type, raw);
}
Buffer taken(End& end, std::size_t most = SIZE_MAX) {
    std::byte room[5000];
    const std::size_t n = end.session->take_held({room, most < sizeof room ? most : sizeof room});
    return {room, room + n};
}
// The application takes everything that waits.
void take_all(End& end) {
    for (;;) {
        const Buffer piece = taken(end);
        if (piece.empty()) return;
        end.heard = test::join(end.heard, piece);
        end.session->held_delivered();
    }
}

}  // namespace

TEST_CASE("a sender minds the other side's window") {
    End end(false, with_limit(1 << 16));
    REQUIRE(end.attach(0, 0, 5000));
    REQUIRE(end.session->send(pattern(12'000)));
    end.session->finish();
    REQUIRE(to_hex(end.write()) == to_hex(frame(FrameType::data, pattern(5000))));
    REQUIRE(end.write().empty());
    REQUIRE_FALSE(end.read(number(FrameType::ack, 1)));
    REQUIRE(to_hex(end.write()) == to_hex(frame(FrameType::data, pattern(1, 5000))));
    REQUIRE_FALSE(end.read(number(FrameType::ack, 5001)));
    REQUIRE(to_hex(end.write()) == to_hex(frame(FrameType::data, pattern(5000, 5001))));
    REQUIRE(end.attach(6000, 0, 4096));  // the next connection's may be another
    REQUIRE(to_hex(end.write()) == to_hex(frame(FrameType::data, pattern(4096, 6000))));
    REQUIRE_FALSE(end.read(number(FrameType::ack, 10'096)));
    REQUIRE(to_hex(end.write()) == to_hex(test::join(frame(FrameType::data, pattern(1904, 10'096)), frame(FrameType::fin))));
}

TEST_CASE("two ends that are full and take nothing do not lock each other up") {
    Pair pair(with_limit(4096));
    for (End* end : {&pair.client, &pair.server}) {
        end->session->hold(true);
        REQUIRE(end->session->send(pattern(4096)));
    }
    pair.settle();
    for (End* end : {&pair.client, &pair.server}) {
        REQUIRE(end->session->held() == 4096);
        REQUIRE(end->session->send(pattern(1)).error() == Errc::would_block);
    }
    pair.server.session->hold(false);
    take_all(pair.server);
    pair.settle();
    REQUIRE(pair.client.session->unacknowledged() == 0);
    REQUIRE(pair.client.session->send(pattern(4096, 4096)));
    pair.settle();
    REQUIRE(pair.server.heard == pattern(8192));
    pair.client.session->hold(false);
    take_all(pair.client);
    pair.settle();
    REQUIRE(pair.client.heard == pattern(4096));
    REQUIRE(pair.server.session->unacknowledged() == 0);
}

TEST_CASE("what is held comes again over a new connection, and what was taken from it does not") {
    for (std::size_t before = 0; before <= 300; before += 50)
        for (std::size_t between = 0; before + between <= 300; between += 50) {
            Pair pair;
            pair.server.session->hold(true);
            pair.client.session->send(pattern(300));
            pair.client.session->finish();
            REQUIRE_FALSE(pair.server.read(pair.client.write()));
            const auto take = [&](std::size_t n) {
                if (n == 0) return;
                pair.server.heard = test::join(pair.server.heard, taken(pair.server, n));
                pair.server.session->held_delivered();
            };
            take(before);
            const std::uint64_t told = pair.server.session->received();  // a new connection asks,
            pair.server.session->detach();
            take(between);  // and more is taken before it has joined
            pair.confirm(told);
            REQUIRE(pair.server.session->held() == 0);
            pair.settle();
            REQUIRE(pair.server.heard.size() + pair.server.session->held() == 300);
            pair.server.session->hold(false);
            take_all(pair.server);
            REQUIRE(pair.server.heard == pattern(300));
            REQUIRE(pair.server.session->peer_finished());
        }
}
