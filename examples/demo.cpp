// SPDX-License-Identifier: BSL-1.0
// A game server, a player, and a saboteur between them who breaks their connections, in one program.
#include <charconv>
#include <cstring>

#if defined(__linux__)
#include "demo/netlab.hpp"
#endif
#if defined(_WIN32)
#include <io.h>
#else
#include <unistd.h>
#endif

#include "demo/saboteur.hpp"
#include "demo/score.hpp"

namespace {

constexpr const char usage[] =
    "usage: demo [--cuts N] [--seed N] [--netlab]\n"
    "\n"
    "A player and a game server talk both ways without a pause, while a saboteur between them\n"
    "breaks their connections. Ends with a table, and with status 0 when no byte was lost,\n"
    "repeated, reordered or altered.\n"
    "\n"
    "  --cuts N   how many cuts: 1 to 1000000 (default 100, with --netlab 15)\n"
    "  --seed N   make the choices that a run made which printed this seed\n"
    "  --netlab   as root: on real links between two network namespaces, where uplinks,\n"
    "             addresses and gateways change\n"
    "  --help     this text\n";

// One line that is drawn anew on a terminal, and a line now and then elsewhere.
class Progress {
public:
    explicit Progress(std::uint64_t total) : total_(total) {}

    void show(std::uint64_t done, const rejoin::Statistics& s) {
        if (!terminal_ && done * 10 / total_ == shown_) return;
        shown_ = done * 10 / total_;
        char bar[31] = {};
        for (std::uint64_t i = 0; i < 30; ++i) bar[i] = i < done * 30 / total_ ? '#' : '.';
        std::printf("%s[%s] %" PRIu64 "/%" PRIu64 " cuts, %.1f MB up, %.1f MB down%s", terminal_ ? "\r" : "", bar, done, total_,
                    static_cast<double>(s.bytes_sent - s.bytes_unacknowledged) / 1e6, static_cast<double>(s.bytes_received) / 1e6,
                    terminal_ ? " " : "\n");
        std::fflush(stdout);
    }

private:
    const std::uint64_t total_;
#if defined(_WIN32)
    const bool terminal_ = ::_isatty(1) != 0;
#else
    const bool terminal_ = ::isatty(1) == 1;
#endif
    std::uint64_t shown_ = UINT64_MAX;
};

int sabotage(std::uint64_t cuts, std::uint64_t seed) {
    using rejoin::Duration;
    std::puts(
        "Tuned for the demo: silence is noticed after 200 ms (by default, 3 s) and a player comes\n"
        "back without a long pause, however often it has to (by default, there is a retry budget).");
    rejoin::ResumablePipe::Options playing;
    playing.transport.liveness_interval = playing.transport.suspect_after = Duration::milliseconds(100);
    playing.transport.dead_after = playing.handshake_timeout = Duration::milliseconds(200);
    playing.recovery.backoff_base = Duration::milliseconds(5);
    playing.recovery.backoff_cap = Duration::milliseconds(50);
    playing.recovery.budget = INT32_MAX;
    playing.give_up_after = Duration::seconds(30);
    Server::Listener::Options serving;
    serving.pipe.transport = playing.transport;

    rejoin::Loop loop;
    Server server(loop, serving);
    Player player(loop, playing);
    if (auto listening = server.listen({"127.0.0.1", 0}); !listening) {
        std::puts(describe(classify(listening.error(), rejoin::Stage::listening)).c_str());
        return 1;
    }
    Saboteur saboteur(loop, server.endpoint(), seed, [&] { return player.pipe.local_endpoint(); });
    rejoin::Random random(~seed);
    Score score(sabotage_names);
    Progress progress(cuts);

    saboteur.on_strike = [&](Sabotage kind, bool rejoining) {
        score.cut(static_cast<std::size_t>(kind), rejoining, player, loop.now());
        if (score.cuts == cuts) saboteur.rest();
    };
    player.on_data = [&] {
        if (!score.over(player, loop.now())) return;
        if (score.cuts == cuts) return player.pipe.close();
        loop.after(random.between(Duration(), Duration::milliseconds(40)), [&] { saboteur.strike(); });
    };
    rejoin::Function<void()> draw = [&] {
        progress.show(score.cuts, player.pipe.statistics());
        loop.after(Duration::milliseconds(100), [&] { draw(); });
    };
    player.play(saboteur.endpoint());
    loop.after(Duration::milliseconds(50), [&] { saboteur.strike(); });
    draw();
    const rejoin::TimePoint start = loop.now();
    static_cast<void>(loop.run());
    progress.show(score.cuts, player.pipe.statistics());
    std::printf("\n%.1f s.\n\n", Score::milliseconds(loop.now() - start) / 1000);
    return score.print(player, server) && score.cuts == cuts ? 0 : 1;
}

bool number(const char* text, std::uint64_t low, std::uint64_t high, std::uint64_t& value) {
    if (text == nullptr) return false;
    const auto [end, error] = std::from_chars(text, text + std::strlen(text), value);
    return error == std::errc() && *end == 0 && value >= low && value <= high;
}

}  // namespace

int main(int argc, char** argv) {
    bool on_links = false;
    std::uint64_t cuts = 0;
    std::byte random[4] = {};
    static_cast<void>(rejoin::entropy(random));
    std::uint64_t seed = rejoin::load_big<std::uint32_t>(random);
    for (int i = 1; i < argc; ++i) {
        const rejoin::TextView option = argv[i];
        if (option == "--help") return std::fputs(usage, stdout) < 0;
        if (option == "--netlab") {
            on_links = true;
        } else if (!(option == "--cuts" && number(argv[++i], 1, 1'000'000, cuts)) &&
                   !(option == "--seed" && number(argv[++i], 0, UINT64_MAX, seed))) {
            std::fputs(usage, stderr);
            return 2;
        }
    }
    std::printf("Seed %" PRIu64 ".\n", seed);
#if defined(__linux__)
    if (on_links) return netlab::run(cuts == 0 ? 15 : cuts, seed);
#else
    if (on_links) return std::puts("real links are made on Linux alone"), 2;
#endif
    return sabotage(cuts == 0 ? 100 : cuts, seed);
}
