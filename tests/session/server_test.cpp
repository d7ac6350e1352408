// SPDX-License-Identifier: BSL-1.0
#include <rejoin/listener.hpp>

#include <list>
#include <memory>

#include "bytes.hpp"
#include "catch.hpp"
#include "os/system.hpp"
#include "os/until.hpp"

using namespace rejoin;
using namespace rejoin::session;
using test::Buffer;
using test::bytes;
using test::from_hex;

namespace {

using Server = Listener<Resumable<Tcp>>;

// A client by hand.
struct Client {
    explicit Client(Loop& l, const Endpoint& to, Family family = Family::v4) : loop(l), socket(std::move(*Socket::tcp(family))) {
        const IpAddress here = *IpAddress::parse(family == Family::v4 ? "127.0.0.1" : "::1");
        static_cast<void>(socket.connect(here, to.port()));
        REQUIRE(wait_for(socket, poll_out));
        REQUIRE_FALSE(socket.take_error());
    }

    void say(Bytes what) { REQUIRE(*socket.send(what) == what.size()); }
    // The next `n` bytes; fewer when the connection ends before.
    Buffer hear(std::size_t n) {
        Buffer out;
        REQUIRE(until(loop, [&] {
            std::byte piece[4096];
            const std::size_t want = n - out.size() < sizeof piece ? n - out.size() : sizeof piece;
            const auto got = socket.receive({piece, want});
            if (got && *got > 0) out = test::join(out, {piece, *got});
            const bool over = got ? *got == 0 : got.error() != Errc::would_block;
            if (!got && !over) settle(loop);
            return over || out.size() == n;
        }));
        return out;
    }
    // Waits for the end of the connection, whatever comes before.
    void hung_up() {
        while (!hear(1).empty()) {
        }
    }

