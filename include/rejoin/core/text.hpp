// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <rejoin/core/bytes.hpp>

namespace rejoin::inline v0_1 {

/// Text of at most `N` bytes in the object itself, always ended by a zero. What does not fit is cut off; nothing is allocated.
template <std::size_t N>
class Text {
public:
    constexpr Text() = default;
    Text(TextView text) { append(text); }

    const char* c_str() const { return text_; }
    const char* data() const { return text_; }
    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }

    Text& append(TextView more) {
        for (char c : more) {
            if (size_ == N) break;
            text_[size_++] = c;
        }
        text_[size_] = 0;
        return *this;
    }

    /// Appends a number in decimal, with at least `width` digits (up to 24).
    Text& append_number(std::int64_t number, int width = 1) {
        const auto magnitude = number < 0 ? ~static_cast<std::uint64_t>(number) + 1 : static_cast<std::uint64_t>(number);
        if (number < 0) append("-");
        return append_digits(magnitude, 10, width);
    }
    /// Appends a number in lower-case hexadecimal, without a prefix.
    Text& append_hex(std::uint64_t number) { return append_digits(number, 16, 1); }

private:
    Text& append_digits(std::uint64_t number, unsigned base, int width) {
        char digits[24];
        std::size_t at = sizeof digits;
        do {
            digits[--at] = "0123456789abcdef"[number % base];
            number /= base;
        } while (number != 0 || (at > 0 && static_cast<int>(sizeof digits - at) < width));
        return append({digits + at, sizeof digits - at});
    }

    std::size_t size_ = 0;
    char text_[N + 1] = {};
};

/// What `describe` returns: one sentence for people.
using Description = Text<207>;

}  // namespace rejoin::inline v0_1
