// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/error.hpp>
#include <rejoin/mqtt/wire.hpp>

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
