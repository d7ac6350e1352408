// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/state.hpp>
#include <rejoin/recovery/action.hpp>
#include <rejoin/recovery/failure.hpp>

namespace rejoin::inline v0_1 {

/// A recovery policy that has none: every address of a name is tried once, and the first break is the end.
class FailFast {
public:
    struct Options {};
    FailFast(const Options&, std::uint64_t) {}

    Action decide(const Failure& failure, const NetworkState&, TimePoint) {
        const bool another_may_do = failure.stage == Stage::connecting && failure.kind != FailureKind::cancelled;
        // The pipe gives up where there is no next address: the delay is never waited for.
        return another_may_do ? Action::try_next(Duration::unlimited()) : Action::give_up();
    }
};

}  // namespace rejoin::inline v0_1
