// SPDX-License-Identifier: BSL-1.0
// The statements of 5.0's appendix B about what a client says, hears and does. What only a server does has no test; nor has WebSocket, over
// which this client does not go, nor enhanced authentication, which it does not ask for.
#include <vector>

#include "mqtt/talk.hpp"

using namespace rejoin;
using namespace rejoin::mqtt;
using test::hex;
using Kind = mqtt::Event::Kind;

namespace {

constexpr Version v5 = Version::v5;

std::string said(const auto& packet) { return test::said(v5, packet); }

struct Talk : test::Talk {
    explicit Talk(const std::string& properties = "00", const Limits& limits = Limits()) : test::Talk(v5, properties, limits) { says(); }
    // What the server says behind a CONNACK, if that ends the connection; and what it is told then.
    static Violation ends(const std::string& spaced, const char* told) {
        Talk talk;
        talk.subscribe("f");
        talk.says();
        talk.hear(spaced);
        CAPTURE(spaced);
        CHECK(talk.error);
        CHECK(talk.says() == hex(told));
        CHECK(talk.session.state() == Session::State::closed);
        return talk.session.violation();
    }
};

Connect named() {
    Connect connect;
    connect.client_id = "me";
    return connect;
}
Error configured(const Connect& connect) {
    const auto result = Session(v5, Limits()).configure(connect);
    return result ? Error() : result.error();
}

}  // namespace

TEST_CASE("5.0: strings are well-formed, without U+0000, and as they are: MQTT-1.5.4-1, MQTT-1.5.4-2, MQTT-1.5.4-3, MQTT-1.5.7-1") {
    CHECK(Talk::ends("30 06 00 03 ed a0 80 00", "e0 01 81") == Violation::utf8_ill_formed);
    CHECK(Talk::ends("30 04 00 01 00 00", "e0 01 81") == Violation::utf8_nul);
    Talk talk;
    talk.hear("30 07 00 04 ef bb bf 61 00");
    CHECK(talk.heard ==
          "\xef\xbb\xbf"
          "a ");
    for (const char* pair : {"26 00 01 ff 00 01 76", "26 00 01 6b 00 01 ff"})
        CHECK(Talk::ends(std::string("30 0b 00 01 61 07 ") + pair, "e0 01 81") == Violation::utf8_ill_formed);
    CHECK(PropertyWriter(PacketType::publish).user("k", "\xff").error() == Errc::invalid_argument);
    CHECK(PropertyWriter(PacketType::publish).user("\xff", "v").error() == Errc::invalid_argument);
    Message message;
    for (const char* bad : {"\xed\xa0\x80", "\xff"}) {
        message.topic = bad;
        CHECK(talk.session.publish(message, talk.now).error() == Errc::invalid_argument);
    }
}

TEST_CASE("5.0: integers of variable size are as short as they can be: MQTT-1.5.5-1") {
    CHECK(Talk::ends("30 84 00 00 01 61 00", "e0 01 81") == Violation::length_not_minimal);
    CHECK(Talk::ends("30 05 00 01 61 80 00", "e0 01 81") == Violation::length_not_minimal);
    Publish publish;
    publish.topic = "a";
    const std::string payload(124, 'x');
    for (const auto& [size, header] : {std::pair<std::size_t, const char*>{123, "30 7f"}, {124, "30 80 01"}}) {
        publish.payload = TextView(payload.data(), size).bytes();
        CHECK(said(publish).starts_with(hex(header)));
    }
}

TEST_CASE(
    "5.0: flags of fixed headers are as listed: MQTT-2.1.3-1, MQTT-3.6.1-1, MQTT-3.8.1-1, MQTT-3.10.1-1, MQTT-3.14.1-1, MQTT-3.15.1-1") {
    Subscription one;
    one.filter = "a";
    const std::string first[] = {said(Connect()),
                                 said(Acknowledge{PacketType::puback, 1, Reason::success}),
                                 said(Acknowledge{PacketType::pubrec, 1, Reason::success}),
                                 said(Acknowledge{PacketType::pubrel, 1, Reason::success}),
                                 said(Acknowledge{PacketType::pubcomp, 1, Reason::success}),
                                 said(Subscribe{PacketType::subscribe, 1, {&one, 1}, {}}),
                                 said(Subscribe{PacketType::unsubscribe, 1, {&one, 1}, {}}),
                                 said(Leave{PacketType::disconnect, Reason::success, {}}),
                                 said(Leave{PacketType::auth, Reason::continue_authentication, {}})};
    std::string all;
    for (const std::string& packet : first) all += packet.substr(0, 2) + " ";
    CHECK(all == "10 40 50 62 70 82 a2 e0 f0 ");
    for (const char* wrong :
         {"41 02 00 01", "51 02 00 01", "60 02 00 01", "72 02 00 01", "91 04 00 01 00 00", "b1 04 00 01 00 00", "d1 00", "e1 00", "f1 00"})
        CHECK(Talk::ends(wrong, "e0 01 81") == Violation::reserved_flags);
}

