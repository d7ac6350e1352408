// SPDX-License-Identifier: BSL-1.0
#include <rejoin/handoff/message.hpp>
#include <string>

#include "catch.hpp"
#include "session/bytes.hpp"

using namespace rejoin;
using namespace rejoin::handoff;
using namespace test;
using Type = Message::Type;

namespace {

std::string offer(std::uint64_t id, SocketKind kind, const Luggage& luggage, bool v6 = false) {
    Array<char> to;
    REQUIRE(write_offer(to, id, kind, v6, luggage));
    return {to.data(), to.size()};
}
std::string message(Type type, std::uint64_t id = 0) {
    Array<char> to;
    REQUIRE(write_message(to, type, id));
    return {to.data(), to.size()};
}
void put(Array<char>& to, std::string_view text) {
    for (char c : text) REQUIRE(to.push(c));
}
void put(Array<std::byte>& to, Bytes from) {
    for (std::byte b : from) REQUIRE(to.push(b));
}
Buffer copied(const Array<std::byte>& from) { return {from.begin(), from.end()}; }
std::string note_of(const Luggage& luggage) { return {luggage.note.data(), luggage.note.size()}; }
Message read(std::string_view line) {
    Luggage luggage;
    auto message = read_message(line, luggage);
    REQUIRE(message);
    return *message;
}
Error why(std::string_view line) {
    Luggage luggage;
    return read_message(line, luggage).error();
}

}  // namespace

TEST_CASE("the lines as Node's channel has them") {
    CHECK(offer(7, SocketKind::stream, {}) ==
          "{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":{\"rejoin\":\"offer\",\"id\":7}}\n");
    CHECK(offer(8, SocketKind::listener, {}) ==
          "{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Server\",\"msg\":{\"rejoin\":\"offer\",\"id\":8}}\n");
    CHECK(offer(9, SocketKind::datagram, {}, true) ==
          "{\"cmd\":\"NODE_HANDLE\",\"type\":\"dgram.Socket\",\"dgramType\":\"udp6\",\"msg\":{\"rejoin\":\"offer\",\"id\":9}}\n");
    CHECK(message(Type::accept) == "{\"cmd\":\"NODE_HANDLE_ACK\"}\n");
    CHECK(message(Type::decline) == "{\"cmd\":\"NODE_HANDLE_NACK\"}\n");
    CHECK(message(Type::commit, UINT64_MAX) == "{\"rejoin\":\"commit\",\"id\":18446744073709551615}\n");
    CHECK(message(Type::withdraw, 3) == "{\"rejoin\":\"withdraw\",\"id\":3}\n");

    Luggage luggage;
    put(luggage.note, "a \"game\"\n");
    put(luggage.unread, bytes("foob"));
    put(luggage.unsent, bytes("fooba"));
    luggage.peer = Endpoint("example.org", 4000);
    CHECK(offer(1, SocketKind::stream, luggage) ==
          R"({"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"rejoin":"offer","id":1,"note":"a \"game\"\u000a",)"
          R"("host":"example.org","port":4000,"unread":"Zm9vYg==","unsent":"Zm9vYmE="}})"
          "\n");

    Luggage bare;
    bare.resumable = true;
    bare.session.accepted = true;
    bare.session.epoch = 2;
    bare.session.acknowledged = 5;
    bare.session.highest_sent = 9;
    put(bare.session.replay, bytes("foob"));
    CHECK(offer(2, SocketKind::none, bare) ==
          R"({"rejoin":"offer","id":2,"session":{"id":"AAAAAAAAAAAAAAAAAAAAAA==","key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",)"
          R"("accepted":true,"epoch":2,"acknowledged":5,"highestSent":9,"received":0,"replay":"Zm9vYg=="}})"
          "\n");
}

