// SPDX-License-Identifier: BSL-1.0
#if !defined(_WIN32)
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <rejoin/core/random.hpp>
#include <rejoin/os/loop.hpp>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "os/system.hpp"
#include "os/until.hpp"

using rejoin::Delegate;
using rejoin::Duration;
using rejoin::Errc;
using rejoin::Error;
using rejoin::Family;
using rejoin::IpAddress;
using rejoin::Loop;
using rejoin::monotonic_now;
using rejoin::Ready;
using rejoin::Socket;
using rejoin::TimePoint;

namespace {

constexpr Duration ms(int n) { return Duration::milliseconds(n); }

struct SocketPair {
    SocketPair() {
        Socket listener = std::move(*Socket::tcp(Family::v4));
        const IpAddress here = IpAddress::v4(127, 0, 0, 1);
        REQUIRE(listener.bind(here, 0));
        REQUIRE(listener.listen(1));
        static_cast<void>(b.connect(here, listener.local_endpoint().port()));
        REQUIRE(wait_for(listener, poll_in));
        a = std::move(*listener.accept());
        REQUIRE(wait_for(b, poll_out));
        b.no_delay();
    }
    void fill() {
        REQUIRE(*b.send(rejoin::TextView("x").bytes()) == 1);
        REQUIRE(wait_for(a, poll_in));
    }
    void drain() {
        std::byte c[16];
        while (auto n = a.receive(c)) {
            if (*n == 0) break;
        }
    }
    Socket a, b = std::move(*Socket::tcp(Family::v4));
};

// The calls below may destroy what calls them: so each is copied first.

// A socket pair and a watch on it.
struct Watched {
    Watched(Loop& loop, std::function<void(Ready)> f) : call(std::move(f)), watch(loop, Delegate<void(Ready)>::to<&Watched::ready>(this)) {
        REQUIRE(watch.start(pair.a.fd(), Ready::readable));
    }
    void ready(Ready what) {
        const auto copy = call;
        copy(what);
    }
    SocketPair pair;
    std::function<void(Ready)> call;
    Loop::Watch watch;
};

struct Timer {
    Timer(Loop& loop, std::function<void()> f) : call(std::move(f)), timer(loop, Delegate<void()>::to<&Timer::due>(this)) {}
    void due() {
        const auto copy = call;
        copy();
    }
    std::function<void()> call;
    Loop::Timer timer;
};

struct Work {
    Work(Loop& loop, std::function<void()> f) : call(std::move(f)), deferred(loop, Delegate<void()>::to<&Work::due>(this)) {}
    void due() {
        const auto copy = call;
        copy();
    }
    std::function<void()> call;
    Loop::Deferred deferred;
};

#if !defined(REJOIN_POLL) && !defined(_WIN32)
// Whether another loop would see that there is something to do.
bool readable(Loop& loop, int timeout = 0) {
    pollfd p{loop.fd(), POLLIN, 0};
    return ::poll(&p, 1, timeout) == 1;
}
#endif

}  // namespace

// ---- Running.

TEST_CASE("run goes on until it is stopped") {
    Loop loop;
    int turns = 0;
    for (int i = 1; i <= 3; ++i)
        loop.after(ms(i), [&] {
            if (++turns == 3) loop.stop();
        });
    REQUIRE(loop.run());
    CHECK(turns == 3);
    REQUIRE(loop.post([&] { loop.stop(); }));
    REQUIRE(loop.run());
}

TEST_CASE("run_for ends when its time is over, or when it is stopped") {
    Loop loop;
    const TimePoint start = monotonic_now();
    REQUIRE(loop.run_for(ms(20)));
    CHECK(monotonic_now() - start >= ms(20));
    REQUIRE(loop.post([&] { loop.stop(); }));
    REQUIRE(loop.run_for(Duration::unlimited()));
    REQUIRE(loop.run_for(Duration()));
    REQUIRE(loop.run_for(Duration::seconds(-1)));
    // Stopped early, it leaves nothing behind that would stop a later run.
    REQUIRE(loop.post([&] { loop.stop(); }));
    REQUIRE(loop.run_for(ms(1)));
    bool done = false;
    loop.after(ms(20), [&] {
        done = true;
        loop.stop();
    });
    REQUIRE(loop.run());
    CHECK(done);
}