TEST_CASE("5.0: identifiers: MQTT-2.2.1-2, MQTT-2.2.1-3, MQTT-2.2.1-4, MQTT-2.2.1-5, MQTT-2.2.1-6, MQTT-4.3.2-1, MQTT-4.3.3-1") {
    Talk talk;
    talk.publish("q", Qos::at_most_once);
    CHECK(talk.says() == hex("30 04 00 01 71 00"));  // none with QoS 0
    talk.publish("a", Qos::at_least_once);
    talk.publish("b", Qos::exactly_once);
    talk.subscribe("f");
    CHECK(talk.says() == hex("82 07 00 01 00 00 01 66 00  32 06 00 01 61 00 02 00  34 06 00 01 62 00 03 00"));
    talk.hear("32 06 00 01 61 12 34 00  34 06 00 01 61 12 35 00  62 02 12 35");
    CHECK(talk.says() == hex("40 02 12 34  50 02 12 35  70 02 12 35"));  // each answer has that of what it answers
    talk.hear("90 04 00 01 00 00");
    CHECK(talk.last == Kind::subscribed);
    talk.hear("50 02 00 03");
    CHECK(talk.says() == hex("62 02 00 03"));
    talk.hear("40 02 00 02 70 02 00 03");
    CHECK(talk.session.idle());
    REQUIRE(talk.session.unsubscribe("f"));
    CHECK(talk.says() == hex("a2 06 00 04 00 00 01 66"));
    talk.hear("b0 04 00 04 00 00");
    CHECK(talk.last == Kind::unsubscribed);
    CHECK(Talk::ends("32 06 00 01 61 00 00 00", "e0 01 81") == Violation::packet_id_zero);
}

TEST_CASE("5.0: no properties are said as a length of zero: MQTT-2.2.2-1") {
    Publish publish;
    publish.topic = "a";
    CHECK(said(publish) == hex("30 04 00 01 61 00"));
    CHECK(said(named()) == hex("10 0f 00 04 4d 51 54 54 05 02 00 00 00 00 02 6d 65"));
    CHECK(Talk::ends("30 03 00 01 61", "e0 01 81") == Violation::property_truncated);
}

TEST_CASE(
    "5.0: CONNECT is first, once, by its name, its version, and a reserved flag of 0: MQTT-3.1.0-1, MQTT-3.1.0-2, MQTT-3.1.2-1, "
    "MQTT-3.1.2-2, MQTT-3.1.2-3") {
    Session session(v5, Limits());
    REQUIRE(session.configure(named()));
    const TimePoint now;
    Message message;
    message.topic = "t";
    REQUIRE(session.publish(message, now));
    REQUIRE(session.opened(now));
    CHECK(test::to_hex(session.pending(now)) ==
          hex("10 1f 00 04 4d 51 54 54 05 02 00 1e 10 11 00 00 01 2c 21 00 40 27 00 10 00 00 22 00 10 00 02 6d 65"));
    session.wrote(session.pending(now).size(), now);
    CHECK(session.pending(now).empty());
}

TEST_CASE("5.0: a clean start comes before there is a session, and not after: MQTT-3.1.2-4, MQTT-3.1.2-5, MQTT-3.1.2-23, MQTT-4.1.0-1") {
    Talk talk;
    talk.publish("a", Qos::exactly_once);
    talk.hear("34 06 00 01 62 00 08 00");
    talk.says();
    talk.hear("50 02 00 01");
    talk.says();
    talk.session.lost();
    talk.again(true);
    const std::string says = talk.says();
    CHECK(says.substr(18, 2) == "00");          // it goes on
    CHECK(says.ends_with(hex("62 02 00 01")));  // and nothing is forgotten
    talk.hear("3c 06 00 01 62 00 08 00");
    CHECK(talk.heard == "b ");

    Session clean(v5, Limits());
    Connect connect = named();
    REQUIRE(clean.configure(connect));
    for (const char* flags : {"02", "00"}) {
        REQUIRE(clean.opened(TimePoint()));
        CHECK(test::to_hex(clean.pending(TimePoint())).substr(18, 2) == flags);
        const test::Buffer connack = test::from_hex("20 03 00 00 00");
        Bytes from(connack);
        mqtt::Event event;
        REQUIRE(*clean.next(from, TimePoint(), event));
    }
    // It lasts as long as was agreed on, and one that began clean leaves nothing behind.
    clean.wrote(clean.pending(TimePoint()).size(), TimePoint());
    REQUIRE(clean.leave());
    CHECK(test::to_hex(clean.pending(TimePoint())) == hex("e0 07 00 05 11 00 00 00 00"));
    Talk kept;
    REQUIRE(kept.session.leave());
    CHECK(kept.says() == hex("e0 00"));
    Limits none;
    none.session_expiry = {};
    Session short_one(v5, none);
    REQUIRE(short_one.configure(connect));
    REQUIRE(short_one.opened(TimePoint()));
    CHECK(short_one.pending(TimePoint()).size() == 28);
}

