// SPDX-License-Identifier: BSL-1.0
#include "catch.hpp"

#if defined(_WIN32)
#include <rejoin/os/local_socket.hpp>
#include <string>

#include "os/until.hpp"
#include "session/bytes.hpp"

using namespace rejoin;

namespace {

// Everything that has come.
std::string read(NamedPipe& end, Loop& loop, std::size_t n) {
    std::string text;
    until(loop, [&] {
        std::byte room[1000];
        while (const auto received = NamedPipe::receive(end, room)) {
            if (received->bytes == 0) return true;
            text.append(reinterpret_cast<const char*>(room), received->bytes);
        }
        return text.size() >= n;
    });
    return text;
}
Error next_error(NamedPipe& end, Loop& loop) {
    Error error;
    until(loop, [&] {
        std::byte room[10];
        error = NamedPipe::receive(end, room).error();
        return error != Errc::would_block;
    });
    return error;
}
// Wakes the loop when its pipe has something to say.
struct Listening {
    Listening(Loop& loop, const NamedPipe& pipe) : watch(loop, Delegate<void(Ready)>::to<&Listening::ready>(this)) {
        REQUIRE(watch.start(pipe.fd(), Ready::readable));
    }
    void ready(Ready) { ++times; }
    int times = 0;
    Loop::Watch watch;
};

}  // namespace

TEST_CASE("a named pipe carries bytes both ways, and tells when there are some") {
    Loop loop;
    NamedPipe one, other;
    REQUIRE(NamedPipe::pair(one, other));
    Listening listening(loop, other);
    std::byte room[10];
    CHECK(NamedPipe::receive(other, room).error() == Errc::would_block);
    settle(loop);
    CHECK(listening.times == 0);
    REQUIRE(NamedPipe::send(one, TextView("hello").bytes()));
    REQUIRE(until(loop, [&] { return listening.times > 0; }));
    CHECK(read(other, loop, 5) == "hello");
    REQUIRE(NamedPipe::send(other, TextView("and back").bytes()));
    CHECK(read(one, loop, 8) == "and back");

    REQUIRE(NamedPipe::send(one, TextView("last").bytes()));
    one.close();
    CHECK(read(other, loop, 4) == "last");
    CHECK(NamedPipe::gone(next_error(other, loop)));
    CHECK(NamedPipe::gone(NamedPipe::send(other, TextView("nobody").bytes()).error()));
}

