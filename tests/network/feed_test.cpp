// SPDX-License-Identifier: BSL-1.0
#include <functional>
#include <memory>
#include <rejoin/network/no_events.hpp>
#include <rejoin/network/scripted.hpp>
#include <rejoin/network/system.hpp>
#include <type_traits>
#include <vector>

#include "catch.hpp"

using namespace rejoin;
using Kind = NetworkChange::Kind;

static_assert(std::is_empty_v<NoEvents>);
#if defined(__linux__)
static_assert(std::is_same_v<SystemEvents, OrPolling<Netlink>>);
#endif

namespace {

struct Ear {
    explicit Ear(std::function<void(const NetworkChange&)> then = {}) : then_(std::move(then)) {}
    void hear(const NetworkChange& change) {
        if (change.settled) settled.push_back(change.kind);
        if (!change.early) return;
        heard.push_back(change.kind);
        if (const auto then = then_) then(change);  // a copy: it may destroy this
    }
    std::function<void(const NetworkChange&)> then_;
    std::vector<Kind> heard, settled;
    NetworkObserver observer{Delegate<void(const NetworkChange&)>::to<&Ear::hear>(this)};
};

NetworkChange early_change() {
    NetworkChange change;
    change.early = true;
    return change;
}

NetworkState with_interfaces(std::uint32_t count) {
    NetworkState state;
    state.known = true;
    for (std::uint32_t index = 1; index <= count; ++index) REQUIRE(state.put(Interface{index, Text<15>("i"), false, false, false}));
    return state;
}

}  // namespace

TEST_CASE("feed: everybody hears, in order of arrival, until they leave") {
    ObserverList feed;
    std::vector<int> order;
    Ear first([&](const NetworkChange&) { order.push_back(1); }), second([&](const NetworkChange&) { order.push_back(2); });
    feed.add(first.observer);
    feed.add(second.observer);
    feed.add(first.observer);  // listens already
    feed.publish(early_change());
    REQUIRE(order == std::vector{1, 2});
    first.observer.unlink();
    feed.publish(early_change());
    REQUIRE(order == std::vector{1, 2, 2});
    feed.add(first.observer);
    feed.publish(early_change());
    REQUIRE(order == std::vector{1, 2, 2, 2, 1});
}

TEST_CASE("feed: publishes differences, and says whether there were any") {
    Loop loop;
    ChangeFeed feed(loop);
    Ear listener;
    feed.observe(listener.observer);
    REQUIRE(feed.replace(with_interfaces(2)));
    REQUIRE(listener.heard == std::vector{Kind::interface_added, Kind::interface_added});
    REQUIRE_FALSE(feed.replace(with_interfaces(2)));
    REQUIRE(listener.heard.size() == 2);
    NetworkState* const state = feed.edit();
    state->remove_interface(1);
    REQUIRE(feed.publish());
    REQUIRE(listener.heard.back() == Kind::interface_removed);
    REQUIRE(feed.state().interfaces.size() == 1);
}

TEST_CASE("feed: observers come and go while they are called") {
    ObserverList feed;
    SECTION("one destroys itself, between two changes of the same moment") {
        auto gone = std::make_unique<Ear>();
        int calls = 0;
        gone->then_ = [&](const NetworkChange&) { ++calls, gone.reset(); };
        Ear stays;
        feed.add(gone->observer);
        feed.add(stays.observer);
        feed.publish(early_change());
        feed.publish(early_change());
        REQUIRE(calls == 1);
        REQUIRE(stays.heard.size() == 2);
    }
    SECTION("one destroys the others, before and behind it") {
        auto before = std::make_unique<Ear>(), behind = std::make_unique<Ear>();
        Ear killer([&](const NetworkChange&) { before.reset(), behind.reset(); });
        feed.add(before->observer);
        feed.add(killer.observer);
        feed.add(behind->observer);
        feed.publish(early_change());
        feed.publish(early_change());
        REQUIRE(killer.heard.size() == 2);
    }
    SECTION("one unlinks itself and the next") {
        Ear next, last;
        Ear leaver([&](const NetworkChange&) { leaver.observer.unlink(), next.observer.unlink(); });
        feed.add(leaver.observer);
        feed.add(next.observer);
        feed.add(last.observer);
        feed.publish(early_change());
        feed.publish(early_change());
        REQUIRE(leaver.heard.size() == 1);
        REQUIRE(next.heard.empty());
        REQUIRE(last.heard.size() == 2);
    }
    SECTION("one that is added hears of the next change, not of this one") {
        Ear late;
        Ear adder([&](const NetworkChange&) { feed.add(late.observer); });
        feed.add(adder.observer);
        feed.publish(early_change());
        REQUIRE(late.heard.empty());
        feed.publish(early_change());
        REQUIRE(late.heard.size() == 1);
    }
}

