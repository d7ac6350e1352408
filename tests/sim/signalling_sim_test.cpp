// SPDX-License-Identifier: BSL-1.0
#include "signalling_world.hpp"

#include <cstdio>

#include "seeds.hpp"

TEST_CASE("brokers that lose, repeat, reorder, delay, lie and die neither lose nor repeat a message") {
    const sim::Seeds seeds(3);
    sim::SignallingTally all;
    for (std::uint64_t seed = seeds.first; seed < seeds.first + seeds.count; ++seed) {
        INFO("again: REJOIN_SEED=" << seed);
        const sim::SignallingTally one = sim::SignallingWorld(seed).run();
        all.messages += one.messages;
        all.delivered += one.delivered;
        all.failed += one.failed;
        all.copies += one.copies;
        all.lost += one.lost;
        all.repeated += one.repeated;
        all.changed += one.changed;
        all.replayed += one.replayed;
        all.restarts += one.restarts;
        all.sent_again += one.sent_again;
        all.duplicates += one.duplicates;
        all.refused += one.refused;
    }
    const auto n = [](std::uint64_t v) { return static_cast<unsigned long long>(v); };
    std::printf("%llu runs, %llu messages: %llu delivered, %llu expired; %llu sent again; %llu duplicates and %llu others dropped\n",
                n(seeds.count), n(all.messages), n(all.delivered), n(all.failed), n(all.sent_again), n(all.duplicates), n(all.refused));
    std::printf("brokers: %llu copies, %llu lost, %llu repeated, %llu changed, %llu replayed, %llu deaths and returns\n", n(all.copies),
                n(all.lost), n(all.repeated), n(all.changed), n(all.replayed), n(all.restarts));
}

TEST_CASE("the same seed gives the same signalling") {
    for (std::uint64_t seed : {7u, 8u, 9u}) {
        const std::uint64_t digest = sim::SignallingWorld(seed).run().digest;
        REQUIRE(sim::SignallingWorld(seed).run().digest == digest);
    }
}
