// SPDX-License-Identifier: BSL-1.0
#if !defined(_WIN32)  // where getaddrinfo cannot be put in another's place
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <rejoin/os/resolver.hpp>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "os/until.hpp"

using rejoin::Array;
using rejoin::Delegate;
using rejoin::Errc;
using rejoin::Error;
using rejoin::Function;
using rejoin::IpAddress;
using rejoin::Loop;
using rejoin::Resolver;

namespace {

// A name server that can hang: names that start with "hang" wait until the gate is opened, and then cannot be found.
struct Gate {
    std::mutex mutex;
    std::condition_variable changed;
    bool open = false;
    bool signals_blocked = true;
    int waiting = 0, most = 0;
    std::vector<std::string> asked;

    int pass(const char* name) {
        std::unique_lock lock(mutex);
        sigset_t blocked;
        pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
        for (int signal : {SIGINT, SIGTERM, SIGCHLD, SIGUSR1}) signals_blocked = signals_blocked && sigismember(&blocked, signal) == 1;
        asked.push_back(name);
        most = std::max(most, ++waiting);
        changed.notify_all();
        changed.wait(lock, [&] { return open; });
        --waiting;
        changed.notify_all();
        return EAI_AGAIN;
    }
    void reset() {
        std::unique_lock lock(mutex);
        open = false;
        most = 0;
        asked.clear();
    }
    // Lets all through, and waits until they are.
    void let_through() {
        std::unique_lock lock(mutex);
        open = true;
        changed.notify_all();
        changed.wait(lock, [&] { return waiting == 0; });
    }
    bool wait_for(int n) {
        std::unique_lock lock(mutex);
        return changed.wait_for(lock, std::chrono::seconds(60), [&] { return waiting >= n; });
    }
} gate;

struct Asker {
    explicit Asker(Loop& loop) : resolver(Resolver::of(loop)), query(Delegate<void(Resolver::Answer&&)>::to<&Asker::answered>(this)) {}
    bool ask(const char* name) { return static_cast<bool>(query.start(resolver, name)); }
    void answered(Resolver::Answer&& a) {
        ++answers;
        answer.emplace(std::move(a));
        if (then) then();
    }
    Resolver& resolver;
    Resolver::Query query;
    int answers = 0;
    std::optional<Resolver::Answer> answer;
    Function<void()> then;
};

Array<IpAddress> addresses(std::initializer_list<const char*> texts) {
    Array<IpAddress> list;
    for (const char* text : texts) list.push(*IpAddress::parse(text));
    return list;
}

}  // namespace

// In place of the system's, for this program.
extern "C" int getaddrinfo(const char* name, const char* service, const addrinfo* hints, addrinfo** result) {
    if (std::string(name).rfind("hang", 0) == 0) return gate.pass(name);
    static const auto system = reinterpret_cast<decltype(&getaddrinfo)>(dlsym(RTLD_NEXT, "getaddrinfo"));
    return system(name, service, hints, result);
}

TEST_CASE("The system finds localhost") {
    Loop loop;
    Asker asker(loop);
    REQUIRE(asker.ask("localhost"));
    CHECK(asker.query.busy());
    CHECK(asker.answers == 0);
    REQUIRE(until(loop, [&] { return asker.answers > 0; }));
    CHECK_FALSE(asker.query.busy());
    REQUIRE(*asker.answer);
    REQUIRE((*asker.answer)->size() > 0);
    for (const IpAddress& ip : **asker.answer) CHECK(ip.is_loopback());
    settle(loop);
    CHECK(asker.answers == 1);
}

TEST_CASE("A name that cannot be is an error of the resolver") {
    Loop loop;
    Asker asker(loop);
    REQUIRE(asker.ask("no..name"));
    REQUIRE(until(loop, [&] { return asker.answers > 0; }));
    CHECK(asker.answer->error() == Error::resolver(EAI_NONAME));
}

