// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/time.hpp>

namespace rejoin::inline v0_1 {

/// What a recovery policy wants done after a failure.
struct Action {
    enum class Kind : std::uint8_t {
        retry_after,       ///< try again after `delay`; zero is now
        try_next,          ///< try the next address of the name at once; with no next one left, the first again after `delay`
        wait_for_network,  ///< no timer: try again when the network has changed for the better
        give_up,           ///< the pipe is closed with this failure
    };
    Kind kind = Kind::give_up;
    Duration delay;

    static constexpr Action retry_after(Duration d) { return {Kind::retry_after, d}; }
    static constexpr Action try_next(Duration d) { return {Kind::try_next, d}; }
    static constexpr Action wait_for_network() { return {Kind::wait_for_network, {}}; }
    static constexpr Action give_up() { return {Kind::give_up, {}}; }
    friend constexpr bool operator==(const Action&, const Action&) = default;
};

}  // namespace rejoin::inline v0_1
