// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <rejoin/core/bytes.hpp>

// MQTT's numbers, as the two standards have them: 3.1.1 (OASIS, 2014) and 5.0 (OASIS, 2019). "3 §" and "5 §" are their sections.
namespace rejoin::inline v0_1::mqtt {

enum class Version : std::uint8_t { v3_1_1 = 4, v5 = 5 };

/// 3 §2.2.1, 5 §2.1.2.
enum class PacketType : std::uint8_t {
    connect = 1,
    connack,
    publish,
    puback,
    pubrec,
    pubrel,
    pubcomp,
    subscribe,
    suback,
    unsubscribe,
    unsuback,
    pingreq,
    pingresp,
    disconnect,
    auth,  // 5.0 only
};

enum class Qos : std::uint8_t { at_most_once, at_least_once, exactly_once };

/// The properties of 5.0 (§2.2.2.2).
enum class Property : std::uint8_t {
    payload_format_indicator = 0x01,
    message_expiry_interval = 0x02,
    content_type = 0x03,
    response_topic = 0x08,
    correlation_data = 0x09,
    subscription_identifier = 0x0b,
    session_expiry_interval = 0x11,
    assigned_client_identifier = 0x12,
    server_keep_alive = 0x13,
    authentication_method = 0x15,
    authentication_data = 0x16,
    request_problem_information = 0x17,
    will_delay_interval = 0x18,
    request_response_information = 0x19,
    response_information = 0x1a,
    server_reference = 0x1c,
    reason_string = 0x1f,
    receive_maximum = 0x21,
    topic_alias_maximum = 0x22,
    topic_alias = 0x23,
    maximum_qos = 0x24,
    retain_available = 0x25,
    user_property = 0x26,
    maximum_packet_size = 0x27,
    wildcard_subscription_available = 0x28,
    subscription_identifier_available = 0x29,
    shared_subscription_available = 0x2a,
};

/// How a property's value is written (5 §1.5).
enum class ValueType : std::uint8_t { none, flag, byte, two_bytes, four_bytes, variable, text, binary, text_pair };

/// What may be said of a property: how it is written, in which packets it may stand (a bit for each `PacketType`; bit 0 is a will), whether
/// more than once, and whether it may be zero.
struct PropertyRule {
    ValueType type = ValueType::none;  ///< none: there is no such property
    std::uint16_t packets = 0;
    bool repeats = false;
    bool zero = true;
    /// Bytes of its value at least.
    constexpr std::size_t size_min() const {
        constexpr std::uint8_t sizes[] = {0, 1, 1, 2, 4, 1, 2, 2, 4};
        return sizes[static_cast<int>(type)];
    }
};

/// A will's properties are not those of the CONNECT packet that it stands in.
inline constexpr PacketType in_will{};

namespace detail {

constexpr std::uint16_t in() { return 0; }
template <class... More>
constexpr std::uint16_t in(PacketType first, More... more) {
    return static_cast<std::uint16_t>(1u << static_cast<unsigned>(first) | in(more...));
}

struct PropertyRules {
    PropertyRule of[0x2b];
    constexpr PropertyRules() : of() {
        using enum Property;
        using enum PacketType;
        using T = ValueType;
        const auto set = [this](Property p, PropertyRule rule) { of[static_cast<int>(p)] = rule; };
        constexpr std::uint16_t acks = in(puback, pubrec, pubrel, pubcomp, suback, unsuback);
        set(payload_format_indicator, {T::flag, in(publish, in_will)});
        set(message_expiry_interval, {T::four_bytes, in(publish, in_will)});
        set(content_type, {T::text, in(publish, in_will)});
        set(response_topic, {T::text, in(publish, in_will)});
        set(correlation_data, {T::binary, in(publish, in_will)});
        set(subscription_identifier, {T::variable, in(publish, subscribe), true, false});
        set(session_expiry_interval, {T::four_bytes, in(connect, connack, disconnect)});
        set(assigned_client_identifier, {T::text, in(connack)});
        set(server_keep_alive, {T::two_bytes, in(connack)});
        set(authentication_method, {T::text, in(connect, connack, auth)});
        set(authentication_data, {T::binary, in(connect, connack, auth)});
        set(request_problem_information, {T::flag, in(connect)});
        set(will_delay_interval, {T::four_bytes, in(in_will)});
        set(request_response_information, {T::flag, in(connect)});
        set(response_information, {T::text, in(connack)});
        set(server_reference, {T::text, in(connack, disconnect)});
        set(reason_string, {T::text, static_cast<std::uint16_t>(acks | in(connack, disconnect, auth))});
        set(receive_maximum, {T::two_bytes, in(connect, connack), false, false});
        set(topic_alias_maximum, {T::two_bytes, in(connect, connack)});
        set(topic_alias, {T::two_bytes, in(publish), false, false});
        set(maximum_qos, {T::flag, in(connack)});
        set(retain_available, {T::flag, in(connack)});
        set(user_property,
            {T::text_pair,
             static_cast<std::uint16_t>(acks | in(in_will, connect, connack, publish, subscribe, unsubscribe, disconnect, auth)), true});
        set(maximum_packet_size, {T::four_bytes, in(connect, connack), false, false});
        set(wildcard_subscription_available, {T::flag, in(connack)});
        set(subscription_identifier_available, {T::flag, in(connack)});
        set(shared_subscription_available, {T::flag, in(connack)});
    }
};
inline constexpr PropertyRules property_rules;

}  // namespace detail

constexpr PropertyRule rule_of(Property p) {
    const auto id = static_cast<std::size_t>(p);
    return id < sizeof detail::property_rules.of / sizeof(PropertyRule) ? detail::property_rules.of[id] : PropertyRule();
}

/// The reason codes of 5.0 (§2.4). Those of 3.1.1 are read as what they mean here.
enum class Reason : std::uint8_t {
    success = 0x00,  ///< and: normal disconnection, granted QoS 0
    granted_qos_1 = 0x01,
    granted_qos_2 = 0x02,
    disconnect_with_will = 0x04,
    no_matching_subscribers = 0x10,
    no_subscription_existed = 0x11,
    continue_authentication = 0x18,
    reauthenticate = 0x19,
    unspecified_error = 0x80,
    malformed_packet = 0x81,
    protocol_error = 0x82,
    implementation_specific_error = 0x83,
    unsupported_protocol_version = 0x84,
    client_identifier_not_valid = 0x85,
    bad_user_name_or_password = 0x86,
    not_authorized = 0x87,
    server_unavailable = 0x88,
    server_busy = 0x89,
    banned = 0x8a,
    server_shutting_down = 0x8b,
    bad_authentication_method = 0x8c,
    keep_alive_timeout = 0x8d,
    session_taken_over = 0x8e,
    topic_filter_invalid = 0x8f,
    topic_name_invalid = 0x90,
    packet_identifier_in_use = 0x91,
    packet_identifier_not_found = 0x92,
    receive_maximum_exceeded = 0x93,
    topic_alias_invalid = 0x94,
    packet_too_large = 0x95,
    message_rate_too_high = 0x96,
    quota_exceeded = 0x97,
    administrative_action = 0x98,
    payload_format_invalid = 0x99,
    retain_not_supported = 0x9a,
    qos_not_supported = 0x9b,
    use_another_server = 0x9c,
    server_moved = 0x9d,
    shared_subscriptions_not_supported = 0x9e,
    connection_rate_exceeded = 0x9f,
    maximum_connect_time = 0xa0,
    subscription_identifiers_not_supported = 0xa1,
    wildcard_subscriptions_not_supported = 0xa2,
};
/// Whether a reason says that it did not work (5 §2.4: 0x80 and more).
constexpr bool failed(Reason reason) { return static_cast<std::uint8_t>(reason) >= 0x80; }

/// What a server's bytes may not be: each with the statement that says so.
enum class Violation : std::uint8_t {
    none,
    length_too_long,         ///< a remaining length, or another variable byte integer, of more than four bytes
    length_not_minimal,      ///< one that could be shorter
    packet_too_large,        ///< more than this client takes
    reserved_type,           ///< a packet type that does not exist
    client_only_type,        ///< a packet that only a client sends
    reserved_flags,          ///< bits of the first byte that have to be otherwise
    qos_3,                   ///< both QoS bits
    dup_with_qos_0,          ///< sent again, and never to be
    packet_id_absent,        ///< the packet ends before its identifier
    packet_id_zero,          ///< an identifier of 0
    wrong_length,            ///< a packet longer or shorter than it can be
    string_past_end,         ///< a string or binary that goes on behind the end of its packet
    utf8_ill_formed,         ///< surrogates, overlong, cut short, or above U+10FFFF
    utf8_nul,                ///< U+0000
    topic_empty,             ///< no topic, and no alias for one
    topic_wildcard,          ///< `+` or `#` in the name of a topic
    first_not_connack,       ///< anything else before CONNACK
    second_connack,          ///< another one
    connack_flags,           ///< bits that are reserved
    session_with_refusal,    ///< a session, and a refusal
    reserved_reason,         ///< a code that does not exist, or not in this packet
    no_codes,                ///< SUBACK or UNSUBACK without any
    wrong_count_of_codes,    ///< as many as were asked for have to come
    ended_inside_packet,     ///< the connection ended in the middle of a packet
    property_unknown,        ///< an identifier that does not exist
    property_misplaced,      ///< one that may not stand in this packet
    property_repeated,       ///< twice what may be there once
    property_truncated,      ///< the properties end inside one
    properties_past_end,     ///< they go on behind the end of their packet
    property_unasked,        ///< a reason in words, or a user property, though this client wants none
    property_value,          ///< neither 0 nor 1, or 0 where that is forbidden
    authentication_unasked,  ///< AUTH, though no method was agreed on
    topic_alias,             ///< an alias beyond those allowed, or that stands for nothing
    receive_maximum,         ///< more messages of QoS 2 at once than were allowed
    qos_not_granted,         ///< an acknowledgement of another kind than was asked for
};

/// A violation, in words, and where each standard forbids it: 5.0's statement, then that of 3.1.1. Empty where it allows it.
struct Statement {
    const char* words;
    const char* v5;
    const char* v3_1_1;
};
constexpr Statement statement_of(Violation violation) {
    switch (violation) {
        case Violation::none:
            return {"nothing is wrong", "", ""};
        case Violation::length_too_long:
            return {"a length of more than four bytes", "5 §1.5.5", "3 §2.2.3"};
        case Violation::length_not_minimal:
            return {"a length that could be shorter", "MQTT-1.5.5-1", ""};
        case Violation::packet_too_large:
            return {"a packet larger than is taken here", "MQTT-3.1.2-24", ""};
        case Violation::reserved_type:
            return {"a packet type that does not exist", "5 §2.1.2", "3 §2.2.1"};
        case Violation::client_only_type:
            return {"a packet that only a client sends", "5 §2.1.2", "3 §2.2.1"};
        case Violation::reserved_flags:
            return {"reserved flags", "MQTT-2.1.3-1", "MQTT-2.2.2-2"};
        case Violation::qos_3:
            return {"a QoS of 3", "MQTT-3.3.1-4", "MQTT-3.3.1-4"};
        case Violation::dup_with_qos_0:
            return {"sent again with QoS 0", "MQTT-3.3.1-2", "MQTT-3.3.1-2"};
        case Violation::packet_id_absent:
            return {"no packet identifier", "5 §2.2.1", "3 §2.3.1"};
        case Violation::packet_id_zero:
            return {"a packet identifier of 0", "MQTT-2.2.1-4", "MQTT-2.3.1-1"};
        case Violation::wrong_length:
            return {"a packet of the wrong length", "5 §3", "3 §3"};
        case Violation::string_past_end:
            return {"a string that goes on behind its packet", "5 §1.5.4", "3 §1.5.3"};
        case Violation::utf8_ill_formed:
            return {"ill-formed UTF-8", "MQTT-1.5.4-1", "MQTT-1.5.3-1"};
        case Violation::utf8_nul:
            return {"U+0000 in a string", "MQTT-1.5.4-2", "MQTT-1.5.3-2"};
        case Violation::topic_empty:
            return {"an empty topic", "MQTT-4.7.3-1", "MQTT-4.7.3-1"};
        case Violation::topic_wildcard:
            return {"a wildcard in a topic name", "MQTT-3.3.2-2", "MQTT-3.3.2-2"};
        case Violation::first_not_connack:
            return {"something before CONNACK", "MQTT-3.2.0-1", "MQTT-3.2.0-1"};
        case Violation::second_connack:
            return {"a second CONNACK", "MQTT-3.2.0-2", "3 §3.2"};
        case Violation::connack_flags:
            return {"reserved flags in CONNACK", "MQTT-3.2.2-1", "3 §3.2.2.1"};
        case Violation::session_with_refusal:
            return {"a refusal with a session present", "MQTT-3.2.2-6", "MQTT-3.2.2-4"};
        case Violation::reserved_reason:
            return {"a reserved code", "5 §2.4", "MQTT-3.9.3-2"};
        case Violation::no_codes:
            return {"no codes", "5 §3.9.3", "3 §3.9.3"};
        case Violation::wrong_count_of_codes:
            return {"not as many codes as filters", "MQTT-3.8.4-6", "MQTT-3.8.4-5"};
        case Violation::ended_inside_packet:
            return {"the connection ended inside a packet", "5 §4.13", "3 §4.8"};
        case Violation::property_unknown:
            return {"a property that does not exist", "5 §2.2.2.2", ""};
        case Violation::property_misplaced:
            return {"a property that may not stand there", "5 §2.2.2.2", ""};
        case Violation::property_repeated:
            return {"a property that may be there once, twice", "5 §2.2.2.2", ""};
        case Violation::property_truncated:
            return {"a property cut short", "5 §2.2.2", ""};
        case Violation::properties_past_end:
            return {"properties that go on behind their packet", "5 §2.2.2.1", ""};
        case Violation::property_unasked:
            return {"words that were not asked for", "MQTT-3.1.2-29", ""};
        case Violation::property_value:
            return {"a property with a value that it may not have", "5 §2.2.2.2", ""};
        case Violation::authentication_unasked:
            return {"authentication, though none was asked for", "MQTT-4.12.0-6", ""};
        case Violation::topic_alias:
            return {"a topic alias that stands for nothing", "MQTT-3.3.2-9", ""};
        case Violation::receive_maximum:
            return {"more messages at once than were allowed", "MQTT-3.3.4-7", ""};
        case Violation::qos_not_granted:
            return {"an acknowledgement of another QoS", "5 §4.3", "3 §4.3"};
    }
    return {"", "", ""};
}

/// What a server is told of it (5 §4.13): a protocol error is well-formed, and may not be said there and then.
constexpr Reason reason_of(Violation violation) {
    switch (violation) {
        case Violation::packet_too_large:
            return Reason::packet_too_large;
        case Violation::topic_alias:
            return Reason::topic_alias_invalid;
        case Violation::receive_maximum:
            return Reason::receive_maximum_exceeded;
        case Violation::client_only_type:
        case Violation::topic_empty:
        case Violation::first_not_connack:
        case Violation::second_connack:
        case Violation::session_with_refusal:
        case Violation::no_codes:
        case Violation::wrong_count_of_codes:
        case Violation::property_repeated:
        case Violation::property_unasked:
        case Violation::property_value:
        case Violation::authentication_unasked:
        case Violation::qos_not_granted:
            return Reason::protocol_error;
        default:
            return Reason::malformed_packet;
    }
}

}  // namespace rejoin::inline v0_1::mqtt
