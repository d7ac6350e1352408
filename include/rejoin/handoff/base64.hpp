// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/core/bytes.hpp>

namespace rejoin::inline v0_1::handoff {

/// Appends `bytes` in base64 (RFC 4648 §4, with padding); false when memory is out.
inline bool append_base64(Array<char>& to, Bytes bytes) {
    static constexpr char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (bytes.empty()) return true;
    char* out = to.extend((bytes.size() + 2) / 3 * 4);
    if (out == nullptr) return false;
    const auto* in = reinterpret_cast<const unsigned char*>(bytes.data());
    std::size_t left = bytes.size();
    for (; left >= 3; left -= 3, in += 3, out += 4) {
        const std::uint32_t three = static_cast<std::uint32_t>(in[0]) << 16 | static_cast<std::uint32_t>(in[1]) << 8 | in[2];
        out[0] = letters[three >> 18];
        out[1] = letters[three >> 12 & 63];
        out[2] = letters[three >> 6 & 63];
        out[3] = letters[three & 63];
    }
    if (left > 0) {
        const std::uint32_t rest = static_cast<std::uint32_t>(in[0]) << 8 | (left == 2 ? in[1] : 0u);
        out[0] = letters[rest >> 10];
        out[1] = letters[rest >> 4 & 63];
        out[2] = left == 2 ? letters[rest << 2 & 63] : '=';
        out[3] = '=';
    }
    return true;
}

/// Appends what `text` stands for. As in a JSON string, `\/` stands for `/`. `malformed`; `out_of_memory`.
inline Result<void> append_from_base64(Array<std::byte>& to, TextView text) {
    struct Values {
        std::int8_t of[256];
        constexpr Values() : of() {
            for (std::int8_t& value : of) value = -1;
            for (int i = 0; i < 26; ++i) {
                of['A' + i] = static_cast<std::int8_t>(i);
                of['a' + i] = static_cast<std::int8_t>(26 + i);
            }
            for (int i = 0; i < 10; ++i) of['0' + i] = static_cast<std::int8_t>(52 + i);
            of[static_cast<int>('+')] = 62;
            of[static_cast<int>('/')] = 63;
        }
    };
    static constexpr Values values;
    const auto of = [](char letter) { return int{values.of[static_cast<unsigned char>(letter)]}; };

    const std::size_t before = to.size();
    std::byte* const start = to.extend(text.size() / 4 * 3);
    if (start == nullptr && text.size() >= 4) return Errc::out_of_memory;
    std::byte* out = start;
    std::uint32_t bits = 0;
    unsigned letters = 0, padding = 0;
    std::size_t i = 0;
    for (; text.size() - i >= 4; i += 4) {  // as long as there are four letters
        const int a = of(text[i]), b = of(text[i + 1]), c = of(text[i + 2]), d = of(text[i + 3]);
        if ((a | b | c | d) < 0) break;
        const int three = a << 18 | b << 12 | c << 6 | d;
        *out++ = static_cast<std::byte>(three >> 16);
        *out++ = static_cast<std::byte>(three >> 8);
        *out++ = static_cast<std::byte>(three);
    }
    for (; i < text.size(); ++i) {
        if (text[i] == '\\' && i + 1 < text.size() && text[i + 1] == '/') continue;
        if (text[i] == '=' && (letters % 4 == 3 || (letters % 4 == 2 && padding == 0) || padding == 1)) {
            ++padding;
            continue;
        }
        const int value = of(text[i]);
        if (value < 0 || padding > 0) return Errc::malformed;
        bits = bits << 6 | static_cast<std::uint32_t>(value);
        if (++letters % 4 != 0) continue;
        *out++ = static_cast<std::byte>(bits >> 16);
        *out++ = static_cast<std::byte>(bits >> 8);
        *out++ = static_cast<std::byte>(bits);
    }
    if ((letters + padding) % 4 != 0) return Errc::malformed;
    if (padding == 2) *out++ = static_cast<std::byte>(bits >> 4);
    if (padding == 1) {
        *out++ = static_cast<std::byte>(bits >> 10);
        *out++ = static_cast<std::byte>(bits >> 2);
    }
    to.truncate(before + static_cast<std::size_t>(out - start));
    return {};
}

}  // namespace rejoin::inline v0_1::handoff
