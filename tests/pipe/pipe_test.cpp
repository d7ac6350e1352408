// SPDX-License-Identifier: BSL-1.0
#include "pipe/support.hpp"

namespace {

using Plain = Pipe<NoEvents, Tcp, Persistent>;
using PlainOnce = Pipe<NoEvents, Tcp, FailFast>;
using Resuming = Pipe<NoEvents, Resumable<Tcp>, Persistent>;
using PlainServer = Listener<Tcp, NoEvents, Persistent>;
using ResumingServer = Listener<Resumable<Tcp>, NoEvents, Persistent>;

template <class E, class T, class R>
void converse(const char* address, bool by_name) {
    CAPTURE(address, by_name);
    using State = PipeState;
    Loop loop;
    Resolver::of(loop).replace([&](const char* name, Function<void(Resolver::Answer)> done) {
        CHECK(std::string(name) == "server.example");
        Array<IpAddress> addresses;
        addresses.push(*IpAddress::parse(address));
        done(std::move(addresses));
    });
    Listener<T, E, R> server(loop);
    Heard server_heard;
    int accepted = 0;
    server.on_accept([&](Pipe<E, T, R>& pipe) {
        ++accepted;
        server_heard.listen(pipe);
        pipe.on_receive([&pipe](Bytes bytes) { CHECK(pipe.send(bytes)); });
    });
    REQUIRE(server.listen({address, 0}));
    const Endpoint to = by_name ? Endpoint("server.example", server.local_endpoint().port()) : server.local_endpoint();

    Pipe<E, T, R> pipe(loop);
    Heard heard(pipe);
    CHECK(pipe.state() == State::idle);
    CHECK_FALSE(pipe.local_endpoint().valid());
    REQUIRE(pipe.connect(to));
    CHECK(pipe.state() == State::connecting);
    CHECK(heard.states.empty());
    CHECK(pipe.peer_endpoint() == to);
    REQUIRE(pipe.send("before it is connected, "));
    REQUIRE(pipe.send("and again"));
    const std::string all = "before it is connected, and again";
    REQUIRE(until(loop, [&] { return heard.bytes.size() >= all.size(); }));
    CHECK(heard.bytes == all);
    CHECK(server_heard.bytes == all);
    CHECK(pipe.state() == State::connected);
    CHECK(pipe.peer_endpoint() == server.local_endpoint());
    CHECK(pipe.local_endpoint().ip() == *IpAddress::parse(address));
    CHECK(server.size() == 1);
    REQUIRE(until(loop, [&] { return pipe.statistics().bytes_unacknowledged == 0; }));
    const Statistics s = pipe.statistics();
    CHECK(s.bytes_sent == all.size());
    CHECK(s.bytes_received == all.size());
    CHECK(s.bytes_replayed == 0);
    CHECK(s.connections == 1);
    CHECK(s.resumes == 0);
    CHECK(s.without_connection == Duration());
    CHECK((s.round_trip > Duration()) == T::Session::survives_connections);

    pipe.close();
    CHECK(pipe.state() == State::closing);
    CHECK(pipe.send("too late").error() == Errc::invalid_state);
    REQUIRE(until(loop, [&] { return heard.over() && server_heard.over(); }));
    CHECK(heard.states == std::vector{State::connecting, State::connected, State::closing, State::closed});
    CHECK(server_heard.states == std::vector{State::connected, State::closing, State::closed});
    for (const Failure& failure : heard.failures) CHECK_FALSE(failure);
    CHECK(accepted == 1);
    CHECK(pipe.state() == State::closed);
    CHECK_FALSE(pipe.local_endpoint().valid());
}

template <class E, class T, class R>
void converse_each_way() {
    for (const char* address : {"127.0.0.1", "::1"})
        for (bool by_name : {false, true}) converse<E, T, R>(address, by_name);
}

// A server whose conversations are kept.
template <class L>
struct Served {
    explicit Served(Loop& loop, const typename L::Options& options = quick_listener<L>()) : server(std::in_place, loop, options) {
        listen();
    }
    void listen(int port = 0) {
        server->on_accept([this](typename L::AcceptedPipe& accepted) {
            pipe = &accepted;
            ++count;
            heard.listen(accepted);
            if (then) then();
        });
        REQUIRE(server->listen({"127.0.0.1", port}));
    }
    Endpoint endpoint() const { return server->local_endpoint(); }
    std::optional<L> server;
    typename L::AcceptedPipe* pipe = nullptr;
    int count = 0;
    Heard heard;
    std::function<void()> then;
};

}  // namespace

