// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/bytes.hpp>

#include <string>
#include <string_view>
#include <vector>

// Bytes for the tests of the session: from hexadecimal and back, with spaces where they help to read.
namespace test {

using Buffer = std::vector<std::byte>;

inline Buffer bytes(std::string_view text) {
    const auto* from = reinterpret_cast<const std::byte*>(text.data());
    return {from, from + text.size()};
}
inline Buffer from_hex(std::string_view hex) {
    std::string digits;
    for (char c : hex)
        if (c != ' ' && c != '\n') digits += c;
    Buffer out;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
        out.push_back(static_cast<std::byte>(std::stoi(digits.substr(i, 2), nullptr, 16)));
    return out;
}
inline std::string to_hex(rejoin::Bytes bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string out;
    for (std::byte b : bytes) {
        out += digits[std::to_integer<unsigned>(b) >> 4];
        out += digits[std::to_integer<unsigned>(b) & 15];
    }
    return out;
}
/// The same without spaces, so that expected text may have some.
inline std::string hex(std::string_view spaced) { return to_hex(from_hex(spaced)); }

inline Buffer join(Buffer a, rejoin::Bytes b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}
/// `n` bytes that differ from their neighbours.
inline Buffer pattern(std::size_t n, std::size_t from = 0) {
    Buffer out(n);
    for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<std::byte>((from + i) * 31 + ((from + i) >> 8));
    return out;
}

}  // namespace test
