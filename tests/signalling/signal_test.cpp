// SPDX-License-Identifier: BSL-1.0
#include <rejoin/signal.hpp>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "catch.hpp"
#include "mqtt/tiny_broker.hpp"

using mqtt::ClientState;
using PeerSignal = Signal<NoEvents, Tcp, Persistent>;

namespace {

PeerSignal::Options quick_options() {
    PeerSignal::Options options;
    options.client.pipe = quick<Pipe<NoEvents, mqtt::detail::Over<Tcp>, Persistent>>();
    options.client.version = mqtt::Version::v3_1_1;
    return options;
}
struct Peer {
    Peer(Loop& loop, TextView name, const PeerSignal::Options& options = quick_options()) : signal(loop, name, options) {
        signal.on_message([this](const signalling::Event& e) { heard.emplace_back(e.text().data(), e.text().size()); });
        signal.on_delivery([this](signalling::Token, Error error) { outcomes.push_back(error); });
        signal.on_broker([this](int broker, ClientState state, const mqtt::Trouble&) { states[broker].push_back(state); });
        signal.on_drained([this] { ++drained; });
    }
    PeerSignal signal;
    std::vector<std::string> heard;
    std::vector<Error> outcomes;
    std::map<int, std::vector<ClientState>> states;
    int drained = 0;
};
// Two peers at two brokers.
struct Meeting {
    Meeting() : one(loop), other(loop), alice(loop, "alice"), bob(loop, "bob") {
        for (Peer* peer : {&alice, &bob})
            for (test::TinyBroker* broker : {&one, &other}) REQUIRE(peer->signal.add_broker(broker->endpoint()));
    }
    void up() {
        REQUIRE(until(loop, [&] {
            bool all = true;
            for (int i = 0; i < 2; ++i) all = all && alice.signal.health(i).up && bob.signal.health(i).up;
            return all;
        }));
    }
    Loop loop;
    test::TinyBroker one, other;
    Peer alice, bob;
};

}  // namespace

TEST_CASE("a message to a peer arrives once by two brokers, and the peer's word comes back") {
    Meeting m;
    REQUIRE(m.alice.signal.send("bob", "early"));  // there is no connection yet
    REQUIRE(until(m.loop, [&] { return m.alice.outcomes.size() == 1; }));
    CHECK(m.bob.heard == std::vector<std::string>{"early"});
    m.up();
    REQUIRE(m.bob.signal.send("alice", "hello"));
    REQUIRE(until(m.loop, [&] { return m.bob.outcomes.size() == 1; }));
    settle(m.loop);
    CHECK(m.alice.heard == std::vector<std::string>{"hello"});
    CHECK(m.alice.signal.counters().messages == 1);
    CHECK(m.bob.signal.health(0).sent + m.bob.signal.health(1).sent == 2);
    CHECK(m.bob.signal.queued() == 0);
    CHECK(m.alice.states[0] == std::vector<ClientState>{ClientState::connected});
    CHECK(m.alice.outcomes.front() == Error());
}

TEST_CASE("a broker that dies is done without, and come back to") {
    Meeting m;
    m.up();
    m.one.die();
    REQUIRE(m.alice.signal.send("bob", "1"));
    REQUIRE(until(m.loop, [&] { return m.alice.outcomes.size() == 1; }));
    REQUIRE(until(m.loop, [&] { return !m.alice.signal.health(0).up; }));
    CHECK(describe(m.alice.signal.explain(0)).size() > 0);
    m.one.come_back();
    m.up();
    m.other.die();
    REQUIRE(m.alice.signal.send("bob", "2"));
    REQUIRE(until(m.loop, [&] { return m.alice.outcomes.size() == 2; }));
    CHECK(m.bob.heard == std::vector<std::string>{"1", "2"});
}

