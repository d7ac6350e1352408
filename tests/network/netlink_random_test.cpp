// SPDX-License-Identifier: BSL-1.0
// Netlink under many changes: nothing is missed, nothing is told twice, and what cancels itself is noise.
#if defined(__linux__)
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <rejoin/core/random.hpp>
#include <rejoin/network/netlink.hpp>
#include <rejoin/network/polling.hpp>
#include <set>
#include <string>
#include <vector>

#include "catch.hpp"
#include "os/until.hpp"

using namespace rejoin;
using Kind = NetworkChange::Kind;

namespace {

bool run(const std::string& command) { return std::system(command.c_str()) == 0; }

// Runs `check` in a process of its own, on a host with two uplinks, v0 and w0, whose other ends are v1 and w1.
template <class Check>
bool on_host(Check check) {
    const pid_t child = fork();
    if (child == 0) {
        bool made = unshare(CLONE_NEWNET) == 0 && run("ip link set lo up");
        for (const std::string n : {"v", "w"})
            made = made &&
                   run("ip link add " + n + "0 type veth peer name " + n + "1 && ip link set " + n + "0 addrgenmode none && ip link set " +
                       n + "1 addrgenmode none && ip link set " + n + "1 up && ip link set " + n + "0 up");
        made = made &&
               run("ip addr add 192.0.2.7/24 dev v0 && ip addr add 198.51.100.7/24 dev w0 && ip -6 addr add 2001:db8::7/64 dev v0 nodad");
        const bool right = made && check();
        std::fflush(stdout);
        _exit(right ? 0 : 1);
    }
    int status = 1;
    return waitpid(child, &status, 0) == child && status == 0;
}

// The network as somebody knows it who was told of every change and never looked.
class Told {
public:
    explicit Told(const NetworkState& start) {
        diff(NetworkState(), start, [&](const NetworkChange& change) { take(change); });
    }
    void take(const NetworkChange& change) {
        const std::pair address{change.interface_index, std::string(to_text(change.address).c_str())};
        bool& up = up_[change.interface_index];
        bool& carrier = carrier_[change.interface_index];
        bool& route = route_[change.family == Family::v6];
        switch (change.kind) {
            case Kind::interface_added:
                flip(there_[change.interface_index], true);
                break;
            case Kind::interface_removed:
                flip(there_[change.interface_index], false), up = carrier = false;
                break;
            case Kind::interface_up:
                flip(up, true);
                break;
            case Kind::interface_down:
                flip(up, false), carrier = false;
                break;
            case Kind::carrier_up:
                flip(carrier, true);
                break;
            case Kind::carrier_down:
                flip(carrier, false);
                break;
            case Kind::address_added:
                consistent = consistent && addresses_.insert(address).second;
                break;
            case Kind::address_removed:
                consistent = consistent && addresses_.erase(address) == 1, usable_.erase(address);
                break;
            case Kind::address_usable:
                consistent = consistent && usable_.insert(address).second;
                break;
            case Kind::address_unusable:
                consistent = consistent && usable_.erase(address) == 1;
                break;
            case Kind::address_deprecated:
                consistent = consistent && usable_.count(address) == 1;
                break;
            case Kind::route_added:
                flip(route, true), paths_[change.family == Family::v6] = path(change);
                break;
            case Kind::route_removed:
                flip(route, false), paths_[change.family == Family::v6] = {};
                break;
            case Kind::route_changed: {
                std::string& was = paths_[change.family == Family::v6];
                consistent = consistent && route && was != path(change);
                was = path(change);
                break;
            }
            default:
                break;
        }
        if (!consistent && wrong_.empty()) wrong_ = describe(change).c_str();
    }
    bool same_as(const Told& other) const {
        return there_ == other.there_ && up_ == other.up_ && carrier_ == other.carrier_ && addresses_ == other.addresses_ &&
               usable_ == other.usable_ && paths_[0] == other.paths_[0] && paths_[1] == other.paths_[1];
    }
    const std::string& wrong() const { return wrong_; }
    bool consistent = true;  // nothing was told that was so already

private:
    void flip(bool& what, bool to) {
        consistent = consistent && what != to;
        what = to;
    }
    static std::string path(const NetworkChange& c) {
        return std::to_string(c.interface_index) + " " + to_text(c.gateway).c_str() + " " + to_text(c.address).c_str();
    }
    std::map<std::uint32_t, bool> there_, up_, carrier_;
    std::set<std::pair<std::uint32_t, std::string>> addresses_, usable_;
    bool route_[2] = {};
    std::string paths_[2];
    std::string wrong_;
};

struct Observed {
    Observed() : told(network.state()) { network.observe(observer); }
    void hear(const NetworkChange& change) {
        if (change.early) ++early, told.take(change);
        if (change.settled) settled.push_back(describe(change).c_str());
    }
    Loop loop;
    Netlink& network = Netlink::of(loop);
    Told told;
    int early = 0;
    std::vector<std::string> settled;
    NetworkObserver observer{Delegate<void(const NetworkChange&)>::to<&Observed::hear>(this)};
};

// What the system says to one who asks now: everything read anew, and by another way.
bool same_as_system(const NetworkState& known) {
    Loop loop;
    bool same = true;
    diff(known, Netlink::of(loop).state(), [&](const NetworkChange& change) {
        std::printf("the system says: %s\n", describe(change).c_str());
        same = false;
    });
    diff(known, Polling::of(loop).state(), [&](const NetworkChange& change) {
        if (change.kind == Kind::route_changed) return;  // it knows no gateways
        std::printf("asked in another way, it says: %s\n", describe(change).c_str());
        same = false;
    });
    return same;
}

std::string random_change(Random& random) {
    const char* const links[] = {"v0", "w0"};
    const std::string link = links[random.below(2)], other = link == "v0" ? "v1" : "w1";
    const std::string gateway = link == "v0" ? "192.0.2." : "198.51.100.";
    const std::string n = std::to_string(random.below(4) + 8);
    switch (random.below(10)) {
        case 0:
            return "link set " + link + " down";
        case 1:
        case 2:
            return "link set " + link + " up";
        case 3:
            return "link set " + other + (random.below(3) == 0 ? " down" : " up");
        case 4:
            return "addr add " + gateway + n + "/24 dev " + link;
        case 5:
            return "addr del " + gateway + n + "/24 dev " + link;
        case 6:
            return "addr replace 2001:db8::" + n + "/64 nodad dev " + link;
        case 7:
            return "addr del 2001:db8::" + n + "/64 dev " + link;
        case 8:
            return "route replace default via " + gateway + n + " dev " + link + " metric " + std::to_string(random.below(3) + 1);
        default:
            return "route del default dev " + link;
    }
}

bool random_changes(std::uint64_t seed, int count, bool overruns) {
    Random random(seed);
    Observed host;
    if (overruns)  // as small as the kernel allows: a handful of messages
        for (int fd = 3; fd < 64; ++fd) {
            sockaddr_nl address{};
            socklen_t size = sizeof address;
            const int tiny = 1;
            if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0 && address.nl_family == AF_NETLINK &&
                address.nl_groups != 0)
                setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &tiny, sizeof tiny);
        }
    for (int done = 0; done < count;) {
        // Of one burst nothing is read before the end, so that with a small buffer most of it is lost.
        FILE* const ip = popen("ip -force -batch - >/dev/null 2>&1", "w");
        if (ip == nullptr) return false;
        const int burst = overruns ? 60 : 1 + static_cast<int>(random.below(5));
        for (int i = 0; i < burst; ++i, ++done) std::fprintf(ip, "%s\n", random_change(random).c_str());
        if (pclose(ip) < 0) return false;
        for (int turns = static_cast<int>(random.below(4)); turns > 0; --turns)
            static_cast<void>(host.loop.run_once(Duration::milliseconds(2)));
    }
    // What follows from the last change, a look at the routes up to 100 ms later, is through when the system agrees.
    const bool agreed = until(host.loop, [&] {
        Loop fresh;
        bool same = true;
        diff(host.network.state(), Netlink::of(fresh).state(), [&](const NetworkChange&) { same = false; });
        return same;
    });
    const bool right =
        agreed && same_as_system(host.network.state()) && host.told.consistent && host.told.same_as(Told(host.network.state()));
    if (!right) std::printf("seed %llu: told twice: \"%s\"\n", static_cast<unsigned long long>(seed), host.told.wrong().c_str());
    return right && host.early > 0;
}

}  // namespace