TEST_CASE("At most four look-ups run at once, on threads that take no signals, and the rest come after") {
    Loop loop;
    gate.reset();
    std::vector<std::unique_ptr<Asker>> askers;
    for (int i = 0; i < 10; ++i) {
        askers.push_back(std::make_unique<Asker>(loop));
        REQUIRE(askers.back()->ask(("hang" + std::to_string(i)).c_str()));
    }
    REQUIRE(gate.wait_for(4));
    settle(loop);
    gate.let_through();
    REQUIRE(until(loop, [&] { return std::all_of(askers.begin(), askers.end(), [](const auto& a) { return a->answers == 1; }); }));
    CHECK(gate.most == 4);
    CHECK(gate.signals_blocked);
    CHECK(gate.asked.size() == 10);
    for (const auto& asker : askers) CHECK(asker->answer->error() == Error::resolver(EAI_AGAIN));
}

TEST_CASE("Destroying the loop does not wait for a look-up that hangs") {
    gate.reset();
    {
        Loop loop;
        Asker first(loop), second(loop);
        REQUIRE(first.ask("hang and never come back"));
        REQUIRE(second.ask("localhost"));
        REQUIRE(gate.wait_for(1));
        REQUIRE(until(loop, [&] { return second.answers == 1; }));
        CHECK(first.query.busy());
    }
    CHECK(gate.waiting == 1);  // the loop is gone, and it hangs on
    gate.let_through();
}

TEST_CASE("A loop that is destroyed at any moment of a look-up takes nothing with it") {
    for (int i = 0; i < 200; ++i) {
        Loop loop;
        std::vector<std::unique_ptr<Asker>> askers;
        for (int n = 0; n < 6; ++n) {
            askers.push_back(std::make_unique<Asker>(loop));
            REQUIRE(askers.back()->ask("no..name"));
        }
        for (int turns = i % 7; turns > 0; --turns) static_cast<void>(loop.run_once(rejoin::Duration::microseconds(i)));
    }
}

TEST_CASE("A look-up that is called off stays unheard, and gives its place to others") {
    Loop loop;
    gate.reset();
    auto first = std::make_unique<Asker>(loop);
    std::vector<std::unique_ptr<Asker>> askers;
    for (int i = 0; i < 8; ++i) {
        askers.push_back(std::make_unique<Asker>(loop));
        REQUIRE(askers.back()->ask(("hang" + std::to_string(i)).c_str()));
    }
    REQUIRE(gate.wait_for(4));
    for (int i = 2; i < 8; ++i) {
        if (i % 2 == 0) askers[static_cast<std::size_t>(i)]->query.cancel();
        CHECK(askers[static_cast<std::size_t>(i)]->query.busy() == (i % 2 != 0));
    }
    askers[7].reset();
    Asker last(loop);
    REQUIRE(last.ask("localhost"));
    gate.let_through();
    REQUIRE(until(loop, [&] {
        for (std::size_t i : {0u, 1u, 3u, 5u})
            if (askers[i]->answers != 1) return false;
        return last.answers == 1;
    }));
    settle(loop);
    for (int i : {2, 4, 6}) CHECK(askers[static_cast<std::size_t>(i)]->answers == 0);
    CHECK(gate.asked.size() == 5);  // those under way, and the one of the waiting that is still wanted
}

#if defined(__GLIBC__)
TEST_CASE("When no thread can be had, whoever asks is told, and so is whoever waits") {
    Loop loop;
    gate.reset();
    std::vector<std::unique_ptr<Asker>> askers;
    for (int i = 0; i < 6; ++i) {
        askers.push_back(std::make_unique<Asker>(loop));
        REQUIRE(askers.back()->ask("hang"));
    }
    REQUIRE(gate.wait_for(4));
    pthread_attr_t before, huge;
    REQUIRE(pthread_getattr_default_np(&before) == 0);
    REQUIRE(pthread_attr_init(&huge) == 0);
    REQUIRE(pthread_attr_setstacksize(&huge, SIZE_MAX / 4 * 3) == 0);
    REQUIRE(pthread_setattr_default_np(&huge) == 0);
    gate.let_through();
    CHECK(until(loop, [&] { return std::all_of(askers.begin(), askers.end(), [](const auto& a) { return a->answers == 1; }); }));
    CHECK(askers[0]->answer->error() == Error::resolver(EAI_AGAIN));
    for (std::size_t i : {4u, 5u}) CHECK(askers[i]->answer->error() == Error::system(EAGAIN));
    Asker refused(loop);
    CHECK(refused.query.start(refused.resolver, "localhost").error() == Error::system(EAGAIN));
    CHECK_FALSE(refused.query.busy());
    REQUIRE(pthread_setattr_default_np(&before) == 0);
    REQUIRE(refused.ask("localhost"));
    CHECK(until(loop, [&] { return refused.answers == 1; }));
}
#endif

