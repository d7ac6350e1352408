// SPDX-License-Identifier: BSL-1.0
#include "pipe/support.hpp"

namespace {

using Client = Pipe<NoEvents, Resumable<Tcp>, Persistent>;
using Once = Pipe<NoEvents, Resumable<Tcp>, FailFast>;
using Server = Listener<Resumable<Tcp>, NoEvents, Persistent>;
using PlainClient = Pipe<NoEvents, Tcp, FailFast>;
using PlainServer = Listener<Tcp, NoEvents, Persistent>;

// A listener, and what its pipes have to tell.
template <class L>
struct Serving {
    explicit Serving(Loop& l, const typename L::Options& o = quick_listener<L>(), const char* address = "127.0.0.1")
        : loop(l), options(o), listener(std::in_place, loop, options) {
        listener->on_accept([this](typename L::AcceptedPipe& pipe) {
            pipes.push_back(&pipe);
            heard.push_back(std::make_unique<Heard>(pipe));
            if (then) then(pipe);
        });
        REQUIRE(listener->listen({address, 0}));
    }
    Endpoint endpoint() const { return listener->local_endpoint(); }
    std::size_t count() const { return heard.size(); }
    Loop& loop;
    const typename L::Options options;
    std::vector<typename L::AcceptedPipe*> pipes;
    std::vector<std::unique_ptr<Heard>> heard;
    std::function<void(typename L::AcceptedPipe&)> then;
    std::optional<L> listener;
};

// A client, and what it has to tell.
template <class P>
struct Calling {
    explicit Calling(Loop& loop, const Endpoint& to, const char* from = nullptr) : pipe(loop, options(from)) {
        heard.listen(pipe);
        REQUIRE(pipe.connect(to));
    }
    static typename P::Options options(const char* from) {
        auto o = quick<P>();
        if (from != nullptr) o.from = *IpAddress::parse(from);
        return o;
    }
    P pipe;
    Heard heard;
};

// A client that says only what it is told to.
struct Raw {
    Raw(Loop& l, const Endpoint& to) : loop(l), socket(std::move(*Socket::tcp(to.ip().family))) {
        static_cast<void>(socket.connect(to.ip(), to.port()));
        REQUIRE(until(loop, [&] { return socket.peer_endpoint().valid(); }));
    }
    void write() {
        while (!handshake.pending().empty()) {
            auto n = socket.send(handshake.pending());
            REQUIRE(n);
            handshake.wrote(*n);
        }
    }
    void ask_new() {
        handshake.ask_new({}, 65536, nullptr);
        write();
    }
    void ask_resume(const session::Identity& identity, std::uint64_t epoch) {
        handshake.ask_resume(identity, {}, epoch, 65536);
        write();
    }
    // Whether the answer was a yes.
    bool answered() {
        bool yes = false;
        REQUIRE(until(loop, [&] {
            std::byte buffer[1000];
            auto n = socket.receive(buffer);
            if (!n) return n.error() != Errc::would_block;
            Bytes bytes(buffer, *n);
            if (bytes.empty()) return true;
            auto joined = handshake.receive(bytes);
            yes = joined && *joined;
            refusal = joined.error();
            return yes || !joined;
        }));
        return yes;
    }
    bool closed() {
        std::byte buffer[1000];
        auto n = socket.receive(buffer);
        return n ? *n == 0 : n.error() != Errc::would_block;
    }
    Loop& loop;
    Socket socket;
    session::ClientHandshake handshake;
    Error refusal;
};

}  // namespace

TEST_CASE("on_accept comes once a session, however many connections that takes") {
    Loop loop;
    Serving<Server> server(loop);
    Middle middle(loop, server.endpoint());
    Calling<Client> client(loop, middle.endpoint());
    for (int round = 1; round <= 10; ++round) {
        REQUIRE(client.pipe.send("x"));
        REQUIRE(until(loop, [&] { return server.count() == 1 && server.heard[0]->bytes.size() == static_cast<std::size_t>(round); }));
        middle.cut();
    }
    REQUIRE(until(loop, [&] { return client.pipe.statistics().resumes >= 9; }));
    CHECK(server.count() == 1);
    CHECK(server.listener->size() == 1);
    CHECK(server.heard[0]->times(PipeState::closed) == 0);
}

