// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/mqtt/properties.hpp>

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
