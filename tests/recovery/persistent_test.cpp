// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <list>
#include <optional>
#include <rejoin/policies.hpp>
#include <rejoin/recovery/persistent.hpp>
#include <vector>

#include "catch.hpp"

using rejoin::Action;
using rejoin::Duration;
using rejoin::Errc;
using rejoin::Error;
using rejoin::Failure;
using rejoin::NetworkState;
using rejoin::Persistent;
using rejoin::Stage;
using rejoin::TimePoint;
using Kind = rejoin::FailureKind;

static_assert(rejoin::RecoveryPolicy<Persistent>);

namespace {

constexpr Duration ms(int n) { return Duration::milliseconds(n); }
constexpr Duration seconds(int n) { return Duration::seconds(n); }
const TimePoint start = TimePoint::from_nanoseconds(1'000'000'000'000);

enum class Net { unknown, online, offline };
NetworkState network(Net net) {
    NetworkState state;
    state.known = net != Net::unknown;
    state.route[1].present = net == Net::online;
    return state;
}
const NetworkState unknown = network(Net::unknown);
const NetworkState offline = network(Net::offline);
const NetworkState online = network(Net::online);

Failure failure(Kind kind, Stage stage) { return {kind, stage, {}}; }

const Persistent::Options defaults;

// G: give up. N: again now. B: again after a pause. T: the next address, or again after a pause. W: wait for the network. ?: none of these.
char letter(const Action& action, const Persistent::Options& options = defaults) {
    const bool pause = action.delay >= options.backoff_base && action.delay <= options.backoff_cap;
    switch (action.kind) {
        case Action::Kind::give_up:
            return 'G';
        case Action::Kind::wait_for_network:
            return 'W';
        case Action::Kind::try_next:
            return pause ? 'T' : '?';
        case Action::Kind::retry_after:
            return pause ? 'B' : action.delay == Duration() ? 'N' : '?';
    }
    return '?';
}

// The pause after a connect that was refused.
Duration pause(Persistent& policy, TimePoint now) { return policy.decide(failure(Kind::refused, Stage::connecting), online, now).delay; }

}  // namespace

TEST_CASE("What is done depends on what failed, at which stage, and on the network") {
    // Stages from left to right: resolving, connecting, handshaking, resuming, established, listening.
    static constexpr struct {
        Kind kind;
        const char* with_network;  // or with one that nothing is known of
        const char* offline;
    } rows[] = {
        {Kind::none, "BTBBBB", "BTBBBB"},
        {Kind::refused, "BTBBBB", "BTBBBB"},
        {Kind::timed_out, "BTBBBB", "BTBBBB"},
        {Kind::no_route, "BTBBBB", "WWWWWW"},
        {Kind::unreachable, "BTBBBB", "BTBBBB"},
        {Kind::reset, "BTBBNB", "BTBBNB"},
        {Kind::ended, "BTBBNB", "BTBBNB"},
        {Kind::unresponsive, "BTBBNB", "BTBBNB"},
        {Kind::address_unavailable, "BTBBBB", "BTBBBB"},
        {Kind::address_lost, "BTBBNB", "BTBBNB"},
        {Kind::address_in_use, "BTBBBB", "BTBBBB"},
        {Kind::forbidden, "BTBBBB", "BTBBBB"},
        {Kind::exhausted, "BTBBBB", "BTBBBB"},
        {Kind::name_unknown, "GTBBBB", "WWWWWW"},
        {Kind::name_service, "BTBBBB", "WWWWWW"},
        {Kind::protocol, "GGGBGG", "GGGBGG"},
        {Kind::session_unknown, "GGGGGG", "GGGGGG"},
        {Kind::session_refused, "BTBBBB", "BTBBBB"},
        {Kind::overloaded, "BBBBBB", "BBBBBB"},
        {Kind::redirected, "BTBBBB", "BTBBBB"},
        {Kind::session_expired, "GGGGGG", "GGGGGG"},
        {Kind::session_aborted, "GGGGGG", "GGGGGG"},
        {Kind::fenced, "BTBBNB", "BTBBNB"},
        {Kind::cancelled, "GGGGGG", "GGGGGG"},
        {Kind::invalid, "GGGGGG", "GGGGGG"},
        {Kind::other, "BTBBBB", "BTBBBB"},
    };
    REQUIRE(std::size(rows) == static_cast<std::size_t>(Kind::other) + 1);
    for (const auto& row : rows)
        for (int stage = 0; stage <= static_cast<int>(Stage::listening); ++stage)
            for (Net net : {Net::unknown, Net::online, Net::offline}) {
                const Failure why = failure(row.kind, static_cast<Stage>(stage));
                CAPTURE(describe(why).c_str(), static_cast<int>(net));
                Persistent policy(defaults, 1);
                CHECK(letter(policy.decide(why, network(net), start)) == (net == Net::offline ? row.offline : row.with_network)[stage]);
            }
}

