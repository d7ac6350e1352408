// SPDX-License-Identifier: BSL-1.0
#include "pipe/support.hpp"

namespace {

using Resuming = Pipe<Scripted, Resumable<Tcp>, Persistent>;
using Plain = Pipe<Scripted, Tcp, Persistent>;
using Server = Listener<Resumable<Tcp>, Scripted, Persistent>;
using PlainServer = Listener<Tcp, NoEvents, Persistent>;
using Kind = NetworkChange::Kind;

// Over "eth0", which has the loopback address, so that what the script says happens to the connections of the test.
template <class P>
struct Connected {
    explicit Connected(const typename P::Options& options = quick<P>()) : script(Scripted::of(loop)), pipe(loop, options) {
        script.set(network(true));
        server.on_accept([this](Server::AcceptedPipe& accepted) {
            server_pipe = &accepted;
            server_heard.listen(accepted);
            accepted.on_receive([&accepted](Bytes bytes) { REQUIRE(accepted.send(bytes)); });
        });
        REQUIRE(server.listen({"127.0.0.1", 0}));
        middle.emplace(loop, server.local_endpoint());
        heard.listen(pipe);
        REQUIRE(pipe.connect(middle->endpoint()));
        REQUIRE(until(loop, [&] { return heard.is(PipeState::connected) && server_heard.is(PipeState::connected); }));
    }
    bool echoes(const std::string& what) {
        heard.bytes.clear();
        REQUIRE(pipe.send(what));
        return until(loop, [&] { return heard.bytes == what; });
    }

    Loop loop;
    Scripted& script;
    Server server{loop, quick_listener<Server>()};
    Server::AcceptedPipe* server_pipe = nullptr;
    std::optional<Middle> middle;
    P pipe;
    Heard heard, server_heard;
};

// TCP as far as this host has a way: without one it says what the kernel says.
bool routed = true;
int opens = 0;
struct Routed {
    struct Connection : TcpConnection {
        using TcpConnection::TcpConnection;
        Result<void> open(const Endpoint& to, const Way& way) {
            ++opens;
            if (!routed) return Error::system(code::no_network);
            return TcpConnection::open(to, way);
        }
    };
    using Session = session::Session;
    using Options = Session::Options;
};

// TCP that remembers from which ports it went.
std::vector<std::uint16_t> ports;
struct Noted : Tcp {
    struct Connection : TcpConnection {
        using TcpConnection::TcpConnection;
        Result<void> open(const Endpoint& to, const Way& way) {
            auto opened = TcpConnection::open(to, way);
            ports.push_back(local_endpoint().port());
            return opened;
        }
    };
};

}  // namespace

TEST_CASE("When the connection's own address goes, another is opened at once, and nobody hears of a break") {
    Connected<Resuming> c;
    CHECK(c.echoes("before"));
    c.script.set(network(true, {"192.0.2.1"}));
    CHECK(c.heard.changes.back() == Kind::address_usable);
    REQUIRE(until(c.loop, [&] { return c.pipe.statistics().resumes == 1; }));
    CHECK(c.echoes("after"));
    CHECK(c.middle->connections == 2);
    CHECK(c.pipe.statistics().connections == 2);
    CHECK(c.pipe.statistics().without_connection == Duration());
    CHECK(c.heard.states == std::vector{PipeState::connecting, PipeState::connected});
    CHECK(c.server_heard.states == std::vector{PipeState::connected});
}

TEST_CASE("The old connection serves until the new one has resumed, however long that takes") {
    auto options = quick<Resuming>();
    options.handshake_timeout = ms(30);
    Connected<Resuming> c(options);
    Mute mute;
    c.middle->retarget(mute.endpoint());  // accepts the next connections, and never answers
    c.script.set(network(true, {"192.0.2.1"}));
    REQUIRE(until(c.loop, [&] { return c.middle->connections > 1; }));
    CHECK(c.echoes("still over the old one"));
    CHECK(c.pipe.statistics().connections == 1);
    REQUIRE(until(c.loop, [&] { return c.middle->connections > 3; }));
    CHECK(c.echoes("and still"));
    c.middle->retarget(c.server.local_endpoint());
    REQUIRE(until(c.loop, [&] { return c.pipe.statistics().resumes == 1; }));
    CHECK(c.echoes("over the new one"));
    CHECK(c.heard.states == std::vector{PipeState::connecting, PipeState::connected});
}

TEST_CASE("A standby that cannot be had leaves the connection as it is") {
    Connected<Pipe<Scripted, Resumable<Tcp>, FailFast>> c;
    c.middle->retarget(Mute().endpoint());  // nobody listens there any more
    c.script.set(network(true, {"192.0.2.1"}));
    REQUIRE(until(c.loop, [&] { return c.middle->connections == 2; }));
    settle(c.loop);
    CHECK(c.echoes("goes on"));
    CHECK(c.heard.states == std::vector{PipeState::connecting, PipeState::connected});
}