TEST_CASE("Every combination of policies connects, echoes and closes in order: no events, plain") {
    converse_each_way<NoEvents, Tcp, FailFast>();
    converse_each_way<NoEvents, Tcp, Persistent>();
}
TEST_CASE("Every combination of policies connects, echoes and closes in order: no events, resumable") {
    converse_each_way<NoEvents, Resumable<Tcp>, FailFast>();
    converse_each_way<NoEvents, Resumable<Tcp>, Persistent>();
}
TEST_CASE("Every combination of policies connects, echoes and closes in order: scripted events, plain") {
    converse_each_way<Scripted, Tcp, FailFast>();
    converse_each_way<Scripted, Tcp, Persistent>();
}
TEST_CASE("Every combination of policies connects, echoes and closes in order: scripted events, resumable") {
    converse_each_way<Scripted, Resumable<Tcp>, FailFast>();
    converse_each_way<Scripted, Resumable<Tcp>, Persistent>();
}
TEST_CASE("Every combination of policies connects, echoes and closes in order: the system's events, plain") {
    converse_each_way<SystemEvents, Tcp, FailFast>();
    converse_each_way<SystemEvents, Tcp, Persistent>();
}
TEST_CASE("Every combination of policies connects, echoes and closes in order: the system's events, resumable") {
    converse_each_way<SystemEvents, Resumable<Tcp>, FailFast>();
    converse_each_way<SystemEvents, Resumable<Tcp>, Persistent>();
}

// ---- Names.

TEST_CASE("Every address of a name is tried, the first that answers serves, and then it is the one that is kept") {
    Loop loop;
    Served<ResumingServer> server(loop);
    int asked = 0;
    Resolver::of(loop).replace([&](const char*, Function<void(Resolver::Answer)> done) {
        ++asked;
        Array<IpAddress> addresses;
        for (const char* dead : {"127.0.0.77", "127.0.0.78", "127.0.0.1"}) addresses.push(*IpAddress::parse(dead));
        done(std::move(addresses));
    });
    Resuming pipe(loop, quick<Resuming>());
    Heard heard(pipe);
    REQUIRE(pipe.connect({"name", server.endpoint().port()}));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
    CHECK(pipe.peer_endpoint().ip() == *IpAddress::parse("127.0.0.1"));
    CHECK(asked == 1);
}

TEST_CASE("FailFast tries every address of a name once") {
    Loop loop;
    Mute dead;  // gives the port, and refuses nothing at other addresses
    int asked = 0;
    Resolver::of(loop).replace([&](const char*, Function<void(Resolver::Answer)> done) {
        ++asked;
        Array<IpAddress> addresses;
        for (const char* each : {"127.0.0.77", "127.0.0.78", "127.0.0.79"}) addresses.push(*IpAddress::parse(each));
        done(std::move(addresses));
    });
    PlainOnce pipe(loop);
    Heard heard(pipe);
    REQUIRE(pipe.connect({"name", dead.endpoint().port()}));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
    CHECK(heard.why().kind == FailureKind::refused);
    CHECK(asked == 1);
}

TEST_CASE("A name that does not exist ends the first connection, and a name server that does not answer is asked again") {
    Loop loop;
    Served<ResumingServer> server(loop);
    Error answer = no_address;
    int asked = 0;
    Resolver::of(loop).replace([&](const char*, Function<void(Resolver::Answer)> done) {
        if (++asked <= 3) return done(answer);
        Array<IpAddress> addresses;
        addresses.push(IpAddress::v4(127, 0, 0, 1));
        done(std::move(addresses));
    });
    Resuming pipe(loop, quick<Resuming>());
    Heard heard(pipe);
    REQUIRE(pipe.connect({"name", server.endpoint().port()}));
    SECTION("there is no such name") {
        REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
        CHECK(heard.why() == Failure{FailureKind::name_unknown, Stage::resolving, no_address});
        CHECK(asked == 1);
    }
    SECTION("nobody knows") {
        answer = Error::resolver(EAI_AGAIN);
        REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
        CHECK(heard.states == std::vector{PipeState::connecting, PipeState::connecting, PipeState::connected});
        CHECK(heard.failures[1].kind == FailureKind::name_service);
        CHECK(asked == 4);
    }
}

TEST_CASE("A name whose every address has failed is looked up again: it may have moved") {
    Loop loop;
    Served<ResumingServer> server(loop);
    int asked = 0;
    Resolver::of(loop).replace([&](const char*, Function<void(Resolver::Answer)> done) {
        Array<IpAddress> addresses;
        addresses.push(++asked < 3 ? IpAddress::v4(127, 0, 0, 77) : IpAddress::v4(127, 0, 0, 1));
        done(std::move(addresses));
    });
    Resuming pipe(loop, quick<Resuming>());
    Heard heard(pipe);
    REQUIRE(pipe.connect({"name", server.endpoint().port()}));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
    CHECK(asked == 3);
}

TEST_CASE("An answer without an address is no answer") {
    Loop loop;
    Resolver::of(loop).replace([&](const char*, Function<void(Resolver::Answer)> done) { done(Array<IpAddress>()); });
    PlainOnce pipe(loop);
    Heard heard(pipe);
    REQUIRE(pipe.connect({"name", 1}));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
    CHECK(heard.why().kind == FailureKind::name_unknown);
}