TEST_CASE("Handlers added in on_accept miss nothing") {
    Loop loop;
    Serving<Server> server(loop);
    Calling<Client> client(loop, server.endpoint());
    REQUIRE(client.pipe.send("first words, sent with the handshake"));
    REQUIRE(until(loop, [&] { return server.count() == 1 && server.heard[0]->bytes == "first words, sent with the handshake"; }));
    CHECK(server.heard[0]->states == std::vector{PipeState::connected});
}

TEST_CASE("What is sent in on_accept arrives") {
    Loop loop;
    const auto run = [&](auto& server, auto& client) {
        REQUIRE(until(loop, [&] { return client.heard.bytes == "welcome"; }));
        CHECK(server.count() == 1);
    };
    SECTION("with a session") {
        Serving<Server> server(loop);
        server.then = [](auto& pipe) { REQUIRE(pipe.send("welcome")); };
        Calling<Client> client(loop, server.endpoint());
        run(server, client);
    }
    SECTION("plain") {
        Serving<PlainServer> server(loop);
        server.then = [](auto& pipe) { REQUIRE(pipe.send("welcome")); };
        Calling<PlainClient> client(loop, server.endpoint());
        run(server, client);
    }
}

TEST_CASE("Accept handlers can be added and removed, also by each other") {
    Loop loop;
    PlainServer server(loop, quick_listener<PlainServer>());
    std::string calls;
    HandlerId once = 0;
    once = server.on_accept([&](auto&) {
        calls += "a";
        CHECK(server.remove_handler(once));
        CHECK(server.on_accept([&](auto&) { calls += "c"; }) != 0);
    });
    CHECK(server.on_accept([&](auto&) { calls += "b"; }) != 0);
    REQUIRE(server.listen({"127.0.0.1", 0}));
    Calling<PlainClient> first(loop, server.local_endpoint());
    REQUIRE(until(loop, [&] { return calls == "ab"; }));
    Calling<PlainClient> second(loop, server.local_endpoint());
    REQUIRE(until(loop, [&] { return calls.size() == 4; }));
    CHECK(calls == "abbc");
}

TEST_CASE("on_accept may destroy or close the listener, or end the pipe") {
    Loop loop;
    const int what = GENERATE(0, 1, 2, 3);
    CAPTURE(what);
    const auto run = [&](auto& server, auto& first, auto& second) {
        server.then = [&](auto& pipe) {
            if (what == 0) server.listener.reset();
            if (what == 1) server.listener->close();
            if (what == 2) pipe.close();
            if (what == 3) pipe.abort();
        };
        REQUIRE(until(loop, [&] { return server.count() > 0; }));
        if (what == 1)
            REQUIRE(until(loop, [&] { return first.heard.is(PipeState::connected) || second.heard.is(PipeState::connected); }));
        else
            REQUIRE(until(loop, [&] { return first.heard.is(PipeState::closed) || second.heard.is(PipeState::closed); }));
        settle(loop);
    };
    SECTION("with a session") {
        Serving<Server> server(loop);
        Calling<Once> first(loop, server.endpoint()), second(loop, server.endpoint());
        run(server, first, second);
    }
    SECTION("plain") {
        Serving<PlainServer> server(loop);
        Calling<PlainClient> first(loop, server.endpoint()), second(loop, server.endpoint());
        run(server, first, second);
    }
}

TEST_CASE("A closed listener accepts nobody more, and its conversations go on") {
    Loop loop;
    Serving<Server> server(loop);
    Calling<Client> client(loop, server.endpoint());
    REQUIRE(until(loop, [&] { return server.count() == 1 && client.heard.is(PipeState::connected); }));
    const Endpoint at = server.endpoint();
    server.listener->close();
    Calling<Once> late(loop, at);
    REQUIRE(until(loop, [&] { return late.heard.is(PipeState::closed); }));
    CHECK(late.heard.why().kind == FailureKind::refused);
    REQUIRE(client.pipe.send("still here"));
    REQUIRE(until(loop, [&] { return server.heard[0]->bytes == "still here"; }));
    REQUIRE(server.listener->listen(at));
    Calling<Once> again(loop, at);
    REQUIRE(until(loop, [&] { return again.heard.is(PipeState::connected); }));
}