TEST_CASE("run_once only looks when it is given no time") {
    Loop loop;
    bool fired = false;
    loop.after(Duration::seconds(20), [&] { fired = true; });
    REQUIRE(loop.run_once(Duration()));
    REQUIRE(loop.run_once(Duration::seconds(-1)));
    REQUIRE_FALSE(fired);
    REQUIRE(loop.run_once(Duration::nanoseconds(INT64_MIN)));
    REQUIRE_FALSE(fired);
}

TEST_CASE("run_once waits for what is to come, but no longer than it may") {
    Loop loop;
    bool fired = false;
    loop.after(ms(5), [&] { fired = true; });
    while (!fired) REQUIRE(loop.run_once());
    const TimePoint start = monotonic_now();
    REQUIRE(loop.run_once(Duration::microseconds(1500)));
    CHECK(monotonic_now() - start >= Duration::microseconds(1500));
}

TEST_CASE("A loop runs once at a time") {
    Loop loop;
    int refused = 0;
    loop.after(Duration(), [&] {
        loop.stop();
        refused += loop.run().error() == Errc::invalid_state;
        refused += loop.run_for(ms(1)).error() == Errc::invalid_state;
        refused += loop.run_once().error() == Errc::invalid_state;
    });
    bool late = false;
    loop.after(Duration::seconds(20), [&] {
        late = true;
        loop.stop();
    });
    REQUIRE(loop.run());
    CHECK(refused == 3);
    CHECK_FALSE(late);  // what was refused has not taken the stop back
}

TEST_CASE("The time of a turn is read once") {
    Loop loop;
    const TimePoint before = monotonic_now();
    CHECK(loop.now() >= before);
    TimePoint seen[2];
    loop.after(Duration(), [&] {
        seen[0] = loop.now();
        while (monotonic_now() == seen[0]) continue;
        seen[1] = loop.now();
        loop.stop();
    });
    REQUIRE(loop.run());
    CHECK(seen[0] >= before);
    CHECK(seen[0] == seen[1]);
    CHECK(loop.now() > seen[0]);
}

#if defined(__linux__)
TEST_CASE("A loop that cannot be made says why, whatever is missing") {
    // In a process of its own, because the limit holds for all of it.
    const pid_t child = ::fork();
    if (child == 0) {
        for (int fd = 3; fd < 1024; ++fd) ::close(fd);
        int missing = 0;
        for (rlim_t left = 0; left < 10; ++left) {
            const rlimit limit{3 + left, 10'000};
            if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) break;
            Loop loop;
            if (!loop.error()) break;
            if (loop.error() != Error::system(EMFILE) || loop.run().error() != loop.error() || loop.run_once().error() != loop.error() ||
                loop.run_for(ms(1)).error() != loop.error() || !loop.post([] {}) || loop.after(ms(1), [] {}) == 0)
                break;
            ++missing;
        }
        ::_exit(missing);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == (rejoin::Poller::has_fd ? 3 : 2));  // of epoll, timerfd and eventfd; or of a pipe's two ends
}
#endif

// ---- Posted calls.

TEST_CASE("Calls posted from many threads all come, in each thread's order") {
    constexpr int threads = 8, calls = 5000;
    Loop loop;
    int last[threads] = {};
    int total = 0;
    bool in_order = true;
    std::vector<std::thread> posters;
    for (int t = 0; t < threads; ++t)
        posters.emplace_back([&, t] {
            for (int i = 1; i <= calls; ++i)
                if (!loop.post([&, t, i] {
                        in_order = in_order && last[t] == i - 1;
                        last[t] = i;
                        if (++total == threads * calls) loop.stop();
                    }))
                    std::abort();
        });
    REQUIRE(loop.run());
    for (std::thread& poster : posters) poster.join();
    CHECK(total == threads * calls);
    CHECK(in_order);
}

TEST_CASE("A call that is posted by a posted call comes in the next turn") {
    Loop loop;
    std::string order;
    REQUIRE(loop.post([&] {
        order += "a";
        REQUIRE(loop.post([&] { order += "c"; }));
    }));
    REQUIRE(loop.post([&] { order += "b"; }));
    REQUIRE(loop.run_once(Duration()));
    CHECK(order == "ab");
    REQUIRE(loop.run_once(Duration()));
    CHECK(order == "abc");
}

