// SPDX-License-Identifier: BSL-1.0
#include "pipe/support.hpp"

namespace {

using Resuming = Pipe<NoEvents, Resumable<Tcp>, Persistent>;
using Server = Listener<Resumable<Tcp>, NoEvents, Persistent>;

}  // namespace

TEST_CASE("A connection cut at any byte costs nothing of the conversation") {
    const auto way = GENERATE(Middle::to_server, Middle::to_client);
    const bool reset = GENERATE(true, false);
    CAPTURE(way, reset);
    // Handshake, data, acknowledgements, and the end: all of it within the first bytes.
    constexpr std::size_t positions = 400, much = 150;
    int handshakes_cut = 0, resumed = 0;
    for (std::size_t position = 0; position < positions; ++position) {
        CAPTURE(position);
        Loop loop;
        Server server(loop, quick_listener<Server>());
        Heard server_heard;
        Sink server_sink;
        std::optional<Source<Resuming>> answer;
        int sessions = 0;
        server.on_accept([&](Resuming& pipe) {
            ++sessions;
            server_heard.listen(pipe);
            server_sink.listen(pipe);
            answer.emplace(pipe, much);
        });
        REQUIRE(server.listen({"127.0.0.1", 0}));
        Middle middle(loop, server.local_endpoint());
        middle.cut_next_after(way, position, reset);
        Resuming pipe(loop, quick<Resuming>());
        Heard heard(pipe);
        Sink sink(pipe);
        REQUIRE(pipe.connect(middle.endpoint()));
        Source question(pipe, much);
        REQUIRE(until(loop, [&] { return sink.received == much && server_sink.received == much; }));
        pipe.close();
        REQUIRE(until(loop, [&] { return heard.is(PipeState::closed) && server_heard.is(PipeState::closed); }));
        // Whatever is cut, both ends end in order, with everything there once.
        REQUIRE(heard.over());
        REQUIRE(server_heard.over());
        REQUIRE(sink.good);
        REQUIRE(server_sink.good);
        REQUIRE(sink.received == much);
        REQUIRE(server_sink.received == much);
        REQUIRE(sessions == 1);
        handshakes_cut += middle.cuts > 0 && pipe.statistics().resumes == 0;
        resumed += pipe.statistics().resumes > 0;
    }
    CHECK(handshakes_cut > 0);
    CHECK(resumed > 0);
}

TEST_CASE("Cut again and again, a long conversation arrives whole, both ways") {
    Loop loop;
    Server server(loop, quick_listener<Server>());
    Heard server_heard;
    Sink server_sink;
    constexpr std::uint64_t much = 20'000'000;
    std::optional<Source<Resuming>> answer;
    server.on_accept([&](Resuming& pipe) {
        server_heard.listen(pipe);
        server_sink.listen(pipe);
        answer.emplace(pipe, much);
    });
    REQUIRE(server.listen({"127.0.0.1", 0}));
    Middle middle(loop, server.local_endpoint());
    Resuming pipe(loop, quick<Resuming>());
    Heard heard(pipe);
    Sink sink(pipe);
    REQUIRE(pipe.connect(middle.endpoint()));
    Source question(pipe, much);
    int cuts = 0;
    REQUIRE(until(loop, [&] {
        // By what got through, not by time: so that there are cuts on the fastest machine, and progress on the slowest.
        if (middle.passed[0] + middle.passed[1] > static_cast<std::size_t>(cuts + 1) * 700'000) {
            ++cuts;
            cuts % 2 == 0 ? middle.cut() : middle.hang_up();
        }
        return sink.received == much && server_sink.received == much;
    }));
    CHECK(cuts > 20);
    CHECK(sink.good);
    CHECK(server_sink.good);
    const Statistics s = pipe.statistics();
    CHECK(s.resumes > 10);
    CHECK(s.connections == s.resumes + 1);
    CHECK(s.bytes_sent == much);
    CHECK(s.bytes_received == much);
    CHECK(s.bytes_replayed > 0);
    CHECK(s.without_connection > Duration());
    CHECK(heard.times(PipeState::interrupted) > 0);
    pipe.close();
    REQUIRE(until(loop, [&] { return heard.is(PipeState::closed) && server_heard.is(PipeState::closed); }));
    CHECK(heard.over());
    CHECK(server_heard.over());
}