    // The handshake's question, and whether it is let in.
    Error ask(const Identity* resume = nullptr, std::uint64_t epoch = 0) {
        if (resume == nullptr)
            handshake.ask_new({}, 65'536, nullptr);
        else
            handshake.ask_resume(*resume, {}, epoch, 65'536);
        say(handshake.pending());
        handshake.wrote(handshake.pending().size());
        const Buffer header = hear(4);
        if (header.size() < 4) return Errc::end_of_stream;
        const Buffer answer = test::join(header, hear(read_frame_header(header.data()).length));
        Bytes all = answer;
        return handshake.receive(all).error();
    }
    void confirm(std::uint64_t received = 0, std::uint64_t from = 0, Bytes behind = {}) {
        handshake.confirm(received, from);
        say(test::join(Buffer(handshake.pending().begin(), handshake.pending().end()), behind));
    }
    Error join() {
        const Error error = ask();
        if (!error) confirm();
        return error;
    }
    // Sends a byte, and waits for its echo.
    bool echoes(char c) {
        say(test::join(from_hex("10000001"), bytes({&c, 1})));
        for (;;) {
            const Buffer header = hear(4);
            if (header.size() < 4) return false;
            const Buffer payload = hear(read_frame_header(header.data()).length);
            if (read_frame_header(header.data()).type == FrameType::data) return payload == bytes({&c, 1});
        }
    }

    Loop& loop;
    Socket socket;
    ClientHandshake handshake;
};

struct World {
    explicit World(const Limits& limits = {}, Duration keep_detached = Duration::seconds(120)) {
        Server::Options options;
        options.limits = limits;
        options.pipe.transport.keep_detached = keep_detached;
        server = std::make_unique<Server>(loop, options);
        server->on_accept([this](ResumablePipe& pipe) {
            pipe.on_receive([&pipe](Bytes b) { static_cast<void>(pipe.send(b)); });
            pipe.on_state([this](PipeState state, const Failure& why) {
                if (state == PipeState::interrupted) ++interrupted;
                if (state == PipeState::closed) ended.push_back(why.kind);
                if (state == PipeState::closed && destroy) server.reset();
            });
        });
    }
    void listen(const Endpoint& at = {"127.0.0.1", 0}) {
        REQUIRE(server->listen(at));
        here = server->local_endpoint();
    }
    Client& client(Family family = Family::v4) { return clients.emplace_back(loop, here, family); }
    bool sessions(std::size_t n) {
        return until(loop, [&] { return server->size() == n; });
    }

    Loop loop;
    std::unique_ptr<Server> server;
    Endpoint here;
    std::list<Client> clients;
    std::vector<FailureKind> ended;
    int interrupted = 0;
    bool destroy = false;
};

}  // namespace

TEST_CASE("a server that is full refuses, and a session without a connection gives way") {
    Limits limits;
    limits.sessions = 2;
    World world(limits);
    world.listen();
    Client& first = world.client();
    Client& second = world.client();
    REQUIRE_FALSE(first.join());
    REQUIRE_FALSE(second.join());
    REQUIRE(world.sessions(2));
    Client& third = world.client();
    REQUIRE(third.join() == Errc::session_limit);
    third.hung_up();
    REQUIRE(first.echoes('1'));

    static_cast<void>(second.socket.shutdown_send());
    REQUIRE(until(world.loop, [&] { return world.interrupted == 1; }));
    REQUIRE(world.server->size() == 2);
    const bool destroy = world.destroy = GENERATE(false, true);
    Client& fourth = world.client();
    REQUIRE_FALSE(fourth.ask());
    REQUIRE(world.ended.empty());  // asking takes no place
    fourth.confirm();
    REQUIRE(until(world.loop, [&] { return world.ended.size() == 1; }));
    REQUIRE(world.ended[0] == FailureKind::session_expired);
    if (destroy) {
        first.hung_up();
        return;
    }
    REQUIRE(fourth.echoes('4'));
    REQUIRE(first.echoes('1'));
    REQUIRE(world.sessions(2));
    Client& back = world.client();
    REQUIRE(back.ask(&second.handshake.identity(), 1) == Errc::session_unknown);
}

TEST_CASE("several that give way in one turn are told one by one, and each place is taken once") {
    Limits limits;
    limits.sessions = 8;
    World world(limits);
    world.listen();
    for (int i = 0; i < 8; ++i) REQUIRE_FALSE(world.client().join());
    REQUIRE(world.sessions(8));
    for (Client& client : world.clients) static_cast<void>(client.socket.shutdown_send());
    REQUIRE(until(world.loop, [&] { return world.interrupted == 8; }));
    std::vector<Client*> newer;
    for (int i = 0; i < 8; ++i) {
        newer.push_back(&world.client());
        REQUIRE_FALSE(newer.back()->ask());
    }
    for (Client* client : newer) client->confirm();  // all of them wait when the loop looks
    REQUIRE(until(world.loop, [&] { return world.ended.size() == 8; }));
    REQUIRE(world.sessions(8));
    for (Client* client : newer) REQUIRE(client->echoes('x'));
    REQUIRE(world.client().join() == Errc::session_limit);
    REQUIRE(world.ended == std::vector<FailureKind>(8, FailureKind::session_expired));
}

TEST_CASE("a session expires, and its pipe is told so even where that destroys the server") {
    World world({}, Duration::milliseconds(1));
    world.listen();
    world.destroy = GENERATE(false, true);
    REQUIRE_FALSE(world.client().join());
    REQUIRE(world.sessions(1));
    static_cast<void>(world.clients.front().socket.shutdown_send());
    REQUIRE(until(world.loop, [&] { return world.ended.size() == 1; }));
    REQUIRE(world.ended[0] == FailureKind::session_expired);
    if (!world.destroy) REQUIRE(world.sessions(0));
}

TEST_CASE("connections that only ask make room for each other, and disturb nobody") {
    Limits limits;
    limits.half_made = 6;
    limits.half_made_per_peer = 4;
    World world(limits);
    world.listen();
    Client& honest = world.client();
    REQUIRE_FALSE(honest.join());
    REQUIRE(honest.echoes('a'));
    // One that has only just come keeps its place for a moment: who is turned away for that comes again, as a pipe would.
    const auto ask = [&](const Identity* resume, std::uint64_t epoch) -> Client& {
        for (;;)
            if (Client& client = world.client(); !client.ask(resume, epoch)) return client;
    };
    std::vector<Client*> flood;
    for (int i = 0; i < 12; ++i) {
        flood.push_back(&ask(nullptr, 0));
        REQUIRE(honest.echoes('b'));
    }
    for (int i = 0; i < 8; ++i) flood[static_cast<std::size_t>(i)]->hung_up();
    // Among them one comes back, and one is new.
    Client& back = ask(&honest.handshake.identity(), 1);
    back.confirm(13, 13);
    REQUIRE(back.echoes('c'));
    honest.hung_up();
    Client& newcomer = ask(nullptr, 0);
    newcomer.confirm(0, 0);
    REQUIRE(newcomer.echoes('d'));
    REQUIRE(world.server->size() == 2);
    REQUIRE(world.ended.empty());
}

TEST_CASE("a client that claims what cannot be is hung up on, and its session stays as it is") {
    World world;
    world.listen();
    Client& first = world.client();
    REQUIRE_FALSE(first.join());
    REQUIRE(first.echoes('a'));
    const bool interrupted = GENERATE(false, true);
    if (interrupted) {
        static_cast<void>(first.socket.shutdown_send());
        REQUIRE(until(world.loop, [&] { return world.interrupted == 1; }));
    }
    Client& liar = world.client();
    REQUIRE_FALSE(liar.ask(&first.handshake.identity(), 1));
    liar.confirm(77, 1, from_hex("10000004 6576696c"));  // with data behind, which belongs to no connection
    liar.hung_up();
    if (!interrupted) REQUIRE(first.echoes('b'));
    Client& back = world.client();
    REQUIRE_FALSE(back.ask(&first.handshake.identity(), 1));
    back.confirm(interrupted ? 1 : 2, interrupted ? 1 : 2);
    REQUIRE(back.echoes('c'));
    REQUIRE(world.server->size() == 1);
    REQUIRE(world.ended.empty());
}

TEST_CASE("a client that claims what cannot be from the start does not keep its place for ever") {
    World world({}, Duration::milliseconds(1));
    world.listen();
    Client& liar = world.client();
    REQUIRE_FALSE(liar.ask());
    liar.confirm(5, 0);
    liar.hung_up();
    REQUIRE(world.sessions(0));
}

TEST_CASE("IPv4 clients of a server on both families are peers of their own") {
    Limits limits;
    limits.sessions_per_peer = 1;
    World world(limits);
    if (!world.server->listen({"::", 0})) return;  // a host without IPv6
    world.here = world.server->local_endpoint();
    REQUIRE_FALSE(world.client(Family::v4).join());
    REQUIRE(world.sessions(1));
    REQUIRE_FALSE(world.client(Family::v6).join());
    REQUIRE(world.sessions(2));
    REQUIRE(world.client(Family::v4).join() == Errc::session_limit);
    REQUIRE(world.client(Family::v6).join() == Errc::session_limit);
}

TEST_CASE("limits out of their bounds are refused") {
    Limits limits;
    limits.half_made = 0;
    World world(limits);
    REQUIRE(world.server->listen({"127.0.0.1", 0}).error() == Errc::invalid_argument);
}