// ---- Back-pressure.

namespace {

template <class P, class S>
void fill_and_drain(std::size_t limit, typename P::Options options) {
    Loop loop;
    Served<S> server(loop);
    P pipe(loop, options);
    Heard heard(pipe);
    Sink sink;
    server.then = [&] {
        sink.listen(*server.pipe);
        server.pipe->pause();
    };
    REQUIRE(pipe.connect(server.endpoint()));
    const std::string too_much(limit + 1, 'x');
    CHECK(pipe.send(too_much).error() == Errc::too_large);
    REQUIRE(until(loop, [&] { return server.pipe != nullptr && heard.is(PipeState::connected); }));

    // More than the system takes with a reader that does not read: then the queue fills, whole pieces at a time.
    std::uint64_t sent = 0;
    const auto send = [&](std::size_t n) {
        std::vector<std::byte> piece(n);
        for (std::size_t i = 0; i < n; ++i) piece[i] = at(sent + i);
        auto queued = pipe.send(Bytes(piece));
        if (queued) sent += n;
        return queued;
    };
    REQUIRE(until(loop, [&] {
        while (send(limit / 4)) continue;
        heard.drained = 0;
        static_cast<void>(loop.run_for(ms(50)));
        return heard.drained == 0;
    }));
    CHECK(send(limit / 4).error() == Errc::would_block);
    CHECK(heard.drained == 0);
    CHECK(pipe.statistics().bytes_unacknowledged <= limit);
    server.pipe->resume();
    REQUIRE(until(loop, [&] { return heard.drained > 0; }));
    CHECK(pipe.statistics().bytes_unacknowledged <= limit / 2);
    REQUIRE(until(loop, [&] { return sink.received == sent; }));
    CHECK(sink.good);
    CHECK(heard.drained == 1);
}

}  // namespace

TEST_CASE("A send over the limit is refused whole, and `on_drained` says when to go on: plain") {
    auto options = quick<Plain>();
    options.transport.queue_limit = 40'000;
    fill_and_drain<Plain, PlainServer>(40'000, options);
}

TEST_CASE("A send over the limit is refused whole, and `on_drained` says when to go on: resumable") {
    auto options = quick<Resuming>();
    options.transport.replay_limit = 40'000;
    fill_and_drain<Resuming, ResumingServer>(40'000, options);
}

TEST_CASE("A plain pipe without a connection takes nothing, and says when it does again", "[reset]") {
    Loop loop;
    Served<PlainServer> server(loop);
    Middle middle(loop, server.endpoint());
    auto options = quick<Plain>();
    options.transport.queue_limit = 1000;
    Plain pipe(loop, options);
    Heard heard(pipe);
    REQUIRE(pipe.connect(middle.endpoint()));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected) && server.count == 1; }));
    const bool before_the_break = GENERATE(true, false);
    if (before_the_break) {
        REQUIRE(pipe.send(std::string(1000, 'x')));
        CHECK(pipe.send("x").error() == Errc::would_block);
        CHECK(heard.drained == 0);
    }
    middle.cut();
    REQUIRE(until(loop, [&] { return heard.times(PipeState::interrupted) == 1; }));
    if (!before_the_break && pipe.state() == PipeState::interrupted) CHECK(pipe.send("x").error() == Errc::would_block);
    REQUIRE(until(loop, [&] { return heard.times(PipeState::connected) == 2 && heard.drained > 0; }));
    CHECK(heard.drained == 1);
    CHECK(pipe.send("x"));
}

TEST_CASE("A paused pipe delivers nothing until it goes on") {
    Loop loop;
    Served<ResumingServer> server(loop);
    Resuming pipe(loop, quick<Resuming>());
    Heard heard(pipe);
    pipe.pause();
    REQUIRE(pipe.connect(server.endpoint()));
    // What comes with the very handshake is delivered still; the rest is not.
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected) && server.count == 1; }));
    Source source(*server.pipe, 8 << 20);
    REQUIRE(until(loop, [&] { return source.sent > 0 && !loop.run_once(ms(20)).error(); }));
    CHECK(heard.bytes.empty());
    pipe.resume();
    REQUIRE(until(loop, [&] { return heard.bytes.size() == source.total; }));
    pipe.pause();
    pipe.pause();
    settle(loop);
    REQUIRE(server.pipe->send("more"));
    settle(loop);
    CHECK(heard.bytes.size() == source.total);
    pipe.resume();
    REQUIRE(until(loop, [&] { return heard.bytes.size() == source.total + 4; }));
}

