// SPDX-License-Identifier: BSL-1.0
#include <signal.h>

#include <rejoin/os/socket.hpp>
#include <set>
#include <string>
#include <vector>

#include "catch.hpp"
#include "os/system.hpp"

using rejoin::Bytes;
using rejoin::Endpoint;
using rejoin::Errc;
using rejoin::Error;
using rejoin::Family;
using rejoin::IpAddress;
using rejoin::Socket;
using rejoin::TextView;

namespace {

IpAddress loopback(Family family) { return family == Family::v4 ? IpAddress::v4(127, 0, 0, 1) : *IpAddress::parse("::1"); }

struct Pair {
    Socket listener, client, server;
};
Pair connect(Family family) {
    Pair pair;
    pair.listener = std::move(*Socket::tcp(family));
    pair.listener.reuse_address();
    REQUIRE(pair.listener.bind(loopback(family), 0));
    REQUIRE(pair.listener.listen(5));
    pair.client = std::move(*Socket::tcp(family));
    auto connected = pair.client.connect(loopback(family), pair.listener.local_endpoint().port());
    REQUIRE((connected || connected.error() == Errc::would_block));
    REQUIRE(wait_for(pair.listener, poll_in));
    auto accepted = pair.listener.accept();
    REQUIRE(accepted);
    pair.server = std::move(*accepted);
    REQUIRE(wait_for(pair.client, poll_out));
    REQUIRE_FALSE(pair.client.take_error());
    return pair;
}

std::string read(Socket& socket) {
    std::byte buffer[4096];
    std::string text;
    while (wait_for(socket, poll_in)) {
        auto n = socket.receive(buffer);
        if (!n && n.error() == Errc::would_block) continue;
        if (!n) return text + " error";
        if (*n == 0) return text + " end";
        text.append(reinterpret_cast<const char*>(buffer), *n);
    }
    return text + " nothing";
}

#if !defined(_WIN32)
int broken_pipes = 0;
#endif

}  // namespace

TEST_CASE("Every way of making a socket gives one that does not block and does not survive exec") {
    CHECK(careful(*Socket::tcp(Family::v4)));
    CHECK(careful(*Socket::tcp(Family::v6)));
    CHECK(careful(*Socket::udp(Family::v4)));
    CHECK(careful(*Socket::udp(Family::v6)));
    CHECK(careful(Socket(::socket(AF_INET, SOCK_STREAM, 0))));
    Pair pair = connect(Family::v4);
    CHECK(careful(pair.server));
    Socket moved(std::move(pair.server));
    CHECK(careful(moved));
    CHECK_FALSE(pair.server);
}

TEST_CASE("A socket of no family is refused") {
    CHECK(Socket::tcp(Family::none).error() == Errc::invalid_argument);
    CHECK(Socket::udp(Family::none).error() == Errc::invalid_argument);
}

#if !defined(_WIN32)
TEST_CASE("A socket owns its descriptor") {
    const auto open = [](int fd) { return ::fcntl(fd, F_GETFD) >= 0; };
    int fd = -1;
    {
        Socket socket = std::move(*Socket::tcp(Family::v4));
        fd = socket.fd();
        CHECK(open(fd));
    }
    CHECK_FALSE(open(fd));
    Socket socket = std::move(*Socket::tcp(Family::v4));
    fd = socket.release();
    CHECK_FALSE(socket);
    CHECK(open(fd));
    socket = Socket(fd);
    socket.close();
    CHECK_FALSE(open(fd));
    socket.close();
    CHECK_FALSE(Socket(-1));
}
#endif

TEST_CASE("Both families carry bytes, and both ends know who they are") {
    const Family family = GENERATE(Family::v4, Family::v6);
    Pair pair = connect(family);
    CHECK(pair.client.peer_endpoint() == pair.listener.local_endpoint());
    CHECK(pair.server.local_endpoint() == pair.listener.local_endpoint());
    CHECK(pair.server.peer_endpoint() == pair.client.local_endpoint());
    CHECK(pair.client.local_endpoint().ip() == loopback(family));
    CHECK(pair.client.local_endpoint().port() != 0);

    std::byte buffer[8];
    CHECK(pair.server.receive(buffer).error() == Errc::would_block);
    CHECK(*pair.client.send(TextView("one").bytes()) == 3);
    const Bytes pieces[] = {TextView("two").bytes(), {}, TextView("three").bytes()};
    CHECK(*pair.client.send(pieces) == 8);
    std::vector<Bytes> many(20, TextView("x").bytes());
    CHECK(*pair.client.send(many) == 8);
    REQUIRE(pair.client.shutdown_send());
    CHECK(read(pair.server) == "onetwothreexxxxxxxx end");
    CHECK(*pair.server.send(TextView("back").bytes()) == 4);
    pair.server.close();
    CHECK(read(pair.client) == "back end");
}

