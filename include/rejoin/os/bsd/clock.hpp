// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/time.hpp>

#if !defined(_WIN32) && !defined(__linux__)
#include <time.h>

namespace rejoin::inline v0_1 {

namespace detail {
#if defined(__APPLE__)
inline constexpr clockid_t awake_clock = CLOCK_UPTIME_RAW, boottime_clock = CLOCK_MONOTONIC_RAW;
#elif defined(CLOCK_UPTIME)
inline constexpr clockid_t awake_clock = CLOCK_UPTIME, boottime_clock = CLOCK_BOOTTIME;
#else
inline constexpr clockid_t awake_clock = CLOCK_MONOTONIC, boottime_clock = CLOCK_MONOTONIC;
#endif
inline TimePoint read_clock(clockid_t clock) {
    timespec ts{};
    ::clock_gettime(clock, &ts);
    return TimePoint::from_nanoseconds(std::int64_t{ts.tv_sec} * 1'000'000'000 + ts.tv_nsec);
}
}  // namespace detail

/// Now, on a clock that stands still while the host is suspended, where the system has one: CLOCK_UPTIME_RAW on macOS, CLOCK_UPTIME on
/// FreeBSD and OpenBSD (clock_gettime(2)), and CLOCK_MONOTONIC on NetBSD. Any thread.
inline TimePoint monotonic_now() { return detail::read_clock(detail::awake_clock); }

/// Now, on a clock that goes on while the host is suspended: to be compared with itself only. How much it runs ahead of `monotonic_now()`
/// is how long the host has slept. CLOCK_MONOTONIC_RAW on macOS, CLOCK_BOOTTIME on FreeBSD and OpenBSD. NetBSD has one clock for both, so
/// that a sleep is not seen there. Any thread.
inline TimePoint boottime_now() { return detail::read_clock(detail::boottime_clock); }

/// What the time is, in milliseconds since the beginning of 1970 (UTC): it may be set, and may jump. Any thread.
inline std::int64_t realtime_now() { return detail::read_clock(CLOCK_REALTIME).nanoseconds() / 1'000'000; }

}  // namespace rejoin::inline v0_1
#endif
