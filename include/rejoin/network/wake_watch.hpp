// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/feed.hpp>
#include <rejoin/os/clock.hpp>
#include <rejoin/os/loop.hpp>

namespace rejoin::inline v0_1 {

/// Sees from two clocks that the host was asleep: one stands still meanwhile, and the other goes on. Pure.
class WakeDetector {
public:
    /// Less is no sleep: the clocks are not read at the same moment, and may drift. No connection breaks of it either.
    static constexpr Duration threshold = Duration::seconds(1);

    /// Takes both clocks' present time; returns how long the host has slept since the last look, or zero if it has not. Each sleep is
    /// returned once. The first look only begins.
    Duration look(TimePoint monotonic, TimePoint boottime) {
        const Duration ahead = boottime - monotonic;
        const Duration slept = begun_ ? ahead - ahead_ : Duration();
        begun_ = true;
        ahead_ = ahead;
        return slept < threshold ? Duration() : slept;
    }

private:
    Duration ahead_;  // how much the one clock was ahead of the other at the last look
    bool begun_ = false;
};

/// Tells the observers of `feed` that the host `woke`, once for each sleep: at the owner's `look`, or by a timer of its own, which is the
/// only one of a source on an idle network. Belongs to the loop's thread.
class WakeWatch {
public:
    using Clock = TimePoint (*)();

    /// Seldom enough to cost nothing, and as late as a wake-up without any other sign is noticed.
    static constexpr Duration interval = Duration::seconds(10);

    /// `tick` is called after each look by the timer, for what the owner has to look at from time to time. The clocks are those of the
    /// system but in tests.
    WakeWatch(Loop& loop, ChangeFeed& feed, Delegate<void()> tick = {}, Clock boottime = &boottime_now, Clock monotonic = &monotonic_now)
        : feed_(feed), timer_(loop, Delegate<void()>::to<&WakeWatch::due>(this)), tick_(tick), boottime_(boottime), monotonic_(monotonic) {
        look();
        timer_.after(interval);
    }

    /// Call it before anything else is handled: the first message after a sleep is then told after the wake-up. Costs three readings of
    /// a clock.
    [[gnu::cold]] void look() {
        const TimePoint before = monotonic_();
        const TimePoint boottime = boottime_();
        const TimePoint after = monotonic_();
        // Held up in between (by a debugger, or a busy machine), the two do not belong together.
        if (after - before > WakeDetector::threshold / 4) return;
        NetworkChange change;
        change.kind = NetworkChange::Kind::woke;
        change.major = true;  // what slept with it has timed out elsewhere
        change.slept = detector_.look(after, boottime);
        if (change.slept > Duration()) feed_.publish(change);
    }

private:
    [[gnu::cold]] void due() {
        timer_.after(interval);
        look();
        if (tick_) tick_();
    }

    ChangeFeed& feed_;
    Loop::Timer timer_;
    Delegate<void()> tick_;
    Clock boottime_, monotonic_;
    WakeDetector detector_;
};

}  // namespace rejoin::inline v0_1
