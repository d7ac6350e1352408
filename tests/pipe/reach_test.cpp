// SPDX-License-Identifier: BSL-1.0
#include <rejoin/reach.hpp>

#include "pipe/support.hpp"

TEST_CASE("what both say is read to the letter") {
    ReachMessage message;
    message.kind = ReachMessage::Kind::ready;
    message.step = ReachStep::simultaneous_open;
    message.protocol = firewall::Protocol::udp;
    message.attempt = 0x01020304;
    message.ip = IpAddress::v4(10, 1, 0, 2);
    message.port = 4000;
    std::byte bytes[ReachMessage::size];
    message.encode(bytes);
    const std::vector<std::byte> good(bytes, bytes + sizeof bytes);
    const auto read = ReachMessage::decode(good);
    REQUIRE(read);
    CHECK(read->kind == message.kind);
    CHECK(read->step == message.step);
    CHECK(read->protocol == message.protocol);
    CHECK(read->attempt == message.attempt);
    CHECK(read->ip == message.ip);
    CHECK(read->port == 4000);
    for (std::size_t n = 0; n < good.size(); ++n) CHECK(ReachMessage::decode(Bytes(good).first(n)).error() == Errc::malformed);
    for (const auto& [at, value] : {std::pair<std::size_t, int>{0, 0}, {1, 0}, {1, 6}, {2, 4}, {3, 2}, {10, 1}, {11, 1}}) {
        std::vector<std::byte> bad = good;
        bad[at] = static_cast<std::byte>(value);
        CHECK(ReachMessage::decode(bad).error() == Errc::malformed);
    }
    std::vector<std::byte> nowhere = good;
    nowhere[8] = nowhere[9] = std::byte{0};
    CHECK(ReachMessage::decode(nowhere).error() == Errc::malformed);
}

TEST_CASE("who is asked nonsense, or asks it, hears so, and nothing happens") {
    Loop loop;
    Reach<NoEvents>::Options options;
    Reach<NoEvents> nameless(loop, options);
    CHECK(nameless.start({"127.0.0.1", 4000}, IpAddress::v4(127, 0, 0, 1)).error() == Errc::invalid_argument);
    options.rule.app = TextView("rejoin-test");
    Reach<NoEvents> reach(loop, options);
    CHECK(reach.start({"localhost", 4000}, IpAddress::v4(127, 0, 0, 1)).error() == Errc::invalid_argument);
    CHECK(reach.hear(TextView("what?").bytes()).error() == Errc::malformed);
    Prober prober(loop);
    CHECK(prober.hear(TextView("what?").bytes()).error() == Errc::malformed);
}

TEST_CASE("a host is reached at what it listens on, by whoever is asked to try") {
    Loop loop;
    Listener<Tcp, NoEvents, FailFast> listener(loop);
    REQUIRE(listener.listen({"127.0.0.1", 0}));
    Reach<NoEvents>::Options options;
    options.rule.app = TextView("rejoin-test");
    Reach<NoEvents> reach(loop, options);
    Prober prober(loop);
    int asked = 0;
    ReachMessage told;
    reach.on_send([&](Bytes bytes) {
        ++asked;
        CHECK(prober.hear(bytes));
    });
    prober.on_send([&](Bytes bytes) {
        told = *ReachMessage::decode(bytes);
        CHECK(reach.hear(bytes));
    });
    ReachStep step = ReachStep::failed;
    bool over = false;
    reach.on_done([&](Reach<NoEvents>::Outcome&& outcome) {
        step = outcome.step;
        over = true;
        CHECK(outcome.at == listener.local_endpoint());
        CHECK(outcome.report == nullptr);
    });
    REQUIRE(reach.start(listener.local_endpoint(), IpAddress::v4(127, 0, 0, 1)));
    CHECK(reach.start(listener.local_endpoint(), IpAddress::v4(127, 0, 0, 1)).error() == Errc::invalid_state);
    REQUIRE(until(loop, [&] { return over; }));
    CHECK(step == ReachStep::as_it_is);
    // What comes twice, or is another's, begins nothing anew.
    std::byte again[ReachMessage::size];
    told.reached = false;
    told.encode(again);
    CHECK(reach.hear(again));
    CHECK(asked == 1);
}

TEST_CASE("a host is reached over UDP by a socket that comes back, and that a program of neither answers for") {
    const auto bound = [] {
        Socket socket = std::move(*Socket::udp(Family::v4));
        socket.reuse_address();
        REQUIRE(socket.bind(IpAddress::v4(127, 0, 0, 1), 0));
        return socket;
    };
    const IpAddress here = IpAddress::v4(127, 0, 0, 1);
    Loop loop;
    Reach<NoEvents>::Options options;
    Reach<NoEvents> nameless(loop, options);
    Socket socket = bound();
    const Endpoint at = socket.local_endpoint();
    CHECK(nameless.start(std::move(socket), here).error() == Errc::invalid_argument);
    REQUIRE(socket);  // NOLINT: it stays where it is
    options.rule.app = TextView("rejoin-test");
    Reach<NoEvents> reach(loop, options);
    Prober prober(loop);
    Socket stranger = bound();
    reach.on_send([&](Bytes bytes) {
        // What is no probe is not answered, nor is one that was made up.
        for (const std::size_t size : {std::size_t{3}, bytes.size()}) REQUIRE(stranger.send_to(bytes.first(size), at.ip(), at.port()));
        auto message = *ReachMessage::decode(bytes);
        message.kind = ReachMessage::Kind::probe;
        ++message.attempt;
        std::byte wrong[ReachMessage::size];
        message.encode(wrong);
        REQUIRE(stranger.send_to(wrong, at.ip(), at.port()));
        CHECK(prober.hear(bytes));
    });
    prober.on_send([&](Bytes bytes) { CHECK(reach.hear(bytes)); });
    ReachStep step = ReachStep::failed;
    bool over = false;
    reach.on_done([&](Reach<NoEvents>::Outcome&& outcome) {
        step = outcome.step;
        over = true;
        CHECK(outcome.at == at);
        REQUIRE(outcome.socket);
        CHECK(outcome.socket.local_endpoint() == at);
        CHECK_FALSE(outcome.socket.peer_endpoint().valid());
    });
    REQUIRE(reach.start(std::move(socket), here));
    REQUIRE(until(loop, [&] { return over; }));
    CHECK(step == ReachStep::as_it_is);
    std::byte room[99];
    Endpoint from;
    CHECK(stranger.receive_from(room, from).error() == Errc::would_block);
}
