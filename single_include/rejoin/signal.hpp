// SPDX-License-Identifier: BSL-1.0
// Made by amalgamate.cmake from include/: edit there.
#pragma once
#include <rejoin.hpp>

#include <cstdint>

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

namespace rejoin::inline v0_1::mqtt {

namespace detail {

// How many bytes at the front are ordinary: ASCII, not U+0000, and not one of two others. In steps of eight; what is left is looked at one
// by one.
inline std::size_t ordinary(const std::byte* at, std::size_t size, char but, char and_but) {
    constexpr std::uint64_t ones = 0x0101010101010101, highs = ones << 7;
    const std::uint64_t first = ones * static_cast<unsigned char>(but), second = ones * static_cast<unsigned char>(and_but);
    std::size_t i = 0;
    for (std::uint64_t word; size - i >= sizeof word; i += sizeof word) {
        std::memcpy(&word, at + i, sizeof word);
        // In a word without high bits a zero byte, and no other, borrows into one; of those above it that may be wrong, but then the word
        // is not ordinary anyway.
        if (((word | (word - ones) | ((word ^ first) - ones) | ((word ^ second) - ones)) & highs) != 0) break;
    }
    return i;
}

// The length of the well-formed character at the front (Unicode 15, table 3-7); 0 for none.
inline std::size_t character(const std::byte* at, std::size_t size) {
    const auto unit = [&](std::size_t i) { return std::to_integer<unsigned>(at[i]); };
    const auto trails = [&](std::size_t i, unsigned low = 0x80, unsigned high = 0xbf) {
        return i < size && unit(i) >= low && unit(i) <= high;
    };
    const unsigned lead = unit(0);
    if (lead < 0x80) return 1;
    if (lead >= 0xc2 && lead <= 0xdf) return trails(1) ? 2 : 0;
    if (lead >= 0xe0 && lead <= 0xef) return trails(1, lead == 0xe0 ? 0xa0 : 0x80, lead == 0xed ? 0x9f : 0xbf) && trails(2) ? 3 : 0;
    if (lead >= 0xf0 && lead <= 0xf4)
        return trails(1, lead == 0xf0 ? 0x90 : 0x80, lead == 0xf4 ? 0x8f : 0xbf) && trails(2) && trails(3) ? 4 : 0;
    return 0;
}

inline Violation check_text(Bytes text, char but, char and_but) {
    std::size_t i = ordinary(text.data(), text.size(), but, and_but);
    while (i < text.size()) {
        const std::size_t n = character(text.data() + i, text.size() - i);
        if (n == 0) return Violation::utf8_ill_formed;
        if (n == 1) {
            const auto c = static_cast<char>(text[i]);
            if (c == 0) return Violation::utf8_nul;
            if (c == but || c == and_but) return Violation::topic_wildcard;
        }
        i += n;
    }
    return Violation::none;
}

}  // namespace detail

/// Whether that may be a string (5 §1.5.4, 3 §1.5.3).
inline Violation check_string(Bytes text) { return detail::check_text(text, 0, 0); }
/// Whether that may be the name of a topic, but for its being empty (§4.7).
inline Violation check_topic_name(Bytes text) { return detail::check_text(text, '+', '#'); }
/// Whether a name of at most 128 bytes may be one level of a topic.
inline bool valid_topic_level(TextView name) {
    return name.size() > 0 && name.size() <= 128 && check_topic_name(name.bytes()) == Violation::none &&
           std::memchr(name.data(), '/', name.size()) == nullptr;
}
/// Whether that may be a topic filter (§4.7.1): `+` stands for a whole level, `#` for all that follow, and is the last. Those of shared
/// subscriptions (5 §4.8.2), `$share/NAME/FILTER`, have a name without wildcards, and a filter.
inline bool valid_topic_filter(TextView filter) {
    if (filter.size() == 0 || filter.size() > 65535 || check_string(filter.bytes()) != Violation::none) return false;
    static constexpr TextView share = "$share/";
    if (filter.size() >= share.size() && TextView(filter.data(), share.size()) == share) {
        std::size_t end = share.size();
        for (; end < filter.size() && filter[end] != '/'; ++end)
            if (filter[end] == '+' || filter[end] == '#') return false;
        if (end == share.size() || end + 1 >= filter.size()) return false;
        filter = TextView(filter.data() + end + 1, filter.size() - end - 1);
    }
    for (std::size_t i = 0; i < filter.size(); ++i) {
        if (filter[i] != '+' && filter[i] != '#') continue;
        if (i > 0 && filter[i - 1] != '/') return false;
        if (filter[i] == '#' ? i + 1 < filter.size() : i + 1 < filter.size() && filter[i + 1] != '/') return false;
    }
    return true;
}
/// Whether a topic's name matches a filter, both valid (§4.7).
inline bool matches(TextView filter, TextView topic) {
    // What begins with `$` is not what a filter that begins with a wildcard means (MQTT-4.7.2-1).
    if (topic.size() > 0 && topic[0] == '$' && filter.size() > 0 && (filter[0] == '+' || filter[0] == '#')) return false;
    std::size_t f = 0, t = 0;
    while (f < filter.size()) {
        if (filter[f] == '#') return true;
        if (filter[f] == '+') {
            ++f;
            while (t < topic.size() && topic[t] != '/') ++t;
        } else if (t < topic.size() && filter[f] == topic[t]) {
            ++f, ++t;
        } else {
            // `a/#` means `a` as well (§4.7.1.2).
            return t == topic.size() && filter.size() - f == 2 && filter[f] == '/' && filter[f + 1] == '#';
        }
    }
    return t == topic.size();
}

}  // namespace rejoin::inline v0_1::mqtt

namespace rejoin::inline v0_1::mqtt {

namespace detail {

// Reads from the front of bytes. Once something is not there, or not as it has to be, `why` says so, and nothing more is read.
class Cursor {
public:
    explicit Cursor(Bytes bytes, Violation truncated = Violation::string_past_end)
        : at_(bytes.data()), end_(bytes.data() + bytes.size()), truncated_(truncated) {}
    Violation why = Violation::none;

    std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }
    Bytes rest() const { return {at_, left()}; }

    template <class T>
    T number() {
        if (!there(sizeof(T))) return 0;
        const T value = load_big<T>(at_);
        at_ += sizeof(T);
        return value;
    }
    // A variable byte integer (5 §1.5.5, 3 §2.2.3).
    std::uint32_t variable() {
        std::uint32_t value = 0;
        for (unsigned shift = 0; shift < 28; shift += 7) {
            if (!there(1)) return 0;
            const auto byte = std::to_integer<std::uint32_t>(*at_++);
            value |= (byte & 0x7f) << shift;
            if (byte >= 0x80) continue;
            if (byte == 0 && shift > 0) why = Violation::length_not_minimal;
            return value;
        }
        why = Violation::length_too_long;
        return 0;
    }
    Bytes take(std::size_t n) {
        if (!there(n)) return {};
        const Bytes taken(at_, n);
        at_ += n;
        return taken;
    }
    Bytes binary() {
        const std::size_t n = number<std::uint16_t>();
        return take(n);
    }
    Bytes string() {
        const Bytes text = binary();
        if (why == Violation::none) why = check_string(text);
        return text;
    }

private:
    bool there(std::size_t n) {
        if (why != Violation::none) return false;
        if (left() < n) why = truncated_;
        return why == Violation::none;
    }

    const std::byte* at_;
    const std::byte* end_;
    Violation truncated_;
};

}  // namespace detail

/// One property, read: a number, or text or binary, or a pair of texts. Its views hold as long as the packet.
struct PropertyValue {
    std::uint32_t number = 0;
    Bytes bytes;   ///< text, binary, or the name of a pair
    Bytes second;  ///< the value of a pair
    TextView text() const { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
};

namespace detail {

inline PropertyValue read_value(Cursor& from, ValueType type) {
    PropertyValue value;
    switch (type) {
        case ValueType::flag:
        case ValueType::byte:
            value.number = from.number<std::uint8_t>();
            break;
        case ValueType::two_bytes:
            value.number = from.number<std::uint16_t>();
            break;
        case ValueType::four_bytes:
            value.number = from.number<std::uint32_t>();
            break;
        case ValueType::variable:
            value.number = from.variable();
            break;
        case ValueType::binary:
            value.bytes = from.binary();
            break;
        case ValueType::text_pair:
            value.bytes = from.string();
            value.second = from.string();
            break;
        case ValueType::text:
            value.bytes = from.string();
            break;
        case ValueType::none:
            break;
    }
    return value;
}

// What is wrong with the properties of a packet of that type.
inline Violation check_properties(Bytes properties, PacketType packet) {
    Cursor from(properties, Violation::property_truncated);
    std::uint64_t seen = 0;
    while (from.left() > 0) {
        // An identifier is a variable byte integer, of which no property needs more than one byte.
        const std::uint32_t id = from.variable();
        if (from.why != Violation::none) return from.why;
        const PropertyRule rule = id < 0x80 ? rule_of(static_cast<Property>(id)) : PropertyRule();
        if (rule.type == ValueType::none) return Violation::property_unknown;
        if ((rule.packets >> static_cast<unsigned>(packet) & 1) == 0) return Violation::property_misplaced;
        if (!rule.repeats && (seen >> id & 1) != 0) return Violation::property_repeated;
        seen |= std::uint64_t{1} << id;
        const PropertyValue value = read_value(from, rule.type);
        if (from.why != Violation::none) return from.why;
        if ((rule.type == ValueType::flag && value.number > 1) || (!rule.zero && value.number == 0)) return Violation::property_value;
        // A response topic is the name of a topic (MQTT-3.3.2-14).
        if (static_cast<Property>(id) == Property::response_topic)
            if (const Violation bad = check_topic_name(value.bytes); bad != Violation::none) return bad;
    }
    return Violation::none;
}

}  // namespace detail

/// The properties of a packet that was checked: looked at where they are, valid as long as the packet.
class Properties {
public:
    Properties() = default;
    explicit Properties(Bytes checked) : bytes_(checked) {}

    bool empty() const { return bytes_.empty(); }
    Bytes bytes() const { return bytes_; }
    /// Calls `f(Property, const PropertyValue&)` with each, in order, until it returns false.
    template <class F>
    void each(F f) const {
        detail::Cursor from(bytes_);
        while (from.left() > 0) {
            const auto id = static_cast<Property>(from.variable());
            const PropertyValue value = detail::read_value(from, rule_of(id).type);
            if (from.why != Violation::none || !f(id, value)) return;
        }
    }
    /// The first one of that kind; false when there is none.
    bool find(Property wanted, PropertyValue& found) const {
        bool there = false;
        each([&](Property id, const PropertyValue& value) {
            there = id == wanted;
            if (there) found = value;
            return !there;
        });
        return there;
    }
    std::uint32_t number(Property wanted, std::uint32_t otherwise) const {
        PropertyValue found;
        return find(wanted, found) ? found.number : otherwise;
    }
    TextView text(Property wanted) const {
        PropertyValue found;
        find(wanted, found);
        return found.text();
    }

private:
    Bytes bytes_;
};

/// Writes properties, for a packet that is to be sent. What cannot be said there makes `error` say so, and is left out.
class PropertyWriter {
public:
    explicit PropertyWriter(PacketType packet) : packet_(packet) {}

    PropertyWriter& number(Property id, std::uint32_t value) {
        const PropertyRule rule = rule_of(id);
        std::byte room[5];
        room[0] = static_cast<std::byte>(id);
        std::size_t size = 1;
        switch (rule.type) {
            case ValueType::flag:
            case ValueType::byte:
                room[size++] = static_cast<std::byte>(value);
                break;
            case ValueType::two_bytes:
                store_big(room + size, static_cast<std::uint16_t>(value));
                size += 2;
                break;
            case ValueType::four_bytes:
                store_big(room + size, value);
                size += 4;
                break;
            case ValueType::variable:
                for (std::uint32_t rest = value; size < sizeof room; rest >>= 7) {
                    room[size++] = static_cast<std::byte>((rest & 0x7f) | (rest >= 0x80 ? 0x80 : 0));
                    if (rest < 0x80) break;
                }
                break;
            default:
                error_ = Errc::invalid_argument;
                return *this;
        }
        if (value > largest(rule.type)) error_ = Errc::invalid_argument;
        return add({room, size});
    }
    PropertyWriter& text(Property id, TextView value) { return string(id, ValueType::text, value.bytes(), {}); }
    PropertyWriter& binary(Property id, Bytes value) { return string(id, ValueType::binary, value, {}); }
    PropertyWriter& user(TextView name, TextView value) {
        return string(Property::user_property, ValueType::text_pair, name.bytes(), value.bytes());
    }
    Error error() const {
        if (error_) return error_;
        return detail::check_properties(bytes(), packet_) == Violation::none ? Error() : Error(Errc::invalid_argument);
    }
    Bytes bytes() const { return {bytes_.data(), bytes_.size()}; }

private:
    static constexpr std::uint32_t largest(ValueType type) {
        switch (type) {
            case ValueType::flag:
            case ValueType::byte:
                return UINT8_MAX;
            case ValueType::two_bytes:
                return UINT16_MAX;
            case ValueType::variable:
                return (1u << 28) - 1;
            default:
                return UINT32_MAX;
        }
    }
    PropertyWriter& string(Property id, ValueType type, Bytes first, Bytes second) {
        if (rule_of(id).type != type || first.size() > UINT16_MAX || second.size() > UINT16_MAX) {
            error_ = Errc::invalid_argument;
            return *this;
        }
        std::byte head[3] = {static_cast<std::byte>(id)};
        store_big(head + 1, static_cast<std::uint16_t>(first.size()));
        add(head).add(first);
        if (type != ValueType::text_pair) return *this;
        store_big(head, static_cast<std::uint16_t>(second.size()));
        return add({head, 2}).add(second);
    }
    PropertyWriter& add(Bytes bytes) {
        if (!error_ && !bytes_.append(bytes.data(), bytes.size())) error_ = Errc::out_of_memory;
        return *this;
    }

    Array<std::byte> bytes_;
    PacketType packet_;
    Error error_;
};

}  // namespace rejoin::inline v0_1::mqtt

namespace rejoin::inline v0_1::mqtt {

/// A packet from a server. Which members mean something depends on its type; what it has not stays as it is here. Its views hold until the
/// decoder is asked for the next, and as long as the bytes that it was given.
struct Packet {
    PacketType type{};
    Qos qos = Qos::at_most_once;   ///< publish; and `dup`, `retain`, `topic`, `payload`
    bool dup = false;              ///< sent again
    bool retain = false;           ///< it was published before
    bool session_present = false;  ///< connack
    Reason reason{};               ///< connack, puback, pubrec, pubrel, pubcomp, disconnect, auth
    std::uint16_t id = 0;          ///< publish with a QoS, puback, pubrec, pubrel, pubcomp, suback, unsuback
    TextView topic;                ///< empty where an alias stands for it (5.0)
    Bytes payload;
    Bytes codes;  ///< suback and (5.0) unsuback: a `Reason` each
    Properties properties;
};

namespace detail {

// What a server may say of each type of packet: one line a type, for both versions.
struct PacketRule {
    PacketType type;
    bool v3_1_1, v5;            // whether a server sends it
    std::uint8_t flags;         // what the low bits of the first byte have to be; of PUBLISH they mean something
    bool has_id;                // behind the fixed header
    std::uint8_t length_3_1_1;  // exactly; 0xff: any
    std::uint8_t length_5_min;
    const char* reasons;  // those of 5.0 that it may have; null: it has none
};
// In 5.0's order, where success, 0x00, may always be.
inline constexpr char connack_reasons[] = "\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8c\x90\x95\x97\x99\x9a\x9b\x9c\x9d\x9f";
inline constexpr char publish_reasons[] = "\x10\x80\x83\x87\x90\x91\x97\x99";
inline constexpr char release_reasons[] = "\x92";
inline constexpr char suback_reasons[] = "\x01\x02\x80\x83\x87\x8f\x91\x97\x9e\xa1\xa2";
inline constexpr char unsuback_reasons[] = "\x11\x80\x83\x87\x8f\x91";
inline constexpr char disconnect_reasons[] =
    "\x80\x81\x82\x83\x87\x89\x8b\x8d\x8e\x8f\x90\x93\x94\x95\x96\x97\x98\x99\x9a\x9b\x9c\x9d\x9e\x9f\xa0\xa1\xa2";
inline constexpr char auth_reasons[] = "\x18";

inline constexpr PacketRule packet_rules[] = {
    {PacketType{}, false, false, 0, false, 0xff, 0, nullptr},
    {PacketType::connect, false, false, 0, false, 0xff, 0, nullptr},
    {PacketType::connack, true, true, 0, false, 2, 3, connack_reasons},
    {PacketType::publish, true, true, 0, false, 0xff, 3, nullptr},
    {PacketType::puback, true, true, 0, true, 2, 2, publish_reasons},
    {PacketType::pubrec, true, true, 0, true, 2, 2, publish_reasons},
    {PacketType::pubrel, true, true, 2, true, 2, 2, release_reasons},
    {PacketType::pubcomp, true, true, 0, true, 2, 2, release_reasons},
    {PacketType::subscribe, false, false, 2, true, 0xff, 0, nullptr},
    {PacketType::suback, true, true, 0, true, 0xff, 3, suback_reasons},
    {PacketType::unsubscribe, false, false, 2, true, 0xff, 0, nullptr},
    {PacketType::unsuback, true, true, 0, true, 2, 3, unsuback_reasons},
    {PacketType::pingreq, false, false, 0, false, 0, 0, nullptr},
    {PacketType::pingresp, true, true, 0, false, 0, 0, nullptr},
    {PacketType::disconnect, false, true, 0, false, 0, 0, disconnect_reasons},
    {PacketType::auth, false, true, 0, false, 0xff, 0, auth_reasons},
};

inline bool may_say(const char* reasons, std::uint8_t code) {
    if (code == 0) return true;
    for (; *reasons != 0; ++reasons)
        if (static_cast<std::uint8_t>(*reasons) == code) return true;
    return false;
}

}  // namespace detail

/// Reads what a server sends, packet by packet, whatever the pieces in which it comes. Pure. A packet that lies whole in the bytes that
/// come is neither copied nor allocated for; of one that does not, what has come is kept, and never more than that.
class Decoder {
public:
    /// `packet_limit`: bytes of one packet, its header included, at most; at least 5.
    Decoder(Version version, std::size_t packet_limit) : version_(version), limit_(packet_limit) {}

    /// Takes one packet off the front of `bytes`: true when there is one. After `malformed`, or `too_large`, `violation` says why, and
    /// nothing more is read. `out_of_memory`.
    Result<bool> next(Bytes& bytes, Packet& packet) {
        if (whole_) {
            whole_ = false;
            partial_.clear();
        }
        if (why_ != Violation::none) return failure();
        if (!partial_.empty()) return go_on(bytes, packet);
        std::size_t size = 0;
        if (!measure(bytes, size)) return failure();
        if (size == 0 || size > bytes.size()) {
            const bool kept = partial_.append(bytes.data(), bytes.size());
            if (!kept) return Errc::out_of_memory;
            bytes = {};
            return false;
        }
        const Bytes one = bytes.first(size);
        bytes = bytes.subspan(size);
        return decoded(one, packet);
    }
    /// The connection has ended: `malformed` when that was inside a packet.
    Error end() {
        if (why_ == Violation::none && !partial_.empty() && !whole_) why_ = Violation::ended_inside_packet;
        return why_ == Violation::none ? Error() : failure();
    }
    Violation violation() const { return why_; }

private:
    static constexpr std::size_t header_max = 5;

    Error failure() const { return why_ == Violation::packet_too_large ? Errc::too_large : Errc::malformed; }
    Result<bool> go_on(Bytes& bytes, Packet& packet) {
        for (;;) {
            std::size_t size = 0;
            if (!measure({partial_.data(), partial_.size()}, size)) return failure();
            if (size > 0 && partial_.size() == size) {
                whole_ = true;
                return decoded({partial_.data(), size}, packet);
            }
            if (bytes.empty()) return false;
            // Of the header byte by byte: where it ends is not known.
            const std::size_t want = size == 0 ? 1 : size - partial_.size(), n = want < bytes.size() ? want : bytes.size();
            if (!partial_.append(bytes.data(), n)) return Errc::out_of_memory;
            bytes = bytes.subspan(n);
        }
    }
    // How long the packet at the front is, header included; 0 while that cannot be told. False when it must not be.
    bool measure(Bytes bytes, std::size_t& size) {
        if (bytes.empty()) return true;
        const auto first = std::to_integer<unsigned>(bytes[0]);
        if (why_ = check_first(first); why_ != Violation::none) return false;
        detail::Cursor from(bytes.subspan(1), Violation::ended_inside_packet);
        const std::uint32_t length = from.variable();
        const std::size_t header = bytes.size() - from.left();
        if (from.why == Violation::ended_inside_packet) return true;
        // 3.1.1 says nowhere that it has to be as short as it can be.
        if (from.why != Violation::none && (from.why != Violation::length_not_minimal || version_ == Version::v5))
            why_ = from.why;
        else if (length > limit_ || header + length > limit_)
            why_ = Violation::packet_too_large;
        else
            size = header + length;
        return why_ == Violation::none;
    }
    Violation check_first(unsigned first) const {
        const detail::PacketRule& rule = detail::packet_rules[first >> 4];
        const bool exists = first >> 4 != 0 && (first >> 4 != 15 || version_ == Version::v5);
        if (!exists) return Violation::reserved_type;
        if (!(version_ == Version::v5 ? rule.v5 : rule.v3_1_1)) return Violation::client_only_type;
        if (rule.type == PacketType::publish) {
            if ((first & 6) == 6) return Violation::qos_3;
            if ((first & 14) == 8) return Violation::dup_with_qos_0;
        } else if ((first & 15) != rule.flags) {
            return Violation::reserved_flags;
        }
        if (!connected_ && rule.type != PacketType::connack && rule.type != PacketType::auth) return Violation::first_not_connack;
        if (connected_ && rule.type == PacketType::connack) return Violation::second_connack;
        return Violation::none;
    }

