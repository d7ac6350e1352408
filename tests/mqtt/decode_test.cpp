// SPDX-License-Identifier: BSL-1.0
#include <rejoin/mqtt/decode.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "session/bytes.hpp"

using namespace rejoin;
using namespace rejoin::mqtt;
using test::from_hex;

namespace {

constexpr std::size_t limit = 1000;
constexpr char connack_3[] = "20 02 00 00", connack_5[] = "20 03 00 00 00";

// What reading this comes to, behind a CONNACK unless it is one; the same for every split of it.
Violation read(Version version, const std::string& hex, Packet* packet = nullptr, bool first = false) {
    const test::Buffer all = from_hex(hex);
    Violation whole = Violation::none;
    for (std::size_t split = 0; split <= all.size(); ++split) {
        Decoder decoder(version, limit);
        Packet got;
        const test::Buffer hello = from_hex(version == Version::v5 ? connack_5 : connack_3);
        Bytes from(hello);
        if (!first) REQUIRE(*decoder.next(from, got));
        const Bytes pieces[] = {Bytes(all).first(split), Bytes(all).subspan(split)};
        bool there = false;
        for (Bytes piece : pieces)
            while (decoder.violation() == Violation::none) {
                const auto result = decoder.next(piece, got);
                if (!result) {
                    REQUIRE(result.error() == (decoder.violation() == Violation::packet_too_large ? Errc::too_large : Errc::malformed));
                    break;
                }
                there = there || *result;
                if (!*result) break;
                if (packet != nullptr && split == 0) *packet = got;
            }
        if (!there && decoder.violation() == Violation::none) static_cast<void>(decoder.end());
        if (split == 0) whole = decoder.violation();
        CAPTURE(hex, split);
        REQUIRE(decoder.violation() == whole);
    }
    return whole;
}
Violation read_3(const std::string& hex) { return read(Version::v3_1_1, hex); }
Violation read_5(const std::string& hex) { return read(Version::v5, hex); }
Violation first_3(const std::string& hex) { return read(Version::v3_1_1, hex, nullptr, true); }
Violation first_5(const std::string& hex) { return read(Version::v5, hex, nullptr, true); }

std::string digits(std::size_t byte) {
    const std::byte one[] = {static_cast<std::byte>(byte)};
    return test::to_hex(one);
}
std::string text(TextView view) { return {view.data(), view.size()}; }
std::string text(Bytes view) { return {reinterpret_cast<const char*>(view.data()), view.size()}; }

// The packet that these bytes are; they live as long as this.
struct One {
    One(Version version, const std::string& hex) : all(from_hex(hex)), decoder(version, limit) {
        const test::Buffer hello = from_hex(version == Version::v5 ? connack_5 : connack_3);
        Bytes from(hello);
        if ((all[0] >> 4) != std::byte{2}) REQUIRE(*decoder.next(from, packet));
        from = all;
        const auto result = decoder.next(from, packet);
        CAPTURE(hex, statement_of(decoder.violation()).words);
        REQUIRE(result);
        REQUIRE(*result);
        REQUIRE(from.empty());
    }
    const Packet* operator->() const { return &packet; }
    test::Buffer all;
    Decoder decoder;
    Packet packet;
};

}  // namespace

TEST_CASE("every type of packet that a server sends is read, in 3.1.1") {
    const auto v = Version::v3_1_1;
    One connack(v, "20 02 01 00");
    CHECK(connack->type == PacketType::connack);
    CHECK(connack->session_present);
    CHECK(connack->reason == Reason::success);

    One publish(v, "3d 09 00 03 61 2f 62 12 34 68 69");
    CHECK(publish->type == PacketType::publish);
    CHECK(publish->qos == Qos::exactly_once);
    CHECK(publish->dup);
    CHECK(publish->retain);
    CHECK(publish->id == 0x1234);
    CHECK(text(publish->topic) == "a/b");
    CHECK(text(publish->payload) == "hi");
    One plain(v, "30 03 00 01 61");
    CHECK(plain->qos == Qos::at_most_once);
    CHECK_FALSE(plain->dup);
    CHECK_FALSE(plain->retain);
    CHECK(plain->id == 0);
    CHECK(plain->payload.empty());

    for (int type : {4, 5, 6, 7}) {
        One ack(v, (type == 6 ? "62" : std::to_string(type) + "0") + " 02 00 07");
        CHECK(static_cast<int>(ack->type) == type);
        CHECK(ack->id == 7);
        CHECK(ack->reason == Reason::success);
    }
    One suback(v, "90 06 00 01 00 01 02 80");
    CHECK(suback->id == 1);
    CHECK(suback->codes.size() == 4);
    One unsuback(v, "b0 02 00 01");
    CHECK(unsuback->codes.empty());
    CHECK(One(v, "d0 00")->type == PacketType::pingresp);
}

