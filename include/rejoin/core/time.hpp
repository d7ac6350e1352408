// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <compare>
#include <cstdint>
#include <rejoin/core/version.hpp>
#include <type_traits>

namespace rejoin::inline v0_1 {

namespace detail {

// Arithmetic that stops at the end it would run past: an option may hold `std::chrono::hours::max()`.
constexpr std::int64_t add(std::int64_t a, std::int64_t b) {
    std::int64_t sum = 0;
    return !__builtin_add_overflow(a, b, &sum) ? sum : b < 0 ? INT64_MIN : INT64_MAX;
}
constexpr std::int64_t subtract(std::int64_t a, std::int64_t b) {
    std::int64_t difference = 0;
    return !__builtin_sub_overflow(a, b, &difference) ? difference : b > 0 ? INT64_MIN : INT64_MAX;
}
constexpr std::int64_t multiply(std::int64_t a, std::int64_t b) {
    std::int64_t product = 0;
    return !__builtin_mul_overflow(a, b, &product) ? product : (a < 0) != (b < 0) ? INT64_MIN : INT64_MAX;
}

}  // namespace detail

/// A span of time in 64-bit nanoseconds (about 292 years either way). Converts from any `std::chrono::duration` without
/// including <chrono>; `rejoin/std.hpp` converts back. Conversion and arithmetic saturate, and `unlimited()` less anything is
/// `unlimited()`.
class Duration {
public:
    constexpr Duration() = default;

    /// From a chrono duration of any period and arithmetic representation, truncated to nanoseconds.
    template <class D>
    requires requires(const D& d) {
        d.count();
        D::period::num;
        D::period::den;
    }
    constexpr Duration(const D& d)
        : nanoseconds_(scaled(d.count(), D::period::num * (1'000'000'000 / divisor<D>), D::period::den / divisor<D>)) {}

    static constexpr Duration nanoseconds(std::int64_t n) { return Duration(n, Raw{}); }
    static constexpr Duration microseconds(std::int64_t n) { return nanoseconds(n) * 1'000; }
    static constexpr Duration milliseconds(std::int64_t n) { return nanoseconds(n) * 1'000'000; }
    static constexpr Duration seconds(std::int64_t n) { return nanoseconds(n) * 1'000'000'000; }
    /// Longer than any wait: "no limit". (Not `max`: windows.h makes that a macro.)
    static constexpr Duration unlimited() { return nanoseconds(INT64_MAX); }

    constexpr std::int64_t nanoseconds() const { return nanoseconds_; }
    constexpr std::int64_t microseconds() const { return nanoseconds_ / 1'000; }
    constexpr std::int64_t milliseconds() const { return nanoseconds_ / 1'000'000; }

    friend constexpr auto operator<=>(Duration, Duration) = default;
    friend constexpr Duration operator+(Duration a, Duration b) {
        return a == unlimited() || b == unlimited() ? unlimited() : nanoseconds(detail::add(a.nanoseconds_, b.nanoseconds_));
    }
    friend constexpr Duration operator-(Duration a, Duration b) {
        return a == unlimited() ? unlimited() : nanoseconds(detail::subtract(a.nanoseconds_, b.nanoseconds_));
    }
    friend constexpr Duration operator*(Duration a, std::int64_t n) { return nanoseconds(detail::multiply(a.nanoseconds_, n)); }
    friend constexpr Duration operator/(Duration a, std::int64_t n) { return nanoseconds(a.nanoseconds_ / n); }

private:
    struct Raw {};
    constexpr Duration(std::int64_t n, Raw) : nanoseconds_(n) {}

    // Whole nanoseconds first and then the rest, each side divided by what they share, so that only what is too long overflows.
    template <class Rep>
    static constexpr std::int64_t scaled(Rep count, std::int64_t by, std::int64_t over) {
        if constexpr (std::is_floating_point_v<Rep>) {
            const double n = static_cast<double>(count) * static_cast<double>(by) / static_cast<double>(over);
            return !(n < 0x1p63) ? INT64_MAX : n < -0x1p63 ? INT64_MIN : static_cast<std::int64_t>(n);
        } else {
            std::int64_t n = 0;
            if (__builtin_add_overflow(count, std::int64_t{0}, &n)) return INT64_MAX;  // an unsigned count
            return detail::add(detail::multiply(n / over, by), n % over * by / over);
        }
    }
    static constexpr std::int64_t common(std::int64_t a, std::int64_t b) { return b == 0 ? a : common(b, a % b); }
    template <class D>
    static constexpr std::int64_t divisor = common(1'000'000'000, D::period::den);

    std::int64_t nanoseconds_ = 0;
};

/// A moment on the monotonic clock, which neither jumps nor counts time asleep (CLOCK_MONOTONIC). Comparable only within a host's boot.
class TimePoint {
public:
    constexpr TimePoint() = default;
    static constexpr TimePoint from_nanoseconds(std::int64_t n) { return TimePoint(n); }
    /// Later than every moment: "never".
    static constexpr TimePoint never() { return TimePoint(INT64_MAX); }

    constexpr std::int64_t nanoseconds() const { return nanoseconds_; }

    friend constexpr auto operator<=>(TimePoint, TimePoint) = default;
    friend constexpr TimePoint operator+(TimePoint t, Duration d) {
        return d == Duration::unlimited() || t == never() ? never() : TimePoint(detail::add(t.nanoseconds_, d.nanoseconds()));
    }
    friend constexpr Duration operator-(TimePoint a, TimePoint b) {
        return a == never() ? Duration::unlimited() : Duration::nanoseconds(detail::subtract(a.nanoseconds_, b.nanoseconds_));
    }

private:
    constexpr explicit TimePoint(std::int64_t n) : nanoseconds_(n) {}
    std::int64_t nanoseconds_ = 0;
};

}  // namespace rejoin::inline v0_1
