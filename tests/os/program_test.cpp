// SPDX-License-Identifier: BSL-1.0
#include "catch.hpp"

#if !defined(_WIN32)
#include <rejoin/handoff/channel.hpp>
#include <rejoin/os/posix/program.hpp>
#include <string>

#include "os/system.hpp"
#include "os/until.hpp"

using namespace rejoin;
using namespace rejoin::handoff;

namespace {

struct Two {
    Two() { REQUIRE(UnixSocket::pair(ours, theirs)); }
    // Everything until the other end has been closed by all who had it.
    std::string all() {
        theirs.close();
        std::string text;
        for (;;) {
            REQUIRE(wait_for(ours, poll_in));
            std::byte room[100];
            const auto n = ours.receive(room);
            if (!n || *n == 0) return text;
            text.append(reinterpret_cast<const char*>(room), *n);
        }
    }
    Socket ours, theirs;
};
int finish(pid_t child) {
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return status;
}
// Does `work` in a process of its own, as if it had just been started with `fd` in that place.
template <class Work>
pid_t in_child(const Socket& socket, int place, Work work) {
    const pid_t child = ::fork();
    if (child != 0) return child;
    if (::dup2(socket.fd(), place) < 0) ::_exit(9);
    ::_exit(work());
}

}  // namespace

TEST_CASE("a program is started with sockets to listen on, which know their names") {
    Two one, two;
    const char* const script =
        R"(echo "$LISTEN_FDS $LISTEN_FDNAMES" >&3; test "$LISTEN_PID" = $$ && echo "mine" >&4; test -e /proc/self/fd/5 || echo "no more" >&4)";
    const char* const arguments[] = {"sh", "-c", script, nullptr};
    const NamedDescriptor listen[] = {{one.theirs.fd(), "http"}, {two.theirs.fd(), ""}};
    ProgramStart start;
    start.arguments = arguments;
    start.listen = listen;
    const auto child = start_program(start);
    REQUIRE(child);
    CHECK(finish(*child) == 0);
    CHECK(one.all() == "2 http:\n");
    CHECK(two.all() == "mine\nno more\n");
}

TEST_CASE("a program is started with a connection as its standard input and output, which blocks") {
    Two two;
    const char* const arguments[] = {"sh", "-c", "read line; echo \"heard $line\"", nullptr};
    ProgramStart start;
    start.arguments = arguments;
    start.standard_io = two.theirs.fd();
    const auto child = start_program(start);
    REQUIRE(child);
    REQUIRE(two.ours.send(TextView("hello\n").bytes()));
    CHECK(finish(*child) == 0);
    CHECK(two.all() == "heard hello\n");
}

TEST_CASE("what others go on using is not made to block") {
    Two one, two;
    const char* const arguments[] = {"sh", "-c", "read line <&3", nullptr};
    const NamedDescriptor listen[] = {{one.theirs.fd(), "blocks"}, {two.theirs.fd(), "shared", false}};
    ProgramStart start;
    start.arguments = arguments;
    start.listen = listen;
    const auto child = start_program(start);
    REQUIRE(child);
    CHECK_FALSE(careful(one.theirs));
    CHECK(careful(two.theirs));
    REQUIRE(one.ours.send(TextView("\n").bytes()));
    CHECK(finish(*child) == 0);
}

TEST_CASE("places that are each other's sources do not get mixed up") {
    // Descriptors 3 and 4 as they are asked for in places 4 and 3.
    Two one, two;
    const pid_t child = ::fork();
    if (child == 0) {
        const int a = ::fcntl(one.theirs.fd(), F_DUPFD, 50), b = ::fcntl(two.theirs.fd(), F_DUPFD, 50);
        if (::dup2(a, 3) < 0 || ::dup2(b, 4) < 0) ::_exit(9);
        const char* const arguments[] = {"sh", "-c", "echo three >&3; echo four >&4", nullptr};
        const NamedDescriptor listen[] = {{4, ""}, {3, ""}};
        ProgramStart start;
        start.arguments = arguments;
        start.listen = listen;
        const auto grandchild = start_program(start);
        ::_exit(grandchild && ::waitpid(*grandchild, nullptr, 0) == *grandchild ? 0 : 1);
    }
    CHECK(finish(child) == 0);
    CHECK(one.all() == "four\n");
    CHECK(two.all() == "three\n");
}