TEST_CASE("every type of packet that a server sends is read, in 5.0") {
    const auto v = Version::v5;
    One connack(v, "20 09 00 00 06 21 00 0a 22 00 05");
    CHECK(connack->reason == Reason::success);
    CHECK(connack->properties.number(Property::receive_maximum, 0) == 10);
    CHECK(connack->properties.number(Property::topic_alias_maximum, 0) == 5);
    CHECK(connack->properties.number(Property::server_keep_alive, 77) == 77);
    CHECK(One(v, "20 03 00 87 00")->reason == Reason::not_authorized);

    One publish(v, "32 10 00 01 61 00 01 07 26 00 01 6b 00 01 76 68 65 79");
    CHECK(publish->qos == Qos::at_least_once);
    PropertyValue user;
    REQUIRE(publish->properties.find(Property::user_property, user));
    CHECK(text(user.bytes) == "k");
    CHECK(text(user.second) == "v");
    CHECK(text(publish->payload) == "hey");
    One alias(v, "30 07 00 00 03 23 00 01 78");
    CHECK(alias->topic.size() == 0);
    CHECK(alias->properties.number(Property::topic_alias, 0) == 1);
    CHECK(text(alias->payload) == "x");

    CHECK(One(v, "40 02 00 07")->reason == Reason::success);
    CHECK(One(v, "40 03 00 07 10")->reason == Reason::no_matching_subscribers);
    One puback(v, "40 0a 00 07 97 06 1f 00 03 6e 6f 21");
    CHECK(puback->reason == Reason::quota_exceeded);
    CHECK(text(puback->properties.text(Property::reason_string)) == "no!");
    CHECK(One(v, "50 04 00 07 00 00")->id == 7);
    CHECK(One(v, "62 03 00 07 92")->reason == Reason::packet_identifier_not_found);
    CHECK(One(v, "70 03 00 07 92")->reason == Reason::packet_identifier_not_found);
    CHECK(One(v, "90 05 00 01 00 02 9e")->codes.size() == 2);
    CHECK(One(v, "b0 04 00 01 00 11")->codes.size() == 1);
    CHECK(One(v, "d0 00")->type == PacketType::pingresp);
    CHECK(One(v, "e0 00")->reason == Reason::success);
    CHECK(One(v, "e0 01 8b")->reason == Reason::server_shutting_down);
    One moved(v, "e0 08 9d 06 1c 00 03 61 2e 62");
    CHECK(moved->reason == Reason::server_moved);
    CHECK(text(moved->properties.text(Property::server_reference)) == "a.b");
    CHECK(One(v, "f0 09 18 07 15 00 01 6d 16 00 00")->reason == Reason::continue_authentication);
    CHECK(One(v, "f0 00")->reason == Reason::success);
}

TEST_CASE("lengths: MQTT-1.5.5-1, 3 §2.2.3, MQTT-3.1.2-24") {
    CHECK(read_3("30 ff ff ff ff 00") == Violation::length_too_long);
    CHECK(read_5("30 ff ff ff ff 7f") == Violation::length_too_long);
    CHECK(read_5("30 83 00 00 01 61") == Violation::length_not_minimal);
    CHECK(read_5("d0 80 00") == Violation::length_not_minimal);
    CHECK(read_3("d0 80 00") == Violation::none);
    CHECK(read_3("30 83 80 80 00 00 01 61") == Violation::none);
    // Of a declared length nothing is reserved, and it is refused at once.
    CHECK(read_3("30 ff ff ff 7f") == Violation::packet_too_large);
    CHECK(first_3("20 ff ff ff 7f") == Violation::packet_too_large);
    std::string most = "30 e5 07 00 01 61", more = "30 e6 07 00 01 61";  // 1000 bytes in all, and 1001
    for (int i = 0; i < 994; ++i) most += " 78", more += " 78";
    CHECK(read(Version::v5, more + " 78") == Violation::packet_too_large);
    CHECK(read(Version::v3_1_1, most) == Violation::none);
}