TEST_CASE("A stranger in the server's place does not end a session, another version of the server does") {
    Persistent policy(defaults, 1);
    policy.connected(start);
    CHECK(letter(policy.decide({Kind::protocol, Stage::resuming, Errc::malformed}, online, start)) == 'B');
    CHECK(letter(policy.decide({Kind::protocol, Stage::resuming, Errc::proof_invalid}, online, start)) == 'B');
    CHECK(letter(policy.decide({Kind::protocol, Stage::resuming, Errc::version_mismatch}, online, start)) == 'G');
}

TEST_CASE("What the system calls a mistake is tried again, what rejoin calls one is not") {
    Persistent policy(defaults, 1);
    CHECK(letter(policy.decide({Kind::invalid, Stage::connecting, Error::system(4711)}, online, start)) == 'T');
    CHECK(letter(policy.decide({Kind::invalid, Stage::connecting, Errc::invalid_argument}, online, start)) == 'G');
}

TEST_CASE("A name that was once known is looked up again when it is not") {
    Persistent policy(defaults, 1);
    policy.connected(start);
    CHECK(letter(policy.decide(failure(Kind::name_unknown, Stage::resolving), online, start)) == 'B');
    CHECK(letter(policy.decide(failure(Kind::name_unknown, Stage::resolving), offline, start)) == 'W');
}

TEST_CASE("Pauses grow, between the base and three times the one before, up to the cap") {
    const auto seed = GENERATE(1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u);
    Persistent policy(defaults, seed);
    Duration previous, longest;
    TimePoint now = start;
    for (int i = 0; i < 200; ++i) {
        const Duration d = pause(policy, now);
        const Duration high = previous == Duration() ? defaults.backoff_base * 3 : std::max(previous * 3, defaults.backoff_base * 3);
        REQUIRE(d >= defaults.backoff_base);
        REQUIRE(d <= std::min(high, defaults.backoff_cap));
        previous = d;
        longest = std::max(longest, d);
        now = now + seconds(100);  // time for the budget
    }
    CHECK(longest > seconds(10));
}

TEST_CASE("Machines that fail together do not come back together") {
    constexpr int machines = 4000;
    std::vector<int> buckets(8);
    std::vector<Duration> pauses;
    for (unsigned seed = 0; seed < machines; ++seed) {
        Persistent policy(defaults, seed * 0x9e3779b97f4a7c15u);
        pauses.push_back(pause(policy, start));
        const std::int64_t part = (pauses.back() - ms(200)).nanoseconds() * 8 / (ms(400).nanoseconds() + 1);
        ++buckets[static_cast<std::size_t>(part)];
    }
    for (int n : buckets) CHECK(std::abs(n - machines / 8) < machines / 40);  // 100 is four and a half standard deviations
    std::sort(pauses.begin(), pauses.end());
    CHECK(std::unique(pauses.begin(), pauses.end()) == pauses.end());
}

TEST_CASE("Options bound the pauses") {
    Persistent::Options options;
    options.backoff_base = ms(3);
    options.backoff_cap = ms(7);
    options.budget = 1'000'000;
    Persistent policy(options, 1);
    Duration shortest = seconds(1), longest;
    for (int i = 0; i < 1000; ++i) {
        const Duration d = pause(policy, start);
        shortest = std::min(shortest, d);
        longest = std::max(longest, d);
    }
    CHECK(shortest >= ms(3));
    CHECK(shortest < ms(4));
    CHECK(longest <= ms(7));
    CHECK(longest > ms(6));
}

