// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/handoff/luggage.hpp>
#include <rejoin/os/socket.hpp>

namespace rejoin::inline v0_1::handoff {

/// What moves as one thing: a live socket and what belongs to it. Move-only.
struct Parcel : Luggage {
    /// None where a session without a connection moves.
    Socket socket;
};

}  // namespace rejoin::inline v0_1::handoff