TEST_CASE("One happening that makes many changes makes one attempt") {
    Connected<Resuming> c;
    c.heard.changes.clear();
    c.script.set(network(false, {"192.0.2.1"}));
    CHECK(c.heard.changes ==
          std::vector{Kind::address_removed, Kind::address_added, Kind::address_usable, Kind::route_removed, Kind::connectivity_lost});
    REQUIRE(until(c.loop, [&] { return c.pipe.statistics().resumes == 1; }));
    settle(c.loop);
    CHECK(c.middle->connections == 2);
}

TEST_CASE("An attempt that a change has hit does not win over the one that takes the way that is left") {
    ports.clear();
    Connected<Pipe<Scripted, Resumable<Noted>, Persistent>> c;
    c.middle->hold(true);
    c.script.set(network(true, {"192.0.2.1"}));
    REQUIRE(until(c.loop, [&] { return c.middle->connections == 2; }));
    c.script.set(network(true, {"127.0.0.1"}));
    c.script.set(network(true, {"192.0.2.1"}));
    REQUIRE(until(c.loop, [&] { return c.middle->connections == 3; }));
    c.middle->hold(false);
    REQUIRE(until(c.loop, [&] { return c.pipe.statistics().resumes == 1; }));
    REQUIRE(ports.size() == 3);
    CHECK(c.pipe.local_endpoint().port() == ports.back());
    CHECK(c.echoes("over the last one"));
}

TEST_CASE("A change that does not concern the connection costs nothing") {
    Connected<Resuming> c;
    c.script.set(network(true, {"127.0.0.1", "192.0.2.1"}));
    c.script.set(network(true, {"127.0.0.1"}));
    c.script.set(network(false, {"127.0.0.1"}));  // routes do not matter to loopback
    c.script.set(network(true, {"127.0.0.1", "fe80::1"}));
    static_cast<void>(c.loop.run_for(ms(20)));
    CHECK(c.echoes("as before"));
    CHECK(c.middle->connections == 1);
    CHECK(c.heard.changes.size() > 8);
}

TEST_CASE("The accepting side asks whether the connection is still there, and otherwise leaves it to the other") {
    Connected<Pipe<NoEvents, Resumable<Tcp>, Persistent>> c;
    const std::size_t before = c.middle->passed[Middle::to_client];
    c.script.set(network(true, {"192.0.2.1"}));
    CHECK(c.server_heard.changes.size() > 2);
    REQUIRE(until(c.loop, [&] { return c.middle->passed[Middle::to_client] >= before + 12; }));  // PING
    CHECK(c.echoes("as before"));
    CHECK(c.middle->connections == 1);
    CHECK(c.server_heard.states == std::vector{PipeState::connected});
}

TEST_CASE("Without a route no attempt is burned, and with one there is one at once") {
    using Parked = Pipe<Scripted, Routed, Persistent>;
    Loop loop;
    Scripted& script = Scripted::of(loop);
    Server server(loop, quick_listener<Server>());
    REQUIRE(server.listen({"127.0.0.1", 0}));
    Middle middle(loop, server.local_endpoint());
    auto options = quick<Parked>();
    options.recovery.overlap = Duration::seconds(1000);
    Parked pipe(loop, options);
    Heard heard(pipe);
    script.set(network(false));
    routed = false;
    opens = 0;
    const bool from_the_start = GENERATE(true, false);
    if (!from_the_start) {
        routed = true;
        REQUIRE(pipe.connect(middle.endpoint()));
        REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
        routed = false;
        opens = 0;
        middle.cut();
    } else {
        REQUIRE(pipe.connect(middle.endpoint()));
    }
    REQUIRE(until(loop, [&] { return heard.why().kind == FailureKind::no_route; }));
    REQUIRE(pipe.send("when there is a way"));
    CHECK(heard.is(from_the_start ? PipeState::connecting : PipeState::interrupted));
    const int before = opens;
    REQUIRE(loop.run_for(ms(100)));
    CHECK(opens == before);
    CHECK(heard.why().kind == FailureKind::no_route);
    CHECK(pipe.network().offline());

    script.set(network(false, {"127.0.0.1", "192.0.2.1"}));  // may help, and does not: back to waiting
    REQUIRE(until(loop, [&] { return opens == before + 1; }));
    REQUIRE(loop.run_for(ms(50)));
    CHECK(opens == before + 1);

    routed = true;
    script.set(network(true));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
    CHECK(opens == before + 2);
    REQUIRE(until(loop, [&] { return pipe.statistics().bytes_unacknowledged == 0; }));
}

