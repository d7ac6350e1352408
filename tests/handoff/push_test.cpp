// SPDX-License-Identifier: BSL-1.0
#include <rejoin/handoff/plain_end.hpp>
#include <rejoin/handoff/push.hpp>

#include "pipe/support.hpp"

using handoff::Channel;
using handoff::Parcel;

namespace {

using Client = Pipe<NoEvents, Resumable<Tcp>, Persistent>;
using Server = Listener<Resumable<Tcp>, NoEvents, Persistent>;
using PlainClient = Pipe<NoEvents, Tcp, FailFast>;
using PlainServer = Listener<Tcp, NoEvents, FailFast>;

// Two processes' worth of channel, in one loop.
struct Between {
    explicit Between(Loop& loop) : here(loop, patient()), there(loop, patient()) {
        LocalSocket::End one, other;
        REQUIRE(LocalSocket::pair(one, other));
        REQUIRE(here.start(std::move(one)));
        REQUIRE(there.start(std::move(other)));
    }
    static Channel::Options patient() {
        Channel::Options options;
        options.deadline = Duration::seconds(60);
        return options;
    }
    Channel here, there;
};
struct Told {
    Channel::Done done() {
        return [this](Error error, Parcel&& parcel) {
            errors.push_back(error);
            parcels.push_back(std::move(parcel));
        };
    }
    std::vector<Error> errors;
    std::vector<Parcel> parcels;
};
// A server process: a listener, and the one pipe that it accepts.
template <class L>
struct Process {
    explicit Process(Loop& loop) : listener(loop, quick_listener<L>()) {
        listener.on_accept([this](typename L::AcceptedPipe& p) {
            pipe = &p;
            heard.listen(p);
            sink.listen(p);
            if (then) then(p);
        });
        REQUIRE(listener.listen({"127.0.0.1", 0}));
    }
    typename L::AcceptedPipe* pipe = nullptr;
    Heard heard;
    Sink sink;
    std::function<void(typename L::AcceptedPipe&)> then;
    L listener;
};

}  // namespace

TEST_CASE("a server's session moves to another process while data flows both ways, again and again, and rejoins there") {
    Loop loop;
    Process<Server> one(loop), other(loop);
    Middle middle(loop, one.listener.local_endpoint());
    Between between(loop);
    Process<Server>* const processes[] = {&one, &other};
    constexpr std::uint64_t total = 3'000'000;

    Client client(loop, quick<Client>());
    Heard heard(client);
    Sink sink(client);
    REQUIRE(client.connect(middle.endpoint()));
    Source<Client> up(client, total);
    // What the server has sent is counted over all of its processes.
    std::uint64_t down = 0;
    const auto send_more = [&](Server::AcceptedPipe& pipe) {
        while (down < total) {
            std::byte piece[5000];
            for (std::size_t i = 0; i < sizeof piece; ++i) piece[i] = at(down + i);
            if (!pipe.send(Bytes(piece))) return;
            down += sizeof piece;
        }
    };
    std::uint64_t received = 0;
    bool good = true;
    for (auto* process : processes)
        process->then = [&](Server::AcceptedPipe& pipe) {
            pipe.on_drained([&] { send_more(pipe); });
            pipe.on_receive([&](Bytes bytes) {
                for (std::byte b : bytes) good = good && b == at(received++);
            });
            pipe.on_state([&](PipeState state, const Failure&) {
                if (state == PipeState::connected) send_more(pipe);
            });
        };

    int moves = 0, current = 0;
    Told told;
    Channel* const ends[] = {&between.here, &between.there};
    for (int i = 0; i < 2; ++i)
        ends[i]->on_parcel([&, i](Parcel&& parcel) {
            REQUIRE(processes[i]->listener.adopt(std::move(parcel)));
            current = i;
            middle.retarget(processes[i]->listener.local_endpoint());
            ++moves;
        });
    while (received < total || sink.received < total) {
        const int before = moves;
        const std::uint64_t so_far = received + sink.received;
        REQUIRE(until(loop, [&] {
            return processes[current]->pipe != nullptr && processes[current]->heard.is(PipeState::connected) &&
                   (received + sink.received > so_far || (received == total && sink.received == total));
        }));
        if (moves % 3 == 1) middle.cut();  // it moves broken too
        REQUIRE(handoff::push(*ends[current], *processes[current]->pipe, "", told.done()));
        REQUIRE(until(loop, [&] { return moves > before; }));
        REQUIRE(until(loop, [&] { return client.state() == PipeState::connected; }));
    }
    CHECK(moves > 10);
    CHECK(good);
    CHECK(sink.good);
    CHECK(received == total);
    CHECK(sink.received == total);
    CHECK(client.statistics().resumes > 0);
    for (Error error : told.errors) CHECK(error == Error());

    client.close();
    REQUIRE(until(loop, [&] { return heard.over() && processes[current]->heard.over(); }));
    CHECK(heard.times(PipeState::closed) == 1);
}

