// SPDX-License-Identifier: BSL-1.0
#include <rejoin/mqtt/session.hpp>
#include <string>
#include <vector>

#include "catch.hpp"
#include "session/bytes.hpp"

using namespace rejoin;
using namespace rejoin::mqtt;
using Kind = mqtt::Event::Kind;

namespace {

std::string text(TextView view) { return {view.data(), view.size()}; }
std::string text(Bytes view) { return {reinterpret_cast<const char*>(view.data()), view.size()}; }
std::string hex(std::string_view spaced) { return test::to_hex(test::from_hex(spaced)); }
std::string digits(std::size_t byte) {
    const std::byte one[] = {static_cast<std::byte>(byte)};
    return test::to_hex(one);
}

// A session, and a server that the test plays.
struct Played {
    struct Told {
        Kind kind;
        Token token;
        Error error;
        Reason reason;
        std::string topic, payload;
    };
    explicit Played(Version version = Version::v3_1_1, Limits limits = Limits(), bool clean = false) : session(version, limits) {
        Connect connect;
        connect.client_id = "me";
        connect.clean = clean;
        REQUIRE(session.configure(connect));
    }
    Played& open() {
        REQUIRE(session.opened(now));
        return *this;
    }
    // Connects, and forgets what was said for that.
    Played& connected(bool session_present = false, const char* properties = "00") {
        open();
        said();
        const std::string p = properties;
        const std::size_t n = test::from_hex(p).size();
        hear(session.version() == Version::v5 ? "20 " + digits(n + 2) + (session_present ? " 01 00 " : " 00 00 ") + p
                                              : std::string(session_present ? "20 02 01 00" : "20 02 00 00"));
        REQUIRE(take().kind == Kind::connected);
        return *this;
    }
    // What is to be written, taken.
    std::string said() {
        const Bytes out = session.pending(now);
        const std::string all = test::to_hex(out);
        session.wrote(out.size(), now);
        return all;
    }
    Error hear(const std::string& spaced) {
        const test::Buffer bytes = test::from_hex(spaced);
        Bytes from(bytes);
        for (;;) {
            mqtt::Event event;
            const auto there = session.next(from, now, event);
            if (!there) return there.error();
            if (!*there) return {};
            told.push_back({event.kind, event.token, event.error, event.reason, text(event.packet.topic), text(event.packet.payload)});
        }
    }
    Told take() {
        if (told.empty()) REQUIRE(hear("") == Error());
        REQUIRE_FALSE(told.empty());
        const Told first = told.front();
        told.erase(told.begin());
        return first;
    }
    bool quiet() { return hear("") == Error() && told.empty(); }
    Token publish(const char* topic, const char* payload, Qos qos, Duration expiry = {}) {
        Message m;
        m.topic = topic;
        m.payload = TextView(payload).bytes();
        m.qos = qos;
        m.expiry = expiry;
        const auto token = session.publish(m, now);
        REQUIRE(token);
        return *token;
    }
    Token subscribe(const char* filter, Qos qos = Qos::exactly_once) {
        Subscription s;
        s.filter = filter;
        s.qos = qos;
        const auto token = session.subscribe(s);
        REQUIRE(token);
        return *token;
    }
    TimePoint now = TimePoint() + Duration::seconds(1000);
    Session session;
    std::vector<Told> told;
};

}  // namespace

TEST_CASE("CONNECT is the first that is said, and nothing else before the answer: MQTT-3.1.0-1") {
    Played p;
    p.publish("t", "x", Qos::at_most_once);
    p.subscribe("a");
    p.open();
    CHECK(p.said() == hex("10 0e 00 04 4d 51 54 54 04 00 00 1e 00 02 6d 65"));
    CHECK(p.said().empty());
    CHECK(p.hear("20 02 00 00") == Error());
    CHECK(p.take().kind == Kind::connected);
    CHECK(p.said() == hex("82 06 00 01 00 01 61 02 30 04 00 01 74 78"));
    CHECK(p.take().kind == Kind::delivered);
}

