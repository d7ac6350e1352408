// SPDX-License-Identifier: BSL-1.0
#include <rejoin/policies.hpp>
#include <rejoin/recovery/fail_fast.hpp>

#include "catch.hpp"

using rejoin::Action;
using rejoin::Duration;
using rejoin::FailFast;
using rejoin::Failure;
using rejoin::FailureKind;
using rejoin::Stage;

static_assert(rejoin::RecoveryPolicy<FailFast>);
static_assert(std::is_empty_v<FailFast>);

TEST_CASE("FailFast tries each address of a name once, and takes every other failure for the end") {
    FailFast policy({}, 1);
    for (int kind = 1; kind <= static_cast<int>(FailureKind::other); ++kind)
        for (int stage = 0; stage <= static_cast<int>(Stage::listening); ++stage) {
            const Failure failure{static_cast<FailureKind>(kind), static_cast<Stage>(stage), {}};
            CAPTURE(describe(failure).c_str());
            const Action action = policy.decide(failure, {}, {});
            if (failure.stage == Stage::connecting && failure.kind != FailureKind::cancelled)
                CHECK(action == Action::try_next(Duration::unlimited()));
            else
                CHECK(action == Action::give_up());
        }
}
