// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/time.hpp>

#if defined(__linux__)
#include <time.h>

namespace rejoin::inline v0_1 {

namespace detail {
inline TimePoint read_clock(clockid_t clock) {
    timespec ts{};
    ::clock_gettime(clock, &ts);
    return TimePoint::from_nanoseconds(std::int64_t{ts.tv_sec} * 1'000'000'000 + ts.tv_nsec);
}
}  // namespace detail

/// Now, on a clock that stands still while the host is suspended: CLOCK_MONOTONIC (clock_gettime(2)). Any thread.
inline TimePoint monotonic_now() { return detail::read_clock(CLOCK_MONOTONIC); }

/// Now, on a clock that goes on while the host is suspended (CLOCK_BOOTTIME, clock_gettime(2)): to be compared with itself only. How much
/// it runs ahead of `monotonic_now()` is how long the host has slept since it was booted. Any thread.
inline TimePoint boottime_now() { return detail::read_clock(CLOCK_BOOTTIME); }

/// What the time is, in milliseconds since the beginning of 1970 (UTC): it may be set, and may jump. Any thread.
inline std::int64_t realtime_now() { return detail::read_clock(CLOCK_REALTIME).nanoseconds() / 1'000'000; }

}  // namespace rejoin::inline v0_1
#endif
