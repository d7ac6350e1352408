// SPDX-License-Identifier: BSL-1.0
#include <rejoin/signalling/exchange.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "catch.hpp"
#include "session/bytes.hpp"

using namespace rejoin;
using signalling::Exchange;
using signalling::Limits;
using signalling::SendOptions;

namespace {

constexpr std::int64_t midnight = 1'700'000'000'000;

struct Letter {
    int broker;
    std::string to;
    test::Buffer bytes;
};
// One peer, and what it has said and heard.
struct Peer {
    explicit Peer(TextView name, int brokers = 1, const Limits& limits = {}, std::uint64_t seed = 1)
        : exchange(std::make_unique<Exchange>(limits, seed)) {
        REQUIRE(exchange->set_name(name));
        for (int i = 0; i < brokers; ++i) {
            REQUIRE(exchange->add_broker("broker " + std::to_string(i)) == i);
            exchange->broker_up(i, now);
        }
    }
    // What it has to say now.
    std::vector<Letter> letters() {
        std::vector<Letter> all;
        for (signalling::Copy copy; exchange->next_copy(copy, now, wall);) {
            all.push_back({copy.broker, std::string(copy.to.data(), copy.to.size()), {copy.bytes.begin(), copy.bytes.end()}});
            exchange->given(copy, true, now);
        }
        return all;
    }
    Letter letter() {
        auto all = letters();
        REQUIRE(all.size() == 1);
        return all.front();
    }
    void hear(const Letter& letter, int broker = 0) {
        exchange->received(broker, letter.bytes, now, wall);
        listen();
    }
    void hear(const std::vector<Letter>& letters) {
        for (const Letter& letter : letters) hear(letter, letter.broker);
    }
    void listen() {
        for (signalling::Event event; exchange->next(event);) {
            if (event.kind == signalling::Event::Kind::message)
                heard.emplace_back(reinterpret_cast<const char*>(event.payload.data()), event.payload.size());
            else
                outcomes.push_back(event.error);
        }
    }
    signalling::Token send(TextView to, TextView text, bool ordered = false, Duration expiry = Duration::seconds(30)) {
        SendOptions options;
        options.ordered = ordered;
        options.expiry = expiry;
        const auto token = exchange->send(to, text.bytes(), options, now);
        REQUIRE(token);
        return *token;
    }
    void wait(Duration d) {
        now = now + d;
        wall += d.nanoseconds() / 1'000'000;
        exchange->expire(now);
        listen();
    }
    const signalling::Counters& counters() const { return exchange->counters(); }
    TimePoint now = TimePoint::from_nanoseconds(1'000'000'000);
    std::int64_t wall = midnight;
    std::unique_ptr<Exchange> exchange;
    std::vector<std::string> heard;
    std::vector<Error> outcomes;
};
using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("a message goes by all brokers, is heard once, and counts as delivered when the peer says so") {
    Peer alice("alice", 3), bob("bob", 3);
    alice.send("bob", "hello");
    const auto copies = alice.letters();
    CHECK(copies.size() == 3);
    CHECK(copies[0].to == "bob");
    CHECK(alice.outcomes.empty());
    bob.hear(copies);
    CHECK(bob.heard == Texts{"hello"});
    CHECK(bob.counters().duplicates == 2);
    CHECK(bob.exchange->health(0).first == 1);
    CHECK(bob.exchange->health(1).came == 1);
    const auto acks = bob.letters();
    CHECK(acks.size() == 3);  // to the brokers by which it had come by then
    CHECK(acks[0].to == "alice");
    alice.hear(acks);
    CHECK(alice.outcomes == std::vector<Error>{Error()});
    CHECK(alice.exchange->queued() == 0);
    for (int i = 0; i < 3; ++i) CHECK(alice.exchange->health(i).confirmed == 1);
    CHECK(bob.letters().empty());
}

TEST_CASE("an acknowledgement goes the way the message came, and again when the message comes again") {
    Peer alice("alice", 2), bob("bob", 2);
    alice.send("bob", "hello");
    auto copies = alice.letters();
    bob.hear(copies[1], 1);
    auto acks = bob.letters();
    REQUIRE(acks.size() == 1);
    CHECK(acks[0].broker == 1);
    bob.hear(copies[0], 0);  // the other copy of the same
    CHECK(bob.letters().empty());
    alice.wait(Duration::seconds(1));  // the acknowledgement was lost
    CHECK(alice.counters().sent_again == 1);
    copies = alice.letters();
    REQUIRE(copies.size() == 2);
    bob.hear(copies[1], 1);
    acks = bob.letters();
    REQUIRE(acks.size() == 2);  // by both something had come since the last one
    alice.hear(acks[0]);
    CHECK(alice.outcomes.size() == 1);
    CHECK(bob.heard.size() == 1);
    alice.hear(acks[0]);
    CHECK(alice.outcomes.size() == 1);
}

TEST_CASE("without brokers a message waits for one, and fails when its time is over") {
    Peer alice("alice", 0);
    alice.send("bob", "1");
    alice.send("bob", "2", false, Duration::seconds(3));
    CHECK(alice.letters().empty());
    alice.wait(Duration::seconds(3));
    CHECK(alice.outcomes == std::vector<Error>{Errc::timed_out});
    REQUIRE(alice.exchange->add_broker("late") == 0);
    CHECK(alice.letters().empty());
    alice.exchange->broker_up(0, alice.now);
    CHECK(alice.letters().size() == 1);
    CHECK(alice.letters().empty());
}

TEST_CASE("what only a broker has that is gone goes by another at once") {
    Limits limits;
    limits.copies = 1;
    Peer alice("alice", 2, limits);
    alice.send("bob", "1");
    const Letter first = alice.letter();
    alice.exchange->broker_down(first.broker, alice.now);
    const Letter second = alice.letter();
    CHECK(second.broker != first.broker);
    alice.exchange->broker_up(first.broker, alice.now);
    CHECK(alice.letter().broker == first.broker);  // which is its place
}

TEST_CASE("to k of n brokers, in an order that the receiver's name gives") {
    Limits limits;
    limits.copies = 2;
    Peer alice("alice", 6, limits, 1), carol("carol", 6, limits, 2);
    std::vector<int> used(6);
    for (int i = 0; i < 60; ++i) {
        const std::string name = "peer " + std::to_string(i);
        alice.send(name, "x");
        carol.send(name, "x");
        const auto one = alice.letters(), other = carol.letters();
        REQUIRE(one.size() == 2);
        REQUIRE(other.size() == 2);
        CHECK(one[0].broker == other[0].broker);
        CHECK(one[1].broker == other[1].broker);
        ++used[static_cast<std::size_t>(one[0].broker)];
        ++used[static_cast<std::size_t>(one[1].broker)];
    }
    for (int n : used) CHECK(n >= 8);  // 20, were it even
    // Unacknowledged, a message goes to one more each time.
    alice.send("bob", "x");
    CHECK(alice.letters().size() == 2);
    alice.wait(Duration::milliseconds(500));
    CHECK(alice.letters().size() > 60 * 3);  // with those before
}

TEST_CASE("ordered messages wait for those before them") {
    Peer alice("alice"), bob("bob");
    alice.send("bob", "1", true);
    alice.send("bob", "free");
    alice.send("bob", "2", true);
    alice.send("bob", "3", true);
    const auto letters = alice.letters();
    bob.hear(letters[3]);
    bob.hear(letters[2]);
    bob.hear(letters[2]);
    CHECK(bob.heard.empty());
    bob.hear(letters[1]);
    CHECK(bob.heard == Texts{"free"});
    alice.hear(bob.letters());
    CHECK(alice.outcomes.size() == 1);  // what is held has not arrived
    bob.hear(letters[0]);
    CHECK(bob.heard == Texts{"free", "1", "2", "3"});
    alice.hear(bob.letters());
    CHECK(alice.outcomes.size() == 4);
    CHECK(bob.counters().messages == 4);
}

TEST_CASE("an ordered message that has failed is not waited for") {
    Peer alice("alice"), bob("bob");
    alice.send("bob", "1", true, Duration::seconds(1));
    alice.send("bob", "2", true);
    const auto letters = alice.letters();
    bob.hear(letters[1]);
    CHECK(bob.heard.empty());
    alice.wait(Duration::seconds(1));
    CHECK(alice.outcomes == std::vector<Error>{Errc::timed_out});
    bob.hear(alice.letters());
    CHECK(bob.heard == Texts{"2"});
    bob.hear(letters[0]);  // late
    CHECK(bob.heard == Texts{"2"});
    alice.hear(bob.letters());
    CHECK(alice.outcomes.size() == 2);
}

TEST_CASE("what is out of order and too much to hold is sent again") {
    Limits limits;
    limits.held = 300;
    Peer alice("alice"), bob("bob", 1, limits);
    for (const char* text : {"1", "2", "3", "4"}) alice.send("bob", text, true);
    auto letters = alice.letters();
    for (int i : {3, 2, 1}) bob.hear(letters[static_cast<std::size_t>(i)]);
    CHECK(bob.counters().no_room == 1);
    bob.hear(letters[0]);
    CHECK(bob.heard == Texts{"1"});
    alice.hear(bob.letters());
    alice.wait(Duration::seconds(1));
    bob.hear(alice.letters());
    CHECK(bob.heard == Texts{"1", "2", "3", "4"});
}

TEST_CASE("a message and its queue have their limits, and room is told of") {
    Limits limits;
    limits.message = 1000;
    limits.queue = 2500;
    Peer alice("alice", 1, limits), bob("bob");
    const std::string big(1001, 'x'), fits(1000, 'x');
    CHECK(alice.exchange->send("bob", TextView(big).bytes(), {}, alice.now).error() == Errc::too_large);
    alice.send("bob", fits);
    alice.send("bob", fits);
    CHECK_FALSE(alice.exchange->drained());
    CHECK(alice.exchange->send("bob", TextView(fits).bytes(), {}, alice.now).error() == Errc::would_block);
    CHECK_FALSE(alice.exchange->drained());
    bob.hear(alice.letters());
    alice.hear(bob.letters());
    CHECK(alice.exchange->drained());
    CHECK_FALSE(alice.exchange->drained());
    for (const char* bad : {"", "a/b", "a+b", "#", "\xff"})
        CHECK(alice.exchange->send(bad, TextView("x").bytes(), {}, alice.now).error() == Errc::invalid_argument);
    SendOptions never;
    never.expiry = {};
    CHECK(alice.exchange->send("bob", TextView("x").bytes(), never, alice.now).error() == Errc::invalid_argument);
}

TEST_CASE("no more than 1,024 messages to one peer are under way") {
    Peer alice("alice"), bob("bob");
    for (int i = 0; i < 1024; ++i) alice.send("bob", "x");
    CHECK(alice.exchange->send("bob", TextView("x").bytes(), {}, alice.now).error() == Errc::would_block);
    alice.send("carol", "x");
    CHECK_FALSE(alice.exchange->drained());  // nothing has gone since
    auto letters = alice.letters();
    std::reverse(letters.begin(), letters.end());
    for (const Letter& letter : letters)
        if (letter.to == "bob") bob.hear(letter);
    CHECK(bob.heard.size() == 1024);
    alice.hear(bob.letters());
    CHECK(alice.outcomes.size() == 1024);
    CHECK(alice.exchange->drained());
}

TEST_CASE("with a key, what is not sealed, forged, or for somebody else changes nothing but a counter") {
    Peer alice("alice"), bob("bob"), mallory("mallory", 1, {}, 9);
    REQUIRE(alice.exchange->share_key("bob", TextView("0123456789abcdef").bytes()));
    REQUIRE(bob.exchange->share_key("alice", TextView("0123456789abcdef").bytes()));
    alice.send("bob", "hello");
    const Letter good = alice.letter();
    for (std::size_t bit = 0; bit < good.bytes.size() * 8; ++bit) {
        Letter changed = good;
        changed.bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
        bob.hear(changed);
    }
    CHECK(bob.heard.empty());
    CHECK(bob.letters().empty());
    CHECK(bob.counters().forged + bob.counters().unsealed + bob.counters().malformed == good.bytes.size() * 8);
    CHECK(bob.counters().unsealed > 0);

    Peer impostor("alice", 1, {}, 5);
    impostor.send("bob", "unsealed");
    bob.hear(impostor.letter());
    REQUIRE(impostor.exchange->share_key("bob", TextView("another secret of 16").bytes()));
    impostor.send("bob", "of another key");
    bob.hear(impostor.letters());
    CHECK(bob.heard.empty());
    // A letter to bob is of no use to carol, who shares the same key.
    Peer carol("carol");
    REQUIRE(carol.exchange->share_key("", TextView("0123456789abcdef").bytes()));
    carol.hear(good);
    CHECK(carol.counters().forged == 1);
    // Sealed by somebody with whom there is no key.
    REQUIRE(mallory.exchange->share_key("bob", TextView("0123456789abcdef").bytes()));
    mallory.send("bob", "x");
    const auto forged = bob.counters().forged;
    bob.hear(mallory.letter());
    CHECK(bob.counters().forged == forged + 1);

    bob.hear(good);
    CHECK(bob.heard == Texts{"hello"});
    const Letter ack = bob.letter();
    for (std::size_t bit = 0; bit < ack.bytes.size() * 8; ++bit) {
        Letter changed = ack;
        changed.bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
        alice.hear(changed);
    }
    CHECK(alice.outcomes.empty());
    alice.hear(ack);
    CHECK(alice.outcomes == std::vector<Error>{Error()});
}

TEST_CASE("a recorded message is heard once, whenever it is repeated") {
    Limits limits;
    limits.clock_tolerance = Duration::seconds(60);
    limits.streams = 1;
    Peer alice("alice", 1, {}, 3), bob("bob", 1, limits);
    REQUIRE(alice.exchange->share_key("", TextView("0123456789abcdef").bytes()));
    REQUIRE(bob.exchange->share_key("", TextView("0123456789abcdef").bytes()));
    alice.send("bob", "pay");
    const Letter recorded = alice.letter();
    bob.hear(recorded);
    CHECK(bob.heard == Texts{"pay"});
    SECTION("at any time") {
        for (int i = 0; i < 600; ++i) {
            bob.wait(Duration::seconds(1));
            bob.hear(recorded);
        }
        CHECK(bob.counters().duplicates + bob.counters().stale == 600);
        CHECK(bob.counters().stale >= 500);
    }
    SECTION("when its stream has been forgotten for want of room") {
        Peer carol("carol", 1, {}, 4);
        REQUIRE(carol.exchange->share_key("", TextView("0123456789abcdef").bytes()));
        carol.wait(Duration::seconds(1));
        carol.send("bob", "hi");
        bob.hear(carol.letter());
        bob.hear(recorded);
        CHECK(bob.counters().stale == 1);
    }
    CHECK(bob.heard.front() == "pay");
    CHECK(std::count(bob.heard.begin(), bob.heard.end(), "pay") == 1);
}

TEST_CASE("clocks may differ by as much as is allowed") {
    for (int seconds : {-91, -89, 59, 61}) {
        CAPTURE(seconds);
        Peer alice("alice"), bob("bob");
        REQUIRE(alice.exchange->share_key("", TextView("0123456789abcdef").bytes()));
        REQUIRE(bob.exchange->share_key("", TextView("0123456789abcdef").bytes()));
        alice.wall += 1000 * seconds;
        alice.send("bob", "x");
        bob.hear(alice.letters());
        CHECK(bob.heard.size() == (seconds > -90 && seconds < 60 ? 1 : 0));  // 30 s more for how long a copy is valid
        CHECK(bob.counters().stale == (seconds > -90 && seconds < 60 ? 0 : 1));
    }
}

TEST_CASE("names and secrets that may not be are refused") {
    Exchange exchange({}, 1);
    for (const char* bad : {"", "a/b", "+", "a#", "\xc0\x80"}) CHECK(exchange.set_name(bad).error() == Errc::invalid_argument);
    CHECK(exchange.set_name(std::string(129, 'x')).error() == Errc::invalid_argument);
    CHECK(exchange.set_name(std::string(128, 'x')));
    CHECK(exchange.share_key("bob", TextView("too short").bytes()).error() == Errc::invalid_argument);
    CHECK(exchange.share_key("b/b", TextView("0123456789abcdef").bytes()).error() == Errc::invalid_argument);
    Limits none;
    none.message = 0;
    Exchange limited(none, 1);
    CHECK(limited.set_name("x").error() == Errc::invalid_argument);
    CHECK(limited.send("bob", {}, {}, TimePoint()).error() == Errc::invalid_argument);
}

TEST_CASE("what is too large, or no envelope, is counted and dropped") {
    Limits limits;
    limits.message = 100;
    Peer bob("bob", 1, limits);
    bob.hear({0, "bob", test::Buffer(1000)});
    bob.hear({0, "bob", test::Buffer(10)});
    bob.hear({0, "bob", {}});
    CHECK(bob.counters().too_large == 1);
    CHECK(bob.counters().malformed == 2);
}

TEST_CASE("a message of the largest size may be encrypted, which makes it larger") {
    Limits limits;
    limits.message = 1000;
    Peer alice("alice", 1, limits), bob("bob", 1, limits);
    std::size_t more = 256;
    alice.exchange->set_ciphers([&](TextView, Bytes from, Array<std::byte>& to) { return to.extend(from.size() + more) != nullptr; }, {});
    const std::string largest(1000, 'x');
    alice.send("bob", largest);
    bob.hear(alice.letters());
    CHECK(bob.heard.size() == 1);
    more = 257;
    CHECK(alice.exchange->send("bob", TextView(largest).bytes(), {}, alice.now).error() == Errc::too_large);
}

TEST_CASE("a message that waits for a broker is new to the one that comes") {
    Limits limits;
    limits.copies = 1;
    Peer alice("alice", 1, limits), bob("bob", 1, limits);
    alice.exchange->broker_down(0, alice.now);
    alice.send("bob", "1");
    alice.exchange->broker_up(0, alice.now);
    alice.exchange->broker_down(0, alice.now);  // before a copy went out
    alice.exchange->broker_up(0, alice.now);
    bob.hear(alice.letters());
    alice.wait(Duration::milliseconds(5));
    alice.hear(bob.letters());
    CHECK(alice.exchange->health(0).round_trip == Duration::milliseconds(5));  // which is not known of what was sent again
}

TEST_CASE("payloads go through the user's ciphers") {
    Peer alice("alice"), bob("bob");
    const auto turn = [](TextView peer, Bytes from, Array<std::byte>& to) {
        const std::byte with = static_cast<std::byte>(peer.size());
        std::byte* const room = to.extend(from.size() + 1);
        if (room == nullptr) return false;
        for (std::size_t i = 0; i < from.size(); ++i) room[i] = from[i] ^ with;
        room[from.size()] = with;
        return true;
    };
    const auto back = [](TextView peer, Bytes from, Array<std::byte>& to) {
        if (from.empty() || from.back() != std::byte{3}) return false;
        for (std::byte b : from.first(from.size() - 1)) to.push(b ^ std::byte{3});
        return peer == TextView("alice");
    };
    alice.exchange->set_ciphers(turn, {});
    bob.exchange->set_ciphers({}, back);
    alice.send("bob", "hello");
    alice.send("bob", "world", true);
    bob.hear(alice.letters());
    CHECK(bob.heard == Texts{"hello", "world"});
    Peer carol("carol", 1, {}, 7);
    carol.send("bob", "plain");
    bob.hear(carol.letter());
    CHECK(bob.heard.size() == 2);
    CHECK(bob.counters().forged == 1);
    CHECK(bob.letters().size() == 1);  // to alice: carol has no answer
}

TEST_CASE("a broker that takes messages and delivers none is found out, put last, and tried now and then") {
    Limits limits;
    limits.copies = 1;
    Peer alice("alice", 2, limits), bob("bob", 2);
    alice.send("bob", "x");
    const int hole = alice.letter().broker, good = 1 - hole;
    int by_hole = 0, by_good = 0;
    for (int i = 0; i < 40; ++i) {
        alice.send("bob", "x");
        alice.wait(Duration::milliseconds(700));
        for (const Letter& letter : alice.letters()) {
            letter.broker == hole ? ++by_hole : ++by_good;
            if (letter.broker == good) bob.hear(letter, good);
        }
        for (const Letter& ack : bob.letters())
            if (ack.broker == good) alice.hear(ack, good);
    }
    CHECK(alice.exchange->health(hole).suspect);
    CHECK_FALSE(alice.exchange->health(good).suspect);
    CHECK(alice.exchange->health(hole).confirmed == 0);
    CHECK(by_good > 30);
    const auto before = alice.exchange->health(hole).sent;
    for (int i = 0; i < 30; ++i) {
        alice.send("bob", "x");
        alice.wait(Duration::milliseconds(10));
        for (const Letter& letter : alice.letters())
            if (letter.broker == good) bob.hear(letter, good);
        for (const Letter& ack : bob.letters()) alice.hear(ack, good);
    }
    CHECK(alice.exchange->health(hole).sent - before <= 1);
    // It is mended: the next trial shows it.
    alice.wait(Duration::seconds(11));
    alice.send("bob", "x");
    for (const Letter& letter : alice.letters()) bob.hear(letter, letter.broker);
    alice.hear(bob.letters());
    CHECK_FALSE(alice.exchange->health(hole).suspect);
}

TEST_CASE("a receiver that has forgotten everything is sent on to") {
    Peer alice("alice");
    {
        Peer bob("bob");
        alice.send("bob", "1");
        alice.send("bob", "2");
        const auto letters = alice.letters();
        bob.hear(letters[0]);
        alice.hear(bob.letters());
    }
    CHECK(alice.outcomes.size() == 1);
    Peer bob("bob", 1, {}, 8);
    bob.wall += 2000;
    alice.wait(Duration::seconds(1));
    bob.hear(alice.letters());
    CHECK(bob.heard == Texts{"2"});
    alice.hear(bob.letters());
    CHECK(alice.outcomes.size() == 2);
}

TEST_CASE("streams that are silent are forgotten, and those that were idle begin anew") {
    Peer alice("alice"), bob("bob");
    alice.send("bob", "1");
    bob.hear(alice.letters());
    alice.hear(bob.letters());
    CHECK(alice.exchange->deadline() != TimePoint::never());
    alice.wait(Duration::seconds(61));
    CHECK(alice.exchange->deadline() == TimePoint::never());
    bob.wait(Duration::seconds(151));
    CHECK(bob.exchange->deadline() == TimePoint::never());
    alice.send("bob", "2");
    bob.hear(alice.letters());
    CHECK(bob.heard == Texts{"1", "2"});
}

TEST_CASE("brokers come and go") {
    Peer alice("alice", 0);
    for (int i = 0; i < 32; ++i) REQUIRE(alice.exchange->add_broker("b") == i);
    CHECK(alice.exchange->add_broker("b") == -1);
    alice.exchange->broker_up(7, alice.now);
    alice.exchange->broker_up(7, alice.now);
    alice.send("bob", "x");
    alice.exchange->remove_broker(7, alice.now);
    CHECK(alice.letters().empty());
    CHECK(alice.exchange->add_broker("b") == 7);
    CHECK(alice.exchange->health(7).sent == 0);
    CHECK_FALSE(alice.exchange->health(7).up);
}