    Result<bool> decoded(Bytes one, Packet& packet) {
        packet = {};
        const auto first = std::to_integer<unsigned>(one[0]);
        std::size_t header = 2;
        while ((std::to_integer<unsigned>(one[header - 1]) & 0x80) != 0) ++header;
        packet.type = static_cast<PacketType>(first >> 4);
        why_ = packet.type == PacketType::publish ? publish(first, one.subspan(header), packet) : other(one.subspan(header), packet);
        if (why_ != Violation::none) return failure();
        connected_ = connected_ || packet.type == PacketType::connack;
        return true;
    }
    Violation publish(unsigned first, Bytes body, Packet& packet) {
        packet.qos = static_cast<Qos>(first >> 1 & 3);
        packet.dup = (first & 8) != 0;
        packet.retain = (first & 1) != 0;
        detail::Cursor from(body);
        const Bytes topic = from.binary();
        if (from.why != Violation::none) return from.why;
        if (const Violation bad = check_topic_name(topic); bad != Violation::none) return bad;
        packet.topic = {reinterpret_cast<const char*>(topic.data()), topic.size()};
        if (packet.qos != Qos::at_most_once) {
            if (from.left() < 2) return Violation::packet_id_absent;
            packet.id = from.number<std::uint16_t>();
            if (packet.id == 0) return Violation::packet_id_zero;
        }
        if (version_ == Version::v5)
            if (const Violation bad = properties(from, packet); bad != Violation::none) return bad;
        if (topic.empty() && (version_ != Version::v5 || packet.properties.number(Property::topic_alias, 0) == 0))
            return Violation::topic_empty;
        packet.payload = from.rest();
        return Violation::none;
    }
    Violation other(Bytes body, Packet& packet) {
        const detail::PacketRule& rule = detail::packet_rules[static_cast<int>(packet.type)];
        const bool v5 = version_ == Version::v5;
        if (v5 ? body.size() < rule.length_5_min : rule.length_3_1_1 != 0xff && body.size() != rule.length_3_1_1)
            return rule.has_id && body.size() < 2 ? Violation::packet_id_absent : Violation::wrong_length;
        detail::Cursor from(body, Violation::wrong_length);
        if (rule.has_id) {
            if (body.size() < 2) return Violation::packet_id_absent;
            packet.id = from.number<std::uint16_t>();
            if (packet.id == 0) return Violation::packet_id_zero;
        }
        switch (packet.type) {
            case PacketType::connack:
                return connack(from, packet);
            case PacketType::suback:
            case PacketType::unsuback:
                return acknowledged(from, packet, rule);
            case PacketType::pingresp:
                return body.empty() ? Violation::none : Violation::wrong_length;
            default:
                break;
        }
        // PUBACK and its like, DISCONNECT and AUTH: in 5.0 a reason, and then properties, either of which may be left out (§3.4.2.1,
        // §3.14.2, §3.15.2.1).
        if (from.left() == 0) return Violation::none;
        const auto code = from.number<std::uint8_t>();
        if (!detail::may_say(rule.reasons, code)) return Violation::reserved_reason;
        packet.reason = static_cast<Reason>(code);
        if (from.left() == 0) return Violation::none;
        if (const Violation bad = properties(from, packet); bad != Violation::none) return bad;
        return from.left() == 0 ? Violation::none : Violation::wrong_length;
    }
    Violation connack(detail::Cursor& from, Packet& packet) {
        const auto flags = from.number<std::uint8_t>(), code = from.number<std::uint8_t>();
        if (flags > 1) return Violation::connack_flags;
        packet.session_present = flags == 1;
        if (version_ == Version::v5) {
            if (!detail::may_say(detail::connack_reasons, code)) return Violation::reserved_reason;
            packet.reason = static_cast<Reason>(code);
        } else {
            static constexpr Reason reasons[] = {Reason::success,
                                                 Reason::unsupported_protocol_version,
                                                 Reason::client_identifier_not_valid,
                                                 Reason::server_unavailable,
                                                 Reason::bad_user_name_or_password,
                                                 Reason::not_authorized};
            if (code >= sizeof reasons) return Violation::reserved_reason;
            packet.reason = reasons[code];
        }
        if (packet.session_present && packet.reason != Reason::success) return Violation::session_with_refusal;
        if (version_ == Version::v5)
            if (const Violation bad = properties(from, packet); bad != Violation::none) return bad;
        return from.left() == 0 ? Violation::none : Violation::wrong_length;
    }
    Violation acknowledged(detail::Cursor& from, Packet& packet, const detail::PacketRule& rule) {
        if (version_ == Version::v5)
            if (const Violation bad = properties(from, packet); bad != Violation::none) return bad;
        packet.codes = from.rest();
        if (version_ != Version::v5 && packet.type == PacketType::unsuback) return Violation::none;  // it has none
        if (packet.codes.empty()) return Violation::no_codes;
        for (std::byte code : packet.codes) {
            const auto value = std::to_integer<std::uint8_t>(code);
            if (version_ == Version::v5 ? !detail::may_say(rule.reasons, value) : value > 2 && value != 0x80)
                return Violation::reserved_reason;
        }
        return Violation::none;
    }
    static Violation properties(detail::Cursor& from, Packet& packet) {
        if (from.left() == 0) return Violation::property_truncated;
        const std::uint32_t size = from.variable();
        if (from.why != Violation::none) return from.why;
        if (size > from.left()) return Violation::properties_past_end;
        const Bytes bytes = from.take(size);
        packet.properties = Properties(bytes);
        return size == 0 ? Violation::none : detail::check_properties(bytes, packet.type);
    }

    Version version_;
    bool connected_ = false;
    bool whole_ = false;  // `partial_` is the packet that was given last
    Violation why_ = Violation::none;
    std::size_t limit_;
    Array<std::byte> partial_;
};

}  // namespace rejoin::inline v0_1::mqtt

// What a client sends, to bytes. Pure; writes into the caller's room, which `size_of` says how much of is needed. Texts are at most 65,535
// bytes; that they are well-formed, that topics and filters are valid, that properties may stand there (`PropertyWriter`) and that a packet
// that needs an identifier has one is the caller's to see to (`mqtt::Session` does).
namespace rejoin::inline v0_1::mqtt {

/// A message that the server publishes when the connection is lost (3 §3.1.2.5, 5 §3.1.2.5).
struct Will {
    TextView topic;
    Bytes payload;  ///< at most 65,535 bytes
    Qos qos = Qos::at_most_once;
    bool retain = false;
    Bytes properties;  ///< 5.0
};
struct Connect {
    TextView client_id;            ///< empty: the server chooses; in 3.1.1 only with `clean`
    bool clean = true;             ///< clean session, 3.1.1; clean start, 5.0
    std::uint16_t keep_alive = 0;  ///< seconds; 0: none
    const Will* will = nullptr;
    const TextView* user_name = nullptr;
    const Bytes* password = nullptr;  ///< in 3.1.1 only with a user name (MQTT-3.1.2-22)
    Bytes properties;                 ///< 5.0
};
struct Publish {
    TextView topic;
    Bytes payload;
    Qos qos = Qos::at_most_once;
    bool dup = false;
    bool retain = false;
    std::uint16_t id = 0;  ///< with a QoS
    Bytes properties;      ///< 5.0
};
/// PUBACK, PUBREC, PUBREL, PUBCOMP. In 3.1.1 there are no reasons.
struct Acknowledge {
    PacketType type = PacketType::puback;
    std::uint16_t id = 0;
    Reason reason = Reason::success;
};
/// One of SUBSCRIBE's filters, or of UNSUBSCRIBE's, which has no options.
struct Subscription {
    TextView filter;
    Qos qos = Qos::at_most_once;       ///< at most
    bool no_local = false;             ///< 5.0: not what this client publishes
    bool retain_as_published = false;  ///< 5.0
    std::uint8_t retain_handling = 0;  ///< 5.0: retained messages at subscribe: 0 yes, 1 for a new subscription, 2 no
};
struct Subscribe {
    PacketType type = PacketType::subscribe;  ///< or unsubscribe
    std::uint16_t id = 0;
    std::span<const Subscription> filters;  ///< at least one
    Bytes properties;                       ///< 5.0
};
/// DISCONNECT and AUTH.
struct Leave {
    PacketType type = PacketType::disconnect;
    Reason reason = Reason::success;
    Bytes properties;  ///< 5.0
};

/// The largest remaining length there is (3 §2.2.3, 5 §1.5.5).
inline constexpr std::size_t length_max = 268'435'455;

namespace detail {

constexpr std::size_t variable_size(std::size_t n) { return n < 128 ? 1 : n < 16'384 ? 2 : n < 2'097'152 ? 3 : 4; }

// Writes from the front on.
struct Put {
    std::byte* to;

    void byte(unsigned value) { *to++ = static_cast<std::byte>(value); }
    void two(std::uint16_t value) {
        store_big(to, value);
        to += 2;
    }
    void variable(std::size_t n) {
        for (; n >= 128; n >>= 7) byte((n & 0x7f) | 0x80);
        byte(static_cast<unsigned>(n));
    }
    void bytes(Bytes what) {
        copy_short(what.data(), what.size());
        to += what.size();
    }
    // Topics and small payloads are most of what there is, and a call of memcpy is most of what they cost: from 16 bytes to 64 they are two
    // or four pieces of a fixed size, which overlap.
    void copy_short(const std::byte* from, std::size_t n) {
        if (n - 16 > 48) {
            if (n > 0) std::memcpy(to, from, n);
            return;
        }
        std::memcpy(to, from, 16);
        std::memcpy(to + n - 16, from + n - 16, 16);
        if (n <= 32) return;
        std::memcpy(to + 16, from + 16, 16);
        std::memcpy(to + n - 32, from + n - 32, 16);
    }
    void string(Bytes what) {
        two(static_cast<std::uint16_t>(what.size()));
        bytes(what);
    }
    void properties(Version version, Bytes what) {
        if (version != Version::v5) return;
        variable(what.size());
        bytes(what);
    }
};
constexpr std::size_t properties_size(Version version, Bytes properties) {
    return version == Version::v5 ? variable_size(properties.size()) + properties.size() : 0;
}

inline std::size_t body_size(Version version, const Connect& c) {
    std::size_t size = 10 + properties_size(version, c.properties) + 2 + c.client_id.size();
    if (c.will != nullptr) size += properties_size(version, c.will->properties) + 2 + c.will->topic.size() + 2 + c.will->payload.size();
    if (c.user_name != nullptr) size += 2 + c.user_name->size();
    if (c.password != nullptr) size += 2 + c.password->size();
    return size;
}
inline unsigned first_byte(const Connect&) { return 0x10; }
inline void body(Put& put, Version version, const Connect& c) {
    put.string(TextView("MQTT").bytes());
    put.byte(static_cast<unsigned>(version));
    unsigned flags = c.clean ? 2 : 0;
    if (c.will != nullptr) flags |= 4u | static_cast<unsigned>(c.will->qos) << 3 | (c.will->retain ? 0x20u : 0u);
    put.byte(flags | (c.password != nullptr ? 0x40u : 0u) | (c.user_name != nullptr ? 0x80u : 0u));
    put.two(c.keep_alive);
    put.properties(version, c.properties);
    put.string(c.client_id.bytes());
    if (c.will != nullptr) {
        put.properties(version, c.will->properties);
        put.string(c.will->topic.bytes());
        put.string(c.will->payload);
    }
    if (c.user_name != nullptr) put.string(c.user_name->bytes());
    if (c.password != nullptr) put.string(*c.password);
}

inline std::size_t body_size(Version version, const Publish& p) {
    return 2 + p.topic.size() + (p.qos == Qos::at_most_once ? 0u : 2u) + properties_size(version, p.properties) + p.payload.size();
}
inline unsigned first_byte(const Publish& p) {
    return 0x30u | (p.dup ? 8u : 0u) | static_cast<unsigned>(p.qos) << 1 | (p.retain ? 1u : 0u);
}
inline void body(Put& put, Version version, const Publish& p) {
    put.string(p.topic.bytes());
    if (p.qos != Qos::at_most_once) put.two(p.id);
    put.properties(version, p.properties);
    put.bytes(p.payload);
}

// Success is left unsaid.
inline std::size_t body_size(Version version, const Acknowledge& a) {
    return version == Version::v5 && a.reason != Reason::success ? 3 : 2;
}
inline unsigned first_byte(const Acknowledge& a) { return static_cast<unsigned>(a.type) << 4 | (a.type == PacketType::pubrel ? 2u : 0u); }
inline void body(Put& put, Version version, const Acknowledge& a) {
    put.two(a.id);
    if (version == Version::v5 && a.reason != Reason::success) put.byte(static_cast<unsigned>(a.reason));
}

inline std::size_t body_size(Version version, const Subscribe& s) {
    std::size_t size = 2 + properties_size(version, s.properties);
    for (const Subscription& one : s.filters) size += 2 + one.filter.size() + (s.type == PacketType::subscribe ? 1u : 0u);
    return size;
}
inline unsigned first_byte(const Subscribe& s) { return static_cast<unsigned>(s.type) << 4 | 2u; }
inline void body(Put& put, Version version, const Subscribe& s) {
    put.two(s.id);
    put.properties(version, s.properties);
    for (const Subscription& one : s.filters) {
        put.string(one.filter.bytes());
        if (s.type != PacketType::subscribe) continue;
        unsigned options = static_cast<unsigned>(one.qos);
        if (version == Version::v5)
            options |= (one.no_local ? 4u : 0u) | (one.retain_as_published ? 8u : 0u) | static_cast<unsigned>(one.retain_handling & 3) << 4;
        put.byte(options);
    }
}

inline std::size_t body_size(Version version, const Leave& l) {
    if (version != Version::v5) return 0;
    if (l.properties.empty()) return l.reason == Reason::success ? 0 : 1;
    return 1 + properties_size(version, l.properties);
}
inline unsigned first_byte(const Leave& l) { return static_cast<unsigned>(l.type) << 4; }
inline void body(Put& put, Version version, const Leave& l) {
    if (version != Version::v5 || (l.properties.empty() && l.reason == Reason::success)) return;
    put.byte(static_cast<unsigned>(l.reason));
    if (!l.properties.empty()) put.properties(version, l.properties);
}

}  // namespace detail

/// Bytes of the whole packet; 0 where it would be longer than a packet can be.
template <class P>
std::size_t size_of(Version version, const P& packet) {
    const std::size_t body = detail::body_size(version, packet);
    return body > length_max ? 0 : 1 + detail::variable_size(body) + body;
}
/// Writes it to `to`, which has room for `size_of` bytes, and returns its end. (For the size that was just asked for, the compiler asks
/// once.)
template <class P>
std::byte* write(std::byte* to, Version version, const P& packet) {
    detail::Put put{to};
    put.byte(detail::first_byte(packet));
    put.variable(detail::body_size(version, packet));
    detail::body(put, version, packet);
    return put.to;
}
inline constexpr std::byte pingreq[2] = {std::byte{0xc0}, std::byte{0}};

}  // namespace rejoin::inline v0_1::mqtt

// What goes into a session, and what comes out of it.
namespace rejoin::inline v0_1::mqtt {

/// What a session holds and waits for at most.
struct Limits {
    std::size_t packet = 1024 * 1024;    ///< bytes of one packet from the server; told to it (5.0)
    std::size_t queue = 1024 * 1024;     ///< bytes of messages that were accepted and are not delivered, 64 more counted for each
    std::uint16_t in_flight = 64;        ///< messages with a QoS under way to the server; fewer when it says so (5.0)
    std::uint16_t receive_maximum = 64;  ///< messages of QoS 2 from it that are not complete; told to it (5.0)
    std::uint16_t topic_aliases = 16;    ///< that the server may use (5.0)
    std::uint16_t subscriptions = 1024;
    Duration keep_alive = Duration::seconds(30);  ///< the server is asked for a sign of life when it has given none for so long
    Duration answer = Duration::seconds(10);      ///< for CONNACK, and for that sign: later, the connection counts as dead
    /// For so long the server keeps the session when the connection is gone, and what comes for it meanwhile (5.0); whole seconds, rounded
    /// up. 0: not at all.
    Duration session_expiry = Duration::seconds(300);

    bool valid() const {
        return packet >= 64 && queue >= 64 && in_flight > 0 && receive_maximum > 0 && subscriptions > 0 && keep_alive > Duration() &&
               keep_alive <= Duration::seconds(UINT16_MAX) && answer > Duration() && session_expiry >= Duration() &&
               session_expiry <= Duration::seconds(UINT32_MAX);
    }
};

/// A message to publish; copied.
struct Message {
    TextView topic;
    Bytes payload;
    Qos qos = Qos::at_most_once;
    bool retain = false;
    /// Not sent any more after that, and told to the server (5.0); 0, and what is longer than 5.0 can say (136 years): never.
    Duration expiry = {};
    Bytes properties = {};  ///< 5.0, from a `PropertyWriter`; without message expiry, topic alias and subscription identifiers
};

/// Names a message, or a subscription, of one session.
using Token = std::uint64_t;

/// What has happened.
struct Event {
    enum class Kind : std::uint8_t {
        connected,     ///< the server let this client in: `packet` is its CONNACK
        refused,       ///< it did not: `reason`, and perhaps a `server_reference` in `packet`
        disconnected,  ///< it ended the connection (5.0): the same
        message,       ///< `packet` is a PUBLISH with its topic
        delivered,     ///< message `token` has arrived: with QoS 0 it was written, else acknowledged
        failed,        ///< it has not, and will not: `error`, and the server's `reason` where it gave one
        subscribed,    ///< subscription `token` was granted, or not: `reason`
        unsubscribed,  ///< subscription `token` is no more
    };
    Kind kind = Kind::connected;
    Token token = 0;
    Error error;
    Reason reason = Reason::success;
    Packet packet;
};

}  // namespace rejoin::inline v0_1::mqtt

namespace rejoin::inline v0_1::mqtt {

/// What is to be written on one connection after another, gathered into one piece for each write.
class Output {
public:
    /// Once so much waits, nothing more is gathered.
    static constexpr std::size_t limit = 64 * 1024;

    explicit Output(Version version) : version_(version) {}

    /// Adds a packet; false when memory is out. Once the last word was said, nothing is added.
    template <class P>
    bool say(const P& packet) {
        if (finished_) return true;
        std::byte* const to = bytes_.extend(size_of(version_, packet));
        if (to != nullptr) write(to, version_, packet);
        return to != nullptr;
    }
    /// The same for one that is written already.
    bool add(Bytes packet) { return finished_ || bytes_.append(packet.data(), packet.size()); }
    /// Nothing comes behind what was said so far (MQTT-3.14.4-2).
    void finish() { finished_ = true; }
    bool finished() const { return finished_; }

    /// What waits; until anything is said.
    Bytes pending() {
        if (from_ == bytes_.size() || from_ >= limit) {
            const std::size_t left = bytes_.size() - from_;
            if (left > 0) std::memmove(bytes_.data(), bytes_.data() + from_, left);
            bytes_.truncate(left);
            from_ = 0;
        }
        return {bytes_.data() + from_, size()};
    }
    void wrote(std::size_t n) {
        from_ += n;
        written_ += n;
    }
    std::size_t size() const { return bytes_.size() - from_; }
    bool has_room() const { return size() < limit; }
    /// Over all connections: bytes that were written, and where what was said so far will end.
    std::uint64_t written() const { return written_; }
    std::uint64_t end() const { return written_ + size(); }

    /// For another connection: what was not written is dropped. `first` is said.
    bool restart(Bytes first) {
        bytes_.clear();
        from_ = 0;
        finished_ = false;
        return add(first);
    }

private:
    const Version version_;
    bool finished_ = false;
    Array<std::byte> bytes_;
    std::size_t from_ = 0;
    std::uint64_t written_ = 0;
};

}  // namespace rejoin::inline v0_1::mqtt

namespace rejoin::inline v0_1::mqtt {

/// The messages that a session has accepted, until their delivery or failure was told.
///
///     waiting --PUBLISH, QoS 0--> writing --written--> done
///             --PUBLISH---------> in flight --PUBACK, or PUBREC, PUBREL, PUBCOMP--> done
///     waiting --expired, not for this server--> done
///     writing, in flight --the connection was lost--> sent again, or waiting again where the server has forgotten
class Outbox {
public:
    Outbox(Version version, const Limits& limits) : version_(version), limits_(limits) {}
    Outbox(const Outbox&) = delete;
    ~Outbox() {
        for (List* list : {&waiting_, &writing_, &in_flight_, &done_})
            while (Outgoing* message = first(*list)) delete message;
    }

