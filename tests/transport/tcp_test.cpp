// SPDX-License-Identifier: BSL-1.0
#if !defined(_WIN32)
#include <sys/resource.h>
#include <sys/wait.h>
#endif

#include <algorithm>
#include <functional>
#include <memory>
#include <rejoin/policies.hpp>
#include <rejoin/transport/tcp.hpp>
#include <string>
#include <vector>

#include "catch.hpp"
#include "os/system.hpp"
#include "os/until.hpp"

using rejoin::Bytes;
using rejoin::Delegate;
using rejoin::Duration;
using rejoin::Endpoint;
using rejoin::Errc;
using rejoin::Error;
using rejoin::Family;
using rejoin::IpAddress;
using rejoin::Loop;
using rejoin::Result;
using rejoin::Socket;
using rejoin::TcpAcceptor;
using rejoin::TcpConnection;
using rejoin::TextView;

static_assert(rejoin::Transport<rejoin::Tcp>);

namespace {

constexpr Duration ms(int n) { return Duration::milliseconds(n); }

// Writes down what it hears. `then` is called after that, and may destroy the connection.
struct Client final : rejoin::ConnectionObserver {
    explicit Client(Loop& l) : loop(l), connection(std::make_unique<TcpConnection>(l, *this)) {}
    void on_open() override { heard("open "); }
    bool on_bytes(Bytes bytes) override {
        largest = std::max(largest, bytes.size());
        received += bytes.size();
        return heard(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    }
    bool on_writable() override { return heard("writable "); }
    void on_end() override { heard("end "); }
    void on_error(Error e) override {
        error = e;
        heard("error ");
    }
    bool heard(const std::string& what) {
        log += received < 1000 ? what : std::string();
        if (then) then();
        return connection != nullptr;
    }
    bool hears(const std::string& what) {
        return until(loop, [&] { return log.find(what) != std::string::npos; });
    }
    Result<std::size_t> write(TextView text) {
        const Bytes pieces[] = {text.bytes()};
        return connection->write(pieces);
    }

    Loop& loop;
    std::unique_ptr<TcpConnection> connection;
    std::string log;
    std::size_t received = 0, largest = 0;
    Error error;
    std::function<void()> then;
};

// A plain socket that listens, and one that it has accepted.
struct Server {
    explicit Server(const char* address = "127.0.0.1") {
        const IpAddress ip = *IpAddress::parse(address);
        listener = std::move(*Socket::tcp(ip.family));
        listener.reuse_address();
        REQUIRE(listener.bind(ip, 0));
        REQUIRE(listener.listen(10));
    }
    void accept(Loop& loop) {
        REQUIRE(until(loop, [&] {
            auto accepted = listener.accept();
            if (accepted) peer = std::move(*accepted);
            return static_cast<bool>(accepted);
        }));
    }
    void send(TextView text) { REQUIRE(*peer.send(text.bytes()) == text.size()); }
    // What comes, until the end or an error, while the loop goes on.
    std::string read(Loop& loop) {
        std::string text;
        std::byte buffer[65536];
        REQUIRE(until(loop, [&] {
            for (;;) {
                auto n = peer.receive(buffer);
                if (!n && n.error() == Errc::would_block) return false;
                if (!n) text += n.error() == Error::system(code::reset) ? " reset" : " error";
                if (n && *n == 0) text += " end";
                if (!n || *n == 0) return true;
                text.append(reinterpret_cast<const char*>(buffer), *n);
            }
        }));
        return text;
    }
    Socket listener, peer;
};

void connect(Client& client, Server& server) {
    REQUIRE(client.connection->open(server.listener.local_endpoint(), {}));
    REQUIRE(client.log.empty());
    server.accept(client.loop);
    REQUIRE(client.hears("open "));
    client.log.clear();
}

// Writes until the system takes no more; how much it took.
std::size_t fill(Client& client) {
    const std::string much(1 << 20, 'x');
    for (std::size_t n = 0;;) {
        auto wrote = client.write(much);
        if (!wrote) {
            REQUIRE(wrote.error() == Errc::would_block);
            return n;
        }
        n += *wrote;
    }
}

// How often the loop has something to do while it waits for a while.
int wake_ups(Loop& loop) {
    bool over = false;
    int n = 0;
    loop.after(ms(50), [&] { over = true; });
    while (!over) {
        REQUIRE(loop.run_once());
        ++n;
    }
    return n;
}

}  // namespace

// ---- TcpConnection.

TEST_CASE("A connection opens, carries bytes both ways and ends, over both families") {
    Loop loop;
    Server server(GENERATE("127.0.0.1", "::1"));
    Client client(loop);
    connect(client, server);
    CHECK(client.connection->peer_endpoint() == server.listener.local_endpoint());
    CHECK(client.connection->local_endpoint() == server.peer.peer_endpoint());
#if defined(__linux__)
    CHECK(client.connection->path_info().known);
#endif
    const Bytes pieces[] = {TextView("one ").bytes(), TextView("two").bytes()};
    CHECK(*client.connection->write(pieces) == 7);
    server.send("back ");
    CHECK(client.hears("back "));
    client.connection->end();
    CHECK(server.read(loop) == "one two end");
    server.send("still there ");  // one direction has ended, the other has not
    CHECK(client.hears("still there "));
    server.peer.close();
    CHECK(client.hears("end "));
    settle(loop);
    CHECK(client.log == "back still there end ");
}

TEST_CASE("The peer's end leaves this side free to go on writing") {
    Loop loop;
    Server server;
    Client client(loop);
    connect(client, server);
    server.send("last words ");
    REQUIRE(server.peer.shutdown_send());
    CHECK(client.hears("end "));
    CHECK(client.log == "last words end ");
    CHECK(*client.write("answer") == 6);
    client.connection->end();
    CHECK(server.read(loop) == "answer end");
    settle(loop);
    client.connection->pause(true);
    client.connection->pause(false);
    settle(loop);
    CHECK(client.log == "last words end ");
    CHECK(wake_ups(loop) < 10);
}

TEST_CASE("A refused connection is an error, and comes after `open` has returned") {
    Loop loop;
    Server server;
    const Endpoint to = server.listener.local_endpoint();
    server.listener.close();
    server.listener = std::move(*Socket::tcp(Family::v4));
    server.listener.reuse_address();
    REQUIRE(server.listener.bind(to.ip(), to.port()));  // nobody else gets the port, and nobody listens
    Client client(loop);
    auto opened = client.connection->open(to, {});
    CHECK(client.log.empty());
    REQUIRE(opened);
    REQUIRE(client.hears("error "));
    CHECK(client.error == Error::system(code::refused));
    CHECK(client.log == "error ");
}

TEST_CASE("What cannot be opened is refused at once") {
    Loop loop;
    Server server;
    const Endpoint to = server.listener.local_endpoint();
    const auto open = [&](const Endpoint& where, const IpAddress& from) {
        Client client(loop);
        return client.connection->open(where, rejoin::Way{from}).error();
    };
    CHECK(open({}, {}) == Errc::invalid_argument);
    CHECK(open({"a.name", 80}, {}) == Errc::invalid_argument);
    CHECK(open(to, *IpAddress::parse("192.0.2.1")) == Error::system(code::not_available));
    CHECK(open(to, *IpAddress::parse("::1")).domain() == Error::Domain::system);
    CHECK(open({"::1", to.port()}, *IpAddress::parse("127.0.0.1")).domain() == Error::Domain::system);
}

TEST_CASE("A connection can leave from a given address") {
    Loop loop;
    Server server;
    Client client(loop);
    REQUIRE(client.connection->open(server.listener.local_endpoint(), rejoin::Way{*IpAddress::parse("127.0.0.9")}));
    server.accept(loop);
    CHECK(client.hears("open "));
    CHECK(server.peer.peer_endpoint().ip() == *IpAddress::parse("127.0.0.9"));
    CHECK(client.connection->local_endpoint() == server.peer.peer_endpoint());
}

TEST_CASE("A read limit bounds what comes at once") {
    Loop loop;
    Server server;
    Client client(loop);
    connect(client, server);
    client.connection->set_read_limit(3);
    server.send("0123456789");
    CHECK(client.hears("0123456789"));
    CHECK(client.largest == 3);
}

TEST_CASE("A paused connection delivers nothing until it goes on") {
    Loop loop;
    Server server;
    Client client(loop);
    connect(client, server);
    CHECK_FALSE(client.connection->paused());
    client.connection->pause(true);
    CHECK(client.connection->paused());
    server.send("patience ");
    CHECK(wake_ups(loop) < 10);
    CHECK(client.log.empty());
    client.connection->pause(false);
    CHECK(client.hears("patience "));
    // Also when it was paused before it was open, and by the handler of what came before.
    Client second(loop);
    second.connection->pause(true);
    connect(second, server);
    server.send("more ");
    settle(loop);
    CHECK(second.log.empty());
    second.then = [&] { second.connection->pause(true); };
    second.connection->pause(false);
    CHECK(second.hears("more "));
    server.send("later ");
    settle(loop);
    CHECK(second.log == "more ");
    second.connection->pause(false);
    CHECK(second.hears("later "));
}

TEST_CASE("A full buffer takes no more, and `on_writable` comes once when it does again") {
    Loop loop;
    Server server;
    Client client(loop);
    connect(client, server);
    std::size_t written = fill(client);
    client.connection->want_writable();
    settle(loop);
    CHECK(client.log.empty());
    std::size_t read = 0;
    std::vector<std::byte> buffer(1 << 20);
    REQUIRE(until(loop, [&] {
        if (auto n = server.peer.receive(buffer)) read += *n;
        return !client.log.empty();
    }));
    CHECK(client.log == "writable ");
    settle(loop);
    CHECK(client.log == "writable ");
    written += fill(client);
    client.connection->end();
    CHECK(read + server.read(loop).size() == written + 4);
}

TEST_CASE("A reset is an error, whether the connection reads, is paused, or wants to write", "[reset]") {
    Loop loop;
    Server server;
    Client client(loop);
    connect(client, server);
    SECTION("reading") {}
    SECTION("paused") { client.connection->pause(true); }
    SECTION("paused, with something to read") {
        client.connection->pause(true);
        server.send("unread");
    }
    SECTION("writing") {
        fill(client);
        client.connection->want_writable();
        client.then = [&] {
            if (auto wrote = client.write("x"); !wrote && !client.error) client.on_error(wrote.error());
        };
    }
    server.peer.reset();
    REQUIRE(client.hears("error "));
    CHECK((client.error == Error::system(code::reset) || client.error == Error::system(EPIPE)));
}

TEST_CASE("A paused connection that both sides have ended keeps what has not been read") {
    Loop loop;
    Server server;
    Client client(loop);
    connect(client, server);
    client.connection->pause(true);
    client.connection->end();
    CHECK(server.read(loop) == " end");
    server.send("unread ");
    server.peer.close();
    CHECK(wake_ups(loop) < 10);
    CHECK(client.log.empty());
    client.connection->pause(false);
    CHECK(client.hears("end "));
    CHECK(client.log == "unread end ");
    CHECK(wake_ups(loop) < 10);
}

TEST_CASE("A connected socket can be adopted") {
    Loop loop;
    Server server;
    Client first(loop);
    connect(first, server);
    Client client(loop);
    REQUIRE(client.connection->adopt(std::move(server.peer)));
    CHECK(*first.write("hello") == 5);
    CHECK(client.hears("hello"));
    CHECK(*client.write("answer") == 6);
    CHECK(first.hears("answer"));
    CHECK(client.log == "hello");  // no `on_open`
    Client nothing(loop);
    CHECK(nothing.connection->adopt(Socket()).error() == Error::system(code::bad_descriptor));
}

TEST_CASE("A released socket goes on in other hands, and nothing more is heard") {
    Loop loop;
    Server server;
    Client client(loop);
    connect(client, server);
    Socket socket = client.connection->release();
    CHECK(*socket.send(TextView("from elsewhere").bytes()) == 14);
    server.send("unheard");
    settle(loop);
    CHECK(client.log.empty());
    client.connection.reset();
    std::byte buffer[16];
    CHECK(*socket.receive(buffer) == 7);
    socket.close();
    CHECK(server.read(loop) == "from elsewhere end");
}

TEST_CASE("An aborted connection is reset, and a destroyed one closed", "[reset]") {
    Loop loop;
    Server server;
    Client client(loop);
    connect(client, server);
    CHECK(*client.write("partly") == 6);
    SECTION("aborted") {
        client.connection->abort();
        CHECK(server.read(loop) == "partly reset");
    }
    SECTION("destroyed") {
        client.connection.reset();
        CHECK(server.read(loop) == "partly end");
    }
    SECTION("destroyed before it is open") {
        Client other(loop);
        REQUIRE(other.connection->open(server.listener.local_endpoint(), {}));
        other.connection.reset();
        settle(loop);
        CHECK(other.log.empty());
    }
    settle(loop);
    CHECK(client.log.empty());
}

TEST_CASE("Another observer hears the rest") {
    Loop loop;
    Server server;
    Client client(loop), second(loop);
    connect(client, server);
    client.connection->set_observer(second);
    server.send("for the second");
    CHECK(second.hears("for the second"));
    CHECK(client.log.empty());
}

TEST_CASE("Every call of the observer may destroy the connection, or take its socket", "[reset]") {
    const std::string call = GENERATE("open ", "bytes ", "writable ", "end ", "error ");
    const bool release = GENERATE(false, true);
    CAPTURE(call, release);
    Loop loop;
    Server server;
    Client client(loop);
    if (call != "open ") connect(client, server);
    Socket socket;
    client.then = [&] {
        if (release)
            socket = client.connection->release();
        else
            client.connection.reset();
    };
    if (call == "open ") REQUIRE(client.connection->open(server.listener.local_endpoint(), {}));
    if (call == "bytes ") server.send("bytes ");
    if (call == "writable ") {
        server.send("unread");  // would be heard next
        client.connection->want_writable();
    }
    if (call == "end ") server.peer.close();
    if (call == "error ") server.peer.reset();
    REQUIRE(client.hears(call));
    settle(loop);
    CHECK(client.log == call);
    CHECK(static_cast<bool>(socket) == release);
}

// ---- TcpAcceptor.

namespace {

struct Acceptor {
    explicit Acceptor(Loop& loop)
        : acceptor(std::make_unique<TcpAcceptor>(loop, Delegate<void(Socket&&)>::to<&Acceptor::accepted>(this))) {}
    void accepted(Socket&& socket) {
        sockets.push_back(std::move(socket));
        if (then) then();
    }
    std::unique_ptr<TcpAcceptor> acceptor;
    std::vector<Socket> sockets;
    std::function<void()> then;
};

Socket connect_to(const Endpoint& to) {
    Socket socket = std::move(*Socket::tcp(to.ip().family));
    static_cast<void>(socket.connect(to.ip(), to.port()));
    return socket;
}

}  // namespace

TEST_CASE("An acceptor listens, lets a crowd in, and stops") {
    Loop loop;
    Acceptor a(loop);
    CHECK_FALSE(a.acceptor->listening());
    REQUIRE(a.acceptor->listen({GENERATE("127.0.0.1", "::1"), 0}, 500));
    CHECK(a.acceptor->listening());
    const Endpoint at = a.acceptor->local_endpoint();
    CHECK(at.port() != 0);
    std::vector<Socket> clients;
    for (int i = 0; i < 300; ++i) clients.push_back(connect_to(at));
    REQUIRE(until(loop, [&] { return a.sockets.size() == clients.size(); }));
    for (const Socket& socket : a.sockets) {
        REQUIRE(careful(socket));
    }
    a.acceptor->close();
    CHECK_FALSE(a.acceptor->listening());
    Client late(loop);
    REQUIRE(late.connection->open(at, {}));
    CHECK(late.hears("error "));
    // The port is free again although its connections are not gone.
    REQUIRE(a.acceptor->listen(at, 5));
    clients.push_back(connect_to(at));
    CHECK(until(loop, [&] { return a.sockets.size() == clients.size(); }));
}

TEST_CASE("What cannot be listened on is refused, and the acceptor can be used again") {
    Loop loop;
    Acceptor a(loop), b(loop);
    CHECK(a.acceptor->listen({}, 5).error() == Errc::invalid_argument);
    CHECK(a.acceptor->listen({"a.name", 80}, 5).error() == Errc::invalid_argument);
    CHECK(a.acceptor->listen({"192.0.2.1", 0}, 5).error() == Error::system(code::not_available));
    CHECK_FALSE(a.acceptor->listening());
    REQUIRE(a.acceptor->listen({"127.0.0.1", 0}, 5));
    CHECK(b.acceptor->listen(a.acceptor->local_endpoint(), 5).error() == Error::system(code::in_use));
    CHECK_FALSE(b.acceptor->listening());
}

TEST_CASE("Whoever is handed a socket may close or destroy the acceptor") {
    const bool destroy = GENERATE(false, true);
    Loop loop;
    Acceptor a(loop);
    REQUIRE(a.acceptor->listen({"127.0.0.1", 0}, 5));
    std::vector<Socket> clients;
    for (int i = 0; i < 3; ++i) clients.push_back(connect_to(a.acceptor->local_endpoint()));
    a.then = [&] { destroy ? a.acceptor.reset() : a.acceptor->close(); };
    REQUIRE(until(loop, [&] { return !a.sockets.empty(); }));
    settle(loop);
    CHECK(a.sockets.size() == 1);
}

#if !defined(_WIN32)
TEST_CASE("Without descriptors an acceptor waits, without spinning, and goes on when there are some") {
    const bool close_meanwhile = GENERATE(false, true);
    // In a process of its own, because the limit holds for all of it.
    const pid_t child = ::fork();
    if (child == 0) {
        const auto fail = [](int step) { ::_exit(step); };
        Loop loop;
        Acceptor a(loop);
        if (!a.acceptor->listen({"127.0.0.1", 0}, 50)) fail(1);
        std::vector<Socket> clients;
        for (int i = 0; i < 10; ++i) clients.push_back(connect_to(a.acceptor->local_endpoint()));
        rlimit limit{};
        ::getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = static_cast<rlim_t>(clients.back().fd()) + 1;
        if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) fail(2);
        std::vector<Socket> spare;
        while (auto more = Socket::tcp(Family::v4)) spare.push_back(std::move(*more));
        int turns = 0;
        rusage before{}, after{};
        ::getrusage(RUSAGE_SELF, &before);
        bool over = false;
        loop.after(ms(1000), [&] { over = true; });
        while (!over) {
            if (!loop.run_once()) fail(3);
            ++turns;
        }
        ::getrusage(RUSAGE_SELF, &after);
        if (!a.sockets.empty()) fail(4);
        if (turns > 20) fail(5);  // it looks again ten times a second
        const auto used = [](const rusage& r) {
            return Duration::seconds(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
                   Duration::microseconds(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
        };
        if (used(after) - used(before) > ms(100)) fail(6);
        if (close_meanwhile) {
            a.acceptor->close();
            settle(loop);
            ::_exit(a.sockets.empty() && !a.acceptor->listening() ? 0 : 7);
        }
        limit.rlim_cur = limit.rlim_cur + 100;
        if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) fail(8);
        ::_exit(until(loop, [&] { return a.sockets.size() == clients.size(); }) ? 0 : 9);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
}
#endif
