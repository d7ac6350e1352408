// SPDX-License-Identifier: BSL-1.0
#include <ctime>
#include <rejoin/os/clock.hpp>
#include <rejoin/os/entropy.hpp>
#include <vector>

#include "catch.hpp"

TEST_CASE("Entropy fills what it is given, each time with something else") {
    // More than the 256 bytes that getrandom(2) never cuts short.
    const std::size_t size = GENERATE(16u, 300u, 1u << 20);
    std::vector<std::byte> first(size), second(size);
    REQUIRE(rejoin::entropy(first));
    REQUIRE(rejoin::entropy(second));
    CHECK(first != second);
    // The last sixteen bytes too: all zero by chance once in 2^128.
    CHECK(std::vector<std::byte>(first.end() - 16, first.end()) != std::vector<std::byte>(16));
}

TEST_CASE("Entropy for nothing is no error") { CHECK(rejoin::entropy({})); }

TEST_CASE("The real time is the system's") {
    const std::int64_t before = std::int64_t{std::time(nullptr)}, now = rejoin::realtime_now(), after = std::int64_t{std::time(nullptr)};
    CHECK(now >= (before - 1) * 1000);  // time(2) may be a tick behind
    CHECK(now <= (after + 2) * 1000);
}

TEST_CASE("The monotonic clock goes on and never back") {
    rejoin::TimePoint last = rejoin::monotonic_now();
    const rejoin::TimePoint start = last;
    REQUIRE(start > rejoin::TimePoint());
    while (last - start < rejoin::Duration::milliseconds(5)) {
        const rejoin::TimePoint now = rejoin::monotonic_now();
        REQUIRE(now >= last);
        last = now;
    }
}