    /// As `Session::publish`; `token` is new.
    Result<void> add(const Message& m, Token token, TimePoint now) {
        const bool v5 = version_ == Version::v5;
        if (m.topic.size() == 0 || m.topic.size() > UINT16_MAX || check_topic_name(m.topic.bytes()) != Violation::none ||
            static_cast<unsigned>(m.qos) > 2 || m.expiry < Duration() || !(v5 ? may_publish(m.properties) : m.properties.empty()))
            return Errc::invalid_argument;
        const bool expires = m.expiry > Duration() && m.expiry <= Duration::seconds(UINT32_MAX);
        const std::size_t expiry = v5 && expires ? expiry_size : 0;
        const std::size_t size = m.topic.size() + expiry + m.properties.size() + m.payload.size();
        if (size > length_max / 2 || size + overhead > limits_.queue) return Errc::too_large;
        if (size + overhead > limits_.queue - bytes_) {
            refused_ = true;
            return Errc::would_block;
        }
        auto* const message = new (std::nothrow) Outgoing;
        std::byte* const to = message == nullptr ? nullptr : message->data.extend(size);
        if (to == nullptr) {
            delete message;
            return Errc::out_of_memory;
        }
        detail::Put put{to};
        put.bytes(m.topic.bytes());
        if (expiry > 0) {
            put.byte(static_cast<unsigned>(Property::message_expiry_interval));
            put.to += 4;  // written when it is sent
        }
        put.bytes(m.properties);
        put.bytes(m.payload);
        message->token = token;
        message->topic_size = static_cast<std::uint16_t>(m.topic.size());
        message->properties_size = static_cast<std::uint32_t>(expiry + m.properties.size());
        message->qos = m.qos;
        message->retain = m.retain;
        message->expires = expires ? now + m.expiry : TimePoint::never();
        if (message->expires < next_expiry_) next_expiry_ = message->expires;
        bytes_ += size + overhead;
        waiting_.push(*message);
        return {};
    }
    /// Once after a refusal: whether there is room again.
    bool drained() {
        if (!refused_ || bytes_ > limits_.queue / 2) return false;
        refused_ = false;
        return true;
    }
    std::size_t bytes() const { return bytes_; }
    std::size_t packet_limit() const { return packet_limit_ < length_max ? packet_limit_ : length_max; }

    /// The connection is gone: what was written in part, or not at all, comes first on the next.
    void lost() { wait_again(writing_); }
    /// The server has let this client in, and said what it takes.
    void connected(const Packet& connack) {
        const std::uint32_t window = connack.properties.number(Property::receive_maximum, UINT16_MAX);
        window_ = window < limits_.in_flight ? window : limits_.in_flight;
        packet_limit_ = connack.properties.number(Property::maximum_packet_size, UINT32_MAX);
        qos_ = connack.properties.number(Property::maximum_qos, 2);
        retains_ = connack.properties.number(Property::retain_available, 1) != 0;
        under_way_ = 0;
        again_ = !in_flight_.empty();
        for (Outgoing* message = first(in_flight_); message != nullptr; message = next(in_flight_, *message)) {
            message->under_way = false;
            message->again = true;
        }
        if (connack.session_present) return;
        // The server knows of none of them; whatever it had said that it had, it had.
        List forgotten;
        while (Outgoing* message = first(in_flight_)) {
            message->id = 0;
            message->again = false;
            if (message->received) {
                finish(*message, {}, Reason::success);
                continue;
            }
            message->unlink();
            forgotten.push(*message);
        }
        wait_again(forgotten);
    }
    /// Gives up everything that is not delivered: `failed`, with `cancelled`.
    void cancel() {
        for (List* list : {&writing_, &in_flight_, &waiting_})
            while (Outgoing* message = first(*list)) finish(*message, Errc::cancelled, Reason::success);
        next_expiry_ = TimePoint::never();
    }

    /// Says as much as the server takes, in order; what is sent again comes first. `new_id()` gives an identifier that nothing uses.
    template <class NewId>
    void fill(Output& out, NewId new_id, TimePoint now) {
        if (!send_again(out, now)) return;
        while (out.has_room()) {
            Outgoing* const message = first(waiting_);
            if (message == nullptr) return;
            const bool with_qos = message->qos != Qos::at_most_once;
            if (const Errc refused = cannot_send(*message, now); refused != Errc::ok) {
                finish(*message, refused, Reason::success);
                continue;
            }
            if (with_qos && under_way_ >= window_) return;
            if (with_qos) message->id = new_id();
            if (!put(out, *message, false, now)) return;
            message->unlink();
            message->end = out.end();
            (with_qos ? in_flight_ : writing_).push(*message);
        }
    }
    /// So much was written on all connections.
    void wrote(std::uint64_t written) {
        while (Outgoing* message = first(writing_)) {
            if (message->end > written) return;
            finish(*message, {}, Reason::success);
        }
    }
    /// Calls `f(id)` with each identifier that is in use.
    template <class F>
    void each_id(F f) {
        for (Outgoing* message = first(in_flight_); message != nullptr; message = next(in_flight_, *message)) f(message->id);
    }
    /// PUBACK, PUBREC or PUBCOMP. False when memory is out.
    bool acknowledged(const Packet& packet, Output& out, Violation& why) {
        Outgoing* const message = find(packet.id);
        if (packet.type == PacketType::pubrec) {
            if (message != nullptr && message->qos != Qos::exactly_once) return why = Violation::qos_not_granted, true;
            if (failed(packet.reason)) return message == nullptr || (finish(*message, {}, packet.reason), true);
            if (message != nullptr) message->received = true;
            // One that is not known is released all the same, so that the server forgets it.
            const Reason reason = message != nullptr ? Reason::success : Reason::packet_identifier_not_found;
            return out.say(Acknowledge{PacketType::pubrel, packet.id, reason});
        }
        if (message == nullptr) return true;
        const bool puback = packet.type == PacketType::puback;
        if (puback ? message->qos != Qos::at_least_once : !message->received) return why = Violation::qos_not_granted, true;
        finish(*message, {}, puback ? packet.reason : Reason::success);
        return true;
    }

    /// When the next of those that wait expires, and what becomes of them then.
    TimePoint next_expiry() const { return next_expiry_; }
    void expire(TimePoint now) {
        if (now < next_expiry_) return;
        next_expiry_ = TimePoint::never();
        for (Outgoing* message = first(waiting_); message != nullptr;) {
            Outgoing& one = *message;
            message = next(waiting_, one);
            if (one.expires <= now)
                finish(one, Errc::timed_out, Reason::success);
            else if (one.expires < next_expiry_)
                next_expiry_ = one.expires;
        }
    }
    /// One that is done, and is then forgotten; false when there is none.
    bool tell(Event& event) {
        Outgoing* const message = first(done_);
        if (message == nullptr) return false;
        const bool ok = !message->error && !failed(message->reason);
        event = {ok ? Event::Kind::delivered : Event::Kind::failed, message->token, message->error, message->reason, {}};
        delete message;
        return true;
    }

private:
    static constexpr std::size_t expiry_size = 5, overhead = 64;

    struct Outgoing : ListNode {
        Token token = 0;
        TimePoint expires;
        std::uint64_t end = 0;  // where its bytes end in all that was ever written
        Array<std::byte> data;  // topic, properties, payload
        Error error;
        Reason reason = Reason::success;
        std::uint32_t properties_size = 0;
        std::uint16_t topic_size = 0;
        std::uint16_t id = 0;
        Qos qos = Qos::at_most_once;
        bool retain = false;
        bool again = false;      // to be sent again on this connection
        bool under_way = false;  // counts against the server's window
        bool received = false;   // QoS 2: the server has it; PUBREL is next
    };

    static Outgoing* first(List& list) { return static_cast<Outgoing*>(list.front()); }
    static Outgoing* next(List& list, Outgoing& message) { return static_cast<Outgoing*>(list.next(message)); }
    // Those in flight are acknowledged in order, as a rule: it is the first.
    Outgoing* find(std::uint16_t id) {
        for (Outgoing* message = first(in_flight_); message != nullptr; message = next(in_flight_, *message))
            if (message->id == id) return message;
        return nullptr;
    }
    static bool may_publish(Bytes properties) {
        if (detail::check_properties(properties, PacketType::publish) != Violation::none) return false;
        bool good = true;
        Properties(properties).each([&](Property id, const PropertyValue&) {
            good = id != Property::message_expiry_interval && id != Property::topic_alias && id != Property::subscription_identifier;
            return good;
        });
        return good;
    }
    // Before those that wait already.
    void wait_again(List& list) {
        for (Outgoing* message = first(list); message != nullptr; message = next(list, *message))
            if (message->expires < next_expiry_) next_expiry_ = message->expires;
        while (Outgoing* message = first(waiting_)) {
            message->unlink();
            list.push(*message);
        }
        waiting_.take(list);
    }
    void finish(Outgoing& message, Error error, Reason reason) {
        message.error = error;
        message.reason = reason;
        bytes_ -= message.data.size() + overhead;
        if (message.under_way) --under_way_;
        message.unlink();
        done_.push(message);
    }

    Errc cannot_send(const Outgoing& message, TimePoint now) const {
        if (message.expires <= now) return Errc::timed_out;
        if (static_cast<unsigned>(message.qos) > qos_ || (message.retain && !retains_)) return Errc::unsupported;
        return size_of(version_, packet_of(message, false)) > packet_limit_ ? Errc::too_large : Errc::ok;
    }
    // True when there is nothing left to send again.
    bool send_again(Output& out, TimePoint now) {
        if (!again_) return true;
        for (Outgoing* message = first(in_flight_); message != nullptr; message = next(in_flight_, *message)) {
            if (!message->again) continue;
            if (!out.has_room() || (!message->received && under_way_ >= window_)) return false;
            const bool said =
                message->received ? out.say(Acknowledge{PacketType::pubrel, message->id, Reason::success}) : put(out, *message, true, now);
            if (!said) return false;
            message->again = false;
        }
        again_ = false;
        return true;
    }
    Publish packet_of(const Outgoing& message, bool dup) const {
        const Bytes all(message.data.data(), message.data.size());
        Publish packet;
        packet.topic = {reinterpret_cast<const char*>(all.data()), message.topic_size};
        packet.properties = all.subspan(message.topic_size, message.properties_size);
        packet.payload = all.subspan(std::size_t{message.topic_size} + message.properties_size);
        packet.qos = message.qos;
        packet.retain = message.retain;
        packet.dup = dup;
        packet.id = message.id;
        return packet;
    }
    bool put(Output& out, Outgoing& message, bool dup, TimePoint now) {
        if (version_ == Version::v5 && message.expires != TimePoint::never()) {
            const std::int64_t left = (message.expires - now).milliseconds();
            store_big(message.data.data() + message.topic_size + 1, static_cast<std::uint32_t>(left <= 0 ? 0 : (left + 999) / 1000));
        }
        if (!out.say(packet_of(message, dup))) return false;
        message.under_way = message.qos != Qos::at_most_once;
        under_way_ += message.under_way ? 1 : 0;
        return true;
    }

    const Version version_;
    const Limits& limits_;
    bool refused_ = false;
    bool again_ = false;  // something is to be sent again
    // What the server takes.
    bool retains_ = true;
    std::uint32_t qos_ = 2;
    std::uint32_t packet_limit_ = UINT32_MAX;
    std::uint32_t window_ = 0;

    std::uint32_t under_way_ = 0;
    std::size_t bytes_ = 0;
    List waiting_, writing_, in_flight_, done_;
    TimePoint next_expiry_ = TimePoint::never();
};

}  // namespace rejoin::inline v0_1::mqtt

namespace rejoin::inline v0_1::mqtt {

/// What a session subscribes to, over one connection after another.
///
///     wanted --SUBSCRIBE--> asked --SUBACK--> granted, or gone when refused
///            --not with this server--> refused --told--> gone
///        ^------------- the server has forgotten, or the connection was lost in between
///     unwanted --UNSUBSCRIBE--> leaving --UNSUBACK--> gone
class Subscriptions {
public:
    explicit Subscriptions(std::size_t limit) : limit_(limit) {}
    Subscriptions(const Subscriptions&) = delete;
    ~Subscriptions() {
        while (Filter* filter = first()) delete filter;
    }

    /// As `Session::subscribe`; `token` is new.
    Result<void> add(const Subscription& s, Token token) {
        if (!valid_topic_filter(s.filter) || static_cast<unsigned>(s.qos) > 2 || s.retain_handling > 2 || (s.no_local && shared(s.filter)))
            return Errc::invalid_argument;
        Filter* filter = find(s.filter);
        if (filter == nullptr) {
            if (count_ >= limit_) return Errc::would_block;
            filter = new (std::nothrow) Filter;
            if (filter == nullptr || !filter->text.append(s.filter.data(), s.filter.size())) {
                delete filter;
                return Errc::out_of_memory;
            }
            all_.push(*filter);
            ++count_;
        }
        filter->options = s;
        filter->options.filter = {};  // which is the caller's
        filter->token = token;
        filter->step = Step::wanted;
        filter->id = 0;
        return {};
    }
    Result<Token> remove(TextView text) {
        Filter* const filter = find(text);
        if (filter == nullptr) return Errc::invalid_argument;
        filter->step = Step::unwanted;
        filter->id = 0;
        return filter->token;
    }

    /// The connection is gone, and with it every question.
    void lost() {
        for (Filter* filter = first(); filter != nullptr; filter = next(*filter)) {
            if (filter->id == 0) continue;
            filter->id = 0;
            filter->step = filter->step == Step::leaving ? Step::unwanted : Step::wanted;
        }
    }
    /// The server has let this client in, and said what it takes.
    void connected(const Properties& connack) {
        takes_wildcards_ = connack.number(Property::wildcard_subscription_available, 1) != 0;
        takes_shared_ = connack.number(Property::shared_subscription_available, 1) != 0;
    }
    /// The server knows of none.
    void forgotten() {
        for (Filter* filter = first(); filter != nullptr; filter = next(*filter))
            if (filter->step == Step::granted) filter->step = Step::wanted;
    }
    /// Calls `f(id)` with each identifier that is in use, and with 0.
    template <class F>
    void each_id(F f) {
        for (Filter* filter = first(); filter != nullptr; filter = next(*filter)) f(filter->id);
    }

    /// Asks for what is to be asked, one in each packet: that costs no more system calls than one for all, and each answer is its own.
    /// `new_id()` gives an identifier that nothing uses.
    template <class NewId>
    void ask(Output& out, NewId new_id) {
        for (Filter* filter = first(); filter != nullptr && out.has_room(); filter = next(*filter)) {
            const bool wanted = filter->step == Step::wanted;
            if (!wanted && filter->step != Step::unwanted) continue;
            Subscription one = filter->options;
            one.filter = {filter->text.data(), filter->text.size()};
            if (wanted && refusal(one.filter) != Reason::success) {
                filter->step = Step::refused;
                refused_ = true;
                continue;
            }
            const std::uint16_t id = new_id();
            if (!out.say(Subscribe{wanted ? PacketType::subscribe : PacketType::unsubscribe, id, {&one, 1}, {}})) return;
            filter->id = id;
            filter->step = wanted ? Step::asked : Step::leaving;
        }
    }
    /// One that this server does not take, and is then forgotten; false when there is none.
    bool tell(Event& event) {
        if (!refused_) return false;
        for (Filter* filter = first(); filter != nullptr; filter = next(*filter)) {
            if (filter->step != Step::refused) continue;
            event = {Event::Kind::subscribed, filter->token, {}, refusal({filter->text.data(), filter->text.size()}), {}};
            drop(*filter);
            return true;
        }
        return refused_ = false;
    }
    /// SUBACK or UNSUBACK: `is_event` when it answers something.
    Violation answered(const Packet& packet, Event& event, bool& is_event) {
        const bool sub = packet.type == PacketType::suback;
        if (packet.codes.size() > 1) return Violation::wrong_count_of_codes;
        for (Filter* filter = first(); filter != nullptr; filter = next(*filter)) {
            if (filter->id != packet.id) continue;
            if ((filter->step == Step::asked) != sub) return Violation::qos_not_granted;
            is_event = true;
            event.kind = sub ? Event::Kind::subscribed : Event::Kind::unsubscribed;
            event.token = filter->token;
            event.reason = packet.codes.empty() ? Reason::success : static_cast<Reason>(packet.codes[0]);  // 3.1.1: an end has none
            filter->id = 0;
            filter->step = Step::granted;
            if (!sub || failed(event.reason)) drop(*filter);  // one that was refused is not asked for again
            return Violation::none;
        }
        return Violation::none;
    }

private:
    enum class Step : std::uint8_t { wanted, asked, granted, unwanted, leaving, refused };
    struct Filter : ListNode {
        Array<char> text;
        Subscription options;
        Token token = 0;
        std::uint16_t id = 0;  // of the packet that asks
        Step step = Step::wanted;
    };

    static bool shared(TextView filter) { return filter.size() > 7 && TextView(filter.data(), 7) == "$share/"; }
    // What the server would say, which may cost the connection.
    Reason refusal(TextView filter) const {
        if (!takes_shared_ && shared(filter)) return Reason::shared_subscriptions_not_supported;
        if (!takes_wildcards_)
            for (std::size_t i = 0; i < filter.size(); ++i)
                if (filter[i] == '#' || filter[i] == '+') return Reason::wildcard_subscriptions_not_supported;
        return Reason::success;
    }
    void drop(Filter& filter) {
        delete &filter;
        --count_;
    }
    Filter* first() { return static_cast<Filter*>(all_.front()); }
    Filter* next(Filter& filter) { return static_cast<Filter*>(all_.next(filter)); }
    Filter* find(TextView text) {
        for (Filter* filter = first(); filter != nullptr; filter = next(*filter))
            if (TextView(filter->text.data(), filter->text.size()) == text) return filter;
        return nullptr;
    }

    const std::size_t limit_;
    bool takes_wildcards_ = true, takes_shared_ = true;  // the server
    bool refused_ = false;                               // something is
    std::size_t count_ = 0;
    List all_;
};

}  // namespace rejoin::inline v0_1::mqtt

namespace rejoin::inline v0_1::mqtt {

/// The client's side of an MQTT session, 3.1.1 or 5.0, over one connection after another. Pure: bytes and times go in, bytes and events
/// come out. What was accepted for publication is kept until the server has it, or its failure was told; subscriptions are asked for again
/// where the server has forgotten them.
///
///     closed --opened--> connecting --CONNACK--> connected
///       any --lost--> closed
class Session {
public:
    enum class State : std::uint8_t { closed, connecting, connected };

    /// `limits` are looked at by `configure`.
    Session(Version version, const Limits& limits)
        : version_(version), limits_(limits), out_(version), outbox_(version, limits_), subscriptions_(limits.subscriptions) {}
    Session(const Session&) = delete;

    /// Who this client is, and how it wants to be treated; copied. Of `connect` keep-alive and the limits' properties (5.0) are this
    /// function's to say. Before there is a connection. `invalid_argument` for limits outside their bounds, texts that are ill-formed, a
    /// will without a topic, in 3.1.1 a password without a user name, or neither a name nor `clean`; `unsupported` for enhanced
    /// authentication; `out_of_memory`.
    Result<void> configure(const Connect& connect) {
        if (!limits_.valid() || !valid(connect)) return Errc::invalid_argument;
        Connect said = connect;
        said.keep_alive = static_cast<std::uint16_t>((limits_.keep_alive.milliseconds() + 999) / 1000);
        Array<std::byte> properties;
        if (version_ == Version::v5) {
            const Properties theirs(connect.properties);
            PropertyValue method;
            if (theirs.find(Property::authentication_method, method)) return Errc::unsupported;
            wants_words_ = theirs.number(Property::request_problem_information, 1) != 0;
            ends_session_ = connect.clean && session_expiry() > 0;
            PropertyWriter ours(PacketType::connect);
            if (session_expiry() > 0) ours.number(Property::session_expiry_interval, session_expiry());
            ours.number(Property::receive_maximum, limits_.receive_maximum);
            ours.number(Property::maximum_packet_size,
                        static_cast<std::uint32_t>(limits_.packet < UINT32_MAX ? limits_.packet : UINT32_MAX));
            if (limits_.topic_aliases > 0) ours.number(Property::topic_alias_maximum, limits_.topic_aliases);
            if (ours.error() || !properties.append(ours.bytes().data(), ours.bytes().size()) ||
                !properties.append(connect.properties.data(), connect.properties.size()))
                return Errc::out_of_memory;
            said.properties = {properties.data(), properties.size()};
            if (detail::check_properties(said.properties, PacketType::connect) != Violation::none) return Errc::invalid_argument;
        }
        connect_.clear();
        std::byte* const to = connect_.extend(size_of(version_, said));
        if (to == nullptr) return Errc::out_of_memory;
        write(to, version_, said);
        return {};
    }
    Version version() const { return version_; }
    State state() const { return state_; }

    // ---- The application's side.