TEST_CASE("Whoever comes when every session has a connection is refused, and told why") {
    Loop loop;
    auto options = quick_listener<Server>();
    options.limits.sessions = 2;
    Serving<Server> server(loop, options);
    Calling<Client> a(loop, server.endpoint()), b(loop, server.endpoint());
    REQUIRE(until(loop, [&] { return a.heard.is(PipeState::connected) && b.heard.is(PipeState::connected); }));
    Calling<Once> c(loop, server.endpoint());
    REQUIRE(until(loop, [&] { return c.heard.is(PipeState::closed); }));
    CHECK(c.heard.why() == Failure{FailureKind::session_refused, Stage::handshaking, Errc::session_limit});
    CHECK(server.listener->size() == 2);
    CHECK(server.count() == 2);
    // One that does not let go gets in when there is room.
    Calling<Client> d(loop, server.endpoint());
    REQUIRE(until(loop, [&] { return d.heard.why().kind == FailureKind::session_refused; }));
    a.pipe.abort();
    REQUIRE(until(loop, [&] { return d.heard.is(PipeState::connected) && server.count() == 3; }));
    CHECK(server.listener->size() == 2);
}

TEST_CASE("A plain listener has no more conversations than it may") {
    Loop loop;
    auto options = quick_listener<PlainServer>();
    options.limits.sessions = 2;
    Serving<PlainServer> server(loop, options);
    Calling<PlainClient> a(loop, server.endpoint()), b(loop, server.endpoint());
    REQUIRE(until(loop, [&] { return server.count() == 2; }));
    Calling<PlainClient> c(loop, server.endpoint());
    REQUIRE(until(loop, [&] { return c.heard.is(PipeState::closed); }));
    CHECK(server.count() == 2);
    a.pipe.close();
    REQUIRE(until(loop, [&] { return server.listener->size() == 1; }));
    Calling<PlainClient> d(loop, server.endpoint());
    REQUIRE(until(loop, [&] { return server.count() == 3; }));
}

TEST_CASE("A peer has no more sessions than a peer may, and others are not hurt by that") {
    Loop loop;
    auto options = quick_listener<Server>();
    options.limits.sessions_per_peer = 1;
    // Over a socket for both families IPv4 peers come as IPv6 addresses, and are still as many as they are.
    const bool both = GENERATE(false, true);
    Serving<Server> server(loop, options, both ? "::" : "127.0.0.1");
    const Endpoint to("127.0.0.1", server.endpoint().port());
    Calling<Once> a(loop, to, "127.0.0.1");
    REQUIRE(until(loop, [&] { return a.heard.is(PipeState::connected) && server.count() == 1; }));
    Calling<Once> second(loop, to, "127.0.0.1"), other(loop, to, "127.0.0.2");
    REQUIRE(until(loop, [&] { return second.heard.is(PipeState::closed) && other.heard.is(PipeState::connected); }));
    CHECK(second.heard.why().kind == FailureKind::session_refused);
}

TEST_CASE("A flood of connections that say nothing does not keep others out, and is closed in time") {
    Loop loop;
    auto options = quick_listener<Server>();
    options.limits.half_made = 10;
    options.limits.half_made_per_peer = 5;
    options.limits.handshake = Duration::seconds(2);
    Serving<Server> server(loop, options);
    std::vector<std::unique_ptr<Raw>> flood;
    for (int i = 0; i < 50; ++i) flood.push_back(std::make_unique<Raw>(loop, server.endpoint()));
    Calling<Client> neighbour(loop, server.endpoint(), "127.0.0.2"), same(loop, server.endpoint());
    REQUIRE(until(loop, [&] { return neighbour.heard.is(PipeState::connected) && same.heard.is(PipeState::connected); }));
    REQUIRE(until(loop, [&] { return std::all_of(flood.begin(), flood.end(), [](auto& raw) { return raw->closed(); }); }));
    CHECK(server.count() == 2);
}

