// SPDX-License-Identifier: BSL-1.0
#include <rejoin/opening.hpp>

#include "lab.hpp"
#include "pipe/support.hpp"

namespace {

using namespace netlab;

// Whether a connection from the server's host to the client's is made; what answers nothing is given up after a while.
bool reaches(const Lab& lab, Loop& loop) {
    lab.enter(Host::server);
    Socket socket = std::move(*Socket::tcp(Family::v4));
    static_cast<void>(socket.connect(IpAddress::v4(10, 1, 0, 2), 4000));
    lab.enter(Host::client);
    pollfd waits{socket.fd(), POLLOUT, 0};
    const TimePoint until = monotonic_now() + Duration::milliseconds(300);
    while (poll(&waits, 1, 2) == 0 && monotonic_now() < until) static_cast<void>(loop.run_for(ms(2)));
    return (waits.revents & POLLOUT) != 0 && !socket.take_error();
}

}  // namespace

TEST_CASE("what is listened on is let in as long as it is listened on, through whatever drops it meanwhile", "[netlab]") {
    const Lab lab;
    lab.in(Host::router, "nft flush chain inet lab nat");
    lab.in(Host::client, "nft 'table inet host { chain input { type filter hook input priority filter; policy drop; iif lo accept; }; }'");
    const std::string before = lab.ask(Host::client, "nft list ruleset");
    lab.enter(Host::client);
    {
        Loop loop;
        Opening<SystemEvents>::Options options;
        options.rule.app = TextView("rejoin-opening");
        options.host = true;
        options.gateway = false;
        options.firewall.journal = TextView("/tmp/rejoin-opening-journal");
        Opening<SystemEvents> opening(loop, options);
        int told = 0;
        opening.on_change([&] { ++told; });
        Listener<Tcp, SystemEvents, FailFast>::Options of_listener;
        of_listener.opener = &opening;
        Listener<Tcp, SystemEvents, FailFast> listener(loop, of_listener);
        REQUIRE(listener.listen({"0.0.0.0", 4000}));
        CHECK(told == 1);
        CHECK(opening.report().let_in());
        CHECK(opening.report().changed());
        CHECK(reaches(lab, loop));

        // Something else begins to drop, and the network changes.
        lab.in(Host::client, "nft 'table inet guard { chain input { type filter hook input priority 10; tcp dport 4000 drop; }; }'");
        CHECK_FALSE(reaches(lab, loop));
        lab.in(Host::client, "ip addr add 10.1.0.77/24 dev a0");
        REQUIRE(until(loop, [&] { return told == 2; }));
        CHECK(opening.report().let_in());
        CHECK(opening.report().gates.size() == 2);
        CHECK(reaches(lab, loop));

        listener.close();
        CHECK_FALSE(reaches(lab, loop));
        lab.enter(Host::client);
        lab.in(Host::client, "nft delete table inet guard");
        CHECK(lab.ask(Host::client, "nft list ruleset") == before);

        // Listened on anew, and gone with the listener.
        REQUIRE(listener.listen({"0.0.0.0", 4000}));
        CHECK(reaches(lab, loop));
    }
    CHECK(lab.ask(Host::client, "nft list ruleset") == before);
    static_cast<void>(::unlink("/tmp/rejoin-opening-journal"));
}
