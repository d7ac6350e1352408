// SPDX-License-Identifier: BSL-1.0
// The event source of Windows, over notices and a system that are scripted.
#include <rejoin/network/ip_helper.hpp>
#include <rejoin/os/poll_poller.hpp>
#include <vector>

#include "catch.hpp"
#include "os/until.hpp"

using namespace rejoin;
using Kind = NetworkChange::Kind;

namespace {

struct Host {
    Error refuses, cannot_read;
    bool carrier = true;
    int reads = 0;
    bool clear_first = true;  // whether each reading found the notices cleared
    bool rung = false;
    detail::Bell* bell = nullptr;
    int open = 0;  // notices

    void notify() {
        rung = true;
        bell->ring();
    }
};
Host host;

struct FakeNotice {
    FakeNotice() { ++host.open; }
    ~FakeNotice() { --host.open; }
    Error open() {
        host.bell = &bell;
        return host.refuses ? host.refuses : bell.open();
    }
    auto fd() const { return bell.fd(); }
    void clear() {
        host.rung = false;
        bell.clear();
    }
    detail::Bell bell;
};

struct FakeReader {
    FakeReader(Loop&, Delegate<void()>) {}
    Result<void> read(NetworkState& to) {
        ++host.reads;
        host.clear_first = host.clear_first && !host.rung;
        if (host.cannot_read) return host.cannot_read;
        REQUIRE(to.put(Interface{1, Text<15>("Ethernet"), true, host.carrier}));
        to.known = true;
        return {};
    }
};
using Source = IpHelperOf<FakeNotice, FakeReader>;

struct Ear {
    void hear(const NetworkChange& change) {
        if (change.early) heard.push_back(change.kind);
    }
    std::vector<Kind> heard;
    NetworkObserver observer{Delegate<void(const NetworkChange&)>::to<&Ear::hear>(this)};
};

}  // namespace

TEST_CASE("ip helper: a notice has everything read, and the difference told") {
    host = {};
    Loop loop;
    Source& network = Source::of(loop);
    REQUIRE(&network == &Source::of(loop));
    REQUIRE_FALSE(network.error());
    REQUIRE(network.state().known);
    REQUIRE(host.reads == 1);
    Ear ear;
    network.observe(ear.observer);
    host.carrier = false;
    host.notify();
    REQUIRE(until(loop, [&] { return !ear.heard.empty(); }));
    REQUIRE(ear.heard == std::vector{Kind::carrier_down});
    REQUIRE(host.clear_first);
}

TEST_CASE("ip helper: what can be read only after its notice is found") {
    host = {};
    Loop loop;
    Source& network = Source::of(loop);
    Ear ear;
    network.observe(ear.observer);
    host.notify();
    REQUIRE(until(loop, [&] { return host.reads == 2; }));
    host.carrier = false;
    REQUIRE(until(loop, [&] { return !ear.heard.empty(); }));
    REQUIRE(host.reads >= 3);
}

TEST_CASE("ip helper: many notices at once are not many readings") {
    host = {};
    Loop loop;
    Source::of(loop);
    const TimePoint start = monotonic_now();
    while (monotonic_now() - start < Duration::milliseconds(100)) {
        host.notify();
        REQUIRE(loop.run_once(Duration::milliseconds(1)));
    }
    const auto allowed = (monotonic_now() - start).milliseconds() / 10 + 2;
    REQUIRE(host.reads > 2);
    REQUIRE(host.reads <= allowed);
}

TEST_CASE("ip helper: a reading that fails changes nothing, and the next is made") {
    host = {};
    Loop loop;
    Source& network = Source::of(loop);
    Ear ear;
    network.observe(ear.observer);
    host.carrier = false;
    host.cannot_read = Errc::out_of_memory;
    host.notify();
    REQUIRE(until(loop, [&] { return host.reads == 2; }));
    REQUIRE(network.state().find_interface(1)->carrier);
    host.cannot_read = {};
    REQUIRE(until(loop, [&] { return !ear.heard.empty(); }));
}

TEST_CASE("ip helper: what cannot be opened or read at first says why, and is left in peace") {
    for (bool read : {false, true}) {
        host = {};
        (read ? host.cannot_read : host.refuses) = Errc::out_of_memory;
        Loop loop;
        Source& network = Source::of(loop);
        REQUIRE(network.error() == Errc::out_of_memory);
        REQUIRE_FALSE(network.state().known);
        const int reads = host.reads;
        if (read) host.notify();
        settle(loop);
        REQUIRE(host.reads == reads);
    }
    REQUIRE(host.open == 0);
}