TEST_CASE("feed: an observer may outlive it") {
    Ear listener;
    {
        ObserverList feed;
        feed.add(listener.observer);
    }
    REQUIRE_FALSE(listener.observer.linked());
}

TEST_CASE("scripted: what it is told is what the observers hear") {
    Loop loop;
    Scripted& network = Scripted::of(loop);
    REQUIRE(&network == &Scripted::of(loop));
    REQUIRE_FALSE(network.state().known);
    REQUIRE_FALSE(network.error());
    Ear listener;
    network.observe(listener.observer);
    network.set(with_interfaces(2));
    REQUIRE(network.state().known);
    REQUIRE(network.state().interfaces.size() == 2);
    REQUIRE(listener.heard == std::vector{Kind::interface_added, Kind::interface_added});
    network.set(with_interfaces(2));
    REQUIRE(listener.heard.size() == 2);
    network.set(with_interfaces(1));
    REQUIRE(listener.heard.back() == Kind::interface_removed);
}

TEST_CASE("scripted: set by an observer, the last one counts, and everybody hears in order") {
    Loop loop;
    Scripted& network = Scripted::of(loop);
    std::size_t seen = 0;
    Ear setter([&](const NetworkChange& change) {
        seen = change.after->interfaces.size();
        REQUIRE(network.state().interfaces.size() == seen);
        if (seen != 1) return;
        network.set(with_interfaces(5));
        network.set(with_interfaces(2));
    });
    Ear behind;
    network.observe(setter.observer);
    network.observe(behind.observer);
    network.set(with_interfaces(1));
    REQUIRE(network.state().interfaces.size() == 2);
    REQUIRE(seen == 2);
    REQUIRE(behind.heard == std::vector{Kind::interface_added, Kind::interface_added});
}

// Runs the loop until it is so. Gives up after a time that no correct run needs.
template <class Condition>
bool until(Loop& loop, Condition condition) {
    const TimePoint deadline = loop.now() + Duration::seconds(20);
    while (!condition() && loop.now() < deadline) REQUIRE(loop.run_once(Duration::milliseconds(20)));
    return condition();
}

InterfaceAddress address_of(std::uint32_t index, std::uint8_t last) { return {index, IpAddress::v4(192, 0, 2, last), 24}; }

TEST_CASE("settling: what holds is told a second time, after a second, and once") {
    Loop loop;
    Scripted& network = Scripted::of(loop);
    Ear ear;
    network.observe(ear.observer);
    network.set(with_interfaces(1));
    NetworkState next = with_interfaces(1);
    REQUIRE(next.put(address_of(1, 1)));
    next.route[0] = {true, 1, {}, {}};
    REQUIRE(next.dns_servers.push(IpAddress::v4(192, 0, 2, 53)));
    const TimePoint start = monotonic_now();
    ear.heard.clear();
    network.set(std::move(next));
    const std::vector all{Kind::address_added, Kind::address_usable, Kind::route_added, Kind::connectivity_regained, Kind::dns_changed};
    REQUIRE(ear.heard == all);
    REQUIRE(ear.settled.empty());
    REQUIRE(until(loop, [&] { return !ear.settled.empty(); }));
    REQUIRE(monotonic_now() - start >= ChangeFeed::settle_time);
    REQUIRE(ear.settled == all);
    REQUIRE(ear.heard == all);
    REQUIRE(loop.run_for(ChangeFeed::settle_time + Duration::milliseconds(100)));  // nothing is left
    REQUIRE(ear.settled == all);
}

