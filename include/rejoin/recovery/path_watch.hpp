// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/path_info.hpp>
#include <utility>

namespace rejoin::inline v0_1 {

/// Judges the path of one connection by what the kernel says of it from time to time. Pure.
class PathWatch {
public:
    enum class Verdict : std::uint8_t {
        fine,
        suspect,  ///< the same segment had to be sent again twice, and nothing came back
        lossy,    ///< it works, and loses so much that another path is worth a try
    };

    /// So many segments sent again, of so many, in a stretch of at least `stretch`: TCP's throughput is down to a tenth and less by then.
    static constexpr std::uint32_t lossy_percent = 15;
    static constexpr std::uint32_t segments_min = 20;
    static constexpr Duration stretch = Duration::seconds(2);

    Verdict look(const PathInfo& info, TimePoint now) {
        if (!info.known) return Verdict::fine;
        if (info.in_flight > 0 && info.retransmits >= 2) return Verdict::suspect;
        if (now < began_) return Verdict::fine;
        const std::uint32_t sent = info.segments_sent - sent_, again = info.segments_resent - resent_;
        if (counting_ && (now - began_ < stretch || sent < segments_min)) return Verdict::fine;
        const bool lossy = std::exchange(counting_, true) && again * 100 >= sent * lossy_percent;
        began_ = now;
        sent_ = info.segments_sent;
        resent_ = info.segments_resent;
        return lossy ? Verdict::lossy : Verdict::fine;
    }
    /// Begins anew, for the next connection; loss does not count before `not_before`.
    void restart(TimePoint not_before = {}) {
        *this = {};
        began_ = not_before;
    }

private:
    TimePoint began_;
    std::uint32_t sent_ = 0;
    std::uint32_t resent_ = 0;
    bool counting_ = false;
};

}  // namespace rejoin::inline v0_1