TEST_CASE("A flood of handshakes that are never finished leaves no more than the bound, and that not for long") {
    Loop loop;
    auto options = quick_listener<Server>();
    options.limits.half_made = 10;
    options.limits.handshake = ms(300);
    Serving<Server> server(loop, options);
    for (int i = 0; i < 100; ++i) {
        Raw raw(loop, server.endpoint());
        raw.ask_new();
        static_cast<void>(raw.answered());  // and goes away
    }
    CHECK(server.count() == 0);
    CHECK(server.listener->size() == 0);
    Calling<Client> client(loop, server.endpoint());
    REQUIRE(until(loop, [&] { return client.heard.is(PipeState::connected); }));
}

TEST_CASE("What is no handshake is hung up on") {
    Loop loop;
    Serving<Server> server(loop);
    const std::string noise = GENERATE(std::string("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"), std::string(1000, '\xff'),
                                       std::string(1000, '\0'), std::string("\x01\xff\xff\xff", 4) + std::string(100, 'x'));
    Raw raw(loop, server.endpoint());
    REQUIRE(raw.socket.send(TextView(noise).bytes()));
    REQUIRE(until(loop, [&] { return raw.closed(); }));
    CHECK(server.count() == 0);
}

TEST_CASE("A peer of another version is told so") {
    Loop loop;
    Serving<Server> server(loop);
    Raw raw(loop, server.endpoint());
    raw.handshake.ask_new({}, 65536, nullptr);
    std::vector<std::byte> hello(raw.handshake.pending().begin(), raw.handshake.pending().end());
    hello[7] = std::byte{9};
    REQUIRE(raw.socket.send(Bytes(hello)));
    raw.handshake.wrote(hello.size());
    CHECK_FALSE(raw.answered());
    CHECK(raw.refusal == Errc::version_mismatch);
}

TEST_CASE("A client that claims what cannot be is hung up on, and costs the session nothing") {
    Loop loop;
    Serving<Server> server(loop);
    session::Identity identity;
    {
        Raw raw(loop, server.endpoint());
        raw.ask_new();
        REQUIRE(raw.answered());
        identity = raw.handshake.identity();
        raw.handshake.confirm(0, 0);
        raw.write();
        REQUIRE(until(loop, [&] { return server.count() == 1 && server.heard[0]->is(PipeState::connected); }));
    }
    REQUIRE(until(loop, [&] { return server.heard[0]->is(PipeState::interrupted); }));
    REQUIRE(server.pipes[0]->send("to be continued"));
    {
        Raw liar(loop, server.endpoint());
        liar.ask_resume(identity, 1);
        REQUIRE(liar.answered());
        liar.handshake.confirm(1'000'000, 0);  // has received what was never sent
        liar.write();
        REQUIRE(until(loop, [&] { return liar.closed(); }));
    }
    CHECK(server.heard[0]->is(PipeState::interrupted));
    Raw honest(loop, server.endpoint());
    honest.ask_resume(identity, 2);
    REQUIRE(honest.answered());
    honest.handshake.confirm(0, 0);
    honest.write();
    REQUIRE(until(loop, [&] { return server.heard[0]->is(PipeState::connected); }));
    std::string received;
    REQUIRE(until(loop, [&] {
        std::byte buffer[1000];
        if (auto n = honest.socket.receive(buffer)) received += text(Bytes(buffer, *n));
        return received.find("to be continued") != std::string::npos;
    }));
    // A connection that the client asked for earlier comes too late now.
    Raw late(loop, server.endpoint());
    late.ask_resume(identity, 2);
    CHECK_FALSE(late.answered());
    CHECK(late.refusal == Errc::session_fenced);
    CHECK(server.count() == 1);
}

TEST_CASE("A session without a connection for too long has expired, for the server and then for the client") {
    Loop loop;
    auto options = quick_listener<Server>();
    options.pipe.transport.keep_detached = ms(100);
    Serving<Server> server(loop, options);
    Middle middle(loop, server.endpoint());
    Calling<Client> client(loop, middle.endpoint());
    REQUIRE(until(loop, [&] { return client.heard.is(PipeState::connected) && server.count() == 1; }));
    const TimePoint start = monotonic_now();
    middle.retarget(Mute().endpoint());  // nobody there
    middle.cut();
    REQUIRE(until(loop, [&] { return server.heard[0]->is(PipeState::closed); }));
    CHECK(monotonic_now() - start >= ms(100));
    CHECK(server.heard[0]->states == std::vector{PipeState::connected, PipeState::interrupted, PipeState::closed});
    CHECK(server.heard[0]->why().kind == FailureKind::session_expired);
    REQUIRE(until(loop, [&] { return server.listener->size() == 0; }));
    middle.retarget(server.endpoint());
    REQUIRE(until(loop, [&] { return client.heard.is(PipeState::closed); }));
    CHECK(client.heard.why().kind == FailureKind::session_unknown);
    CHECK(server.count() == 1);
}