TEST_CASE("everything that is offered arrives") {
    Luggage sent;
    put(sent.note, "name: \xc3\xa9\\\"\t");
    put(sent.unread, pattern(1000));
    put(sent.unsent, pattern(77, 5));
    sent.peer = Endpoint("2001:db8::1", 65535);
    sent.resumable = true;
    session::State& s = sent.session;
    copy(s.identity.id.bytes, pattern(16, 1));
    copy(s.identity.key.bytes, pattern(32, 2));
    s.epoch = UINT64_MAX;
    s.asked_epoch = 3;
    s.round_trip = Duration::milliseconds(12);
    s.acknowledged = 1ull << 63;
    s.highest_sent = s.acknowledged + 100;
    s.finishing = s.peer_finished = true;
    s.received = 12345678901234567890u;
    s.attached = true;
    s.sent = s.acknowledged + 50;
    s.acknowledgement_sent = 4;
    s.skip = 6;
    s.window = 1 << 20;
    s.payload_out = 7;
    s.payload_in = 9;
    s.pong_due = true;
    s.pong = 0;
    put(s.out, pattern(20));
    put(s.in, pattern(3));
    put(s.held, pattern(5000));
    put(s.replay, pattern(70'000));

    std::string line = offer(42, SocketKind::stream, sent);
    REQUIRE(line.back() == '\n');
    line.pop_back();
    CHECK(line.find('\n') == std::string::npos);
    Luggage got;
    const auto message = read_message(line, got);
    REQUIRE(message);
    CHECK(message->type == Type::offer);
    CHECK(message->kind == SocketKind::stream);
    CHECK(message->ours);
    CHECK(message->id == 42);
    CHECK(note_of(got) == note_of(sent));
    CHECK(copied(got.unread) == copied(sent.unread));
    CHECK(copied(got.unsent) == copied(sent.unsent));
    CHECK(got.peer == sent.peer);
    REQUIRE(got.resumable);
    const session::State& g = got.session;
    CHECK(g.identity.id == s.identity.id);
    CHECK(to_hex(g.identity.key.bytes) == to_hex(s.identity.key.bytes));
    CHECK((g.accepted == s.accepted && g.epoch == s.epoch && g.asked_epoch == s.asked_epoch && g.round_trip == s.round_trip));
    CHECK((g.acknowledged == s.acknowledged && g.highest_sent == s.highest_sent && g.received == s.received));
    CHECK((g.finishing && !g.fin_acknowledged && g.peer_finished && !g.held_fin));
    CHECK((g.attached && g.sent == s.sent && g.acknowledgement_sent == 4 && g.skip == 6 && g.window == s.window));
    CHECK((g.payload_out == 7 && g.payload_in == 9 && g.pong_due && g.pong == 0));
    CHECK(copied(g.out) == copied(s.out));
    CHECK(copied(g.in) == copied(s.in));
    CHECK(copied(g.held) == copied(s.held));
    CHECK(copied(g.replay) == copied(s.replay));

    // A line that is cut off anywhere is no line.
    for (std::size_t n = 0; n < line.size(); n += n < 2000 ? 1 : 997) REQUIRE(why(line.substr(0, n)) == Errc::malformed);
}

TEST_CASE("what others say is understood, or left alone") {
    CHECK(read(R"({"cmd":"NODE_HANDLE_ACK"})").type == Type::accept);
    CHECK(read(R"({ "cmd" : "NODE_HANDLE_NACK" , "x":1})").type == Type::decline);
    CHECK(read(R"({"cmd":"NODE_HANDLE_NOTYET"})").type == Type::other);
    CHECK(read(R"({"hello":"world"})").type == Type::other);
    CHECK(read("[1,2,3]").type == Type::other);
    CHECK(read("\"text\"").type == Type::other);
    CHECK(read(R"({"rejoin":"commit","id":5})").type == Type::commit);
    CHECK(read(R"({"rejoin":"withdraw","id":5})").id == 5);

    // Node's own: child.send({user: "x"}, socket)
    Luggage luggage;
    const auto node = read_message(R"({"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"user":"x"},"key":"k"})", luggage);
    REQUIRE(node);
    CHECK(node->type == Type::offer);
    CHECK_FALSE(node->ours);
    CHECK(note_of(luggage) == R"({"user":"x"})");
    CHECK(read(R"({"cmd":"NODE_HANDLE","type":"net.Server"})").kind == SocketKind::listener);
    CHECK(read(R"({"cmd":"NODE_HANDLE","type":"dgram.Socket","msg":null})").kind == SocketKind::datagram);

    // Python's: with spaces, and everything outside ASCII escaped
    Luggage python;
    REQUIRE(read_message(
        R"({"cmd": "NODE_HANDLE", "type": "net.Socket", "msg": {"rejoin": "offer", "id": 1, "note": "\u00e9", "unread": "Zm9v"}})",
        python));
    CHECK(note_of(python) == "\xc3\xa9");

    Luggage escaped;
    REQUIRE(read_message(R"({"rejoin":"offer","id":1,"host":"ex\u0061mple.org","port":1,"session":{"id":"AAAAAAAAAAAAAAAAAAAAAA==",)"
                         R"("key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}})",
                         escaped));
    CHECK(escaped.peer == Endpoint("example.org", 1));
    CHECK(copied(python.unread) == bytes("foo"));
}

TEST_CASE("what makes no sense is malformed") {
    for (const char* line : {"",
                             "{",
                             "garbage",
                             R"({"rejoin":"commit"} x)",
                             R"({"rejoin":"commit","id":-1})",
                             R"({"rejoin":"commit","id":"5"})",
                             R"({"rejoin":"nothing","id":1})",
                             R"({"rejoin":5})",
                             R"({"rejoin":"offer","id":1})",
                             R"({"rejoin":"offer","id":1,"session":7})",
                             R"({"rejoin":"offer","id":1,"session":{}})",
                             R"({"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"rejoin":"commit"}})",
                             R"({"cmd":"NODE_HANDLE","msg":{"rejoin":"offer","id":1,"unread":"Zg"}})",
                             R"({"cmd":"NODE_HANDLE","msg":{"rejoin":"offer","id":1,"unread":7}})",
                             R"({"cmd":"NODE_HANDLE","msg":{"rejoin":"offer","id":1,"note":7}})",
                             R"({"cmd":"NODE_HANDLE","msg":{"rejoin":"offer","id":1,"note":"\ud800"}})",
                             R"({"cmd":"NODE_HANDLE","msg":{"rejoin":"offer","id":1,"host":"a b","port":1}})",
                             R"({"cmd":"NODE_HANDLE","msg":{"rejoin":"offer","id":1,"host":"a\u000ab","port":1}})",
                             R"({"cmd":"NODE_HANDLE","msg":{"rejoin":"offer","id":1,"host":"a","port":65536}})",
                             R"({"cmd":"NODE_HANDLE","msg":{"rejoin":"offer","id":1,"session":{"id":"Zg==","key":"Zg=="}}})"}) {
        CAPTURE(line);
        CHECK(why(line) == Errc::malformed);
    }
}