TEST_CASE("5.0 says what this side takes, and goes on with its session when it comes back") {
    Limits limits;
    limits.packet = 1000;
    Played p(Version::v5, limits, true);
    p.open();
    const std::string first = p.said();
    CHECK(first == hex("10 1f 00 04 4d 51 54 54 05 02 00 1e 10 11 00 00 01 2c 21 00 40 27 00 00 03 e8 22 00 10 00 02 6d 65"));
    p.hear("20 03 00 00 00");
    p.open();
    CHECK(p.said() == hex("10 1f 00 04 4d 51 54 54 05 00 00 1e 10 11 00 00 01 2c 21 00 40 27 00 00 03 e8 22 00 10 00 02 6d 65"));
}

TEST_CASE("QoS 0 is delivered when it was written, and again in full when that broke off") {
    Played p;
    p.connected();
    const Token token = p.publish("t", "hello", Qos::at_most_once);
    CHECK(p.session.pending(p.now).size() == 10);
    p.session.wrote(4, p.now);
    CHECK(p.quiet());
    p.connected(true);
    CHECK(p.said() == hex("30 08 00 01 74 68 65 6c 6c 6f"));
    const auto told = p.take();
    CHECK(told.kind == Kind::delivered);
    CHECK(told.token == token);
    CHECK(p.session.idle());
}

TEST_CASE("QoS 1 is delivered when it was acknowledged, and sent again until then: MQTT-3.3.1-1, MQTT-4.4.0-1, MQTT-4.6.0-1") {
    Played p;
    p.connected();
    const Token one = p.publish("t", "1", Qos::at_least_once), two = p.publish("t", "2", Qos::at_least_once);
    CHECK(p.said() == hex("32 06 00 01 74 00 01 31 32 06 00 01 74 00 02 32"));
    p.hear("40 02 00 01");
    CHECK(p.take().token == one);
    // Nothing is sent again while the connection lasts.
    CHECK(p.said().empty());
    p.connected(true);
    const Token three = p.publish("t", "3", Qos::at_least_once);
    CHECK(p.said() == hex("3a 06 00 01 74 00 02 32 32 06 00 01 74 00 03 33"));
    p.hear("40 02 00 03 40 02 00 02 40 02 00 77");
    CHECK(p.take().token == three);
    CHECK(p.take().token == two);
    CHECK(p.quiet());
    CHECK(p.session.queued() == 0);
}

TEST_CASE("QoS 2 goes through all four steps, and from the one where it was when it comes back: MQTT-4.3.3-2, MQTT-4.3.3-8") {
    Played p;
    p.connected();
    const Token one = p.publish("t", "1", Qos::exactly_once);
    CHECK(p.said() == hex("34 06 00 01 74 00 01 31"));
    p.connected(true);
    CHECK(p.said() == hex("3c 06 00 01 74 00 01 31"));
    p.hear("50 02 00 01");
    CHECK(p.said() == hex("62 02 00 01"));
    CHECK(p.quiet());
    p.connected(true);
    CHECK(p.said() == hex("62 02 00 01"));  // never the message again
    p.hear("50 02 00 01");
    CHECK(p.said() == hex("62 02 00 01"));
    p.hear("70 02 00 01");
    const auto told = p.take();
    CHECK(told.kind == Kind::delivered);
    CHECK(told.token == one);
    CHECK(p.session.idle());
}

TEST_CASE("a server that has forgotten the session gets everything anew, but for what it had taken") {
    Played p;
    p.connected();
    p.subscribe("a");
    CHECK(p.said() == hex("82 06 00 01 00 01 61 02"));
    p.hear("90 03 00 01 02");
    CHECK(p.take().kind == Kind::subscribed);
    const Token taken = p.publish("t", "1", Qos::exactly_once), lost = p.publish("t", "2", Qos::exactly_once);
    p.publish("t", "3", Qos::at_least_once);
    p.said();
    p.hear("50 02 00 02");
    p.said();
    p.publish("t", "4", Qos::at_least_once);
    p.connected(false);
    CHECK(p.take().token == taken);
    CHECK(p.said() == hex("82 06 00 05 00 01 61 02 34 06 00 01 74 00 06 32 32 06 00 01 74 00 07 33 32 06 00 01 74 00 08 34"));
    p.hear("50 02 00 06 70 02 00 06");
    CHECK(p.take().token == lost);
}