TEST_CASE(
    "5.0: a will is there, or nothing of it is: MQTT-3.1.2-9, MQTT-3.1.2-11, MQTT-3.1.2-12, MQTT-3.1.2-13, MQTT-3.1.3-1, MQTT-3.1.3-3") {
    Connect connect = named();
    CHECK(said(connect).substr(18, 2) == "02");
    Will will;
    will.topic = "t";
    will.payload = TextView("x").bytes();
    will.retain = true;
    connect.will = &will;
    const TextView user = "u";
    const Bytes password = TextView("p").bytes();
    connect.user_name = &user;
    connect.password = &password;
    const char* flags[] = {"e6", "ee", "f6"};
    for (unsigned qos = 0; qos < 3; ++qos) {
        will.qos = static_cast<Qos>(qos);
        // The name, the will's properties, topic and payload, user name, password.
        CHECK(said(connect).substr(18) ==
              hex(std::string(flags[qos]) + " 00 00 00  00 02 6d 65  00 00 01 74 00 01 78  00 01 75  00 01 70"));
    }
    will.qos = static_cast<Qos>(3);
    CHECK(configured(connect) == Errc::invalid_argument);
}

TEST_CASE("5.0: user name and password have flags, and are there or not: MQTT-3.1.2-16, MQTT-3.1.2-17, MQTT-3.1.2-18, MQTT-3.1.2-19") {
    Connect connect = named();
    CHECK(said(connect).substr(18) == hex("02 00 00 00 00 02 6d 65"));
    const TextView user = "u";
    const Bytes password = TextView("p").bytes();
    connect.user_name = &user;
    CHECK(said(connect).substr(18) == hex("82 00 00 00 00 02 6d 65 00 01 75"));
    connect.user_name = nullptr;
    connect.password = &password;
    CHECK(said(connect).substr(18) == hex("42 00 00 00 00 02 6d 65 00 01 70"));
    CHECK_FALSE(configured(connect));
}

TEST_CASE("5.0: a silent client says PINGREQ, as often as the server asks: MQTT-3.1.2-20, MQTT-3.1.2-21, MQTT-3.2.2-21") {
    for (const auto& [properties, seconds] : {std::pair<const char*, int>{"00", 30}, {"03 13 00 08", 6}}) {
        Talk talk(properties);
        CHECK(talk.session.deadline() == talk.now + Duration::seconds(seconds));  // of what the server says, three quarters
        talk.now = talk.session.deadline();
        CHECK_FALSE(talk.session.expire(talk.now));
        CHECK(talk.says() == hex("c0 00"));
    }
}

TEST_CASE("5.0: what passes this side's limits ends the connection: MQTT-3.1.2-24, MQTT-3.1.2-26, MQTT-3.1.2-27, MQTT-3.3.4-9") {
    CHECK(Talk::ends("30 81 80 40", "e0 01 95") == Violation::packet_too_large);
    CHECK(Talk::ends("30 07 00 01 61 03 23 00 11", "e0 01 94") == Violation::topic_alias);
    Limits limits;
    limits.topic_aliases = 0;
    limits.receive_maximum = 1;
    Talk talk("00", limits);
    talk.hear("30 07 00 01 61 03 23 00 01");
    CHECK(talk.error == Errc::malformed);
    Talk second("00", limits);
    second.hear("34 06 00 01 61 00 01 00 34 06 00 01 61 00 02 00");
    CHECK(second.session.violation() == Violation::receive_maximum);
    CHECK(second.says() == hex("50 02 00 01  e0 01 93"));
}

TEST_CASE("5.0: words that were not asked for are a protocol error: MQTT-3.1.2-29") {
    PropertyWriter quiet(PacketType::connect);
    quiet.number(Property::request_problem_information, 0);
    Connect connect = named();
    connect.properties = quiet.bytes();
    for (const auto& [bytes, ends] : {std::pair<const char*, bool>{"40 08 00 01 00 04 1f 00 01 78", true},
                                      {"40 0b 00 01 00 07 26 00 01 6b 00 01 76", true},
                                      {"30 0b 00 01 61 07 26 00 01 6b 00 01 76", false},
                                      {"e0 06 80 04 1f 00 01 78", false}}) {
        Session session(v5, Limits());
        REQUIRE(session.configure(connect));
        REQUIRE(session.opened(TimePoint()));
        const test::Buffer all = test::from_hex(std::string("20 07 00 00 04 1f 00 01 78 ") + bytes);
        Bytes from(all);
        mqtt::Event event;
        REQUIRE(*session.next(from, TimePoint(), event));
        CHECK(static_cast<bool>(session.next(from, TimePoint(), event)) == !ends);
        CHECK(session.violation() == (ends ? Violation::property_unasked : Violation::none));
    }
}