TEST_CASE("what is given up when a byte of it was taken does not swallow what is said instead") {
    Loop loop;
    NamedPipe one, other;
    REQUIRE(NamedPipe::pair(one, other));
    Listening at_one(loop, one), at_other(loop, other);
    const std::string given_up(60'000, 'a');
    std::size_t whole = 0;
    for (;;) {
        const auto n = NamedPipe::send(one, TextView(given_up).bytes());
        REQUIRE(n);
        if (*n == 1) break;  // there is no room: the rest is on its way, and is to be said again
        whole += *n;
    }
    std::string got = read(other, loop, whole + given_up.size());
    const std::string instead(100'000, 'b');
    std::size_t sent = 0;
    REQUIRE(until(loop, [&] {
        while (const auto n = NamedPipe::send(one, TextView(instead.data() + sent, instead.size() - sent).bytes())) {
            sent += *n;
            if (sent == instead.size()) break;
        }
        std::byte room[10'000];
        while (const auto received = NamedPipe::receive(other, room)) got.append(reinterpret_cast<const char*>(room), received->bytes);
        return got.size() >= whole + given_up.size() + instead.size();
    }));
    CHECK(got.substr(0, whole + given_up.size()) == std::string(whole + given_up.size(), 'a'));
    CHECK(got.substr(whole + given_up.size()) == instead);
}

TEST_CASE("a named pipe takes more than its peer has room for, piece by piece, and in order") {
    Loop loop;
    NamedPipe one, other;
    REQUIRE(NamedPipe::pair(one, other));
    Listening at_one(loop, one), at_other(loop, other);
    const test::Buffer all = test::pattern(1'000'000);
    std::size_t sent = 0;
    bool full = false;
    std::string got;
    REQUIRE(until(loop, [&] {
        while (sent < all.size()) {
            const auto n = NamedPipe::send(one, Bytes(all).subspan(sent));
            if (!n) {
                CHECK(n.error() == Errc::would_block);
                full = true;
                break;
            }
            sent += *n;
        }
        std::byte room[10'000];
        if (const auto received = NamedPipe::receive(other, room)) got.append(reinterpret_cast<const char*>(room), received->bytes);
        return got.size() == all.size();
    }));
    CHECK(full);
    CHECK(got == std::string(reinterpret_cast<const char*>(all.data()), all.size()));
}

TEST_CASE("a named pipe is found by its name, lets one after the other in, and knows them") {
    Loop loop;
    const std::string name = "rejoin-test-" + std::to_string(::GetCurrentProcessId());
    CHECK(NamedPipe::connect(name).error() == Error::system(ERROR_FILE_NOT_FOUND));
    auto listening = NamedPipe::listen(name);
    REQUIRE(listening);
    CHECK(listening->accept().error() == Errc::would_block);
    Listening bell(loop, *listening);
    for (int i = 0; i < 3; ++i) {
        auto caller = NamedPipe::connect(name);
        REQUIRE(caller);
        Result<NamedPipe> called = Errc::would_block;
        REQUIRE(until(loop, [&] { return static_cast<bool>(called = listening->accept()); }));
        REQUIRE(NamedPipe::send(*caller, TextView("it is I").bytes()));
        CHECK(read(*called, loop, 7) == "it is I");
        for (const NamedPipe* end : {&*caller, &*called}) {
            const auto peer = NamedPipe::peer_credentials(*end);
            REQUIRE(peer);
            CHECK(peer->process == static_cast<int>(::GetCurrentProcessId()));
            CHECK(NamedPipe::trusted(*peer));
        }
    }
    CHECK_FALSE(NamedPipe::trusted(PeerCredentials()));
    for (const std::string& bad : {std::string(), std::string("a\\b"), std::string("a\nb"), std::string(201, 'x')}) {
        CHECK(NamedPipe::listen(bad).error() == Errc::invalid_argument);
        CHECK(NamedPipe::connect(bad).error() == Errc::invalid_argument);
    }
}

TEST_CASE("a name that another process has is refused", "[taken]") {
    const std::string name = "rejoin-taken-" + std::to_string(::GetCurrentProcessId());
    const auto listening = NamedPipe::listen(name);
    REQUIRE(listening);
    CHECK(NamedPipe::listen(name).error() == Error::system(ERROR_ACCESS_DENIED));
}

TEST_CASE("a ticket is good for a copy of the socket, and nonsense for none") {
    NamedPipe one, other;
    REQUIRE(NamedPipe::pair(one, other));
    Socket moving, far_end;
    REQUIRE(NamedPipe::stream_pair(moving, far_end));
    Array<std::byte> ticket;
    REQUIRE_FALSE(NamedPipe::issue_ticket(one, moving, ticket));
    Socket copy = NamedPipe::redeem_ticket({ticket.data(), ticket.size()});
    REQUIRE(copy);
    moving.close();
    REQUIRE(copy.send(TextView("still here").bytes()));
    std::byte room[20];
    const auto n = far_end.receive(room);
    REQUIRE(n);
    CHECK(*n == 10);
    CHECK_FALSE(NamedPipe::redeem_ticket({}));
    CHECK_FALSE(NamedPipe::redeem_ticket({ticket.data(), ticket.size() - 1}));
    Array<std::byte> none;
    CHECK(NamedPipe::issue_ticket(one, Socket(), none));
}
#endif
