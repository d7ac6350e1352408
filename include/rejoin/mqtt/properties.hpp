// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/mqtt/utf8.hpp>

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
