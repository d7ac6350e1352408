// SPDX-License-Identifier: BSL-1.0
#include <rejoin/network/wake_watch.hpp>
#include <vector>

#include "catch.hpp"
#include "os/until.hpp"

using namespace rejoin;

namespace {

TimePoint at(std::int64_t milliseconds) { return TimePoint() + Duration::milliseconds(milliseconds); }

// The clocks of a host that a test puts to sleep.
std::int64_t awake_ms, asleep_ms, held_up_ms;
TimePoint monotonic() { return at(awake_ms); }
TimePoint boottime() {
    const TimePoint now = at(awake_ms + asleep_ms);
    awake_ms += held_up_ms;
    return now;
}

struct Ear {
    void hear(const NetworkChange& change) {
        REQUIRE(change.kind == NetworkChange::Kind::woke);
        REQUIRE(change.early);
        REQUIRE(change.settled);
        slept.push_back(change.slept.milliseconds());
    }
    std::vector<std::int64_t> slept;
    NetworkObserver observer{Delegate<void(const NetworkChange&)>::to<&Ear::hear>(this)};
};

}  // namespace

TEST_CASE("wake: a sleep is how much more one clock has run than the other, and counts once") {
    WakeDetector detector;
    REQUIRE(detector.look(at(5'000), at(90'000)) == Duration());  // what was before is not known
    REQUIRE(detector.look(at(6'000), at(91'000)) == Duration());
    REQUIRE(detector.look(at(6'001), at(3'691'001)) == Duration::seconds(3600));
    REQUIRE(detector.look(at(6'001), at(3'691'001)) == Duration());
    REQUIRE(detector.look(at(7'000), at(3'693'000)) == Duration::seconds(1));
    REQUIRE(detector.look(at(8'000), at(3'694'000)) == Duration());
}

TEST_CASE("wake: less than a second is no sleep, however often it comes, and a clock set back is none") {
    WakeDetector detector;
    std::int64_t ahead = 0;
    for (int i = 0; i < 100; ++i) REQUIRE(detector.look(at(i), at(i + (ahead += 999))) == Duration());
    REQUIRE(detector.look(at(100), at(0)) == Duration());
    REQUIRE(detector.look(at(101), at(1)) == Duration());
}

TEST_CASE("wake: observers are told once of each sleep, at the next look") {
    Loop loop;
    ChangeFeed feed(loop);
    Ear ear;
    feed.observe(ear.observer);
    awake_ms = 1'000, asleep_ms = 50'000, held_up_ms = 0;
    WakeWatch watch(loop, feed, {}, &boottime, &monotonic);
    watch.look();
    REQUIRE(ear.slept.empty());
    asleep_ms += 7'250;
    watch.look();
    watch.look();
    REQUIRE(ear.slept == std::vector<std::int64_t>{7'250});

    // Held up between the clocks, it does not take that for a sleep, then or later; and a real one is not forgotten.
    held_up_ms = 30'000;
    watch.look();
    held_up_ms = 0;
    watch.look();
    REQUIRE(ear.slept.size() == 1);
    held_up_ms = 30'000;
    asleep_ms += 2'000;
    watch.look();
    held_up_ms = 0;
    REQUIRE(ear.slept.size() == 1);
    watch.look();
    REQUIRE(ear.slept == std::vector<std::int64_t>{7'250, 2'000});
}

#if !defined(_WIN32)
TEST_CASE("wake: the system's clocks agree while the host is awake") {
    WakeDetector detector;
    for (int i = 0; i < 1000; ++i) REQUIRE(detector.look(monotonic_now(), boottime_now()) == Duration());
    const TimePoint before = boottime_now();
    REQUIRE((before <= boottime_now()));
}
#endif
