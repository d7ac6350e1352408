// SPDX-License-Identifier: BSL-1.0
#pragma once

#if !defined(_WIN32)
#include <time.h>

#include <rejoin/core/time.hpp>

namespace rejoin::inline v0_1 {

/// Now, on CLOCK_MONOTONIC (clock_gettime(2)). Any thread.
inline TimePoint monotonic_now() {
    timespec ts{};
    ::clock_gettime(CLOCK_MONOTONIC, &ts);
    return TimePoint::from_nanoseconds(std::int64_t{ts.tv_sec} * 1'000'000'000 + ts.tv_nsec);
}

}  // namespace rejoin::inline v0_1
#endif
