// SPDX-License-Identifier: BSL-1.0
#include <rejoin/reach.hpp>

#include "pipe/support.hpp"

TEST_CASE("what both say is read to the letter") {
    ReachMessage message;
    message.kind = ReachMessage::Kind::ready;
    message.step = ReachStep::simultaneous_open;
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
    CHECK(read->attempt == message.attempt);
    CHECK(read->ip == message.ip);
    CHECK(read->port == 4000);
    for (std::size_t n = 0; n < good.size(); ++n) CHECK(ReachMessage::decode(Bytes(good).first(n)).error() == Errc::malformed);
    for (const auto& [at, value] : {std::pair<std::size_t, int>{0, 0}, {1, 0}, {1, 4}, {2, 4}, {3, 2}, {10, 1}}) {
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
    reach.on_send([&](Bytes bytes) { CHECK(prober.hear(bytes)); });
    prober.on_send([&](Bytes bytes) { CHECK(reach.hear(bytes)); });
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
}