TEST_CASE("5.0: authentication is not asked for, nor taken unasked: MQTT-3.1.2-30, MQTT-4.12.0-6") {
    PropertyWriter method(PacketType::connect);
    method.text(Property::authentication_method, "m");
    Connect connect = named();
    connect.properties = method.bytes();
    CHECK(configured(connect) == Errc::unsupported);
    CHECK(Talk::ends("f0 08 18 06 15 00 03 61 62 63", "e0 01 82") == Violation::authentication_unasked);
}

TEST_CASE("5.0: CONNECT's texts are UTF-8: MQTT-3.1.3-4, MQTT-3.1.3-11, MQTT-3.1.3-12") {
    const TextView bad = "\xff";
    Connect connect = named();
    connect.client_id = bad;
    CHECK(configured(connect) == Errc::invalid_argument);
    connect = named();
    connect.user_name = &bad;
    CHECK(configured(connect) == Errc::invalid_argument);
    connect = named();
    Will will;
    will.topic = bad;
    connect.will = &will;
    CHECK(configured(connect) == Errc::invalid_argument);
}

TEST_CASE("5.0: the name that the server gives is that of the session from then on: MQTT-3.1.3-2, MQTT-3.1.3-6, MQTT-3.2.2-16") {
    const std::string name(120, 'n');
    Session session(v5, Limits());
    Connect connect;
    const TextView user = "u";
    connect.user_name = &user;
    REQUIRE(session.configure(connect));
    REQUIRE(session.opened(TimePoint()));
    const std::string first = test::to_hex(session.pending(TimePoint()));
    test::Buffer connack = test::from_hex("20 7e 00 00 7b 12 00 78");
    for (char c : name) connack.push_back(static_cast<std::byte>(c));
    for (int i = 0; i < 2; ++i) {  // the second time it has one
        Bytes from(connack);
        mqtt::Event event;
        REQUIRE(*session.next(from, TimePoint(), event));
        CHECK(event.kind == Kind::connected);
        REQUIRE(session.opened(TimePoint()));
        const std::string again = test::to_hex(session.pending(TimePoint()));
        CHECK(again == "109801" + first.substr(4, 14) + "80" + first.substr(20, 38) + "0078" +
                           test::to_hex(TextView(name.data(), 120).bytes()) + hex("00 01 75"));
    }
    // One that this client has chosen stays.
    Talk talk("04 12 00 01 78");
    talk.session.lost();
    talk.again(true);
    CHECK(talk.says() == hex("10 1f 00 04 4d 51 54 54 05 00 00 1e 10 11 00 00 01 2c 21 00 40 27 00 10 00 00 22 00 10 00 02 6d 65"));
}

TEST_CASE("5.0: CONNACK is first, once, and says what can be: MQTT-3.2.0-1, MQTT-3.2.0-2, MQTT-3.2.2-1, MQTT-3.2.2-6, MQTT-3.14.0-1") {
    CHECK(Talk::ends("20 03 00 00 00", "e0 01 82") == Violation::second_connack);
    for (const auto& [bytes, violation] : {std::pair<const char*, Violation>{"30 04 00 01 61 00", Violation::first_not_connack},
                                           {"e0 00", Violation::first_not_connack},
                                           {"20 03 02 00 00", Violation::connack_flags},
                                           {"20 03 01 87 00", Violation::session_with_refusal},
                                           {"20 03 00 01 00", Violation::reserved_reason}}) {
        Session session(v5, Limits());
        REQUIRE(session.configure(named()));
        REQUIRE(session.opened(TimePoint()));
        const test::Buffer all = test::from_hex(bytes);
        Bytes from(all);
        mqtt::Event event;
        CHECK_FALSE(session.next(from, TimePoint(), event));
        CHECK(session.violation() == violation);
    }
}

TEST_CASE("5.0: where the server has forgotten, this side begins anew: MQTT-3.2.2-5, MQTT-4.4.0-1") {
    Talk talk;
    talk.subscribe("f");
    talk.publish("a", Qos::exactly_once);
    talk.hear("34 06 00 01 62 00 08 00");
    talk.says();
    talk.hear("90 04 00 01 00 02");
    talk.session.lost();
    talk.again(false);
    const std::string says = talk.says();
    CHECK(says.ends_with(hex("82 07 00 03 00 00 01 66 00  34 06 00 01 61 00 04 00")));  // new, and so without DUP
    talk.hear("34 06 00 01 62 00 08 00");
    CHECK(talk.heard == "b b ");  // it is another message
    talk.says();
    for (int i = 0; i < 3; ++i) CHECK(talk.says().empty());  // and nothing is sent again at any other time
}

