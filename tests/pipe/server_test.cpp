// SPDX-License-Identifier: BSL-1.0
// What pipes know of their servers: what they are asked for, what they share, and where a name leads.
#include "support.hpp"

namespace {

using Client = Pipe<NoEvents, Resumable<Tcp>, Persistent>;
using Server = Listener<Resumable<Tcp>, NoEvents, Persistent>;

struct Echo {
    explicit Echo(Loop& loop) : listener(loop, quick_listener<Server>()) {
        listener.on_accept([this](Server::AcceptedPipe& pipe) {
            ++conversations;
            pipe.on_receive([&pipe](Bytes bytes) { REQUIRE(pipe.send(bytes)); });
        });
        REQUIRE(listener.listen({"127.0.0.1", 0}));
    }
    Server listener;
    int conversations = 0;
};
template <class P>
bool echoes(Loop& loop, P& pipe, Heard& heard, const std::string& what) {
    heard.bytes.clear();
    REQUIRE(pipe.send(what));
    return until(loop, [&] { return heard.bytes == what; });
}

}  // namespace

TEST_CASE("A server sends a newcomer to another, and the session stays with that one") {
    Loop loop;
    Echo here(loop), there(loop);
    int asked = 0;
    here.listener.admit([&](const Newcomer& newcomer) {
        ++asked;
        CHECK(newcomer.from.ip() == IpAddress::v4(127, 0, 0, 1));
        CHECK_FALSE(newcomer.resuming);
        return Admission::elsewhere(there.listener.local_endpoint());
    });
    Client pipe(loop, quick<Client>());
    Heard heard(pipe);
    REQUIRE(pipe.connect(here.listener.local_endpoint()));
    REQUIRE(echoes(loop, pipe, heard, "hello"));
    CHECK(asked == 1);
    CHECK(here.conversations == 0);
    CHECK(there.conversations == 1);
    CHECK(pipe.peer_endpoint() == there.listener.local_endpoint());
    CHECK(heard.states == std::vector{PipeState::connecting, PipeState::connected});
    pipe.close();
    REQUIRE(until(loop, [&] { return heard.over(); }));
}

TEST_CASE("A session that is another server's is sent there, with its name") {
    Loop loop;
    Echo here(loop), there(loop);
    Middle middle(loop, there.listener.local_endpoint());
    Client pipe(loop, quick<Client>());
    Heard heard(pipe);
    REQUIRE(pipe.connect(middle.endpoint()));
    REQUIRE(echoes(loop, pipe, heard, "before"));
    bool named = false;
    here.listener.admit([&](const Newcomer& newcomer) {
        named = newcomer.resuming && !(newcomer.session == session::SessionId());
        return Admission::elsewhere(there.listener.local_endpoint());
    });
    middle.retarget(here.listener.local_endpoint());  // whatever leads to the servers leads to the wrong one now
    middle.cut();
    REQUIRE(until(loop, [&] { return pipe.statistics().resumes == 1; }));
    REQUIRE(echoes(loop, pipe, heard, "after"));
    CHECK(named);
    CHECK(there.conversations == 1);
    CHECK(here.conversations == 0);
}

TEST_CASE("Servers that send a client in circles are met with patience, and the one that was asked for is asked again") {
    Loop loop;
    Echo here(loop), there(loop);
    int asked = 0;
    here.listener.admit([&](const Newcomer&) {
        ++asked;
        return asked < 12 ? Admission::elsewhere(there.listener.local_endpoint()) : Admission::accept();
    });
    there.listener.admit([&](const Newcomer&) {
        ++asked;
        return Admission::elsewhere(here.listener.local_endpoint());
    });
    Client pipe(loop, quick<Client>());
    Heard heard(pipe);
    REQUIRE(pipe.connect(here.listener.local_endpoint()));
    REQUIRE(echoes(loop, pipe, heard, "hello"));
    CHECK(asked >= 12);
    CHECK(std::count_if(heard.failures.begin(), heard.failures.end(), [](const Failure& f) { return f.kind == FailureKind::redirected; }) ==
          1);
    CHECK(here.conversations == 1);
}

TEST_CASE("When the server that a client was sent to is gone, it comes back to the first") {
    Loop loop;
    Echo here(loop);
    const Endpoint gone = Mute().endpoint();  // nobody listens there any more
    int asked = 0;
    here.listener.admit([&](const Newcomer&) { return ++asked == 1 ? Admission::elsewhere(gone) : Admission::accept(); });
    Client pipe(loop, quick<Client>());
    Heard heard(pipe);
    REQUIRE(pipe.connect(here.listener.local_endpoint()));
    REQUIRE(echoes(loop, pipe, heard, "hello"));
    CHECK(asked == 2);
    CHECK(pipe.peer_endpoint() == here.listener.local_endpoint());
}

