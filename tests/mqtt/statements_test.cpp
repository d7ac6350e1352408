// SPDX-License-Identifier: BSL-1.0
// The statements of 3.1.1's appendix B about what a client says and hears, as far as no other test here names them. What only a server does
// has no test.
#include "mqtt/talk.hpp"

using namespace rejoin;
using namespace rejoin::mqtt;
using test::hex;
using test::versions;

namespace {

std::string said(Version version, const auto& packet) { return test::said(version, packet); }
std::string said(const auto& packet) { return test::said(Version::v3_1_1, packet); }

struct Talk : test::Talk {
    Talk() : test::Talk(Version::v3_1_1) {}
};

}  // namespace

TEST_CASE("a byte order mark is a character as any other: MQTT-1.5.3-3") {
    Talk talk;
    talk.hear("30 06 00 04 ef bb bf 61");
    CHECK(talk.heard ==
          "\xef\xbb\xbf"
          "a ");
    Publish publish;
    publish.topic =
        "\xef\xbb\xbf"
        "a";
    CHECK(said(publish) == hex("30 06 00 04 ef bb bf 61"));
}

TEST_CASE("flags of fixed headers are as listed: MQTT-2.2.2-1, MQTT-3.6.1-1, MQTT-3.8.1-1, MQTT-3.10.1-1, MQTT-3.14.1-1") {
    for (Version version : versions) {
        const auto first = [&](const auto& packet) { return said(version, packet).substr(0, 2); };
        Subscription one;
        one.filter = "a";
        CHECK(first(Connect()) == "10");
        CHECK(first(Acknowledge{PacketType::puback, 1, Reason::success}) == "40");
        CHECK(first(Acknowledge{PacketType::pubrec, 1, Reason::success}) == "50");
        CHECK(first(Acknowledge{PacketType::pubrel, 1, Reason::success}) == "62");
        CHECK(first(Acknowledge{PacketType::pubcomp, 1, Reason::success}) == "70");
        CHECK(first(Subscribe{PacketType::subscribe, 1, {&one, 1}, {}}) == "82");
        CHECK(first(Subscribe{PacketType::unsubscribe, 1, {&one, 1}, {}}) == "a2");
        CHECK(first(Leave{PacketType::disconnect, Reason::success, {}}) == "e0");
    }
    CHECK(test::to_hex(pingreq) == "c000");
}

TEST_CASE("identifiers: MQTT-2.3.1-2, MQTT-2.3.1-3, MQTT-2.3.1-5, MQTT-2.3.1-6, MQTT-2.3.1-7") {
    Talk talk;
    talk.says();
    talk.publish("q", Qos::at_most_once);
    CHECK(talk.says() == hex("30 03 00 01 71"));  // none with QoS 0
    talk.publish("a", Qos::at_least_once);
    talk.publish("b", Qos::exactly_once);
    Subscription filter;
    filter.filter = "f";
    REQUIRE(talk.session.subscribe(filter));
    // Each has another.
    CHECK(talk.says() == hex("82 06 00 01 00 01 66 00  32 05 00 01 61 00 02  34 05 00 01 62 00 03"));
    // Sent again, the same.
    talk.session.lost();
    talk.again(true);
    CHECK(talk.says() == hex("10 0e 00 04 4d 51 54 54 04 00 00 1e 00 02 6d 65"
                             "82 06 00 04 00 01 66 00  3a 05 00 01 61 00 02  3c 05 00 01 62 00 03"));
    // What is acknowledged is known by it, and what acknowledges has it.
    talk.hear("50 02 00 03");
    CHECK(talk.says() == hex("62 02 00 03"));
    talk.hear("90 03 00 04 00");
    talk.hear("40 02 00 02 70 02 00 03");
    CHECK(talk.session.idle());
    talk.hear("32 05 00 01 61 12 34");
    CHECK(talk.says() == hex("40 02 12 34"));
}

TEST_CASE("CONNECT is said once, with a name, a level, and a reserved flag of 0: MQTT-3.1.0-2, MQTT-3.1.2-1, MQTT-3.1.2-3") {
    Talk talk;
    CHECK(talk.says() == hex("10 0e 00 04 4d 51 54 54 04 00 00 1e 00 02 6d 65"));
    talk.publish("a", Qos::at_least_once);
    CHECK(talk.says().substr(0, 2) == "32");
}