TEST_CASE("A session that comes back in time has not expired") {
    Loop loop;
    auto options = quick_listener<Server>();
    options.pipe.transport.keep_detached = ms(300);
    Serving<Server> server(loop, options);
    Middle middle(loop, server.endpoint());
    Calling<Client> client(loop, middle.endpoint());
    REQUIRE(until(loop, [&] { return client.heard.is(PipeState::connected) && server.count() == 1; }));
    middle.cut();
    REQUIRE(until(loop, [&] { return client.pipe.statistics().resumes == 1 && server.heard[0]->is(PipeState::connected); }));
    REQUIRE(loop.run_for(ms(400)));  // counted from the break it would be over now
    CHECK(server.heard[0]->is(PipeState::connected));
    CHECK(client.heard.is(PipeState::connected));
}

TEST_CASE("When there is no more room, the session that has been longest without a connection gives way") {
    Loop loop;
    auto options = quick_listener<Server>();
    options.limits.sessions = 3;
    Serving<Server> server(loop, options);
    Middle first_way(loop, server.endpoint()), second_way(loop, server.endpoint());
    Calling<Client> first(loop, first_way.endpoint()), stays(loop, server.endpoint());
    REQUIRE(until(loop, [&] { return server.count() == 2; }));
    Calling<Client> second(loop, second_way.endpoint());
    REQUIRE(until(loop, [&] { return server.count() == 3; }));
    const std::size_t first_at = first.heard.is(PipeState::connected) && server.pipes[0]->peer_endpoint() == stays.pipe.local_endpoint();
    const auto detach = [&](Middle& middle) {
        middle.retarget(Mute().endpoint());
        middle.cut();
    };
    detach(first_way);
    REQUIRE(until(loop, [&] { return server.heard[first_at]->is(PipeState::interrupted); }));
    detach(second_way);
    REQUIRE(until(loop, [&] { return server.heard[2]->is(PipeState::interrupted); }));

    Calling<Client> newcomer(loop, server.endpoint());
    REQUIRE(until(loop, [&] { return newcomer.heard.is(PipeState::connected) && server.heard[first_at]->is(PipeState::closed); }));
    CHECK(server.heard[first_at]->why().kind == FailureKind::session_expired);
    CHECK(server.heard[2]->is(PipeState::interrupted));
    CHECK(stays.heard.is(PipeState::connected));
    CHECK(until(loop, [&] { return server.listener->size() == 3; }));  // once it has been told
}

TEST_CASE("The bound holds when many come at the same moment") {
    Loop loop;
    auto options = quick_listener<Server>();
    options.limits.sessions = 4;
    Serving<Server> server(loop, options);
    std::size_t most = 0;
    server.then = [&](auto&) { most = std::max(most, server.listener->size()); };
    std::vector<std::unique_ptr<Middle>> ways;
    std::vector<std::unique_ptr<Calling<Client>>> old, crowd;
    for (int i = 0; i < 4; ++i) {
        ways.push_back(std::make_unique<Middle>(loop, server.endpoint()));
        old.push_back(std::make_unique<Calling<Client>>(loop, ways.back()->endpoint()));
    }
    REQUIRE(until(loop, [&] { return server.count() == 4; }));
    for (auto& way : ways) {
        way->retarget(Mute().endpoint());
        way->cut();
    }
    REQUIRE(until(loop, [&] {
        return std::all_of(server.heard.begin(), server.heard.end(), [](auto& heard) { return heard->is(PipeState::interrupted); });
    }));
    for (int i = 0; i < 30; ++i) crowd.push_back(std::make_unique<Calling<Client>>(loop, server.endpoint()));
    REQUIRE(until(loop, [&] {
        for (int i = 0; i < 4; ++i)
            if (!server.heard[static_cast<std::size_t>(i)]->is(PipeState::closed)) return false;
        return server.count() >= 8;
    }));
    settle(loop);
    CHECK(server.count() == 8);
    CHECK(server.listener->size() == 4);
    CHECK(most <= 8);  // those that have given way are there until they have been told
}