TEST_CASE("netlink: of 1,000 random changes nothing is missed and nothing told twice", "[netlab]") {
    REQUIRE(on_host([] { return random_changes(1, 1000, false); }));
}

TEST_CASE("netlink: of 1,000 random changes of which most messages are lost, each difference that is left is told once", "[netlab]") {
    REQUIRE(on_host([] { return random_changes(2, 1000, true); }));
}

TEST_CASE("netlink: 10,000 changes that are none are not told as settled", "[netlab]") {
    REQUIRE(on_host([] {
        // A busy machine may hold the one up who makes the changes, for longer than what then counts as settled: once more, then.
        for (int attempt = 0; attempt < 20; ++attempt) {
            Observed host;
            FILE* const ip = popen("ip -force -batch - >/dev/null 2>&1", "w");
            if (ip == nullptr) return false;
            TimePoint last = monotonic_now();
            bool held_up = false;
            const auto pause = [&] {
                static_cast<void>(host.loop.run_once(Duration()));
                const TimePoint now = monotonic_now();
                held_up = held_up || now - last > Duration::milliseconds(300);
                last = now;
            };
            for (int i = 0; i < 5000; ++i) {
                std::fprintf(ip, "addr replace 192.0.2.7/24 dev v0 valid_lft %d preferred_lft %d\n", 5000 + i, 4000 + i);
                if (i % 50 == 0) {
                    std::fflush(ip);
                    pause();
                }
            }
            for (int i = 0; i < 2480; ++i) {
                std::fprintf(ip, "addr add 192.0.2.99/24 dev v0\naddr del 192.0.2.99/24 dev v0\n");
                if (i % 20 == 0) {
                    std::fflush(ip);
                    pause();
                }
            }
            for (int i = 0; i < 20; ++i) {
                std::fprintf(ip, "link set w1 down\nlink set w1 up\n");
                std::fflush(ip);
                pause();
            }
            std::fprintf(ip, "addr replace 192.0.2.7/24 dev v0 valid_lft forever preferred_lft forever\n");
            if (pclose(ip) < 0) return false;
            pause();
            if (!host.loop.run_for(ChangeFeed::settle_time * 2)) return false;
            // They did happen. On a busy machine messages are lost, and what is read again instead shows no difference.
            if (host.early < 500) return false;
            if (host.settled.empty()) return true;
            if (!held_up) {
                for (const std::string& what : host.settled) std::printf("settled: %s\n", what.c_str());
                return false;
            }
        }
        return false;
    }));
}
#endif