TEST_CASE("Asking anew calls the earlier look-up off") {
    Loop loop;
    gate.reset();
    Asker asker(loop);
    REQUIRE(asker.ask("hang"));
    REQUIRE(gate.wait_for(1));
    REQUIRE(asker.ask("localhost"));
    REQUIRE(until(loop, [&] { return asker.answers == 1; }));
    CHECK(*asker.answer);
    gate.let_through();
    Asker last(loop);
    REQUIRE(last.ask("localhost"));
    REQUIRE(until(loop, [&] { return last.answers == 1; }));
    CHECK(asker.answers == 1);
}

TEST_CASE("The look-up can be replaced, and brought back") {
    Loop loop;
    Asker asker(loop);
    std::string asked;
    asker.resolver.replace([&](const char* name, Function<void(Resolver::Answer)> done) {
        asked = name;
        done(addresses({"192.0.2.7", "2001:db8::7"}));
    });
    REQUIRE(asker.ask("example.org"));
    CHECK(asked == "example.org");
    CHECK(asker.answers == 0);  // never inside `start`
    REQUIRE(until(loop, [&] { return asker.answers > 0; }));
    REQUIRE(*asker.answer);
    REQUIRE((*asker.answer)->size() == 2);
    CHECK((**asker.answer)[0] == *IpAddress::parse("192.0.2.7"));
    CHECK((**asker.answer)[1] == *IpAddress::parse("2001:db8::7"));
    asker.resolver.replace({});
    REQUIRE(asker.ask("localhost"));
    REQUIRE(until(loop, [&] { return asker.answers == 2; }));
    CHECK((**asker.answer)[0].is_loopback());
}

TEST_CASE("A replaced look-up may answer later, wrongly, twice, or never") {
    Loop loop;
    std::map<std::string, Function<void(Resolver::Answer)>> pending;
    Resolver::of(loop).replace([&](const char* name, Function<void(Resolver::Answer)> done) { pending[name] = std::move(done); });
    Asker a(loop), b(loop), c(loop), never(loop);
    auto gone = std::make_unique<Asker>(loop);
    REQUIRE(a.ask("a"));
    REQUIRE(b.ask("b"));
    REQUIRE(c.ask("c"));
    REQUIRE(gone->ask("gone"));
    REQUIRE(never.ask("never"));
    settle(loop);
    CHECK(a.answers + b.answers + c.answers == 0);
    pending["b"](Error::resolver(EAI_AGAIN));
    pending["a"](addresses({"192.0.2.1"}));
    pending["a"](addresses({"192.0.2.2"}));
    pending["c"](Array<IpAddress>());
    gone.reset();
    pending["gone"](addresses({"192.0.2.3"}));
    settle(loop);
    CHECK(a.answers == 1);
    CHECK((**a.answer)[0] == *IpAddress::parse("192.0.2.1"));
    CHECK(b.answer->error() == Error::resolver(EAI_AGAIN));
    // A name without an address is an error, as the system's look-up has it: whoever asks may count on a first one.
    REQUIRE(c.answers == 1);
    CHECK(c.answer->error() == Error::resolver(EAI_NONAME));
    CHECK(never.query.busy());
}

TEST_CASE("Whoever is answered may ask again, call off, and destroy") {
    Loop loop;
    Resolver::of(loop).replace([&](const char*, Function<void(Resolver::Answer)> done) { done(addresses({"192.0.2.1"})); });
    Asker again(loop), other(loop);
    auto gone = std::make_unique<Asker>(loop);
    again.then = [&] {
        if (again.answers == 1) REQUIRE(again.ask("second"));
        other.query.cancel();
    };
    bool destroyed = false;
    gone->then = [&] {
        destroyed = true;
        gone.reset();  // and this very call with it
    };
    REQUIRE(again.ask("first"));
    REQUIRE(other.ask("other"));
    REQUIRE(gone->ask("gone"));
    REQUIRE(until(loop, [&] { return again.answers == 2 && destroyed; }));
    CHECK(other.answers == 0);
}
#endif