TEST_CASE("What a loop did not come to is dropped with it, and never called") {
    auto held = std::make_shared<int>();
    bool called = false;
    {
        Loop loop;
        REQUIRE(loop.post([held, &called] { called = true; }));
        REQUIRE(loop.after(Duration(), [held, &called] { called = true; }) != 0);
        // What a dropped call owns may itself belong to the loop.
        auto timer = std::make_shared<Timer>(loop, [] {});
        timer->timer.after(ms(1));
        REQUIRE(loop.post([timer] {}));
        REQUIRE(loop.after(Duration(), [timer] {}) != 0);
        CHECK(held.use_count() == 3);
    }
    CHECK(held.use_count() == 1);
    CHECK_FALSE(called);
}

TEST_CASE("Nothing to call is refused") {
    Loop loop;
    CHECK(loop.post({}).error() == Errc::invalid_argument);
    CHECK(loop.post(static_cast<void (*)()>(nullptr)).error() == Errc::invalid_argument);
    CHECK(loop.after(ms(1), {}) == 0);
}

// ---- Timers.

TEST_CASE("after calls once, and cancel calls it off") {
    Loop loop;
    int calls = 0;
    const rejoin::TimerId once = loop.after(Duration(), [&] { ++calls; });
    const rejoin::TimerId never = loop.after(Duration(), [&] { calls += 100; });
    REQUIRE(once != 0);
    REQUIRE(never != 0);
    CHECK(loop.cancel(never));
    CHECK_FALSE(loop.cancel(never));
    const rejoin::TimerId reused = loop.after(Duration::seconds(1000), [&] { calls += 1000; });
    CHECK_FALSE(loop.cancel(never));  // its place is another's now
    REQUIRE(until(loop, [&] { return calls > 0; }));
    settle(loop);
    CHECK(calls == 1);
    CHECK_FALSE(loop.cancel(once));
    CHECK(loop.cancel(reused));
    for (rejoin::TimerId wrong : {rejoin::TimerId(0), ~rejoin::TimerId(0), rejoin::TimerId(7) << 32}) CHECK_FALSE(loop.cancel(wrong));
}

TEST_CASE("A call may call off itself and others, and set new ones") {
    Loop loop;
    std::string order;
    rejoin::TimerId self = 0, other = 0;
    self = loop.after(ms(1), [&] {
        order += loop.cancel(self) ? "wrong" : "a";
        order += loop.cancel(other) ? "b" : "wrong";
        loop.after(Duration::seconds(-5), [&] {
            order += "c";
            loop.stop();
        });
    });
    other = loop.after(ms(2), [&] { order += "wrong"; });
    REQUIRE(loop.run());
    CHECK(order == "abc");
}

TEST_CASE("A hundred thousand timers go off in order, none early") {
    constexpr int count = 100'000;
    Loop loop;
    rejoin::Random random(1);
    std::vector<std::unique_ptr<Timer>> timers;
    const TimePoint start = monotonic_now();
    TimePoint last;
    int fired = 0, cancelled = 0, wrong = 0;
    for (int i = 0; i < count; ++i) {
        const TimePoint when = start + random.between(ms(1), ms(300));
        timers.push_back(std::make_unique<Timer>(loop, [&, when] {
            wrong += when < last || loop.now() < when;
            last = when;
            ++fired;
        }));
        REQUIRE(timers.back()->timer.at(when + Duration::seconds(1000)));
        REQUIRE(timers.back()->timer.at(when));
    }
    // Those that are already due when they are called off do not come either.
    for (std::size_t i = 0; i < timers.size(); i += 10) {
        timers[i]->timer.cancel();
        ++cancelled;
    }
    REQUIRE(until(loop, [&] { return fired + cancelled >= count; }));
    CHECK(fired + cancelled == count);
    CHECK(wrong == 0);
}