TEST_CASE("A pause says that the peer's program does not read, not that the path is dead") {
    Loop loop;
    auto server_options = quick_listener<ResumingServer>();
    auto options = quick<Resuming>();
    for (auto* each : {&options.transport, &server_options.pipe.transport}) {
        each->liveness_interval = ms(100);
        each->suspect_after = ms(300);
        each->dead_after = ms(900);
    }
    Served<ResumingServer> server(loop, server_options);
    Resuming pipe(loop, options);
    Heard heard(pipe);
    REQUIRE(pipe.connect(server.endpoint()));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected) && server.count == 1; }));
    server.pipe->pause();
    REQUIRE(pipe.send("unread"));
    REQUIRE(loop.run_for(ms(2500)));
    CHECK(pipe.statistics().connections == 1);
    CHECK(heard.states == std::vector{PipeState::connecting, PipeState::connected});
    server.pipe->resume();
    REQUIRE(until(loop, [&] { return server.heard.bytes == "unread"; }));
}

namespace {

// Sends back what comes, and reads no faster than that goes.
template <class P>
void echo(P& pipe, std::string& waiting) {
    const auto send = [&] {
        while (!waiting.empty()) {
            const std::string piece = waiting.substr(0, 5000);
            if (!pipe.send(piece)) return pipe.pause();
            waiting.erase(0, piece.size());
        }
        pipe.resume();
    };
    pipe.on_receive([&, send](Bytes bytes) {
        waiting += text(bytes);
        send();
    });
    pipe.on_drained(send);
}

template <class P, class S>
void echo_under_pressure() {
    Loop loop;
    Served<S> server(loop);
    std::string waiting;
    std::size_t longest = 0;
    server.then = [&] {
        echo(*server.pipe, waiting);
        server.pipe->on_receive([&](Bytes) { longest = std::max(longest, waiting.size()); });
    };
    P pipe(loop, quick<P>());
    Heard heard(pipe);
    Sink sink(pipe);
    constexpr std::uint64_t much = 30'000'000;
    REQUIRE(pipe.connect(server.endpoint()));
    Source source(pipe, much);
    // The far end does not read for a while: everything fills up.
    pipe.pause();
    std::uint64_t last = 1;
    REQUIRE(until(loop, [&] {
        static_cast<void>(loop.run_for(ms(30)));
        return heard.is(PipeState::connected) && std::exchange(last, source.sent) == source.sent;
    }));
    CHECK(source.sent < much);
    pipe.resume();
    REQUIRE(until(loop, [&] { return sink.received == much; }));
    CHECK(sink.good);
    CHECK(longest < 1'000'000);
    CHECK(pipe.statistics().connections == 1);
}

}  // namespace

TEST_CASE("An echo that pauses while its own sends are refused gets everything through: plain") {
    echo_under_pressure<Plain, PlainServer>();
}
TEST_CASE("An echo that pauses while its own sends are refused gets everything through: resumable") {
    echo_under_pressure<Resuming, ResumingServer>();
}

// ---- Ending.

namespace {

template <class P, class S>
void close_delivers_everything(bool server_closes) {
    Loop loop;
    auto patient = quick_listener<S>();
    patient.pipe.close_timeout = Duration::unlimited();
    Served<S> server(loop, patient);
    auto options = quick<P>();
    options.close_timeout = Duration::unlimited();  // as long as it takes
    P pipe(loop, options);
    Heard heard(pipe);
    Sink sink(pipe), server_sink;
    constexpr std::uint64_t much = 4 << 20;
    std::optional<Source<P>> source;
    std::optional<Source<typename S::AcceptedPipe>> server_source;
    server.then = [&] {
        server_sink.listen(*server.pipe);
        server_source.emplace(*server.pipe, much, server_closes);
    };
    REQUIRE(pipe.connect(server.endpoint()));
    source.emplace(pipe, much, !server_closes);
    REQUIRE(until(loop, [&] { return heard.is(PipeState::closed) && server.heard.is(PipeState::closed); }));
    INFO(describe(heard.why()).c_str() << "; " << describe(server.heard.why()).c_str());
    CHECK(heard.over());
    CHECK(server.heard.over());
    CHECK(sink.good);
    CHECK(server_sink.good);
    CHECK((server_closes ? sink : server_sink).received == much);
}

}  // namespace

TEST_CASE("close delivers everything: four mebibytes, whichever side closes") {
    const bool server_closes = GENERATE(false, true);
    close_delivers_everything<Resuming, ResumingServer>(server_closes);
    close_delivers_everything<Plain, PlainServer>(server_closes);
}

TEST_CASE("What is queued before `connect` has even begun is delivered before `close` is done") {
    Loop loop;
    Served<ResumingServer> server(loop);
    Resuming pipe(loop, quick<Resuming>());
    Heard heard(pipe);
    REQUIRE(pipe.connect(server.endpoint()));
    REQUIRE(pipe.send("and off"));
    pipe.close();
    CHECK(pipe.state() == PipeState::closing);
    REQUIRE(until(loop, [&] { return heard.is(PipeState::closed) && server.heard.is(PipeState::closed); }));
    CHECK(heard.over());
    CHECK(heard.states == std::vector{PipeState::closing, PipeState::closed});
    CHECK(server.heard.bytes == "and off");
}