    /// Accepts a message: `delivered` or `failed` tells of it later. `would_block` over the queue's limit (see `drained`), `too_large` for
    /// more than fits at all, `invalid_argument` for a topic or properties that may not be, `out_of_memory`.
    Result<Token> publish(const Message& message, TimePoint now) {
        if (auto added = outbox_.add(message, last_token_ + 1, now); !added) return added.error();
        return ++last_token_;
    }
    /// Once after a refusal: whether there is room again.
    bool drained() { return outbox_.drained(); }
    /// Bytes that are accepted and not delivered, 64 more counted for each message.
    std::size_t queued() const { return outbox_.bytes(); }
    /// Bytes of one packet that the server takes at most.
    std::size_t packet_limit() const { return outbox_.packet_limit(); }
    /// Gives up everything that was accepted and is not delivered: `failed`, with `cancelled`.
    void cancel() { outbox_.cancel(); }

    /// Subscribes, now or when there is a connection, and again whenever the server has forgotten; a filter that is there already is asked
    /// for anew. `subscribed` tells. `invalid_argument` for a filter that may not be, `would_block` over the limit, `out_of_memory`.
    Result<Token> subscribe(const Subscription& subscription) {
        if (auto added = subscriptions_.add(subscription, last_token_ + 1); !added) return added.error();
        return ++last_token_;
    }
    /// Takes a subscription back; `unsubscribed` tells. `invalid_argument` for one that is not there.
    Result<Token> unsubscribe(TextView filter) { return subscriptions_.remove(filter); }

    // ---- The connection's side.

    /// A connection is there, and nothing was said on it.
    Result<void> opened(TimePoint now) {
        lost();
        // The session goes on, whatever was asked for the first time: only a clean session of 3.1.1 never does.
        if (version_ == Version::v5 && was_connected_) connect_[connect_flags()] &= ~std::byte{2};
        if (!out_.restart({connect_.data(), connect_.size()})) return Errc::out_of_memory;
        decoder_ = Decoder(version_, limits_.packet);
        why_ = Violation::none;
        state_ = State::connecting;
        opened_ = last_sent_ = last_heard_ = now;
        pinging_ = false;
        return {};
    }
    /// The connection is gone. What was not written of it is kept, and what was not acknowledged.
    void lost() {
        state_ = State::closed;
        out_.restart({});
        acknowledge_ = 0;
        outbox_.lost();
        subscriptions_.lost();
    }
    /// The next event, from what is outstanding and from the front of `bytes`: true when there is one; its views hold until the next call.
    /// An error means that the connection is of no use any more: `malformed` or `too_large` (see `violation`), `out_of_memory`. What there
    /// still is to be written then says so to the server.
    Result<bool> next(Bytes& bytes, TimePoint now, Event& event) {
        if (acknowledge_ != 0 && !finish_message()) return fail(Errc::out_of_memory);
        if (outbox_.tell(event) || subscriptions_.tell(event)) return true;
        while (state_ != State::closed) {
            if (!bytes.empty()) last_heard_ = now, pinging_ = false;
            const auto there = decoder_.next(bytes, event.packet);
            if (!there) {
                why_ = decoder_.violation();
                return fail(there.error());
            }
            if (!*there) return false;
            event.error = {};
            event.token = 0;
            event.reason = event.packet.reason;
            bool is_event = false;
            Error error = handle(event, is_event);
            if (!error && why_ != Violation::none) error = Errc::malformed;
            if (error) return fail(error);
            if (is_event || outbox_.tell(event)) return true;
        }
        return false;
    }
    /// The connection has ended in order: `malformed` when that was inside a packet.
    Error end() {
        const Error error = decoder_.end();
        if (error) why_ = decoder_.violation();
        return error;
    }
    /// What was wrong with what the server sent on this connection.
    Violation violation() const { return why_; }

    /// What is to be written. The first bytes of each connection are CONNECT's, and no others go before the answer. Views hold until the
    /// next call of anything.
    Bytes pending(TimePoint now) {
        static_cast<void>(out_.pending());  // makes room
        if (state_ == State::connected && !out_.finished()) {
            const auto id = [this] { return new_id(); };
            subscriptions_.ask(out_, id);
            outbox_.fill(out_, id, now);
        }
        return out_.pending();
    }
    /// So much of it was written.
    void wrote(std::size_t n, TimePoint now) {
        out_.wrote(n);
        last_sent_ = now;
        outbox_.wrote(out_.written());
    }
    /// Whether more from the server may be taken: not while it leaves unread what is said to it.
    bool takes_more() const { return out_.has_room(); }
    /// Nothing is left to write or to be acknowledged.
    bool idle() const { return out_.size() == 0 && outbox_.bytes() == 0; }
    /// Says DISCONNECT, behind what is being written, and nothing after it. The will is published only with `disconnect_with_will` (5.0). A
    /// session that began clean ends here.
    Result<void> leave(Reason reason = Reason::success) {
        if (state_ != State::connected || out_.finished()) return {};
        Leave leave{PacketType::disconnect, reason, {}};
        static constexpr std::byte no_expiry[] = {std::byte{0x11}, std::byte{0}, std::byte{0}, std::byte{0}, std::byte{0}};
        if (ends_session_ && reason == Reason::success) leave.properties = no_expiry;
        if (!out_.say(leave)) return Errc::out_of_memory;
        out_.finish();
        return {};
    }

    /// When `expire` has something to do.
    TimePoint deadline() const {
        TimePoint next = TimePoint::never();
        if (state_ == State::connecting)
            next = opened_ + limits_.answer;
        else if (state_ == State::connected)
            next = pinging_ ? pinged_ + limits_.answer : (last_heard_ < last_sent_ ? last_heard_ : last_sent_) + keep_alive_;
        return next < outbox_.next_expiry() ? next : outbox_.next_expiry();
    }
    /// `unresponsive` when the server has not answered in time: the connection is dead. Else asks it for a sign of life, if it is time to,
    /// and gives up messages that have expired.
    Error expire(TimePoint now) {
        outbox_.expire(now);
        if (state_ == State::closed || deadline() > now) return {};
        if (state_ == State::connecting || pinging_) return Errc::unresponsive;
        if (!out_.add(pingreq)) return Errc::out_of_memory;
        pinging_ = true;
        pinged_ = now;
        return {};
    }

private:
    bool valid(const Connect& connect) const {
        const bool v5 = version_ == Version::v5;
        const auto fits = [](Bytes text) { return text.size() <= UINT16_MAX && check_string(text) == Violation::none; };
        const auto properties = [&](Bytes of, PacketType packet) {
            return v5 ? detail::check_properties(of, packet) == Violation::none : of.empty();
        };
        if (!fits(connect.client_id.bytes()) || !properties(connect.properties, PacketType::connect)) return false;
        if (connect.user_name != nullptr && !fits(connect.user_name->bytes())) return false;
        if (connect.password != nullptr && connect.password->size() > UINT16_MAX) return false;
        if (!v5 && connect.password != nullptr && connect.user_name == nullptr) return false;  // MQTT-3.1.2-22
        if (!v5 && !connect.clean && connect.client_id.size() == 0) return false;              // MQTT-3.1.3-7
        if (connect.will == nullptr) return true;
        const Will& will = *connect.will;
        return will.topic.size() > 0 && will.topic.size() <= UINT16_MAX && check_topic_name(will.topic.bytes()) == Violation::none &&
               will.payload.size() <= UINT16_MAX && static_cast<unsigned>(will.qos) <= 2 && properties(will.properties, in_will);
    }
    // Where CONNECT has its flags: behind its header, the protocol's name and its version.
    std::size_t connect_flags() const {
        std::size_t header = 2;
        while ((std::to_integer<unsigned>(connect_[header - 1]) & 0x80) != 0) ++header;
        return header + 7;
    }
    Error fail(Error error) {
        if (version_ == Version::v5) static_cast<void>(leave(why_ == Violation::none ? Reason::unspecified_error : reason_of(why_)));
        state_ = State::closed;
        return error;
    }

    // What is wrong goes into `why_`; an error only where memory is out.
    Error handle(Event& event, bool& is_event) {
        const auto said = [](bool ok) { return ok ? Error() : Error(Errc::out_of_memory); };
        Packet& packet = event.packet;
        if (!wants_words_ && has_words(packet)) return why_ = Violation::property_unasked, Error();
        switch (packet.type) {
            case PacketType::connack:
                is_event = true;
                return said(connack(event));
            case PacketType::publish:
                return published(event, is_event);
            case PacketType::puback:
            case PacketType::pubrec:
            case PacketType::pubcomp:
                return said(outbox_.acknowledged(packet, out_, why_));
            case PacketType::pubrel:
                return said(released(packet));
            case PacketType::suback:
            case PacketType::unsuback:
                why_ = subscriptions_.answered(packet, event, is_event);
                return {};
            case PacketType::disconnect:
                event.kind = Event::Kind::disconnected;
                is_event = true;
                state_ = State::closed;
                return {};
            case PacketType::auth:
                why_ = Violation::authentication_unasked;
                return {};
            default:
                return {};
        }
    }
    // A reason in words, or user properties, where a client that wants none may not be told them.
    static bool has_words(const Packet& packet) {
        using enum PacketType;
        if (packet.type == publish || packet.type == connack || packet.type == disconnect) return false;
        PropertyValue words;
        return packet.properties.find(Property::reason_string, words) || packet.properties.find(Property::user_property, words);
    }
    std::uint32_t session_expiry() const { return static_cast<std::uint32_t>((limits_.session_expiry.milliseconds() + 999) / 1000); }
    // The name that the server has given this client is its name from now on, so that its session is found again.
    bool take_name(Bytes name) {
        std::size_t at = connect_flags() + 3;
        detail::Cursor from(Bytes(connect_.data() + at, connect_.size() - at));
        const std::size_t properties = from.variable();
        at = connect_.size() - from.left() + properties;
        if (load_big<std::uint16_t>(connect_.data() + at) != 0) return true;
        Array<std::byte> named;
        const std::size_t header = connect_flags() - 7, body = connect_.size() - header + name.size();
        std::byte* const to = named.extend(1 + detail::variable_size(body) + body);
        if (to == nullptr) return false;
        detail::Put put{to};
        put.byte(0x10);
        put.variable(body);
        put.bytes({connect_.data() + header, at - header});
        put.string(name);
        put.bytes({connect_.data() + at + 2, connect_.size() - at - 2});
        connect_ = std::move(named);
        return true;
    }
    bool connack(Event& event) {
        const Packet& packet = event.packet;
        if (packet.reason != Reason::success) {
            event.kind = Event::Kind::refused;
            state_ = State::closed;
            return true;
        }
        event.kind = Event::Kind::connected;
        const std::uint32_t seconds = packet.properties.number(Property::server_keep_alive, 0);
        keep_alive_ = seconds == 0 ? limits_.keep_alive : Duration::seconds(seconds) * 3 / 4;
        aliases_.clear();
        if (!packet.session_present) {
            receiving_.clear();
            subscriptions_.forgotten();
        }
        outbox_.connected(packet);
        subscriptions_.connected(packet.properties);
        state_ = State::connected;
        was_connected_ = true;
        PropertyValue name;
        return !packet.properties.find(Property::assigned_client_identifier, name) || take_name(name.bytes);
    }
    Error published(Event& event, bool& is_event) {
        Packet& packet = event.packet;
        event.kind = Event::Kind::message;
        is_event = true;
        if (const std::uint32_t alias = packet.properties.number(Property::topic_alias, 0); alias != 0)
            if (const Error error = resolve(packet, alias); error || why_ != Violation::none) return error;
        if (packet.qos == Qos::at_most_once) return {};
        acknowledge_ = packet.id;
        acknowledge_type_ = packet.qos == Qos::at_least_once ? PacketType::puback : PacketType::pubrec;
        if (packet.qos == Qos::at_least_once) return {};
        for (std::uint16_t id : receiving_)
            if (id == packet.id) {  // it was given on before, and is not again
                is_event = false;
                return finish_message() ? Error() : Error(Errc::out_of_memory);
            }
        if (receiving_.size() >= limits_.receive_maximum && version_ == Version::v5)
            why_ = Violation::receive_maximum;
        else if (!receiving_.push(packet.id))
            return Errc::out_of_memory;
        return {};
    }
    // A topic's alias: said with the topic, it stands for it from now on; without, it stands for what was said before.
    Error resolve(Packet& packet, std::uint32_t alias) {
        if (alias > limits_.topic_aliases) return why_ = Violation::topic_alias, Error();
        while (aliases_.size() < alias)
            if (!aliases_.push({})) return Errc::out_of_memory;
        Array<char>& topic = aliases_[alias - 1];
        if (packet.topic.size() > 0) {
            topic.clear();
            if (!topic.append(packet.topic.data(), packet.topic.size())) return Errc::out_of_memory;
        }
        if (topic.empty()) why_ = Violation::topic_alias;
        packet.topic = {topic.data(), topic.size()};
        return {};
    }
    // What was given on is acknowledged when the next is asked for: it has been dealt with.
    bool finish_message() {
        return out_.say(Acknowledge{acknowledge_type_, std::exchange(acknowledge_, std::uint16_t{0}), Reason::success});
    }
    bool released(const Packet& packet) {
        bool known = false;
        for (std::size_t i = 0; i < receiving_.size() && !known; ++i) {
            known = receiving_[i] == packet.id;
            if (known) receiving_.erase(i);
        }
        return out_.say(Acknowledge{PacketType::pubcomp, packet.id, known ? Reason::success : Reason::packet_identifier_not_found});
    }
    // One that nothing uses. Those in use are looked through once for the whole stretch of identifiers up to the next of them.
    std::uint16_t new_id() {
        for (;;) {
            if (++last_id_ == 0) {
                ++last_id_;
                if (free_ids_ > 0) --free_ids_;
            }
            if (free_ids_ == 0) {
                free_ids_ = UINT16_MAX;
                const auto used = [this](std::uint16_t id) {
                    if (const auto ahead = static_cast<std::uint16_t>(id - last_id_); id != 0 && ahead < free_ids_) free_ids_ = ahead;
                };
                outbox_.each_id(used);
                subscriptions_.each_id(used);
                if (free_ids_ == 0) continue;
            }
            --free_ids_;
            return last_id_;
        }
    }

    const Version version_;
    const Limits limits_;
    State state_ = State::closed;
    bool was_connected_ = false;
    bool pinging_ = false;
    bool wants_words_ = true;
    bool ends_session_ = false;
    PacketType acknowledge_type_ = PacketType::puback;
    std::uint16_t acknowledge_ = 0;  // the message that was given on, and is not acknowledged yet
    std::uint16_t last_id_ = 0;
    std::uint16_t free_ids_ = 0;  // behind it, that nothing uses
    Violation why_ = Violation::none;
    Token last_token_ = 0;
    Array<std::byte> connect_;
    Decoder decoder_{Version::v5, 64};
    Output out_;
    Outbox outbox_;
    Subscriptions subscriptions_;
    Array<std::uint16_t> receiving_;  // of QoS 2, given on and not released
    Array<Array<char>> aliases_;
    TimePoint opened_, last_sent_, last_heard_, pinged_;
    Duration keep_alive_ = Duration::seconds(30);
};

}  // namespace rejoin::inline v0_1::mqtt

namespace rejoin::inline v0_1::mqtt {

/// The ports that MQTT has, over TCP and over TLS (IANA).
inline constexpr std::uint16_t default_port = 1883, default_tls_port = 8883;

enum class ClientState : std::uint8_t {
    idle,
    connecting,   ///< to a server, or waiting until one can be reached; never let in so far
    connected,    ///< the server has let it in
    interrupted,  ///< it had, and the connection is gone: it comes back by itself
    closed,       ///< for good: in order, or for the reason that was told
};

/// Why a client is where it is: what became of its connection, or what the server said.
struct Trouble {
    Failure failure;
    Reason reason = Reason::success;        ///< of CONNACK or DISCONNECT
    Violation violation = Violation::none;  ///< what the server did wrong
    explicit operator bool() const { return static_cast<bool>(failure) || failed(reason) || violation != Violation::none; }
};

/// The first endpoint in a Server Reference: a list, with spaces between, of hosts with or without a port (5.0, 4.11). Not `valid` where
/// there is none.
inline Endpoint server_of(TextView reference, int usual_port = default_port) {
    while (reference.size() > 0) {
        std::size_t n = 0;
        while (n < reference.size() && reference[n] != ' ') ++n;
        if (Endpoint to = Endpoint::parse({reference.data(), n}, usual_port); to.valid() && to.port() != 0) return to;
        if (n < reference.size()) ++n;
        reference = {reference.data() + n, reference.size() - n};
    }
    return {};
}

namespace detail {

// The bytes of MQTT over a transport that carries a stream.
template <class T>
struct Over {
    static_assert(!T::Session::survives_connections && T::Session::has_end,
                  "mqtt::Client goes over a stream without a session, such as Tcp");
    struct Session : T::Session {
        static constexpr bool end_is_a_break = true;  // a server that ends the connection says nothing of the session
    };
    using Connection = typename T::Connection;
    using Options = typename T::Options;
};

}  // namespace detail

/// An MQTT client, which comes back by itself: whatever was accepted for publication is delivered, or its failure told, over one connection
/// after another, and what was subscribed to is subscribed to again where the server has forgotten. `E`, `T` and `R` are the policies of
/// the pipe that it goes over.
///
/// Belongs to its loop's thread, and is neither copied nor moved. A handler may destroy the client and call anything. Destroying it gives
/// up at once, and the server publishes its will; `close` ends in order.
template <EventSource E = SystemEvents, Transport T = Tcp, RecoveryPolicy R = Persistent>
class Client {
    using Stream = Pipe<E, detail::Over<T>, R>;

public:
    struct Options {
        typename Stream::Options pipe;
        Version version = Version::v5;
        Limits limits;
        /// How long `close` waits until everything has been delivered.
        Duration close_timeout = Duration::seconds(10);
    };

    explicit Client(Loop& loop) : Client(loop, Options()) {}
    Client(Loop& loop, const Options& options)
        : loop_(loop),
          options_(options),
          session_(options.version, options.limits),
          pipe_(loop, options.pipe),
          deadline_(loop, Delegate<void()>::template to<&Client::late>(this)),
          kick_(loop, Delegate<void()>::template to<&Client::kicked>(this)) {
        pipe_.on_state([this](PipeState state, const Failure& why) { pipe_changed(state, why); });
        pipe_.on_receive([this](Bytes bytes) { received(bytes); });
        pipe_.on_drained([this] { kick_.schedule(); });
    }
    Client(const Client&) = delete;

    // ---- Handlers. Each `on_…` returns an id for `remove_handler`, or 0 when the handler is empty or memory is out.

    /// A message has come: its topic, payload and properties hold until the handlers have returned. With a QoS it is acknowledged then.
    HandlerId on_message(Function<void(const Packet&)> handler) { return add(message_, std::move(handler)); }
    /// What became of a message that `publish` accepted: no error and no failed reason, and it has arrived: with QoS 0 it was given to the
    /// connection, else the server has it. `timed_out`: it expired; `too_large`, `unsupported`: the server does not take it; `cancelled`:
    /// the client was closed before.
    HandlerId on_delivery(Function<void(Token, Error, Reason)> handler) { return add(delivery_, std::move(handler)); }
    /// The server has granted a subscription, or refused it, which then is no more; or has ended one.
    HandlerId on_subscription(Function<void(Token, Reason)> handler) { return add(subscription_, std::move(handler)); }
    HandlerId on_state(Function<void(ClientState, const Trouble&)> handler) { return add(state_changed_, std::move(handler)); }
    /// After `publish` was refused with `would_block`: there is room again.
    HandlerId on_drained(Function<void()> handler) { return add(drained_, std::move(handler)); }
    /// Takes a handler away; false when there is none of that id.
    bool remove_handler(HandlerId id) {
        return id != 0 && (message_.remove(id) || delivery_.remove(id) || subscription_.remove(id) || state_changed_.remove(id) ||
                           drained_.remove(id));
    }

    /// Goes to the server, from `idle`, as that client; copied. Where the server sends its clients elsewhere (5.0, MQTT 4.13), it goes
    /// there: for good, or until it cannot stay there any more. Errors of `Session::configure` and `Pipe::connect`.
    Result<void> connect(const Endpoint& to, const Connect& who) {
        if (state_ != ClientState::idle) return Errc::invalid_state;
        if (auto configured = session_.configure(who); !configured) return configured;
        if (auto connecting = pipe_.connect(to); !connecting) return connecting;
        home_ = to;
        state_ = ClientState::connecting;
        return {};
    }
    /// As `Session::publish`, connected or not; `invalid_state` once closing.
    Result<Token> publish(const Message& message) {
        if (closing_ || state_ == ClientState::closed) return Errc::invalid_state;
        auto token = session_.publish(message, loop_.now());
        if (token) wake();
        return token;
    }
    /// The same for text, with a QoS.
    Result<Token> publish(TextView topic, TextView payload, Qos qos = Qos::at_most_once) {
        Message message;
        message.topic = topic;
        message.payload = payload.bytes();
        message.qos = qos;
        return publish(message);
    }
    /// As `Session::subscribe` and `unsubscribe`.
    Result<Token> subscribe(const Subscription& subscription) {
        auto token = session_.subscribe(subscription);
        if (token) wake();
        return token;
    }
    Result<Token> subscribe(TextView filter, Qos qos = Qos::at_most_once) {
        Subscription subscription;
        subscription.filter = filter;
        subscription.qos = qos;
        return subscribe(subscription);
    }
    Result<Token> unsubscribe(TextView filter) {
        auto token = session_.unsubscribe(filter);
        if (token) wake();
        return token;
    }
    /// Says goodbye to the server once everything that was accepted is delivered; then `closed`. After `Options::close_timeout` at the
    /// latest.
    void close() {
        if (closing_ || state_ == ClientState::closed || state_ == ClientState::idle) return;
        closing_ = true;
        close_by_ = loop_.now() + options_.close_timeout;
        wake();
        arm();
    }

