// SPDX-License-Identifier: BSL-1.0
#include "pipe/support.hpp"

namespace {

using Plain = Pipe<NoEvents, Tcp, Persistent>;
using PlainOnce = Pipe<NoEvents, Tcp, FailFast>;
using Resuming = Pipe<NoEvents, Resumable<Tcp>, Persistent>;

template <class P>
struct ListenerOf;
template <class E, class T, class R>
struct ListenerOf<Pipe<E, T, R>> {
    using type = Listener<T, E, R>;
};

// A client that speaks through a relay to a server: `Front` from client to relay, `Back` from there to the server.
template <class Front, class Back>
struct Chain {
    using FrontListener = typename ListenerOf<Front>::type;
    using BackListener = typename ListenerOf<Back>::type;

    explicit Chain(std::size_t limit = 1 << 20) : front(loop, limited<FrontListener>(limit)), back(loop, limited<BackListener>(1 << 20)) {
        back.on_accept([this](Back& pipe) {
            server = &pipe;
            server_heard.listen(pipe);
            server_sink.listen(pipe);
        });
        REQUIRE(back.listen({"127.0.0.1", 0}));
        front.on_accept([this, limit](Front& pipe) {
            in = &pipe;
            in_heard.listen(pipe);
            auto options = quick<Back>();
            set_limit(options.transport, limit);
            out.emplace(loop, options);
            out_heard.listen(*out);
            REQUIRE(out->connect(back.local_endpoint()));
            REQUIRE(pipe.link(*out));
        });
        REQUIRE(front.listen({"127.0.0.1", 0}));
        client.emplace(loop, quick<Front>());
        client_heard.listen(*client);
        client_sink.listen(*client);
        REQUIRE(client->connect(front.local_endpoint()));
        REQUIRE(client->send(TextView("")));
    }
    void ready() {
        REQUIRE(until(loop, [&] { return server != nullptr && client_heard.is(PipeState::connected); }));
    }
    bool closed() const {
        return client_heard.is(PipeState::closed) && in_heard.is(PipeState::closed) && out_heard.is(PipeState::closed) &&
               server_heard.is(PipeState::closed);
    }
    static void set_limit(session::Options& options, std::size_t limit) { options.replay_limit = limit < 4096 ? 4096 : limit; }
    static void set_limit(session::Plain::Options& options, std::size_t limit) { options.queue_limit = limit; }
    template <class L>
    static typename L::Options limited(std::size_t limit) {
        auto options = quick_listener<L>();
        set_limit(options.pipe.transport, limit);
        return options;
    }

    Loop loop;
    Heard client_heard, in_heard, out_heard, server_heard;
    Sink client_sink, server_sink;
    FrontListener front;
    BackListener back;
    std::optional<Front> client;
    Front* in = nullptr;
    std::optional<Back> out;
    Back* server = nullptr;
};

// Both ends send, and one of them closes when it has sent everything.
template <class Front, class Back>
void relay(std::size_t limit, std::uint64_t much, bool client_closes) {
    Chain<Front, Back> chain(limit);
    chain.ready();
    Source up(*chain.client, much, client_closes);
    Source down(*chain.server, client_closes ? 1000 : much, !client_closes);
    REQUIRE(until(chain.loop, [&] { return chain.closed(); }));
    for (const Heard* heard : {&chain.client_heard, &chain.in_heard, &chain.out_heard, &chain.server_heard}) {
        CAPTURE(describe(heard->why()).c_str());
        CHECK(heard->over());
        if (heard == &chain.in_heard || heard == &chain.out_heard) CHECK(heard->bytes.empty());  // they go over instead
    }
    CHECK(chain.client_sink.good);
    CHECK(chain.server_sink.good);
    CHECK((client_closes ? chain.server_sink : chain.client_sink).received == much);
}

}  // namespace