TEST_CASE("Closing what has nothing to end is done at once") {
    Loop loop;
    Mute mute;
    Resuming pipe(loop);
    Heard heard(pipe);
    SECTION("idle") {}
    SECTION("about to connect") { REQUIRE(pipe.connect(mute.endpoint())); }
    SECTION("connecting") {
        REQUIRE(pipe.connect(mute.endpoint()));
        settle(loop);
    }
    pipe.close();
    CHECK(pipe.state() == PipeState::closed);
    CHECK(heard.over());
    settle(loop);
    CHECK(heard.is(PipeState::closed));
    pipe.close();
    CHECK(heard.times(PipeState::closed) == 1);
}

TEST_CASE("An aborted session is over for both sides") {
    Loop loop;
    Served<ResumingServer> server(loop);
    Resuming pipe(loop, quick<Resuming>());
    Heard heard(pipe);
    REQUIRE(pipe.connect(server.endpoint()));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected) && server.count == 1; }));
    const bool server_aborts = GENERATE(false, true);
    server_aborts ? server.pipe->abort() : pipe.abort();
    REQUIRE(until(loop, [&] { return heard.is(PipeState::closed) && server.heard.is(PipeState::closed); }));
    CHECK((server_aborts ? server.heard : heard).why().kind == FailureKind::cancelled);
    CHECK((server_aborts ? heard : server.heard).why().kind == FailureKind::session_aborted);
}

TEST_CASE("A destroyed pipe of a session tells the peer that it is over") {
    Loop loop;
    Served<ResumingServer> server(loop);
    std::optional<Resuming> pipe(std::in_place, loop, quick<Resuming>());
    Heard heard(*pipe);
    REQUIRE(pipe->connect(server.endpoint()));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected) && server.count == 1; }));
    SECTION("the client's") {
        pipe.reset();
        REQUIRE(until(loop, [&] { return server.heard.is(PipeState::closed); }));
        CHECK(server.heard.why().kind == FailureKind::session_aborted);
    }
    SECTION("the listener, with its own") {
        server.server.reset();
        REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
        CHECK(heard.why().kind == FailureKind::session_aborted);
    }
}

TEST_CASE("An aborted plain conversation is a reset for the peer, not an end in order", "[reset]") {
    Loop loop;
    Served<PlainServer> server(loop);
    Plain pipe(loop, quick<Plain>());
    Heard heard(pipe);
    REQUIRE(pipe.connect(server.endpoint()));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected) && server.count == 1; }));
    REQUIRE(pipe.send("part of the"));
    pipe.abort();
    CHECK(heard.why().kind == FailureKind::cancelled);
    REQUIRE(until(loop, [&] { return server.heard.is(PipeState::closed); }));
    CHECK(server.heard.why().kind == FailureKind::reset);
}

TEST_CASE("A close that takes too long becomes an abort", "[reset]") {
    Loop loop;
    const bool plain = GENERATE(false, true);
    const auto run = [&](auto* type, auto* listener_type) {
        using P = std::remove_pointer_t<decltype(type)>;
        Served<std::remove_pointer_t<decltype(listener_type)>> server(loop);
        auto options = quick<P>();
        options.close_timeout = ms(50);
        P pipe(loop, options);
        Heard heard(pipe);
        server.then = [&] { server.pipe->pause(); };
        REQUIRE(pipe.connect(server.endpoint()));
        REQUIRE(until(loop, [&] { return heard.is(PipeState::connected) && server.count == 1; }));
        // Without a session so much that not all of it leaves: else its end is there to be read, and nothing is missing.
        Source source(pipe, plain ? 100 << 20 : 10);
        if (plain) REQUIRE(until(loop, [&] { return !loop.run_for(ms(20)).error() && pipe.statistics().bytes_unacknowledged > 0; }));
        pipe.close();
        REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
        CHECK(heard.why().kind == FailureKind::timed_out);
        server.pipe->resume();
        REQUIRE(until(loop, [&] { return server.heard.is(PipeState::closed); }));
        CHECK(server.heard.why().kind == (plain ? FailureKind::reset : FailureKind::session_aborted));
    };
    if (plain)
        run(static_cast<Plain*>(nullptr), static_cast<PlainServer*>(nullptr));
    else
        run(static_cast<Resuming*>(nullptr), static_cast<ResumingServer*>(nullptr));
}

