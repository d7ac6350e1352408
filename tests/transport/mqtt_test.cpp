// SPDX-License-Identifier: BSL-1.0
#include <rejoin/mqtt_client.hpp>
#include <rejoin/transport/mqtt.hpp>

#include <memory>
#include <string>
#include <vector>

#include "catch.hpp"
#include "mqtt/tiny_broker.hpp"
#include "session/bytes.hpp"

using mqtt::ClientState;
using mqtt::StreamMessage;

namespace {

using Client = mqtt::Client<NoEvents, Tcp, Persistent>;
using Plain = Pipe<NoEvents, Mqtt, FailFast>;
using Lasting = Pipe<NoEvents, Resumable<Mqtt>, Persistent>;

// A program with a name, at a broker.
struct Peer {
    Peer(Loop& loop, test::TinyBroker& broker, TextView name) : client(loop, options()), streams(loop, client, name) {
        mqtt::Connect who;
        who.client_id = name;
        REQUIRE(client.connect(broker.endpoint(), who));
    }
    static Client::Options options() {
        Client::Options o;
        o.version = mqtt::Version::v3_1_1;
        o.pipe = quick<Pipe<NoEvents, mqtt::detail::Over<Tcp>, Persistent>>();
        return o;
    }
    Client client;
    MqttStreams streams;
};
void connect(Loop& loop, Peer& a, Peer& b) {
    REQUIRE(until(loop, [&] { return a.client.state() == ClientState::connected && b.client.state() == ClientState::connected; }));
    settle(loop);  // the subscriptions
}
std::string text_of(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

}  // namespace

TEST_CASE("a message of a stream is written and read, byte for byte") {
    StreamMessage m;
    m.type = StreamMessage::Type::data;
    m.from_opener = true;
    m.id = 0x0102030405060708;
    m.position = 9;
    m.from = "me";
    m.payload = TextView("hi").bytes();
    test::Buffer bytes(m.size());
    m.write(bytes.data());
    CHECK(test::to_hex(bytes) == test::hex("03 01 0102030405060708 0000000000000009 02 6d65 6869"));
    const auto read = StreamMessage::read(bytes);
    REQUIRE(read);
    CHECK(read->type == StreamMessage::Type::data);
    CHECK(read->from_opener);
    CHECK(read->id == m.id);
    CHECK(read->position == 9);
    CHECK(read->from == TextView("me"));
    CHECK(text_of(read->payload) == "hi");
    for (std::size_t n = 0; n < 22; ++n) CHECK(StreamMessage::read(Bytes(bytes).first(n)).error() == Errc::malformed);
    const auto with = [&](std::size_t at, unsigned value) {
        test::Buffer changed = bytes;
        changed[at] = static_cast<std::byte>(value);
        return StreamMessage::read(changed).error();
    };
    CHECK(with(0, 0) == Errc::malformed);
    CHECK(with(0, 7) == Errc::malformed);
    CHECK(with(0, 4) == Errc::malformed);  // with a payload
    CHECK(with(1, 2) == Errc::malformed);
    CHECK(with(18, 0) == Errc::malformed);
    CHECK(with(18, 129) == Errc::malformed);
    CHECK(with(18, 3) == Error());
}

TEST_CASE("a pipe over a broker carries bytes both ways, and ends in order") {
    Loop loop;
    test::TinyBroker broker(loop);
    Peer alice(loop, broker, "alice"), bob(loop, broker, "bob");
    connect(loop, alice, bob);
    Listener<Mqtt, NoEvents, FailFast> server(loop);
    REQUIRE(server.listen(bob.streams.endpoint("bob")));
    CHECK(server.listen(bob.streams.endpoint("bob")).error() == Errc::invalid_state);
    std::string heard, echoed;
    PipeState server_state = PipeState::idle;
    server.on_accept([&](auto& pipe) {
        pipe.on_receive([&](Bytes bytes) {
            heard += text_of(bytes);
            REQUIRE(pipe.send(bytes));
        });
        pipe.on_state([&](PipeState state, const Failure& why) {
            server_state = state;
            CHECK_FALSE(why);
        });
    });
    Plain pipe(loop);
    REQUIRE(pipe.connect(alice.streams.endpoint("bob")));
    pipe.on_receive([&](Bytes bytes) { echoed += text_of(bytes); });
    REQUIRE(pipe.send("hello"));
    REQUIRE(until(loop, [&] { return echoed == "hello"; }));
    const std::string large(500'000, 'x');
    REQUIRE(pipe.send(large));
    REQUIRE(until(loop, [&] { return echoed.size() == 5 + large.size(); }));
    CHECK(heard == "hello" + large);
    CHECK(pipe.statistics().connections == 1);
    pipe.close();
    REQUIRE(until(loop, [&] { return pipe.state() == PipeState::closed && server_state == PipeState::closed; }));
    CHECK(broker.passed_on > 2 * 500'000 / (16 * 1024));
}

namespace {

// A client that the test plays: it hears what the test says, at the place in memory where the test says it.
struct PlayedClient {
    HandlerId on_message(Function<void(const mqtt::Packet&)> handler) { return message = std::move(handler), 1; }
    HandlerId on_drained(Function<void()>) { return 2; }
    HandlerId on_state(Function<void(ClientState, const mqtt::Trouble&)>) { return 3; }
    bool remove_handler(HandlerId) { return true; }
    Result<mqtt::Token> subscribe(TextView topic, mqtt::Qos) { return inbox = std::string(topic.data(), topic.size()), mqtt::Token{1}; }
    Result<mqtt::Token> publish(const mqtt::Message& said) { return last = text_of(said.payload), mqtt::Token{2}; }
    std::size_t packet_limit() const { return 100'000; }
    void say(Bytes payload) {
        mqtt::Packet packet;
        packet.topic = inbox;
        packet.payload = payload;
        message(packet);
    }
    Function<void(const mqtt::Packet&)> message;
    std::string inbox, last;
};

}  // namespace

TEST_CASE("a message that came in two halves does not write over what came with the second, in the loop's own buffer") {
    Loop loop;
    PlayedClient client;
    MqttStreams streams(loop, client, "bob");
    Listener<Mqtt, NoEvents, FailFast> server(loop);
    REQUIRE(server.listen(streams.endpoint("bob")));
    std::string heard;
    server.on_accept([&](auto& pipe) { pipe.on_receive([&](Bytes bytes) { heard += text_of(bytes); }); });
    StreamMessage message;
    message.type = StreamMessage::Type::open;
    message.from_opener = true;
    message.id = 7;
    message.from = "alice";
    test::Buffer bytes(message.size());
    message.write(bytes.data());
    client.say(bytes);
    const MutableBytes buffer = loop.scratch();
    std::size_t end = 0;
    std::string expected;
    message.type = StreamMessage::Type::data;
    std::vector<Bytes> all;
    for (int i = 0; i < 10; ++i) {
        const std::string text(1000, static_cast<char>('a' + i));
        message.position = expected.size();
        message.payload = TextView(text).bytes();
        if (i == 0) {  // as a decoder has it that puts halves together
            bytes.resize(message.size());
            message.write(bytes.data());
            all.emplace_back(bytes);
        } else {
            message.write(buffer.data() + end);
            all.push_back(buffer.subspan(end, message.size()));
            end += message.size();
        }
        expected += text;
    }
    for (Bytes one : all) client.say(one);
    CHECK(heard == expected);
}

TEST_CASE("a peer that does not read is not sent more than it has room for") {
    Loop loop;
    test::TinyBroker broker(loop);
    Peer alice(loop, broker, "alice"), bob(loop, broker, "bob");
    connect(loop, alice, bob);
    Listener<Mqtt, NoEvents, FailFast> server(loop);
    REQUIRE(server.listen(bob.streams.endpoint("bob")));
    Listener<Mqtt, NoEvents, FailFast>::AcceptedPipe* there = nullptr;
    std::size_t heard = 0;
    server.on_accept([&](auto& pipe) {
        there = &pipe;
        pipe.pause();
        pipe.on_receive([&](Bytes bytes) { heard += bytes.size(); });
    });
    Plain::Options options;
    options.transport.queue_limit = 4 << 20;
    Plain pipe(loop, options);
    REQUIRE(pipe.connect(alice.streams.endpoint("bob")));
    const std::string large(3 << 20, 'x');
    REQUIRE(pipe.send(large));
    REQUIRE(until(loop, [&] { return there != nullptr && broker.passed_on >= 16; }));
    settle(loop);
    const int before = broker.passed_on;
    settle(loop);
    CHECK(broker.passed_on == before);
    CHECK(before < 40);
    CHECK(heard == 0);
    there->resume();
    REQUIRE(until(loop, [&] { return heard == large.size(); }));
}

TEST_CASE("nobody of that name, nobody who listens, and somebody who has gone") {
    Loop loop;
    test::TinyBroker broker(loop);
    Peer alice(loop, broker, "alice"), bob(loop, broker, "bob");
    connect(loop, alice, bob);
    for (const char* bad : {"", "a/b", "+", "#", "\xff"}) {
        CHECK_FALSE(alice.streams.endpoint(bad).valid());
        CHECK_FALSE(MqttStreams(loop, alice.client, bad).endpoint("bob").valid());
    }
    CHECK(alice.streams.endpoint("x") == bob.streams.endpoint("x"));
    Plain pipe(loop);
    REQUIRE(pipe.connect({"fd72:656a::1", 1}));  // stands for nobody
    REQUIRE(until(loop, [&] { return pipe.state() == PipeState::closed; }));
    REQUIRE(pipe.connect(alice.streams.endpoint("bob")));
    REQUIRE(until(loop, [&] { return pipe.state() == PipeState::closed; }));
    Listener<Mqtt, NoEvents, FailFast> server(loop);
    CHECK(server.listen({"127.0.0.1", 1}).error() == Errc::invalid_argument);
    CHECK(server.listen(bob.streams.endpoint("alice")).error() == Errc::invalid_argument);
    auto also = std::make_unique<Peer>(loop, broker, "carol");
    connect(loop, alice, *also);
    REQUIRE(server.listen(also->streams.endpoint("carol")));
    REQUIRE(pipe.connect(alice.streams.endpoint("carol")));
    REQUIRE(until(loop, [&] { return pipe.state() == PipeState::connected; }));
    also = nullptr;
    CHECK_FALSE(server.local_endpoint().valid());
    REQUIRE(pipe.send("are you there?"));  // what was said last may still be on its way
    pipe.abort();
    settle(loop);
}

TEST_CASE("when a message is lost, or a client's connection, the stream is over") {
    Loop loop;
    test::TinyBroker broker(loop);
    Peer alice(loop, broker, "alice"), bob(loop, broker, "bob");
    connect(loop, alice, bob);
    Listener<Mqtt, NoEvents, FailFast> server(loop);
    REQUIRE(server.listen(bob.streams.endpoint("bob")));
    std::string heard;
    server.on_accept([&](auto& pipe) { pipe.on_receive([&](Bytes bytes) { heard += text_of(bytes); }); });
    Plain pipe(loop);
    REQUIRE(pipe.connect(alice.streams.endpoint("bob")));
    REQUIRE(until(loop, [&] { return pipe.state() == PipeState::connected; }));
    SECTION("a message") {
        broker.lost = 1;
        REQUIRE(pipe.send("lost"));
        settle(loop);
        REQUIRE(pipe.send("behind it"));
    }
    SECTION("connections") { broker.cut(); }
    REQUIRE(until(loop, [&] { return pipe.state() == PipeState::closed; }));
    CHECK(heard.empty());
}

TEST_CASE("a session goes on over a broker that is cut and dies, byte for byte") {
    Loop loop;
    test::TinyBroker broker(loop);
    Peer alice(loop, broker, "alice"), bob(loop, broker, "bob");
    Listener<Resumable<Mqtt>, NoEvents, Persistent> server(loop);
    REQUIRE(server.listen(bob.streams.endpoint("bob")));
    server.on_accept([&](auto& pipe) { pipe.on_receive([&pipe](Bytes bytes) { REQUIRE(pipe.send(bytes)); }); });
    Lasting pipe(loop, quick<Lasting>());
    REQUIRE(pipe.connect(alice.streams.endpoint("bob")));
    std::string sent, echoed;
    pipe.on_receive([&](Bytes bytes) { echoed += text_of(bytes); });
    for (int round = 0; round < 8; ++round) {
        for (int i = 0; i < 20; ++i) {
            const std::string piece = std::to_string(round * 100 + i) + std::string(3000, static_cast<char>('a' + i));
            REQUIRE(pipe.send(piece));
            sent += piece;
        }
        static_cast<void>(loop.run_once(Duration::milliseconds(1)));
        if (round % 3 == 0) broker.cut();
        if (round % 3 == 1) broker.lost = 3;
        if (round % 3 == 2) {
            broker.die();
            broker.come_back();
        }
        REQUIRE(until(loop, [&] { return echoed.size() == sent.size(); }));
        REQUIRE(echoed == sent);
    }
    CHECK(pipe.statistics().connections > 3);
    pipe.close();
    REQUIRE(until(loop, [&] { return pipe.state() == PipeState::closed; }));
}
