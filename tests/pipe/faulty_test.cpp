// SPDX-License-Identifier: BSL-1.0
// What goes wrong in no laboratory: systems other than this one, and moments that cannot be made.
#include "support.hpp"

namespace {

using Client = Pipe<Scripted, Resumable<Faulty<Tcp>>, Persistent>;
using Server = Listener<Resumable<Tcp>, NoEvents, Persistent>;

template <class P = Client>
struct Fixture {
    explicit Fixture(const typename P::Options& options = quick<P>()) : faults(Faults::of(loop)), pipe(loop, options) {
        Scripted::of(loop).set(network(true));
        server.on_accept([this](Server::AcceptedPipe& accepted) {
            ++conversations;
            accepted.on_receive([&accepted](Bytes bytes) { REQUIRE(accepted.send(bytes)); });
        });
        REQUIRE(server.listen({"127.0.0.1", 0}));
        heard.listen(pipe);
        pipe.on_event([this](const Event& event) { events.push_back(event.kind); });
    }
    void connect() {
        REQUIRE(pipe.connect(server.local_endpoint()));
        REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
        REQUIRE(echoes("hello"));
    }
    bool echoes(const std::string& what) {
        const std::string before = heard.bytes;
        REQUIRE(pipe.send(what));
        return until(loop, [&] { return heard.bytes == before + what; });
    }
    bool told(Event::Kind kind) const { return std::count(events.begin(), events.end(), kind) > 0; }
    Loop loop;
    Faults& faults;
    Server server{loop, quick_listener<Server>()};
    P pipe;
    Heard heard;
    std::vector<Event::Kind> events;
    int conversations = 0;
};

}  // namespace

TEST_CASE("Whatever a system says of a connection, the session goes on over another") {
    Fixture f;
    f.connect();
    std::vector<int> codes = {code::reset};
#if defined(_WIN32)
    codes = {WSAECONNRESET, WSAENETRESET, WSAECONNABORTED, WSAETIMEDOUT, WSAENETDOWN, WSAEHOSTUNREACH, WSAENETUNREACH};
#else
    codes = {ECONNRESET, ENETRESET, ECONNABORTED, EPIPE, ETIMEDOUT, ENETDOWN, EHOSTUNREACH, ENETUNREACH, EPROTOTYPE, ENOTCONN, EINVAL};
#endif
    std::uint64_t resumes = 0;
    for (Fault::At at : {Fault::At::write, Fault::At::read})
        for (int c : codes) {
            CAPTURE(c);
            REQUIRE(f.faults.add({at, Fault::Kind::error, Error::system(c)}));
            REQUIRE(f.echoes("still here"));
            REQUIRE(until(f.loop, [&] { return f.pipe.statistics().resumes == resumes + 1; }));
            ++resumes;
        }
    CHECK(f.conversations == 1);
}

TEST_CASE("An attempt that fails as the system opens it, or just after, is made again") {
    Fixture f;
    f.connect();
#if defined(_WIN32)
    const int codes[] = {WSAENETDOWN, WSAENETUNREACH, WSAEADDRNOTAVAIL, WSAENOBUFS, WSAEHOSTUNREACH};
#else
    const int codes[] = {ENETDOWN, ENETUNREACH, EADDRNOTAVAIL, ENOBUFS, EHOSTUNREACH, EHOSTDOWN};
#endif
    std::uint64_t resumes = 0;
    for (Fault::At at : {Fault::At::open, Fault::At::opened})
        for (int c : codes) {
            CAPTURE(c);
            REQUIRE(f.faults.add({at, Fault::Kind::error, Error::system(c)}));
            REQUIRE(f.faults.add({Fault::At::write, Fault::Kind::error, Error::system(code::reset)}));
            REQUIRE(f.echoes("back again"));
            CHECK(f.pipe.statistics().resumes == ++resumes);
        }
    CHECK(f.conversations == 1);
}

TEST_CASE("Buffers that are full for a moment cost neither the connection nor a byte") {
    Fixture f;
    f.connect();
#if defined(_WIN32)
    const int no_buffers = WSAENOBUFS;
#else
    const int no_buffers = ENOBUFS;
#endif
    REQUIRE(f.faults.add({Fault::At::write, Fault::Kind::error, Error::system(no_buffers), {}, 1, 0, 5}));
    REQUIRE(f.echoes("patience"));
    CHECK(f.faults.count() == 5);
    CHECK(f.pipe.statistics().connections == 1);
}