    ClientState state() const { return state_; }
    /// What the connection is doing, and why.
    Explanation explain() const { return pipe_.explain(); }
    Statistics statistics() const { return pipe_.statistics(); }
    /// Bytes of one packet that the server takes at most, as it said when it let this client in last.
    std::size_t packet_limit() const { return session_.packet_limit(); }
    /// Bytes of messages that were accepted and not delivered yet, 64 more counted for each.
    std::size_t queued() const { return session_.queued(); }

private:
    template <class... Args>
    HandlerId add(Handlers<Args...>& handlers, Function<void(Args...)> handler) {
        return handlers.add(++last_handler_, std::move(handler)) ? last_handler_ : 0;
    }
    // This, and whatever else returns a bool here, says with false that a handler has destroyed the client, or ended the connection.
    bool set_state(ClientState state, const Trouble& why) {
        state_ = state;
        return state_changed_(state, why);
    }
    void wake() { kick_.schedule(); }
    void arm() {
        TimePoint next = session_.deadline();
        if (closing_ && close_by_ < next) next = close_by_;
        if (state_ != ClientState::closed) deadline_.at(next);
    }

    void pipe_changed(PipeState state, const Failure& why) {
        switch (state) {
            case PipeState::connected:
                if (const auto opened = session_.opened(loop_.now()); !opened)
                    return give_up({classify(opened.error(), Stage::handshaking)});
                wake();
                return arm();
            case PipeState::interrupted:
            case PipeState::connecting: {
                if (!why) return;
                session_.lost();
                trouble_.failure = why;
                return std::exchange(away_, false) ? go_to(home_) : tell_interrupted();
            }
            case PipeState::closed: {
                session_.lost();
                deadline_.cancel();
                if (next_.valid() && !closing_ && pipe_.connect(std::exchange(next_, Endpoint()))) return tell_interrupted();
                Trouble trouble = std::exchange(trouble_, Trouble());
                if (!closing_) trouble.failure = why;
                state_ = ClientState::closed;  // nothing is accepted any more
                session_.cancel();
                if (tell_all(loop_.now())) state_changed_(ClientState::closed, trouble);
                return;
            }
            default:
                return;
        }
    }
    void tell_interrupted() {
        const bool known = state_ == ClientState::connected || state_ == ClientState::interrupted;
        if (set_state(known ? ClientState::interrupted : ClientState::connecting, std::exchange(trouble_, Trouble()))) arm();
    }
    void give_up(const Trouble& why) {
        trouble_ = why;
        pipe_.abort();
    }
    // Another connection is tried, as the recovery policy has it.
    void drop(Error error) {
        trouble_.violation = session_.violation();
        flush();  // 5.0 tells the server what it has done
        // A server that breaks the protocol may be another one next time: it is as if it had gone away.
        static_cast<void>(pipe_.interrupt(error == Errc::unresponsive ? Errc::unresponsive : Errc::end_of_stream));
    }

    void received(Bytes bytes) {
        const TimePoint now = loop_.now();
        for (;;) {
            Event event;
            const auto there = session_.next(bytes, now, event);
            if (!there) return drop(there.error());
            if (!*there) break;
            if (!tell(event)) return;
            if (pipe_.state() != PipeState::connected) return;
        }
        if (!session_.takes_more()) pipe_.pause();
        wake();
        arm();
    }
    bool tell(const Event& event) {
        switch (event.kind) {
            case Event::Kind::connected:
                return set_state(ClientState::connected, {});
            case Event::Kind::refused:
            case Event::Kind::disconnected:
                return refused(event), false;
            case Event::Kind::message:
                return message_(event.packet);
            case Event::Kind::delivered:
            case Event::Kind::failed:
                return delivery_(event.token, event.error, event.reason);
            case Event::Kind::subscribed:
            case Event::Kind::unsubscribed:
                return subscription_(event.token, event.reason);
        }
        return true;
    }
    // The pipe connects there once it is closed.
    void go_to(const Endpoint& to) {
        next_ = to;
        pipe_.abort();
    }
    // Where another server was named. Those that go on sending this client to each other count as busy.
    bool redirected(const Event& event, TimePoint now) {
        const bool moved = event.reason == Reason::server_moved;
        if (!moved && event.reason != Reason::use_another_server) return false;
        if (now - redirected_at_ > redirections_last) redirections_ = 0;
        const Endpoint to = server_of(event.packet.properties.text(Property::server_reference));
        if (!to.valid() || redirections_ == redirections_max) return false;
        ++redirections_;
        redirected_at_ = now;
        away_ = !moved;
        if (moved) home_ = to;
        go_to(to);
        return true;
    }
    // What will be the same next time ends it; the rest is a matter of patience.
    void refused(const Event& event) {
        Trouble trouble;
        trouble.reason = event.reason;
        trouble_ = trouble;
        if (redirected(event, loop_.now())) return;
        switch (event.reason) {
            case Reason::unsupported_protocol_version:
            case Reason::client_identifier_not_valid:
            case Reason::bad_user_name_or_password:
            case Reason::not_authorized:
            case Reason::banned:
            case Reason::bad_authentication_method:
            case Reason::session_taken_over:  // by another client of that name: to come back would take it from that one
                return give_up(trouble);
            default:
                static_cast<void>(pipe_.interrupt(Errc::overloaded));
        }
    }
    // What has happened without the server.
    bool tell_all(TimePoint now) {
        Bytes nothing;
        for (Event event;;) {
            const auto there = session_.next(nothing, now, event);
            if (!there || !*there) return true;
            if (!tell(event)) return false;
        }
    }
    void kicked() {
        const TimePoint now = loop_.now();
        flush();
        if (!tell_all(now)) return;
        if (session_.takes_more() && pipe_.state() == PipeState::connected) pipe_.resume();
        if (session_.drained() && !drained_()) return;
        if (closing_ && pipe_.state() == PipeState::connected && session_.state() == Session::State::connected && session_.idle()) {
            static_cast<void>(session_.leave());
            flush();
            pipe_.close();
        }
        arm();
    }
    // One turn's messages go out in one system call: the pipe gathers them.
    void flush() {
        const TimePoint now = loop_.now();
        while (pipe_.state() == PipeState::connected) {
            const Bytes out = session_.pending(now), piece = out.first(out.size() < piece_size ? out.size() : piece_size);
            if (piece.empty() || !pipe_.send(piece)) return;
            session_.wrote(piece.size(), now);
        }
    }
    void late() {
        const TimePoint now = loop_.now();
        if (closing_ && now >= close_by_) return pipe_.abort();
        if (const Error error = session_.expire(now)) return drop(error);
        wake();
        arm();
    }

    static constexpr std::size_t piece_size = 64 * 1024;
    static constexpr int redirections_max = 4;
    static constexpr Duration redirections_last = Duration::seconds(60);

    Loop& loop_;
    const Options options_;
    Session session_;
    Stream pipe_;
    Loop::Timer deadline_;
    Loop::Deferred kick_;
    Handlers<const Packet&> message_;
    Handlers<Token, Error, Reason> delivery_;
    Handlers<Token, Reason> subscription_;
    Handlers<ClientState, const Trouble&> state_changed_;
    Handlers<> drained_;
    HandlerId last_handler_ = 0;
    Endpoint home_;  // to where it returns from a server that it was sent to for a while
    Endpoint next_;  // to where it goes from here
    TimePoint redirected_at_;
    int redirections_ = 0;
    bool away_ = false;
    Trouble trouble_;  // what the server said, to be told with what the pipe says
    TimePoint close_by_;
    ClientState state_ = ClientState::idle;
    bool closing_ = false;
};

}  // namespace rejoin::inline v0_1::mqtt

// What goes from peer to peer through a broker, big-endian:
//
//     0  version (1)           4  stream        24  number        48  length of the sender's name
//     1  kind                 12  time, ms      28  ..            49  the sender's name
//     2  flags                20  valid, ms     32  base              the payload
//     3  via                                    40  after             the seal: 32 bytes, where it is sealed
namespace rejoin::inline v0_1::signalling {

/// A copy of a message, or of an acknowledgement.
struct Envelope {
    enum class Kind : std::uint8_t { message = 1, acknowledgement = 2 };

    Kind kind = Kind::message;
    bool ordered = false;  ///< not before message `after`
    bool again = false;    ///< it has been sent before, and was not acknowledged
    bool sealed = false;
    std::uint8_t via = 0;      ///< the sender's number of the broker that this copy goes by
    std::uint64_t stream = 0;  ///< of the messages from this sender to this receiver; in an acknowledgement: that it is about
    std::int64_t time = 0;     ///< when this copy was sent, in milliseconds since 1970, by the sender's clock
    std::uint32_t valid = 0;   ///< for how many milliseconds
    std::uint64_t number = 0;  ///< of the message, from 1; in an acknowledgement: this one and all before are done
    std::uint64_t base = 0;    ///< all before this one are done, as the sender sees it; in an acknowledgement: greater in each that follows
    std::uint64_t after = 0;   ///< the ordered message before; in an acknowledgement: the newest that came
    TextView from;
    Bytes payload;

    static constexpr std::size_t header_size = 49, seal_size = sizeof(Digest), name_max = 128;
    std::size_t size() const { return header_size + from.size() + payload.size() + (sealed ? seal_size : 0); }
};

/// Bytes that are under the seal without being in the envelope.
[[gnu::cold]] inline Digest seal_of(Bytes envelope, TextView to, const Digest& key) {
    const std::byte size[] = {static_cast<std::byte>(to.size())};
    const Bytes pieces[] = {TextView("rejoin signalling 1").bytes(), size, to.bytes(), envelope};
    return hmac_sha256(key, pieces);
}

/// Writes `size()` bytes, sealed for `to` with `key` where it is to be.
inline void write(std::byte* to, const Envelope& e, TextView receiver, const Digest& key) {
    to[0] = std::byte{1};
    to[1] = static_cast<std::byte>(e.kind);
    to[2] = static_cast<std::byte>((e.ordered ? 1 : 0) | (e.again ? 2 : 0) | (e.sealed ? 4 : 0));
    to[3] = static_cast<std::byte>(e.via);
    store_big(to + 4, e.stream);
    store_big(to + 12, static_cast<std::uint64_t>(e.time));
    store_big(to + 20, e.valid);
    store_big(to + 24, e.number);
    store_big(to + 32, e.base);
    store_big(to + 40, e.after);
    to[48] = static_cast<std::byte>(e.from.size());
    copy(to + Envelope::header_size, e.from.bytes());
    std::byte* const payload = to + Envelope::header_size + e.from.size();
    copy(payload, e.payload);
    std::byte* const end = payload + e.payload.size();
    if (e.sealed) copy(end, seal_of({to, end}, receiver, key));
}

/// Reads an envelope, whose views are into `bytes`. The seal is not looked at. `malformed`; `version_mismatch`.
inline Result<Envelope> read_envelope(Bytes bytes) {
    if (bytes.size() < Envelope::header_size) return Errc::malformed;
    if (bytes[0] != std::byte{1}) return Errc::version_mismatch;
    const auto at = [&](std::size_t i) { return std::to_integer<unsigned>(bytes[i]); };
    const std::byte* const from = bytes.data();
    Envelope e;
    e.kind = static_cast<Envelope::Kind>(at(1));
    e.ordered = (at(2) & 1) != 0;
    e.again = (at(2) & 2) != 0;
    e.sealed = (at(2) & 4) != 0;
    e.via = static_cast<std::uint8_t>(at(3));
    e.stream = load_big<std::uint64_t>(from + 4);
    e.time = static_cast<std::int64_t>(load_big<std::uint64_t>(from + 12));
    e.valid = load_big<std::uint32_t>(from + 20);
    e.number = load_big<std::uint64_t>(from + 24);
    e.base = load_big<std::uint64_t>(from + 32);
    e.after = load_big<std::uint64_t>(from + 40);
    const std::size_t name = at(48), fixed = Envelope::header_size + name + (e.sealed ? Envelope::seal_size : 0);
    const bool known = e.kind == Envelope::Kind::message || e.kind == Envelope::Kind::acknowledgement;
    if (!known || at(2) > 7 || name == 0 || name > Envelope::name_max || bytes.size() < fixed || e.time < 0) return Errc::malformed;
    if (e.kind == Envelope::Kind::message && (e.number == 0 || e.base == 0 || e.base > e.number || e.after >= e.number))
        return Errc::malformed;
    e.from = {reinterpret_cast<const char*>(from + Envelope::header_size), name};
    e.payload = bytes.subspan(Envelope::header_size + name, bytes.size() - fixed);
    return e;
}

/// Whether a sealed envelope was sealed with `key` for `to`.
inline bool genuine(Bytes bytes, TextView to, const Digest& key) {
    const std::size_t size = bytes.size() - Envelope::seal_size;
    Digest said;
    copy(said.bytes, bytes.subspan(size));
    return equal_in_constant_time(said, seal_of(bytes.first(size), to, key));
}

/// What an acknowledgement has as its payload: `via`, by which the newest message came first; how many copies have come by each of the
/// sender's brokers; and which messages behind the one up to which all are done are done too, a bit each.
struct Receipt {
    static constexpr std::size_t brokers_max = 32;
    std::uint8_t via = 0;
    std::uint8_t brokers = 0;  ///< of `copies`, the others being 0
    std::uint32_t copies[brokers_max] = {};
    Bytes done;

    std::size_t size() const { return 2 + 4 * std::size_t{brokers} + done.size(); }
    void write(std::byte* to) const {
        *to++ = static_cast<std::byte>(via);
        *to++ = static_cast<std::byte>(brokers);
        for (std::size_t i = 0; i < brokers; ++i, to += 4) store_big(to, copies[i]);
        copy(to, done);
    }
    static bool read(Bytes bytes, Receipt& receipt) {
        if (bytes.size() < 2) return false;
        receipt.via = std::to_integer<std::uint8_t>(bytes[0]);
        receipt.brokers = std::to_integer<std::uint8_t>(bytes[1]);
        const std::size_t fixed = 2 + 4 * std::size_t{receipt.brokers};
        if (receipt.via >= brokers_max || receipt.brokers > brokers_max || bytes.size() < fixed) return false;
        for (std::size_t i = 0; i < receipt.brokers; ++i) receipt.copies[i] = load_big<std::uint32_t>(bytes.data() + 2 + 4 * i);
        receipt.done = bytes.subspan(fixed);
        return true;
    }
};

}  // namespace rejoin::inline v0_1::signalling

namespace rejoin::inline v0_1::signalling {

/// What one broker has done for this peer.
struct Health {
    bool up = false;              ///< it is connected to
    bool suspect = false;         ///< it takes messages that do not arrive: it comes last
    std::uint64_t sent = 0;       ///< copies of messages that were given to it
    std::uint64_t refused = 0;    ///< that were not, as it takes nothing for now
    std::uint64_t confirmed = 0;  ///< that peers have told to have come
    std::uint64_t came = 0;       ///< copies of peers' messages that came by it
    std::uint64_t first = 0;      ///< of these, that were the first of their message
    Duration round_trip;          ///< from a message that arrived by it first to the acknowledgement: smoothed
};

/// Several brokers, by numbers from 0 to 31; a set of them is a bit each.
class Brokers {
public:
    static constexpr int count_max = static_cast<int>(Receipt::brokers_max);
    using Set = std::uint32_t;
    static constexpr Set one(int broker) { return Set{1} << broker; }

    /// Adds one that both sides know by that label; its number, or -1 when there are too many.
    int add(TextView label) {
        for (int i = 0; i < count_max; ++i)
            if ((present_ & one(i)) == 0) {
                present_ |= one(i);
                brokers_[i] = {};
                brokers_[i].label = hash_of(label);
                return i;
            }
        return -1;
    }
    void remove(int broker) { present_ &= ~one(broker); }
    bool has(int broker) const { return broker >= 0 && broker < count_max && (present_ & one(broker)) != 0; }
    const Health& health(int broker) const { return brokers_[broker].health; }
    Health& health(int broker) { return brokers_[broker].health; }
    Set up() const {
        Set set = 0;
        for (int i = 0; i < count_max; ++i)
            if (has(i) && brokers_[i].health.up) set |= one(i);
        return set;
    }

    /// The `copies` brokers that are up and come first in the order that the name gives them, by rendezvous hashing (Thaler, Ravishankar
    /// 1998), so that everybody comes to the same; all for 0. Those under suspicion come last, but are tried now and then.
    Set choose(TextView name, int copies, TimePoint now) {
        Set chosen = 0, left = up();
        if (copies == 0) return left;
        for (int n = 0; left != 0 && n < copies; ++n) {
            int best = -1;
            for (int i = 0; i < count_max; ++i)
                if ((left & one(i)) != 0 && (best < 0 || before(i, best, name))) best = i;
            left &= ~one(best);
            chosen |= one(best);
        }
        for (int i = 0; i < count_max; ++i)
            if ((left & one(i)) != 0 && brokers_[i].health.suspect && brokers_[i].try_at <= now) chosen |= one(i);
        for (int i = 0; i < count_max; ++i)
            if ((chosen & one(i)) != 0 && brokers_[i].health.suspect) brokers_[i].try_at = now + try_again;
        return chosen;
    }

    /// A copy of a message was given to it.
    void sent(int broker, TimePoint now) {
        Broker& b = brokers_[broker];
        ++b.health.sent;
        if (b.unconfirmed++ == 0) b.unconfirmed_since = now;
    }
    /// A peer has told that so many more copies have come by it.
    void confirmed(int broker, std::uint32_t copies) {
        if (!has(broker) || copies == 0) return;
        brokers_[broker].health.confirmed += copies;
        brokers_[broker].health.suspect = false;
        brokers_[broker].unconfirmed = 0;
    }
    /// A peer has told of copies: those brokers that took as many without one arriving are suspects.
    void look(TimePoint now) {
        for (int i = 0; i < count_max; ++i) {
            Broker& b = brokers_[i];
            if (!has(i) || b.health.suspect || b.unconfirmed < suspicious || now - b.unconfirmed_since < suspicious_after) continue;
            b.health.suspect = true;
            b.try_at = now + try_again;
        }
    }
    void took(int broker, Duration round_trip) {
        Duration& smoothed = brokers_[broker].health.round_trip;
        smoothed = smoothed == Duration() ? round_trip : (smoothed * 7 + round_trip) / 8;
    }

private:
    // Eight may be lost with a connection that breaks, and not within two seconds.
    static constexpr std::uint32_t suspicious = 8;
    static constexpr Duration suspicious_after = Duration::seconds(2), try_again = Duration::seconds(10);

    struct Broker {
        Health health;
        std::uint64_t label = 0;
        std::uint32_t unconfirmed = 0;  // copies since one was confirmed
        TimePoint unconfirmed_since;
        TimePoint try_at;
    };
    bool before(int a, int b, TextView name) const {
        const Broker &x = brokers_[a], &y = brokers_[b];
        if (x.health.suspect != y.health.suspect) return y.health.suspect;
        return hash_of(name, x.label) > hash_of(name, y.label);
    }

    Broker brokers_[count_max];
    Set present_ = 0;
};

}  // namespace rejoin::inline v0_1::signalling

#include <cstddef>
#include <cstdint>

namespace rejoin::inline v0_1::signalling {

/// Which numbers of a stream have been seen: all up to `lowest`, and of the `size` that follow, those whose bit is set.
class Window {
public:
    static constexpr std::uint64_t size = 1024;

    std::uint64_t lowest() const { return lowest_; }
    bool seen(std::uint64_t number) const { return number <= lowest_ || (!beyond(number) && bit(number)); }
    bool beyond(std::uint64_t number) const { return number > lowest_ && number - lowest_ > size; }
    /// One that is neither seen nor beyond.
    void add(std::uint64_t number) {
        word(number) |= mask(number);
        slide();
    }
    /// All up to this one count as seen.
    void skip_to(std::uint64_t number) {
        if (number <= lowest_) return;
        if (number - lowest_ >= size) {
            for (std::uint64_t& w : words_) w = 0;
            lowest_ = number;
            return;
        }
        while (lowest_ < number) clear(++lowest_);
        slide();
    }
    /// Writes the bits behind `lowest`, first bit first, and says how many bytes it took: none behind the last that is set.
    std::size_t write(MutableBytes to) const {
        std::size_t used = 0;
        for (std::size_t i = 0; i < to.size() && i < size / 8; ++i) {
            unsigned byte = 0;
            for (unsigned b = 0; b < 8; ++b)
                if (bit(lowest_ + 1 + i * 8 + b)) byte |= 1u << b;
            to[i] = static_cast<std::byte>(byte);
            if (byte != 0) used = i + 1;
        }
        return used;
    }

private:
    static std::uint64_t mask(std::uint64_t number) { return std::uint64_t{1} << (number % 64); }
    std::uint64_t& word(std::uint64_t number) { return words_[number / 64 % (size / 64)]; }
    bool bit(std::uint64_t number) const { return (words_[number / 64 % (size / 64)] & mask(number)) != 0; }
    void clear(std::uint64_t number) { word(number) &= ~mask(number); }
    void slide() {
        while (bit(lowest_ + 1)) clear(++lowest_);
    }

