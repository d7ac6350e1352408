// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <rejoin/core/time.hpp>

namespace rejoin::inline v0_1 {

/// A small generator for jitter: SplitMix64 (Steele, Lea, Flood 2014). Not for secrets. Seed it from `entropy`, never from a clock:
/// machines that start together must not move in step.
class Random {
public:
    explicit constexpr Random(std::uint64_t seed) : state_(seed) {}

    constexpr std::uint64_t next() {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    /// Evenly from 0 to `n - 1`, as an unsigned number of `n`'s width; 0 for `n` 0. (The modulo's bias is below 2⁻³² for every `n` that
    /// fits in 32 bits.)
    template <class T>
    constexpr auto below(T n) -> decltype(n + 0u) {
        return n == 0 ? 0 : static_cast<decltype(n + 0u)>(next() % static_cast<std::uint64_t>(n));
    }
    /// Evenly from `low` to `high`.
    constexpr Duration between(Duration low, Duration high) {
        const auto width = high > low ? static_cast<std::uint64_t>((high - low).nanoseconds()) + 1 : 1;
        return low + Duration::nanoseconds(static_cast<std::int64_t>(below(width)));
    }

private:
    std::uint64_t state_;
};

}  // namespace rejoin::inline v0_1