TEST_CASE("A timer can be moved, asked and called off") {
    Loop loop;
    int calls = 0;
    Timer timer(loop, [&] { ++calls; });
    CHECK_FALSE(timer.timer.armed());
    CHECK(timer.timer.when() == TimePoint::never());
    timer.timer.after(Duration());
    REQUIRE(timer.timer.at(TimePoint::from_nanoseconds(INT64_MAX - 1)));
    CHECK(timer.timer.when() == TimePoint::from_nanoseconds(INT64_MAX - 1));
    settle(loop);
    CHECK(calls == 0);
    timer.timer.at(TimePoint());
    REQUIRE(until(loop, [&] { return calls == 1; }));
    CHECK_FALSE(timer.timer.armed());
    timer.timer.after(Duration());
    REQUIRE(timer.timer.at(TimePoint::never()));
    CHECK_FALSE(timer.timer.armed());
    settle(loop);
    CHECK(calls == 1);
}

TEST_CASE("A timer that sets itself again at once lets everything else have its turn") {
    Loop loop;
    int again = 0, turns = 0;
    Timer restless(loop, [] {});
    restless.call = [&] {
        ++again;
        restless.timer.after(Duration());
    };
    std::vector<std::unique_ptr<Timer>> idle;
    for (int i = 0; i < 1000; ++i) {
        idle.push_back(std::make_unique<Timer>(loop, [] {}));
        idle.back()->timer.after(Duration::seconds(1000));
    }
    restless.timer.after(Duration());
    for (; turns < 10; ++turns) REQUIRE(loop.run_once(ms(1000)));
    CHECK(again <= turns);
    REQUIRE(until(loop, [&] { return again > 100; }));
}

TEST_CASE("A timer's handler may destroy its timer and others that are due") {
    Loop loop;
    std::vector<std::unique_ptr<Timer>> timers;
    int calls = 0;
    for (int i = 0; i < 10; ++i) {
        timers.push_back(std::make_unique<Timer>(loop, [&] {
            ++calls;
            timers.clear();
        }));
        timers.back()->timer.after(Duration());
    }
    REQUIRE(until(loop, [&] { return calls > 0; }));
    settle(loop);
    CHECK(calls == 1);
}

// ---- Work for the end of a turn.

TEST_CASE("Deferred work is done once, after the handlers of the turn and before the loop waits again") {
    Loop loop;
    std::string order;
    Work work(loop, [&] { order += "w"; });
    CHECK_FALSE(work.deferred.scheduled());
    REQUIRE(loop.post([&] {
        work.deferred.schedule();
        order += "a";
    }));
    REQUIRE(loop.post([&] {
        work.deferred.schedule();
        order += "b";
    }));
    REQUIRE(loop.run_once(Duration()));
    CHECK(order == "abw");
    CHECK_FALSE(work.deferred.scheduled());
    work.deferred.schedule();
    CHECK(work.deferred.scheduled());
    REQUIRE(loop.run_once(ms(1)));
    CHECK(order == "abww");
    work.deferred.schedule();
    work.deferred.cancel();
    REQUIRE(loop.run_once(Duration()));
    CHECK(order == "abww");
}

TEST_CASE("Deferred work that schedules itself again waits for the next turn, which comes at once") {
    Loop loop;
    int done = 0;
    Work work(loop, [] {});
    work.call = [&] {
        if (++done < 5) work.deferred.schedule();
        if (done == 5) loop.stop();
    };
    work.deferred.schedule();
    bool slow = false;
    loop.after(Duration::seconds(20), [&] { slow = true; });
    REQUIRE(loop.run());
    CHECK(done == 5);
    CHECK_FALSE(slow);
}

TEST_CASE("Deferred work may destroy itself and other work, and add some") {
    Loop loop;
    std::vector<std::unique_ptr<Work>> works;
    int done = 0;
    std::unique_ptr<Work> added;
    for (int i = 0; i < 5; ++i) {
        works.push_back(std::make_unique<Work>(loop, [&] {
            ++done;
            added = std::make_unique<Work>(loop, [&] { done += 10; });
            added->deferred.schedule();
            works.clear();
        }));
        works.back()->deferred.schedule();
    }
    settle(loop);
    CHECK(done == 11);
}

// ---- Descriptors.

