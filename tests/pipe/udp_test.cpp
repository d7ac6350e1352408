// SPDX-License-Identifier: BSL-1.0
#include "support.hpp"

namespace {

using Client = Pipe<Scripted, Udp, Persistent>;

// A datagram socket that echoes.
struct Peer {
    Peer() {
        socket.reuse_address();  // a port at once, not when it is connected
        REQUIRE(socket.bind(IpAddress::v4(127, 0, 0, 1), 0));
    }
    Endpoint endpoint() const { return socket.local_endpoint(); }
    // What has come by now.
    void take() {
        std::vector<std::byte> room(70'000);
        Endpoint from;
        while (auto n = socket.receive_from(room, from)) {
            heard.push_back(text(Bytes(room).first(*n)));
            senders.push_back(from);
            if (echo) static_cast<void>(socket.send_to(Bytes(room).first(*n), from.ip(), from.port()));
        }
    }
    Socket socket = std::move(*Socket::udp(Family::v4));
    std::vector<std::string> heard;
    std::vector<Endpoint> senders;
    bool echo = true;
};

struct Fixture {
    Fixture() : script(Scripted::of(loop)) {
        script.set(network(true));
        pipe.on_receive([this](Bytes bytes) { back.push_back(text(bytes)); });
        pipe.on_event([this](const Event& event) { events.push_back(event); });
        heard.listen(pipe);
    }
    bool until_true(const std::function<bool()>& done) {
        return until(loop, [&] {
            if (peer) peer->take();
            return done();
        });
    }
    void connect() {
        REQUIRE(pipe.connect(peer->endpoint()));
        REQUIRE(until_true([&] { return heard.is(PipeState::connected); }));
    }
    Loop loop;
    Scripted& script;
    std::optional<Peer> peer{std::in_place};
    Client pipe{loop, quick<Client>()};
    Heard heard;
    std::vector<std::string> back;
    std::vector<Event> events;
};

}  // namespace

TEST_CASE("Datagrams go and come one by one: small, empty, and as large as they can be") {
    Fixture f;
    REQUIRE(f.pipe.connect(f.peer->endpoint()));
    const std::string large(Udp::Session::datagram_max, 'x');
    for (const std::string& datagram : {std::string("one"), std::string(), std::string("three"), large}) REQUIRE(f.pipe.send(datagram));
    REQUIRE(f.until_true([&] { return f.back.size() == 4; }));
    CHECK(f.peer->heard == f.back);
    CHECK(f.back == std::vector{std::string("one"), std::string(), std::string("three"), large});
    CHECK(f.pipe.send(large + "x").error() == Errc::too_large);
    CHECK(f.pipe.statistics().bytes_received == large.size() + 8);
    CHECK(f.pipe.statistics().connections == 1);
    f.pipe.close();
    REQUIRE(f.until_true([&] { return f.heard.over(); }));
}

TEST_CASE("What is queued goes out before a pipe of datagrams is closed") {
    Fixture f;
    REQUIRE(f.pipe.connect(f.peer->endpoint()));
    REQUIRE(f.pipe.send("last words"));
    f.pipe.close();
    REQUIRE(f.until_true([&] { return f.heard.over() && !f.peer->heard.empty(); }));
    CHECK(f.peer->heard == std::vector{std::string("last words")});
}

TEST_CASE("When the socket's own address goes, datagrams leave from another socket at once") {
    Fixture f;
    f.connect();
    REQUIRE(f.pipe.send("before"));
    REQUIRE(f.until_true([&] { return f.back.size() == 1; }));
    f.script.set(network(true, {"192.0.2.1"}));
    REQUIRE(f.until_true([&] { return f.pipe.statistics().connections == 2; }));
    REQUIRE(f.pipe.send("after"));
    REQUIRE(f.until_true([&] { return f.back.size() == 2; }));
    CHECK_FALSE(f.peer->senders[0] == f.peer->senders[1]);
    CHECK(f.heard.states == std::vector{PipeState::connecting, PipeState::connected});
    CHECK(f.pipe.statistics().interruptions == 0);
    CHECK(f.pipe.statistics().without_connection == Duration());
}

#if defined(__linux__)  // elsewhere the system does not tell, or not always
TEST_CASE("A closed port is told, and the pipe of datagrams is there when it opens") {
    Fixture f;
    f.connect();
    const Endpoint at = f.peer->endpoint();
    f.peer.reset();
    REQUIRE(f.pipe.send("nobody hears this"));
    REQUIRE(until(f.loop, [&] { return f.heard.is(PipeState::interrupted) || f.pipe.statistics().interruptions > 0; }));
    CHECK(std::any_of(f.heard.failures.begin(), f.heard.failures.end(),
                      [](const Failure& why) { return why.kind == FailureKind::refused && why.stage == Stage::established; }));
    f.peer.emplace();
    f.peer->socket = std::move(*Socket::udp(Family::v4));
    REQUIRE(f.peer->socket.bind(at.ip(), at.port()));
    REQUIRE(f.until_true([&] { return f.heard.is(PipeState::connected); }));
    REQUIRE(f.until_true([&] {
        static_cast<void>(f.pipe.send("again"));
        return !f.back.empty();
    }));
}
#endif

namespace {

using Faulted = Pipe<NoEvents, Faulty<Udp>, Persistent>;

struct FaultedFixture {
    FaultedFixture() {
        pipe.on_event([this](const Event& event) { events.push_back(event); });
        heard.listen(pipe);
        REQUIRE(pipe.connect(peer.endpoint()));
        REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
        peer.echo = false;
    }
    bool arrives(const std::string& what) {
        REQUIRE(pipe.send(what));
        return until(loop, [&] {
            peer.take();
            return !peer.heard.empty() && peer.heard.back() == what;
        });
    }
    int lost() const {
        return static_cast<int>(std::count_if(events.begin(), events.end(), [](const Event& e) { return e.kind == Event::Kind::lost; }));
    }
    Loop loop;
    Peer peer;
    Faulted pipe{loop, quick<Faulted>()};
    Heard heard;
    std::vector<Event> events;
};

#if defined(_WIN32)
constexpr int too_large = WSAEMSGSIZE, no_buffers = WSAENOBUFS;
#else
constexpr int too_large = EMSGSIZE, no_buffers = ENOBUFS, no_permission = EPERM;
#endif

}  // namespace

TEST_CASE("A datagram that is too large for the path is lost alone, and told as an event") {
    FaultedFixture f;
    REQUIRE(Faults::of(f.loop).add({Fault::At::write, Fault::Kind::error, Error::system(too_large)}));
    REQUIRE(f.pipe.send("too large"));
    REQUIRE(f.arrives("small"));
    settle(f.loop);
    CHECK(f.lost() == 1);
    CHECK(f.peer.heard == std::vector{std::string("small")});
    CHECK(f.heard.states == std::vector{PipeState::connecting, PipeState::connected});
}

TEST_CASE("An interface whose queue is full is tried again a moment later, with the same datagram") {
    FaultedFixture f;
    REQUIRE(Faults::of(f.loop).add({Fault::At::write, Fault::Kind::error, Error::system(no_buffers), {}, 1, 0, 3}));
    REQUIRE(f.arrives("patience"));
    CHECK(Faults::of(f.loop).count() == 3);
    CHECK(f.lost() == 0);
    CHECK(f.pipe.statistics().connections == 1);
}

#if !defined(_WIN32)
TEST_CASE("What this host's firewall refuses is lost and told, and another socket is tried, once in a while") {
    FaultedFixture f;
    REQUIRE(Faults::of(f.loop).add({Fault::At::write, Fault::Kind::error, Error::system(no_permission), {}, 1, 0, 4}));
    for (int i = 0; i < 4; ++i) REQUIRE(f.pipe.send("refused"));
    REQUIRE(f.arrives("allowed"));
    settle(f.loop);
    CHECK(f.lost() == 4);
    CHECK(f.pipe.statistics().connections == 2);
    CHECK(std::any_of(f.heard.failures.begin(), f.heard.failures.end(),
                      [](const Failure& why) { return why.kind == FailureKind::forbidden; }));
}
#endif

TEST_CASE("Without a way there, datagrams wait for one") {
    Loop loop;
    Scripted& script = Scripted::of(loop);
    script.set(network(false));
    using P = Pipe<Scripted, Faulty<Udp>, Persistent>;
    P pipe(loop, quick<P>());
    Heard heard(pipe);
    Peer peer;
    REQUIRE(Faults::of(loop).add({Fault::At::open, Fault::Kind::error, Error::system(code::no_network)}));
    REQUIRE(pipe.connect(peer.endpoint()));
    REQUIRE(pipe.send("patience"));
    REQUIRE(until(loop, [&] { return pipe.explain().doing == Explanation::Doing::waiting_for_network; }));
    script.set(network(true));
    REQUIRE(until(loop, [&] {
        peer.take();
        return !peer.heard.empty();
    }));
}