TEST_CASE("Short counts and late answers cost time alone") {
    Fixture f;
    f.connect();
    REQUIRE(f.faults.add({Fault::At::write, Fault::Kind::shorten, {}, {}, 1, 0, 50}));
    REQUIRE(f.faults.add({Fault::At::read, Fault::Kind::shorten, {}, {}, 3, 0, 10}));
    REQUIRE(f.faults.add({Fault::At::write, Fault::Kind::delay, {}, ms(20)}));
    REQUIRE(f.faults.add({Fault::At::read, Fault::Kind::delay, {}, ms(20)}));
    REQUIRE(f.echoes(std::string(5000, 'x')));
    REQUIRE(f.echoes("and once more"));
    CHECK(f.pipe.statistics().connections == 1);
}

TEST_CASE("An opening that is late is one that another overtakes") {
    auto options = quick<Client>();
    options.recovery.overlap = ms(20);
    Fixture f(options);
    REQUIRE(f.faults.add({Fault::At::open, Fault::Kind::delay, {}, Duration::seconds(600)}));
    f.connect();
    CHECK(f.pipe.statistics().attempts == 2);
}

TEST_CASE("A connection that goes silent is left for another, and one that never opens too") {
    auto options = quick<Client>();
    options.transport.suspect_after = ms(20);
    options.transport.dead_after = ms(60);
    options.transport.liveness_interval = ms(50);
    options.recovery.overlap = ms(20);
    Fixture f(options);
    REQUIRE(f.faults.add({Fault::At::open, Fault::Kind::silence}));
    f.connect();
    for (Fault::At at : {Fault::At::write, Fault::At::read}) {
        const auto before = f.pipe.statistics().resumes;
        REQUIRE(f.faults.add({at, Fault::Kind::silence}));
        REQUIRE(f.echoes("is anybody there?"));
        CHECK(f.pipe.statistics().resumes > before);
    }
    CHECK(f.conversations == 1);
}

TEST_CASE("A handshake that was changed on the way, or comes from a stranger, does not end a session") {
    Fixture f;
    f.connect();
    REQUIRE(f.faults.add({Fault::At::read, Fault::Kind::corrupt}));
    REQUIRE(f.faults.add({Fault::At::write, Fault::Kind::error, Error::system(code::reset)}));
    REQUIRE(f.echoes("whole"));
    CHECK(f.faults.count() == 2);
    CHECK(f.pipe.statistics().attempts == 3);
    CHECK(std::count_if(f.heard.failures.begin(), f.heard.failures.end(),
                        [](const Failure& why) { return why.kind == FailureKind::protocol && why.stage == Stage::resuming; }) == 1);
    CHECK(f.conversations == 1);
}

TEST_CASE("By chance, with a seed: a long conversation arrives whole, whatever goes wrong") {
    const auto seed = GENERATE(1u, 2u, 3u, 4u);
    CAPTURE(seed);
    auto options = quick<Client>();
    options.transport.suspect_after = ms(20);
    options.transport.dead_after = ms(60);
    options.transport.liveness_interval = ms(50);
    options.recovery.overlap = ms(20);
    Fixture f(options);
    f.connect();
    f.faults.by_chance(seed, 10, Error::system(code::reset));
    std::string all = f.heard.bytes;
    for (int i = 0; i < 300; ++i) {
        const std::string message = "message " + std::to_string(i) + ";";
        all += message;
        REQUIRE(f.pipe.send(message));
        static_cast<void>(f.loop.run_once(ms(1)));
    }
    REQUIRE(until(f.loop, [&] { return f.faults.count() > 20 || f.heard.bytes == all; }));
    f.faults.clear();
    REQUIRE(until(f.loop, [&] { return f.heard.bytes == all; }));
    CHECK(f.conversations == 1);
}

