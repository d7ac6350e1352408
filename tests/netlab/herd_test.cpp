// SPDX-License-Identifier: BSL-1.0
#include "herd.hpp"
#include "conversation.hpp"

namespace {

using namespace netlab;

// bench/outages has a thousand, and the time that they may take.
void restarted_after(rejoin::Duration pause) {
    constexpr std::uint32_t size = 200;
    Herd herd(size);
    REQUIRE(herd.all_talk());
    const TimePoint killed = rejoin::monotonic_now();
    herd.restart_server(pause);
    REQUIRE(herd.all_talk());
    const Herd::Arrivals arrivals = herd.arrivals_since(killed);
    std::printf("%u clients back after %.1f s, %zu connections, at most %zu in 100 ms\n", size,
                static_cast<double>((rejoin::monotonic_now() - killed).nanoseconds()) / 1e9, arrivals.all, arrivals.most_in_100_ms);
    REQUIRE(arrivals.all >= size);
    REQUIRE(arrivals.most_in_100_ms <= 30);
}

TEST_CASE("a server that is killed and restarted is not run over by those who come back", "[netlab]") {
    restarted_after(rejoin::Duration::milliseconds(500));
}

TEST_CASE("a server that is back at once is not run over either", "[netlab]") { restarted_after({}); }

}  // namespace
