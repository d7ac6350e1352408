// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <vector>

#include "game.hpp"

/// How long each cut kept the data away, and what the two ends found.
class Score {
public:
    explicit Score(std::span<const char* const> kinds) : kinds_(kinds), times_(kinds.size()), rejoining_(kinds.size()) {}

    /// A cut, just now. It is over when data that were sent after it have reached both programs.
    void cut(std::size_t kind, bool rejoining, const Player& player, rejoin::TimePoint now) {
        const rejoin::Statistics s = player.pipe.statistics();
        open_.push_back({kind, now, s.bytes_sent, s.bytes_received + window});
        rejoining_[kind] += rejoining ? 1 : 0;
        ++cuts;
    }
    /// Whether this ended every cut that was open.
    bool over(const Player& player, rejoin::TimePoint now) {
        if (open_.empty()) return false;
        const rejoin::Statistics s = player.pipe.statistics();
        if (s.bytes_sent - s.bytes_unacknowledged <= open_.back().sent || s.bytes_received <= open_.back().received) return false;
        for (const Cut& cut : open_) {
            last = now - cut.at;
            times_[cut.kind].push_back(last);
        }
        open_.clear();
        return true;
    }

    std::uint64_t cuts = 0;
    rejoin::Duration last;  ///< how long the last one took

    /// Prints the table. True when every byte arrived, once and in order, in one game.
    bool print(const Player& player, const Server& server) {
        if (player.end || !server.moves) {
            std::printf("The pipe is closed: %s.\n", describe(player.end).c_str());
            return false;
        }
        std::printf("%-24s %6s  %15s  %19s  %10s\n", "", "cuts", "while rejoining", "data again, median", "worst");
        for (std::size_t k = 0; k < kinds_.size(); ++k) {
            auto& times = times_[k];
            if (times.empty()) continue;
            std::sort(times.begin(), times.end());
            std::printf("%-24s %6zu  %15d  %16.1f ms  %7.1f ms\n", kinds_[k], times.size(), rejoining_[k],
                        milliseconds(times[times.size() / 2]), milliseconds(times.back()));
        }
        const stream::Receiver &up = *server.moves, &down = player.world;
        std::printf("\n%-24s %20s  %20s\n", "bytes", "player to server", "server to player");
        row("sent", player.moves.count().bytes(), server.world->count().bytes());
        row("received", up.count().bytes(), down.count().bytes());
        row("lost", up.lost, down.lost);
        row("repeated", up.repeated, down.repeated);
        row("reordered", up.reordered, down.reordered);
        row("altered", up.altered, down.altered);
        std::printf("%-24s     %016" PRIx64 "      %016" PRIx64 "\n", "running hash, sender", player.moves.count().hash,
                    server.world->count().hash);
        std::printf("%-24s     %016" PRIx64 "      %016" PRIx64 "\n", "running hash, receiver", up.count().hash, down.count().hash);

        const rejoin::Statistics s = player.pipe.statistics();
        std::printf("\n%" PRIu64 " connections, %" PRIu64 " resumes, %" PRIu64
                    " bytes sent again by the player, %.1f s without a connection.\n",
                    s.connections, s.resumes, s.bytes_replayed, milliseconds(s.without_connection) / 1000);
        std::printf("The server started %" PRIu64 " game%s. Over plain TCP it would have started %" PRIu64 ".\n", server.games,
                    server.games == 1 ? "" : "s", s.connections);
        const auto faults = [](const stream::Receiver& r) { return r.lost + r.repeated + r.reordered + r.altered; };
        return player.moves.count() == up.count() && server.world->count() == down.count() && faults(up) == 0 && faults(down) == 0 &&
               server.games == 1;
    }

    static double milliseconds(rejoin::Duration d) { return static_cast<double>(d.microseconds()) / 1000; }

private:
    // What one end keeps for replay at most: so much may have been on its way to the player when the cut came.
    static constexpr std::size_t window = rejoin::session::Options().replay_limit;

    static void row(const char* what, std::uint64_t up, std::uint64_t down) {
        std::printf("%-24s %20" PRIu64 "  %20" PRIu64 "\n", what, up, down);
    }

    struct Cut {
        std::size_t kind;
        rejoin::TimePoint at;
        std::uint64_t sent, received;  // what is beyond these is newer than the cut
    };
    std::span<const char* const> kinds_;
    std::vector<Cut> open_;
    std::vector<std::vector<rejoin::Duration>> times_;
    std::vector<int> rejoining_;
};