TEST_CASE("A server that is busy says for how long, and is left alone that long by all pipes of the loop") {
    Loop loop;
    Echo here(loop);
    int asked = 0;
    const Duration away = ms(150);
    TimePoint sent_away;
    here.listener.admit([&](const Newcomer&) {
        if (++asked > 1) return Admission::accept();
        sent_away = loop.now();
        return Admission::later(away);
    });
    Client first(loop, quick<Client>()), second(loop, quick<Client>());
    Heard heard(first), other(second);
    REQUIRE(first.connect(here.listener.local_endpoint()));
    REQUIRE(until(loop, [&] { return !heard.failures.empty() && heard.why().kind == FailureKind::overloaded; }));
    CHECK(heard.why().retry_after_ms == 150);
    CHECK(heard.is(PipeState::connecting));
    REQUIRE(second.connect(here.listener.local_endpoint()));
    REQUIRE(until(loop, [&] { return second.explain().doing == Explanation::Doing::waiting_for_server; }));
    REQUIRE(until(loop, [&] { return other.is(PipeState::connected); }));
    CHECK(loop.now() - sent_away >= away);
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
    CHECK(asked == 3);
}

TEST_CASE("An address that leads nowhere is no place to send a client to") {
    for (const Endpoint& nowhere : {Endpoint(), Endpoint("::", 80), Endpoint("0.0.0.0", 80), Endpoint("fe80::1", 80),
                                    Endpoint("127.0.0.1", 0), Endpoint("a.name", 80)}) {
        const Admission admission = Admission::elsewhere(nowhere);
        CHECK(admission.kind == Admission::Kind::pushed_back);
        CHECK_FALSE(admission.to.valid());
        CHECK(admission.retry_after == Duration::seconds(1));
    }
}

TEST_CASE("When a server is down one pipe of many tries for all, and all are back when it is") {
    Loop loop;
    std::optional<Echo> server(std::in_place, loop);
    const Endpoint at = server->listener.local_endpoint();
    Middle middle(loop, at);
    constexpr std::size_t crowd = 50;
    std::list<Client> pipes;
    const auto all = [&](PipeState state) {
        return std::all_of(pipes.begin(), pipes.end(), [&](const Client& p) { return p.state() == state; });
    };
    const auto waiting = [&] {
        return static_cast<std::size_t>(std::count_if(
            pipes.begin(), pipes.end(), [](const Client& p) { return p.explain().doing == Explanation::Doing::waiting_for_server; }));
    };
    auto options = quick<Client>();
    options.recovery.backoff_cap = ms(50);
    for (std::size_t i = 0; i < crowd; ++i) REQUIRE(pipes.emplace_back(loop, options).connect(middle.endpoint()));
    REQUIRE(until(loop, [&] { return all(PipeState::connected); }));
    middle.retarget(Mute().endpoint());  // nobody listens there any more
    middle.cut();
    REQUIRE(until(loop, [&] { return waiting() == crowd - 1; }));
    // It is one that tries, and when that one is destroyed it is another.
    for (int i = 0; i < 3; ++i) {
        const auto trying = std::find_if(pipes.begin(), pipes.end(),
                                         [](const Client& p) { return p.explain().doing != Explanation::Doing::waiting_for_server; });
        REQUIRE(trying != pipes.end());
        const auto others = waiting();
        const int before = middle.connections;
        REQUIRE(until(loop, [&] { return middle.connections > before + 2; }));
        CHECK(waiting() == others);
        pipes.erase(trying);
        REQUIRE(until(loop, [&] { return waiting() == others - 1; }));
    }
    const std::string about = describe(pipes.back().explain()).c_str();
    CHECK((about.find("waiting for the server to be ready") == 0 || about.find("1 connection") == 0 || about.find("about") == 0));
    middle.retarget(at);
    REQUIRE(until(loop, [&] { return all(PipeState::connected); }));
    for (const Client& pipe : pipes) CHECK(pipe.statistics().resumes == 1);
    CHECK(waiting() == 0);
}

