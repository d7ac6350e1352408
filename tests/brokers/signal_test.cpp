// SPDX-License-Identifier: BSL-1.0
#include "catch.hpp"

#if !defined(_WIN32)
#include <rejoin/signal.hpp>

#include <map>
#include <memory>
#include <vector>

#include "brokers/brokers.hpp"

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
        signal.on_message(
            [this](const signalling::Event& e) { heard.emplace_back(reinterpret_cast<const char*>(e.payload.data()), e.payload.size()); });
        signal.on_delivery([this](signalling::Token, Error error) {
            ++told;
            failed += error ? 1 : 0;
        });
        signal.on_broker([this](int broker, ClientState state, const mqtt::Trouble&) { states[broker] = state; });
    }
    int connected() const {
        int n = 0;
        for (const auto& [broker, state] : states) n += state == ClientState::connected ? 1 : 0;
        return n;
    }
    PeerSignal signal;
    std::vector<std::string> heard;
    std::map<int, ClientState> states;
    int told = 0, failed = 0;
};
using Brokers = std::vector<std::unique_ptr<brokers::Mosquitto>>;
Brokers three() {
    Brokers all;
    for (int i = 0; i < 3; ++i) all.push_back(std::make_unique<brokers::Mosquitto>());
    return all;
}

}  // namespace

TEST_CASE("two peers by three Mosquittos, of which two die") {
    if (!brokers::there_is("mosquitto")) return test::skip("there is no mosquitto");
    Brokers all = three();
    Loop loop;
    Peer alice(loop, "alice"), bob(loop, "bob");
    for (Peer* peer : {&alice, &bob})
        for (auto& broker : all) REQUIRE(peer->signal.add_broker(broker->endpoint()));
    REQUIRE(alice.signal.share_key("bob", TextView("0123456789abcdef").bytes()));
    REQUIRE(bob.signal.share_key("", TextView("0123456789abcdef").bytes()));
    REQUIRE(alice.signal.send("bob", "before there is a connection"));
    REQUIRE(until(loop, [&] { return alice.told == 1; }));
    REQUIRE(until(loop, [&] { return alice.connected() == 3 && bob.connected() == 3; }));
    all[0]->kill();
    all[1]->signal(SIGSTOP);
    REQUIRE(alice.signal.send("bob", "1"));
    REQUIRE(until(loop, [&] { return alice.told == 2; }));
    REQUIRE(bob.signal.send("alice", "2"));
    REQUIRE(until(loop, [&] { return bob.told == 1; }));
    CHECK(bob.heard == std::vector<std::string>{"before there is a connection", "1"});
    CHECK(alice.heard == std::vector<std::string>{"2"});
    CHECK(alice.failed + bob.failed == 0);
    all[0]->start();
    REQUIRE(until(loop, [&] { return alice.states[0] == ClientState::connected && bob.states[0] == ClientState::connected; }));
    all[2]->kill();
    REQUIRE(alice.signal.send("bob", "3"));
    REQUIRE(until(loop, [&] { return alice.told == 3 && bob.heard.size() == 3; }));
    all[1]->signal(SIGCONT);
}

TEST_CASE("brokers are killed, stopped and restarted all the time, and every message arrives once, in order") {
    if (!brokers::there_is("mosquitto")) return test::skip("there is no mosquitto");
    Brokers all = three();
    Loop loop;
    Peer alice(loop, "alice"), bob(loop, "bob");
    for (Peer* peer : {&alice, &bob})
        for (auto& broker : all) REQUIRE(peer->signal.add_broker(broker->endpoint()));
    constexpr int count = 3000;
    signalling::SendOptions ordered;
    ordered.ordered = true;
    ordered.expiry = Duration::seconds(300);
    int sent = 0;
    unsigned victim = 0;
    std::string what;
    // One after another, so that there is always one that lives.
    for (int round = 0; alice.told < count; ++round) {
        while (sent < count && sent < (round + 1) * 100 && alice.signal.send("bob", std::to_string(sent), ordered)) ++sent;
        brokers::Mosquitto& broker = *all[victim++ % 3];
        if (round % 2 == 0)
            broker.kill();
        else
            broker.signal(SIGSTOP);
        REQUIRE(until(loop, [&] { return bob.heard.size() == static_cast<std::size_t>(sent) && alice.told == sent; }));
        if (round % 2 == 0)
            broker.start();
        else
            broker.signal(SIGCONT);
        const int which = static_cast<int>((victim - 1) % 3);
        REQUIRE(until(loop, [&] { return alice.states[which] == ClientState::connected && bob.states[which] == ClientState::connected; }));
    }
    CHECK(alice.failed == 0);
    REQUIRE(bob.heard.size() == count);
    for (int i = 0; i < count; ++i) REQUIRE(bob.heard[static_cast<std::size_t>(i)] == std::to_string(i));
}

TEST_CASE("a broker may be added and removed while messages are under way") {
    if (!brokers::there_is("mosquitto")) return test::skip("there is no mosquitto");
    Brokers all = three();
    Loop loop;
    Peer alice(loop, "alice"), bob(loop, "bob");
    for (auto& broker : all) REQUIRE(bob.signal.add_broker(broker->endpoint()));
    const auto first = alice.signal.add_broker(all[0]->endpoint());
    REQUIRE(first);
    REQUIRE(alice.signal.send("bob", "1"));
    REQUIRE(until(loop, [&] { return alice.told == 1; }));
    REQUIRE(alice.signal.remove_broker(*first));
    CHECK_FALSE(alice.signal.remove_broker(*first));
    REQUIRE(alice.signal.send("bob", "2"));
    settle(loop);
    CHECK(alice.told == 1);
    const auto second = alice.signal.add_broker(all[1]->endpoint());
    REQUIRE(second);
    REQUIRE(until(loop, [&] { return alice.told == 2; }));
    CHECK(alice.signal.health(*second).confirmed > 0);
    CHECK(alice.signal.health(31).confirmed == 0);
}

TEST_CASE("a broker that lets nobody in is told of, and the others are enough") {
    if (!brokers::there_is("mosquitto")) return test::skip("there is no mosquitto");
    brokers::Mosquitto closed("allow_anonymous false\n"), open;
    Loop loop;
    Peer alice(loop, "alice"), bob(loop, "bob");
    for (Peer* peer : {&alice, &bob}) {
        REQUIRE(peer->signal.add_broker(closed.endpoint()));
        REQUIRE(peer->signal.add_broker(open.endpoint()));
    }
    REQUIRE(alice.signal.send("bob", "1"));
    REQUIRE(until(loop, [&] { return alice.told == 1 && alice.states[0] == ClientState::closed; }));
}
#endif
