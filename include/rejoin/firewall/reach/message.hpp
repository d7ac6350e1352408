// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/address.hpp>
#include <rejoin/core/bytes.hpp>
#include <rejoin/firewall/rule.hpp>

namespace rejoin::inline v0_1 {

/// In the order in which they are tried: the smallest opening is none.
enum class ReachStep : std::uint8_t {
    as_it_is,           ///< nothing was needed
    simultaneous_open,  ///< both begin at the same moment (RFC 9293, 3.5; UDP: RFC 5128, 3.3): nothing was opened, and it holds for this
                        ///< conversation alone
    mapping,            ///< the gateway was asked
    rule,               ///< this host's firewall was opened, with privilege
    failed,             ///< nothing helped
};

/// What both say to each other, and over UDP what is tried with: 28 bytes. Pure.
struct ReachMessage {
    enum class Kind : std::uint8_t {
        ask = 1,  ///< try to reach me there
        ready,    ///< of `simultaneous_open`: I connect from there, from now on
        told,     ///< I have tried
        probe,    ///< UDP: does this arrive?
        answer,   ///< UDP: it does
    };
    static constexpr std::size_t size = 28;
    Kind kind = Kind::ask;
    ReachStep step = ReachStep::as_it_is;
    firewall::Protocol protocol = firewall::Protocol::tcp;
    bool reached = false;
    std::uint32_t attempt = 0;  ///< whose answers are meant
    IpAddress ip;
    std::uint16_t port = 0;

    void encode(std::byte (&to)[size]) const {
        std::memset(to, 0, sizeof to);
        to[0] = std::byte{'R'};
        to[1] = static_cast<std::byte>(kind);
        to[2] = static_cast<std::byte>(step);
        to[3] = static_cast<std::byte>(reached ? 1 : 0);
        store_big(to + 4, attempt);
        store_big(to + 8, port);
        to[10] = static_cast<std::byte>(protocol);
        std::memcpy(to + 12, mapped(ip).bytes, 16);
    }
    /// `malformed` for what is none.
    static Result<ReachMessage> decode(Bytes bytes) {
        if (bytes.size() != size || bytes[0] != std::byte{'R'} || std::to_integer<unsigned>(bytes[3]) > 1 || bytes[11] != std::byte{0})
            return Errc::malformed;
        ReachMessage message;
        const auto kind = std::to_integer<std::uint8_t>(bytes[1]), step = std::to_integer<std::uint8_t>(bytes[2]);
        if (kind < 1 || kind > 5 || step >= static_cast<std::uint8_t>(ReachStep::failed)) return Errc::malformed;
        message.kind = static_cast<Kind>(kind);
        message.protocol = static_cast<firewall::Protocol>(bytes[10]);
        if (message.protocol != firewall::Protocol::tcp && message.protocol != firewall::Protocol::udp) return Errc::malformed;
        message.step = static_cast<ReachStep>(step);
        message.reached = bytes[3] == std::byte{1};
        message.attempt = load_big<std::uint32_t>(bytes.data() + 4);
        message.port = load_big<std::uint16_t>(bytes.data() + 8);
        IpAddress ip;
        ip.family = Family::v6;
        std::memcpy(ip.bytes, bytes.data() + 12, 16);
        message.ip = unmapped(ip);
        const bool says_where = message.kind == Kind::ask || message.kind == Kind::ready;
        if (says_where && (message.port == 0 || message.ip.is_unspecified())) return Errc::malformed;
        return message;
    }
};

}  // namespace rejoin::inline v0_1