TEST_CASE("Datagrams go whole, and tell whom they are from") {
    const Family family = GENERATE(Family::v4, Family::v6);
    Socket a = std::move(*Socket::udp(family)), b = std::move(*Socket::udp(family));
    REQUIRE(a.bind(loopback(family), 0));
    REQUIRE(b.bind(loopback(family), 0));
    std::byte buffer[8];
    Endpoint from;
    CHECK(a.receive_from(buffer, from).error() == Errc::would_block);
    CHECK_FALSE(from.valid());
    REQUIRE(a.send_to({}, loopback(family), 9));  // takes its port now at the latest
    REQUIRE(b.send_to({}, loopback(family), 9));
    const auto send = [&](TextView text) {
        REQUIRE(a.send_to(text.bytes(), loopback(family), b.local_endpoint().port()));
        REQUIRE(wait_for(b, poll_in));
        from = {};
        return b.receive_from(buffer, from);
    };
    CHECK(*send("whole") == 5);
    CHECK(from == a.local_endpoint());
    CHECK(TextView(reinterpret_cast<const char*>(buffer), 5) == "whole");
    CHECK(*send("") == 0);
    CHECK(from == a.local_endpoint());
    CHECK(*send("eight to") == 8);
    CHECK(send("more than eight").error() == Errc::too_large);
    CHECK(b.receive_from(buffer, from).error() == Errc::would_block);
    CHECK(a.send_to({}, loopback(family == Family::v4 ? Family::v6 : Family::v4), 9).error().domain() == Error::Domain::system);
    CHECK(Socket().send_to({}, loopback(family), 9).error() == Error::system(code::bad_descriptor));
}

TEST_CASE("A socket that is not connected has no endpoints to tell") {
    Socket socket = std::move(*Socket::tcp(Family::v4));
    CHECK_FALSE(socket.peer_endpoint().valid());
    CHECK_FALSE(Socket().local_endpoint().valid());
#if !defined(_WIN32)
    int unix_pair[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, unix_pair) == 0);
    Socket a(unix_pair[0]), b(unix_pair[1]);
    CHECK_FALSE(a.peer_endpoint().valid());
    CHECK_FALSE(a.local_endpoint().valid());
#endif
}

TEST_CASE("A full buffer would block, and takes part of what does not fit") {
    Pair pair = connect(Family::v4);
    const std::vector<std::byte> much(8 << 20);
    std::size_t taken = 0;
    for (;;) {
        auto n = pair.client.send(Bytes(much));
        if (!n) {
            CHECK(n.error() == Errc::would_block);
            break;
        }
        taken += *n;
    }
    CHECK(taken > 0);
    pair.client.close();
    CHECK(read(pair.server).size() == taken + 4);
}

TEST_CASE("A reset reaches the peer as one", "[reset]") {
    Pair pair = connect(Family::v4);
    pair.client.reset();
    CHECK_FALSE(pair.client);
    pair.client.reset();
    REQUIRE(wait_for(pair.server, poll_in));
    std::byte buffer[8];
    CHECK(pair.server.receive(buffer).error() == Error::system(code::reset));
}

#if !defined(_WIN32)
TEST_CASE("No way of writing to a closed connection raises SIGPIPE") {
    struct sigaction before {
    }, count{};
    count.sa_handler = [](int) { ++broken_pipes; };
    ::sigaction(SIGPIPE, &count, &before);
    broken_pipes = 0;
    Pair pair = connect(Family::v4);
    pair.server.reset();
    REQUIRE(wait_for(pair.client, poll_in));
    const Bytes piece = TextView("x").bytes();
    const Bytes pieces[] = {piece, piece};
    static_cast<void>(pair.client.take_error());
    CHECK(pair.client.send(piece).error() == Error::system(EPIPE));
    CHECK(pair.client.send(pieces).error() == Error::system(EPIPE));
    CHECK(pair.client.send(std::span<const Bytes>(pieces, 1)).error() == Error::system(EPIPE));
    CHECK(broken_pipes == 0);
    ::sigaction(SIGPIPE, &before, nullptr);
}
#endif