TEST_CASE("a will is there, or nothing of it is: MQTT-3.1.2-9, MQTT-3.1.2-11, MQTT-3.1.2-13, MQTT-3.1.2-14, MQTT-3.1.2-15") {
    Connect connect;
    connect.client_id = "me";
    CHECK(said(connect) == hex("10 0e 00 04 4d 51 54 54 04 02 00 00 00 02 6d 65"));
    Will will;
    will.topic = "t";
    will.payload = TextView("x").bytes();
    connect.will = &will;
    CHECK(said(connect).substr(18, 2) == "06");
    will.retain = true;
    will.qos = Qos::exactly_once;
    CHECK(said(connect) == hex("10 14 00 04 4d 51 54 54 04 36 00 00 00 02 6d 65 00 01 74 00 01 78"));
    will.qos = static_cast<Qos>(3);
    CHECK(Session(Version::v3_1_1, Limits()).configure(connect).error() == Errc::invalid_argument);
}

TEST_CASE("user name and password have flags, and are there or not: MQTT-3.1.2-18, MQTT-3.1.2-19, MQTT-3.1.2-20, MQTT-3.1.2-21") {
    Connect connect;
    connect.client_id = "me";
    const TextView user = "u";
    const Bytes password = TextView("p").bytes();
    connect.user_name = &user;
    CHECK(said(connect) == hex("10 11 00 04 4d 51 54 54 04 82 00 00 00 02 6d 65 00 01 75"));
    connect.password = &password;
    CHECK(said(connect) == hex("10 14 00 04 4d 51 54 54 04 c2 00 00 00 02 6d 65 00 01 75 00 01 70"));
}

TEST_CASE("CONNECT's texts are in order, and UTF-8: MQTT-3.1.3-1, MQTT-3.1.3-3, MQTT-3.1.3-4, MQTT-3.1.3-10, MQTT-3.1.3-11") {
    const TextView user = "u", bad = "\xff";
    const Bytes password = TextView("p").bytes();
    Will will;
    will.topic = "t";
    will.payload = TextView("x").bytes();
    Connect connect;
    connect.client_id = "me";
    connect.will = &will;
    connect.user_name = &user;
    connect.password = &password;
    CHECK(said(connect).substr(24) == hex("00 02 6d 65 00 01 74 00 01 78 00 01 75 00 01 70"));
    for (Version version : versions) {
        const auto refused = [&](const Connect& with) {
            return Session(version, Limits()).configure(with).error() == Errc::invalid_argument;
        };
        CHECK_FALSE(refused(connect));
        Connect other = connect;
        other.client_id = bad;
        CHECK(refused(other));
        other = connect;
        other.user_name = &bad;
        CHECK(refused(other));
        other = connect;
        Will wrong = will;
        wrong.topic = bad;
        other.will = &wrong;
        CHECK(refused(other));
    }
}

TEST_CASE("PUBLISH is said as its QoS has it: MQTT-3.3.2-1, MQTT-4.3.1-1, MQTT-4.3.2-1, MQTT-4.3.3-1") {
    Talk talk;
    talk.says();
    talk.publish("a", Qos::at_most_once);
    talk.publish("a", Qos::at_least_once);
    talk.publish("a", Qos::exactly_once);
    CHECK(talk.says() == hex("30 03 00 01 61  32 05 00 01 61 00 01  34 05 00 01 61 00 02"));
    CHECK_FALSE(talk.session.idle());
    talk.hear("40 02 00 01");
    talk.hear("50 02 00 02");
    CHECK_FALSE(talk.session.idle());
    CHECK(talk.says() == hex("62 02 00 02"));
    talk.hear("70 02 00 02");
    CHECK(talk.session.idle());
    Message bad;
    bad.topic = "\xff";
    CHECK(talk.session.publish(bad, talk.now).error() == Errc::invalid_argument);
}