TEST_CASE("a client's session moves, and connects again from where it went") {
    Loop loop;
    Process<Server> server(loop);
    Middle middle(loop, server.listener.local_endpoint());
    Between between(loop);
    Client first(loop, quick<Client>()), second(loop, quick<Client>());
    Heard heard_first(first), heard(second);
    REQUIRE(first.connect(Endpoint("localhost", middle.endpoint().port())));
    REQUIRE(first.send("one "));
    REQUIRE(until(loop, [&] { return server.heard.bytes == "one "; }));
    REQUIRE(first.send("two "));
    Told told;
    std::string note;
    between.there.on_parcel([&](Parcel&& parcel) {
        note.assign(parcel.note.data(), parcel.note.size());
        CHECK(TextView(parcel.peer.name()) == TextView("localhost"));
        REQUIRE(second.adopt(std::move(parcel)));
    });
    REQUIRE(handoff::push(between.here, first, "player 7", told.done()));
    CHECK(first.state() == PipeState::closed);
    CHECK(heard_first.over());
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected) && server.heard.bytes == "one two "; }));
    CHECK(note == "player 7");
    CHECK(server.heard.times(PipeState::connected) == 1);  // it has noticed nothing
    REQUIRE(second.send("three "));
    REQUIRE(until(loop, [&] { return server.heard.bytes == "one two three "; }));
    middle.cut();
    REQUIRE(second.send("four"));
    REQUIRE(until(loop, [&] { return server.heard.bytes == "one two three four"; }));
    REQUIRE(server.pipe->send("back"));
    REQUIRE(until(loop, [&] { return heard.bytes == "back"; }));
    second.close();
    REQUIRE(until(loop, [&] { return heard.over(); }));
}

TEST_CASE("a client's session moves without a connection too") {
    Loop loop;
    Process<Server> server(loop);
    Middle middle(loop, server.listener.local_endpoint());
    Client first(loop, quick<Client>()), second(loop, quick<Client>());
    Heard heard_first(first), heard(second);
    REQUIRE(first.connect(middle.endpoint()));
    REQUIRE(until(loop, [&] { return heard_first.is(PipeState::connected); }));
    middle.hold(true);
    middle.cut();
    REQUIRE(until(loop, [&] { return heard_first.is(PipeState::interrupted); }));
    REQUIRE(first.send("kept"));
    auto parcel = first.depart();
    REQUIRE(parcel);
    CHECK_FALSE(parcel->socket);
    middle.hold(false);
    REQUIRE(second.adopt(std::move(*parcel)));
    REQUIRE(until(loop, [&] { return server.heard.bytes == "kept"; }));
    CHECK(second.statistics().resumes == 1);
}