TEST_CASE("types and flags: MQTT-2.1.3-1, MQTT-2.2.2-2, 5 §2.1.2, 3 §2.2.1") {
    CHECK(read_3("00 00") == Violation::reserved_type);
    CHECK(read_5("00 00") == Violation::reserved_type);
    CHECK(read_3("f0 00") == Violation::reserved_type);
    for (const char* client_only : {"10 00", "82 00", "a2 00", "c0 00"}) {
        CHECK(read_3(client_only) == Violation::client_only_type);
        CHECK(read_5(client_only) == Violation::client_only_type);
    }
    CHECK(read_3("e0 00") == Violation::client_only_type);
    for (int type : {4, 5, 6, 7, 9, 11, 13})
        for (int flags = 0; flags < 16; ++flags) {
            static constexpr char nibbles[] = "0123456789abcdef";
            const std::string first = {nibbles[type], nibbles[flags]};
            const Violation expected = flags == (type == 6 ? 2 : 0) ? Violation::none : Violation::reserved_flags;
            const std::string body = type == 13 ? " 00" : type == 9 ? " 03 00 01 00" : " 02 00 01";
            CHECK(read_3(first + body) == expected);
            CHECK(read_5(first + (type == 9 ? " 04 00 01 00 00" : type == 11 ? " 04 00 01 00 00" : body)) == expected);
        }
    for (const char* flags : {"e1 00", "f1 00", "e8 00"}) CHECK(read_5(flags) == Violation::reserved_flags);
    CHECK(first_3("21 02 00 00") == Violation::reserved_flags);
}

TEST_CASE("PUBLISH: MQTT-3.3.1-2, MQTT-3.3.1-4, MQTT-2.3.1-1, MQTT-2.2.1-4, MQTT-3.3.2-2, MQTT-4.7.3-1") {
    CHECK(read_3("36 05 00 01 61 00 01") == Violation::qos_3);
    CHECK(read_5("3e 05 00 01 61 00 01") == Violation::qos_3);
    CHECK(read_3("38 03 00 01 61") == Violation::dup_with_qos_0);
    CHECK(read_3("39 03 00 01 61") == Violation::dup_with_qos_0);
    CHECK(read_3("32 05 00 01 61 00 00") == Violation::packet_id_zero);
    CHECK(read_3("32 04 00 01 61 00") == Violation::packet_id_absent);
    CHECK(read_3("34 03 00 01 61") == Violation::packet_id_absent);
    CHECK(read_5("32 03 00 01 61") == Violation::packet_id_absent);
    CHECK(read_3("30 02 00 00") == Violation::topic_empty);
    CHECK(read_5("30 03 00 00 00") == Violation::topic_empty);
    CHECK(read_3("30 03 00 01 2b") == Violation::topic_wildcard);
    CHECK(read_3("30 05 00 03 61 2f 23") == Violation::topic_wildcard);
    CHECK(read_3("30 0d 00 0b 61 61 61 61 61 61 61 61 61 23 61") == Violation::topic_wildcard);
    CHECK(read_3("30 02 00 01") == Violation::string_past_end);
    CHECK(read_3("30 04 00 03 61 61") == Violation::string_past_end);  // by one byte
    CHECK(read_3("30 01 00") == Violation::string_past_end);
    CHECK(read_3("30 00") == Violation::string_past_end);
    CHECK(read_5("30 02 00 00") == Violation::property_truncated);
    CHECK(read_5("30 03 00 01 61") == Violation::property_truncated);
}

TEST_CASE("strings: MQTT-1.5.3-1, MQTT-1.5.3-2, MQTT-1.5.4-1, MQTT-1.5.4-2") {
    const auto topic = [](const std::string& hex) {
        const std::size_t n = from_hex(hex).size();
        return digits(0x30) + ' ' + digits(n + 2) + " 00 " + digits(n) + ' ' + hex;
    };
    for (const char* good : {"c2 80", "df bf", "e0 a0 80", "ed 9f bf", "ee 80 80", "ef bf bf", "f0 90 80 80", "f4 8f bf bf", "ef bb bf",
                             "01", "7f", "61 c3 a4 61 61 61 61 61 61 61"})
        CHECK(read_3(topic(good)) == Violation::none);
    for (const char* bad :
         {"80",       "bf",          "c0 80",       "c1 bf",       "e0 80 80",    "e0 9f bf",    "ed a0 80",
          "ed bf bf", "f0 80 80 80", "f0 8f bf bf", "f4 90 80 80", "f5 80 80 80", "ff",          "fe",
          "c2",       "e1 80",       "f1 80 80",    "c2 61",       "e1 80 61",    "f1 80 80 61", "61 61 61 61 61 61 61 c2"}) {
        CAPTURE(bad);
        CHECK(read_3(topic(bad)) == Violation::utf8_ill_formed);
    }
    CHECK(read_3(topic("00")) == Violation::utf8_nul);
    CHECK(read_3(topic("61 61 61 61 61 61 61 61 61 00")) == Violation::utf8_nul);
    CHECK(read_5("30 08 00 01 61 04 03 00 01 00") == Violation::utf8_nul);
    CHECK(read_5("30 08 00 01 61 04 03 00 01 ff") == Violation::utf8_ill_formed);
}

