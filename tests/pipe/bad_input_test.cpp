// SPDX-License-Identifier: BSL-1.0
#if !defined(_WIN32)
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#endif

#include "pipe/support.hpp"

namespace {

using Plain = Pipe<NoEvents, Tcp, Persistent>;
using Resuming = Pipe<NoEvents, Resumable<Tcp>, Persistent>;
using PlainServer = Listener<Tcp, NoEvents, Persistent>;
using ResumingServer = Listener<Resumable<Tcp>, NoEvents, Persistent>;

// A conversation that works, and is shown to work on after everything that was tried on it.
template <class P, class S>
struct Conversation {
    Conversation() {
        server.on_accept([this](typename S::AcceptedPipe& made) {
            accepted = &made;
            server_heard.listen(made);
            made.on_receive([&made](Bytes bytes) { REQUIRE(made.send(bytes)); });
        });
        REQUIRE(server.listen({"127.0.0.1", 0}));
        REQUIRE(pipe.connect(server.local_endpoint()));
        REQUIRE(until(loop, [&] { return heard.is(PipeState::connected) && server_heard.is(PipeState::connected); }));
    }
    ~Conversation() {
        CHECK(pipe.send("unharmed"));
        CHECK(until(loop, [&] { return heard.bytes == "unharmed"; }));
        pipe.close();
        CHECK(until(loop, [&] { return heard.over() && server_heard.over(); }));
    }
    Loop loop;
    S server{loop, quick_listener<S>()};
    P pipe{loop, quick<P>()};
    typename S::AcceptedPipe* accepted = nullptr;
    Heard heard{pipe}, server_heard;
};

const Endpoint somewhere{"127.0.0.1", 9};

std::vector<Endpoint> no_endpoints() {
    return {{},
            {"", 80},
            {nullptr, 80},
            {"127.0.0.1", -1},
            {"127.0.0.1", 65'536},
            {"a name with spaces", 80},
            {TextView("nul\0inside", 10), 80},
            {"tab\there", 80},
            {std::string(254, 'a'), 80}};
}

}  // namespace

TEST_CASE("connect takes only what can be connected to") {
    Loop loop;
    Plain pipe(loop);
    Heard heard(pipe);
    for (const Endpoint& wrong : no_endpoints()) CHECK(pipe.connect(wrong).error() == Errc::invalid_argument);
    CHECK(pipe.connect({"127.0.0.1", 0}).error() == Errc::invalid_argument);
    CHECK(pipe.connect({"name", 0}).error() == Errc::invalid_argument);
    CHECK(pipe.state() == PipeState::idle);
    settle(loop);
    CHECK(heard.states.empty());
}

TEST_CASE("connect and adopt are for a pipe that has no conversation") {
    Conversation<Plain, PlainServer> plain;
    Conversation<Resuming, ResumingServer> resuming;
    Mute mute;
    const auto socket = [&] {
        Socket made = std::move(*Socket::tcp(Family::v4));
        static_cast<void>(made.connect(mute.endpoint().ip(), mute.endpoint().port()));
        return made;
    };
    CHECK(plain.pipe.connect(somewhere).error() == Errc::invalid_state);
    CHECK(plain.pipe.adopt(socket()).error() == Errc::invalid_state);
    CHECK(resuming.pipe.connect(somewhere).error() == Errc::invalid_state);
    CHECK(resuming.pipe.adopt(socket()).error() == Errc::invalid_state);
    // Those that a listener made are its own.
    CHECK(plain.accepted->connect(somewhere).error() == Errc::invalid_state);
    CHECK(plain.accepted->adopt(socket()).error() == Errc::invalid_state);
    CHECK(resuming.accepted->connect(somewhere).error() == Errc::invalid_state);
    CHECK(resuming.accepted->adopt(socket()).error() == Errc::invalid_state);

    Loop& loop = plain.loop;
    Plain pipe(loop, quick<Plain>());
    REQUIRE(pipe.connect(mute.endpoint()));
    CHECK(pipe.connect(mute.endpoint()).error() == Errc::invalid_state);  // although nothing has happened yet
    REQUIRE(until(loop, [&] { return pipe.state() == PipeState::connected; }));
    pipe.close();
    CHECK(pipe.state() == PipeState::closing);
    CHECK(pipe.connect(mute.endpoint()).error() == Errc::invalid_state);
}

TEST_CASE("adopt takes only a connected socket") {
    Loop loop;
    Plain pipe(loop);
    Heard heard(pipe);
    Mute mute;
    CHECK(pipe.adopt(Socket()).error() == Errc::invalid_argument);
    CHECK(pipe.adopt(std::move(*Socket::tcp(Family::v4))).error() == Errc::invalid_argument);
    CHECK(pipe.adopt(std::move(*Socket::udp(Family::v6))).error() == Errc::invalid_argument);
    CHECK(pipe.adopt(std::move(mute.listener)).error() == Errc::invalid_argument);
#if !defined(_WIN32)
    CHECK(pipe.adopt(Socket(-1)).error() == Errc::invalid_argument);
    CHECK(pipe.adopt(Socket(::open("/dev/null", O_RDWR))).error() == Errc::invalid_argument);
#endif
    CHECK(pipe.state() == PipeState::idle);
    settle(loop);
    CHECK(heard.states.empty());
}

#if !defined(_WIN32)
TEST_CASE("a Unix socket is adopted too, and where it breaks there is no other") {
    Loop loop;
    int pair[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    Pipe<NoEvents, Tcp, Persistent> pipe(loop);
    Heard heard(pipe);
    REQUIRE(pipe.adopt(Socket(pair[0])));
    Socket other(pair[1]);
    REQUIRE(pipe.send("hello"));
    REQUIRE(other.send(TextView("back").bytes()));
    REQUIRE(until(loop, [&] { return heard.bytes == "back"; }));
    CHECK_FALSE(pipe.peer_endpoint().valid());
    other.close();  // with something unread: a reset
    REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
    CHECK(heard.why().kind == FailureKind::invalid);
}
#endif

TEST_CASE("send takes bytes in a conversation, and no more than the limit") {
    Loop loop;
    Plain pipe(loop);
    CHECK(pipe.send("x").error() == Errc::invalid_state);
    pipe.close();
    CHECK(pipe.send("x").error() == Errc::invalid_state);

    Conversation<Plain, PlainServer> plain;
    Conversation<Resuming, ResumingServer> resuming;
    const std::string too_much((1 << 20) + 1, 'x');
    CHECK(plain.pipe.send(too_much).error() == Errc::too_large);
    CHECK(resuming.pipe.send(too_much).error() == Errc::too_large);
    CHECK(plain.pipe.send(Bytes()));
    CHECK(resuming.pipe.send(TextView()));
    CHECK(resuming.pipe.send(static_cast<const char*>(nullptr)));
}

TEST_CASE("release is for a plain connection with nothing queued") {
    Loop loop;
    Plain idle(loop);
    CHECK(idle.release().error() == Errc::invalid_state);
    idle.close();
    CHECK(idle.release().error() == Errc::invalid_state);
    Mute mute;
    Plain connecting(loop);
    REQUIRE(connecting.connect(mute.endpoint()));
    CHECK(connecting.release().error() == Errc::invalid_state);
    Conversation<Resuming, ResumingServer> resuming;
    CHECK(resuming.pipe.release().error() == Errc::unsupported);
    CHECK(resuming.accepted->release().error() == Errc::unsupported);
}

TEST_CASE("Handlers that are none are not added, and ids that are none not removed") {
    Loop loop;
    Plain pipe(loop);
    CHECK(pipe.on_receive({}) == 0);
    CHECK(pipe.on_state({}) == 0);
    CHECK(pipe.on_network_change({}) == 0);
    CHECK(pipe.on_drained(static_cast<void (*)()>(nullptr)) == 0);
    CHECK_FALSE(pipe.remove_handler(0));
    CHECK_FALSE(pipe.remove_handler(1));
    CHECK_FALSE(pipe.remove_handler(~HandlerId(0)));
    PlainServer server(loop);
    CHECK(server.on_accept({}) == 0);
    CHECK_FALSE(server.remove_handler(0));
    CHECK_FALSE(server.remove_handler(1));
}

TEST_CASE("Calls out of turn do nothing") {
    Loop loop;
    Plain pipe(loop);
    Heard heard(pipe);
    pipe.abort();
    pipe.pause();
    pipe.pause();
    pipe.resume();
    pipe.resume();
    CHECK(pipe.state() == PipeState::idle);
    CHECK_FALSE(pipe.local_endpoint().valid());
    CHECK_FALSE(pipe.peer_endpoint().valid());
    CHECK(pipe.statistics().bytes_sent == 0);
    pipe.close();
    pipe.close();
    pipe.abort();
    CHECK(heard.states == std::vector{PipeState::closed});
}

TEST_CASE("Options outside their bounds are refused before anything happens") {
    const auto resuming = [](auto change) {
        Loop loop;
        ResumingServer::Options options;
        change(options.pipe.transport);
        Resuming pipe(loop, options.pipe);
        CHECK(pipe.connect(somewhere).error() == Errc::invalid_argument);
        CHECK(pipe.state() == PipeState::idle);
        ResumingServer server(loop, options);
        CHECK(server.listen({"127.0.0.1", 0}).error() == Errc::invalid_argument);
        CHECK_FALSE(server.local_endpoint().valid());
    };
    resuming([](auto& o) { o.replay_limit = 0; });
    resuming([](auto& o) { o.replay_limit = 4095; });
    resuming([](auto& o) { o.replay_limit = (std::size_t{1} << 30) + 1; });
    resuming([](auto& o) { o.liveness_interval = Duration(); });
    resuming([](auto& o) { o.suspect_after = Duration::seconds(-1); });
    resuming([](auto& o) { o.dead_after = Duration(); });
    resuming([](auto& o) { o.keep_detached = Duration(); });
    Loop loop;
    Plain::Options plain;
    plain.transport.queue_limit = 0;
    Plain pipe(loop, plain);
    CHECK(pipe.connect(somewhere).error() == Errc::invalid_argument);

    const auto limits = [&](auto change) {
        ResumingServer::Options options;
        change(options);
        ResumingServer server(loop, options);
        CHECK(server.listen({"127.0.0.1", 0}).error() == Errc::invalid_argument);
    };
    limits([](auto& o) { o.backlog = 0; });
    limits([](auto& o) { o.backlog = -1; });
    limits([](auto& o) { o.limits.sessions = 0; });
    limits([](auto& o) { o.limits.sessions_per_peer = 0; });
    limits([](auto& o) { o.limits.half_made = 0; });
    limits([](auto& o) { o.limits.half_made_per_peer = 0; });
    limits([](auto& o) { o.limits.replay_bytes = 0; });
    limits([](auto& o) { o.limits.replay_bytes_per_peer = 0; });
    limits([](auto& o) { o.limits.handshake = Duration(); });
}

TEST_CASE("Times of nothing and less are over at once, and typed") {
    Loop loop;
    Mute mute;
    BlackHole hole;
    const Duration none = GENERATE(Duration(), Duration::seconds(-1), Duration::nanoseconds(INT64_MIN));
    SECTION("connect_timeout") {
        Pipe<NoEvents, Tcp, FailFast>::Options options;
        options.connect_timeout = none;
        Pipe<NoEvents, Tcp, FailFast> pipe(loop, options);
        Heard heard(pipe);
        REQUIRE(pipe.connect(hole.endpoint()));
        REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
        CHECK(heard.why().kind == FailureKind::timed_out);
    }
    SECTION("give_up_after") {
        auto options = quick<Resuming>();
        options.give_up_after = none;
        Resuming pipe(loop, options);
        Heard heard(pipe);
        REQUIRE(pipe.connect(hole.endpoint()));
        REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
        CHECK(heard.why().kind == FailureKind::timed_out);
    }
    SECTION("close_timeout") {
        auto options = quick<Resuming>();
        options.close_timeout = none;
        Resuming pipe(loop, options);
        Heard heard(pipe);
        REQUIRE(pipe.connect(hole.endpoint()));
        REQUIRE(pipe.send("x"));
        pipe.close();
        REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
        CHECK(heard.why().kind == FailureKind::timed_out);
    }
    SECTION("handshake_timeout") {
        auto options = quick<Resuming>();
        options.handshake_timeout = none;
        options.recovery.overlap = ms(1);
        Resuming pipe(loop, options);
        Heard heard(pipe);
        REQUIRE(pipe.connect(mute.endpoint()));
        REQUIRE(until(loop, [&] { return heard.why().kind == FailureKind::timed_out; }));
        CHECK(heard.is(PipeState::connecting));
        CHECK(heard.why().stage == Stage::handshaking);
    }
}

TEST_CASE("A local address that this host has not, or of the other family, is a failure like any other") {
    Loop loop;
    Mute mute;
    Pipe<NoEvents, Tcp, FailFast>::Options options;
    options.from = *IpAddress::parse(GENERATE("192.0.2.1", "::1"));
    Pipe<NoEvents, Tcp, FailFast> pipe(loop, options);
    Heard heard(pipe);
    REQUIRE(pipe.connect(mute.endpoint()));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
    CHECK(heard.why().error.domain() == Error::Domain::system);
    CHECK(heard.why().stage == Stage::connecting);
}

TEST_CASE("A listener listens only where one can") {
    Loop loop;
    PlainServer server(loop, quick_listener<PlainServer>());
    for (const Endpoint& wrong : no_endpoints()) CHECK(server.listen(wrong).error() == Errc::invalid_argument);
    CHECK(server.listen({"localhost", 0}).error() == Errc::invalid_argument);  // a name
    CHECK(server.listen({"192.0.2.1", 0}).error() == Error::system(code::not_available));
    CHECK_FALSE(server.local_endpoint().valid());
    Mute taken;
    CHECK(server.listen(taken.endpoint()).error() == Error::system(code::in_use));
    REQUIRE(server.listen({"127.0.0.1", 0}));
    const Endpoint at = server.local_endpoint();
    CHECK(server.listen({"127.0.0.1", 0}).error() == Errc::invalid_state);
    CHECK(server.local_endpoint() == at);
    server.close();
    server.close();
    CHECK_FALSE(server.local_endpoint().valid());
    REQUIRE(server.listen(at));
    CHECK(server.local_endpoint() == at);
}

#if !defined(_WIN32)
TEST_CASE("A loop without descriptors says so at once, and its pipes do") {
    const pid_t child = ::fork();
    if (child == 0) {
        for (int fd = 3; fd < 1024; ++fd) ::close(fd);
        const rlimit none{3, 3};
        ::setrlimit(RLIMIT_NOFILE, &none);
        Loop loop;
        Plain pipe(loop);
        PlainServer server(loop);
        const bool typed = loop.error() == Error::system(EMFILE) && loop.run().error() == loop.error() && pipe.connect(somewhere) &&
                           server.listen({"127.0.0.1", 0}).error() == Error::system(EMFILE);
        pipe.close();
        ::_exit(typed && pipe.state() == PipeState::closed ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}
#endif