TEST_CASE("A pipe that waits for its turn gives up, closes, or is destroyed like any other") {
    Loop loop;
    const Endpoint gone = Mute().endpoint();
    auto options = quick<Client>();
    Client prober(loop, options);
    REQUIRE(prober.connect(gone));
    REQUIRE(until(loop, [&] { return prober.statistics().attempts > 6; }));
    const auto waits = [](const Client& p) { return p.explain().doing == Explanation::Doing::waiting_for_server; };
    options.give_up_after = ms(30);
    Client pipe(loop, options);
    Heard heard(pipe);
    REQUIRE(pipe.connect(gone));
    REQUIRE(until(loop, [&] { return waits(pipe); }));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
    CHECK(pipe.statistics().attempts == 0);
    std::optional<Client> other(std::in_place, loop, quick<Client>());
    REQUIRE(other->connect(gone));
    REQUIRE(until(loop, [&] { return waits(*other); }));
    other->close();
    CHECK(other->state() == PipeState::closed);
    REQUIRE(other->connect(gone));
    REQUIRE(until(loop, [&] { return waits(*other); }));
    other.reset();
    REQUIRE(pipe.connect(gone));
    REQUIRE(until(loop, [&] { return waits(pipe); }));
    prober.abort();
    REQUIRE(until(loop, [&] { return pipe.statistics().attempts > 0; }));  // its turn
}

TEST_CASE("Addresses that are known are tried while a slow name service is still silent") {
    Loop loop;
    Echo server(loop);
    const std::uint16_t at = server.listener.local_endpoint().port();
    server.listener.close();
    int asked = 0;
    Resolver::of(loop).replace([&](const char*, Function<void(Resolver::Answer)> done) {
        if (++asked > 1) return;  // never an answer again
        Array<IpAddress> all;
        all.push(IpAddress::v4(127, 0, 0, 1));
        done(std::move(all));
    });
    Client pipe(loop, quick<Client>());
    Heard heard(pipe);
    REQUIRE(pipe.connect({"a.name", at}));
    REQUIRE(until(loop, [&] { return pipe.statistics().attempts > 3; }));
    CHECK(asked == 2);
    REQUIRE(server.listener.listen({"127.0.0.1", at}));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
    CHECK(asked == 2);
}

TEST_CASE("A name that has moved is gone to, although old addresses are still being tried") {
    Loop loop;
    Echo server(loop);
    const Endpoint gone("127.0.0.2", server.listener.local_endpoint().port());
    int asked = 0;
    Resolver::of(loop).replace([&](const char*, Function<void(Resolver::Answer)> done) {
        Array<IpAddress> all;
        all.push(++asked == 1 ? gone.ip() : IpAddress::v4(127, 0, 0, 1));
        done(std::move(all));
    });
    auto options = quick<Client>();
    options.recovery.backoff_base = options.recovery.backoff_cap = Duration::seconds(600);  // only the news help
    Client pipe(loop, options);
    Heard heard(pipe);
    REQUIRE(pipe.connect({"a.name", gone.port()}));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
    CHECK(asked == 2);
}

TEST_CASE("An address that says nothing is overtaken by the next, and comes last the next time") {
    Loop loop;
    Echo server(loop);
    const std::uint16_t at = server.listener.local_endpoint().port();
    // A queue that is full, at another address and the same port: silence.
    Socket full = std::move(*Socket::tcp(Family::v4));
    full.reuse_address();
    REQUIRE(full.bind(IpAddress::v4(127, 0, 0, 3), at));
    REQUIRE(full.listen(0));
    std::vector<Socket> fill;
    for (int i = 0; i < 3; ++i) {
        fill.push_back(std::move(*Socket::tcp(Family::v4)));
        static_cast<void>(fill.back().connect(IpAddress::v4(127, 0, 0, 3), at));
    }
    Resolver::of(loop).replace([&](const char*, Function<void(Resolver::Answer)> done) {
        Array<IpAddress> all;
        all.push(IpAddress::v4(127, 0, 0, 3));
        all.push(IpAddress::v4(127, 0, 0, 1));
        done(std::move(all));
    });
    auto options = quick<Client>();
    options.recovery.overlap = ms(20);
    Client pipe(loop, options);
    Heard heard(pipe);
    std::vector<IpAddress> tried;
    pipe.on_event([&](const Event& event) {
        if (event.kind == Event::Kind::attempt) tried.push_back(event.peer);
    });
    REQUIRE(pipe.connect({"a.name", at}));
    REQUIRE(echoes(loop, pipe, heard, "hello"));
    REQUIRE(tried.size() >= 2);
    CHECK(tried[0] == IpAddress::v4(127, 0, 0, 3));
    CHECK(tried[1] == IpAddress::v4(127, 0, 0, 1));
}