TEST_CASE("A watch tells what its descriptor is ready for, as long as it is") {
    Loop loop;
    std::vector<Ready> seen;
    Watched watched(loop, [&](Ready what) { seen.push_back(what); });
    REQUIRE(loop.run_once(Duration()));
    CHECK(seen.empty());
    watched.pair.fill();
    REQUIRE(loop.run_once(ms(1000)));
    REQUIRE(loop.run_once(ms(1000)));
    CHECK(seen == std::vector{Ready::readable, Ready::readable});
    watched.watch.change(Ready::readable | Ready::writable);
    REQUIRE(loop.run_once(ms(1000)));
    CHECK(seen.back() == Ready::both);
    watched.watch.change(Ready::writable);
    REQUIRE(loop.run_once(ms(1000)));
    CHECK(seen.back() == Ready::writable);
    watched.watch.change(Ready::none);
    seen.clear();
    settle(loop);
    CHECK(seen.empty());
    watched.watch.change(Ready::readable);
    watched.pair.drain();
    settle(loop);
    CHECK(seen.empty());
    watched.pair.b.reset();
    REQUIRE(until(loop, [&] { return !seen.empty(); }));
    CHECK(has(seen.back(), Ready::readable));  // what has failed can be read: the call that follows tells
    watched.watch.stop();
    seen.clear();
    settle(loop);
    watched.watch.change(Ready::both);
    settle(loop);
    CHECK(seen.empty());
}

TEST_CASE("Watching what is no open descriptor is refused") {
    Loop loop;
    struct {
        void ready(Ready) {}
    } nothing;
    Loop::Watch watch(loop, Delegate<void(Ready)>::to<&decltype(nothing)::ready>(&nothing));
    CHECK(watch.start(rejoin::Poller::no_handle, Ready::readable).error() == Error::system(code::bad_descriptor));
    CHECK(watch.start(static_cast<rejoin::Poller::Handle>(1'000'000), Ready::readable).error() == Error::system(code::bad_descriptor));
    SocketPair pair;
    REQUIRE(watch.start(pair.a.fd(), Ready::readable));
    REQUIRE(watch.start(pair.b.fd(), Ready::readable));  // in place of the other
}

TEST_CASE("More descriptors than are told of at once all get their turn") {
    Loop loop;
    std::vector<std::unique_ptr<Watched>> all;
    std::vector<int> calls(200);
    for (std::size_t i = 0; i < calls.size(); ++i) {
        all.push_back(std::make_unique<Watched>(loop, [&, i](Ready) { ++calls[i]; }));
        all.back()->pair.fill();
    }
    // Timers and posted calls are not crowded out either.
    bool posted = false, timer = false;
    REQUIRE(loop.post([&] { posted = true; }));
    loop.after(Duration(), [&] { timer = true; });
    REQUIRE(until(loop, [&] { return posted && timer && *std::min_element(calls.begin(), calls.end()) > 0; }));
}

TEST_CASE("A handler may stop and destroy its own watch and others that are ready") {
    Loop loop;
    std::vector<std::unique_ptr<Watched>> all;
    int calls = 0;
    const bool destroy = GENERATE(false, true);
    for (int i = 0; i < 10; ++i) {
        all.push_back(std::make_unique<Watched>(loop, [&](Ready) {
            ++calls;
            if (destroy)
                all.clear();
            else
                for (auto& each : all) each->watch.stop();
        }));
        all.back()->pair.fill();
    }
    settle(loop);
    CHECK(calls == 1);
}

TEST_CASE("A watch that takes the place and the descriptor of one that was ready is not told what was meant for that one") {
    Loop loop;
    std::optional<Watched> places[2];
    int old_calls = 0, new_calls = 0;
    for (auto& place : places) {
        place.emplace(loop, [&](Ready) {
            ++old_calls;
            for (auto& each : places) each.emplace(loop, [&](Ready) { ++new_calls; });  // nothing to read there yet
        });
        place->pair.fill();
    }
    settle(loop);
    CHECK(old_calls == 1);
    CHECK(new_calls == 0);
    places[1]->pair.fill();
    REQUIRE(loop.run_once(ms(1000)));
    CHECK(new_calls == 1);
}

// ---- Driven by another loop.

#if !defined(REJOIN_POLL) && !defined(_WIN32)