TEST_CASE("a session that moves while a client is coming back to it is not taken for a new one") {
    Loop loop;
    Process<Server> server(loop);
    Client client(loop, quick<Client>());
    Heard heard(client);
    REQUIRE(client.connect(server.listener.local_endpoint()));
    REQUIRE(until(loop, [&] { return server.pipe != nullptr && heard.is(PipeState::connected); }));
    auto known = client.depart();  // its id and key
    REQUIRE(known);

    auto raw = Socket::tcp(Family::v4);
    REQUIRE(raw);
    static_cast<void>(raw->connect(server.listener.local_endpoint().ip(), server.listener.local_endpoint().port()));
    REQUIRE(until(loop, [&] { return raw->peer_endpoint().valid(); }));
    session::ClientHandshake handshake;
    handshake.ask_resume(known->session.identity, {}, 100, 65536);
    REQUIRE(raw->send(handshake.pending()));
    handshake.wrote(handshake.pending().size());
    std::byte room[1000];
    REQUIRE(until(loop, [&] {
        const auto n = raw->receive(room);
        if (!n) return false;
        Bytes bytes(room, *n);
        const auto yes = handshake.receive(bytes);
        return yes && *yes;
    }));
    auto moved = server.pipe->depart();  // between the server's question and the client's proof
    REQUIRE(moved);
    handshake.confirm(0, 0);
    REQUIRE(raw->send(handshake.pending()));
    REQUIRE(until(loop, [&] {
        const auto n = raw->receive(room);
        return n && *n == 0;
    }));
    REQUIRE(until(loop, [&] { return server.listener.size() == 0; }));
    CHECK(server.heard.times(PipeState::connected) == 1);

    // Whoever asks later is asked to come back, and not told that nobody knows the session.
    Client again(loop, quick<Client>());
    Heard of_again(again);
    known->socket.close();
    known->session.attached = false;
    REQUIRE(again.adopt(std::move(*known)));
    REQUIRE(until(loop, [&] { return of_again.why().kind == FailureKind::overloaded; }));
    REQUIRE(server.listener.adopt(std::move(*moved)));
    REQUIRE(until(loop, [&] { return of_again.is(PipeState::connected); }));
}

TEST_CASE("a plain connection moves in the middle of a request, with what was read and what was queued") {
    Loop loop;
    Process<PlainServer> one(loop), other(loop);
    Between between(loop);
    PlainClient client(loop);
    Heard heard(client);
    REQUIRE(client.connect(one.listener.local_endpoint()));
    Told told;
    std::string unread;
    one.then = [&](PlainServer::AcceptedPipe& pipe) {
        pipe.on_receive([&](Bytes bytes) {
            REQUIRE(pipe.send("HTTP/1.1 "));
            auto parcel = pipe.depart();
            REQUIRE(parcel);
            for (std::byte b : bytes) REQUIRE(parcel->unread.push(b));
            REQUIRE(between.here.offer(std::move(*parcel), told.done()));
        });
    };
    between.there.on_parcel([&](Parcel&& parcel) {
        unread.assign(reinterpret_cast<const char*>(parcel.unread.data()), parcel.unread.size());
        auto pipe = other.listener.adopt(std::move(parcel));
        REQUIRE(pipe);
        REQUIRE((*pipe)->send("200 OK"));
    });
    REQUIRE(client.send("GET /half"));
    REQUIRE(until(loop, [&] { return heard.bytes == "HTTP/1.1 200 OK"; }));
    CHECK(unread == "GET /half");
    CHECK(one.heard.over());
    REQUIRE(client.send(" HTTP/1.1"));
    REQUIRE(until(loop, [&] { return other.heard.bytes == " HTTP/1.1"; }));
    REQUIRE(until(loop, [&] { return one.listener.size() == 0; }));
    client.close();
    REQUIRE(until(loop, [&] { return heard.over() && other.listener.size() == 0; }));
}