TEST_CASE("Linked pipes relay both ways, and an end on one side ends the other in order, whatever their policies") {
    const bool client_closes = GENERATE(true, false);
    CAPTURE(client_closes);
    relay<Plain, Plain>(100'000, 3'000'000, client_closes);
    relay<Plain, Resuming>(100'000, 3'000'000, client_closes);
    relay<Resuming, PlainOnce>(100'000, 3'000'000, client_closes);
    relay<Resuming, Resuming>(100'000, 3'000'000, client_closes);
}

TEST_CASE("Linked pipes do not lock each other up when both directions are full") {
    const auto run = [](auto& chain) {
        chain.ready();
        constexpr std::uint64_t much = 5'000'000;
        Source up(*chain.client, much);
        Source down(*chain.server, much);
        chain.client->pause();
        chain.server->pause();
        std::uint64_t last = 0;
        REQUIRE(until(chain.loop, [&] {
            static_cast<void>(chain.loop.run_for(ms(30)));
            return std::exchange(last, up.sent + down.sent) == up.sent + down.sent;
        }));
        chain.client->resume();
        chain.server->resume();
        REQUIRE(until(chain.loop, [&] { return chain.client_sink.received == much && chain.server_sink.received == much; }));
        CHECK(chain.client_sink.good);
        CHECK(chain.server_sink.good);
    };
    SECTION("plain") {
        Chain<Plain, Plain> chain(50'000);
        run(chain);
    }
    SECTION("mixed") {
        Chain<Plain, Resuming> chain(50'000);
        run(chain);
    }
    SECTION("resumable") {
        Chain<Resuming, Resuming> chain(50'000);
        run(chain);
    }
}

TEST_CASE("Linked pipes get on with the least room") {
    relay<Plain, Plain>(1, 2000, true);
    relay<Resuming, Resuming>(1, 50'000, true);
}

TEST_CASE("A reader that is slow holds the sender back: the relay keeps no more than its limit") {
    constexpr std::size_t limit = 50'000;
    const auto run = [&](auto& chain) {
        chain.ready();
        chain.server->pause();
        Source source(*chain.client, std::uint64_t{1} << 30);
        std::uint64_t last = 0;
        REQUIRE(until(chain.loop, [&] {
            static_cast<void>(chain.loop.run_for(ms(30)));
            CHECK(chain.out->statistics().bytes_unacknowledged <= limit);
            // Nothing moves any more, because it is full.
            return std::exchange(last, source.sent) == source.sent && chain.out->statistics().bytes_unacknowledged > limit / 4;
        }));
        CHECK(source.sent < source.total / 10);
        // And a little at a time it gets through, in order.
        const std::uint64_t before = chain.server_sink.received;
        for (int i = 0; i < 5; ++i) {
            chain.server->resume();
            REQUIRE(chain.loop.run_once());
            chain.server->pause();
            static_cast<void>(chain.loop.run_for(ms(1)));
        }
        chain.server->resume();
        REQUIRE(until(chain.loop, [&] { return chain.server_sink.received > before + 20'000'000; }));
        CHECK(chain.server_sink.good);
    };
    SECTION("plain") {
        Chain<Plain, Plain> chain(limit);
        run(chain);
    }
    SECTION("resumable") {
        Chain<Resuming, Resuming> chain(limit);
        run(chain);
    }
}

TEST_CASE("One direction of a linked conversation can end while the other goes on", "[reset]") {
    Chain<Plain, Plain> chain;
    // Plain sockets at both ends, that can end one direction alone.
    Mute there;
    Socket here = std::move(*Socket::tcp(Family::v4));
    Loop& loop = chain.loop;
    chain.client.reset();
    Listener<Tcp, NoEvents, Persistent> middle(loop, quick_listener<Listener<Tcp, NoEvents, Persistent>>());
    std::optional<Plain> out;
    Plain* in = nullptr;
    Heard in_heard, out_heard;
    middle.on_accept([&](Plain& pipe) {
        in = &pipe;
        in_heard.listen(pipe);
        auto options = quick<Plain>();
        options.transport.queue_limit = 20'000;
        out.emplace(loop, options);
        out_heard.listen(*out);
        REQUIRE(out->connect(there.endpoint()));
        REQUIRE(pipe.link(*out));
    });
    REQUIRE(middle.listen({"127.0.0.1", 0}));
    static_cast<void>(here.connect(middle.local_endpoint().ip(), middle.local_endpoint().port()));
    REQUIRE(until(loop, [&] {
        there.accept();
        return there.accepted.size() == 1;
    }));
    Socket& server = there.accepted[0];
    const auto read_all = [&](Socket& socket) {
        std::string all;
        std::byte buffer[3000];
        REQUIRE(until(loop, [&] {
            for (;;) {
                auto n = socket.receive(buffer);
                if (n) all += text(Bytes(buffer, *n));
                if (!n || *n == 0) return n || n.error() != Errc::would_block;
            }
        }));
        return all;
    };
    REQUIRE(here.send(TextView("question").bytes()));
    REQUIRE(here.shutdown_send());
    CHECK(read_all(server) == "question");
    // The answer is long, and the reader slow: the end of it waits behind what the relay has not read yet.
    const std::string answer(8 << 20, 'a');
    std::size_t sent = 0;
    REQUIRE(until(loop, [&] {
        if (auto n = server.send(TextView(answer.data() + sent, answer.size() - sent).bytes())) sent += *n;
        std::byte few[2000];
        if (sent > 4 << 20) static_cast<void>(here.receive(few));
        return sent == answer.size() || sent > 4 << 20;
    }));
    CHECK(in->state() == PipeState::connected);
    server.close();
    static_cast<void>(loop.run_for(ms(50)));
    const std::string rest = read_all(here);
    CHECK(rest.size() + 2000 >= sent);
    CHECK(rest.size() <= sent);
    REQUIRE(until(loop, [&] { return in_heard.is(PipeState::closed) && out_heard.is(PipeState::closed); }));
    for (const Heard* heard : {&in_heard, &out_heard}) {
        CAPTURE(describe(heard->why()).c_str());
        CHECK(heard->over());
    }
}

TEST_CASE("A failure or the destruction of one linked pipe aborts the other", "[reset]") {
    Chain<PlainOnce, Resuming> chain;  // a client that would not let go would come back
    chain.ready();
    SECTION("the server gives up") { chain.server->abort(); }
    SECTION("the client gives up") { chain.client->abort(); }
    SECTION("one of the two is aborted") { chain.in->abort(); }
    SECTION("one of the two is destroyed") {
        chain.out.reset();
        chain.out_heard.states.push_back(PipeState::closed);
        chain.out_heard.failures.push_back(classify(Errc::cancelled, Stage::established));
    }
    REQUIRE(until(chain.loop, [&] { return chain.closed(); }));
    CHECK(chain.client_heard.why());
    CHECK(chain.in_heard.why());
    CHECK(chain.out_heard.why());
    CHECK(chain.server_heard.why());
}

TEST_CASE("Closing one linked pipe ends the other in order, and what still comes is not lost") {
    Chain<Resuming, Resuming> chain;
    chain.ready();
    Source up(*chain.client, 2'000'000);
    REQUIRE(until(chain.loop, [&] { return chain.server_sink.received > 100'000; }));
    chain.out->close();
    REQUIRE(until(chain.loop, [&] { return chain.server_heard.is(PipeState::closed) && chain.out_heard.is(PipeState::closed); }));
    CHECK(chain.server_heard.over());
    CHECK(chain.out_heard.over());
    // The other is on its own then: what it has not passed on is delivered to its handlers.
    REQUIRE(until(chain.loop, [&] { return chain.in_heard.is(PipeState::closed) && chain.client_heard.is(PipeState::closed); }));
    CHECK(chain.in_heard.over());
    CHECK(chain.client_heard.over());
    CHECK(chain.server_sink.good);
    CHECK(chain.server_sink.received + chain.in_heard.bytes.size() == up.sent);
}

TEST_CASE("Handlers of linked pipes may destroy both, at the end of either") {
    const int how = GENERATE(0, 1, 2, 3);
    CAPTURE(how);
    const PipeState when = GENERATE(PipeState::closing, PipeState::closed);
    struct Relay {
        explicit Relay(Loop& loop) : a(loop, quick<Resuming>()), b(loop, quick<Plain>()) {}
        Resuming a;
        Plain b;
    };
    Loop loop;
    Listener<Resumable<Tcp>, NoEvents, Persistent> left(loop, quick_listener<Listener<Resumable<Tcp>, NoEvents, Persistent>>());
    Listener<Tcp, NoEvents, Persistent> right(loop, quick_listener<Listener<Tcp, NoEvents, Persistent>>());
    Resuming* l = nullptr;
    Plain* r = nullptr;
    left.on_accept([&](Resuming& pipe) { l = &pipe; });
    right.on_accept([&](Plain& pipe) { r = &pipe; });
    REQUIRE(left.listen({"127.0.0.1", 0}));
    REQUIRE(right.listen({"127.0.0.1", 0}));
    auto relay = std::make_unique<Relay>(loop);
    int called = 0;
    const auto destroy = [&](PipeState state, const Failure&) {
        if (state != when && state != PipeState::closed) return;
        ++called;
        relay.reset();
    };
    relay->a.on_state(destroy);
    relay->b.on_state(destroy);
    REQUIRE(relay->a.connect(left.local_endpoint()));
    REQUIRE(relay->b.connect(right.local_endpoint()));
    REQUIRE(relay->a.link(relay->b));
    REQUIRE(until(loop, [&] { return l != nullptr && r != nullptr; }));
    if (how == 0) l->close();
    if (how == 1) r->close();
    if (how == 2) l->abort();
    if (how == 3) relay->b.close();
    REQUIRE(until(loop, [&] { return relay == nullptr; }));
    settle(loop);
    CHECK(called == 1);
}

TEST_CASE("What cannot be linked is refused") {
    Loop loop;
    Plain a(loop), b(loop), c(loop);
    CHECK(a.link(a).error() == Errc::invalid_state);
    REQUIRE(a.link(b));
    CHECK(a.link(b).error() == Errc::invalid_state);
    CHECK(a.link(c).error() == Errc::invalid_state);
    CHECK(c.link(b).error() == Errc::invalid_state);
    c.close();
    Resuming d(loop);
    CHECK(c.link(d).error() == Errc::invalid_state);
    CHECK(d.link(c).error() == Errc::invalid_state);
}

TEST_CASE("A pipe that is linked before it connects takes nothing before it does") {
    Loop loop;
    Listener<Tcp, NoEvents, Persistent> server(loop, quick_listener<Listener<Tcp, NoEvents, Persistent>>());
    std::vector<Plain*> accepted;
    std::vector<std::unique_ptr<Heard>> heard;
    server.on_accept([&](Plain& pipe) {
        accepted.push_back(&pipe);
        heard.push_back(std::make_unique<Heard>(pipe));
    });
    REQUIRE(server.listen({"127.0.0.1", 0}));
    Plain a(loop, quick<Plain>()), b(loop, quick<Plain>());
    REQUIRE(a.link(b));
    REQUIRE(a.connect(server.local_endpoint()));
    REQUIRE(until(loop, [&] { return accepted.size() == 1; }));
    REQUIRE(accepted[0]->send("early"));
    settle(loop);
    CHECK(a.state() == PipeState::connected);
    REQUIRE(b.connect(server.local_endpoint()));
    REQUIRE(until(loop, [&] { return accepted.size() == 2 && heard[1]->bytes == "early"; }));
}
