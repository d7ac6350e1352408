// SPDX-License-Identifier: BSL-1.0
#include <array>
#include <memory>
#include <rejoin/core/function.hpp>
#include <string>

#include "catch.hpp"

using rejoin::Delegate;
using rejoin::Function;

namespace {

int twice(int n) { return 2 * n; }

// Counts what lives; padded, it does not fit inside a Function.
template <std::size_t Padding>
struct Counted {
    static inline int alive = 0;
    std::array<char, Padding> padding{};
    int value = 1;
    Counted() { ++alive; }
    Counted(Counted&& other) noexcept : value(std::exchange(other.value, 0)) { ++alive; }
    Counted(const Counted& other) : value(other.value) { ++alive; }
    ~Counted() { --alive; }
    int operator()() { return value++; }
};

struct alignas(16) Aligned {
    int operator()() const { return reinterpret_cast<std::uintptr_t>(this) % 16 == 0 ? 1 : 0; }
};

}  // namespace

TEST_CASE("Function calls what it was made from") {
    SECTION("a lambda, with a state of its own") {
        Function<int(int)> f = [sum = 0](int n) mutable { return sum += n; };
        CHECK(f(2) == 2);
        CHECK(f(3) == 5);
    }
    SECTION("a function and a pointer to one") {
        Function<int(int)> f = twice, g = &twice;
        CHECK(f(4) == 8);
        CHECK(g(5) == 10);
    }
    SECTION("arguments by reference, by value and to be moved") {
        Function<void(int&, std::unique_ptr<int>)> f = [](int& to, std::unique_ptr<int> from) { to = *from; };
        int to = 0;
        f(to, std::make_unique<int>(9));
        CHECK(to == 9);
        Function<std::string(std::string &&)> g = [](std::string&& s) { return std::move(s) + "!"; };
        CHECK(g("a string too long to be kept inside the object itself") == "a string too long to be kept inside the object itself!");
    }
    SECTION("a result that converts, or none") {
        Function<long()> f = [] { return 3; };
        CHECK(f() == 3);
        int called = 0;
        Function<void()> g = [&] { return ++called; };
        g();
        CHECK(called == 1);
    }
    SECTION("what can only be moved") {
        Function<int()> f = [p = std::make_unique<int>(6)] { return *p; };
        Function<int()> g = std::move(f);
        CHECK(g() == 6);
    }
    SECTION("what is aligned further than a pointer") {
        Function<int()> several[] = {Aligned(), Aligned(), Aligned(), Aligned()};  // side by side, not all can lie right by chance
        for (auto& f : several) CHECK(f() == 1);
        const Function<int()> moved = std::move(several[0]);
        CHECK(moved);
    }
}

TEST_CASE("Function can be empty") {
    Function<void()> none;
    CHECK_FALSE(none);
    CHECK_FALSE(Function<int(int)>(static_cast<int (*)(int)>(nullptr)));
    Function<int(int)> f = twice;
    CHECK(f);
    Function<int(int)> g = std::move(f);
    CHECK_FALSE(f);
    CHECK(g);
    g = Function<int(int)>();
    CHECK_FALSE(g);
}

TEMPLATE_TEST_CASE("Function moves and destroys what it holds once, inside and on the heap", "", Counted<1>, Counted<100>) {
    TestType::alive = 0;
    {
        Function<int()> f = TestType();
        CHECK(TestType::alive == 1);
        CHECK(f() == 1);
        Function<int()> g = std::move(f);
        CHECK(TestType::alive == 1);
        CHECK(g() == 2);
        f = std::move(g);
        CHECK(TestType::alive == 1);
        CHECK(f() == 3);
        Function<int()>& itself = f;
        f = std::move(itself);
        CHECK(f() == 4);
        f = TestType();  // replaces
        CHECK(TestType::alive == 1);
        CHECK(f() == 1);
        f = [] { return 0; };
        CHECK(TestType::alive == 0);
        const TestType original;
        f = original;  // copies
        CHECK(TestType::alive == 2);
    }
    CHECK(TestType::alive == 0);
}

TEST_CASE("Function keeps every byte of what fits inside") {
    const std::array<std::uint64_t, 3> three{1, 2, 3};
    Function<std::uint64_t(std::size_t)> f = [three](std::size_t i) { return three[i]; };
    Function<std::uint64_t(std::size_t)> g = std::move(f);
    for (std::size_t i = 0; i < 3; ++i) CHECK(g(i) == i + 1);
    const std::array<std::uint64_t, 4> four{4, 5, 6, 7};
    f = [four](std::size_t i) { return four[i]; };
    g = std::move(f);
    for (std::size_t i = 0; i < 4; ++i) CHECK(g(i) == i + 4);
}

TEST_CASE("Function is called by its own signature alone") {
    STATIC_REQUIRE_FALSE(std::is_convertible_v<Function<void()>*, rejoin::detail::Callable*>);
    STATIC_REQUIRE_FALSE(std::is_constructible_v<rejoin::detail::Callable, Function<void()>>);
    STATIC_REQUIRE_FALSE(std::is_assignable_v<Function<void()>&, Function<void(int)>>);
    STATIC_REQUIRE_FALSE(std::is_copy_constructible_v<Function<void()>>);
    STATIC_REQUIRE(std::is_nothrow_move_constructible_v<Function<void()>>);
}

TEST_CASE("Delegate calls a member of an object that it does not own") {
    struct Thing {
        int sum = 0;
        void add(int n) { sum += n; }
        void subtract(int n) { sum -= n; }
    } thing, other;
    CHECK_FALSE(Delegate<void(int)>());
    auto add = Delegate<void(int)>::to<&Thing::add>(&thing);
    REQUIRE(add);
    add(5);
    const auto copy = add;
    copy(2);
    CHECK(thing.sum == 7);
    add = Delegate<void(int)>::to<&Thing::subtract>(&other);
    add(1);
    CHECK(other.sum == -1);
    CHECK(thing.sum == 7);
    STATIC_REQUIRE(sizeof(add) == 2 * sizeof(void*));
}