    std::uint64_t lowest_ = 0;
    std::uint64_t words_[size / 64] = {};
};

}  // namespace rejoin::inline v0_1::signalling

// What goes into signalling, and what comes out of it.
namespace rejoin::inline v0_1::signalling {

/// What is held and waited for at most.
struct Limits {
    std::size_t message = 64 * 1024;  ///< bytes of one message, sent or received
    std::size_t queue = 1024 * 1024;  ///< bytes of messages that were accepted and have not arrived, 128 more counted for each
    std::size_t held = 1024 * 1024;   ///< bytes of ordered messages that wait for one before them
    std::size_t peers = 1024;         ///< that are sent to at a time
    std::size_t streams = 1024;       ///< senders that are heard of at a time: the longest silent makes room
    int copies = 0;                   ///< how many brokers a message goes to; 0: all
    Duration clock_tolerance = Duration::seconds(60);  ///< by which the clocks of peers that share a key may differ
    Duration retry_max = Duration::seconds(10);        ///< the longest pause before an unacknowledged message is sent again

    bool valid() const {
        return message > 0 && message <= 16 * 1024 * 1024 && queue > 0 && peers > 0 && streams > 0 && copies >= 0 &&
               clock_tolerance > Duration() && retry_max >= Duration::milliseconds(100);
    }
};

/// How a message is sent.
struct SendOptions {
    bool ordered = false;                     ///< not before the ordered one that was sent to that peer before it, unless that has failed
    Duration expiry = Duration::seconds(30);  ///< by when it has to have arrived
};

using Token = std::uint64_t;

/// What has happened.
struct Event {
    enum class Kind : std::uint8_t {
        message,    ///< `peer` has sent `payload`
        delivered,  ///< message `token` has arrived at `peer`: its program has had it
        failed,     ///< nobody has said that it arrived: `error`
    };
    Kind kind = Kind::message;
    bool sealed = false;  ///< it is from somebody with whom a key is shared
    Token token = 0;
    Error error;
    TextView peer;
    Bytes payload;

    TextView text() const { return {reinterpret_cast<const char*>(payload.data()), payload.size()}; }
};

/// What came from the brokers, and what was made of it.
struct Counters {
    std::uint64_t messages = 0;    ///< given on, each once
    std::uint64_t duplicates = 0;  ///< copies of messages that were there already
    std::uint64_t sent_again = 0;  ///< of this peer's messages, as no acknowledgement came in time
    // Dropped, without a trace but here.
    std::uint64_t malformed = 0;  ///< no envelope, or one of another version
    std::uint64_t too_large = 0;
    std::uint64_t unsealed = 0;  ///< from a name with which a key is shared
    std::uint64_t forged = 0;    ///< the seal is not that of the key, or there is none
    std::uint64_t stale = 0;     ///< expired, recorded and repeated, or of a clock that is too far away
    std::uint64_t no_room = 0;   ///< out of order by more than may be held; it is sent again
};

}  // namespace rejoin::inline v0_1::signalling

namespace rejoin::inline v0_1::signalling {

/// The messages that come: each is given on once, by whichever broker it comes first, and in order where that was asked for.
class Inbox {
public:
    struct Held : ListNode {
        std::uint64_t number = 0, after = 0;
        Array<std::byte> payload;
    };
    struct Heard : ListNode {};
    struct Due : ListNode {};
    // From one sender. In `due` while it is to be acknowledged.
    struct Stream : Heard, Due {
        std::uint64_t id = 0, mixed = 0;
        Array<char> name;
        bool sealed = false;
        std::uint8_t via = 0;  // by which the newest came first, as the sender numbers its brokers
        Window seen;
        List held;
        std::uint64_t newest = 0;
        std::uint64_t stamp = 0;  // of the last acknowledgement
        std::int64_t time = 0;    // of the newest, by the sender's clock
        std::uint32_t copies[Receipt::brokers_max] = {};
        Brokers::Set came_by = 0;  // since the last acknowledgement
        TimePoint heard;

        TextView view() const { return {name.data(), name.size()}; }
        std::uint64_t hash() const { return mixed; }
        bool is(const Envelope& e) const { return id == e.stream && sealed == e.sealed && view() == e.from; }
    };
    enum class Verdict : std::uint8_t { fresh, held, duplicate, stale, no_room };

    Inbox(const Limits& limits, std::uint64_t seed) : limits_(limits), seed_(seed) {}
    Inbox(const Inbox&) = delete;
    ~Inbox() {
        while (Stream* stream = oldest()) forget(stream);
    }

    /// Looks at a message that came by `broker`; `stream` is whose it is, unless it is stale or there is no room.
    Verdict look(const Envelope& e, int broker, TimePoint now, Stream*& stream) {
        stream = find_or_make(e);
        if (stream == nullptr) return refused_as_;
        stream->heard = now;
        stream->Heard::unlink();
        streams_.push(static_cast<Heard&>(*stream));
        stream->came_by |= Brokers::one(broker);
        if (e.time > stream->time) stream->time = e.time;
        if (e.via < Receipt::brokers_max) ++stream->copies[e.via];
        stream->seen.skip_to(e.base - 1);
        if (stream->seen.seen(e.number)) {
            if (e.again) due_.push(static_cast<Due&>(*stream));  // the acknowledgement was lost
            return Verdict::duplicate;
        }
        if (stream->seen.beyond(e.number)) return Verdict::no_room;
        return e.ordered && !stream->seen.seen(e.after) ? Verdict::held : Verdict::fresh;
    }
    /// Such a one is given on.
    void take(Stream& stream, const Envelope& e) {
        stream.seen.add(e.number);
        stream.newest = e.number;
        stream.via = e.via < Receipt::brokers_max ? e.via : 0;
        due_.push(static_cast<Due&>(stream));
    }
    /// Such a one is kept until its turn comes. False when there is no room for it.
    bool hold(Stream& stream, const Envelope& e, Bytes payload, bool& already) {
        already = false;
        for (ListNode* node = stream.held.front(); node != nullptr && !already; node = stream.held.next(*node))
            already = static_cast<Held*>(node)->number == e.number;
        if (already) return true;
        if (payload.size() + overhead > limits_.held - held_) return false;
        auto* const held = new (std::nothrow) Held;
        if (held == nullptr || !held->payload.append(payload.data(), payload.size())) {
            delete held;
            return false;
        }
        held->number = e.number;
        held->after = e.after;
        held_ += payload.size() + overhead;
        stream.held.push(*held);
        return true;
    }
    /// One whose turn has come, which is then the caller's; null when there is none.
    Held* release(Stream& stream) {
        for (ListNode* node = stream.held.front(); node != nullptr;) {
            auto* const held = static_cast<Held*>(node);
            node = stream.held.next(*node);
            const bool given_up = stream.seen.seen(held->number);
            if (!given_up && !stream.seen.seen(held->after)) continue;
            held->unlink();
            held_ -= held->payload.size() + overhead;
            if (given_up) {  // by its sender
                delete held;
                continue;
            }
            stream.seen.add(held->number);
            due_.push(static_cast<Due&>(stream));
            return held;
        }
        return nullptr;
    }

    /// A stream that is to be acknowledged; null when there is none.
    Stream* due() { return static_cast<Stream*>(static_cast<Due*>(due_.front())); }
    /// Writes the payload of its acknowledgement.
    static bool write_receipt(const Stream& stream, Array<std::byte>& to) {
        std::byte bits[Window::size / 8];
        Receipt receipt;
        receipt.via = stream.via;
        for (std::size_t i = 0; i < Receipt::brokers_max; ++i) {
            receipt.copies[i] = stream.copies[i];
            if (stream.copies[i] != 0) receipt.brokers = static_cast<std::uint8_t>(i + 1);
        }
        receipt.done = Bytes(bits, stream.seen.write(bits));
        to.clear();
        std::byte* const room = to.extend(receipt.size());
        if (room != nullptr) receipt.write(room);
        return room != nullptr;
    }
    static void acknowledged(Stream& stream) {
        stream.Due::unlink();
        stream.came_by = 0;
    }

    /// How long a stream is remembered after it was last heard of: by then whatever was recorded of it is stale.
    Duration memory() const { return lifetime + limits_.clock_tolerance * 2; }
    TimePoint deadline() { return oldest() == nullptr ? TimePoint::never() : oldest()->heard + memory(); }
    void expire(TimePoint now) {
        while (Stream* stream = oldest()) {
            if (stream->heard + memory() > now) return;
            forget(stream);
        }
    }
    /// For how long a copy is valid at most.
    static constexpr Duration lifetime = Duration::seconds(30);

private:
    static constexpr std::size_t overhead = 128;

    Stream* oldest() { return static_cast<Stream*>(static_cast<Heard*>(streams_.front())); }
    // The sender chooses the number, and is not to choose the place.
    std::uint64_t mix(std::uint64_t id) const { return Random(id ^ seed_).next(); }
    Stream* find_or_make(const Envelope& e) {
        const std::uint64_t mixed = mix(e.stream);
        if (Stream* const known = index_.find(mixed, e)) return known;
        // It may be one that was forgotten for want of room: what was recorded of it is not to come again.
        refused_as_ = Verdict::stale;
        if (e.sealed && e.time <= forgotten_) return nullptr;
        refused_as_ = Verdict::no_room;
        if (index_.size() >= limits_.streams) {
            Stream* const silent = oldest();
            if (silent == nullptr) return nullptr;
            if (silent->sealed && silent->time > forgotten_) forgotten_ = silent->time;
            forget(silent);
        }
        auto* const stream = new (std::nothrow) Stream;
        if (stream == nullptr || !stream->name.append(e.from.data(), e.from.size())) {
            delete stream;
            return nullptr;
        }
        stream->id = e.stream;
        stream->mixed = mixed;
        stream->sealed = e.sealed;
        if (!index_.insert(stream)) {
            delete stream;
            return nullptr;
        }
        return stream;
    }
    void forget(Stream* stream) {
        while (auto* const held = static_cast<Held*>(stream->held.front())) {
            held_ -= held->payload.size() + overhead;
            delete held;
        }
        index_.erase(stream);
        delete stream;
    }

    const Limits& limits_;
    const std::uint64_t seed_;
    Index<Stream, Envelope> index_;
    List streams_;  // the longest silent first
    List due_;
    std::size_t held_ = 0;
    std::int64_t forgotten_ = INT64_MIN;
    Verdict refused_as_ = Verdict::no_room;
};

}  // namespace rejoin::inline v0_1::signalling

namespace rejoin::inline v0_1::signalling {

/// The messages that were accepted, until they have arrived or failed. Each receiver has a stream of numbered messages of its own.
///
///     waiting --copies given to brokers--> under way --acknowledged--> done
///        ^------ no acknowledgement in time, ------'  --expired------> done
///                or all its brokers are gone
class Outbox {
public:
    using Set = Brokers::Set;

    struct Peer;
    // In its peer's list from the beginning to the end; in `due` as long as copies of it are to be given to brokers.
    struct Queued : ListNode {};
    struct Due : ListNode {};
    struct Message : Queued, Due {
        Peer* peer = nullptr;
        Token token = 0;
        std::uint64_t number = 0, after = 0;
        Array<std::byte> payload;
        TimePoint expires, sent_at, retry_at = TimePoint::never();
        int retries = 0;
        Set wanted = 0;  // brokers that are to have a copy
        Set with = 0;    // that have had one
        bool ordered = false;
        bool again = false;  // a copy may have come already
        Error error;
    };
    struct Peer : ListNode {
        Array<char> name;
        std::uint64_t name_hash = 0;
        std::uint64_t stream = 0;
        std::uint64_t last = 0, last_ordered = 0;  // numbers
        std::uint64_t heard = 0;                   // the greatest `base` of an acknowledgement
        std::uint32_t confirmed[Receipt::brokers_max] = {};
        Duration round_trip;
        List messages;  // by number
        TimePoint idle_since;

        TextView view() const { return {name.data(), name.size()}; }
        std::uint64_t hash() const { return name_hash; }
        bool is(TextView other) const { return view() == other; }
        Message* oldest() { return static_cast<Message*>(static_cast<Queued*>(messages.front())); }
        std::uint64_t base() { return oldest() == nullptr ? last + 1 : oldest()->number; }
        // Twice what it usually takes. One who has not answered yet may just be about to listen.
        Duration patience() const {
            return round_trip == Duration() ? Duration::milliseconds(50) : Duration::milliseconds(100) + round_trip * 2;
        }
    };

    Outbox(const Limits& limits, std::uint64_t seed) : limits_(limits), random_(seed) {}
    Outbox(const Outbox&) = delete;
    ~Outbox() {
        while (ListNode* node = done_.front()) delete static_cast<Message*>(static_cast<Queued*>(node));
        while (ListNode* node = peers_.front()) {
            Peer* const peer = static_cast<Peer*>(node);
            while (Message* message = peer->oldest()) delete message;
            delete peer;
        }
    }

    /// Accepts a message, which `brokers` are to have. `would_block`, `too_large`, `out_of_memory`.
    Result<Token> add(TextView to, Bytes payload, const SendOptions& options, Brokers& brokers, TimePoint now) {
        if (payload.size() + overhead > limits_.queue) return Errc::too_large;
        Peer* const peer = find_or_make(to, now);
        if (peer == nullptr) return peer_count_ >= limits_.peers ? refuse() : Error(Errc::out_of_memory);
        if (payload.size() + overhead > limits_.queue - bytes_ || peer->last + 1 - peer->base() >= Window::size) return refuse();
        auto* const message = new (std::nothrow) Message;
        if (message == nullptr || !message->payload.append(payload.data(), payload.size())) {
            delete message;
            return Errc::out_of_memory;
        }
        message->peer = peer;
        message->token = ++last_token_;
        message->number = ++peer->last;
        message->ordered = options.ordered;
        if (options.ordered) message->after = std::exchange(peer->last_ordered, message->number);
        message->expires = now + options.expiry;
        message->sent_at = now;
        bytes_ += payload.size() + overhead;
        peer->messages.push(static_cast<Queued&>(*message));
        want(*message, brokers.choose(peer->view(), limits_.copies, now));
        if (message->expires < next_) next_ = message->expires;
        return message->token;
    }
    /// Once after a refusal, when something has gone since: whether there is room again.
    bool drained() {
        if (!refused_ || !freed_ || bytes_ > limits_.queue / 2) return false;
        refused_ = false;
        return true;
    }
    std::size_t bytes() const { return bytes_; }

    /// A message of which a copy is to be given to a broker now, and to which; null when there is none.
    Message* next(Set up, int& broker) {
        while (auto* const message = static_cast<Message*>(static_cast<Due*>(due_.front()))) {
            message->wanted &= up;
            if (message->wanted == 0) {
                message->Due::unlink();
                continue;
            }
            broker = __builtin_ctz(message->wanted);
            return message;
        }
        return nullptr;
    }
    /// It was given to that broker, or the broker did not take it.
    void given(Message& message, int broker, bool taken, TimePoint now) {
        message.wanted &= ~Brokers::one(broker);
        if (taken) {
            if (message.with == 0 && !message.again) message.sent_at = now;
            message.with |= Brokers::one(broker);
        }
        if (message.wanted == 0) message.Due::unlink();
        if (message.retry_at == TimePoint::never()) plan(message, now);
    }
    /// A broker has come: whatever it is chosen for and has not had, it is to have.
    void came_up(int broker, Brokers& brokers, TimePoint now) {
        each([&](Message& message) {
            if ((brokers.choose(message.peer->view(), limits_.copies, now) & Brokers::one(broker)) != 0)
                want(message, Brokers::one(broker));
        });
    }
    /// A broker has gone: what nobody else has is to go elsewhere.
    void went_down(int broker, Brokers& brokers, TimePoint now) {
        each([&](Message& message) {
            message.again = message.again || message.with == Brokers::one(broker);
            message.with &= ~Brokers::one(broker);
            message.wanted &= ~Brokers::one(broker);
            if (message.with != 0) return;
            want(message, brokers.choose(message.peer->view(), limits_.copies, now));
        });
    }

    /// What the receiver has. Returns whether it says anything new; `confirm(broker, copies)`, `took(broker, round_trip)`.
    template <class Confirm, class Took>
    bool acknowledged(const Envelope& ack, const Receipt& receipt, TimePoint now, Confirm confirm, Took took) {
        Peer* const peer = find(ack.from);
        if (peer == nullptr || peer->stream != ack.stream || ack.base <= peer->heard || ack.number > peer->last) return false;
        peer->heard = ack.base;
        bool progress = false;
        for (int i = 0; i < receipt.brokers; ++i) {
            if (receipt.copies[i] > peer->confirmed[i]) confirm(i, receipt.copies[i] - peer->confirmed[i]);
            peer->confirmed[i] = receipt.copies[i];  // a receiver that was restarted counts anew
        }
        for (Message* message = peer->oldest(); message != nullptr;) {
            Message& one = *message;
            message = after(one);
            const std::uint64_t bit = one.number - ack.number - 1;
            const bool done = one.number <= ack.number ||
                              (bit / 8 < receipt.done.size() &&
                               (std::to_integer<unsigned>(receipt.done[static_cast<std::size_t>(bit / 8)]) >> (bit % 8) & 1) != 0);
            if (!done) continue;
            if (one.number == ack.after && !one.again) {  // of one that was sent again it is not known which copy that was (Karn)
                const Duration took_it = now - one.sent_at;
                peer->round_trip = peer->round_trip == Duration() ? took_it : (peer->round_trip * 7 + took_it) / 8;
                took(int{receipt.via}, took_it);
            }
            finish(one, {}, now);
            progress = true;
        }
        // The receiver is there: what it has not had does not wait as long as for one that may not be.
        const TimePoint by = now + peer->patience();
        for (Message* message = progress ? peer->oldest() : nullptr; message != nullptr; message = after(*message)) {
            message->retries = 0;
            if (message->retry_at > by && message->retry_at != TimePoint::never()) message->retry_at = by;
            soon(*message);
        }
        return true;
    }

    TimePoint deadline() const { return next_; }
    /// Gives up what has expired, and sends again what was not acknowledged in time. Returns how many that were.
    std::uint64_t expire(Brokers& brokers, TimePoint now) {
        if (now < next_) return 0;
        next_ = TimePoint::never();
        std::uint64_t again = 0;
        each([&](Message& message) {
            if (message.expires <= now) return finish(message, Errc::timed_out, now);
            if (message.retry_at <= now) {
                ++again;
                ++message.retries;
                message.again = true;
                message.retry_at = TimePoint::never();
                // One broker more each time, until it goes by all.
                const int copies = limits_.copies == 0 ? 0 : limits_.copies + message.retries;
                want(message, brokers.choose(message.peer->view(), copies, now));
            }
            soon(message);
        });
        for (ListNode* node = peers_.front(); node != nullptr;) {
            auto* const peer = static_cast<Peer*>(node);
            node = peers_.next(*node);
            if (!peer->messages.empty()) continue;
            if (peer->idle_since + forget_after <= now && done_.empty())
                forget(peer);
            else if (peer->idle_since + forget_after < next_)
                next_ = peer->idle_since + forget_after;
        }
        return again;
    }
    /// Gives up everything.
    void cancel(TimePoint now) {
        each([&](Message& message) { finish(message, Errc::cancelled, now); });
    }
    /// One that is done, which is then the caller's; null when there is none.
    Message* take_done() {
        auto* const message = static_cast<Message*>(static_cast<Queued*>(done_.front()));
        if (message != nullptr) message->Queued::unlink();
        return message;
    }

private:
    static constexpr std::size_t overhead = 128;
    // A receiver forgets a stream that is silent; one that is taken up again begins anew.
    static constexpr Duration forget_after = Duration::seconds(60);

    static Message* after(Message& message) {
        return static_cast<Message*>(static_cast<Queued*>(message.peer->messages.next(static_cast<Queued&>(message))));
    }
    Peer* find(TextView name) const { return index_.find(hash_of(name), name); }
    Peer* find_or_make(TextView name, TimePoint now) {
        if (Peer* const known = find(name)) return known;
        if (peer_count_ >= limits_.peers) return nullptr;
        auto* const peer = new (std::nothrow) Peer;
        if (peer == nullptr || !peer->name.append(name.data(), name.size())) {
            delete peer;
            return nullptr;
        }
        peer->name_hash = hash_of(name);
        peer->stream = random_.next();
        peer->idle_since = now;
        if (!index_.insert(peer)) {
            delete peer;
            return nullptr;
        }
        ++peer_count_;
        peers_.push(*peer);
        return peer;
    }
    void forget(Peer* peer) {
        index_.erase(peer);
        --peer_count_;
        freed_ = true;
        delete peer;
    }
    Error refuse() {
        refused_ = true;
        freed_ = false;
        return Errc::would_block;
    }
    template <class F>
    void each(F f) {
        for (ListNode* node = peers_.front(); node != nullptr; node = peers_.next(*node)) {
            auto* const peer = static_cast<Peer*>(node);
            for (Message* message = peer->oldest(); message != nullptr;) {
                Message& one = *message;
                message = after(one);
                f(one);
            }
        }
    }
    void want(Message& message, Set brokers) {
        message.wanted |= brokers;
        if (message.wanted != 0) due_.push(static_cast<Due&>(message));
    }
    // When it is sent again, if nothing is heard: later each time.
    void plan(Message& message, TimePoint now) {
        Duration pause = message.peer->patience();
        for (int i = 0; i < message.retries && pause < limits_.retry_max; ++i) pause = pause * 2;
        message.retry_at = now + (pause < limits_.retry_max ? pause : limits_.retry_max);
        soon(message);
    }
    void soon(const Message& message) {
        const TimePoint when = message.retry_at < message.expires ? message.retry_at : message.expires;
        if (when < next_) next_ = when;
    }
    void finish(Message& message, Error error, TimePoint now) {
        message.error = error;
        freed_ = true;
        message.Due::unlink();
        message.Queued::unlink();
        bytes_ -= message.payload.size() + overhead;
        if (message.peer->messages.empty()) {
            message.peer->idle_since = now;
            if (now + forget_after < next_) next_ = now + forget_after;
        }
        done_.push(static_cast<Queued&>(message));
    }

