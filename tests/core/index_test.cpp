// SPDX-License-Identifier: BSL-1.0
#include <rejoin/core/index.hpp>
#include <rejoin/core/random.hpp>

#include <memory>
#include <unordered_map>

#include "catch.hpp"

namespace {

struct Object {
    std::uint32_t key;
    std::uint64_t mixed;
    std::uint64_t hash() const { return mixed; }
    bool is(std::uint32_t other) const { return key == other; }
};
using Index = rejoin::Index<Object, std::uint32_t>;

// Adds, finds and takes away at random, and compares with the model at every step. `places`: how many hashes there are.
void check_against_model(std::uint64_t seed, std::uint64_t places, std::uint32_t keys, int steps) {
    rejoin::Random random(seed);
    const auto hash = [&](std::uint32_t key) { return rejoin::Random(key).next() % places; };
    Index index;
    std::unordered_map<std::uint32_t, std::unique_ptr<Object>> model;
    bool good = true;
    for (int i = 0; i < steps; ++i) {
        const auto key = static_cast<std::uint32_t>(random.below(keys));
        const auto known = model.find(key);
        // It grows in the first half, and shrinks in the second.
        if (known == model.end() && random.below(3) < (i < steps / 2 ? 2u : 1u)) {
            auto object = std::make_unique<Object>(Object{key, hash(key)});
            good = good && index.insert(object.get());
            model.emplace(key, std::move(object));
        } else if (known != model.end() && random.below(3) < (i < steps / 2 ? 1u : 2u)) {
            index.erase(known->second.get());
            model.erase(known);
        }
        const auto other = static_cast<std::uint32_t>(random.below(keys));
        const auto wanted = model.find(other);
        good = good && index.find(hash(other), other) == (wanted == model.end() ? nullptr : wanted->second.get());
        good = good && index.size() == model.size();
    }
    REQUIRE(good);
    for (std::uint32_t key = 0; key < keys; ++key) {
        const auto wanted = model.find(key);
        good = good && index.find(hash(key), key) == (wanted == model.end() ? nullptr : wanted->second.get());
    }
    REQUIRE(good);
    while (!model.empty()) {
        index.erase(model.begin()->second.get());
        model.erase(model.begin());
        for (const auto& [key, object] : model) good = good && index.find(object->mixed, key) == object.get();
        if (model.size() > 40) good = good && index.size() == model.size();
    }
    REQUIRE(good);
    REQUIRE(index.size() == 0);
}

}  // namespace

TEST_CASE("an empty index has nothing, and no memory to look in") {
    Index index;
    REQUIRE(index.size() == 0);
    REQUIRE(index.find(0, 0) == nullptr);
}

TEST_CASE("an index does what a map does") {
    for (std::uint64_t seed = 0; seed < 300; ++seed) check_against_model(seed, ~std::uint64_t{}, 40, 400);
    check_against_model(1, ~std::uint64_t{}, 2'000, 20'000);
}

TEST_CASE("an index stays right where hashes collide, and runs wrap around its end") {
    for (std::uint64_t places : {1u, 2u, 5u, 17u})
        for (std::uint64_t seed = 0; seed < 100; ++seed) check_against_model(seed, places, 30, 300);
}

TEST_CASE("an index finds what is there through the hole that another left, from every place") {
    // Runs of four at each start in a block of sixteen, the last of which wrap.
    for (std::uint64_t start = 0; start < 16; ++start)
        for (unsigned order = 0; order < 256; ++order) {
            Object objects[4];
            Index index;
            for (std::uint32_t i = 0; i < 4; ++i) {
                objects[i] = {i, start + (order >> (2 * i) & 3)};
                REQUIRE(index.insert(&objects[i]));
            }
            for (std::uint32_t gone = 0; gone < 4; ++gone) {
                index.erase(&objects[gone]);
                bool good = index.find(objects[gone].mixed, gone) == nullptr;
                for (std::uint32_t i = 0; i < 4; ++i)
                    if (i != gone) good = good && index.find(objects[i].mixed, i) == &objects[i];
                REQUIRE(good);
                REQUIRE(index.insert(&objects[gone]));
            }
        }
}
