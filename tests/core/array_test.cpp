// SPDX-License-Identifier: BSL-1.0
#include <memory>
#include <random>
#include <rejoin/core/array.hpp>
#include <vector>

#include "catch.hpp"

using rejoin::Array;

TEST_CASE("Array does what a vector does") {
    std::mt19937 random(1);
    Array<int> array;
    std::vector<int> model;
    for (int i = 0; i < 20'000; ++i) {
        const auto dice = random() % 100;
        if (dice < 60) {
            REQUIRE(array.push(i));
            model.push_back(i);
        } else if (dice < 80 && !model.empty()) {
            array.pop();
            model.pop_back();
        } else if (dice < 98 && !model.empty()) {
            const std::size_t at = random() % model.size();
            array.erase(at);
            model.erase(model.begin() + static_cast<std::ptrdiff_t>(at));
        } else if (dice == 98 && i % 7 == 0) {
            array.clear();
            model.clear();
        } else if (dice == 99 && i % 7 == 0) {
            array.reset();
            model.clear();
        }
        REQUIRE(array.size() == model.size());
        REQUIRE(array.empty() == model.empty());
        if (!model.empty()) REQUIRE(array.back() == model.back());
    }
    REQUIRE(std::equal(array.begin(), array.end(), model.begin(), model.end()));
}

TEST_CASE("Array holds what can only be moved, and destroys it once") {
    const auto shared = std::make_shared<int>(1);
    Array<std::shared_ptr<int>> array;
    for (int i = 0; i < 100; ++i) REQUIRE(array.push(shared));
    CHECK(shared.use_count() == 101);
    array.erase(50);
    array.pop();
    CHECK(shared.use_count() == 99);
    Array<std::shared_ptr<int>> moved = std::move(array);
    CHECK(array.empty());
    CHECK(moved.size() == 98);
    CHECK(shared.use_count() == 99);
    CHECK(array.push(shared));  // a moved-from array is an empty one
    moved = std::move(array);
    CHECK(moved.size() == 1);
    array.reset();
    moved.reset();
    CHECK(shared.use_count() == 1);

    Array<std::unique_ptr<int>> owners;
    for (int i = 0; i < 9; ++i) REQUIRE(owners.push(std::make_unique<int>(i)));
    owners.erase(0);
    for (int i = 0; i < 8; ++i) CHECK(*owners[static_cast<std::size_t>(i)] == i + 1);
}

namespace {

struct Counted {
    static inline int alive = 0;
    Counted() { ++alive; }
    Counted(Counted&&) noexcept { ++alive; }
    Counted& operator=(Counted&&) = default;
    ~Counted() { --alive; }
};

}  // namespace

TEST_CASE("Array destroys what it moved away from") {
    Counted::alive = 0;
    {
        Array<Counted> array;
        for (int i = 0; i < 100; ++i) REQUIRE(array.push(Counted()));
        CHECK(Counted::alive == 100);
        array.erase(7);
        array.pop();
        CHECK(Counted::alive == 98);
        array.clear();
        CHECK(Counted::alive == 0);
        REQUIRE(array.push(Counted()));
    }
    CHECK(Counted::alive == 0);
}

TEST_CASE("Array reserves once and stays where it is") {
    Array<int> array;
    REQUIRE(array.reserve(1000));
    const int* const where = array.data();
    for (int i = 0; i < 1000; ++i) REQUIRE(array.push(i));
    CHECK(array.data() == where);
    CHECK(array.reserve(10));
    CHECK(array.data() == where);
    array.clear();
    CHECK(array.push(1));
    CHECK(array.data() == where);
    array.reset();
    CHECK(array.data() == nullptr);
}

TEST_CASE("Array refuses what cannot be, and is unchanged") {
    Array<int> array;
    REQUIRE(array.push(3));
    CHECK_FALSE(array.reserve(SIZE_MAX));
    CHECK_FALSE(array.reserve(SIZE_MAX / sizeof(int) + 1));
    if (SIZE_MAX > UINT32_MAX) CHECK_FALSE(array.reserve(static_cast<std::size_t>(std::uint64_t{UINT32_MAX} + 1)));
    REQUIRE(array.size() == 1);
    CHECK(array[0] == 3);
    CHECK(array.push(4));
}

TEST_CASE("Array copies when it is told to") {
    Array<int> one, other;
    for (int i = 0; i < 10; ++i) REQUIRE(one.push(i));
    REQUIRE(other.push(99));
    REQUIRE(other.copy_from(one));
    REQUIRE(other.size() == 10);
    CHECK(other[9] == 9);
    other[9] = 5;
    CHECK(one[9] == 9);
    REQUIRE(one.copy_from(one));
    CHECK(one.size() == 10);
    REQUIRE(other.copy_from(Array<int>()));
    CHECK(other.empty());
    STATIC_REQUIRE_FALSE(std::is_copy_constructible_v<Array<int>>);
}

TEST_CASE("Array pushes a copy of its own element, even as it moves") {
    Array<std::vector<int>> array;
    REQUIRE(array.push({1, 2, 3}));
    for (int i = 0; i < 20; ++i) REQUIRE(array.push(array[0]));
    CHECK(array.back() == std::vector{1, 2, 3});
}
