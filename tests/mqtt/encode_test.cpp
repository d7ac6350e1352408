// SPDX-License-Identifier: BSL-1.0
#include <rejoin/mqtt/encode.hpp>
#include <rejoin/mqtt/properties.hpp>
#include <string>

#include "catch.hpp"
#include "session/bytes.hpp"

using namespace rejoin;
using namespace rejoin::mqtt;

namespace {

template <class P>
std::string written(Version version, const P& packet) {
    const std::size_t size = size_of(version, packet);
    test::Buffer room(size + 8, std::byte{0xee});
    const std::byte* const end = write(room.data(), version, packet);
    REQUIRE(static_cast<std::size_t>(end - room.data()) == size);
    for (std::size_t i = size; i < room.size(); ++i) REQUIRE(room[i] == std::byte{0xee});
    room.resize(size);
    return test::to_hex(room);
}
template <class P>
std::string in_3(const P& packet) {
    return written(Version::v3_1_1, packet);
}
template <class P>
std::string in_5(const P& packet) {
    return written(Version::v5, packet);
}
std::string hex(std::string_view spaced) { return test::to_hex(test::from_hex(spaced)); }

}  // namespace

TEST_CASE("CONNECT: 3 §3.1, 5 §3.1") {
    Connect c;
    c.client_id = "me";
    c.keep_alive = 60;
    CHECK(in_3(c) == hex("10 0e 00 04 4d 51 54 54 04 02 00 3c 00 02 6d 65"));
    CHECK(in_5(c) == hex("10 0f 00 04 4d 51 54 54 05 02 00 3c 00 00 02 6d 65"));
    c.clean = false;
    Will will;
    will.topic = "t";
    will.payload = TextView("gone").bytes();
    will.qos = Qos::exactly_once;
    will.retain = true;
    const TextView user = "u";
    const Bytes password = TextView("pw").bytes();
    c.will = &will;
    c.user_name = &user;
    c.password = &password;
    CHECK(in_3(c) == hex("10 1e 00 04 4d 51 54 54 04 f4 00 3c 00 02 6d 65 00 01 74 00 04 67 6f 6e 65 00 01 75 00 02 70 77"));
    PropertyWriter of_will(in_will), of_connect(PacketType::connect);
    of_will.number(Property::will_delay_interval, 5);
    of_connect.number(Property::session_expiry_interval, 256).number(Property::receive_maximum, 10);
    REQUIRE_FALSE(of_will.error());
    REQUIRE_FALSE(of_connect.error());
    will.properties = of_will.bytes();
    c.properties = of_connect.bytes();
    CHECK(in_5(c) ==
          hex("10 2d 00 04 4d 51 54 54 05 f4 00 3c 08 11 00 00 01 00 21 00 0a 00 02 6d 65 05 18 00 00 00 05 00 01 74 00 04 67 6f 6e 65 "
              "00 01 75 00 02 70 77"));
}

TEST_CASE("PUBLISH: 3 §3.3, 5 §3.3") {
    Publish p;
    p.topic = "a/b";
    p.payload = TextView("hi").bytes();
    CHECK(in_3(p) == hex("30 07 00 03 61 2f 62 68 69"));
    CHECK(in_5(p) == hex("30 08 00 03 61 2f 62 00 68 69"));
    p.qos = Qos::exactly_once;
    p.dup = p.retain = true;
    p.id = 0x1234;
    CHECK(in_3(p) == hex("3d 09 00 03 61 2f 62 12 34 68 69"));
    PropertyWriter properties(PacketType::publish);
    properties.number(Property::message_expiry_interval, 7).user("k", "v");
    p.properties = properties.bytes();
    CHECK(in_5(p) == hex("3d 16 00 03 61 2f 62 12 34 0c 02 00 00 00 07 26 00 01 6b 00 01 76 68 69"));
    // Where the length needs another byte.
    for (const auto& [payload, header] : {std::pair<std::size_t, const char*>{124, "30 7f"},
                                          {125, "30 80 01"},
                                          {16380, "30 ff 7f"},
                                          {16381, "30 80 80 01"},
                                          {2097148, "30 ff ff 7f"},
                                          {2097149, "30 80 80 80 01"}}) {
        const std::string large(payload, 'x');
        Publish q;
        q.topic = "t";
        q.payload = TextView(large).bytes();
        CHECK(in_3(q).substr(0, hex(header).size()) == hex(header));
    }
    Publish largest;
    largest.topic = "t";
    largest.payload = Bytes(reinterpret_cast<const std::byte*>("x"), length_max - 3);
    CHECK(size_of(Version::v3_1_1, largest) == length_max + 5);
    largest.payload = Bytes(largest.payload.data(), length_max - 2);
    CHECK(size_of(Version::v3_1_1, largest) == 0);
}