TEST_CASE("acknowledgements have one length: 3 §3.4.1, 5 §3.4.2.1, MQTT-3.9.3-2, MQTT-3.11.3-2") {
    for (const char* type : {"40", "50", "62", "70", "b0"}) {
        const std::string t = type;
        CHECK(read_3(t + " 00") == Violation::packet_id_absent);
        CHECK(read_3(t + " 01 00") == Violation::packet_id_absent);
        CHECK(read_3(t + " 03 00 01 00") == Violation::wrong_length);
        CHECK(read_3(t + " 02 00 00") == Violation::packet_id_zero);
        CHECK(read_5(t + " 01 00") == Violation::packet_id_absent);
        if (t == "b0") continue;
        CHECK(read_5(t + " 03 00 01 01") == Violation::reserved_reason);
        CHECK(read_5(t + " 05 00 01 00 00 00") == Violation::wrong_length);
        CHECK(read_5(t + " 04 00 01 00 01") == Violation::properties_past_end);
    }
    CHECK(read_3("d0 01 00") == Violation::wrong_length);
    CHECK(read_5("d0 01 00") == Violation::wrong_length);
    CHECK(read_3("90 02 00 01") == Violation::no_codes);
    CHECK(read_3("90 01 00") == Violation::packet_id_absent);
    CHECK(read_3("90 00") == Violation::packet_id_absent);
    CHECK(read_5("90 03 00 01 00") == Violation::no_codes);
    CHECK(read_5("b0 03 00 01 00") == Violation::no_codes);
    for (int code = 0; code < 256; ++code) {
        const bool good = code <= 2 || code == 0x80;
        CHECK((read_3("90 03 00 01 " + digits(static_cast<std::size_t>(code))) == Violation::none) == good);
    }
    CHECK(read_3("90 04 00 01 00 03") == Violation::reserved_reason);
    CHECK(read_5("e0 01 04") == Violation::reserved_reason);  // only a client says that
    CHECK(read_5("e0 03 00 00 00") == Violation::wrong_length);
    CHECK(read_5("f0 01 19") == Violation::reserved_reason);
    CHECK(read_5("90 04 00 01 00 03") == Violation::reserved_reason);
}

TEST_CASE("5.0's reasons, packet by packet: 5 §2.4") {
    const auto allowed = [](const std::string& before, const std::string& after, bool first, std::vector<int> codes) {
        for (int code = 0; code < 256; ++code) {
            const bool good = std::find(codes.begin(), codes.end(), code) != codes.end();
            const std::string all = before + ' ' + digits(static_cast<std::size_t>(code)) + after;
            CAPTURE(all);
            CHECK((read(Version::v5, all, nullptr, first) == Violation::none) == good);
        }
    };
    allowed("20 03 00", " 00", true, {0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89,
                                      0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f});
    for (const char* publish : {"40 03 00 01", "50 03 00 01"})
        allowed(publish, "", false, {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99});
    for (const char* release : {"62 03 00 01", "70 03 00 01"}) allowed(release, "", false, {0x00, 0x92});
    allowed("90 04 00 01 00", "", false, {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2});
    allowed("b0 04 00 01 00", "", false, {0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91});
    allowed("e0 01", "", false, {0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94,
                                 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2});
    allowed("f0 01", "", false, {0x00, 0x18});
}

