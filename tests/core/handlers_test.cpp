// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <rejoin/core/handlers.hpp>
#include <string>
#include <vector>

#include "catch.hpp"

using rejoin::Function;
using rejoin::HandlerId;
using rejoin::Handlers;

TEST_CASE("Handlers are called in the order in which they were added") {
    Handlers<int> handlers;
    std::string calls;
    CHECK(handlers.empty());
    CHECK(handlers(1));
    CHECK(handlers.add(1, [&](int n) { calls += "a" + std::to_string(n); }));
    CHECK(handlers.add(2, [&](int n) { calls += "b" + std::to_string(n); }));
    CHECK_FALSE(handlers.empty());
    CHECK(handlers(7));
    CHECK(calls == "a7b7");
    CHECK(handlers.remove(1));
    CHECK_FALSE(handlers.remove(1));
    CHECK_FALSE(handlers.remove(0));
    CHECK_FALSE(handlers.remove(3));
    CHECK(handlers(8));
    CHECK(calls == "a7b7b8");
    CHECK(handlers.remove(2));
    CHECK(handlers.empty());
    CHECK(handlers.add(4, [&](int) { calls += "c"; }));  // the end of the list was found again
    CHECK(handlers(9));
    CHECK(calls == "a7b7b8c");
}

TEST_CASE("Handlers refuse an empty callable") {
    Handlers<> handlers;
    CHECK_FALSE(handlers.add(1, {}));
    CHECK_FALSE(handlers.add(1, static_cast<void (*)()>(nullptr)));
    CHECK(handlers.empty());
}

TEST_CASE("Each handler gets the same arguments") {
    Handlers<std::string, int&> handlers;
    std::string seen;
    for (HandlerId id : {1U, 2U})
        handlers.add(id, [&](std::string text, int& count) {
            seen += std::exchange(text, "");
            ++count;
        });
    int count = 0;
    CHECK(handlers("x", count));
    CHECK(seen == "xx");
    CHECK(count == 2);
}

