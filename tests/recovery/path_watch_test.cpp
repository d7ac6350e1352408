// SPDX-License-Identifier: BSL-1.0
#include <rejoin/recovery/path_watch.hpp>

#include "catch.hpp"

using rejoin::Duration;
using rejoin::PathInfo;
using rejoin::PathWatch;
using rejoin::TimePoint;
using Verdict = PathWatch::Verdict;

namespace {

const TimePoint start = TimePoint::from_nanoseconds(1'000'000'000'000);
constexpr Duration ms(int n) { return Duration::milliseconds(n); }

PathInfo info(std::uint32_t in_flight, std::uint32_t retransmits, std::uint32_t sent = 0, std::uint32_t resent = 0) {
    PathInfo i;
    i.known = true;
    i.in_flight = in_flight;
    i.retransmits = retransmits;
    i.segments_sent = sent;
    i.segments_resent = resent;
    return i;
}

}  // namespace

TEST_CASE("a path is suspect at the second retransmission of what nobody acknowledges, and not at the first") {
    PathWatch watch;
    CHECK(watch.look(info(1, 0), start) == Verdict::fine);
    CHECK(watch.look(info(1, 1), start) == Verdict::fine);
    CHECK(watch.look(info(1, 2), start) == Verdict::suspect);
    CHECK(watch.look(info(9, 5), start) == Verdict::suspect);
    CHECK(watch.look(info(0, 2), start) == Verdict::fine);
    PathInfo unknown = info(1, 2);
    unknown.known = false;
    CHECK(watch.look(unknown, start) == Verdict::fine);
}

TEST_CASE("a path is lossy when over two seconds and twenty segments every seventh had to be sent again") {
    PathWatch watch;
    CHECK(watch.look(info(1, 0, 1000, 900), start) == Verdict::fine);  // what was before does not count
    CHECK(watch.look(info(1, 0, 1100, 1000), start + ms(1999)) == Verdict::fine);
    CHECK(watch.look(info(1, 0, 1019, 919), start + ms(2000)) == Verdict::fine);
    CHECK(watch.look(info(1, 0, 1020, 903), start + ms(2001)) == Verdict::lossy);
    CHECK(watch.look(info(1, 0, 1120, 917), start + ms(4001)) == Verdict::fine);  // each stretch by itself
    CHECK(watch.look(info(1, 0, 1220, 932), start + ms(6001)) == Verdict::lossy);
    watch.restart();
    CHECK(watch.look(info(1, 0, 30, 30), start + ms(9000)) == Verdict::fine);
    watch.restart(start + ms(10'000));
    CHECK(watch.look(info(1, 0, 100, 100), start + ms(9999)) == Verdict::fine);
    CHECK(watch.look(info(1, 2, 100, 100), start + ms(9999)) == Verdict::suspect);
    CHECK(watch.look(info(1, 0, 200, 200), start + ms(10'000)) == Verdict::fine);
    CHECK(watch.look(info(1, 0, 300, 300), start + ms(12'000)) == Verdict::lossy);
    // Counters that begin anew at their end.
    PathWatch round;
    CHECK(round.look(info(1, 0, UINT32_MAX, 0), start) == Verdict::fine);
    CHECK(round.look(info(1, 0, 99, 1), start + ms(2000)) == Verdict::fine);
    CHECK(round.look(info(1, 0, 199, 16), start + ms(4000)) == Verdict::lossy);
}
