// SPDX-License-Identifier: BSL-1.0
#include <rejoin/network/polling.hpp>
#include <string>
#include <vector>

#include "catch.hpp"
#include "os/until.hpp"

using namespace rejoin;
using Kind = NetworkChange::Kind;

namespace {

// What a reader finds, and how often it was asked.
struct Host {
    Error error;
    std::uint32_t interfaces = 1;
    int reads = 0;
    Delegate<void()> touched;
};
Host host;

struct FakeReader {
    FakeReader(Loop&, Delegate<void()> touched) { host.touched = touched; }
    Result<void> read(NetworkState& to) {
        ++host.reads;
        REQUIRE(to.interfaces.empty());
        if (host.error) return host.error;
        for (std::uint32_t index = 1; index <= host.interfaces; ++index) REQUIRE(to.put(Interface{index, Text<15>("i"), true, true}));
        to.known = true;
        return {};
    }
};
using Source = PollingWith<FakeReader>;

struct Ear {
    void hear(const NetworkChange& change) {
        if (change.early) heard.push_back(change.kind);
    }
    std::vector<Kind> heard;
    NetworkObserver observer{Delegate<void(const NetworkChange&)>::to<&Ear::hear>(this)};
};

}  // namespace

TEST_CASE("polling: what differs from the last look is told") {
    host = {};
    Loop loop;
    Source& network = Source::of(loop);
    REQUIRE(&network == &Source::of(loop));
    REQUIRE(network.state().known);
    REQUIRE(host.reads == 1);
    Ear ear;
    network.observe(ear.observer);
    network.look();
    REQUIRE(ear.heard.empty());
    host.interfaces = 2;
    network.look();
    REQUIRE(ear.heard == std::vector{Kind::interface_added, Kind::interface_up, Kind::carrier_up});
    host.interfaces = 1;
    host.touched();  // the reader has heard something itself
    REQUIRE(ear.heard.back() == Kind::interface_removed);
}

TEST_CASE("polling: a look that fails changes nothing, and says why") {
    host = {};
    host.error = Errc::out_of_memory;
    Loop loop;
    Source& network = Source::of(loop);
    REQUIRE_FALSE(network.state().known);
    REQUIRE_FALSE(network.state().offline());
    REQUIRE(network.error() == Errc::out_of_memory);
    host.error = {};
    network.look();
    REQUIRE(network.state().known);
    REQUIRE_FALSE(network.error());
    Ear ear;
    network.observe(ear.observer);
    host.error = Error::system(1);
    network.look();
    REQUIRE(network.error() == Error::system(1));
    REQUIRE(network.state().interfaces.size() == 1);
    REQUIRE(ear.heard.empty());
}

TEST_CASE("polling: an idle network is looked at no more often than every ten seconds") {
    host = {};
    static_assert(Source::interval >= Duration::seconds(10));
    Loop loop;
    Source::of(loop);
    REQUIRE(loop.run_for(Duration::milliseconds(300)));
    REQUIRE(host.reads == 1);
}

#if !defined(_WIN32)
TEST_CASE("polling: this host has a loopback interface, and its addresses") {
    Loop loop;
    const Polling& network = Polling::of(loop);
    REQUIRE_FALSE(network.error());
    REQUIRE(network.state().known);
    const Interface* loopback = nullptr;
    for (const Interface& i : network.state().interfaces)
        if (i.loopback) loopback = &i;
    REQUIRE(loopback != nullptr);
    REQUIRE(loopback->index != 0);
    const InterfaceAddress* const v4 = network.state().find_address(loopback->index, IpAddress::v4(127, 0, 0, 1));
    if (loopback->up) {
        REQUIRE(v4 != nullptr);
        REQUIRE(v4->prefix_length == 8);
    }
}
#endif