TEST_CASE("A pipe that waits for the network gives up when its time is over") {
    using Parked = Pipe<Scripted, Routed, Persistent>;
    Loop loop;
    Mute mute;
    Scripted::of(loop).set(network(false));
    routed = false;
    auto options = quick<Parked>();
    options.give_up_after = ms(50);
    Parked pipe(loop, options);
    Heard heard(pipe);
    REQUIRE(pipe.connect(mute.endpoint()));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
    CHECK(heard.why().kind == FailureKind::no_route);
    routed = true;
}

TEST_CASE("A closing pipe that waits for the network is through when it is back") {
    using Parked = Pipe<Scripted, Routed, Persistent>;
    Loop loop;
    Scripted& script = Scripted::of(loop);
    Server server(loop, quick_listener<Server>());
    Heard server_heard;
    server.on_accept([&](Server::AcceptedPipe& pipe) { server_heard.listen(pipe); });
    REQUIRE(server.listen({"127.0.0.1", 0}));
    script.set(network(false));
    routed = false;
    Parked pipe(loop, quick<Parked>());
    Heard heard(pipe);
    REQUIRE(pipe.connect(server.local_endpoint()));
    REQUIRE(pipe.send("at last"));
    pipe.close();
    REQUIRE(loop.run_for(ms(20)));
    CHECK(heard.is(PipeState::closing));
    routed = true;
    script.set(network(true));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::closed) && server_heard.is(PipeState::closed); }));
    CHECK(heard.over());
    CHECK(server_heard.bytes == "at last");
}

TEST_CASE("A network that comes back cuts a long pause short") {
    Loop loop;
    Scripted& script = Scripted::of(loop);
    script.set(network(false));
    auto options = quick<Resuming>();
    options.recovery.backoff_base = options.recovery.backoff_cap = Duration::seconds(1000);
    Resuming pipe(loop, options);
    Heard heard(pipe);
    auto nobody = std::make_unique<Mute>();
    const Endpoint to = nobody->endpoint();
    nobody.reset();
    REQUIRE(pipe.connect(to));
    REQUIRE(until(loop, [&] { return heard.why().kind == FailureKind::refused; }));
    Server server(loop, quick_listener<Server>());
    REQUIRE(server.listen(to));
    script.set(network(true));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
}

TEST_CASE("A change for the better leaves an attempt its time where there is none beside it") {
    Loop loop;
    Scripted& script = Scripted::of(loop);
    script.set(network(false));
    BlackHole hole;
    Pipe<Scripted, Tcp, FailFast> pipe(loop);
    Heard heard(pipe);
    REQUIRE(pipe.connect(hole.endpoint()));
    settle(loop);
    script.set(network(true, {"127.0.0.1", "192.0.2.1"}));
    REQUIRE(loop.run_for(ms(20)));
    CHECK(heard.states == std::vector{PipeState::connecting});
}

TEST_CASE("Giving up is about having no connection: a standby is not hurried by it") {
    auto options = quick<Resuming>();
    options.give_up_after = Duration::seconds(60);
    Connected<Resuming> c(options);
    options.give_up_after = ms(20);
    Resuming pipe(c.loop, options);
    Heard heard(pipe);
    REQUIRE(until(c.loop, [&] {  // a busy machine may take more than that
        if (pipe.state() == PipeState::idle || pipe.state() == PipeState::closed) REQUIRE(pipe.connect(c.middle->endpoint()));
        return heard.is(PipeState::connected);
    }));
    const int before = c.middle->connections;
    Mute mute;
    c.middle->retarget(mute.endpoint());
    c.script.set(network(true, {"192.0.2.1"}));
    REQUIRE(c.loop.run_for(ms(50)));
    CHECK(c.middle->connections - before >= 2);  // one for each of the two pipes
    CHECK(c.middle->connections - before <= 4);
    CHECK(heard.is(PipeState::connected));
}

// ---- Plain TCP: a new connection would be a new conversation, so the old one gets a second.

TEST_CASE("A plain conversation whose address is gone for a second is over") {
    Loop loop;
    Scripted& script = Scripted::of(loop);
    script.set(network(true));
    PlainServer server(loop, quick_listener<PlainServer>());
    int accepted = 0;
    server.on_accept([&](PlainServer::AcceptedPipe&) { ++accepted; });
    REQUIRE(server.listen({"127.0.0.1", 0}));
    const auto lose = [&](auto& pipe, Heard& heard) {
        REQUIRE(pipe.connect(server.local_endpoint()));
        REQUIRE(until(loop, [&] { return heard.is(PipeState::connected) && accepted == 1; }));
        const TimePoint start = monotonic_now();
        script.set(network(true, {"192.0.2.1"}));
        settle(loop);
        if (monotonic_now() - start < ms(500)) CHECK(heard.is(PipeState::connected));
        REQUIRE(until(loop, [&] { return !heard.is(PipeState::connected); }));
        CHECK(monotonic_now() - start >= Duration::seconds(1));
        CHECK(heard.why() == Failure{FailureKind::address_lost, Stage::established, Errc::address_lost});
    };
    SECTION("it ends with a policy that fails fast") {
        Pipe<Scripted, Tcp, FailFast> pipe(loop);
        Heard heard(pipe);
        lose(pipe, heard);
        CHECK(heard.is(PipeState::closed));
    }
    SECTION("and a new one starts with one that does not let go") {
        Plain pipe(loop, quick<Plain>());
        Heard heard(pipe);
        lose(pipe, heard);
        REQUIRE(until(loop, [&] { return heard.times(PipeState::connected) == 2 && accepted == 2; }));
    }
}