TEST_CASE("what cannot be started says why, and leaves nothing behind") {
    const char* const nowhere[] = {"/nonexistent/program", nullptr};
    ProgramStart start;
    CHECK(start_program(start).error() == Errc::invalid_argument);
    start.arguments = nowhere;
    Two two;
    start.standard_io = two.ours.fd();
    CHECK(start_program(start).error() == Error::system(ENOENT));
    CHECK(careful(two.ours));  // and does not block
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
    start.standard_io = 9999;
    CHECK(start_program(start).error() == Error::system(EBADF));
    start.standard_io = -1;
    for (const char* name : {"a:b", "a\nb", "\xc3\xa9"}) {
        const NamedDescriptor listen[] = {{0, name}};
        start.listen = listen;
        CHECK(start_program(start).error() == Errc::invalid_argument);
    }
}

TEST_CASE("sockets that this process was started with are taken once") {
    Two two;
    const auto child = in_child(two.theirs, 3, [] {
        ::setenv("LISTEN_FDS", "1", 1);
        ::setenv("LISTEN_FDNAMES", "game", 1);
        ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
        auto all = inherited_sockets();
        if (!all || all->size() != 1 || !careful((*all)[0].socket)) return 1;
        if (!(*all)[0].socket.send(TextView((*all)[0].name).bytes())) return 2;
        const auto again = inherited_sockets();
        return again && again->empty() ? 0 : 3;
    });
    CHECK(finish(child) == 0);
    CHECK(two.all() == "game");

    Two other;
    const auto not_for_us = in_child(other.theirs, 3, [] {
        ::setenv("LISTEN_FDS", "1", 1);
        ::setenv("LISTEN_PID", "1", 1);
        const auto all = inherited_sockets();
        return all && all->empty() ? 0 : 1;
    });
    CHECK(finish(not_for_us) == 0);
    for (const char* count : {"x", "-1", "1x", "999999", "4000"}) {
        CAPTURE(count);
        Two bad;
        const auto confused = in_child(bad.theirs, 3, [&] {
            ::setenv("LISTEN_FDS", count, 1);
            ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
            return inherited_sockets().error() == Errc::malformed ? 0 : 1;
        });
        CHECK(finish(confused) == 0);
    }
}

TEST_CASE("the connection that inetd hands over is taken") {
    Two two;
    const auto child = in_child(two.theirs, 0, [] {
        auto socket = standard_socket();
        return socket && careful(*socket) && socket->send(TextView("served").bytes()) ? 0 : 1;
    });
    CHECK(finish(child) == 0);
    CHECK(two.all() == "served");
    const auto none = in_child(two.ours, 100, [] {
        ::close(0);
        return standard_socket().error() == Errc::invalid_argument ? 0 : 1;
    });
    CHECK(finish(none) == 0);
}

TEST_CASE("a child takes a socket over the channel that it was started with") {
    Two channel_ends, moving;
    const auto child = in_child(channel_ends.theirs, 100, [&] {
        channel_ends.ours.close();
        moving.ours.close();
        moving.theirs.close();
        ::setenv("NODE_CHANNEL_FD", "100", 1);
        ::setenv("NODE_CHANNEL_SERIALIZATION_MODE", "json", 1);
        auto end = parent_channel();
        if (!end || parent_channel()) return 1;
        Loop loop;
        Channel channel(loop);
        int result = 2;
        channel.on_parcel([&](Parcel&& parcel) {
            result = parcel.socket.send(TextView("here").bytes()) ? 0 : 3;
            loop.stop();
        });
        if (!channel.start(std::move(*end))) return 4;
        static_cast<void>(loop.run());
        return result;
    });
    channel_ends.theirs.close();
    Loop loop;
    Channel::Options patient;
    patient.deadline = Duration::seconds(60);
    Channel channel(loop, patient);
    REQUIRE(channel.start(std::move(channel_ends.ours)));
    Parcel parcel;
    parcel.socket = std::move(moving.theirs);
    Error outcome = Errc::invalid_state;
    REQUIRE(channel.offer(std::move(parcel), [&](Error error, Parcel&&) { outcome = error; }));
    REQUIRE(until(loop, [&] { return outcome != Error(Errc::invalid_state); }));
    CHECK(outcome == Error());
    CHECK(finish(child) == 0);
    CHECK(moving.all() == "here");

    const auto wrong = in_child(moving.ours, 100, [] {
        ::setenv("NODE_CHANNEL_FD", "100", 1);
        ::setenv("NODE_CHANNEL_SERIALIZATION_MODE", "advanced", 1);
        if (parent_channel().error() != Error(Errc::unsupported)) return 1;
        ::unsetenv("NODE_CHANNEL_SERIALIZATION_MODE");
        for (const char* fd : {"", "x", "-1", "7x", "4000", "99999999999"}) {
            ::setenv("NODE_CHANNEL_FD", fd, 1);
            if (parent_channel().error() != Error(Errc::invalid_state)) return 2;
        }
        return 0;
    });
    CHECK(finish(wrong) == 0);
}
#endif