TEST_CASE("A peer that fails at once is met with as many attempts as the budget has, and then with as many as it regains") {
    Persistent::Server server;
    Persistent policy(defaults, 1);
    policy.join(server);
    const Failure reset = failure(Kind::reset, Stage::established);
    TimePoint now = start;
    const auto at_once = [&] {
        int n = 0;
        for (;; ++n) {
            const Action action = policy.decide(reset, online, now);
            if (action.delay != Duration()) {
                CHECK(action.kind == Action::Kind::retry_after);
                CHECK(action.delay >= defaults.budget_refill);
                return n;
            }
            policy.connected(now);
        }
    };
    CHECK(at_once() == defaults.budget);
    CHECK(at_once() == 0);
    now = now + defaults.budget_refill * 3;
    CHECK(at_once() == 3);
    now = now + (defaults.budget_refill - ms(1));
    CHECK(at_once() == 0);
    now = now + ms(1);
    CHECK(at_once() == 1);
    now = now + seconds(100'000);  // no more than there were
    CHECK(at_once() == defaults.budget);
}

TEST_CASE("Where a server ends many connections together, those behind them come back one after another") {
    for (Kind kind : {Kind::reset, Kind::ended, Kind::unresponsive}) {
        CAPTURE(static_cast<int>(kind));
        Persistent::Server server;
        std::list<Persistent> policies;
        std::vector<TimePoint> at;
        for (unsigned i = 0; i < 20; ++i) policies.emplace_back(defaults, i).join(server);
        for (Persistent& policy : policies) {  // all within a moment
            CHECK(letter(policy.decide(failure(kind, Stage::established), online, start)) == 'N');
            TimePoint now = start;
            while (!policy.admitted(now)) now = server.next(now);
            at.push_back(now);
        }
        // The first few are not held up, and nobody is where it is the path that is to blame.
        for (std::size_t i = 0; i < 5; ++i) CHECK(at[i] == start);
        CHECK(at[19] == (kind == Kind::unresponsive ? start : start + Persistent::Server::pace * 15));
    }
    // Now and then is not together.
    Persistent::Server server;
    Persistent policy(defaults, 1);
    policy.join(server);
    for (int i = 0; i < 20; ++i) {
        const TimePoint now = start + ms(150) * i;
        CHECK(letter(policy.decide(failure(Kind::reset, Stage::established), online, now)) == 'N');
        CHECK(policy.admitted(now));
        policy.connected(now);
        CHECK(policy.admitted(now));
    }
}

TEST_CASE("Attempts that wait out their pauses are counted too") {
    Persistent::Options options;
    options.budget = 5;
    Persistent::Server server;
    Persistent policy(options, 1);
    policy.join(server);
    for (int i = 0; i < 5; ++i) pause(policy, start);
    CHECK(pause(policy, start) >= options.budget_refill);
}

TEST_CASE("No attempt is burned while there is no network") {
    Persistent::Server server;
    Persistent policy(defaults, 1);
    policy.join(server);
    for (int i = 0; i < 10'000; ++i)
        for (Kind kind : {Kind::no_route, Kind::name_service, Kind::name_unknown})
            REQUIRE(policy.decide(failure(kind, Stage::connecting), offline, start) == Action::wait_for_network());
    CHECK(pause(policy, start) <= defaults.backoff_base * 3);
    for (int i = 1; i < defaults.budget; ++i)
        REQUIRE(letter(policy.decide(failure(Kind::reset, Stage::established), online, start)) == 'N');
}

TEST_CASE("A connection that lasted makes the next break a fresh one, and one that did not does not") {
    const bool lasted = GENERATE(true, false);
    int long_pauses = 0;
    for (unsigned seed = 0; seed < 200; ++seed) {
        Persistent policy(defaults, seed);
        TimePoint now = start;
        for (int i = 0; i < 10; ++i) now = now + pause(policy, now);
        policy.connected(now);
        now = now + (lasted ? defaults.stable_after : defaults.stable_after - ms(1));
        CHECK(letter(policy.decide(failure(Kind::ended, Stage::established), online, now)) == 'N');
        long_pauses += pause(policy, now + seconds(1)) > defaults.backoff_base * 3;
    }
    if (lasted)
        CHECK(long_pauses == 0);
    else
        CHECK(long_pauses > 100);
}

TEST_CASE("Just after a break attempts overlap, and later they take their time") {
    Persistent policy(defaults, 1);
    CHECK(policy.patience(start) == defaults.overlap);  // the first connection too
    policy.decide(failure(Kind::timed_out, Stage::connecting), online, start + seconds(1));
    CHECK(policy.patience(start + (defaults.fresh - ms(1))) == defaults.overlap);
    Duration longest;
    for (int i = 0; i < 20; ++i) {
        const Duration d = policy.patience(start + defaults.fresh);
        CHECK(d >= defaults.backoff_base);
        CHECK(d <= defaults.backoff_cap);
        longest = std::max(longest, d);
    }
    CHECK(longest > defaults.overlap);
    policy.connected(start + seconds(60));
    CHECK(policy.patience(start + seconds(90)) == defaults.overlap);
}

TEST_CASE("A network that is back is tried soon, not by all at the same moment, and with a clean slate") {
    Duration shortest = seconds(1), longest;
    for (unsigned seed = 0; seed < 1000; ++seed) {
        Persistent policy(defaults, seed);
        for (int i = 0; i < 10; ++i) pause(policy, start);
        const Duration d = policy.network_regained(start);
        shortest = std::min(shortest, d);
        longest = std::max(longest, d);
        CHECK(pause(policy, start + seconds(1)) <= defaults.backoff_base * 3);
    }
    CHECK(shortest >= Duration());
    CHECK(shortest < ms(2));
    CHECK(longest <= defaults.regain_jitter);
    CHECK(longest > ms(48));
}

TEST_CASE("While the network settles, attempts follow each other closely and cost nothing") {
    Persistent::Server server;
    Persistent policy(defaults, 1);
    policy.join(server);
    for (int i = 0; i < 10; ++i) pause(policy, start);
    policy.network_changed(start);
    for (int i = 0; i < 1000; ++i)
        for (Kind kind : {Kind::no_route, Kind::unreachable, Kind::address_unavailable, Kind::timed_out}) {
            const Duration d = policy.decide(failure(kind, Stage::connecting), online, start + (defaults.settling - ms(1))).delay;
            REQUIRE(d >= defaults.overlap / 5);
            REQUIRE(d <= defaults.overlap);
        }
    CHECK(policy.patience(start + seconds(1)) == defaults.overlap);
    // What lies with the server is not excused, nor is what comes later.
    Duration longest;
    for (int i = 0; i < 10; ++i) longest = std::max(longest, pause(policy, start));
    CHECK(longest > defaults.overlap * 4);
    longest = Duration();
    for (int i = 0; i < 10; ++i)
        longest = std::max(longest, policy.decide(failure(Kind::unreachable, Stage::connecting), online, start + defaults.settling).delay);
    CHECK(longest > defaults.overlap * 4);
}

TEST_CASE("The pipes to one server share a budget, which leaving and coming again does not fill") {
    Persistent::Options options;
    options.budget = 3;
    Persistent::Server server;
    const auto at_once = [](Persistent& policy) {
        int n = 0;
        while (policy.decide(failure(Kind::reset, Stage::established), online, start).delay == Duration()) ++n;
        return n;
    };
    Persistent first(options, 1);
    first.join(server);
    {
        Persistent second(options, 2);
        second.join(server);
        CHECK(at_once(first) == 6);
        CHECK(at_once(second) == 0);
    }
    CHECK(at_once(first) == 0);
    for (int i = 0; i < 5; ++i) {
        first.leave();
        first.join(server);
        CHECK(at_once(first) == 0);
    }
    // What one who left has spent is not for the others to make good.
    TimePoint now = start + options.budget_refill * 3;
    CHECK(first.decide(failure(Kind::reset, Stage::established), online, now).delay == Duration());
}

TEST_CASE("When a server is down one tries for all, and when it answers they come one by one") {
    using Server = Persistent::Server;
    Server server;
    Persistent one(defaults, 1), other(defaults, 2), third(defaults, 3);
    for (Persistent* p : {&one, &other, &third}) p->join(server);
    for (int i = 1; i < Server::failures_max; ++i) pause(i % 2 == 0 ? one : other, start);
    REQUIRE_FALSE(server.down());
    REQUIRE(other.admitted(start));
    pause(one, start);
    REQUIRE(server.down());
    CHECK(one.admitted(start));
    CHECK_FALSE(other.admitted(start + seconds(1000)));
    CHECK(server.next(start) == TimePoint::never());

    SECTION("the one that tries goes on to another server, or waits for the network") {
        if (GENERATE(true, false))
            one.leave();
        else
            one.decide(failure(Kind::no_route, Stage::connecting), offline, start);
        CHECK(server.next(start) <= start);
        CHECK(other.admitted(start));
        CHECK_FALSE(third.admitted(start));
    }
    SECTION("the server answers") {
        if (GENERATE(true, false))
            one.connected(start);
        else
            one.decide(failure(Kind::session_unknown, Stage::resuming), online, start);
        CHECK_FALSE(server.down());
        TimePoint now = start;
        for (int i = 0; i < 100; ++i) {
            CHECK(server.next(now) <= now);
            REQUIRE((i % 2 == 0 ? other : third).admitted(now));
            REQUIRE_FALSE(one.admitted(now));
            REQUIRE(server.next(now) == now + Server::pace);
            now = now + Server::pace;
        }
        now = now + seconds(2);  // the crowd is in
        for (int i = 0; i < 100; ++i) REQUIRE(other.admitted(now));
    }
    SECTION("what lies with the network does not count") {
        Server another;
        one.join(another);
        for (int i = 0; i < 100; ++i)
            for (Kind kind : {Kind::no_route, Kind::unreachable, Kind::timed_out, Kind::address_unavailable, Kind::name_service})
                one.decide(failure(kind, Stage::connecting), online, start);
        CHECK_FALSE(another.down());
        one.leave();
    }
}

TEST_CASE("A server that asks to be left alone is, by all") {
    Persistent::Server server;
    Persistent one(defaults, 1), other(defaults, 2);
    one.join(server);
    other.join(server);
    Failure busy = failure(Kind::overloaded, Stage::handshaking);
    busy.retry_after_ms = 60'000;
    const Duration d = one.decide(busy, online, start).delay;
    CHECK(d >= seconds(60));
    CHECK(d <= seconds(90));
    CHECK_FALSE(other.admitted(start + (seconds(60) - ms(1))));
    CHECK_FALSE(one.admitted(start + (seconds(60) - ms(1))));
    CHECK(server.next(start) == start + seconds(60));
    CHECK(other.admitted(start + seconds(60)));
    CHECK_FALSE(one.admitted(start + seconds(60)));
    CHECK(one.admitted(start + seconds(60) + Persistent::Server::pace));
    // It may not ask for longer than two minutes.
    busy.retry_after_ms = UINT32_MAX;
    CHECK(one.decide(busy, online, start).delay <= seconds(180));
    CHECK(other.admitted(start + seconds(120)));
}

TEST_CASE("Options at their ends break nothing") {
    Persistent::Options options;
    SECTION("nothing at all") {
        options = {Duration(), Duration(), Duration(), Duration(), 0, Duration(), Duration(), Duration(), Duration()};
        Persistent::Server server;
        Persistent policy(options, 1);
        policy.join(server);
        CHECK(pause(policy, start) == Duration());
        CHECK(policy.patience(start + seconds(1)) == Duration());
        CHECK(policy.network_regained(start) == Duration());
    }
    SECTION("for ever") {
        const Duration ever = Duration::unlimited();
        options = {ever, ever, ever, ever, 1, ever, ever, ever, ever};
        Persistent::Server server;
        Persistent policy(options, 1);
        policy.join(server);
        CHECK(pause(policy, start) == ever);
        CHECK(pause(policy, start) == ever);
        CHECK(policy.patience(start) == ever);
    }
    SECTION("a cap below the base") {
        options.backoff_cap = ms(1);
        Persistent policy(options, 1);
        CHECK(pause(policy, start) == options.backoff_base);
    }
}