// MQTT-3.2.2-4 would have a program that was started anew close, and throw away what the server has kept for it: to ask for that is why it
// did not ask for a clean start. It is taken.
TEST_CASE("5.0: a program that was started anew gets the session that it asks for, against MQTT-3.2.2-4") {
    Session session(v5, Limits());
    Connect connect = named();
    connect.clean = false;
    REQUIRE(session.configure(connect));
    REQUIRE(session.opened(TimePoint()));
    const test::Buffer all = test::from_hex("20 03 01 00 00");
    Bytes from(all);
    mqtt::Event event;
    REQUIRE(*session.next(from, TimePoint(), event));
    CHECK(event.kind == Kind::connected);
    CHECK(event.packet.session_present);
}

TEST_CASE("5.0: what this server does not take is not sent: MQTT-3.2.2-11, MQTT-3.2.2-14, MQTT-3.2.2-15, MQTT-3.2.2-17, MQTT-3.2.2-18") {
    Talk talk("09 24 00 25 00 27 00 00 00 10");  // at most QoS 0, nothing retained, 16 bytes
    const auto refused = [&](Message message) {
        message.topic = "t";
        REQUIRE(talk.session.publish(message, talk.now));
        const std::string says = talk.says();
        talk.hear("");
        return says.empty() && talk.last == Kind::failed;
    };
    Message message;
    CHECK_FALSE(refused(message));
    message.qos = Qos::at_least_once;
    CHECK(refused(message));
    message = {};
    message.retain = true;
    CHECK(refused(message));
    message = {};
    message.payload = TextView("01234567890").bytes();
    CHECK(refused(message));
    message.payload = TextView("0123456789").bytes();
    CHECK_FALSE(refused(message));  // 16 bytes
    // Aliases are not used at all, whatever the server takes.
    Talk takes_aliases("03 22 00 0a");
    PropertyWriter alias(PacketType::publish);
    alias.number(Property::topic_alias, 1);
    message = {};
    message.topic = "t";
    message.properties = alias.bytes();
    CHECK(takes_aliases.session.publish(message, talk.now).error() == Errc::invalid_argument);
}

TEST_CASE("5.0: subscriptions that this server does not take are refused here, before it ends the connection (3.2.2.3.11, 3.2.2.3.13)") {
    Talk talk("04 28 00 2a 00");
    for (const auto& [filter, reason] : {std::pair<const char*, Reason>{"a/+", Reason::wildcard_subscriptions_not_supported},
                                         {"#", Reason::wildcard_subscriptions_not_supported},
                                         {"$share/n/a", Reason::shared_subscriptions_not_supported}}) {
        talk.subscribe(filter);
        CHECK(talk.says().empty());
        talk.hear("");
        CHECK(talk.last == Kind::subscribed);
        CHECK(talk.reason == reason);
        CHECK(talk.session.unsubscribe(filter).error() == Errc::invalid_argument);  // it is no more
    }
    talk.subscribe("a");
    CHECK(talk.says() == hex("82 07 00 01 00 00 01 61 00"));
}

TEST_CASE(
    "5.0: DUP, QoS and topic of PUBLISH: MQTT-3.3.1-1, MQTT-3.3.1-2, MQTT-3.3.1-3, MQTT-3.3.1-4, MQTT-3.3.2-1, MQTT-3.3.2-2, "
    "MQTT-4.7.0-1") {
    Talk talk;
    talk.publish("a", Qos::at_least_once);
    talk.publish("b", Qos::exactly_once);
    talk.publish("c", Qos::at_most_once);
    CHECK(talk.says() == hex("32 06 00 01 61 00 01 00  34 06 00 01 62 00 02 00  30 04 00 01 63 00"));
    talk.session.lost();
    talk.again(true);
    CHECK(talk.says().ends_with(hex("3a 06 00 01 61 00 01 00  3c 06 00 01 62 00 02 00")));
    CHECK(Talk::ends("36 06 00 01 61 00 01 00", "e0 01 81") == Violation::qos_3);
    CHECK(Talk::ends("38 04 00 01 61 00", "e0 01 81") == Violation::dup_with_qos_0);
    CHECK(Talk::ends("30 04 00 01 2b 00", "e0 01 81") == Violation::topic_wildcard);
    CHECK(Talk::ends("30 04 00 01 ff 00", "e0 01 81") == Violation::utf8_ill_formed);
    Message message;
    for (const char* bad : {"+", "a/#", "\xff"}) {
        message.topic = bad;
        CHECK(talk.session.publish(message, talk.now).error() == Errc::invalid_argument);
    }
}

