// SPDX-License-Identifier: BSL-1.0
// Any bytes as what comes to a name for its streams: a server that echoes, and pipes that open streams themselves, take them or drop them,
// and hold no more than a window. Input: pieces; a byte that says what happens and one that says how long the piece is, and the piece,
// which is taken as a message's numbers or, where that is asked for, as a whole message.
#include <cstdlib>
#include <memory>
#include <rejoin/listener.hpp>
#include <rejoin/network/no_events.hpp>
#include <rejoin/recovery/fail_fast.hpp>
#include <rejoin/transport/mqtt.hpp>
#include <string>

using namespace rejoin;

namespace {

void expect(bool it_is_so) {
    if (!it_is_so) std::abort();
}

enum class State { interrupted, connected, closed };
struct Nothing {};

// What MqttStreams asks of a client.
struct Client {
    HandlerId on_message(Function<void(const mqtt::Packet&)> handler) { return message = std::move(handler), 1; }
    HandlerId on_drained(Function<void()> handler) { return drained = std::move(handler), 2; }
    HandlerId on_state(Function<void(State, const Nothing&)> handler) { return state = std::move(handler), 3; }
    bool remove_handler(HandlerId) { return true; }
    Result<mqtt::Token> subscribe(TextView, mqtt::Qos) { return mqtt::Token{1}; }
    Result<mqtt::Token> publish(const mqtt::Message& said) {
        if (full) return Errc::would_block;
        const auto one = mqtt::StreamMessage::read(said.payload);
        expect(one && one->from == TextView("me"));
        if (one->type == mqtt::StreamMessage::Type::open) opened = one->id;
        return mqtt::Token{2};
    }
    std::size_t packet_limit() const { return 1000; }
    void say(Bytes payload) {
        mqtt::Packet packet;
        packet.topic = "rejoin-streams/me";
        packet.payload = payload;
        message(packet);
    }
    Function<void(const mqtt::Packet&)> message;
    Function<void()> drained;
    Function<void(State, const Nothing&)> state;
    std::uint64_t opened = 0;
    bool full = false;
};
using Stream = Pipe<NoEvents, Mqtt, FailFast>;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Loop loop;
    Client client;
    auto streams = std::make_unique<MqttStreams>(loop, client, "me");
    Listener<Mqtt, NoEvents, FailFast>::Options options;
    options.limits.sessions = 4;
    Listener<Mqtt, NoEvents, FailFast> server(loop, options);
    server.on_accept([](auto& pipe) { pipe.on_receive([&pipe](Bytes bytes) { static_cast<void>(pipe.send(bytes)); }); });
    expect(static_cast<bool>(server.listen(streams->endpoint("me"))));
    auto own = std::make_unique<Stream>(loop);
    for (std::size_t at = 0; at + 2 <= size && streams != nullptr;) {
        const unsigned what = data[at++];
        const std::size_t n = data[at++], length = n < size - at ? n : size - at;
        const Bytes piece(reinterpret_cast<const std::byte*>(data + at), length);
        at += length;
        mqtt::StreamMessage message;
        message.type = static_cast<mqtt::StreamMessage::Type>(1 + (what >> 3) % 6);
        message.from_opener = (what & 128) != 0;
        message.id = message.from_opener ? (piece.empty() ? 0 : std::to_integer<std::uint64_t>(piece[0]) % 8) : client.opened;
        message.position = piece.size() > 1 ? std::to_integer<std::uint64_t>(piece[1]) : 0;
        message.from = message.from_opener ? "you" : "them";
        if (message.type == mqtt::StreamMessage::Type::data && piece.size() > 2) message.payload = piece.subspan(2);
        std::string whole(message.size(), 0);
        message.write(reinterpret_cast<std::byte*>(whole.data()));
        switch (what & 7) {
            case 0:
                client.say(piece);
                break;
            case 1:
                static_cast<void>(own->connect(streams->endpoint("them")));
                break;
            case 2:
                static_cast<void>(own->send(piece));
                break;
            case 3:
                (what & 8) != 0 ? own->pause() : own->resume();
                break;
            case 4:
                if ((client.full = (what & 8) != 0) == false) client.drained();
                break;
            case 5:
                (what & 8) != 0 ? own->close() : own->abort();
                break;
            case 6:
                if ((what & 8) != 0) client.state(State::interrupted, {});
                if ((what & 0xf0) == 0xf0) streams = nullptr;
                break;
            default:
                client.say(TextView(whole).bytes());
                break;
        }
        static_cast<void>(loop.run_once(Duration()));
    }
    return 0;
}