TEST_CASE("An address that comes back within a second costs a plain conversation nothing") {
    Loop loop;
    Scripted& script = Scripted::of(loop);
    script.set(network(true));
    PlainServer server(loop, quick_listener<PlainServer>());
    Heard server_heard;
    server.on_accept([&](PlainServer::AcceptedPipe& pipe) { server_heard.listen(pipe); });
    REQUIRE(server.listen({"127.0.0.1", 0}));
    Plain pipe(loop, quick<Plain>());
    Heard heard(pipe);
    REQUIRE(pipe.connect(server.local_endpoint()));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
    script.set(network(true, {"192.0.2.1"}));
    settle(loop);
    script.set(network(true));
    REQUIRE(loop.run_for(ms(1200)));
    CHECK(heard.states == std::vector{PipeState::connecting, PipeState::connected});
    REQUIRE(pipe.send("as before"));
    REQUIRE(until(loop, [&] { return server_heard.bytes == "as before"; }));
}

TEST_CASE("A handler of settled changes hears only of what holds, and may destroy its pipe") {
    Connected<Resuming> c;
    std::optional<Resuming> other(std::in_place, c.loop);
    std::vector<Kind> settled, after;
    c.pipe.on_network_change([&](const NetworkChange& change) {
        CHECK(change.settled);
        settled.push_back(change.kind);
    });
    other->on_network_change([&, kept = std::string(100, 'k')](const NetworkChange&) {
        other.reset();
        CHECK(kept == std::string(100, 'k'));
    });
    const auto late = c.pipe.on_network_change([&](const NetworkChange&) { after.push_back(Kind::woke); });
    REQUIRE(late != 0);
    CHECK(c.pipe.remove_handler(late));
    for (int i = 0; i < 100; ++i) {
        c.script.set(network(true, {"127.0.0.1", "192.0.2.1"}));
        c.script.set(network(true, {"127.0.0.1"}));
    }
    c.script.set(network(true, {"127.0.0.1", "192.0.2.2"}));
    CHECK(c.heard.changes.size() >= 300);
    CHECK(settled.empty());
    REQUIRE(until(c.loop, [&] { return !settled.empty(); }));
    CHECK(settled == std::vector{Kind::address_added, Kind::address_usable});
    CHECK_FALSE(other);
    CHECK(after.empty());
    CHECK(c.middle->connections == 1);
}

TEST_CASE("A sleep is told once, to both kinds of handlers, and does not touch connections of loopback") {
    Connected<Resuming> c;
    std::vector<bool> told;
    c.pipe.on_network_change([&](const NetworkChange& change) { told.push_back(change.early && change.settled); });
    c.pipe.on_network_change([&](const NetworkChange& change) { told.push_back(change.early && change.settled); }, Notice::at_once);
    NetworkChange woke;
    woke.kind = Kind::woke;
    woke.major = true;
    c.script.tell(woke);
    CHECK(told == std::vector{true, true});
    static_cast<void>(c.loop.run_for(ms(20)));
    CHECK(c.echoes("as before"));
    CHECK(c.middle->connections == 1);
}

TEST_CASE("A pipe tells of the network in every state, and what it looks like") {
    Loop loop;
    Scripted& script = Scripted::of(loop);
    Mute mute;
    Resuming pipe(loop, quick<Resuming>());
    Heard heard(pipe);
    CHECK_FALSE(pipe.network().known);
    script.set(network(true));
    CHECK(pipe.network().connected());
    CHECK(heard.changes.back() == Kind::connectivity_regained);
    REQUIRE(pipe.connect(mute.endpoint()));
    settle(loop);
    script.set(network(false));
    CHECK(heard.changes.back() == Kind::connectivity_lost);
    pipe.abort();
    heard.changes.clear();
    script.set(network(true));
    CHECK(heard.changes == std::vector{Kind::route_added, Kind::connectivity_regained});
    script.set(network(true));  // nothing has changed
    CHECK(heard.changes.size() == 2);
}
