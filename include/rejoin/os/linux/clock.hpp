// SPDX-License-Identifier: BSL-1.0
#pragma once

#if defined(__linux__)
#include <time.h>

#include <rejoin/core/time.hpp>

namespace rejoin::inline v0_1 {

/// Now, on a clock that goes on while the host is suspended (CLOCK_BOOTTIME, clock_gettime(2)): to be compared with itself only. How much
/// it runs ahead of `monotonic_now()` is how long the host has slept since it was booted. Any thread.
inline TimePoint boottime_now() {
    timespec ts{};
    ::clock_gettime(CLOCK_BOOTTIME, &ts);
    return TimePoint::from_nanoseconds(std::int64_t{ts.tv_sec} * 1'000'000'000 + ts.tv_nsec);
}

}  // namespace rejoin::inline v0_1
#endif
