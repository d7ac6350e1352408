// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sched.h>
#include <unistd.h>

#include <future>
#include <string>
#include <thread>

#include "score.hpp"

/// The game on real links, between two network namespaces with two uplinks:
///
///     player                              server
///     cable 10.1.0.2 ---------- 10.1.0.1, 10.1.0.254
///     radio 10.2.0.2 ---------- 10.2.0.1, 10.2.0.254     10.9.0.1
///
/// Each namespace belongs to a thread, and goes with it.
namespace netlab {

enum Happening { uplink_down, other_address, other_gateway, other_uplink, all_down };
inline constexpr const char* happenings[] = {"uplink down", "address change", "gateway change", "change of uplink", "all links down, 1 s"};

/// Has ip(8) do it, in the calling thread's namespace.
inline bool ip(const std::string& lines) {
    std::FILE* batch = ::popen("ip -batch -", "w");
    if (batch == nullptr) return false;
    std::fputs(lines.c_str(), batch);
    return ::pclose(batch) == 0;
}

/// The player's uplinks.
class Uplinks {
public:
    /// Makes them; their far ends go to the namespace of thread `far`.
    bool make(pid_t far) {
        std::string lines = "link set lo up\n";
        for (const Link& link : links_) {
            lines += "link add " + link.name + " type veth peer name far-" + link.name + " netns " + std::to_string(far) + "\n";
            lines += "link set " + link.name + " addrgenmode none\n" + up(link);
        }
        return ip(lines + routes());
    }
    /// What the server's namespace does for them.
    static bool meet() {
        return ip(
            "link set lo up\naddress add 10.9.0.1/32 dev lo\n"
            "address add 10.1.0.1/24 dev far-cable\naddress add 10.1.0.254/24 dev far-cable\nlink set far-cable up\n"
            "address add 10.2.0.1/24 dev far-radio\naddress add 10.2.0.254/24 dev far-radio\nlink set far-radio up\n");
    }

    bool happen(Happening what) {
        Link& used = links_[used_];
        switch (what) {
            case uplink_down:
                return ip("link set " + used.name + " down\n");
            case other_address: {
                const std::string old = "address del " + used.net + used.host + "/24 dev " + used.name + "\n";
                used.host = used.host == "2" ? "3" : "2";
                return ip(old + up(used) + routes());
            }
            case other_gateway:
                used.gateway = used.gateway == "1" ? "254" : "1";
                return ip(routes());
            case other_uplink:
                used_ = 1 - used_;
                return ip(routes());
            case all_down:
                return ip("link set cable down\nlink set radio down\n");
        }
        return false;
    }
    /// Brings back what is down.
    bool mend() { return ip(up(links_[0]) + up(links_[1]) + routes()); }

private:
    struct Link {
        std::string name, net, host = "2", gateway = "1";
    };
    static std::string up(const Link& link) {
        return "link set " + link.name + " up\naddress replace " + link.net + link.host + "/24 dev " + link.name + "\n";
    }
    std::string routes() const {
        std::string lines;
        for (std::size_t i = 0; i < 2; ++i)
            lines += "route replace default via " + links_[i].net + links_[i].gateway + " dev " + links_[i].name + " metric " +
                     (i == used_ ? "100" : "200") + "\n";
        return lines;
    }

    Link links_[2] = {{"cable", "10.1.0."}, {"radio", "10.2.0."}};
    std::size_t used_ = 0;
};

inline int run(std::uint64_t cuts, std::uint64_t seed) {
    using rejoin::Duration;
    // The server's end: a thread with a loop and a namespace of its own.
    rejoin::Loop far;
    std::optional<Server> server;
    std::promise<pid_t> far_thread;
    std::thread far_end([&] {
        const bool apart = ::unshare(CLONE_NEWNET) == 0;
        far_thread.set_value(apart ? ::gettid() : 0);
        static_cast<void>(far.run());
    });
    const auto finish = [&] {
        static_cast<void>(far.post([&far] { far.stop(); }));
        far_end.join();
    };
    Uplinks uplinks;
    const pid_t there = far_thread.get_future().get();
    if (there == 0 || ::unshare(CLONE_NEWNET) != 0 || !uplinks.make(there)) {
        finish();
        std::puts("--netlab makes network namespaces and links: it needs root, and ip(8) from the package iproute2.");
        return 77;
    }
    std::promise<rejoin::Endpoint> listening;
    static_cast<void>(far.post([&] {
        server.emplace(far);
        static_cast<void>(Uplinks::meet() && server->listen({"10.9.0.1", 0}));
        listening.set_value(server->endpoint());
    }));
    const rejoin::Endpoint endpoint = listening.get_future().get();

    // The player's end, which the rest happens to.
    rejoin::Loop loop;
    Player player(loop);
    Score score(happenings);
    rejoin::Random random(seed);
    const rejoin::TimePoint start = loop.now();
    Happening order[] = {uplink_down, other_address, other_gateway, other_uplink, all_down};
    const auto say = [&](rejoin::TextView text) {
        std::printf("%8.3f s  %.*s\n", Score::milliseconds(loop.now() - start) / 1000, static_cast<int>(text.size()), text.data());
        std::fflush(stdout);
    };
    const auto next = [&] {
        if (score.cuts == cuts) return player.pipe.close();
        // Each once, in any order, and then each once again.
        const std::size_t at = score.cuts % std::size(order);
        std::swap(order[at], order[at + random.below(std::size(order) - at)]);
        const Happening what = order[at];
        std::puts("");
        say(rejoin::Description("==== ").append(happenings[what]));
        score.cut(what, false, player, loop.now());
        static_cast<void>(uplinks.happen(what));
        if (what == all_down) loop.after(Duration::seconds(1), [&] { static_cast<void>(uplinks.mend()); });
    };
    player.on_data = [&] {
        if (!score.over(player, loop.now())) return;
        say(rejoin::Description("==== data again after ").append_number(score.last.milliseconds()).append(" ms"));
        // What is down comes back, and then there is quiet for a moment: one thing at a time.
        loop.after(Duration::milliseconds(200), [&] { static_cast<void>(uplinks.mend()); });
        loop.after(Duration::milliseconds(600), next);
    };
    player.pipe.on_network_change([&](const rejoin::NetworkChange& change) { say(describe(change)); }, rejoin::Notice::at_once);
    player.pipe.on_state([&](rejoin::PipeState state, const rejoin::Failure& why) { say(describe(state, why)); });
    player.play(endpoint);
    loop.after(Duration::milliseconds(300), next);
    static_cast<void>(loop.run());
    finish();
    std::puts("");
    return score.print(player, *server) ? 0 : 1;
}

}  // namespace netlab
