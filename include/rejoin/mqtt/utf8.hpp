// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/mqtt/wire.hpp>

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