TEST_CASE("A server that was restarted does not know the session, and the pipe says so, once") {
    Loop loop;
    std::optional<Server> server(std::in_place, loop, quick_listener<Server>());
    Heard server_heard;
    int sessions = 0;
    const auto accept = [&](Resuming& pipe) {
        ++sessions;
        server_heard.listen(pipe);
    };
    server->on_accept(accept);
    REQUIRE(server->listen({"127.0.0.1", 0}));
    Middle middle(loop, server->local_endpoint());
    Resuming pipe(loop, quick<Resuming>());
    Heard heard(pipe);
    REQUIRE(pipe.connect(middle.endpoint()));
    REQUIRE(until(loop, [&] { return sessions == 1 && heard.is(PipeState::connected); }));
    // A process that dies says nothing: so what the listener says as it goes does not get through.
    middle.hold(true);
    REQUIRE(pipe.send("nobody will read this"));
    settle(loop);
    server.reset();
    server.emplace(loop, quick_listener<Server>());
    server->on_accept(accept);
    REQUIRE(server->listen({"127.0.0.1", 0}));
    middle.retarget(server->local_endpoint());
    middle.cut();
    middle.hold(false);
    REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
    CHECK(heard.why() == Failure{FailureKind::session_unknown, Stage::resuming, Errc::session_unknown});
    CHECK(heard.times(PipeState::closed) == 1);
    CHECK(pipe.statistics().bytes_unacknowledged == 21);  // what was not delivered is not passed over in silence
    settle(loop);
    CHECK(heard.is(PipeState::closed));
    CHECK(sessions == 1);
    // And the same pipe starts afresh when it is told to.
    REQUIRE(pipe.connect(middle.endpoint()));
    REQUIRE(until(loop, [&] { return sessions == 2 && heard.is(PipeState::connected); }));
    CHECK(pipe.statistics().bytes_unacknowledged == 0);
}

TEST_CASE("A plain conversation with a policy that does not let go starts a new one after a cut", "[reset]") {
    using Plain = Pipe<NoEvents, Tcp, Persistent>;
    using PlainServer = Listener<Tcp, NoEvents, Persistent>;
    Loop loop;
    PlainServer server(loop, quick_listener<PlainServer>());
    int accepted = 0;
    std::string all;
    server.on_accept([&](Plain& pipe) {
        ++accepted;
        pipe.on_receive([&](Bytes bytes) { all += text(bytes); });
    });
    REQUIRE(server.listen({"127.0.0.1", 0}));
    Middle middle(loop, server.local_endpoint());
    Plain pipe(loop, quick<Plain>());
    Heard heard(pipe);
    REQUIRE(pipe.connect(middle.endpoint()));
    for (int round = 1; round <= 5; ++round) {
        REQUIRE(until(loop, [&] { return accepted == round && heard.times(PipeState::connected) == round; }));
        REQUIRE(pipe.send("x"));
        REQUIRE(until(loop, [&] { return all.size() == static_cast<std::size_t>(round); }));
        middle.cut();
    }
    REQUIRE(until(loop, [&] { return heard.times(PipeState::connected) == 6; }));
    CHECK(pipe.statistics().connections == 6);
    CHECK(pipe.statistics().resumes == 0);
    CHECK(heard.failures[2].kind == FailureKind::reset);
}

TEST_CASE("A policy that fails fast takes the first break for the end", "[reset]") {
    using Once = Pipe<NoEvents, Resumable<Tcp>, FailFast>;
    Loop loop;
    Server server(loop, quick_listener<Server>());
    REQUIRE(server.listen({"127.0.0.1", 0}));
    Middle middle(loop, server.local_endpoint());
    Once pipe(loop);
    Heard heard(pipe);
    REQUIRE(pipe.connect(middle.endpoint()));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
    middle.cut();
    REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
    CHECK(heard.why() == Failure{FailureKind::reset, Stage::established, Error::system(code::reset)});
    CHECK(heard.states == std::vector{PipeState::connecting, PipeState::connected, PipeState::closed});
}
