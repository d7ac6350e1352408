// SPDX-License-Identifier: BSL-1.0
#include <rejoin/core/random.hpp>

#include "catch.hpp"

using rejoin::Duration;
using rejoin::Random;

TEST_CASE("Random is SplitMix64") {
    Random random(1234567);  // the first numbers that the algorithm's published code gives for this seed
    for (std::uint64_t expected :
         {6457827717110365317U, 3203168211198807973U, 9817491932198370423U, 4593380528125082431U, 16408922859458223821U})
        CHECK(random.next() == expected);
}

TEST_CASE("Random stays within its bounds and reaches them") {
    Random random(1);
    CHECK(random.below(0) == 0);
    CHECK(random.below(1) == 0);
    static_assert(sizeof(random.below(std::uint8_t{1})) == sizeof(unsigned) && sizeof(random.below(std::uint64_t{1})) == 8);
    CHECK(random.below(std::uint64_t{1} << 63) > UINT32_MAX);
    bool seen[3] = {};
    for (int i = 0; i < 100; ++i) {
        const std::uint64_t n = random.below(3);
        REQUIRE(n < 3);
        seen[n] = true;
    }
    CHECK((seen[0] && seen[1] && seen[2]));

    const Duration low = Duration::nanoseconds(-1), high = Duration::nanoseconds(1);
    bool lowest = false, highest = false;
    for (int i = 0; i < 100; ++i) {
        const Duration d = random.between(low, high);
        REQUIRE((d >= low && d <= high));
        lowest = lowest || d == low;
        highest = highest || d == high;
    }
    CHECK((lowest && highest));
    CHECK(random.between(high, high) == high);
    CHECK(random.between(high, low) == high);
    CHECK(random.between(Duration(), Duration::unlimited()) >= Duration());
}