TEST_CASE("CONNACK comes first, and once: MQTT-3.2.0-1, MQTT-3.2.0-2, MQTT-3.2.2-1, MQTT-3.2.2-4, MQTT-3.2.2-6") {
    for (const char* other : {"30 03 00 01 61", "40 02 00 01", "d0 00", "90 03 00 01 00"})
        CHECK(first_3(other) == Violation::first_not_connack);
    CHECK(first_5("e0 00") == Violation::first_not_connack);
    CHECK(first_5("f0 01 18") == Violation::none);  // authentication goes before it (5 §4.12)
    CHECK(read_3(connack_3) == Violation::second_connack);
    CHECK(read_5(connack_5) == Violation::second_connack);
    CHECK(first_3("20 02 02 00") == Violation::connack_flags);
    CHECK(first_5("20 03 80 00 00") == Violation::connack_flags);
    CHECK(first_3("20 02 01 01") == Violation::session_with_refusal);
    CHECK(first_5("20 03 01 87 00") == Violation::session_with_refusal);
    CHECK(first_3("20 02 00 06") == Violation::reserved_reason);
    CHECK(first_3("20 02 00 ff") == Violation::reserved_reason);
    CHECK(first_3("20 01 00") == Violation::wrong_length);
    CHECK(first_3("20 03 00 00 00") == Violation::wrong_length);
    CHECK(first_5("20 02 00 00") == Violation::wrong_length);
    CHECK(first_5("20 04 00 00 00 00") == Violation::wrong_length);
    CHECK(first_5("20 03 00 00 01") == Violation::properties_past_end);
    const Reason reasons[] = {Reason::success,
                              Reason::unsupported_protocol_version,
                              Reason::client_identifier_not_valid,
                              Reason::server_unavailable,
                              Reason::bad_user_name_or_password,
                              Reason::not_authorized};
    for (std::size_t code = 0; code < 6; ++code) CHECK(One(Version::v3_1_1, "20 02 00 " + digits(code))->reason == reasons[code]);
}

TEST_CASE("properties: 5 §2.2.2") {
    CHECK(read_5("30 05 00 01 61 01 04") == Violation::property_unknown);
    CHECK(read_5("30 05 00 01 61 01 00") == Violation::property_unknown);
    CHECK(read_5("30 05 00 01 61 01 2b") == Violation::property_unknown);
    CHECK(read_5("30 06 00 01 61 02 ff 01") == Violation::property_unknown);
    CHECK(read_5("30 06 00 01 61 02 81 00") == Violation::length_not_minimal);
    CHECK(read_5("30 07 00 01 61 03 21 00 01") == Violation::property_misplaced);
    CHECK(read_5("40 06 00 01 00 02 01 01") == Violation::property_misplaced);
    CHECK(first_5("20 06 00 00 03 23 00 01") == Violation::property_misplaced);
    CHECK(read_5("30 08 00 01 61 04 01 01 01 01") == Violation::property_repeated);
    CHECK(read_5("30 08 00 01 61 04 0b 01 0b 02") == Violation::none);  // as often as subscriptions match
    CHECK(read_5("30 12 00 01 61 0e 26 00 01 61 00 01 62 26 00 01 61 00 01 62") == Violation::none);
    CHECK(read_5("30 05 00 01 61 01 01") == Violation::property_truncated);
    CHECK(read_5("30 07 00 01 61 03 02 00 00") == Violation::property_truncated);
    CHECK(read_5("30 07 00 01 61 03 03 00 01") == Violation::property_truncated);
    CHECK(read_5("30 08 00 01 61 04 26 00 01 61") == Violation::property_truncated);
    CHECK(read_5("30 04 00 01 61 01") == Violation::properties_past_end);
    CHECK(read_5("30 08 00 01 61 ff ff ff ff 01") == Violation::length_too_long);
    CHECK(read_5("30 06 00 01 61 02 01 02") == Violation::property_value);
    CHECK(read_5("30 06 00 01 61 02 0b 00") == Violation::property_value);
    CHECK(read_5("30 07 00 01 61 03 23 00 00") == Violation::property_value);
    CHECK(first_5("20 06 00 00 03 21 00 00") == Violation::property_value);
    CHECK(first_5("20 08 00 00 05 27 00 00 00 00") == Violation::property_value);
    CHECK(first_5("20 05 00 00 02 24 02") == Violation::property_value);
    CHECK(first_5("20 05 00 00 02 25 01") == Violation::none);
    CHECK(read_5("30 08 00 01 61 04 08 00 01 2b") == Violation::topic_wildcard);  // MQTT-3.3.2-14
}

