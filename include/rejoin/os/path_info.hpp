// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/time.hpp>

namespace rejoin::inline v0_1 {

/// What the kernel knows of a TCP connection's path (TCP_INFO).
struct PathInfo {
    bool known = false;                 ///< false where the system does not tell
    std::uint32_t in_flight = 0;        ///< segments sent that the peer's kernel has not acknowledged
    std::uint32_t retransmits = 0;      ///< retransmissions of the oldest of them, none answered
    std::uint32_t probes = 0;           ///< probes of a closed window or a quiet connection, none answered
    std::uint32_t segments_sent = 0;    ///< in all
    std::uint32_t segments_resent = 0;  ///< of these, how many were sent before
    Duration since_ack;                 ///< since the peer's kernel last acknowledged anything

    /// Whether the peer's kernel answers, be the peer's program stopped or its buffers full: nothing that went out in the last `d` (or
    /// before) waits for it, or it acknowledged something within `d`. One unanswered probe of a closed window is ordinary.
    bool acknowledges(Duration d) const { return known && ((in_flight == 0 && probes < 2) || since_ack <= d); }
};

}  // namespace rejoin::inline v0_1
