// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <rejoin/core/bytes.hpp>

namespace rejoin::inline v0_1::signalling {

/// Which numbers of a stream have been seen: all up to `lowest`, and of the `size` that follow, those whose bit is set.
class Window {
public:
    static constexpr std::uint64_t size = 1024;

    std::uint64_t lowest() const { return lowest_; }
    bool seen(std::uint64_t number) const { return number <= lowest_ || (!beyond(number) && bit(number)); }
    bool beyond(std::uint64_t number) const { return number > lowest_ && number - lowest_ > size; }
    /// One that is neither seen nor beyond.
    void add(std::uint64_t number) {
        word(number) |= mask(number);
        slide();
    }
    /// All up to this one count as seen.
    void skip_to(std::uint64_t number) {
        if (number <= lowest_) return;
        if (number - lowest_ >= size) {
            for (std::uint64_t& w : words_) w = 0;
            lowest_ = number;
            return;
        }
        while (lowest_ < number) clear(++lowest_);
        slide();
    }
    /// Writes the bits behind `lowest`, first bit first, and says how many bytes it took: none behind the last that is set.
    std::size_t write(MutableBytes to) const {
        std::size_t used = 0;
        for (std::size_t i = 0; i < to.size() && i < size / 8; ++i) {
            unsigned byte = 0;
            for (unsigned b = 0; b < 8; ++b)
                if (bit(lowest_ + 1 + i * 8 + b)) byte |= 1u << b;
            to[i] = static_cast<std::byte>(byte);
            if (byte != 0) used = i + 1;
        }
        return used;
    }

private:
    static std::uint64_t mask(std::uint64_t number) { return std::uint64_t{1} << (number % 64); }
    std::uint64_t& word(std::uint64_t number) { return words_[number / 64 % (size / 64)]; }
    bool bit(std::uint64_t number) const { return (words_[number / 64 % (size / 64)] & mask(number)) != 0; }
    void clear(std::uint64_t number) { word(number) &= ~mask(number); }
    void slide() {
        while (bit(lowest_ + 1)) clear(++lowest_);
    }

    std::uint64_t lowest_ = 0;
    std::uint64_t words_[size / 64] = {};
};

}  // namespace rejoin::inline v0_1::signalling
