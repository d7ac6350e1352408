// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/address.hpp>
#include <rejoin/core/bytes.hpp>
#include <rejoin/core/time.hpp>
#include <rejoin/firewall/rule.hpp>

// Port Control Protocol (RFC 6887), opcode MAP, and NAT Port Mapping Protocol (RFC 6886): requests and answers, byte for byte. Pure.
namespace rejoin::inline v0_1::router {

using firewall::Protocol;

/// Where both listen on the gateway.
inline constexpr std::uint16_t pcp_port = 5351;
/// Where hosts hear, from both, that the gateway was restarted (RFC 6887, 14.1; RFC 6886, 3.2.1), sent to these groups.
inline constexpr std::uint16_t announcement_port = 5350;
inline constexpr IpAddress all_hosts_v4 = IpAddress::v4(224, 0, 0, 1),
                           all_hosts_v6 = {{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 0, Family::v6};

/// What a gateway grants.
struct Granted {
    std::uint32_t lifetime = 0;  ///< seconds
    std::uint32_t epoch = 0;     ///< seconds since the gateway began to keep its mappings
    std::uint16_t internal_port = 0, external_port = 0;
    IpAddress external;  ///< NAT-PMP says it apart
    Protocol protocol = Protocol::tcp;
};

namespace pcp {

using Nonce = std::byte[12];
inline constexpr std::size_t request_size = 60;

/// RFC 6887, 7.4.
enum class Code : std::uint8_t {
    success,
    unsupported_version,
    not_authorized,
    malformed_request,
    unsupported_opcode,
    unsupported_option,
    malformed_option,
    network_failure,
    no_resources,
    unsupported_protocol,
    user_exceeded_quota,
    cannot_provide_external,
    address_mismatch,
    excessive_remote_peers,
};

inline void put_address(std::byte* to, const IpAddress& ip) { std::memcpy(to, mapped(ip).bytes, 16); }

/// A MAP request (11.1). `lifetime` 0 takes it back. `external`, and its port, are what is asked for where it matters; of family none, 0:
/// whatever.
inline void encode_map(std::byte (&to)[request_size], const Nonce& nonce, const IpAddress& client, Protocol protocol,
                       std::uint16_t internal_port, std::uint16_t external_port, const IpAddress& external, std::uint32_t lifetime) {
    std::memset(to, 0, sizeof to);
    to[0] = std::byte{2};
    to[1] = std::byte{1};
    store_big(to + 4, lifetime);
    put_address(to + 8, client);
    std::memcpy(to + 24, nonce, sizeof nonce);
    to[36] = static_cast<std::byte>(protocol);
    store_big(to + 40, internal_port);
    store_big(to + 42, external_port);
    // None: all zeros of the client's family (11.1).
    IpAddress any = external;
    if (any.family == Family::none) any.family = client.family;
    put_address(to + 44, any);
}

/// What a datagram from the gateway says.
struct Answer {
    enum class Kind : std::uint8_t {
        none,         ///< nothing that is meant for this request
        granted,      ///< `granted`
        refused,      ///< `code`; for `retry` seconds
        old_version,  ///< the gateway does not speak PCP, but perhaps NAT-PMP
    };
    Kind kind = Kind::none;
    Code code = Code::success;
    std::uint32_t retry = 0;
    Granted granted;
};
inline Answer decode_map(Bytes datagram, const Nonce& nonce) {
    Answer answer;
    if (datagram.size() >= 4 && datagram[0] == std::byte{0} && (std::to_integer<unsigned>(datagram[1]) & 0x80) != 0 &&
        load_big<std::uint16_t>(datagram.data() + 2) == 1) {
        answer.kind = Answer::Kind::old_version;  // NAT-PMP's "unsupported version" (appendix A)
        return answer;
    }
    if (datagram.size() < 24 || datagram.size() > 1100 || datagram.size() % 4 != 0 || (std::to_integer<unsigned>(datagram[1]) & 0x80) == 0)
        return answer;
    const auto code = std::to_integer<std::uint8_t>(datagram[3]);
    if (datagram[0] != std::byte{2}) {
        if (code == static_cast<std::uint8_t>(Code::unsupported_version)) answer.kind = Answer::Kind::old_version;
        return answer;
    }
    const auto opcode = std::to_integer<unsigned>(datagram[1]) & 0x7f;
    // A refusal carries the request again, and the nonce with it, as far as it was understood (8.3).
    if (opcode != 1 || datagram.size() < request_size || std::memcmp(datagram.data() + 24, nonce, sizeof nonce) != 0) return answer;
    answer.code = code <= static_cast<std::uint8_t>(Code::excessive_remote_peers) ? static_cast<Code>(code) : Code::malformed_request;
    answer.granted.lifetime = load_big<std::uint32_t>(datagram.data() + 4);
    answer.granted.epoch = load_big<std::uint32_t>(datagram.data() + 8);
    if (code != 0) {
        answer.kind = Answer::Kind::refused;
        answer.retry = answer.granted.lifetime;
        return answer;
    }
    answer.kind = Answer::Kind::granted;
    answer.granted.protocol = static_cast<Protocol>(std::to_integer<std::uint8_t>(datagram[36]));
    answer.granted.internal_port = load_big<std::uint16_t>(datagram.data() + 40);
    answer.granted.external_port = load_big<std::uint16_t>(datagram.data() + 42);
    IpAddress external;
    external.family = Family::v6;
    std::memcpy(external.bytes, datagram.data() + 44, 16);
    answer.granted.external = unmapped(external);
    return answer;
}

/// What a gateway says unasked (14.1.2): its clock; `malformed` for anything else.
inline Result<std::uint32_t> decode_announce(Bytes datagram) {
    if (datagram.size() < 24 || datagram.size() > 1100 || datagram.size() % 4 != 0 || datagram[0] != std::byte{2} ||
        datagram[1] != std::byte{0x80} || datagram[3] != std::byte{0})
        return Errc::malformed;
    return load_big<std::uint32_t>(datagram.data() + 8);
}

}  // namespace pcp

namespace nat_pmp {

/// Asks for the external address (RFC 6886, 3.2).
inline constexpr std::byte address_request[2] = {};
inline constexpr std::size_t request_size = 12;

/// A request for a mapping (3.3). `lifetime` 0 takes it back.
inline void encode_map(std::byte (&to)[request_size], Protocol protocol, std::uint16_t internal_port, std::uint16_t external_port,
                       std::uint32_t lifetime) {
    std::memset(to, 0, sizeof to);
    to[1] = protocol == Protocol::udp ? std::byte{1} : std::byte{2};
    store_big(to + 4, internal_port);
    store_big(to + 6, lifetime == 0 ? std::uint16_t{0} : external_port);
    store_big(to + 8, lifetime);
}

struct Answer {
    enum class Kind : std::uint8_t { none, address, granted, refused };
    Kind kind = Kind::none;
    std::uint16_t code = 0;  ///< 1: version, 2: refused, 3: network, 4: resources, 5: opcode
    Granted granted;
};
inline Answer decode(Bytes datagram) {
    Answer answer;
    if (datagram.size() < 8 || datagram[0] != std::byte{0}) return answer;
    const auto opcode = std::to_integer<unsigned>(datagram[1]);
    if (opcode < 128 || opcode > 130) return answer;
    answer.code = load_big<std::uint16_t>(datagram.data() + 2);
    answer.granted.epoch = load_big<std::uint32_t>(datagram.data() + 4);
    answer.granted.protocol = opcode == 129 ? Protocol::udp : Protocol::tcp;
    if (answer.code != 0) {
        answer.kind = Answer::Kind::refused;
        return answer;
    }
    if (opcode == 128) {
        if (datagram.size() != 12) return answer;
        answer.kind = Answer::Kind::address;
        answer.granted.external.family = Family::v4;
        std::memcpy(answer.granted.external.bytes, datagram.data() + 8, 4);
        return answer;
    }
    if (datagram.size() != 16) return answer;
    answer.kind = Answer::Kind::granted;
    answer.granted.internal_port = load_big<std::uint16_t>(datagram.data() + 8);
    answer.granted.external_port = load_big<std::uint16_t>(datagram.data() + 10);
    answer.granted.lifetime = load_big<std::uint32_t>(datagram.data() + 12);
    return answer;
}

}  // namespace nat_pmp

/// Whether the gateway has lost its mappings since it was heard last: its clock has not gone on as ours has (RFC 6887, 8.5; RFC 6886, 3.6).
class Epoch {
public:
    /// True where what it grants now is all that it knows.
    bool restarted(std::uint32_t epoch, TimePoint now) {
        const bool known = std::exchange(known_, true);
        const std::int64_t server = std::int64_t{epoch} - last_, client = (now - at_).milliseconds() / 1000;
        last_ = epoch;
        at_ = now;
        if (!known) return false;
        return server < -1 || client + 2 < server - server / 16 || server + 2 < client - client / 16;
    }

private:
    bool known_ = false;
    std::int64_t last_ = 0;
    TimePoint at_;
};

}  // namespace rejoin::inline v0_1::router
