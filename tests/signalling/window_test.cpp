// SPDX-License-Identifier: BSL-1.0
#include <rejoin/signalling/window.hpp>

#include <random>
#include <set>

#include "catch.hpp"

using namespace rejoin;
using signalling::Window;

TEST_CASE("a window knows what it has seen") {
    Window window;
    CHECK(window.seen(0));
    CHECK_FALSE(window.seen(1));
    window.add(2);
    CHECK(window.seen(2));
    CHECK_FALSE(window.seen(1));
    CHECK(window.lowest() == 0);
    window.add(1);
    CHECK(window.lowest() == 2);
    CHECK_FALSE(window.beyond(1026));
    CHECK(window.beyond(1027));
    CHECK_FALSE(window.seen(1027));
    window.add(1026);
    CHECK(window.seen(1026));
    CHECK(window.lowest() == 2);
}

TEST_CASE("a window slides over what is given up") {
    Window window;
    window.add(5);
    window.skip_to(3);
    CHECK(window.lowest() == 3);
    CHECK_FALSE(window.seen(4));
    window.skip_to(4);
    CHECK(window.lowest() == 5);
    window.skip_to(2);
    CHECK(window.lowest() == 5);
    window.add(1000);
    window.skip_to(100'000);
    CHECK(window.lowest() == 100'000);
    for (std::uint64_t n = 100'001; n <= 100'000 + Window::size; ++n) REQUIRE_FALSE(window.seen(n));
    window.skip_to(UINT64_MAX - 1);
    window.add(UINT64_MAX);
    CHECK(window.lowest() == UINT64_MAX);
    CHECK_FALSE(window.beyond(1));
}

TEST_CASE("its bits are written, the first one first") {
    Window window;
    std::byte room[Window::size / 8];
    CHECK(window.write(room) == 0);
    window.add(2);
    window.add(10);
    CHECK(window.write(room) == 2);
    CHECK(room[0] == std::byte{2});
    CHECK(room[1] == std::byte{2});
    window.add(1024);
    CHECK(window.write(room) == 128);
    CHECK(room[127] == std::byte{0x80});
}

TEST_CASE("against a set of numbers") {
    std::mt19937 random(1);
    Window window;
    std::set<std::uint64_t> seen;
    std::uint64_t base = 1;
    for (int i = 0; i < 20'000; ++i) {
        if (random() % 50 == 0) {
            base += random() % 1500;
            window.skip_to(base - 1);
        }
        const std::uint64_t n = base + random() % 1200;
        const bool known = n < base || seen.count(n) != 0;
        REQUIRE(window.seen(n) == known);
        if (known || window.beyond(n)) continue;
        window.add(n);
        seen.insert(n);
        while (seen.count(base) != 0 || base <= window.lowest()) ++base;
        REQUIRE(window.lowest() == base - 1);
    }
}