TEST_CASE("a connection that is not taken goes on where it was") {
    Loop loop;
    Process<Server> server(loop);
    Between between(loop);
    Client client(loop, quick<Client>());
    Heard heard(client);
    REQUIRE(client.connect(server.listener.local_endpoint()));
    REQUIRE(until(loop, [&] { return server.pipe != nullptr && heard.is(PipeState::connected); }));
    Told told;
    REQUIRE(handoff::push(between.here, *server.pipe, "", told.done()));  // nobody takes parcels there
    REQUIRE(client.send("meanwhile"));
    REQUIRE(until(loop, [&] { return !told.errors.empty(); }));
    CHECK(told.errors[0] == Errc::cancelled);
    REQUIRE(server.listener.adopt(std::move(told.parcels[0])));
    REQUIRE(until(loop, [&] { return server.heard.bytes == "meanwhile"; }));

    REQUIRE(handoff::push(between.here, client, "", told.done()));
    REQUIRE(until(loop, [&] { return told.errors.size() == 2; }));
    REQUIRE(client.adopt(std::move(told.parcels[1])));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
    REQUIRE(client.send(" and after"));
    REQUIRE(until(loop, [&] { return server.heard.bytes == "meanwhile and after"; }));
    CHECK(server.listener.size() == 1);
}

TEST_CASE("a listening socket moves, and who calls meanwhile waits") {
    Loop loop;
    Process<PlainServer> one(loop);
    PlainServer other(loop);
    std::string heard_there;
    other.on_accept([&](PlainServer::AcceptedPipe& pipe) { pipe.on_receive([&](Bytes bytes) { heard_there += text(bytes); }); });
    Between between(loop);
    Told told;
    const Endpoint at = one.listener.local_endpoint();
    Parcel parcel;
    parcel.socket = one.listener.release();
    CHECK_FALSE(one.listener.local_endpoint().valid());
    PlainClient client(loop);
    Heard heard(client);
    REQUIRE(client.connect(at));
    REQUIRE(client.send("hello"));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
    between.there.on_parcel([&](Parcel&& got) { REQUIRE(other.listen(std::move(got.socket))); });
    REQUIRE(between.here.offer(std::move(parcel), told.done()));
    REQUIRE(until(loop, [&] { return heard_there == "hello"; }));
    CHECK(other.local_endpoint() == at);
    CHECK(other.listen(Socket()).error() == Errc::invalid_state);
    CHECK(one.listener.listen(Socket()).error() == Errc::invalid_argument);
    CHECK(one.listener.listen(std::move(*Socket::tcp(Family::v4))).error() == Errc::invalid_argument);
    Socket connected, rest;
    REQUIRE(LocalSocket::stream_pair(connected, rest));
    CHECK(one.listener.listen(std::move(connected)).error() == Errc::invalid_argument);
}

TEST_CASE("what cannot depart says why, and goes on") {
    Loop loop;
    Process<Server> server(loop);
    Between between(loop);
    Client client(loop, quick<Client>());
    Heard heard(client);
    Told told;
    CHECK(client.depart().error() == Errc::invalid_state);  // idle
    REQUIRE(client.connect(server.listener.local_endpoint()));
    CHECK(client.depart().error() == Errc::invalid_state);  // nothing is there yet
    Error inside;
    client.on_receive([&](Bytes) { inside = handoff::push(between.here, client, "", told.done()).error(); });
    REQUIRE(until(loop, [&] { return server.pipe != nullptr; }));
    REQUIRE(server.pipe->send("x"));
    REQUIRE(until(loop, [&] { return !heard.bytes.empty(); }));
    CHECK(inside == Errc::would_block);
    Client linked(loop, quick<Client>());
    REQUIRE(client.link(linked));
    CHECK(client.depart().error() == Errc::invalid_state);
    CHECK(told.errors.empty());

    Channel closed(loop);
    CHECK(handoff::push(closed, *server.pipe, "", told.done()).error() == Errc::invalid_state);
    CHECK(server.pipe->state() == PipeState::connected);
}