TEST_CASE("what comes is told once for each QoS, and acknowledged when it was dealt with: MQTT-4.3.2-4, MQTT-4.3.3-9") {
    Played p;
    p.connected();
    p.hear("30 04 00 01 74 30");
    CHECK(p.take().payload == "0");
    CHECK(p.said().empty());
    const test::Buffer bytes = test::from_hex("32 06 00 01 74 00 09 31");
    Bytes from(bytes);
    mqtt::Event event;
    REQUIRE(*p.session.next(from, p.now, event));
    CHECK(event.kind == Kind::message);
    CHECK(p.said().empty());  // not dealt with yet
    REQUIRE_FALSE(*p.session.next(from, p.now, event));
    CHECK(p.said() == hex("40 02 00 09"));

    p.hear("34 06 00 01 74 00 07 32");
    CHECK(p.take().payload == "2");
    CHECK(p.said() == hex("50 02 00 07"));
    p.hear("3c 06 00 01 74 00 07 32");  // again
    CHECK(p.quiet());
    CHECK(p.said() == hex("50 02 00 07"));
    p.connected(true);
    p.hear("3c 06 00 01 74 00 07 32");  // and over another connection
    CHECK(p.quiet());
    CHECK(p.said() == hex("50 02 00 07"));
    p.hear("62 02 00 07");
    CHECK(p.said() == hex("70 02 00 07"));
    p.hear("34 06 00 01 74 00 07 33");  // another one, of that number
    CHECK(p.take().payload == "3");
    p.said();
    p.connected(false);
    p.hear("34 06 00 01 74 00 07 34");  // a server that has forgotten begins again
    CHECK(p.take().payload == "4");
    p.said();
    p.hear("62 02 00 63");
    CHECK(p.said() == hex("70 02 00 63"));
}

TEST_CASE("5.0 says when a number means nothing: MQTT-4.3.3-7") {
    Played p(Version::v5);
    p.connected();
    p.hear("62 02 00 63");
    CHECK(p.said() == hex("70 03 00 63 92"));
    p.hear("50 02 00 63");
    CHECK(p.said() == hex("62 03 00 63 92"));
    p.hear("70 02 00 63 40 02 00 63 90 04 00 63 00 00");
    CHECK(p.quiet());
    CHECK(p.said().empty());
}

TEST_CASE("subscriptions are asked for, answered, refused, and taken back") {
    Played p(Version::v5);
    p.connected();
    const Token a = p.subscribe("a"), b = p.subscribe("b", Qos::at_least_once);
    CHECK(p.said() == hex("82 07 00 01 00 00 01 61 02 82 07 00 02 00 00 01 62 01"));
    p.hear("90 04 00 02 00 87");
    auto told = p.take();
    CHECK(told.kind == Kind::subscribed);
    CHECK(told.token == b);
    CHECK(told.reason == Reason::not_authorized);
    p.hear("90 04 00 01 00 01");
    told = p.take();
    CHECK(told.token == a);
    CHECK(told.reason == Reason::granted_qos_1);
    p.connected(false);  // one that was refused is not asked for again
    CHECK(p.said() == hex("82 07 00 03 00 00 01 61 02"));
    p.hear("90 04 00 03 00 02");
    CHECK(p.take().token == a);
    p.connected(true);
    CHECK(p.said().empty());
    CHECK(p.session.unsubscribe("b").error() == Errc::invalid_argument);
    REQUIRE(p.session.unsubscribe("a"));
    CHECK(p.said() == hex("a2 06 00 04 00 00 01 61"));
    p.connected(true);
    CHECK(p.said() == hex("a2 06 00 05 00 00 01 61"));  // it was not answered
    p.hear("b0 04 00 05 00 11");
    told = p.take();
    CHECK(told.kind == Kind::unsubscribed);
    CHECK(told.reason == Reason::no_subscription_existed);
    p.connected(false);
    CHECK(p.said().empty());

    // Asked for anew while the first question is open: the answer to that is nobody's.
    p.subscribe("c");
    p.said();
    const Token again = p.subscribe("c", Qos::at_most_once);
    CHECK(p.said() == hex("82 07 00 07 00 00 01 63 00"));
    p.hear("90 04 00 06 00 02");
    CHECK(p.quiet());
    p.hear("90 04 00 07 00 00");
    CHECK(p.take().token == again);
}

