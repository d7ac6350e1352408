// SPDX-License-Identifier: BSL-1.0
#include <deque>
#include <rejoin/reach.hpp>

#include "lab.hpp"
#include "pipe/support.hpp"

// How a host comes to be reached by another, with as little opened as possible. Both are played by one thread, which is on one host and
// then on the other; what they say to each other goes past the network.
namespace {

using namespace netlab;

struct Meeting {
    explicit Meeting(bool host = false) : reach(here, options(host)), prober(there) {
        lab.in(Host::router, "nft flush chain inet lab nat");
        reach.on_send([this](Bytes bytes) { to_there.emplace_back(bytes.begin(), bytes.end()); });
        prober.on_send([this](Bytes bytes) { to_here.emplace_back(bytes.begin(), bytes.end()); });
        reach.on_done([this](Reach<NoEvents>::Outcome&& outcome) {
            step = outcome.step;
            at = outcome.at;
            ours = std::move(outcome.socket);
            if (outcome.report != nullptr)
                for (const firewall::Gate& gate : outcome.report->gates) gates += std::string(to_text(gate.stance)) + " ";
            over = true;
        });
        prober.on_connected([this](Socket&& socket) { theirs = std::move(socket); });
    }
    static Reach<NoEvents>::Options options(bool host) {
        Reach<NoEvents>::Options o;
        o.rule.app = TextView("rejoin-reach");
        o.host = host;
        o.firewall.journal = TextView("/tmp/rejoin-reach-journal");
        return o;
    }
    ~Meeting() {
        static_cast<void>(::unlink("/tmp/rejoin-reach-journal"));
        lab.enter(Host::client);  // where what was opened is closed again
    }
    // Nothing comes in that was not asked for.
    void close(Host host) {
        lab.in(
            host,
            "nft 'table inet host { chain input { type filter hook input priority filter; policy drop; iif lo accept; ct state established "
            "accept; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; }; }'");
    }
    ReachStep run() {
        lab.enter(Host::client);
        Listener<Tcp, NoEvents, FailFast> listener(here);
        REQUIRE(listener.listen({"0.0.0.0", 4000}));
        REQUIRE(reach.start(listener.local_endpoint(), IpAddress::v4(10, 8, 0, 2)));
        const TimePoint until = monotonic_now() + Duration::seconds(60);
        while (!over || (step == ReachStep::simultaneous_open && !theirs)) {
            REQUIRE(monotonic_now() < until);
            lab.enter(Host::client);
            for (; !to_here.empty(); to_here.pop_front()) CHECK(reach.hear(to_here.front()));
            static_cast<void>(here.run_for(ms(2)));
            lab.enter(Host::server);
            for (; !to_there.empty(); to_there.pop_front()) CHECK(prober.hear(to_there.front()));
            static_cast<void>(there.run_for(ms(2)));
        }
        lab.leave();
        return step;
    }

    Lab lab;
    Loop here, there;
    Reach<NoEvents> reach;
    Prober prober;
    std::deque<std::vector<std::byte>> to_here, to_there;
    ReachStep step = ReachStep::failed;
    Endpoint at;
    Socket ours, theirs;
    std::string gates;
    bool over = false;
};

}  // namespace

TEST_CASE("a host that is reached as it is opens nothing", "[netlab]") {
    Meeting m;
    CHECK(m.run() == ReachStep::as_it_is);
    CHECK(to_text(m.at) == TextView("10.1.0.2:4000"));
}

TEST_CASE("two hosts that let nobody in meet by opening at the same moment", "[netlab]") {
    Meeting m;
    m.close(Host::client);
    m.close(Host::server);
    const std::string rules = m.lab.ask(Host::client, "nft list ruleset");
    CHECK(m.run() == ReachStep::simultaneous_open);
    REQUIRE(m.ours.send(TextView("hello").bytes()));
    std::byte room[9];
    REQUIRE(wait_for(m.theirs, poll_in));
    CHECK(*m.theirs.receive(room) == 5);
    CHECK(m.lab.ask(Host::client, "nft list ruleset") == rules);
}

TEST_CASE("where that does not help the firewall is opened, if it may be, and closed again", "[netlab]") {
    for (const bool may : {false, true}) {
        CAPTURE(may);
        auto m = std::make_unique<Meeting>(may);
        m->close(Host::client);
        // The way out has another port than the one that was told, and the way in none but that which is listened on.
        m->lab.in(Host::router,
                  "nft add rule inet lab nat oifname 'rb*' masquerade random; nft add rule inet lab forward ip daddr 10.1.0.2 tcp dport "
                  "'!=' 4000 drop");
        const std::string before = m->lab.ask(Host::client, "nft list ruleset");
        CHECK(m->run() == (may ? ReachStep::rule : ReachStep::failed));
        CHECK(m->gates == (may ? "opened " : "blocks "));
        const std::string after = m->lab.ask(Host::client, "nft list ruleset");
        CHECK((after == before) == !may);
        if (may) CHECK(to_text(m->at) == TextView("10.1.0.2:4000"));
    }
}