TEST_CASE("A close is seen through over a new connection when the old one breaks") {
    Loop loop;
    Served<ResumingServer> server(loop);
    Middle middle(loop, server.endpoint());
    Resuming pipe(loop, quick<Resuming>());
    Heard heard(pipe);
    REQUIRE(pipe.connect(middle.endpoint()));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected) && server.count == 1; }));
    middle.hold(true);
    REQUIRE(pipe.send("to be delivered"));
    SECTION("closed before the break") {
        pipe.close();
        settle(loop);
        middle.cut();
        middle.hold(false);
    }
    SECTION("closed by the handler that hears of the break") {
        pipe.on_state([&](PipeState state, const Failure&) {
            if (state == PipeState::interrupted) pipe.close();
        });
        settle(loop);
        middle.cut();
        middle.hold(false);
    }
    SECTION("closed between the connections") {
        middle.retarget(Mute().endpoint());  // nobody there any more
        middle.cut();
        middle.hold(false);
        REQUIRE(until(loop, [&] { return heard.times(PipeState::interrupted) == 1; }));
        pipe.close();
        REQUIRE(until(loop, [&] { return middle.connections > 3; }));
        CHECK(heard.is(PipeState::closing));
        middle.retarget(server.endpoint());
    }
    REQUIRE(until(loop, [&] { return heard.is(PipeState::closed) && server.heard.is(PipeState::closed); }));
    CHECK(heard.over());
    CHECK(server.heard.over());
    CHECK(server.heard.bytes == "to be delivered");
}

TEST_CASE("A plain conversation that the peer ends still delivers what is queued") {
    Loop loop;
    Mute peer;
    Plain pipe(loop, quick<Plain>());
    Heard heard(pipe);
    REQUIRE(pipe.connect(peer.endpoint()));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
    peer.accept();
    REQUIRE(peer.accepted.size() == 1);
    REQUIRE(pipe.send("an answer to come"));
    REQUIRE(peer.accepted[0].shutdown_send());
    REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
    CHECK(heard.over());
    std::byte buffer[100];
    auto read = peer.accepted[0].receive(buffer);
    REQUIRE(read);
    CHECK(text(Bytes(buffer, *read)) == "an answer to come");
    read = peer.accepted[0].receive(buffer);
    CHECK((read && *read == 0));
}

// ---- Giving up.

TEST_CASE("An attempt that is not answered times out") {
    Loop loop;
    BlackHole hole;
    PlainOnce::Options options;
    options.connect_timeout = ms(30);
    PlainOnce pipe(loop, options);
    Heard heard(pipe);
    const bool resolving = GENERATE(false, true);
    if (resolving) Resolver::of(loop).replace([](const char*, Function<void(Resolver::Answer)>) {});
    REQUIRE(pipe.connect(resolving ? Endpoint("name", 1) : hole.endpoint()));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
    CHECK(heard.why() == Failure{FailureKind::timed_out, resolving ? Stage::resolving : Stage::connecting, Errc::timed_out});
}

TEST_CASE("A handshake that is not answered times out") {
    Loop loop;
    Mute mute;
    using Once = Pipe<NoEvents, Resumable<Tcp>, FailFast>;
    Once::Options options;
    options.connect_timeout = ms(30);
    Once pipe(loop, options);
    Heard heard(pipe);
    REQUIRE(pipe.connect(mute.endpoint()));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
    CHECK(heard.why() == Failure{FailureKind::timed_out, Stage::handshaking, Errc::timed_out});
}

TEST_CASE("Without a connection for too long, the pipe gives up") {
    Loop loop;
    auto options = quick<Resuming>();
    options.give_up_after = ms(80);
    Resuming pipe(loop, options);
    Heard heard(pipe);
    const TimePoint start = monotonic_now();
    SECTION("refused again and again") {
        const Endpoint nobody = Mute().endpoint();
        REQUIRE(pipe.connect(nobody));
        REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
        CHECK(heard.why().kind == FailureKind::refused);
    }
    SECTION("never answered") {
        BlackHole hole;
        REQUIRE(pipe.connect(hole.endpoint()));
        REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
        CHECK(heard.why().kind == FailureKind::timed_out);
    }
    SECTION("accepted and never let in") {
        Mute mute;
        REQUIRE(pipe.connect(mute.endpoint()));
        REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
        CHECK(heard.why().kind == FailureKind::timed_out);
    }
    SECTION("with a name that is never resolved") {
        Resolver::of(loop).replace([](const char*, Function<void(Resolver::Answer)>) {});
        REQUIRE(pipe.connect({"name", 1}));
        REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
        CHECK(heard.why().kind == FailureKind::timed_out);
    }
    SECTION("after a break, counted from there") {
        Served<ResumingServer> server(loop);
        Middle middle(loop, server.endpoint());
        REQUIRE(pipe.connect(middle.endpoint()));
        REQUIRE(until(loop, [&] { return heard.is(PipeState::connected) && monotonic_now() - start > options.give_up_after; }));
        middle.retarget(Mute().endpoint());
        middle.cut();
        REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
        CHECK(heard.times(PipeState::interrupted) >= 1);
        CHECK(heard.why());
        CHECK(pipe.statistics().without_connection == Duration());
    }
    CHECK(monotonic_now() - start >= options.give_up_after);
}