    const Limits& limits_;
    Random random_;
    Index<Peer, TextView> index_;
    List peers_, due_, done_;
    std::size_t peer_count_ = 0;
    std::size_t bytes_ = 0;
    Token last_token_ = 0;
    TimePoint next_ = TimePoint::never();
    bool refused_ = false;
    bool freed_ = false;  // something has gone since
};

}  // namespace rejoin::inline v0_1::signalling

namespace rejoin::inline v0_1::signalling {

/// Turns the payload of one peer's message into what goes over the brokers, or back. False where that cannot be, or memory is out.
using Cipher = Function<bool(TextView peer, Bytes from, Array<std::byte>& to)>;

/// A copy to be given to a broker.
struct Copy {
    int broker = 0;
    TextView to;
    Bytes bytes;     ///< until the next call of anything
    Duration valid;  ///< no use after that
};

/// Signalling by several brokers as one. Pure: what came from brokers and the times go in, copies for brokers and events come out.
///
/// `now` is a monotonic time; `wall` milliseconds since 1970, of which only peers that share a key take notice.
class Exchange {
public:
    /// `seed` from the system's entropy.
    Exchange(const Limits& limits, std::uint64_t seed)
        : limits_(limits), random_(seed), outbox_(limits_, random_.next()), inbox_(limits_, random_.next()) {}
    Exchange(const Exchange&) = delete;
    ~Exchange() {
        delete given_;
        delete done_;
    }

    /// Under which name others reach this one: a level of a topic, of at most 128 bytes. `invalid_argument`; `out_of_memory`.
    Result<void> set_name(TextView name) {
        if (!mqtt::valid_topic_level(name) || !limits_.valid()) return Errc::invalid_argument;
        name_.clear();
        return name_.append(name.data(), name.size()) ? Result<void>() : Errc::out_of_memory;
    }
    TextView name() const { return {name_.data(), name_.size()}; }

    /// From now on only what is sealed with this secret is taken from that peer, and what is sent to it is. For an empty name: from and to
    /// everybody who has no secret of its own. `invalid_argument` for a name that may not be, and for less than 16 bytes; `out_of_memory`.
    Result<void> share_key(TextView peer, Bytes secret) {
        if ((peer.size() > 0 && !mqtt::valid_topic_level(peer)) || secret.size() < 16) return Errc::invalid_argument;
        Key key;
        if (!key.name.append(peer.data(), peer.size())) return Errc::out_of_memory;
        const Bytes pieces[] = {TextView("rejoin signalling key").bytes()};
        key.key = hmac_sha256(secret, pieces);
        for (Key& known : keys_)
            if (known.view() == peer) {
                known = std::move(key);
                return {};
            }
        return keys_.push(std::move(key)) ? Result<void>() : Errc::out_of_memory;
    }
    /// From now on payloads go through these, before they are sealed, and after the seal was looked at.
    void set_ciphers(Cipher encrypt, Cipher decrypt) {
        encrypt_ = std::move(encrypt);
        decrypt_ = std::move(decrypt);
    }

    // ---- Brokers.

    int add_broker(TextView label) { return brokers_.add(label); }
    void remove_broker(int broker, TimePoint now) {
        broker_down(broker, now);
        brokers_.remove(broker);
    }
    void broker_up(int broker, TimePoint now) {
        if (brokers_.health(broker).up) return;
        brokers_.health(broker).up = true;
        outbox_.came_up(broker, brokers_, now);
    }
    void broker_down(int broker, TimePoint now) {
        if (!brokers_.health(broker).up) return;
        brokers_.health(broker).up = false;
        outbox_.went_down(broker, brokers_, now);
    }
    const Health& health(int broker) const { return brokers_.health(broker); }
    const Counters& counters() const { return counters_; }

    // ---- Sending.

    /// Accepts a message. `invalid_argument`; `would_block` while too much is under way, to anybody or to that peer (see `drained`);
    /// `too_large`; `out_of_memory`.
    Result<Token> send(TextView to, Bytes payload, const SendOptions& options, TimePoint now) {
        if (!mqtt::valid_topic_level(to) || options.expiry <= Duration() || name_.empty()) return Errc::invalid_argument;
        if (payload.size() > limits_.message) return Errc::too_large;
        Array<std::byte> encrypted;
        if (encrypt_) {
            if (!encrypt_(to, payload, encrypted)) return Errc::invalid_argument;
            if (encrypted.size() > limits_.message + cipher_room) return Errc::too_large;
            payload = {encrypted.data(), encrypted.size()};
        }
        return outbox_.add(to, payload, options, brokers_, now);
    }
    bool drained() { return outbox_.drained(); }
    std::size_t queued() const { return outbox_.bytes(); }
    void cancel(TimePoint now) { outbox_.cancel(now); }

    /// The next copy for a broker; false when there is none for now.
    bool next_copy(Copy& copy, TimePoint now, std::int64_t wall) {
        const Brokers::Set up = brokers_.up();
        while (acknowledging_ != 0 || inbox_.due() != nullptr) {
            if (acknowledging_ == 0 && !acknowledge(*inbox_.due(), up, wall)) return false;
            if (acknowledging_ == 0) continue;
            copy = {__builtin_ctz(acknowledging_), {to_.data(), to_.size()}, {bytes_.data(), bytes_.size()}, Inbox::lifetime};
            acknowledging_ &= acknowledging_ - 1;
            message_ = nullptr;
            return true;
        }
        message_ = outbox_.next(up, copy.broker);
        if (message_ == nullptr) return false;
        Outbox::Message& message = *message_;
        const Duration left = message.expires - now, valid = left < Inbox::lifetime ? left : Inbox::lifetime;
        Envelope e;
        e.kind = Envelope::Kind::message;
        e.ordered = message.ordered;
        e.again = message.again;
        e.via = static_cast<std::uint8_t>(copy.broker);
        e.stream = message.peer->stream;
        e.number = message.number;
        e.base = message.peer->base();
        e.after = message.after;
        e.payload = {message.payload.data(), message.payload.size()};
        if (!seal(e, message.peer->view(), valid, wall)) return false;
        copy.to = message.peer->view();
        copy.bytes = {bytes_.data(), bytes_.size()};
        copy.valid = valid;
        return true;
    }
    /// What became of that copy: whether the broker has taken it. Before anything else is called.
    void given(const Copy& copy, bool taken, TimePoint now) {
        if (message_ == nullptr) return;
        if (taken)
            brokers_.sent(copy.broker, now);
        else
            ++brokers_.health(copy.broker).refused;
        outbox_.given(*std::exchange(message_, nullptr), copy.broker, taken, now);
    }

    // ---- Receiving.

    /// Something came to this one's name by that broker. `next` then has what comes of it.
    void received(int broker, Bytes bytes, TimePoint now, std::int64_t wall) {
        if (bytes.size() > Envelope::header_size + Envelope::name_max + Envelope::seal_size + limits_.message + cipher_room) {
            ++counters_.too_large;
            return;
        }
        const auto read = read_envelope(bytes);
        if (!read || read->valid > Inbox::lifetime.milliseconds()) {
            ++counters_.malformed;
            return;
        }
        if (std::uint64_t* const why = refuse(*read, bytes, wall)) {
            ++*why;
            return;
        }
        read->kind == Envelope::Kind::message ? message(*read, broker, now) : acknowledged(*read, now);
    }
    /// The next event; its views hold until the next call of anything. False when there is none.
    bool next(Event& event) {
        delete std::exchange(given_, nullptr);
        delete std::exchange(done_, nullptr);
        if (releasing_ != nullptr) {
            event = {Event::Kind::message, releasing_->sealed, 0, {}, releasing_->view(), {}};
            if (std::exchange(fresh_, false)) {
                ++counters_.messages;
                event.payload = payload_;
                return true;
            }
            given_ = inbox_.release(*releasing_);
            if (given_ != nullptr) {
                ++counters_.messages;
                event.payload = {given_->payload.data(), given_->payload.size()};
                return true;
            }
            releasing_ = nullptr;
        }
        done_ = outbox_.take_done();
        if (done_ == nullptr) return false;
        event = {done_->error ? Event::Kind::failed : Event::Kind::delivered, false, done_->token, done_->error, done_->peer->view(), {}};
        return true;
    }

    /// When `expire` has something to do.
    TimePoint deadline() {
        const TimePoint a = outbox_.deadline(), b = inbox_.deadline();
        return a < b ? a : b;
    }
    void expire(TimePoint now) {
        counters_.sent_again += outbox_.expire(brokers_, now);
        inbox_.expire(now);
    }

private:
    // By which encryption may make a message longer.
    static constexpr std::size_t cipher_room = 256;

    struct Key {
        Array<char> name;
        Digest key;
        TextView view() const { return {name.data(), name.size()}; }
    };
    const Digest* key_of(TextView peer) const {
        const Digest* found = nullptr;
        for (const Key& key : keys_) {
            if (key.view() == peer) return &key.key;
            if (key.name.empty()) found = &key.key;
        }
        return found;
    }
    bool seal(Envelope& e, TextView to, Duration valid, std::int64_t wall) {
        const Digest* const key = key_of(to);
        e.sealed = key != nullptr;
        e.from = name();
        e.time = wall;
        e.valid = static_cast<std::uint32_t>(valid > Duration() ? valid.milliseconds() : 0);
        bytes_.clear();
        std::byte* const room = bytes_.extend(e.size());
        if (room != nullptr) write(room, e, to, key != nullptr ? *key : Digest());
        return room != nullptr;
    }
    // The counter of what is wrong with it; null when it is good.
    std::uint64_t* refuse(const Envelope& e, Bytes bytes, std::int64_t wall) {
        const Digest* const key = key_of(e.from);
        if (key == nullptr) return e.sealed ? &counters_.forged : nullptr;
        if (!e.sealed) return &counters_.unsealed;
        if (!genuine(bytes, name(), *key)) return &counters_.forged;
        const std::int64_t late = detail::subtract(wall, e.time), tolerance = limits_.clock_tolerance.milliseconds();
        return late > tolerance + e.valid || late < -tolerance ? &counters_.stale : nullptr;
    }
    void message(const Envelope& e, int broker, TimePoint now) {
        Health& health = brokers_.health(broker);
        Inbox::Stream* stream = nullptr;
        Inbox::Verdict verdict = inbox_.look(e, broker, now, stream);
        ++health.came;
        releasing_ = stream;  // what was held may have been waiting for one that its sender has given up
        if (verdict == Inbox::Verdict::duplicate) ++counters_.duplicates;
        if (verdict == Inbox::Verdict::stale) ++counters_.stale;
        if (verdict == Inbox::Verdict::no_room) ++counters_.no_room;
        if (verdict != Inbox::Verdict::fresh && verdict != Inbox::Verdict::held) return;
        payload_ = e.payload;
        if (decrypt_) {
            decrypted_.clear();
            if (!decrypt_(e.from, e.payload, decrypted_)) {
                ++counters_.forged;
                return;
            }
            payload_ = {decrypted_.data(), decrypted_.size()};
        }
        if (verdict == Inbox::Verdict::held) {
            bool already = false;
            if (!inbox_.hold(*stream, e, payload_, already))
                ++counters_.no_room;
            else if (already)
                ++counters_.duplicates;
            else
                ++health.first;
            return;
        }
        ++health.first;
        inbox_.take(*stream, e);
        fresh_ = true;
    }
    void acknowledged(const Envelope& e, TimePoint now) {
        Receipt receipt;
        if (!Receipt::read(e.payload, receipt)) {
            ++counters_.malformed;
            return;
        }
        const auto confirm = [this](int broker, std::uint32_t copies) { brokers_.confirmed(broker, copies); };
        const auto took = [this](int broker, Duration round_trip) {
            if (brokers_.has(broker)) brokers_.took(broker, round_trip);
        };
        if (outbox_.acknowledged(e, receipt, now, confirm, took)) brokers_.look(now);
    }
    // Makes the acknowledgement, for the brokers by which the messages came, or for whichever are up. False when memory is out.
    bool acknowledge(Inbox::Stream& stream, Brokers::Set up, std::int64_t wall) {
        Envelope e;
        e.kind = Envelope::Kind::acknowledgement;
        e.stream = stream.id;
        e.number = stream.seen.lowest();
        const auto clock = static_cast<std::uint64_t>(wall > 0 ? wall : 0);
        stream.stamp = stream.stamp >= clock ? stream.stamp + 1 : clock;  // a program that was started anew goes on from there
        e.base = stream.stamp;
        e.after = stream.newest;
        to_.clear();
        if (!Inbox::write_receipt(stream, receipt_) || !to_.append(stream.name.data(), stream.name.size())) return false;
        e.payload = {receipt_.data(), receipt_.size()};
        if (!seal(e, stream.view(), Inbox::lifetime, wall)) return false;
        acknowledging_ = (stream.came_by & up) != 0 ? stream.came_by & up : up;
        Inbox::acknowledged(stream);
        return true;
    }

    const Limits limits_;
    Random random_;
    Array<char> name_;
    Array<Key> keys_;
    Cipher encrypt_, decrypt_;
    Brokers brokers_;
    Outbox outbox_;
    Inbox inbox_;
    Counters counters_;
    // What is being given on.
    Inbox::Stream* releasing_ = nullptr;
    bool fresh_ = false;
    Bytes payload_;
    Array<std::byte> decrypted_;
    Inbox::Held* given_ = nullptr;
    Outbox::Message* done_ = nullptr;
    // What is being sent.
    Brokers::Set acknowledging_ = 0;
    Outbox::Message* message_ = nullptr;
    Array<std::byte> bytes_, receipt_;
    Array<char> to_;
};

}  // namespace rejoin::inline v0_1::signalling

// Streams of bytes over messages: what goes from one name to another, big-endian.
//
//     0  type                    2  id of the stream      18  length of the sender's name
//     1  1: from who opened it  10  position              19  the sender's name, the payload
namespace rejoin::inline v0_1::mqtt {

/// One message of a stream. Messages of one stream arrive in the order in which they were sent, each once, or the stream is over.
struct StreamMessage {
    enum class Type : std::uint8_t {
        open = 1,  ///< wants a stream
        opened,    ///< has it
        data,      ///< `payload`, which begins at `position`
        taken,     ///< everything up to `position` was taken: there is room for `window` bytes behind it
        end,       ///< no more follows `position`
        reset,     ///< the stream is over, or is not known
    };
    Type type = Type::reset;
    bool from_opener = false;
    std::uint64_t id = 0;
    std::uint64_t position = 0;
    TextView from;
    Bytes payload;

    static constexpr std::size_t header_size = 19, name_max = 128;
    /// Bytes that may be on their way, or wait at the receiver, each way.
    static constexpr std::uint64_t window = 256 * 1024;

    std::size_t size() const { return header_size + from.size() + payload.size(); }
    void write(std::byte* to) const {
        to[0] = static_cast<std::byte>(type);
        to[1] = static_cast<std::byte>(from_opener ? 1 : 0);
        store_big(to + 2, id);
        store_big(to + 10, position);
        to[18] = static_cast<std::byte>(from.size());
        copy(to + header_size, from.bytes());
        copy(to + header_size + from.size(), payload);
    }
    /// `malformed` for what is no such message.
    static Result<StreamMessage> read(Bytes bytes) {
        if (bytes.size() < header_size || bytes[1] > std::byte{1}) return Errc::malformed;
        const auto type = std::to_integer<unsigned>(bytes[0]);
        if (type < static_cast<unsigned>(Type::open) || type > static_cast<unsigned>(Type::reset)) return Errc::malformed;
        StreamMessage message;
        message.type = static_cast<Type>(type);
        message.from_opener = bytes[1] == std::byte{1};
        message.id = load_big<std::uint64_t>(bytes.data() + 2);
        message.position = load_big<std::uint64_t>(bytes.data() + 10);
        const auto name = std::to_integer<std::size_t>(bytes[18]);
        if (name == 0 || name > name_max || bytes.size() - header_size < name) return Errc::malformed;
        message.from = {reinterpret_cast<const char*>(bytes.data()) + header_size, name};
        message.payload = bytes.subspan(header_size + name);
        if (message.payload.empty() == (message.type == Type::data) || (message.type == Type::open && !message.from_opener))
            return Errc::malformed;
        return message;
    }
};

}  // namespace rejoin::inline v0_1::mqtt

namespace rejoin::inline v0_1 {

class MqttConnection;
class MqttStreams;
class MqttAcceptor;

/// A stream that somebody wants to open.
struct MqttIncoming {
    MqttStreams* streams = nullptr;
    std::uint64_t id = 0;
    Text<128> peer;
    Endpoint peer_endpoint() const;
};

/// The streams over one MQTT client: what `Pipe<…, Mqtt, …>` and `Listener<…Mqtt…>` of the same loop go over. It stands for this program
/// under a name; others reach it at the topic `rejoin-streams/NAME`. Made with the client, before anything is connected, and destroyed
/// before it; what still goes over it then breaks.
///
/// Names are told to pipes as endpoints that mean nothing elsewhere: `pipe.connect(streams.endpoint("bob"))`.
class MqttStreams {
public:
    /// `client` is an `mqtt::Client`, whose handlers are added to. The name may be one level of a topic, of at most 128 bytes.
    template <class Client>
    MqttStreams(Loop& loop, Client& client, TextView name) : registry_(loop.service<Registry>()), name_(name), random_(random_seed()) {
        publish_ = [&client](const mqtt::Message& message) -> Result<void> {
            const auto token = client.publish(message);
            return token ? Result<void>() : token.error();
        };
        remove_ = [&client](HandlerId id) { client.remove_handler(id); };
        limit_ = [&client] { return client.packet_limit(); };
        handlers_[0] = client.on_message([this](const mqtt::Packet& packet) {
            if (packet.topic == TextView(topic(name_))) received(packet.payload);
        });
        handlers_[1] = client.on_drained([this] { drained(); });
        handlers_[2] = client.on_state([this](auto state, const auto&) {
            using State = decltype(state);
            if (state == State::interrupted || state == State::closed) broken();
        });
        valid_ = mqtt::valid_topic_level(name) && client.subscribe(topic(name_), mqtt::Qos::at_least_once);
        registry_.streams.push(entry_);
    }
    MqttStreams(const MqttStreams&) = delete;
    ~MqttStreams();

    /// Stands for the program of that name; not `valid` for a name that may not be, or where memory is out. The same for the same name.
    Endpoint endpoint(TextView name) {
        if (!valid_ || !mqtt::valid_topic_level(name)) return {};
        const IpAddress ip = address_of(name);
        for (const Name& known : names_)
            if (known.ip == ip) return known.text == name ? Endpoint(ip, 1) : Endpoint();
        return names_.push({ip, Text<128>(name)}) ? Endpoint(ip, 1) : Endpoint();
    }
    TextView name() const { return name_; }

private:
    friend class MqttConnection;
    friend class MqttAcceptor;
    friend struct MqttIncoming;
    using StreamMessage = mqtt::StreamMessage;

    struct Entry : ListNode {
        explicit Entry(MqttStreams& s) : streams(s) {}
        MqttStreams& streams;
    };
    // All of one loop.
    struct Registry {
        explicit Registry(Loop&) {}
        List streams;
    };
    struct Name {
        IpAddress ip;
        Text<128> text;
    };

    // A unique local address (RFC 4193) which nobody has.
    static IpAddress address_of(TextView name) {
        const std::uint64_t h = hash_of(name);
        IpAddress ip = {{0xfd, 'r', 'e', 'j', 'o', 'i', 'n', 0}, 0, Family::v6};
        for (int i = 0; i < 8; ++i) ip.bytes[8 + i] = static_cast<std::uint8_t>(h >> (56 - 8 * i));
        return ip;
    }
    static Text<160> topic(TextView name) { return Text<160>(TextView("rejoin-streams/")).append(name); }
    static MqttStreams* find(Loop& loop, const IpAddress& ip, TextView& name) {
        List& all = loop.service<Registry>().streams;
        for (ListNode* node = all.front(); node != nullptr; node = all.next(*node)) {
            MqttStreams& streams = static_cast<Entry*>(node)->streams;
            for (const Name& known : streams.names_)
                if (known.ip == ip) {
                    name = known.text;
                    return &streams;
                }
        }
        return nullptr;
    }
    // As many bytes as fit into one message, beside its topic and what it begins with; none where the broker takes next to nothing.
    std::size_t piece() const {
        constexpr std::size_t overhead = 512, piece_max = 16 * 1024;
        const std::size_t limit = limit_();
        return limit <= overhead ? 0 : limit - overhead < piece_max ? limit - overhead : piece_max;
    }
    Result<void> say(TextView to, const StreamMessage& message);
    MqttConnection* find(const StreamMessage& message) const;
    void received(Bytes bytes);
    void drained();
    void broken();

