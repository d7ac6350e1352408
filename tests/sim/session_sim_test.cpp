// SPDX-License-Identifier: BSL-1.0
#include <cstdio>
#include <cstdlib>

#include "catch.hpp"
#include "session_world.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
#define SLOW 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW 1
#endif
#endif

// REJOIN_SEEDS says how many runs there are, REJOIN_SEED runs one again.
TEST_CASE("a hostile network loses, repeats and reorders nothing") {
    const char* const one = std::getenv("REJOIN_SEED");
    const char* const many = std::getenv("REJOIN_SEEDS");
#ifdef SLOW
    const std::uint64_t usual = 300;  // an eighth, as they take so much longer
#else
    const std::uint64_t usual = 2'400;
#endif
    const std::uint64_t first = one != nullptr ? std::strtoull(one, nullptr, 10) : 1;
    const std::uint64_t count = one != nullptr ? 1 : many != nullptr ? std::strtoull(many, nullptr, 10) : usual;
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
    if (count >= 2'400) REQUIRE(all.all_outages() >= 100'000);
}

TEST_CASE("the same seed gives the same run") {
    for (std::uint64_t seed : {7u, 8u, 9u}) {
        const std::uint64_t digest = sim::World(seed).run().digest;
        REQUIRE(sim::World(seed).run().digest == digest);
    }
}