TEST_CASE("what cannot be adopted says why, and nothing has changed") {
    Loop loop;
    Process<Server> server(loop);
    Process<PlainServer> plain(loop);
    Client client(loop, quick<Client>());
    Heard heard(client);
    REQUIRE(client.connect(server.listener.local_endpoint()));
    REQUIRE(until(loop, [&] { return server.pipe != nullptr && heard.is(PipeState::connected); }));
    REQUIRE(client.send("abc"));
    const auto fresh = [&] {
        auto parcel = client.depart();
        REQUIRE(parcel);
        return std::move(*parcel);
    };
    Parcel parcel = fresh();
    CHECK(server.listener.adopt(std::move(parcel)).error() == Errc::invalid_argument);  // a client's end
    CHECK(plain.listener.adopt(std::move(parcel)).error() == Errc::invalid_argument);
    PlainClient other(loop);
    CHECK(other.adopt(std::move(parcel)).error() == Errc::invalid_argument);
    CHECK(other.adopt(Parcel()).error() == Errc::invalid_argument);
    CHECK(client.adopt(Parcel()).error() == Errc::invalid_argument);
    CHECK(plain.listener.adopt(Parcel()).error() == Errc::invalid_argument);
    parcel.session.window = 1;
    CHECK(client.adopt(std::move(parcel)).error() == Errc::malformed);
    parcel.session.window = 1 << 20;
    REQUIRE(parcel.socket);
    REQUIRE(client.adopt(std::move(parcel)));
    REQUIRE(client.send(std::string(10'000, 'x')));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
    CHECK(client.adopt(Parcel()).error() == Errc::invalid_argument);

    auto served = server.pipe->depart();
    REQUIRE(served);
    served->session.window = 1;
    CHECK(server.listener.adopt(std::move(*served)).error() == Errc::malformed);
    REQUIRE(served->socket);
    served->session.window = 1 << 20;
    REQUIRE(until(loop, [&] { return server.listener.size() == 0; }));
    CHECK(client.adopt(std::move(*served)).error() == Errc::invalid_argument);
    REQUIRE(server.listener.adopt(std::move(*served)));
    served->resumable = true;
    CHECK(server.listener.adopt(std::move(*served)).error() == Errc::invalid_argument);  // its socket is gone with the first
    REQUIRE(until(loop, [&] { return server.heard.bytes.size() == 10'003; }));
}

namespace {

// A connection that cannot be watched, as when the system allows no more.
struct Unwatchable : TcpConnection {
    using TcpConnection::TcpConnection;
    Result<void> adopt(Socket socket) {
        static_cast<void>(TcpConnection::adopt(std::move(socket)));
        return Errc::out_of_memory;
    }
};
struct UnwatchableTcp : Tcp {
    using Connection = Unwatchable;
};

}  // namespace

TEST_CASE("a socket that cannot be watched comes back with its parcel") {
    Loop loop;
    Parcel parcel;
    Socket rest;
    REQUIRE(LocalSocket::stream_pair(parcel.socket, rest));
    Pipe<NoEvents, UnwatchableTcp, FailFast> pipe(loop);
    CHECK(pipe.adopt(std::move(parcel)).error() == Errc::out_of_memory);
    REQUIRE(parcel.socket);
    CHECK(pipe.state() == PipeState::idle);
    Listener<UnwatchableTcp, NoEvents, FailFast> listener(loop);
    CHECK(listener.adopt(std::move(parcel)).error() == Errc::out_of_memory);
    REQUIRE(parcel.socket);
    CHECK(listener.size() == 0);
    REQUIRE(rest.send(TextView("still here").bytes()));
    std::byte room[20];
    CHECK(*parcel.socket.receive(room) == 10);
}

TEST_CASE("a session that could not come back is still known to have been here") {
    Loop loop;
    Process<Server> server(loop);
    Client client(loop, quick<Client>());
    Heard heard(client);
    REQUIRE(client.connect(server.listener.local_endpoint()));
    REQUIRE(until(loop, [&] { return server.pipe != nullptr && heard.is(PipeState::connected); }));
    auto served = server.pipe->depart();
    REQUIRE(served);
    const std::uint32_t window = std::exchange(served->session.window, 1);
    CHECK(server.listener.adopt(std::move(*served)).error() == Errc::malformed);
    served->socket.close();
    REQUIRE(until(loop, [&] { return heard.why().kind == FailureKind::overloaded; }));
    served->session.window = window;
    served->session.attached = false;
    REQUIRE(server.listener.adopt(std::move(*served)));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
}

TEST_CASE("a plain end serves a program that knows nothing of sessions, whatever happens behind it") {
    Loop loop;
    Process<Server> server(loop);
    Middle middle(loop, server.listener.local_endpoint());
    Client client(loop, quick<Client>());
    PlainClient local(loop);
    Heard heard(client), heard_local(local);
    REQUIRE(client.connect(middle.endpoint()));
    auto end = handoff::plain_end(local, client);
    REQUIRE(end);
    CHECK(careful(*end));
    constexpr std::uint64_t total = 8'000'000;
    std::uint64_t written = 0, read = 0;
    bool good = true;
    std::unique_ptr<Source<Server::AcceptedPipe>> down;
    server.then = [&](Server::AcceptedPipe& pipe) { down = std::make_unique<Source<Server::AcceptedPipe>>(pipe, total); };
    const auto pump = [&] {
        while (written < total) {
            std::byte piece[4000];
            const std::size_t size = total - written < sizeof piece ? static_cast<std::size_t>(total - written) : sizeof piece;
            for (std::size_t i = 0; i < size; ++i) piece[i] = at(written + i);
            const auto n = end->send(Bytes(piece, size));
            if (!n) break;
            written += *n;
        }
        std::byte room[10'000];
        while (const auto n = end->receive(room)) {
            if (*n == 0) break;
            for (std::byte b : Bytes(room, *n)) good = good && b == at(read++);
        }
    };
    for (int cut = 1; cut <= 8; ++cut) {
        const std::uint64_t goal = total / 10 * static_cast<unsigned>(cut);
        REQUIRE(until(loop, [&] { return pump(), read >= goal && server.sink.received >= goal; }));
        middle.cut();
    }
    REQUIRE(until(loop, [&] { return pump(), read == total && server.sink.received == total; }));
    CHECK(good);
    CHECK(server.sink.good);
    CHECK(client.statistics().resumes >= 8);

    // Back-pressure: nobody reads at this end, so the server's program is told to wait. A half-close goes through, and the rest comes back.
    REQUIRE(end->shutdown_send());
    REQUIRE(until(loop, [&] { return server.heard.is(PipeState::closing) || server.heard.is(PipeState::closed); }));
    std::byte room[10];
    REQUIRE(until(loop, [&] {
        const auto n = end->receive(room);
        return n && *n == 0;
    }));
    REQUIRE(until(loop, [&] { return heard.over() && heard_local.over(); }));
}

TEST_CASE("a resume that reaches the wrong worker is passed on, connection and all, to the one that holds the session") {
    Loop loop;
    std::optional<Process<Server>> right(std::in_place, loop);
    Process<Server> wrong(loop);
    Middle middle(loop, right->listener.local_endpoint());
    Between between(loop);
    Told told;
    int passed_on = 0;
    const auto send_on = [&](Process<Server>& worker, Channel& channel) {
        worker.listener.admit([](const Newcomer& n) { return n.resuming ? Admission::pass_on() : Admission::accept(); });
        worker.listener.on_pass_on([&](const Newcomer& newcomer, Parcel&& parcel) {
            ++passed_on;
            CHECK(newcomer.resuming);
            CHECK_FALSE(worker.listener.has_session(newcomer.session));
            CHECK((!right || right->listener.has_session(newcomer.session)));
            REQUIRE(channel.offer(std::move(parcel), told.done()));
        });
        channel.on_parcel([&worker](Parcel&& parcel) {
            const auto adopted = worker.listener.adopt(std::move(parcel));
            REQUIRE(adopted);
            CHECK(*adopted == nullptr);
        });
    };
    send_on(*right, between.here);
    send_on(wrong, between.there);

    Client client(loop, quick<Client>());
    Heard heard(client);
    REQUIRE(client.connect(middle.endpoint()));
    REQUIRE(client.send("one "));
    REQUIRE(until(loop, [&] { return right->heard.bytes == "one "; }));
    middle.retarget(wrong.listener.local_endpoint());
    std::string all = "one ";
    for (int i = 1; i <= 3; ++i) {
        middle.cut();
        REQUIRE(client.send("more "));
        all += "more ";
        REQUIRE(until(loop, [&] { return right->heard.bytes == all; }));
        CHECK(passed_on == i);
    }
    CHECK(client.statistics().resumes == 3);
    CHECK(wrong.pipe == nullptr);
    CHECK(heard.times(PipeState::closed) == 0);

    // That worker is started anew, and nobody holds the session: it is passed on once, and no more.
    right.reset();
    right.emplace(loop);
    right->listener.admit([](const Newcomer&) { return Admission::pass_on(); });
    right->listener.on_pass_on([&](const Newcomer&, Parcel&&) { FAIL(); });
    between.here.on_parcel([&](Parcel&& parcel) { REQUIRE(right->listener.adopt(std::move(parcel))); });
    wrong.listener.on_pass_on([&](const Newcomer&, Parcel&& parcel) { REQUIRE(between.there.offer(std::move(parcel), told.done())); });
    middle.cut();
    REQUIRE(until(loop, [&] { return heard.is(PipeState::closed); }));
    CHECK(heard.why().kind == FailureKind::session_unknown);
    CHECK(right->pipe == nullptr);
    for (Error error : told.errors) CHECK(error == Error());
}

TEST_CASE("a connection that one process accepts begins its session in another") {
    Loop loop;
    Process<Server> front(loop), worker(loop);
    Between between(loop);
    Told told;
    front.listener.admit([](const Newcomer&) { return Admission::pass_on(); });
    front.listener.on_pass_on([&](const Newcomer& newcomer, Parcel&& parcel) {
        CHECK_FALSE(newcomer.resuming);
        REQUIRE(between.here.offer(std::move(parcel), told.done()));
    });
    between.there.on_parcel([&](Parcel&& parcel) { REQUIRE(worker.listener.adopt(std::move(parcel))); });
    Client client(loop, quick<Client>());
    Heard heard(client);
    REQUIRE(client.connect(front.listener.local_endpoint()));
    REQUIRE(client.send("hello"));
    REQUIRE(until(loop, [&] { return worker.heard.bytes == "hello"; }));
    CHECK(front.pipe == nullptr);

    // What it is said to have said may be nonsense: then it is closed, as one that says nonsense itself.
    Socket near_end, far_end;
    REQUIRE(LocalSocket::stream_pair(near_end, far_end));
    Parcel nonsense;
    nonsense.socket = std::move(near_end);
    REQUIRE(nonsense.unread.append(TextView("GET / HTTP/1.1\r\n\r\n").bytes().data(), 18));
    REQUIRE(worker.listener.adopt(std::move(nonsense)));
    std::byte room[10];
    const auto n = far_end.receive(room);
    REQUIRE(n);
    CHECK(*n == 0);
}

TEST_CASE("a plain end whose program stops reading holds the other side back") {
    Loop loop;
    Process<Server> server(loop);
    auto options = quick<Client>();
    Client client(loop, options);
    PlainClient local(loop);
    REQUIRE(client.connect(server.listener.local_endpoint()));
    auto end = handoff::plain_end(local, client);
    REQUIRE(end);
    std::uint64_t sent = 0;
    bool refused = false;
    REQUIRE(until(loop, [&] { return server.pipe != nullptr; }));
    REQUIRE(until(loop, [&] {
        const auto queued = server.pipe->send(std::string(100'000, 'x'));
        sent += queued ? 100'000u : 0u;
        refused = !queued;
        return refused && server.pipe->statistics().bytes_unacknowledged > 900'000;
    }));
    CHECK(sent < 10'000'000);
    std::uint64_t read = 0;
    REQUIRE(until(loop, [&] {
        std::byte room[65536];
        while (const auto n = end->receive(room)) read += *n;
        return read == sent;
    }));
    CHECK(server.heard.drained > 0);
    end->close();  // as a program does that dies
    REQUIRE(until(loop, [&] { return server.heard.is(PipeState::closed); }));
}