// Ten handlers, of which the one at `at` does something. `captured` is what it holds, and it must be able to use it to its end.
TEST_CASE("A handler may do anything to the list that runs it, at every position") {
    const int at = GENERATE(range(0, 10)), target = GENERATE(range(0, 10));
    const int what = GENERATE(range(0, 5));
    CAPTURE(at, target, what);
    auto handlers = std::make_unique<Handlers<>>();
    const auto captured = std::make_shared<int>(0);
    std::vector<int> calls;
    const auto id = [](int n) { return static_cast<HandlerId>(n + 1); };
    for (int i = 0; i < 10; ++i) {
        REQUIRE(handlers->add(id(i), [&, i, captured] {
            calls.push_back(i);
            if (i != at) return;
            switch (what) {
                case 0:  // removes one, itself included
                    handlers->remove(id(target));
                    break;
                case 1:  // removes all
                    for (int n = 0; n < 10; ++n) handlers->remove(id(n));
                    break;
                case 2:  // adds one, and removes one
                    handlers->add(id(99), [&, captured] { calls.push_back(99); });
                    handlers->remove(id(target));
                    break;
                case 3:  // removes one and destroys the list
                    handlers->remove(id(target));
                    handlers.reset();
                    break;
                case 4:  // removes one, calls all the others in its midst, once
                    if (handlers->remove(id(target))) (*handlers)();
                    break;
            }
            ++*captured;
        }));
    }
    const bool alive = (*handlers)();

    std::vector<int> expected;
    std::vector<int> left;
    const auto without = [&](std::initializer_list<int> gone) {
        std::vector<int> all{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
        for (int g : gone) std::erase(all, g);
        return all;
    };
    switch (what) {
        case 0:
        case 2:
            expected = target <= at ? without({}) : without({target});
            left = without({target});
            if (what == 2) left.push_back(99);
            break;
        case 1:
        case 3:
            for (int i = 0; i <= at; ++i) expected.push_back(i);
            break;
        case 4:
            for (int i = 0; i <= at; ++i) expected.push_back(i);
            left = without({target});
            expected.insert(expected.end(), left.begin(), left.end());
            for (int i = at + 1; i < 10; ++i)
                if (i != target) expected.push_back(i);
            break;
    }
    CHECK(calls == expected);
    CHECK(alive == (what != 3));
    CHECK((handlers != nullptr) == (what != 3));
    // Whatever was removed has let go of what it captured; the test holds one more.
    CHECK(captured.use_count() == static_cast<long>(left.size()) + 1);

    if (alive) {
        calls.clear();
        CHECK((*handlers)());
        CHECK(calls == left);  // also when the same handler acts again: its target is gone, and one more waits for the next time
    }
}

TEST_CASE("What a running handler captured lives until it returns") {
    auto handlers = std::make_unique<Handlers<>>();
    std::weak_ptr<int> watch;
    bool alive_to_the_end = false;
    {
        auto captured = std::make_shared<int>(1);
        watch = captured;
        handlers->add(1, [&, captured] {
            SECTION("when it removes itself") { handlers->remove(1); }
            SECTION("when it destroys the list") { handlers.reset(); }
            SECTION("when another call within it destroys the list") {
                handlers->remove(1);
                handlers->add(2, [&] { handlers.reset(); });
                CHECK_FALSE((*handlers)());
            }
            alive_to_the_end = *captured == 1 && !watch.expired();
        });
    }
    (*handlers)();
    CHECK(alive_to_the_end);
    if (handlers) handlers->remove(1);
    CHECK(watch.expired());
}

TEST_CASE("A handler may hold the last reference to the owner of its list") {
    struct Owner {
        Handlers<> handlers;
        int* destroyed;
        explicit Owner(int* d) : destroyed(d) {}
        ~Owner() { ++*destroyed; }
    };
    int destroyed = 0, others = 0;
    auto owner = std::make_shared<Owner>(&destroyed);
    Owner* const raw = owner.get();
    raw->handlers.add(1, [&others] { ++others; });
    SECTION("and let go of it by removing itself while it runs") {
        raw->handlers.add(2, [owner] { owner->handlers.remove(2); });
        raw->handlers.add(3, [&others] { ++others; });
        owner.reset();
        CHECK_FALSE(raw->handlers());  // says that the owner is gone
        CHECK(others == 2);
    }
    SECTION("and be removed from outside") {
        raw->handlers.add(2, [owner] {});
        owner.reset();
        CHECK(raw->handlers.remove(2));
    }
    CHECK(destroyed == 1);
}

TEST_CASE("What a removed handler captured may change the list as it is destroyed") {
    struct AtEnd {
        std::function<void()> act;
        explicit AtEnd(std::function<void()> a) : act(std::move(a)) {}
        ~AtEnd() { act(); }
    };
    Handlers<> handlers;
    std::string calls;
    handlers.add(1, [&, end = std::make_unique<AtEnd>([&] {
                            calls += "-1";
                            handlers.remove(2);
                            handlers.add(3, [&] { calls += "+3"; });
                        })] {
        calls += "+1";
        handlers.remove(1);
    });
    handlers.add(2, [&, end = std::make_unique<AtEnd>([&] { calls += "-2"; })] { calls += "+2"; });
    CHECK(handlers());
    CHECK(calls == "+1+2-1-2");
    CHECK(handlers());
    CHECK(calls == "+1+2-1-2+3");
}

TEST_CASE("Calls within calls, at random, do what a simple model does") {
    // Each handler, when called, takes the next few steps of one random script: add, remove, or call the list once more.
    for (unsigned seed = 1; seed <= 300; ++seed) {
        CAPTURE(seed);
        std::mt19937 random(seed);
        std::optional<Handlers<>> handlers(std::in_place);
        std::vector<HandlerId> model;
        HandlerId next = 1;
        int depth = 0, steps = 0;
        const auto captured = std::make_shared<int>();  // by each handler that is there
        bool destroyed = false;
        std::vector<std::vector<HandlerId>> expected;  // of each call under way: who is still to come

        std::function<void()> call;
        const auto add = [&] {
            const HandlerId id = next++;
            REQUIRE(handlers->add(id, [&, id, captured] {
                const HandlerId self = id;  // on the stack: the list may be gone before the last REQUIRE
                auto& due = expected.back();
                REQUIRE_FALSE(due.empty());
                REQUIRE(due.front() == self);
                due.erase(due.begin());
                call();
            }));
            model.push_back(id);
        };
        const auto remove = [&](HandlerId id) {
            REQUIRE(handlers->remove(id) == (std::erase(model, id) == 1));
            for (auto& due : expected) std::erase(due, id);
        };
        call = [&] {
            for (int n = static_cast<int>(random() % 4); n > 0 && !destroyed && steps < 500; --n) {
                ++steps;
                const auto dice = random() % 100;
                if (dice < 40) {
                    add();
                } else if (dice < 75) {
                    remove(static_cast<HandlerId>(random() % next));
                } else if (dice < 98 && depth < 6) {
                    ++depth;
                    expected.push_back(model);
                    const bool alive = (*handlers)();
                    REQUIRE(alive == !destroyed);
                    if (alive) REQUIRE(expected.back().empty());
                    expected.pop_back();
                    --depth;
                } else if (dice == 99 && seed % 2 == 0) {
                    handlers.reset();
                    destroyed = true;
                }
            }
        };
        while (steps < 500 && !destroyed) {
            call();
            REQUIRE(static_cast<std::size_t>(captured.use_count()) == 1 + (destroyed ? 0 : model.size()));
        }
        if (!destroyed) REQUIRE(handlers->empty() == model.empty());
    }
}