TEST_CASE("The loop's descriptor is readable when there is something to do, and not after that is done") {
    Loop loop;
    int done = 0;
    Timer timer(loop, [&] { ++done; });
    Work work(loop, [&] { ++done; });
    Watched watched(loop, [&](Ready) {
        ++done;
        watched.pair.drain();
    });
    CHECK_FALSE(readable(loop));
    const auto serve = [&] {
        const bool woken = readable(loop, 60'000);
        return woken && loop.run_once(Duration());
    };

    SECTION("a timer") {
        timer.timer.after(ms(5));
        CHECK(serve());
        timer.timer.after(Duration());
        CHECK(serve());
        // The system's timer is not set back when the first one moves away: that wakes for nothing once, and no more.
        timer.timer.after(ms(1));
        timer.timer.after(Duration::seconds(1000));
        CHECK(serve());
        CHECK(done == 2);
        CHECK_FALSE(readable(loop, 20));
        timer.timer.after(ms(1));
        CHECK(serve());
        CHECK(done == 3);
    }
    SECTION("a posted call, from this thread or another") {
        REQUIRE(loop.post([&] { ++done; }));
        CHECK(serve());
        std::thread other([&] { static_cast<void>(loop.post([&] { ++done; })); });
        CHECK(serve());
        other.join();
        CHECK(done == 2);
    }
    SECTION("a call that posts another") {
        REQUIRE(loop.post([&] {
            ++done;
            static_cast<void>(loop.post([&] { ++done; }));
        }));
        CHECK(serve());
        CHECK(done == 1);
        CHECK(serve());
        CHECK(done == 2);
    }
    SECTION("a socket") {
        watched.pair.fill();
        CHECK(serve());
        CHECK(done == 1);
    }
    SECTION("deferred work, scheduled from outside, from a handler, or by itself") {
        work.deferred.schedule();
        CHECK(serve());
        CHECK(done == 1);
        REQUIRE(loop.post([&] { work.deferred.schedule(); }));
        CHECK(serve());
        CHECK(done == 2);
        work.call = [&] {
            if (++done < 8) work.deferred.schedule();
        };
        work.deferred.schedule();
        while (done < 8) REQUIRE(serve());
    }
    SECTION("a timer set by a timer that is due at once") {
        timer.call = [&] {
            if (++done == 1) timer.timer.after(Duration());
        };
        timer.timer.after(Duration());
        CHECK(serve());
        CHECK(serve());
        CHECK(done == 2);
    }
    CHECK_FALSE(readable(loop));
}

TEST_CASE("Work that was scheduled before the descriptor was asked for is seen through it") {
    Loop loop;
    int done = 0;
    Work work(loop, [&] { ++done; });
    work.deferred.schedule();
    CHECK(readable(loop));
    REQUIRE(loop.run_once(Duration()));
    CHECK(done == 1);
    CHECK_FALSE(readable(loop));
}
#endif

// ---- Services.

namespace {

std::string lives;
template <char Name>
struct Service {
    explicit Service(Loop& l) : loop(&l) { lives += Name; }
    ~Service() { lives += static_cast<char>(Name - 'a' + 'A'); }
    Loop* loop;
};
struct Leaning {
    explicit Leaning(Loop& loop) : leans_on(loop.service<Service<'x'>>()) { lives += 'l'; }
    ~Leaning() { lives += leans_on.loop != nullptr ? 'L' : '?'; }
    Service<'x'>& leans_on;
};

}  // namespace

TEST_CASE("A loop has one of each service, made when first asked for and destroyed with the loop, the last first") {
    lives.clear();
    {
        Loop loop, other;
        auto& a = loop.service<Service<'a'>>();
        auto& b = loop.service<Service<'b'>>();
        CHECK(&a == &loop.service<Service<'a'>>());
        CHECK(&b == &loop.service<Service<'b'>>());
        CHECK(a.loop == &loop);
        CHECK(&a != &other.service<Service<'a'>>());
        CHECK(lives == "aba");
    }
    CHECK(lives == "abaABA");
}

TEST_CASE("A service that leans on another is destroyed before it") {
    lives.clear();
    {
        Loop loop;
        loop.service<Leaning>();
        CHECK(lives == "xl");
    }
    CHECK(lives == "xlLX");
}

TEST_CASE("The scratch memory is one for all") {
    Loop loop;
    CHECK(loop.scratch().size() == Loop::scratch_size);
    CHECK(loop.scratch().data() == loop.scratch().data());
}