TEST_CASE("no more is under way than both sides allow: MQTT-3.3.4-7, MQTT-3.3.4-9") {
    Limits limits;
    limits.in_flight = 3;
    Played p(Version::v5, limits);
    p.connected(false, "03 21 00 02");
    for (int i = 0; i < 5; ++i) p.publish("t", "x", Qos::at_least_once);
    p.publish("t", "0", Qos::at_most_once);  // keeps its place
    CHECK(p.said() == hex("32 07 00 01 74 00 01 00 78 32 07 00 01 74 00 02 00 78"));
    CHECK(p.said().empty());
    p.hear("40 02 00 01");
    CHECK(p.said() == hex("32 07 00 01 74 00 03 00 78"));
    p.hear("40 02 00 02");
    CHECK(p.said() == hex("32 07 00 01 74 00 04 00 78"));
    p.hear("40 02 00 03");
    CHECK(p.said() == hex("32 07 00 01 74 00 05 00 78 30 05 00 01 74 00 30"));

    Limits few;
    few.receive_maximum = 2;
    Played q(Version::v5, few);
    q.connected();
    CHECK(q.hear("34 06 00 01 74 00 01 00 34 06 00 01 74 00 02 00") == Error());
    CHECK(q.hear("34 06 00 01 74 00 03 00") == Errc::malformed);
    CHECK(q.session.violation() == Violation::receive_maximum);
}

TEST_CASE("what is sent again keeps to what the server takes now, and nothing new overtakes it") {
    Played p(Version::v5);
    p.connected();
    for (const char* payload : {"1", "2", "3"}) p.publish("t", payload, Qos::at_least_once);
    p.said();
    p.publish("t", "4", Qos::at_least_once);
    p.connected(true, "03 21 00 01");
    CHECK(p.said() == hex("3a 07 00 01 74 00 01 00 31"));
    CHECK(p.said().empty());
    p.hear("40 02 00 01");
    CHECK(p.said() == hex("3a 07 00 01 74 00 02 00 32"));
    p.hear("40 02 00 02");
    p.said();
    p.hear("40 02 00 03");
    CHECK(p.said() == hex("32 07 00 01 74 00 04 00 34"));
}

TEST_CASE("an acknowledgement counts although the message is about to be sent again") {
    for (bool exactly_once : {false, true}) {
        Played p(Version::v5);
        p.connected();
        const Token token = p.publish("t", "1", exactly_once ? Qos::exactly_once : Qos::at_least_once);
        p.said();
        p.connected(true);
        p.hear(exactly_once ? "50 02 00 01 70 02 00 01" : "40 02 00 01");
        const auto told = p.take();
        CHECK(told.kind == Kind::delivered);
        CHECK(told.token == token);
        CHECK(p.said() == hex(exactly_once ? "62 02 00 01" : ""));
    }
}

TEST_CASE("messages in memory are bounded, and their sender is told when there is room again") {
    Limits limits;
    limits.queue = 1000;
    Played p(Version::v3_1_1, limits);
    Message m;
    m.topic = "t";
    const std::string large(900, 'x'), larger(940, 'x');
    m.payload = TextView(larger).bytes();
    CHECK(p.session.publish(m, p.now).error() == Errc::too_large);
    m.payload = TextView(large).bytes();
    REQUIRE(p.session.publish(m, p.now));
    CHECK(p.session.queued() == 965);
    CHECK(p.session.publish(m, p.now).error() == Errc::would_block);
    CHECK_FALSE(p.session.drained());
    p.connected();
    p.said();
    CHECK(p.session.drained());
    CHECK_FALSE(p.session.drained());
    CHECK(p.session.queued() == 0);
}

TEST_CASE("what a server cannot take is told, and not sent: MQTT-3.2.2-11, MQTT-3.2.2-14, MQTT-3.2.2-15") {
    Played p(Version::v5);
    const Token two = p.publish("t", "2", Qos::exactly_once), long_one = p.publish("t", "much too long", Qos::at_most_once);
    Message retained;
    retained.topic = "t";
    retained.retain = true;
    REQUIRE(p.session.publish(retained, p.now));
    const Token good = p.publish("t", "1", Qos::at_least_once);
    p.connected(false, "09 24 01 25 00 27 00 00 00 0a");
    CHECK(p.said() == hex("32 07 00 01 74 00 01 00 31"));
    auto told = p.take();
    CHECK(told.kind == Kind::failed);
    CHECK(told.token == two);
    CHECK(told.error == Errc::unsupported);
    told = p.take();
    CHECK(told.token == long_one);
    CHECK(told.error == Errc::too_large);
    CHECK(p.take().error == Errc::unsupported);
    p.hear("40 03 00 01 97");
    told = p.take();
    CHECK(told.token == good);
    CHECK(told.kind == Kind::failed);
    CHECK(told.reason == Reason::quota_exceeded);
}

