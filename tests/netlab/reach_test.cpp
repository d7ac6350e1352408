// SPDX-License-Identifier: BSL-1.0
#include <deque>
#include <rejoin/reach.hpp>

#include "lab.hpp"
#include "pipe/support.hpp"
#include "skip.hpp"

// How a host comes to be reached by another, with as little opened as possible. Both are played by one thread, which is on one host and
// then on the other; what they say to each other goes past the network.
namespace {

using namespace netlab;

using firewall::Protocol;

template <class E = NoEvents>
struct Meeting {
    explicit Meeting(Protocol p, bool host = false) : protocol(p), reach(here, options(host)), prober(there) {
        lab.in(Host::router, "nft flush chain inet lab nat");
        reach.on_send([this](Bytes bytes) { to_there.emplace_back(bytes.begin(), bytes.end()); });
        prober.on_send([this](Bytes bytes) { to_here.emplace_back(bytes.begin(), bytes.end()); });
        reach.on_done([this](typename Reach<E>::Outcome&& outcome) {
            step = outcome.step;
            at = outcome.at;
            ours = std::move(outcome.socket);
            if (outcome.report != nullptr)
                for (const firewall::Gate& gate : outcome.report->gates) gates += std::string(to_text(gate.stance)) + " ";
            over = true;
        });
        prober.on_connected([this](Socket&& socket) { theirs = std::move(socket); });
    }
    static typename Reach<E>::Options options(bool host) {
        typename Reach<E>::Options o;
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
    void close(Host host, const std::string& answers = "ct state established accept") {
        lab.in(host, "nft 'table inet host { chain input { type filter hook input priority filter; policy drop; iif lo accept; " + answers +
                         "; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; }; }'");
    }
    ReachStep run(const IpAddress& peer = IpAddress::v4(10, 8, 0, 2)) {
        lab.enter(Host::client);
        Listener<Tcp, NoEvents, FailFast> listener(here);
        if (protocol == Protocol::tcp) {
            REQUIRE(listener.listen({"0.0.0.0", 4000}));
            REQUIRE(reach.start(listener.local_endpoint(), peer));
        } else {
            Socket socket = std::move(*Socket::udp(Family::v4));
            REQUIRE(socket.bind(IpAddress::v4(0, 0, 0, 0), 4000));
            REQUIRE(reach.start(std::move(socket), peer));
        }
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
    // Says hello, and hears it; over UDP a probe or two may still be on the way.
    static void says_hello(Socket& from, Socket& to) {
        REQUIRE(from.send(TextView("hello").bytes()));
        std::byte room[99];
        for (std::size_t size = 0; size != 5;) {
            REQUIRE(wait_for(to, poll_in));
            const auto got = to.receive(room);
            REQUIRE(got);
            size = *got;
            REQUIRE((size == 5 || size == ReachMessage::size));
        }
    }

    const Protocol protocol;
    Lab lab;
    Loop here, there;
    Reach<E> reach;
    Prober prober;
    std::deque<std::vector<std::byte>> to_here, to_there;
    ReachStep step = ReachStep::failed;
    Endpoint at;
    Socket ours, theirs;
    std::string gates;
    bool over = false;
};

// The router maps ports where it is asked to, and lets nobody in else. It is on the internet: without an address there it would map
// nothing.
class Gateway {
public:
    explicit Gateway(const Lab& lab) {
        lab.in(Host::router, R"(
ip addr flush dev rb0; ip addr add 45.45.45.1/24 dev rb0; nft add rule inet lab nat oifname 'rb*' masquerade random
nft 'table inet gateway {
    chain guard { type filter hook forward priority filter; iifname "rb*" ct state new jump forward; iifname "rb*" ct state new drop; }
    chain forward { }
    chain nat { type nat hook prerouting priority dstnat; jump prerouting; }
    chain prerouting { }
    chain postrouting { }
}')");
        lab.in(Host::server, "ip addr add 45.45.45.9/24 dev b0");
        process_ = fork();
        if (process_ != 0) return;
        lab.enter(Host::router);
        const std::string conf =
            "ext_ifname=rb0\nlistening_ip=ra0\nenable_natpmp=yes\nenable_upnp=no\nsecure_mode=yes\nupnp_table_name=gateway\n"
            "upnp_nat_table_name=gateway\nupnp_forward_chain=forward\nupnp_nat_chain=prerouting\nupnp_nat_postrouting_chain=postrouting\n"
            "allow 1024-65535 10.1.0.0/16 1024-65535\n";
        const int file = memfd_create("conf", 0);
        if (write(file, conf.data(), conf.size()) < 0 || std::freopen("/dev/null", "w", stdout) == nullptr ||
            std::freopen("/dev/null", "w", stderr) == nullptr)
            _exit(1);
        const std::string path = "/proc/self/fd/" + std::to_string(file);
        execl("/usr/sbin/miniupnpd", "miniupnpd", "-d", "-f", path.c_str(), nullptr);
        _exit(127);
    }
    Gateway(const Gateway&) = delete;
    ~Gateway() {
        kill(process_, SIGTERM);
        waitpid(process_, nullptr, 0);
    }

private:
    pid_t process_ = 0;
};

}  // namespace

TEST_CASE("a host that is reached as it is opens nothing", "[netlab]") {
    for (const Protocol protocol : {Protocol::tcp, Protocol::udp}) {
        CAPTURE(to_text(protocol));
        Meeting m(protocol);
        CHECK(m.run() == ReachStep::as_it_is);
        CHECK(to_text(m.at) == TextView("10.1.0.2:4000"));
        CHECK(static_cast<bool>(m.ours) == (protocol == Protocol::udp));
    }
}

TEST_CASE("two hosts that let nobody in meet by opening at the same moment", "[netlab]") {
    for (const Protocol protocol : {Protocol::tcp, Protocol::udp}) {
        CAPTURE(to_text(protocol));
        Meeting m(protocol);
        m.close(Host::client);
        m.close(Host::server);
        const std::string rules = m.lab.ask(Host::client, "nft list ruleset");
        CHECK(m.run() == ReachStep::simultaneous_open);
        m.says_hello(m.ours, m.theirs);
        m.says_hello(m.theirs, m.ours);
        CHECK(m.lab.ask(Host::client, "nft list ruleset") == rules);
    }
}

TEST_CASE("two hosts meet over UDP although a router gives one of them another port", "[netlab]") {
    Meeting m(Protocol::udp);
    m.close(Host::client);
    m.lab.in(Host::router,
             "nft add rule inet lab nat oifname 'rb*' masquerade random; nft add rule inet lab forward iifname 'rb*' ct state new drop");
    CHECK(m.run() == ReachStep::simultaneous_open);
    m.says_hello(m.theirs, m.ours);
}

TEST_CASE("where that does not help the gateway is asked, and where it maps it, that is all", "[netlab]") {
    if (access("/usr/sbin/miniupnpd", X_OK) != 0) return test::skip("there is no miniupnpd");
    for (const Protocol protocol : {Protocol::tcp, Protocol::udp}) {
        CAPTURE(to_text(protocol));
        Meeting<SystemEvents> m(protocol, true);
        const Gateway daemon(m.lab);
        m.lab.in(Host::router, "nft insert rule inet gateway guard iifname 'ra*' udp sport 4000 ct state new drop");  // nobody meets by UDP
        m.lab.in(Host::router, "until ss -Hlun | grep -q :5351; do sleep 0.02; done");
        const std::string rules = m.lab.ask(Host::client, "nft list ruleset");
        CHECK(m.run(IpAddress::v4(45, 45, 45, 9)) == ReachStep::mapping);
        CHECK(to_text(m.at) == TextView("45.45.45.1:4000"));
        CHECK(m.lab.ask(Host::client, "nft list ruleset") == rules);
    }
}

TEST_CASE("where that does not help the firewall is opened, if it may be, and closed again", "[netlab]") {
    for (const Protocol protocol : {Protocol::tcp, Protocol::udp})
        for (const bool may : {false, true}) {
            CAPTURE(may, to_text(protocol));
            auto m = std::make_unique<Meeting<>>(protocol, may);
            // The way out has another port than the one that was told, and the way in none but that which is listened on; what answers is
            // not let in either, over UDP.
            m->close(Host::client, "tcp dport 1-65535 ct state established accept");
            m->lab.in(Host::router,
                      "nft add rule inet lab nat oifname 'rb*' masquerade random; nft add rule inet lab forward ip daddr 10.1.0.2 tcp "
                      "dport '!=' 4000 drop");
            const std::string before = m->lab.ask(Host::client, "nft list ruleset");
            CHECK(m->run() == (may ? ReachStep::rule : ReachStep::failed));
            CHECK(m->gates == (may ? "opened " : "blocks "));
            const std::string after = m->lab.ask(Host::client, "nft list ruleset");
            CHECK((after == before) == !may);
            if (may) CHECK(to_text(m->at) == TextView("10.1.0.2:4000"));
            CHECK(static_cast<bool>(m->ours) == (protocol == Protocol::udp));
        }
}