TEST_CASE("A connection that never breaks is not given up, however long ago it was opened") {
    Loop loop;
    auto options = quick<Resuming>();
    options.give_up_after = ms(1);
    Served<ResumingServer> server(loop);
    std::optional<Resuming> pipe;
    std::optional<Heard> heard;
    REQUIRE(until(loop, [&] {  // a busy machine may take more than a millisecond, and more than two
        pipe.emplace(loop, options);
        heard.emplace(*pipe);
        options.give_up_after = options.give_up_after * 2;
        REQUIRE(pipe->connect(server.endpoint()));
        return until(loop, [&] { return heard->is(PipeState::connected) || heard->is(PipeState::closed); }) &&
               heard->is(PipeState::connected);
    }));
    REQUIRE(loop.run_for(options.give_up_after + ms(20)));
    CHECK(heard->is(PipeState::connected));
}

// ---- Sockets in and out.

TEST_CASE("A connected socket can be adopted, and released again with what is on it") {
    Loop loop;
    Served<PlainServer> server(loop);
    Socket socket = std::move(*Socket::tcp(Family::v4));
    static_cast<void>(socket.connect(server.endpoint().ip(), server.endpoint().port()));
    REQUIRE(until(loop, [&] { return server.count == 1; }));
    Plain pipe(loop, quick<Plain>());
    Heard heard(pipe);
    REQUIRE(pipe.adopt(std::move(socket)));
    REQUIRE(pipe.send("adopted, "));
    REQUIRE(until(loop, [&] { return server.heard.bytes == "adopted, "; }));
    CHECK(heard.states == std::vector{PipeState::connected});
    CHECK(pipe.peer_endpoint() == server.endpoint());

    REQUIRE(pipe.send("x"));
    CHECK(pipe.release().error() == Errc::would_block);
    REQUIRE(until(loop, [&] { return server.heard.bytes == "adopted, x"; }));
    auto released = pipe.release();
    REQUIRE(released);
    CHECK(heard.over());
    CHECK(*released->send(TextView("released").bytes()) == 8);
    REQUIRE(until(loop, [&] { return server.heard.bytes == "adopted, xreleased"; }));
    CHECK(server.heard.is(PipeState::connected));

    // And once more into another pipe.
    Plain second(loop, quick<Plain>());
    Heard second_heard(second);
    REQUIRE(second.adopt(std::move(*released)));
    REQUIRE(server.pipe->send("hello again"));
    REQUIRE(until(loop, [&] { return second_heard.bytes == "hello again"; }));
    // Later connections go to the socket's peer.
    second.abort();
    REQUIRE(second.connect(server.endpoint()));
    REQUIRE(until(loop, [&] { return second_heard.is(PipeState::connected) && server.count == 2; }));
}

TEST_CASE("A session starts on an adopted socket, and outlives it") {
    Loop loop;
    Served<ResumingServer> server(loop);
    Middle middle(loop, server.endpoint());
    Socket socket = std::move(*Socket::tcp(Family::v4));
    static_cast<void>(socket.connect(middle.endpoint().ip(), middle.endpoint().port()));
    REQUIRE(until(loop, [&] { return middle.connections == 1; }));
    Resuming pipe(loop, quick<Resuming>());
    Heard heard(pipe);
    REQUIRE(pipe.adopt(std::move(socket)));
    REQUIRE(pipe.send("one"));
    REQUIRE(until(loop, [&] { return server.heard.bytes == "one"; }));
    CHECK(pipe.release().error() == Errc::unsupported);
    middle.cut();
    REQUIRE(pipe.send("two"));
    REQUIRE(until(loop, [&] { return server.heard.bytes == "onetwo"; }));
    CHECK(server.count == 1);
    CHECK(pipe.statistics().resumes == 1);
}

TEST_CASE("A pipe can connect again after it has closed, to a new session") {
    Loop loop;
    Served<ResumingServer> server(loop);
    Resuming pipe(loop, quick<Resuming>());
    Heard heard(pipe);
    for (int round = 1; round <= 3; ++round) {
        REQUIRE(pipe.connect(server.endpoint()));
        REQUIRE(pipe.send("round"));
        REQUIRE(until(loop, [&] { return server.count == round && heard.is(PipeState::connected); }));
        if (round == 2)
            pipe.abort();
        else
            pipe.close();
        REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
        CHECK(static_cast<bool>(heard.why()) == (round == 2));
        REQUIRE(until(loop, [&] { return server.heard.times(PipeState::closed) == round; }));
    }
    // The figures are those of the last conversation.
    const Statistics s = pipe.statistics();
    CHECK(s.bytes_sent == 5);
    CHECK(s.connections == 1);
    CHECK(s.resumes == 0);
    CHECK(s.without_connection == Duration());
}

TEST_CASE("The handler that hears of the end may connect again") {
    Loop loop;
    Served<ResumingServer> server(loop);
    Resuming pipe(loop, quick<Resuming>());
    Heard heard(pipe);
    int rounds = 0;
    pipe.on_state([&](PipeState state, const Failure&) {
        if (state == PipeState::connected) ++rounds % 2 == 1 ? pipe.close() : pipe.abort();
        if (state == PipeState::closed && rounds < 6) {
            REQUIRE(pipe.connect(server.endpoint()));
            REQUIRE(pipe.send("again"));
        }
    });
    REQUIRE(pipe.connect(server.endpoint()));
    REQUIRE(until(loop, [&] { return rounds == 6 && heard.is(PipeState::closed); }));
    CHECK(server.count >= 3);
}