TEST_CASE("a message that has expired is not sent, and the server is told how long it has: MQTT-3.3.2-5, MQTT-3.3.2-6") {
    Played p(Version::v5);
    p.publish("t", "1", Qos::at_most_once, Duration::seconds(10));
    const Token early = p.publish("t", "2", Qos::at_least_once, Duration::seconds(3));
    CHECK(p.session.deadline() == p.now + Duration::seconds(3));
    p.now = p.now + Duration::milliseconds(4500);
    CHECK(p.session.expire(p.now) == Error());
    const auto told = p.take();
    CHECK(told.kind == Kind::failed);
    CHECK(told.token == early);
    CHECK(told.error == Errc::timed_out);
    p.connected();
    CHECK(p.said() == hex("30 0a 00 01 74 05 02 00 00 00 06 31"));
    CHECK(p.take().kind == Kind::delivered);
}

TEST_CASE("a message that waits again, as its connection was lost, still expires") {
    for (bool with_qos : {false, true}) {
        Played p(Version::v5);
        p.connected();
        p.publish("t", "1", with_qos ? Qos::at_least_once : Qos::at_most_once, Duration::seconds(10));
        static_cast<void>(p.session.pending(p.now));
        p.now = p.now + Duration::seconds(1);
        REQUIRE(p.session.expire(p.now) == Error());
        if (with_qos) p.connected(false);
        p.session.lost();
        if (!with_qos) CHECK(p.session.deadline() == p.now + Duration::seconds(9));
        p.now = p.now + Duration::seconds(10);
        REQUIRE(p.session.expire(p.now) == Error());
        CHECK(p.take().error == Errc::timed_out);
    }
}

TEST_CASE("an expiry that is longer than can be said is none") {
    for (Duration expiry : {Duration::unlimited(), Duration::seconds(std::int64_t{UINT32_MAX} + 1), Duration::seconds(UINT32_MAX)}) {
        Played p(Version::v5);
        p.connected();
        p.publish("t", "1", Qos::at_most_once, expiry);
        CHECK(p.said() == hex(expiry == Duration::seconds(UINT32_MAX) ? "30 0a 00 01 74 05 02 ff ff ff ff 31" : "30 05 00 01 74 00 31"));
    }
}

TEST_CASE("a quiet server is asked for a sign of life, and one that gives none is dead: MQTT-3.1.2-23") {
    Played p;
    p.open();
    CHECK(p.session.deadline() == p.now + Duration::seconds(10));
    p.now = p.now + Duration::seconds(10);
    CHECK(p.session.expire(p.now) == Errc::unresponsive);
    p.connected();
    CHECK(p.session.deadline() == p.now + Duration::seconds(30));
    p.now = p.now + Duration::seconds(20);
    p.publish("t", "x", Qos::at_most_once);
    p.said();
    CHECK(p.session.deadline() == p.now + Duration::seconds(10));  // sending alone proves nothing
    p.now = p.now + Duration::seconds(10);
    CHECK(p.session.expire(p.now) == Error());
    CHECK(p.said() == hex("c0 00"));
    CHECK(p.session.deadline() == p.now + Duration::seconds(10));
    p.now = p.now + Duration::seconds(9);
    p.hear("d0 00");
    CHECK(p.session.expire(p.now + Duration::seconds(1)) == Error());
    CHECK(p.said().empty());
    p.now = p.session.deadline();
    CHECK(p.session.expire(p.now) == Error());
    p.now = p.session.deadline();
    CHECK(p.session.expire(p.now) == Errc::unresponsive);
    Played told(Version::v5);
    told.connected(false, "03 13 00 08");
    CHECK(told.session.deadline() == told.now + Duration::seconds(6));  // before the 8 s that the server says
}