TEST_CASE("The handler that hears that its session gave way may destroy the listener") {
    Loop loop;
    auto options = quick_listener<Server>();
    const bool by_expiry = GENERATE(false, true);
    options.limits.sessions = 1;
    if (by_expiry) options.pipe.transport.keep_detached = ms(20);
    Serving<Server> server(loop, options);
    bool destroyed = false;
    server.then = [&](auto& pipe) {
        pipe.on_state([&](PipeState state, const Failure&) {
            if (state != PipeState::closed) return;
            destroyed = true;
            server.listener.reset();
        });
    };
    Middle middle(loop, server.endpoint());
    Calling<Client> client(loop, middle.endpoint());
    REQUIRE(until(loop, [&] { return server.count() == 1 && client.heard.is(PipeState::connected); }));
    const Endpoint at = server.endpoint();
    middle.retarget(Mute().endpoint());
    middle.cut();
    REQUIRE(until(loop, [&] { return destroyed || server.heard[0]->is(PipeState::interrupted); }));
    std::optional<Calling<Client>> newcomer;
    if (!by_expiry) newcomer.emplace(loop, at);
    REQUIRE(until(loop, [&] { return destroyed; }));
    settle(loop);
}

TEST_CASE("A destroyed listener takes its conversations with it, at whatever stage they are") {
    Loop loop;
    std::optional<Serving<Server>> server(std::in_place, loop);
    Raw silent(loop, server->endpoint()), asked(loop, server->endpoint()), joined(loop, server->endpoint());
    asked.ask_new();
    joined.ask_new();
    REQUIRE(joined.answered());
    joined.handshake.confirm(0, 0);
    joined.write();
    Calling<Once> client(loop, server->endpoint());
    REQUIRE(until(loop, [&] { return server->count() == 2; }));
    server.reset();
    REQUIRE(until(loop, [&] { return silent.closed() && asked.closed() && client.heard.is(PipeState::closed); }));
    CHECK(client.heard.why().kind == FailureKind::session_aborted);
}

TEST_CASE("A session resumes from another address") {
    Loop loop;
    Serving<Server> server(loop);
    Middle middle(loop, server.endpoint());
    Calling<Client> client(loop, middle.endpoint());
    REQUIRE(until(loop, [&] { return server.count() == 1 && client.heard.is(PipeState::connected); }));
    // The half-open predecessor goes when the new connection has joined.
    middle.hold(true);
    const Endpoint before = server.pipes[0]->peer_endpoint();
    REQUIRE(client.pipe.send("held up on the way"));
    settle(loop);
    middle.hang_up();
    middle.hold(false);
    REQUIRE(until(loop, [&] { return server.heard[0]->bytes == "held up on the way"; }));
    CHECK(server.pipes[0]->peer_endpoint().valid());
    CHECK_FALSE(server.pipes[0]->peer_endpoint() == before);
}

TEST_CASE("Only who holds the pre-shared key gets in") {
    Loop loop;
    auto options = quick_listener<Server>();
    options.pipe.transport.pre_shared_key = session::PreSharedKey(TextView("sixteen bytes...").bytes());
    Serving<Server> server(loop, options);
    const auto call = [&](const char* secret) {
        auto client_options = Once::Options();
        if (secret != nullptr) client_options.transport.pre_shared_key = session::PreSharedKey(TextView(secret).bytes());
        Once pipe(loop, client_options);
        Heard heard(pipe);
        REQUIRE(pipe.connect(server.endpoint()));
        REQUIRE(until(loop, [&] { return heard.is(PipeState::connected) || heard.is(PipeState::closed); }));
        return heard.why();
    };
    CHECK_FALSE(call("sixteen bytes..."));
    CHECK(call("another sixteen.") == Failure{FailureKind::protocol, Stage::handshaking, Errc::proof_invalid});
    CHECK(call(nullptr) == Failure{FailureKind::protocol, Stage::handshaking, Errc::proof_invalid});
    CHECK(server.count() == 1);
}
