// SPDX-License-Identifier: BSL-1.0
#include <cstdio>

#include "catch.hpp"
#include "seeds.hpp"
#include "session_world.hpp"

TEST_CASE("a hostile network loses, repeats and reorders nothing") {
    const auto [first, count] = sim::Seeds();
    sim::Tally all;
    for (std::uint64_t seed = first; seed < first + count; ++seed) {
        INFO("again: REJOIN_SEED=" << seed);
        sim::World world(seed);
        all.add(world.run());
    }
    const auto n = [](std::uint64_t v) { return static_cast<unsigned long long>(v); };
    std::printf(
        "%llu runs, %llu outages: %llu resets, %llu noticed late by one side, %llu by one side only, %llu by none, %llu of all links\n",
        n(count), n(all.all_outages()), n(all.outages[0]), n(all.outages[1]), n(all.outages[2]), n(all.outages[3]), n(all.outages[4]));
    std::printf("%llu stalls, %llu stopped processes, %llu changes of network, %llu restarts of the server, %llu recordings replayed\n",
                n(all.stalls), n(all.stops), n(all.roams), n(all.restarts), n(all.ghosts));
    std::printf(
        "%llu resumes, %llu with bytes to skip; %llu bytes, %llu sent again; %llu sessions unknown to a server that had to forget\n",
        n(all.resumes), n(all.skipped), n(all.bytes), n(all.replayed), n(all.unknown));
    std::printf("bytes lost, repeated or reordered: 0\n");
    if (count >= sim::Seeds::many) REQUIRE(all.all_outages() >= 100'000);
}

TEST_CASE("the same seed gives the same run") {
    for (std::uint64_t seed : {7u, 8u, 9u}) {
        const std::uint64_t digest = sim::World(seed).run().digest;
        REQUIRE(sim::World(seed).run().digest == digest);
    }
}
