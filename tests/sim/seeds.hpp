// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
#define SLOW 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW 1
#endif
#endif

namespace sim {

/// Which runs are made: REJOIN_SEEDS says how many there are, REJOIN_SEED runs one again.
struct Seeds {
    static constexpr std::uint64_t many = 2'400;
    std::uint64_t first = 1, count = many;
    /// `share`: one run for so many of them.
    explicit Seeds(std::uint64_t share = 1) {
#ifdef SLOW
        count = many / 8;  // as they take so much longer
#endif
        if (const char* const some = std::getenv("REJOIN_SEEDS")) count = std::strtoull(some, nullptr, 10);
        count = count > share ? count / share : 1;
        const char* const one = std::getenv("REJOIN_SEED");
        if (one == nullptr) return;
        first = std::strtoull(one, nullptr, 10);
        count = 1;
    }
};

}  // namespace sim
