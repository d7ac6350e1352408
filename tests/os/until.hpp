// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/loop.hpp>

/// Runs the loop until `done()` says so; false when that takes longer than any busy machine needs.
template <class Condition>
bool until(rejoin::Loop& loop, Condition done) {
    const rejoin::TimePoint end = rejoin::monotonic_now() + rejoin::Duration::seconds(60);
    while (!done())
        if (rejoin::monotonic_now() > end || !loop.run_once(rejoin::Duration::milliseconds(100))) return false;
    return true;
}

/// Handles everything that is ready now, and what follows from it at once.
inline void settle(rejoin::Loop& loop) {
    for (int i = 0; i < 20; ++i) static_cast<void>(loop.run_once(rejoin::Duration()));
}