TEST_CASE("a server that refuses, or ends the connection, says why") {
    Played p;
    p.open();
    p.said();
    CHECK(p.hear("20 02 00 05") == Error());
    auto told = p.take();
    CHECK(told.kind == Kind::refused);
    CHECK(told.reason == Reason::not_authorized);
    CHECK(p.session.state() == Session::State::closed);

    Played q(Version::v5);
    q.open();
    q.said();
    const test::Buffer bytes = test::from_hex("20 09 00 9c 06 1c 00 03 61 2e 62");
    Bytes from(bytes);
    mqtt::Event event;
    REQUIRE(*q.session.next(from, q.now, event));
    CHECK(event.kind == Kind::refused);
    CHECK(event.reason == Reason::use_another_server);
    CHECK(text(event.packet.properties.text(Property::server_reference)) == "a.b");
    q.connected();
    q.hear("e0 01 8b");
    told = q.take();
    CHECK(told.kind == Kind::disconnected);
    CHECK(told.reason == Reason::server_shutting_down);
    CHECK(q.session.state() == Session::State::closed);
}

TEST_CASE("leaving is said behind everything else, once, and nothing after it: MQTT-3.14.4-2") {
    Played p(Version::v5);
    p.connected();
    p.publish("t", "x", Qos::at_most_once);
    CHECK(p.session.pending(p.now).size() == 7);
    REQUIRE(p.session.leave());
    REQUIRE(p.session.leave());
    p.publish("t", "y", Qos::at_most_once);
    CHECK(p.said() == hex("30 05 00 01 74 00 78 e0 00"));
    CHECK(p.said().empty());
    CHECK(p.hear("32 07 00 01 61 00 05 00 78") == Error());
    CHECK(p.take().kind == Kind::delivered);
    CHECK(p.take().payload == "x");
    CHECK(p.quiet());
    p.now = p.session.deadline();
    CHECK(p.session.expire(p.now) == Error());
    CHECK(p.said().empty());
    Played q(Version::v5);
    q.connected();
    REQUIRE(q.session.leave(Reason::disconnect_with_will));
    CHECK(q.said() == hex("e0 01 04"));
}

TEST_CASE("topic aliases stand for topics on one connection: MQTT-3.3.2-8, MQTT-3.3.2-9") {
    Played p(Version::v5);
    p.connected();
    p.hear("30 09 00 02 61 62 03 23 00 02 31 30 07 00 00 03 23 00 02 32");
    CHECK(p.take().topic == "ab");
    const auto second = p.take();
    CHECK(second.topic == "ab");
    CHECK(second.payload == "2");
    p.hear("30 08 00 01 63 03 23 00 02 33 30 07 00 00 03 23 00 02 34");
    p.take();
    CHECK(p.take().topic == "c");
    p.connected(true);
    CHECK(p.hear("30 07 00 00 03 23 00 02 32") == Errc::malformed);
    CHECK(p.session.violation() == Violation::topic_alias);
    CHECK(p.said() == hex("e0 01 94"));
    p.connected(true);
    CHECK(p.hear("30 08 00 01 63 03 23 00 11 33") == Errc::malformed);
}

TEST_CASE("a server that breaks the protocol is told so in 5.0, and the session can go on over another connection") {
    for (const auto& [bytes, violation, said] :
         {std::tuple<const char*, Violation, const char*>{"00 00", Violation::reserved_type, "e0 01 81"},
          {"30 ff ff ff 7f", Violation::packet_too_large, "e0 01 95"},
          {"f0 01 18", Violation::authentication_unasked, "e0 01 82"},
          {"90 05 00 01 00 00 00", Violation::wrong_count_of_codes, "e0 01 82"},
          {"50 02 00 02", Violation::qos_not_granted, "e0 01 82"},
          {"70 02 00 02", Violation::qos_not_granted, "e0 01 82"},
          {"40 02 00 03", Violation::qos_not_granted, "e0 01 82"},
          {"b0 04 00 01 00 00", Violation::qos_not_granted, "e0 01 82"}}) {
        CAPTURE(bytes);
        Played p(Version::v5);
        p.connected();
        p.subscribe("a");
        p.publish("t", "1", Qos::at_least_once);
        p.publish("t", "2", Qos::exactly_once);
        p.said();
        CHECK(p.hear(bytes) == (violation == Violation::packet_too_large ? Errc::too_large : Errc::malformed));
        CHECK(p.session.violation() == violation);
        CHECK(p.said() == hex(said));
        CHECK(p.session.state() == Session::State::closed);
        p.connected(true);
        CHECK(p.said() == hex("82 07 00 04 00 00 01 61 02 3a 07 00 01 74 00 02 00 31 3c 07 00 01 74 00 03 00 32"));
    }
}