TEST_CASE("5.0: aliases: MQTT-3.3.2-7, MQTT-3.3.2-8, MQTT-3.3.2-9, MQTT-3.3.2-10, MQTT-3.3.2-11") {
    Talk talk;
    for (const char* alias : {"01", "10"}) {  // each up to the maximum
        talk.hear(std::string("30 07 00 01 61 03 23 00 ") + alias);
        talk.hear(std::string("30 06 00 00 03 23 00 ") + alias);
    }
    CHECK(talk.heard == "a a a a ");
    CHECK(talk.says().empty());
    talk.session.lost();
    talk.again(true);  // another connection has none of them
    talk.hear("30 06 00 00 03 23 00 01");
    CHECK(talk.session.violation() == Violation::topic_alias);
    CHECK(Talk::ends("30 07 00 01 61 03 23 00 00", "e0 01 82") == Violation::property_value);
    CHECK(PropertyWriter(PacketType::publish).number(Property::topic_alias, 0).error() == Errc::invalid_argument);
    CHECK(Talk::ends("30 03 00 00 00", "e0 01 82") == Violation::topic_empty);
}

TEST_CASE("5.0: properties of PUBLISH: MQTT-3.3.2-13, MQTT-3.3.2-14, MQTT-3.3.2-19, MQTT-3.3.4-6") {
    CHECK(Talk::ends("30 08 00 01 61 04 08 00 01 ff", "e0 01 81") == Violation::utf8_ill_formed);
    CHECK(Talk::ends("30 08 00 01 61 04 08 00 01 23", "e0 01 81") == Violation::topic_wildcard);
    CHECK(Talk::ends("30 08 00 01 61 04 03 00 01 ff", "e0 01 81") == Violation::utf8_ill_formed);
    Talk talk;
    Message message;
    message.topic = "t";
    for (const auto& [property, value] : {std::pair<Property, const char*>{Property::response_topic, "\xff"},
                                          {Property::response_topic, "a/#"},
                                          {Property::content_type, "\xff"}})
        CHECK(PropertyWriter(PacketType::publish).text(property, value).error() == Errc::invalid_argument);
    PropertyWriter identifier(PacketType::publish);
    identifier.number(Property::subscription_identifier, 1);
    message.properties = identifier.bytes();
    CHECK(talk.session.publish(message, talk.now).error() == Errc::invalid_argument);
}

TEST_CASE(
    "5.0: every PUBLISH is answered as its QoS has it: MQTT-3.3.4-1, MQTT-4.3.2-4, MQTT-4.3.2-5, MQTT-4.3.3-8, MQTT-4.3.3-10, "
    "MQTT-4.3.3-11, MQTT-4.3.3-12, MQTT-4.5.0-2") {
    Talk talk;
    talk.hear("30 04 00 01 61 00  32 06 00 01 62 00 07 00  34 06 00 01 63 00 08 00");
    CHECK(talk.says() == hex("40 02 00 07  50 02 00 08"));
    talk.hear("32 06 00 01 62 00 07 00");  // acknowledged: it is a new one, DUP or not
    talk.hear("3c 06 00 01 63 00 08 00");  // not released: the same
    CHECK(talk.says() == hex("40 02 00 07  50 02 00 08"));
    talk.hear("62 02 00 08");
    talk.hear("34 06 00 01 63 00 08 00");  // PUBCOMP was said: a new one
    CHECK(talk.says() == hex("70 02 00 08  50 02 00 08"));
    talk.hear("62 02 12 34");  // of which it has never heard
    CHECK(talk.says() == hex("70 03 12 34 92"));
    CHECK(talk.heard == "a b c b c ");
}

TEST_CASE(
    "5.0: the server's receive maximum holds back messages with a QoS, and nothing else: MQTT-3.3.4-7, MQTT-3.3.4-8, MQTT-4.9.0-1, "
    "MQTT-4.9.0-2, MQTT-4.9.0-3") {
    Talk talk("03 21 00 02");
    for (const char* topic : {"a", "b", "c", "d"}) talk.publish(topic, Qos::at_least_once);
    CHECK(talk.says() == hex("32 06 00 01 61 00 01 00  32 06 00 01 62 00 02 00"));
    talk.subscribe("f");
    talk.hear("32 06 00 01 61 00 07 00");
    CHECK(talk.says() == hex("40 02 00 07  82 07 00 03 00 00 01 66 00"));
    talk.hear("40 02 00 01");
    CHECK(talk.says() == hex("32 06 00 01 63 00 04 00"));
    talk.hear("40 03 00 02 97");  // a failure is an acknowledgement too
    CHECK(talk.says() == hex("32 06 00 01 64 00 05 00"));
}

