// SPDX-License-Identifier: BSL-1.0
#include <chrono>
#include <cmath>
#include <limits>
#include <rejoin/core/time.hpp>

#include "catch.hpp"

using namespace std::chrono_literals;
using rejoin::Duration;
using rejoin::TimePoint;

TEST_CASE("Duration converts from chrono durations of any period") {
    CHECK(Duration(1ns).nanoseconds() == 1);
    CHECK(Duration(-7us).nanoseconds() == -7'000);
    CHECK(Duration(3ms) == Duration::milliseconds(3));
    CHECK(Duration(5s) == Duration::seconds(5));
    CHECK(Duration(2min) == Duration::seconds(120));
    CHECK(Duration(24h) == Duration::seconds(86'400));
    CHECK(Duration(std::chrono::days(3)) == Duration(72h));

    SECTION("periods that share no factor with a nanosecond are truncated towards zero") {
        using Third = std::chrono::duration<int, std::ratio<1, 3>>;
        CHECK(Duration(Third(1)).nanoseconds() == 333'333'333);
        CHECK(Duration(Third(-1)).nanoseconds() == -333'333'333);
        CHECK(Duration(Third(3)) == Duration::seconds(1));
        using Frame = std::chrono::duration<std::int64_t, std::ratio<1001, 30000>>;
        CHECK(Duration(Frame(30'000)) == Duration::seconds(1001));
        CHECK(Duration(Frame(1)).nanoseconds() == 33'366'666);
        using Pico = std::chrono::duration<std::int64_t, std::pico>;
        CHECK(Duration(Pico(1'999)).nanoseconds() == 1);
        CHECK(Duration(Pico(-1'999)).nanoseconds() == -1);
    }
    SECTION("as chrono itself converts, as far as it does without overflow") {
        using Odd = std::chrono::duration<std::int64_t, std::ratio<7, 11>>;
        for (std::int64_t n : {0, 1, 2, 10, 11, 12, 999'999, -1, -11, -12}) {
            CHECK(Duration(Odd(n)).nanoseconds() == std::chrono::duration_cast<std::chrono::nanoseconds>(Odd(n)).count());
        }
    }
    SECTION("no intermediate value overflows below 292 years") {
        using Third = std::chrono::duration<std::int64_t, std::ratio<1, 3>>;
        CHECK(Duration(Third(3 * 9'000'000'000)) == Duration::seconds(9'000'000'000));
        CHECK(Duration(std::chrono::years(292)) > Duration(std::chrono::years(291)));
    }
    SECTION("counts that are not 64-bit integers") {
        CHECK(Duration(std::chrono::duration<double>(1.5)) == Duration(1500ms));
        CHECK(Duration(std::chrono::duration<float, std::milli>(0.25F)) == Duration(250us));
        CHECK(Duration(std::chrono::duration<signed char>(-1)) == Duration::seconds(-1));
        CHECK(Duration(std::chrono::duration<unsigned>(4'000'000'000)) == Duration::seconds(4'000'000'000));
    }
    SECTION("at compile time") { STATIC_REQUIRE(Duration(90s) == Duration::seconds(90)); }
}

TEST_CASE("Duration saturates where chrono would overflow") {
    const Duration shortest = Duration::nanoseconds(INT64_MIN);
    CHECK(Duration(std::chrono::nanoseconds::max()) == Duration::unlimited());
    CHECK(Duration(std::chrono::seconds::max()) == Duration::unlimited());
    CHECK(Duration(std::chrono::hours::max()) == Duration::unlimited());
    CHECK(Duration(std::chrono::seconds::min()) == shortest);
    CHECK(Duration(std::chrono::years(293)) == Duration::unlimited());
    CHECK(Duration(std::chrono::years(-293)) == shortest);
    CHECK(Duration(std::chrono::duration<std::uint64_t>(UINT64_MAX)) == Duration::unlimited());
    using Seconds = std::chrono::duration<double>;
    CHECK(Duration(Seconds(1e30)) == Duration::unlimited());
    CHECK(Duration(Seconds(-1e30)) == shortest);
    CHECK(Duration(Seconds(std::numeric_limits<double>::infinity())) == Duration::unlimited());
    CHECK(Duration(Seconds(std::nan(""))) == Duration::unlimited());
    CHECK(Duration::seconds(INT64_MAX) == Duration::unlimited());
    CHECK(Duration::milliseconds(INT64_MIN) == shortest);
    CHECK(Duration::microseconds(INT64_MAX / 1'000) < Duration::unlimited());
}

TEST_CASE("Duration arithmetic") {
    CHECK(Duration().nanoseconds() == 0);
    CHECK(Duration(2s) + Duration(500ms) == Duration(2500ms));
    CHECK(Duration(2s) - Duration(3s) == Duration(-1s));
    CHECK(Duration(2s) * 3 == Duration(6s));
    CHECK(Duration(7s) / 2 == Duration(3500ms));
    CHECK(Duration(1999us).milliseconds() == 1);
    CHECK(Duration(1999ns).microseconds() == 1);
    CHECK(Duration(1s) < Duration(2s));

    const Duration unlimited = Duration::unlimited(), shortest = Duration::nanoseconds(INT64_MIN);
    CHECK(unlimited + Duration(-1s) == unlimited);
    CHECK(Duration(-1s) + unlimited == unlimited);
    CHECK(unlimited - Duration(1s) == unlimited);
    CHECK(unlimited * 2 == unlimited);
    CHECK(unlimited * -2 == shortest);
    CHECK(shortest - Duration(1ns) == shortest);
    CHECK(shortest + Duration(-1ns) == shortest);
    CHECK(Duration(1ns) - shortest == unlimited);
    CHECK(Duration::nanoseconds(INT64_MAX - 1) + Duration(2ns) == unlimited);
    CHECK(Duration(std::chrono::years(200)) * 2 == unlimited);
    CHECK(Duration(std::chrono::years(-200)) * 2 == shortest);
}

TEST_CASE("TimePoint knows never") {
    const TimePoint now = TimePoint::from_nanoseconds(1'000), never = TimePoint::never();
    CHECK(now + Duration(1us) == TimePoint::from_nanoseconds(2'000));
    CHECK((now + Duration(1us)) - now == Duration(1us));
    CHECK(now - (now + Duration(1us)) == Duration(-1us));
    CHECK(now < never);
    CHECK(now + Duration::unlimited() == never);
    CHECK(never + Duration(-1s) == never);
    CHECK(never - now == Duration::unlimited());
    CHECK(never - never == Duration::unlimited());
    CHECK(now + Duration::nanoseconds(INT64_MAX - 1) == never);
    CHECK(TimePoint::from_nanoseconds(-2) + Duration::nanoseconds(INT64_MIN) == TimePoint::from_nanoseconds(INT64_MIN));
    CHECK(TimePoint::from_nanoseconds(INT64_MIN) - now == Duration::nanoseconds(INT64_MIN));
}