TEST_CASE("Connecting to a port where nobody listens is refused") {
    const Family family = GENERATE(Family::v4, Family::v6);
    Socket holder = std::move(*Socket::tcp(family));  // has the port, so that nobody else gets it, and does not listen
    holder.reuse_address();
    REQUIRE(holder.bind(loopback(family), 0));
    const std::uint16_t port = holder.local_endpoint().port();
    REQUIRE(port != 0);
    Socket socket = std::move(*Socket::tcp(family));
    auto connected = socket.connect(loopback(family), port);
    if (!connected && connected.error() == Errc::would_block) {
        REQUIRE(wait_for(socket, poll_out));
        CHECK(socket.take_error() == Error::system(code::refused));
#if !defined(_WIN32)
        CHECK_FALSE(socket.take_error());
#endif
    } else {
        CHECK(connected.error() == Error::system(code::refused));
    }
}

TEST_CASE("Binding to an address that this host has not says so") {
    Socket v4 = std::move(*Socket::tcp(Family::v4)), v6 = std::move(*Socket::tcp(Family::v6));
    CHECK(v4.bind(*IpAddress::parse("192.0.2.1"), 0).error() == Error::system(code::not_available));
    CHECK(v6.bind(*IpAddress::parse("2001:db8::1"), 0).error() == Error::system(code::not_available));
    CHECK(v4.bind(*IpAddress::parse("::1"), 0).error().domain() == Error::Domain::system);
}

TEST_CASE("A port that somebody listens on is taken, and free again at once when its connections linger") {
    Pair pair = connect(Family::v4);
    const std::uint16_t port = pair.listener.local_endpoint().port();
    Socket second = std::move(*Socket::tcp(Family::v4));
    second.reuse_address();
    CHECK(second.bind(loopback(Family::v4), port).error() == Error::system(code::in_use));
    pair.listener.close();
    pair.server.close();  // first, so that it lingers on the server's port
    CHECK(read(pair.client) == " end");
    pair.client.close();
    REQUIRE(second.bind(loopback(Family::v4), port));
    CHECK(second.listen(1));
}

TEST_CASE("The kernel tells of a connection's path, where it does, and of nothing else") {
#if defined(__linux__)
    Pair pair = connect(Family::v4);
    CHECK(pair.client.path_info().known);
    CHECK(pair.client.path_info().acknowledges(rejoin::Duration::seconds(60)));
#endif
    CHECK_FALSE(Socket().path_info().known);
    CHECK_FALSE(Socket::udp(Family::v4)->path_info().known);
    CHECK_FALSE(Socket().path_info().acknowledges(rejoin::Duration::unlimited()));
}

TEST_CASE("What is sent to a multicast group is heard by everybody who has joined it there") {
    const IpAddress here = IpAddress::v4(127, 0, 0, 1), group = IpAddress::v4(239, 255, 77, 77);
    Socket first = std::move(*Socket::udp(Family::v4)), second = std::move(*Socket::udp(Family::v4)),
           sender = std::move(*Socket::udp(Family::v4));
    sender.reuse_address();
    REQUIRE(sender.bind(here, 0));
    const std::uint16_t port = sender.local_endpoint().port();  // one that nobody else has
    sender = std::move(*Socket::udp(Family::v4));
    REQUIRE(sender.bind(here, 0));
    REQUIRE(first.join(group, port, here));
    REQUIRE(second.join(group, port, here));
    CHECK_FALSE(std::move(*Socket::udp(Family::v4)).join(IpAddress::v4(192, 0, 2, 1), port, here));  // which is no group
    REQUIRE(sender.send_to(TextView("to all").bytes(), group, port));
    for (Socket* socket : {&first, &second}) {
        REQUIRE(wait_for(*socket, poll_in));
        std::byte room[9];
        Endpoint from;
        CHECK(*socket->receive_from(room, from) == 6);
        CHECK(from.ip() == here);
    }
}
