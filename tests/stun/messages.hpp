// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/stun/message.hpp>

#include "session/bytes.hpp"

// Messages as any peer might write them, right and wrong.
namespace test {

inline Buffer number(std::uint64_t value, std::size_t bytes) {
    Buffer out;
    while (bytes-- > 0) out.push_back(static_cast<std::byte>(value >> 8 * bytes));
    return out;
}
/// One attribute, padded with bytes that nobody may look at.
inline Buffer attribute(unsigned type, rejoin::Bytes value) {
    Buffer out = join(join(number(type, 2), number(value.size(), 2)), value);
    while (out.size() % 4 != 0) out.push_back(std::byte{0x55});
    return out;
}
inline Buffer address_attribute(unsigned type, const rejoin::IpAddress& ip, unsigned port) {
    Buffer value = join(number(ip.family == rejoin::Family::v6 ? 2 : 1, 2), number(port, 2));
    for (std::size_t i = 0; i < ip.size(); ++i) value.push_back(static_cast<std::byte>(ip.bytes[i]));
    return attribute(type, value);
}
inline Buffer message(unsigned type, const rejoin::stun::TransactionId& id, rejoin::Bytes attributes) {
    return join(join(join(join(number(type, 2), number(attributes.size(), 2)), number(0x2112a442, 4)), id.bytes), attributes);
}
inline Buffer xor_mapped(const rejoin::stun::TransactionId& id, const rejoin::IpAddress& ip, unsigned port) {
    rejoin::IpAddress hidden = ip;
    const Buffer mask = join(number(0x2112a442, 4), id.bytes);
    for (std::size_t i = 0; i < ip.size(); ++i) hidden.bytes[i] ^= std::to_integer<std::uint8_t>(mask[i]);
    return address_attribute(0x0020, hidden, port ^ 0x2112);
}
inline Buffer success(const rejoin::stun::TransactionId& id, const rejoin::IpAddress& ip, unsigned port) {
    return message(0x0101, id, xor_mapped(id, ip, port));
}
inline Buffer error_attribute(unsigned code, std::string_view reason) {
    return attribute(0x0009, join(join(number(code / 100, 3), number(code % 100, 1)), bytes(reason)));
}

}  // namespace test