TEST_CASE("The handler that hears of the beginning may call it off and begin anew") {
    Loop loop;
    Mute mute;
    Resuming pipe(loop, quick<Resuming>());
    int begun = 0;
    pipe.on_state([&](PipeState state, const Failure&) {
        if (state == PipeState::connecting && ++begun == 1) {
            pipe.abort();
            REQUIRE(pipe.connect(mute.endpoint()));
        }
    });
    REQUIRE(pipe.connect(mute.endpoint()));
    settle(loop);
    CHECK(begun == 2);
    mute.accept();
    CHECK(mute.accepted.size() == 1);
}

// ---- Handlers.

TEST_CASE("Two pipes' handlers can be added and taken away while both are running") {
    Loop loop;
    Served<PlainServer> server(loop);
    server.then = [&] { server.pipe->on_receive([pipe = server.pipe](Bytes bytes) { REQUIRE(pipe->send(bytes)); }); };
    Plain a(loop, quick<Plain>()), b(loop, quick<Plain>());
    int a_heard = 0, b_heard = 0, once = 0;
    HandlerId a_id = 0, b_id = 0;
    const auto for_b = [&](Bytes) { ++b_heard; };
    a.on_receive([&](Bytes) {
        ++a_heard;
        // Take the other's away every second time, and put it back.
        if (a_heard % 2 == 1) {
            CHECK(b.remove_handler(b_id));
            CHECK_FALSE(b.remove_handler(b_id));
        } else {
            b_id = b.on_receive(for_b);
            CHECK(b_id != 0);
        }
    });
    a_id = a.on_receive([&](Bytes) {
        ++once;
        CHECK(a.remove_handler(a_id));
    });
    b_id = b.on_receive(for_b);
    REQUIRE(a.connect(server.endpoint()));
    REQUIRE(b.connect(server.endpoint()));
    const auto exchange = [&](Plain& pipe) {
        const auto before = pipe.statistics().bytes_received;
        REQUIRE(pipe.send("x"));
        REQUIRE(until(loop, [&] { return pipe.statistics().bytes_received > before; }));
    };
    exchange(b);
    CHECK(b_heard == 1);
    exchange(a);
    exchange(b);
    CHECK(b_heard == 1);
    exchange(a);
    exchange(b);
    CHECK(b_heard == 2);
    CHECK(a_heard == 2);
    CHECK(once == 1);
    CHECK_FALSE(a.remove_handler(a_id));
    CHECK_FALSE(a.remove_handler(0));
    CHECK_FALSE(a.remove_handler(12345));
}

TEST_CASE("An id names a handler of any kind") {
    Loop loop;
    Plain pipe(loop);
    const HandlerId ids[] = {pipe.on_receive([](Bytes) {}), pipe.on_state([](PipeState, const Failure&) {}),
                             pipe.on_network_change([](const NetworkChange&) {}), pipe.on_drained([] {})};
    for (std::size_t i = 0; i < 4; ++i)
        for (std::size_t j = 0; j < i; ++j) CHECK(ids[i] != ids[j]);
    for (HandlerId id : ids) {
        CHECK(id != 0);
        CHECK(pipe.remove_handler(id));
        CHECK_FALSE(pipe.remove_handler(id));
    }
}

TEST_CASE("A state is described in one sentence, with the failure that led to it") {
    CHECK(std::string(describe(PipeState::idle, {}).c_str()) == "idle");
    CHECK(std::string(describe(PipeState::closed, {}).c_str()) == "closed");
    CHECK(std::string(describe(PipeState::interrupted, classify(Errc::unresponsive, Stage::established)).c_str()) ==
          "interrupted: the path went silent (on the open connection)");
}

#if !defined(_WIN32)
TEST_CASE("No descriptor of a conversation survives exec") {
    const auto descriptors = [] {
        int exposed = 0;
        for (int fd = 3; fd < 200; ++fd) {
            const int flags = ::fcntl(fd, F_GETFD);
            exposed += flags >= 0 && (flags & FD_CLOEXEC) == 0;
        }
        return exposed;
    };
    const int before = descriptors();
    Loop loop;
    Listener<Resumable<Tcp>> server(loop);
    Heard server_heard;
    server.on_accept([&](ResumablePipe& pipe) { server_heard.listen(pipe); });
    REQUIRE(server.listen({"127.0.0.1", 0}));
    ResumablePipe pipe(loop);
    REQUIRE(pipe.connect(server.local_endpoint()));
    REQUIRE(until(loop, [&] { return pipe.state() == PipeState::connected && server_heard.is(PipeState::connected); }));
    CHECK(descriptors() == before);
}
#endif