    Registry& registry_;
    Entry entry_{*this};
    const Text<128> name_;
    Random random_;
    bool valid_ = false;
    HandlerId handlers_[3] = {};
    Function<Result<void>(const mqtt::Message&)> publish_;
    Function<void(HandlerId)> remove_;
    mutable Function<std::size_t()> limit_;
    Array<Name> names_;
    mutable List connections_;
    MqttAcceptor* acceptor_ = nullptr;
    Array<std::byte> out_;
};

/// One stream between two names, over messages: opened once or accepted, and destroyed to close it.
class MqttConnection : ListNode {
public:
    MqttConnection(Loop& loop, ConnectionObserver& observer)
        : loop_(loop), observer_(&observer), kick_(loop, Delegate<void()>::to<&MqttConnection::kicked>(this)) {}
    ~MqttConnection() {
        if (!(end_said_ && end_heard_)) abort();
    }

    void set_observer(ConnectionObserver& observer) { observer_ = &observer; }
    /// Opens a stream to whom a `MqttStreams::endpoint` stands for. `invalid_argument` for any other; `too_large` where the broker takes no
    /// message of a useful size.
    Result<void> open(const Endpoint& to, const Way&) {
        TextView name;
        MqttStreams* const streams = MqttStreams::find(loop_, to.ip(), name);
        if (streams == nullptr) return Errc::invalid_argument;
        if (streams->piece() == 0) return Errc::too_large;
        streams_ = streams;
        peer_ = Text<128>(name);
        id_ = streams_->random_.next();
        opener_ = true;
        streams_->connections_.push(*this);
        return say(StreamMessage::Type::open);
    }
    Result<void> adopt(MqttIncoming incoming) {
        streams_ = incoming.streams;
        peer_ = incoming.peer;
        id_ = incoming.id;
        open_ = true;
        streams_->connections_.push(*this);
        return say(StreamMessage::Type::opened);
    }

    /// Gives the client as much as the peer has room for, and the client.
    Result<std::size_t> write(std::span<const Bytes> pieces) {
        if (streams_ == nullptr) return Errc::end_of_stream;
        std::size_t taken = 0;
        for (Bytes piece : pieces)
            while (!piece.empty()) {
                const std::uint64_t room = granted_ - sent_;
                std::size_t n = streams_->piece();
                if (n > piece.size()) n = piece.size();
                if (n > room) n = static_cast<std::size_t>(room);
                if (n == 0 || !say(StreamMessage::Type::data, sent_, piece.first(n)))
                    return taken > 0 ? Result<std::size_t>(taken) : Errc::would_block;
                sent_ += n;
                taken += n;
                piece = piece.subspan(n);
            }
        return taken;
    }
    void want_writable() { writable_wanted_ = true; }
    void pause(bool paused) {
        paused_ = paused;
        if (!paused) kick_.schedule();
    }
    bool paused() const { return paused_; }
    void set_read_limit(std::uint32_t limit) { read_limit_ = limit; }
    void end() {
        end_due_ = true;
        say_end();
    }
    void abort() {
        if (streams_ == nullptr) return;
        static_cast<void>(say(StreamMessage::Type::reset));
        leave();
    }
    Endpoint local_endpoint() const { return streams_ == nullptr ? Endpoint() : streams_->endpoint(streams_->name()); }
    /// Whoever comes gets no place among the names that pipes are told.
    Endpoint peer_endpoint() const { return streams_ == nullptr ? Endpoint() : Endpoint(MqttStreams::address_of(peer_), 1); }

private:
    friend class MqttStreams;
    using StreamMessage = mqtt::StreamMessage;
    // So much is taken before the peer is told, and may send on.
    static constexpr std::uint64_t tell_after = StreamMessage::window / 4;

    Result<void> say(StreamMessage::Type type, std::uint64_t position = 0, Bytes payload = {}) {
        StreamMessage message;
        message.type = type;
        message.from_opener = opener_;
        message.id = id_;
        message.position = position;
        message.payload = payload;
        return streams_->say(peer_, message);
    }
    void say_end() {
        if (end_due_ && !end_said_ && streams_ != nullptr) end_said_ = static_cast<bool>(say(StreamMessage::Type::end, sent_));
    }
    void say_taken() {
        if (taken_ - told_ >= tell_after && streams_ != nullptr && say(StreamMessage::Type::taken, taken_)) told_ = taken_;
    }
    void leave() {
        unlink();
        streams_ = nullptr;
        kick_.cancel();
    }
    // The stream is over; told later, where nothing else is under way.
    void fail_later(Error error) {
        leave();
        error_ = error;
        kick_.schedule();
    }
    void fail(Error error) {
        leave();
        observer_->on_error(error);
    }
    // There may be room again.
    void go_on() {
        say_end();
        say_taken();
        if (writable_wanted_) {
            writable_due_ = true;
            kick_.schedule();
        }
    }
    // What the peer said. This may be destroyed by it.
    void heard(const StreamMessage& message) {
        switch (message.type) {
            case StreamMessage::Type::opened:
                if (!opener_ || std::exchange(open_, true)) return;
                return observer_->on_open();
            case StreamMessage::Type::data:
                if (!open_ || end_heard_ || message.position != received_ ||
                    message.payload.size() > taken_ + StreamMessage::window - received_ || !held_.append(message.payload)) {
                    abort();
                    return observer_->on_error(Errc::end_of_stream);  // something was lost
                }
                received_ += message.payload.size();
                return kicked();
            case StreamMessage::Type::taken:
                if (message.position > sent_ || message.position + StreamMessage::window < granted_) return;
                granted_ = message.position + StreamMessage::window;
                return go_on();
            case StreamMessage::Type::end:
                if (!open_ || message.position != received_) return fail(Errc::end_of_stream);
                end_heard_ = true;
                return kicked();
            default:
                return fail(Errc::end_of_stream);
        }
    }
    void kicked() {
        if (error_) return observer_->on_error(std::exchange(error_, Error()));
        Ring held = std::move(held_);  // which outlives what the handlers do
        while (!held.empty() && !paused_) {
            Bytes piece = held.peek(0, held.size());
            if (piece.size() > read_limit_) piece = piece.first(read_limit_);
            taken_ += piece.size();
            say_taken();
            if (!observer_->on_bytes(piece)) return;
            held.drop(piece.size());
        }
        held_ = std::move(held);
        if (std::exchange(writable_due_, false) && std::exchange(writable_wanted_, false) && !observer_->on_writable()) return;
        if (held_.empty() && end_heard_ && !std::exchange(end_told_, true)) observer_->on_end();
    }

    Loop& loop_;
    ConnectionObserver* observer_;
    Loop::Deferred kick_;
    MqttStreams* streams_ = nullptr;
    Text<128> peer_;
    std::uint64_t id_ = 0;
    std::uint64_t sent_ = 0, granted_ = StreamMessage::window;  // by this side; as far as the peer has room
    std::uint64_t received_ = 0, taken_ = 0, told_ = 0;         // from the peer; by the observer; as the peer has been told
    Ring held_;
    Error error_;
    std::uint32_t read_limit_ = UINT32_MAX;
    bool opener_ = false, open_ = false;
    bool paused_ = false, writable_wanted_ = false, writable_due_ = false;
    bool end_due_ = false, end_said_ = false, end_heard_ = false, end_told_ = false;
};

/// Hears who wants to open a stream to this program's name.
class MqttAcceptor {
public:
    using Accepted = MqttIncoming;

    MqttAcceptor(Loop& loop, Delegate<void(MqttIncoming&&)> accepted) : loop_(loop), accepted_(accepted) {}
    ~MqttAcceptor() { close(); }

    /// `at` is the endpoint of the streams' own name. `invalid_argument` for any other; `invalid_state` when somebody listens already.
    Result<void> listen(const Endpoint& at, int) {
        TextView name;
        MqttStreams* const streams = MqttStreams::find(loop_, at.ip(), name);
        if (streams == nullptr || !(name == streams->name())) return Errc::invalid_argument;
        if (streams->acceptor_ != nullptr) return Errc::invalid_state;
        streams_ = streams;
        streams_->acceptor_ = this;
        return {};
    }
    void close() {
        if (streams_ != nullptr) streams_->acceptor_ = nullptr;
        streams_ = nullptr;
    }
    bool listening() const { return streams_ != nullptr; }
    Endpoint local_endpoint() const { return streams_ == nullptr ? Endpoint() : streams_->endpoint(streams_->name()); }

private:
    friend class MqttStreams;
    Loop& loop_;
    Delegate<void(MqttIncoming&&)> accepted_;
    MqttStreams* streams_ = nullptr;
};

inline Endpoint MqttIncoming::peer_endpoint() const { return {MqttStreams::address_of(peer), 1}; }

inline MqttStreams::~MqttStreams() {
    for (HandlerId id : handlers_) remove_(id);
    if (acceptor_ != nullptr) acceptor_->streams_ = nullptr;
    broken();
}
// What only opens is of no use later; nothing of the rest may be lost.
inline Result<void> MqttStreams::say(TextView to, const StreamMessage& said) {
    StreamMessage message = said;
    message.from = name_;
    out_.clear();
    std::byte* const room = out_.extend(message.size());
    if (room == nullptr) return Errc::out_of_memory;
    message.write(room);
    const Text<160> name = topic(to);
    mqtt::Message packet;
    packet.topic = name;
    packet.payload = {out_.data(), out_.size()};
    packet.qos = mqtt::Qos::at_least_once;
    if (message.type == StreamMessage::Type::open) packet.expiry = Duration::seconds(5);
    return publish_(packet);
}
inline MqttConnection* MqttStreams::find(const StreamMessage& message) const {
    for (ListNode* node = connections_.front(); node != nullptr; node = connections_.next(*node)) {
        auto* const connection = static_cast<MqttConnection*>(node);
        if (connection->id_ == message.id && connection->opener_ != message.from_opener && message.from == TextView(connection->peer_))
            return connection;
    }
    return nullptr;
}
inline void MqttStreams::received(Bytes bytes) {
    const auto message = StreamMessage::read(bytes);
    if (!message) return;
    if (MqttConnection* const connection = find(*message)) {
        if (message->type != StreamMessage::Type::open) connection->heard(*message);
        return;
    }
    if (message->type == StreamMessage::Type::reset || !mqtt::valid_topic_level(message->from)) return;
    if (message->type == StreamMessage::Type::open && acceptor_ != nullptr)
        return acceptor_->accepted_({this, message->id, Text<128>(message->from)});
    StreamMessage unknown;
    unknown.from_opener = !message->from_opener;
    unknown.id = message->id;
    static_cast<void>(say(message->from, unknown));
}
inline void MqttStreams::drained() {
    connections_.for_each([](ListNode& node) { static_cast<MqttConnection&>(node).go_on(); });
}
inline void MqttStreams::broken() {
    while (ListNode* node = connections_.front()) static_cast<MqttConnection*>(node)->fail_later(Errc::end_of_stream);
}

/// The transport policy for a stream by way of a broker, where nothing more direct works: see `MqttStreams`. Ordered, and with
/// back-pressure from end to end; a stream breaks when either client loses its connection to the broker, and `Resumable<Mqtt>` goes on over
/// the next. A peer that vanishes without a word is noticed by a session alone.
struct Mqtt {
    using Connection = MqttConnection;
    using Acceptor = MqttAcceptor;
    using Session = session::Plain;
    using Options = Session::Options;
};

}  // namespace rejoin::inline v0_1

namespace rejoin::inline v0_1 {

/// Small messages between peers that know each other's names, by way of several MQTT brokers as one: each message goes out over all of them
/// (or the first few of an order that both sides have), arrives once, and counts as sent when the receiving peer says so. Any broker may
/// die, stall or lie (signalling/README.md).
///
/// Belongs to its loop's thread, and is neither copied nor moved. A handler may destroy it and call anything. `E`, `T` and `R` are the
/// policies of the pipes to the brokers.
template <EventSource E = SystemEvents, Transport T = Tcp, RecoveryPolicy R = Persistent>
class Signal {
    using Client = mqtt::Client<E, T, R>;

public:
    struct Options {
        typename Client::Options client = for_signalling();
        signalling::Limits limits;
        /// Peer `name` is reached at the topic `prefix/name`.
        Text<63> prefix = TextView("rejoin");

        // A broker that says nothing for 15 s is not there. What is sent has a clock of its own.
        static typename Client::Options for_signalling() {
            typename Client::Options options;
            options.limits.keep_alive = Duration::seconds(10);
            options.limits.answer = Duration::seconds(5);
            return options;
        }
    };

    /// As the peer of that name; it may be one level of a topic, of at most 128 bytes.
    Signal(Loop& loop, TextView name) : Signal(loop, name, Options()) {}
    Signal(Loop& loop, TextView name, const Options& options)
        : loop_(loop),
          options_(options),
          exchange_(options.limits, random_seed()),
          timer_(loop, Delegate<void()>::template to<&Signal::late>(this)),
          kick_(loop, Delegate<void()>::template to<&Signal::kicked>(this)) {
        static_cast<void>(exchange_.set_name(name));  // without one, whatever is asked for says so
    }
    Signal(const Signal&) = delete;
    ~Signal() {
        while (ListNode* node = brokers_.front()) delete static_cast<Broker*>(node);
    }

    // ---- Handlers. Each `on_…` returns an id for `remove_handler`, or 0 when the handler is empty or memory is out.

    /// A peer has sent something: `peer` and `payload` of the event hold until the handlers have returned. The peer is told then.
    HandlerId on_message(Function<void(const signalling::Event&)> handler) { return add(message_, std::move(handler)); }
    /// What became of a message that `send` accepted: no error, and the peer's program has had it; `timed_out`: nobody has said so in time.
    HandlerId on_delivery(Function<void(signalling::Token, Error)> handler) { return add(delivery_, std::move(handler)); }
    /// A broker is connected to, or is not any more, and why.
    HandlerId on_broker(Function<void(int broker, mqtt::ClientState, const mqtt::Trouble&)> handler) {
        return add(broker_changed_, std::move(handler));
    }
    /// After `send` was refused with `would_block`: there is room again.
    HandlerId on_drained(Function<void()> handler) { return add(drained_, std::move(handler)); }
    /// Takes a handler away; false when there is none of that id.
    bool remove_handler(HandlerId id) {
        return id != 0 && (message_.remove(id) || delivery_.remove(id) || broker_changed_.remove(id) || drained_.remove(id));
    }

    // ---- Brokers: at most 32, added and removed at any time.

    /// Goes to a broker, and returns its number. `who` says how to get in; without a name there, one is drawn by lot. Errors of
    /// `mqtt::Client::connect`, and `would_block` when there are as many as there may be.
    Result<int> add_broker(const Endpoint& to, mqtt::Connect who = {}) {
        if (exchange_.name().size() == 0) return Errc::invalid_argument;
        const int number = exchange_.add_broker(to_text(to));
        if (number < 0) return Errc::would_block;
        Text<63> drawn("rejoin-");
        if (who.client_id.size() == 0) who.client_id = drawn.append_hex(random_seed());
        auto* const broker = new (std::nothrow) Broker(*this, number);
        Error error = broker == nullptr ? Errc::out_of_memory : Error();
        if (!error) error = broker->client.connect(to, who).error();
        if (!error) error = broker->client.subscribe(topic(exchange_.name())).error();
        if (error) {
            delete broker;
            exchange_.remove_broker(number, loop_.now());
            return error;
        }
        brokers_.push(*broker);
        return number;
    }
    /// Leaves a broker; false when there is none of that number.
    bool remove_broker(int number) {
        Broker* const broker = find(number);
        if (broker == nullptr) return false;
        exchange_.remove_broker(number, loop_.now());
        delete broker;
        kick_.schedule();
        return true;
    }
    /// What a broker has done; of none, as one that was just added.
    signalling::Health health(int broker) const { return find(broker) != nullptr ? exchange_.health(broker) : signalling::Health(); }
    /// What its connection is doing, and why.
    Explanation explain(int broker) const { return find(broker) != nullptr ? find(broker)->client.explain() : Explanation(); }
    const signalling::Counters& counters() const { return exchange_.counters(); }

    // ---- Messages.

    /// As `signalling::Exchange::share_key` and `set_ciphers`.
    Result<void> share_key(TextView peer, Bytes secret) { return exchange_.share_key(peer, secret); }
    void set_ciphers(signalling::Cipher encrypt, signalling::Cipher decrypt) {
        exchange_.set_ciphers(std::move(encrypt), std::move(decrypt));
    }
    /// Accepts a message, connected or not: `on_delivery` tells what became of it. Errors of `signalling::Exchange::send`.
    Result<signalling::Token> send(TextView peer, Bytes payload, const signalling::SendOptions& options = {}) {
        auto token = exchange_.send(peer, payload, options, loop_.now());
        if (token) kick_.schedule();
        return token;
    }
    /// The same for text.
    Result<signalling::Token> send(TextView peer, TextView text, const signalling::SendOptions& options = {}) {
        return send(peer, text.bytes(), options);
    }
    /// Bytes of messages that were accepted and have not arrived yet, 128 more counted for each.
    std::size_t queued() const { return exchange_.queued(); }

private:
    struct Broker : ListNode {
        Broker(Signal& s, int n) : signal(s), number(n), client(s.loop_, s.options_.client) {
            client.on_state([this](mqtt::ClientState state, const mqtt::Trouble& why) { signal.changed(*this, state, why); });
            client.on_message([this](const mqtt::Packet& packet) { signal.received(*this, packet.payload); });
            client.on_subscription([this](mqtt::Token, mqtt::Reason reason) { signal.subscribed(*this, reason); });
        }
        Signal& signal;
        const int number;
        Client client;
        bool listening = false;
    };

    template <class... Args>
    HandlerId add(Handlers<Args...>& handlers, Function<void(Args...)> handler) {
        return handlers.add(++last_handler_, std::move(handler)) ? last_handler_ : 0;
    }
    Broker* find(int number) const {
        for (ListNode* node = brokers_.front(); node != nullptr; node = brokers_.next(*node))
            if (static_cast<Broker*>(node)->number == number) return static_cast<Broker*>(node);
        return nullptr;
    }
    Text<255> topic(TextView name) const { return Text<255>(options_.prefix).append("/").append(name); }

    void changed(Broker& broker, mqtt::ClientState state, const mqtt::Trouble& why) {
        if (state == mqtt::ClientState::connected && broker.listening)
            exchange_.broker_up(broker.number, loop_.now());
        else
            exchange_.broker_down(broker.number, loop_.now());
        kick_.schedule();
        broker_changed_(broker.number, state, why);
    }
    // Nothing is sent before this peer hears what is answered. When it comes back, the subscription goes out before anything else.
    void subscribed(Broker& broker, mqtt::Reason reason) {
        broker.listening = !failed(reason);
        if (broker.listening) {
            exchange_.broker_up(broker.number, loop_.now());
            return kick_.schedule();
        }
        mqtt::Trouble why;
        why.reason = reason;
        changed(broker, broker.client.state(), why);
    }
    void received(Broker& broker, Bytes bytes) {
        exchange_.received(broker.number, bytes, loop_.now(), realtime_now());
        kick_.schedule();
        static_cast<void>(tell());
    }
    // False when a handler has destroyed this.
    bool tell() {
        for (signalling::Event event; exchange_.next(event);)
            if (event.kind == signalling::Event::Kind::message ? !message_(event) : !delivery_(event.token, event.error)) return false;
        return !exchange_.drained() || drained_();
    }
    void kicked() {
        const TimePoint now = loop_.now();
        const std::int64_t wall = realtime_now();
        for (signalling::Copy copy; exchange_.next_copy(copy, now, wall);) {
            const Text<255> to = topic(copy.to);
            mqtt::Message message;
            // The acknowledgement is the peer's, not the broker's.
            message.qos = mqtt::Qos::at_most_once;
            message.payload = copy.bytes;
            message.expiry = copy.valid;
            message.topic = to;
            exchange_.given(copy, static_cast<bool>(find(copy.broker)->client.publish(message)), now);
        }
        if (tell()) timer_.at(exchange_.deadline());
    }
    void late() {
        exchange_.expire(loop_.now());
        kicked();
    }

    Loop& loop_;
    const Options options_;
    signalling::Exchange exchange_;
    mutable List brokers_;
    Loop::Timer timer_;
    Loop::Deferred kick_;
    Handlers<const signalling::Event&> message_;
    Handlers<signalling::Token, Error> delivery_;
    Handlers<int, mqtt::ClientState, const mqtt::Trouble&> broker_changed_;
    Handlers<> drained_;
    HandlerId last_handler_ = 0;
};

}  // namespace rejoin::inline v0_1