TEST_CASE("what may not be said is refused before it is accepted") {
    Connect connect;
    Limits limits;
    const auto refused = [&](Version version) { return Session(version, limits).configure(connect).error() == Errc::invalid_argument; };
    connect.clean = false;
    CHECK(refused(Version::v3_1_1));  // no name, and not clean: MQTT-3.1.3-7
    connect.client_id = "\xff";
    CHECK(refused(Version::v5));
    connect.client_id = "me";
    const Bytes password = TextView("x").bytes();
    connect.password = &password;
    CHECK(refused(Version::v3_1_1));  // MQTT-3.1.2-22
    connect.password = nullptr;
    Will will;
    connect.will = &will;
    CHECK(refused(Version::v3_1_1));
    will.topic = "a/#";
    CHECK(refused(Version::v3_1_1));
    connect.will = nullptr;
    limits.in_flight = 0;
    CHECK(refused(Version::v3_1_1));
    limits = {};
    PropertyWriter twice(PacketType::connect);
    twice.number(Property::receive_maximum, 5);
    connect.properties = twice.bytes();
    CHECK(refused(Version::v5));
    CHECK(refused(Version::v3_1_1));

    connect.properties = {};
    Session twice_configured(Version::v5, limits);
    REQUIRE(twice_configured.configure(connect));
    REQUIRE(twice_configured.configure(connect));
    REQUIRE(twice_configured.opened(TimePoint()));
    CHECK(twice_configured.pending(TimePoint()).size() == 33);

    Played p(Version::v5);
    Message m;
    for (const char* topic : {"", "a/#", "+", "\xff"}) {
        m.topic = topic;
        CHECK(p.session.publish(m, p.now).error() == Errc::invalid_argument);
    }
    m.topic = "t";
    PropertyWriter alias(PacketType::publish), id(PacketType::publish), good(PacketType::publish);
    alias.number(Property::topic_alias, 1);
    id.number(Property::subscription_identifier, 1);
    for (const PropertyWriter* bad : {&alias, &id}) {
        m.properties = bad->bytes();
        CHECK(p.session.publish(m, p.now).error() == Errc::invalid_argument);
    }
    good.text(Property::response_topic, "back");
    m.properties = good.bytes();
    CHECK(p.session.publish(m, p.now));
    Played old;
    CHECK(old.session.publish(m, old.now).error() == Errc::invalid_argument);
    Subscription s;
    s.filter = "a#";
    CHECK(p.session.subscribe(s).error() == Errc::invalid_argument);
}

TEST_CASE("a server that does not read makes nothing grow") {
    Limits limits;
    limits.queue = 10'000'000;
    limits.in_flight = 60'000;
    Played p(Version::v3_1_1, limits);
    p.connected();
    const std::string kilobyte(1000, 'x');
    for (int i = 0; i < 1000; ++i) p.publish("t", kilobyte.c_str(), Qos::at_least_once);
    std::size_t most = 0;
    for (int i = 0; i < 10'000; ++i) {
        const std::size_t n = p.session.pending(p.now).size();
        if (n > most) most = n;
        p.session.wrote(n < 100 ? n : 100, p.now);  // a little now and then
    }
    CHECK(most < 70'000);
}

TEST_CASE("numbers go round, and none is used twice at once: MQTT-2.3.1-1, MQTT-2.3.1-4") {
    Played p;
    p.connected();
    p.publish("t", "first", Qos::at_least_once);
    p.said();
    for (int i = 2; i < 65'536 + 10; ++i) {
        p.publish("t", "x", Qos::at_least_once);
        const std::string said = p.said();
        REQUIRE(said.size() == 16);
        const std::string id = said.substr(10, 4);
        REQUIRE(id != "0000");
        REQUIRE(id != "0001");
        p.hear("40 02 " + id.substr(0, 2) + ' ' + id.substr(2));
        p.told.clear();
    }
}