TEST_CASE("topics and payloads of every size are written whole, and nothing behind them") {
    const test::Buffer bytes = test::pattern(300);
    for (std::size_t topic = 1; topic <= 80; topic += 3)
        for (std::size_t payload = 0; payload <= 140; ++payload) {
            const std::string name(topic, 't');
            Publish p;
            p.topic = name;
            p.payload = Bytes(bytes).first(payload);
            const std::string all = in_3(p);
            REQUIRE(all.size() / 2 == size_of(Version::v3_1_1, p));
            REQUIRE(all.substr(all.size() - 2 * payload) == test::to_hex(p.payload));
            REQUIRE(all.substr(all.size() - 2 * (payload + topic), 2 * topic) == test::to_hex(TextView(name).bytes()));
        }
}

TEST_CASE("acknowledgements, SUBSCRIBE and its like, and the rest") {
    CHECK(in_3(Acknowledge{PacketType::puback, 7, Reason::success}) == hex("40 02 00 07"));
    CHECK(in_3(Acknowledge{PacketType::pubrec, 7, Reason::quota_exceeded}) == hex("50 02 00 07"));
    CHECK(in_3(Acknowledge{PacketType::pubrel, 7, Reason::success}) == hex("62 02 00 07"));
    CHECK(in_5(Acknowledge{PacketType::pubcomp, 7, Reason::packet_identifier_not_found}) == hex("70 03 00 07 92"));
    CHECK(in_5(Acknowledge{PacketType::puback, 7, Reason::success}) == hex("40 02 00 07"));

    Subscription filters[2];
    filters[0].filter = "a/#";
    filters[0].qos = Qos::exactly_once;
    filters[0].no_local = filters[0].retain_as_published = true;
    filters[0].retain_handling = 2;
    filters[1].filter = "b";
    Subscribe s;
    s.id = 1;
    s.filters = filters;
    CHECK(in_3(s) == hex("82 0c 00 01 00 03 61 2f 23 02 00 01 62 00"));
    CHECK(in_5(s) == hex("82 0d 00 01 00 00 03 61 2f 23 2e 00 01 62 00"));
    s.type = PacketType::unsubscribe;
    CHECK(in_3(s) == hex("a2 0a 00 01 00 03 61 2f 23 00 01 62"));
    CHECK(in_5(s) == hex("a2 0b 00 01 00 00 03 61 2f 23 00 01 62"));

    CHECK(in_3(Leave()) == hex("e0 00"));
    CHECK(in_5(Leave()) == hex("e0 00"));
    Leave with_will;
    with_will.reason = Reason::disconnect_with_will;
    CHECK(in_5(with_will) == hex("e0 01 04"));
    CHECK(in_3(with_will) == hex("e0 00"));
    PropertyWriter properties(PacketType::auth);
    properties.text(Property::authentication_method, "m").binary(Property::authentication_data, TextView("x").bytes());
    CHECK(in_5(Leave{PacketType::auth, Reason::continue_authentication, properties.bytes()}) == hex("f0 0a 18 08 15 00 01 6d 16 00 01 78"));
    CHECK(test::to_hex(pingreq) == hex("c0 00"));
}

TEST_CASE("properties that may not be said are refused") {
    const auto error = [](PropertyWriter&& writer) { return writer.error(); };
    CHECK(error(std::move(PropertyWriter(PacketType::publish).number(Property::receive_maximum, 1))) == Errc::invalid_argument);
    CHECK(error(std::move(PropertyWriter(PacketType::publish).number(Property::content_type, 1))) == Errc::invalid_argument);
    CHECK(error(std::move(PropertyWriter(PacketType::publish).text(Property::topic_alias, "x"))) == Errc::invalid_argument);
    CHECK(error(std::move(PropertyWriter(PacketType::publish).number(Property::topic_alias, 0))) == Errc::invalid_argument);
    CHECK(error(std::move(PropertyWriter(PacketType::publish).number(Property::topic_alias, 65536))) == Errc::invalid_argument);
    CHECK(error(std::move(PropertyWriter(PacketType::publish).number(Property::payload_format_indicator, 2))) == Errc::invalid_argument);
    CHECK(error(std::move(PropertyWriter(PacketType::publish).text(Property::content_type, "\xff"))) == Errc::invalid_argument);
    CHECK(error(std::move(PropertyWriter(PacketType::publish).text(Property::content_type, std::string(65536, 'x')))) ==
          Errc::invalid_argument);
    CHECK(error(std::move(PropertyWriter(PacketType::publish).number(Property::topic_alias, 1).number(Property::topic_alias, 1))) ==
          Errc::invalid_argument);
    CHECK(error(std::move(PropertyWriter(PacketType::subscribe).number(Property::subscription_identifier, length_max + 1))) ==
          Errc::invalid_argument);
    PropertyWriter good(PacketType::subscribe);
    good.number(Property::subscription_identifier, length_max);
    CHECK_FALSE(good.error());
    CHECK(test::to_hex(good.bytes()) == hex("0b ff ff ff 7f"));
}