TEST_CASE(
    "5.0: acknowledgements have the codes that their tables have: MQTT-3.4.2-1, MQTT-3.5.2-1, MQTT-3.6.2-1, MQTT-3.7.2-1, MQTT-3.9.3-2, "
    "MQTT-3.11.3-2, MQTT-3.14.2-1, MQTT-3.15.2-1") {
    const auto allowed = [](const std::string& before) {
        std::string codes;
        for (unsigned code = 0; code < 256; ++code) {
            const std::string one = test::to_hex(test::Buffer{static_cast<std::byte>(code)});
            Talk talk;
            talk.hear(before + one);
            if (talk.session.violation() != Violation::reserved_reason) codes += one + " ";
        }
        return codes;
    };
    CHECK(allowed("40 03 00 09 ") == "00 10 80 83 87 90 91 97 99 ");
    CHECK(allowed("50 03 00 09 ") == "00 10 80 83 87 90 91 97 99 ");
    CHECK(allowed("62 03 00 09 ") == "00 92 ");
    CHECK(allowed("70 03 00 09 ") == "00 92 ");
    CHECK(allowed("90 04 00 09 00 ") == "00 01 02 80 83 87 8f 91 97 9e a1 a2 ");
    CHECK(allowed("b0 04 00 09 00 ") == "00 11 80 83 87 8f 91 ");
    CHECK(allowed("e0 01 ") == "00 80 81 82 83 87 89 8b 8d 8e 8f 90 93 94 95 96 97 98 99 9a 9b 9c 9d 9e 9f a0 a1 a2 ");
    CHECK(allowed("f0 01 ") == "00 18 ");
}

TEST_CASE(
    "5.0: SUBSCRIBE and UNSUBSCRIBE: MQTT-3.8.3-1, MQTT-3.8.3-2, MQTT-3.8.3-4, MQTT-3.8.3-5, MQTT-3.8.4-6, MQTT-3.9.3-1, MQTT-3.10.3-1, "
    "MQTT-3.10.3-2, MQTT-3.11.3-1") {
    Talk talk;
    Subscription one;
    for (const char* bad : {"", "\xff", "a#"}) {
        one.filter = bad;
        CHECK(talk.session.subscribe(one).error() == Errc::invalid_argument);
    }
    one.filter = "$share/n/a";
    one.no_local = true;
    CHECK(talk.session.subscribe(one).error() == Errc::invalid_argument);
    one.filter = "a";
    one.qos = Qos::exactly_once;
    one.retain_as_published = true;
    one.retain_handling = 3;
    CHECK(talk.session.subscribe(one).error() == Errc::invalid_argument);
    one.retain_handling = 2;
    REQUIRE(talk.session.subscribe(one));
    CHECK(talk.says() == hex("82 07 00 01 00 00 01 61 2e"));  // one at least, and the reserved bits are 0
    CHECK(Talk::ends("90 03 00 01 00", "e0 01 82") == Violation::no_codes);
    CHECK(Talk::ends("90 05 00 01 00 00 00", "e0 01 82") == Violation::wrong_count_of_codes);
    talk.hear("90 04 00 01 00 01");
    CHECK(talk.reason == Reason::granted_qos_1);
    REQUIRE(talk.session.unsubscribe("a"));
    CHECK(talk.says() == hex("a2 06 00 02 00 00 01 61"));
    talk.hear("b0 04 00 02 00 11");
    CHECK(talk.reason == Reason::no_subscription_existed);
}

TEST_CASE("5.0: nothing is said behind DISCONNECT, and it ends: MQTT-3.14.4-1, MQTT-3.14.4-2") {
    Talk talk;
    REQUIRE(talk.session.leave());
    talk.publish("a", Qos::at_most_once);
    talk.hear("32 06 00 01 62 00 07 00");
    CHECK(talk.says() == hex("e0 00"));
    CHECK(talk.says().empty());
}

TEST_CASE("5.0: QoS 0 and 1 as they are said: MQTT-4.3.1-1, MQTT-4.3.2-2, MQTT-4.3.2-3, MQTT-4.4.0-2") {
    Talk talk;
    talk.publish("a", Qos::at_most_once);
    CHECK(talk.says() == hex("30 04 00 01 61 00"));
    CHECK(talk.session.idle());
    talk.publish("b", Qos::at_least_once);
    CHECK(talk.says() == hex("32 06 00 01 62 00 01 00"));
    CHECK_FALSE(talk.session.idle());  // until it is acknowledged, by a failure too
    talk.hear("40 03 00 01 87");
    CHECK(talk.last == Kind::failed);
    talk.session.lost();
    talk.again(true);
    CHECK_FALSE(talk.says().ends_with(hex("62 00 01 00")));
    talk.publish("c", Qos::exactly_once);
    talk.says();
    talk.hear("50 03 00 02 97");
    CHECK(talk.last == Kind::failed);
    talk.session.lost();
    talk.again(true);
    CHECK_FALSE(talk.says().ends_with(hex("63 00 02 00")));
    CHECK(talk.session.idle());
}