TEST_CASE("every PUBLISH is answered as its QoS has it, whatever DUP says: MQTT-3.3.1-3, MQTT-3.3.4-1, MQTT-4.3.2-2, MQTT-4.5.0-2") {
    Talk talk;
    talk.says();
    talk.hear("30 03 00 01 61  32 05 00 01 62 00 07  34 05 00 01 63 00 08");
    CHECK(talk.says() == hex("40 02 00 07  50 02 00 08"));
    talk.hear("3a 05 00 01 62 00 07  3c 05 00 01 63 00 08");
    CHECK(talk.says() == hex("40 02 00 07  50 02 00 08"));
    talk.hear("62 02 00 08");
    CHECK(talk.says() == hex("70 02 00 08"));
    CHECK(talk.heard == "a b c b ");
}

TEST_CASE("answers are in the order of what they answer: MQTT-4.6.0-2, MQTT-4.6.0-3, MQTT-4.6.0-4") {
    Talk talk;
    talk.says();
    talk.hear("32 05 00 01 61 00 09  32 05 00 01 61 00 03  34 05 00 01 61 00 08  34 05 00 01 61 00 02");
    CHECK(talk.says() == hex("40 02 00 09  40 02 00 03  50 02 00 08  50 02 00 02"));
    for (int i = 0; i < 2; ++i) talk.publish("a", Qos::exactly_once);
    talk.says();
    talk.hear("50 02 00 02 50 02 00 01");
    CHECK(talk.says() == hex("62 02 00 02  62 02 00 01"));
}

TEST_CASE("SUBSCRIBE and UNSUBSCRIBE: MQTT-3.8.3-1, MQTT-3.8.3-3, MQTT-3.8.3-4, MQTT-3.9.3-1, MQTT-3.10.3-1, MQTT-3.10.3-2") {
    Talk talk;
    talk.says();
    Subscription filter;
    for (const char* bad : {"", "\xff", "a#", "#/a", "a+"}) {
        filter.filter = bad;
        CHECK(talk.session.subscribe(filter).error() == Errc::invalid_argument);
        CHECK(talk.session.unsubscribe(bad).error() == Errc::invalid_argument);
    }
    filter.qos = Qos::exactly_once;
    for (const char* good : {"a", "b"}) {
        filter.filter = good;
        REQUIRE(talk.session.subscribe(filter));
    }
    // One filter in each at least, and no bit beside its QoS; each code is that of its filter.
    CHECK(talk.says() == hex("82 06 00 01 00 01 61 02  82 06 00 02 00 01 62 02"));
    talk.hear("90 03 00 02 80 90 03 00 01 02");
    REQUIRE(talk.session.unsubscribe("a"));
    CHECK(talk.session.unsubscribe("b").error() == Errc::invalid_argument);  // it was refused
    CHECK(talk.says() == hex("a2 05 00 03 00 01 61"));
}

TEST_CASE("a session is kept while there is no connection: MQTT-4.1.0-1") {
    Talk talk;
    talk.says();
    talk.hear("34 05 00 01 61 00 08");
    talk.publish("b", Qos::exactly_once);
    talk.says();
    talk.hear("50 02 00 01");
    talk.says();
    talk.session.lost();
    talk.again(true);
    CHECK(talk.says() == hex("10 0e 00 04 4d 51 54 54 04 00 00 1e 00 02 6d 65  62 02 00 01"));
    talk.hear("3c 05 00 01 61 00 08");  // it was had already
    CHECK(talk.heard == "a ");
}

TEST_CASE("topics have neither U+0000 nor more than 65,535 bytes: MQTT-4.7.3-2, MQTT-4.7.3-3") {
    Talk talk;
    const std::string longest(65'535, 'a'), longer(65'536, 'a'), zero("a\0b", 3);
    for (const std::string& bad : {longer, zero}) {
        Message message;
        message.topic = bad;
        CHECK(talk.session.publish(message, talk.now).error() == Errc::invalid_argument);
        Subscription filter;
        filter.filter = bad;
        CHECK(talk.session.subscribe(filter).error() == Errc::invalid_argument);
    }
    Message message;
    message.topic = longest;
    CHECK(talk.session.publish(message, talk.now));
    Subscription filter;
    filter.filter = longest;
    CHECK(talk.session.subscribe(filter));
}