TEST_CASE("each property may stand where the standard says, and nowhere else: 5 §2.2.2.2") {
    // A value for each, and the packets from a server in which it may be.
    struct Case {
        const char* property;
        std::string packets;
    };
    const std::string all = "CPAarRSUDX";  // CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL (r is for COMP), SUBACK, UNSUBACK, DISCONNECT, AUTH
    const Case cases[] = {
        {"01 01", "P"},
        {"02 00 00 00 01", "P"},
        {"03 00 00", "P"},
        {"08 00 01 61", "P"},
        {"09 00 00", "P"},
        {"0b 01", "P"},
        {"11 00 00 00 00", "CD"},
        {"12 00 01 61", "C"},
        {"13 00 00", "C"},
        {"15 00 01 61", "CX"},
        {"16 00 00", "CX"},
        {"17 01", ""},
        {"18 00 00 00 01", ""},
        {"19 01", ""},
        {"1a 00 01 61", "C"},
        {"1c 00 01 61", "CD"},
        {"1f 00 01 61", "CAarRSUDX"},
        {"21 00 01", "C"},
        {"22 00 01", "C"},
        {"23 00 01", "P"},
        {"24 01", "C"},
        {"25 01", "C"},
        {"26 00 01 61 00 01 62", "CPAarRSUDX"},
        {"27 00 00 00 01", "C"},
        {"28 01", "C"},
        {"29 01", "C"},
        {"2a 01", "C"},
    };
    for (const Case& c : cases) {
        const std::size_t n = from_hex(c.property).size();
        const std::string tail = digits(n) + ' ' + c.property;
        for (char packet : all) {
            std::string hex;
            switch (packet) {
                case 'C':
                    hex = "20 " + digits(n + 3) + " 00 00 " + tail;
                    break;
                case 'P':
                    hex = "30 " + digits(n + 4) + " 00 01 61 " + tail;
                    break;
                case 'A':
                    hex = "40 " + digits(n + 4) + " 00 01 00 " + tail;
                    break;
                case 'a':
                    hex = "50 " + digits(n + 4) + " 00 01 00 " + tail;
                    break;
                case 'R':
                    hex = "62 " + digits(n + 4) + " 00 01 00 " + tail;
                    break;
                case 'r':
                    hex = "70 " + digits(n + 4) + " 00 01 00 " + tail;
                    break;
                case 'S':
                    hex = "90 " + digits(n + 4) + " 00 01 " + tail + " 00";
                    break;
                case 'U':
                    hex = "b0 " + digits(n + 4) + " 00 01 " + tail + " 00";
                    break;
                case 'D':
                    hex = "e0 " + digits(n + 2) + " 00 " + tail;
                    break;
                default:
                    hex = "f0 " + digits(n + 2) + " 00 " + tail;
                    break;
            }
            CAPTURE(hex, packet);
            const Violation expected = c.packets.find(packet) != std::string::npos ? Violation::none : Violation::property_misplaced;
            CHECK(read(Version::v5, hex, nullptr, packet == 'C') == expected);
        }
    }
}

TEST_CASE("the connection ends inside a packet, or between two") {
    for (const char* partial : {"30", "30 05", "30 05 00 01 61", "d0", "30 80"}) CHECK(read_3(partial) == Violation::ended_inside_packet);
    Decoder decoder(Version::v3_1_1, limit);
    CHECK(decoder.end() == Error());
}

TEST_CASE("a packet that comes in one piece is not copied, and one that declares much takes nothing") {
    const test::Buffer all = from_hex(std::string(connack_3) + " 30 05 00 01 61 68 69");
    Decoder decoder(Version::v3_1_1, 300'000'000);
    Bytes from(all);
    Packet packet;
    REQUIRE(*decoder.next(from, packet));
    REQUIRE(*decoder.next(from, packet));
    CHECK(packet.payload.data() == all.data() + 9);
    CHECK_FALSE(*decoder.next(from, packet));
    const test::Buffer declared = from_hex("30 ff ff ff 7f 00");
    from = declared;
    CHECK_FALSE(*decoder.next(from, packet));  // with a cap that allows it: what has come is kept, and no more
    Decoder strict(Version::v3_1_1, 1'000'000);
    const test::Buffer first = from_hex("20 ff ff ff 7f 00");
    from = Bytes(first);
    CHECK(strict.next(from, packet).error() == Errc::too_large);
    CHECK(strict.next(from, packet).error() == Errc::too_large);  // for good
}

TEST_CASE("every violation says what it is, and where it stands") {
    for (int i = 1; i <= static_cast<int>(Violation::qos_not_granted); ++i) {
        const Statement statement = statement_of(static_cast<Violation>(i));
        CHECK(std::string(statement.words).size() > 5);
        CHECK(std::string(statement.v5).size() > 3);
    }
}