TEST_CASE("A fault that makes no sense is refused, and those of a script are counted down") {
    Loop loop;
    Faults& faults = Faults::of(loop);
    const Error reset = Error::system(code::reset);
    CHECK(faults.add({Fault::At::open, Fault::Kind::error, {}}).error() == Errc::invalid_argument);
    CHECK(faults.add({Fault::At::open, Fault::Kind::shorten}).error() == Errc::invalid_argument);
    CHECK(faults.add({Fault::At::opened, Fault::Kind::silence}).error() == Errc::invalid_argument);
    CHECK(faults.add({Fault::At::write, Fault::Kind::shorten, {}, {}, 0}).error() == Errc::invalid_argument);
    REQUIRE(faults.add({Fault::At::write, Fault::Kind::error, reset, {}, 1, 2, 2}));
    REQUIRE(faults.add({Fault::At::write, Fault::Kind::silence}));
    CHECK(faults.next(Fault::At::read) == nullptr);
    CHECK(faults.next(Fault::At::write)->kind == Fault::Kind::silence);  // the first lets two pass, this one none
    CHECK(faults.next(Fault::At::write) == nullptr);
    CHECK(faults.next(Fault::At::write)->error == reset);
    CHECK(faults.next(Fault::At::write)->error == reset);
    CHECK(faults.next(Fault::At::write) == nullptr);
    CHECK(faults.count() == 3);
    faults.by_chance(1, 1, reset);
    CHECK(faults.next(Fault::At::write) != nullptr);
    CHECK(faults.next(Fault::At::open) == nullptr);
    faults.clear();
    CHECK(faults.next(Fault::At::write) == nullptr);
}

TEST_CASE("A session leaves a deprecated address when there is a better one, and when the flag has stayed") {
    Fixture f;
    f.connect();
    const auto with = [&](bool deprecated, bool another) {
        NetworkState state =
            network(true, another ? std::vector<const char*>{"127.0.0.1", "192.0.2.1"} : std::vector<const char*>{"127.0.0.1"});
        state.addresses[0].deprecated = deprecated;
        Scripted::of(f.loop).set(std::move(state));
    };
    with(true, true);
    with(false, true);  // it comes and goes with every announcement of a router
    static_cast<void>(f.loop.run_for(ChangeFeed::settle_time + ms(100)));
    CHECK(f.pipe.statistics().connections == 1);
    with(true, false);  // nothing better
    static_cast<void>(f.loop.run_for(ChangeFeed::settle_time + ms(100)));
    CHECK(f.pipe.statistics().connections == 1);
    with(true, true);
    REQUIRE(until(f.loop, [&] { return f.pipe.statistics().connections == 2; }));
    CHECK(f.pipe.statistics().interruptions == 0);
    CHECK(f.echoes("from the better one"));
}

namespace {

// Asks for its own interval on each network.
struct Sparing : Persistent {
    using Persistent::Persistent;
    Duration liveness_interval(const NetworkState& state, Duration usual) { return state.active_interface() == 2 ? usual : ms(20); }
};

}  // namespace

TEST_CASE("A policy may have quiet connections probed more often, or more seldom, by the network") {
    using P = Pipe<Scripted, Resumable<Faulty<Tcp>>, Sparing>;
    auto options = quick<P>();
    options.transport.liveness_interval = Duration::seconds(600);
    Fixture<P> f(options);
    f.connect();
    static_cast<void>(f.loop.run_for(ms(50)));
    CHECK(f.pipe.statistics().probes == 0);
    NetworkState other = network(true);
    other.route[0].interface_index = 3;
    Scripted::of(f.loop).set(std::move(other));
    REQUIRE(f.echoes("over another interface"));
    REQUIRE(until(f.loop, [&] { return f.pipe.statistics().probes > 3; }));
}

TEST_CASE("A connection that breaks when it is known that there is no way makes no attempt, and its time to give up begins") {
    auto options = quick<Client>();
    options.give_up_after = ms(200);
    Fixture f(options);
    f.connect();
    REQUIRE(f.faults.add({Fault::At::open, Fault::Kind::error, Error::system(code::no_network)}));
    Scripted::of(f.loop).set(network(false, {"192.0.2.1"}));
    REQUIRE(until(f.loop, [&] { return f.pipe.statistics().attempts == 2; }));
    REQUIRE(f.faults.add({Fault::At::write, Fault::Kind::error, Error::system(code::reset)}));
    REQUIRE(f.pipe.send("nobody hears this"));
    REQUIRE(until(f.loop, [&] { return f.heard.is(PipeState::interrupted); }));
    CHECK(f.heard.why().kind == FailureKind::no_route);
    CHECK(f.pipe.explain().doing == Explanation::Doing::waiting_for_network);
    REQUIRE(until(f.loop, [&] { return f.heard.is(PipeState::closed); }));
    CHECK(f.pipe.statistics().attempts == 2);
}
