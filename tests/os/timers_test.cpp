// SPDX-License-Identifier: BSL-1.0
#include <deque>
#include <map>
#include <rejoin/core/random.hpp>
#include <rejoin/os/timers.hpp>

#include "catch.hpp"

using rejoin::Delegate;
using rejoin::Random;
using rejoin::TimePoint;
using rejoin::TimerHeap;

namespace {

struct Timer {
    Timer() : entry(Delegate<void()>::to<&Timer::due>(this)) {}
    void due() { ++calls; }
    int calls = 0;
    TimerHeap::Entry entry;
};

TimePoint at(std::int64_t n) { return TimePoint::from_nanoseconds(n); }

}  // namespace

TEST_CASE("An empty heap has nothing due") {
    TimerHeap heap;
    Timer timer;
    CHECK(heap.size() == 0);
    CHECK(heap.first() == TimePoint::never());
    CHECK(heap.take_due(TimePoint::never()) == nullptr);
    CHECK_FALSE(timer.entry.armed());
    CHECK(heap.when(timer.entry) == TimePoint::never());
    heap.cancel(timer.entry);
    CHECK(heap.size() == 0);
}

TEST_CASE("A timer is due at its moment, not before") {
    TimerHeap heap;
    Timer timer;
    REQUIRE(heap.set(timer.entry, at(10)));
    CHECK(timer.entry.armed());
    CHECK(heap.take_due(at(9)) == nullptr);
    CHECK(heap.take_due(at(10)) == &timer.entry);
    CHECK_FALSE(timer.entry.armed());
    timer.entry.due();
    CHECK(timer.calls == 1);
}

TEST_CASE("The heap agrees with a sorted map over random arming, moving, cancelling and taking") {
    const auto seed = GENERATE(1u, 2u, 3u, 4u, 5u);
    CAPTURE(seed);
    Random random(seed);
    TimerHeap heap;
    std::deque<Timer> timers(500);
    std::map<TimerHeap::Entry*, TimePoint> model;
    const auto earliest = [&] {
        TimePoint first = TimePoint::never();
        for (const auto& [entry, when] : model) first = std::min(first, when);
        return first;
    };
    for (int step = 0; step < 4000; ++step) {
        TimerHeap::Entry& entry = timers[random.below(timers.size())].entry;
        switch (random.below(5)) {
            case 0:
            case 1:
            case 2: {
                const TimePoint when = at(static_cast<std::int64_t>(random.below(1000)));  // many fall together
                REQUIRE(heap.set(entry, when));
                model[&entry] = when;
                break;
            }
            case 3:
                heap.cancel(entry);
                model.erase(&entry);
                break;
            default: {
                const TimePoint now = at(static_cast<std::int64_t>(random.below(1000)));
                TimerHeap::Entry* taken = heap.take_due(now);
                REQUIRE((taken != nullptr) == (earliest() <= now && !model.empty()));
                if (taken == nullptr) break;
                REQUIRE(model.at(taken) == earliest());
                REQUIRE_FALSE(taken->armed());
                model.erase(taken);
            }
        }
        REQUIRE(heap.size() == model.size());
        REQUIRE(heap.first() == earliest());
        REQUIRE(entry.armed() == (model.count(&entry) == 1));
        REQUIRE(heap.when(entry) == (entry.armed() ? model.at(&entry) : TimePoint::never()));
    }
    TimePoint last;
    while (TimerHeap::Entry* entry = heap.take_due(TimePoint::never())) {
        REQUIRE(model.at(entry) >= last);
        last = model.at(entry);
        model.erase(entry);
    }
    CHECK(model.empty());
}