TEST_CASE("a broker that delivers nothing is seen to, and the messages arrive by the other") {
    Meeting m;
    m.up();
    m.one.delivers = false;
    REQUIRE(until(m.loop, [&] {
        if (m.alice.signal.queued() == 0) static_cast<void>(m.alice.signal.send("bob", "x"));
        return m.alice.signal.health(0).suspect;
    }));
    CHECK_FALSE(m.alice.signal.health(1).suspect);
    m.one.delivers = true;
    REQUIRE(until(m.loop, [&] {
        if (m.alice.signal.queued() == 0) static_cast<void>(m.alice.signal.send("bob", "x"));
        return !m.alice.signal.health(0).suspect;
    }));
    for (const Error& outcome : m.alice.outcomes) CHECK_FALSE(outcome);
}

TEST_CASE("what nobody hears fails in time, and a queue that was full is told to have room") {
    Meeting m;
    m.up();
    signalling::SendOptions soon;
    soon.expiry = Duration::milliseconds(50);
    REQUIRE(m.alice.signal.send("nobody", "x", soon));
    REQUIRE(until(m.loop, [&] { return m.alice.outcomes.size() == 1; }));
    CHECK(m.alice.outcomes[0] == Errc::timed_out);
    const std::string large(60'000, 'x');
    Error refused;
    while (!refused) refused = m.alice.signal.send("bob", large).error();
    CHECK(refused == Errc::would_block);
    REQUIRE(until(m.loop, [&] { return m.alice.drained == 1; }));
    CHECK(m.alice.signal.send("bob", large));
    CHECK(m.alice.signal.send("bob", std::string(70'000, 'x')).error() == Errc::too_large);
}

TEST_CASE("names, brokers and handlers that may not be") {
    Loop loop;
    Peer nobody(loop, "a/b"), alice(loop, "alice");
    CHECK(nobody.signal.send("bob", "x").error() == Errc::invalid_argument);
    CHECK(nobody.signal.add_broker({"127.0.0.1", 1}).error() == Errc::invalid_argument);
    CHECK(alice.signal.send("b#b", "x").error() == Errc::invalid_argument);
    CHECK(alice.signal.add_broker({}).error() == Errc::invalid_argument);
    CHECK(alice.signal.add_broker({"127.0.0.1", 0}).error() == Errc::invalid_argument);
    CHECK(alice.signal.on_message({}) == 0);
    CHECK_FALSE(alice.signal.remove_handler(0));
    const HandlerId id = alice.signal.on_drained([] {});
    CHECK(alice.signal.remove_handler(id));
    CHECK_FALSE(alice.signal.remove_handler(id));
    for (int i = 0; i < 32; ++i) REQUIRE(alice.signal.add_broker({"127.0.0.1", 1}));
    CHECK(alice.signal.add_broker({"127.0.0.1", 1}).error() == Errc::would_block);
    CHECK(alice.signal.remove_broker(31));
    CHECK_FALSE(alice.signal.remove_broker(31));
    CHECK(alice.signal.add_broker({"127.0.0.1", 1}));
}

TEST_CASE("it is destroyed, or leaves its brokers, in each of its handlers") {
    for (int which = 0; which < 8; ++which) {
        CAPTURE(which);
        Meeting m;
        auto carol = std::make_unique<PeerSignal>(m.loop, "carol", quick_options());
        const auto broker = carol->add_broker(m.one.endpoint());
        REQUIRE(broker);
        bool done = false;
        const auto act = [&] {
            if (std::exchange(done, true)) return;
            which % 2 == 0 ? carol.reset() : static_cast<void>(carol->remove_broker(*broker));
        };
        std::string large(60'000, 'x');
        if (which / 2 == 0) carol->on_message([&](const signalling::Event&) { act(); });
        if (which / 2 == 1) carol->on_delivery([&](signalling::Token, Error) { act(); });
        if (which / 2 == 2) carol->on_broker([&](int, ClientState, const mqtt::Trouble&) { act(); });
        if (which / 2 == 3) {
            carol->on_drained([&] { act(); });
            while (carol->send("bob", large)) continue;
        }
        REQUIRE(m.alice.signal.send("carol", "hi"));
        if (which / 2 != 3) REQUIRE(carol->send("bob", "hello"));
        REQUIRE(until(m.loop, [&] { return done; }));
        settle(m.loop);
    }
}
