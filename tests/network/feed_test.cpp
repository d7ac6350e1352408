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
static_assert(std::is_same_v<SystemEvents, Netlink>);
#endif

namespace {

struct Ear {
    explicit Ear(std::function<void(const NetworkChange&)> then = {}) : then_(std::move(then)) {}
    void hear(const NetworkChange& change) {
        heard.push_back(change.kind);
        if (const auto then = then_) then(change);  // a copy: it may destroy this
    }
    std::function<void(const NetworkChange&)> then_;
    std::vector<Kind> heard;
    NetworkObserver observer{Delegate<void(const NetworkChange&)>::to<&Ear::hear>(this)};
};

NetworkState with_interfaces(std::uint32_t count) {
    NetworkState state;
    for (std::uint32_t index = 1; index <= count; ++index) REQUIRE(state.put(Interface{index, Text<15>("i"), false, false, false}));
    return state;
}

}  // namespace

TEST_CASE("feed: everybody hears, in order of arrival, until they leave") {
    ChangeFeed feed;
    std::vector<int> order;
    Ear first([&](const NetworkChange&) { order.push_back(1); }), second([&](const NetworkChange&) { order.push_back(2); });
    feed.add(first.observer);
    feed.add(second.observer);
    feed.add(first.observer);  // listens already
    feed.publish(NetworkChange{});
    REQUIRE(order == std::vector{1, 2});
    first.observer.unlink();
    feed.publish(NetworkChange{});
    REQUIRE(order == std::vector{1, 2, 2});
    feed.add(first.observer);
    feed.publish(NetworkChange{});
    REQUIRE(order == std::vector{1, 2, 2, 2, 1});
}

TEST_CASE("feed: publishes differences, and says whether there were any") {
    ChangeFeed feed;
    Ear listener;
    feed.add(listener.observer);
    const NetworkState none, two = with_interfaces(2);
    REQUIRE_FALSE(feed.publish(two, two));
    REQUIRE(listener.heard.empty());
    REQUIRE(feed.publish(none, two));
    REQUIRE(listener.heard == std::vector{Kind::interface_added, Kind::interface_added});
}

TEST_CASE("feed: observers come and go while they are called") {
    ChangeFeed feed;
    SECTION("one destroys itself, between two changes of the same moment") {
        auto gone = std::make_unique<Ear>();
        int calls = 0;
        gone->then_ = [&](const NetworkChange&) { ++calls, gone.reset(); };
        Ear stays;
        feed.add(gone->observer);
        feed.add(stays.observer);
        feed.publish(NetworkState(), with_interfaces(2));
        REQUIRE(calls == 1);
        REQUIRE(stays.heard.size() == 2);
    }
    SECTION("one destroys the others, before and behind it") {
        auto before = std::make_unique<Ear>(), behind = std::make_unique<Ear>();
        Ear killer([&](const NetworkChange&) { before.reset(), behind.reset(); });
        feed.add(before->observer);
        feed.add(killer.observer);
        feed.add(behind->observer);
        feed.publish(NetworkChange{});
        feed.publish(NetworkChange{});
        REQUIRE(killer.heard.size() == 2);
    }
    SECTION("one unlinks itself and the next") {
        Ear next, last;
        Ear leaver([&](const NetworkChange&) { leaver.observer.unlink(), next.observer.unlink(); });
        feed.add(leaver.observer);
        feed.add(next.observer);
        feed.add(last.observer);
        feed.publish(NetworkChange{});
        feed.publish(NetworkChange{});
        REQUIRE(leaver.heard.size() == 1);
        REQUIRE(next.heard.empty());
        REQUIRE(last.heard.size() == 2);
    }
    SECTION("one that is added hears of the next change, not of this one") {
        Ear late;
        Ear adder([&](const NetworkChange&) { feed.add(late.observer); });
        feed.add(adder.observer);
        feed.publish(NetworkChange{});
        REQUIRE(late.heard.empty());
        feed.publish(NetworkChange{});
        REQUIRE(late.heard.size() == 1);
    }
}

TEST_CASE("feed: an observer may outlive it") {
    Ear listener;
    {
        ChangeFeed feed;
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