TEST_CASE("settling: the first state is settled from the start") {
    Loop loop;
    Scripted& network = Scripted::of(loop);
    network.set(with_interfaces(2));
    Ear ear;
    network.observe(ear.observer);
    network.set(with_interfaces(1));
    REQUIRE(until(loop, [&] { return !ear.settled.empty(); }));
    REQUIRE(ear.settled == std::vector{Kind::interface_removed});
}

TEST_CASE("settling: what cancels itself is told early, and not again") {
    Loop loop;
    Scripted& network = Scripted::of(loop);
    network.set(with_interfaces(3));
    Ear ear;
    network.observe(ear.observer);
    // Interface 1 flaps 5,000 times, over more than the settling time; meanwhile 3 goes for good.
    NetworkState down = with_interfaces(2), up = with_interfaces(2);
    REQUIRE(up.put(Interface{1, Text<15>("i"), true, true, false}));
    const TimePoint start = monotonic_now();
    for (int i = 0; i < 5000 || monotonic_now() - start < ChangeFeed::settle_time * 2; ++i) {
        NetworkState next;
        REQUIRE(next.copy_from(i % 2 == 0 ? up : down));
        network.set(std::move(next));
        if (i % 10 == 0) REQUIRE(loop.run_once(Duration::milliseconds(1)));
    }
    NetworkState next;
    REQUIRE(next.copy_from(down));
    network.set(std::move(next));
    REQUIRE(until(loop, [&] { return !ear.settled.empty(); }));
    REQUIRE(loop.run_for(ChangeFeed::settle_time + Duration::milliseconds(100)));
    REQUIRE(ear.settled == std::vector{Kind::interface_removed});
    REQUIRE(ear.heard.size() > 5000);
}

TEST_CASE("settling: a change that settles shows the states that were compared") {
    Loop loop;
    Scripted& network = Scripted::of(loop);
    NetworkState with = with_interfaces(1);
    REQUIRE(with.put(address_of(1, 1)));
    network.set(std::move(with));
    bool hit = false;
    Ear ear;
    struct Settled {
        void hear(const NetworkChange& change) {
            if (!change.settled) return;
            hit = change.affects(IpAddress::v4(192, 0, 2, 1), IpAddress::v4(192, 0, 2, 9)) && change.after->addresses.empty() &&
                  change.before->addresses.size() == 1;
            network->set(with_interfaces(2));  // takes effect after this one has been told to all
        }
        bool& hit;
        Scripted* network;
    } settled{hit, &network};
    NetworkObserver observer(Delegate<void(const NetworkChange&)>::to<&Settled::hear>(&settled));
    network.observe(observer);
    network.observe(ear.observer);
    network.set(with_interfaces(1));
    REQUIRE(until(loop, [&] { return network.state().interfaces.size() == 2; }));
    REQUIRE(hit);
    REQUIRE(ear.settled == std::vector{Kind::address_removed});
    REQUIRE(ear.heard == std::vector{Kind::address_removed, Kind::interface_added});
}

TEST_CASE("what cannot be undone is told once, early and settled") {
    Loop loop;
    Scripted& network = Scripted::of(loop);
    network.set(with_interfaces(1));
    Ear ear([](const NetworkChange& change) {
        REQUIRE(change.slept == Duration::seconds(90));
        REQUIRE(describe(change) == TextView("The host woke after 90 s of sleep."));
    });
    network.observe(ear.observer);
    NetworkChange woke;
    woke.kind = Kind::woke;
    woke.major = true;
    woke.slept = Duration::seconds(90);
    network.tell(woke);
    REQUIRE(ear.heard == std::vector{Kind::woke});
    REQUIRE(ear.settled == std::vector{Kind::woke});
}

TEST_CASE("no events: knows nothing, says nothing") {
    Loop loop;
    NoEvents& network = NoEvents::of(loop);
    REQUIRE_FALSE(network.state().known);
    REQUIRE(network.state().interfaces.empty());
    REQUIRE_FALSE(network.state().connected());
    REQUIRE_FALSE(network.state().offline());
    REQUIRE_FALSE(network.error());
    Ear listener;
    network.observe(listener.observer);
    REQUIRE_FALSE(listener.observer.linked());
}