TEST_CASE("5.0: QoS 2 as it is said: MQTT-4.3.3-2, MQTT-4.3.3-3, MQTT-4.3.3-4, MQTT-4.3.3-5, MQTT-4.3.3-6, MQTT-4.3.3-7, MQTT-4.3.3-13") {
    Talk talk;
    Message message;
    message.topic = "a";
    message.qos = Qos::exactly_once;
    message.expiry = Duration::seconds(5);
    REQUIRE(talk.session.publish(message, talk.now));
    CHECK(talk.says() == hex("34 0b 00 01 61 00 01 05 02 00 00 00 05"));
    talk.now = talk.now + Duration::seconds(10);  // sent: it does not expire any more
    CHECK_FALSE(talk.session.expire(talk.now));
    talk.session.lost();
    talk.again(true);
    CHECK(talk.says().ends_with(hex("3c 0b 00 01 61 00 01 05 02 00 00 00 00")));
    talk.hear("50 03 00 01 10");  // below 0x80
    CHECK(talk.says() == hex("62 02 00 01"));
    CHECK_FALSE(talk.session.idle());
    talk.session.lost();
    talk.again(true);
    CHECK(talk.says().ends_with(hex("6d 65 62 02 00 01")));  // the message itself is not sent again
    talk.hear("70 02 00 01");
    CHECK(talk.last == Kind::delivered);
    CHECK(talk.session.idle());
    // A message that comes goes its way, whatever its expiry says.
    talk.hear("34 0b 00 01 62 00 07 05 02 00 00 00 01");
    talk.now = talk.now + Duration::seconds(10);
    talk.hear("62 02 00 07");
    CHECK(talk.says() == hex("50 02 00 07  70 02 00 07"));
}

TEST_CASE("5.0: order: MQTT-4.6.0-1, MQTT-4.6.0-2, MQTT-4.6.0-3, MQTT-4.6.0-4") {
    Talk talk;
    talk.hear("32 06 00 01 61 00 09 00  32 06 00 01 61 00 03 00  34 06 00 01 61 00 08 00  34 06 00 01 61 00 02 00");
    CHECK(talk.says() == hex("40 02 00 09  40 02 00 03  50 02 00 08  50 02 00 02"));
    talk.publish("a", Qos::exactly_once);
    talk.publish("b", Qos::at_least_once);
    talk.publish("c", Qos::exactly_once);
    talk.says();
    talk.session.lost();
    talk.again(true);
    CHECK(talk.says().ends_with(hex("3c 06 00 01 61 00 01 00  3a 06 00 01 62 00 02 00  3c 06 00 01 63 00 03 00")));
    talk.hear("50 02 00 03 50 02 00 01");
    CHECK(talk.says() == hex("62 02 00 03  62 02 00 01"));
}

TEST_CASE("5.0: topics and filters: MQTT-4.7.1-1, MQTT-4.7.1-2, MQTT-4.7.3-1, MQTT-4.7.3-2, MQTT-4.7.3-3, MQTT-4.8.2-1, MQTT-4.8.2-2") {
    const std::string longer(65'536, 'a'), zero("a\0b", 3);
    Talk talk;
    for (const std::string& bad : {std::string(), longer, zero}) {
        Message message;
        message.topic = bad;
        CHECK(talk.session.publish(message, talk.now).error() == Errc::invalid_argument);
        CHECK_FALSE(valid_topic_filter(bad));
    }
    for (const char* bad : {"a/#/b", "a#", "a+", "+a/b", "$share//a", "$share/n", "$share/n/", "$share/+/a", "$share/n#/a"})
        CHECK_FALSE(valid_topic_filter(bad));
    for (const char* good : {"#", "a/#", "+", "a/+/b", "+/+", "/", "$share/n/a", "$share/n/#"}) CHECK(valid_topic_filter(good));
}

TEST_CASE("5.0: what is refused, or wrong, ends the connection: MQTT-4.13.1-1, MQTT-4.13.2-1") {
    Talk talk;
    talk.hear("e0 01 8b");
    CHECK(talk.last == Kind::disconnected);
    CHECK(talk.session.state() == Session::State::closed);
    Session session(v5, Limits());
    REQUIRE(session.configure(named()));
    REQUIRE(session.opened(TimePoint()));
    const test::Buffer all = test::from_hex("20 03 00 97 00");
    Bytes from(all);
    mqtt::Event event;
    REQUIRE(*session.next(from, TimePoint(), event));
    CHECK(event.kind == Kind::refused);
    CHECK(session.state() == Session::State::closed);
    // Every violation is told by its code.
    for (unsigned v = 1; v <= static_cast<unsigned>(Violation::qos_not_granted); ++v) CHECK(failed(reason_of(static_cast<Violation>(v))));
}
