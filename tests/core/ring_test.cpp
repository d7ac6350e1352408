// SPDX-License-Identifier: BSL-1.0
#include <deque>
#include <random>
#include <rejoin/core/ring.hpp>
#include <vector>

#include "catch.hpp"

using rejoin::Bytes;
using rejoin::Ring;

namespace {

// Everything from `at` on, over however many pieces, which must be two at most.
std::vector<std::byte> gather(const Ring& ring, std::size_t at = 0) {
    std::vector<std::byte> all;
    int pieces = 0;
    for (Bytes piece = ring.peek(at, SIZE_MAX); !piece.empty(); piece = ring.peek(at + all.size(), SIZE_MAX)) {
        all.insert(all.end(), piece.begin(), piece.end());
        REQUIRE(++pieces <= 2);
    }
    return all;
}

}  // namespace

TEST_CASE("Ring is the queue that a deque is") {
    for (unsigned seed = 1; seed <= 20; ++seed) {
        CAPTURE(seed);
        std::mt19937 random(seed);
        Ring ring;
        std::deque<std::byte> model;
        std::vector<std::byte> input;
        const std::size_t most = seed % 2 == 0 ? 300 : 3000;  // small rings wrap often, large ones grow
        for (int step = 0; step < 2000; ++step) {
            const auto dice = random() % 100;
            if (dice < 55 && model.size() < most) {
                input.resize(random() % (dice < 5 ? 700 : 90));
                for (std::byte& b : input) b = static_cast<std::byte>(random());
                REQUIRE(ring.append(input));
                model.insert(model.end(), input.begin(), input.end());
            } else if (dice < 99) {
                const std::size_t n = random() % (model.size() + 1);
                ring.drop(n);
                model.erase(model.begin(), model.begin() + static_cast<std::ptrdiff_t>(n));
            } else if (step % 10 == 0) {
                ring.release();
                model.clear();
                REQUIRE(ring.capacity() == 0);
            }
            REQUIRE(ring.size() == model.size());
            REQUIRE(ring.empty() == model.empty());
            REQUIRE(ring.capacity() >= ring.size());
            const std::size_t at = random() % (model.size() + 2), limit = random() % 100;
            const Bytes piece = ring.peek(at, limit);
            REQUIRE(piece.size() <= limit);
            REQUIRE(piece.empty() == (at >= model.size() || limit == 0));
            for (std::size_t i = 0; i < piece.size(); ++i) REQUIRE(piece[i] == model[at + i]);
            if (step % 16 == 0) REQUIRE(gather(ring) == std::vector<std::byte>(model.begin(), model.end()));
        }
    }
}

TEST_CASE("Ring takes no memory before the first byte and keeps what it has") {
    Ring ring;
    CHECK(ring.append({}));
    CHECK(ring.capacity() == 0);
    ring.drop(0);
    CHECK(ring.peek(0, 10).empty());

    const std::vector<std::byte> block(256, std::byte{7});
    REQUIRE(ring.append(block));
    const std::size_t capacity = ring.capacity();
    for (int i = 0; i < 1000; ++i) {
        ring.drop(100);
        REQUIRE(ring.append({block.data(), 100}));
        REQUIRE(ring.capacity() == capacity);
    }
    SECTION("an empty ring starts over, in one piece") {
        ring.drop(ring.size());
        REQUIRE(ring.append(block));
        CHECK(ring.peek(0, SIZE_MAX).size() == block.size());
    }
}

TEST_CASE("Ring says how large it will be, and refuses what cannot be") {
    Ring ring;
    CHECK(ring.capacity_for(SIZE_MAX) == 0);
    CHECK(ring.empty());
    for (std::size_t size : {1U, 255U, 256U, 257U, 5000U}) {
        const std::size_t expected = ring.capacity_for(size);
        CHECK(expected >= size);
        const std::vector<std::byte> block(size - ring.size());
        REQUIRE(ring.append(block));
        CHECK(ring.capacity() == expected);
    }
}

TEST_CASE("Ring moves") {
    const std::vector<std::byte> hello(5, std::byte{'h'});
    Ring a;
    REQUIRE(a.append(hello));
    Ring b = std::move(a);
    CHECK(a.empty());
    CHECK(a.capacity() == 0);
    CHECK(gather(b) == hello);
    REQUIRE(a.append(hello));  // a moved-from ring is an empty one
    REQUIRE(a.append(hello));
    b = std::move(a);
    CHECK(b.size() == 10);
}
