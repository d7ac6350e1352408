// SPDX-License-Identifier: BSL-1.0
#include "catch.hpp"

#if defined(__linux__)
#include <poll.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <rejoin/handoff/channel.hpp>
#include <string>

#include "os/system.hpp"
#include "skip.hpp"

// Either process is killed at every boundary of every system call of the exchange, one after the other.

using namespace rejoin;
using handoff::Channel;
using handoff::Parcel;

namespace {

enum class Victim { sender, receiver };

// Answers everything that comes over the connection it owns, and says who it is.
struct Owner {
    Owner(Loop& l, char n) : loop(l), name(n), watch(l, Delegate<void(Ready)>::to<&Owner::ready>(this)) {}
    void own(Socket&& s) {
        socket = std::move(s);
        static_cast<void>(watch.start(socket.fd(), Ready::readable));
    }
    void ready(Ready) {
        std::byte room[64];
        const auto n = socket.receive(room);
        if (!n || *n == 0) return watch.stop();
        static_cast<void>(socket.send(TextView(&name, 1).bytes()));
        static_cast<void>(socket.send(Bytes(room, *n)));
    }
    Loop& loop;
    char name;
    Socket socket;
    Loop::Watch watch;
};
// By this system call the tracer sees that the exchange is over here.
void mark() { ::syscall(SYS_getppid); }
void wait_for_tracer(bool traced) {
    if (traced && ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(3);
    ::raise(SIGSTOP);
}
[[noreturn]] void run_sender(Socket&& channel_end, Socket&& connection, bool traced) {
    {
        Loop loop;
        Owner owner(loop, 'S');
        Channel::Options patient;
        patient.deadline = Duration::seconds(60);
        Channel channel(loop, patient);
        if (!channel.start(std::move(channel_end))) ::_exit(2);
        wait_for_tracer(traced);
        Parcel parcel;
        parcel.socket = std::move(connection);
        static_cast<void>(channel.offer(std::move(parcel), [&](Error error, Parcel&& back) {
            if (error) owner.own(std::move(back.socket));
            mark();
        }));
        static_cast<void>(loop.run());
    }
    ::_exit(2);
}
[[noreturn]] void run_receiver(Socket&& channel_end, bool traced) {
    {
        Loop loop;
        Owner owner(loop, 'R');
        Channel channel(loop);
        channel.on_parcel([&](Parcel&& parcel) {
            owner.own(std::move(parcel.socket));
            mark();
        });
        if (!channel.start(std::move(channel_end))) ::_exit(2);
        wait_for_tracer(traced);
        static_cast<void>(loop.run());
    }
    ::_exit(2);
}
void wait_until_stopped(pid_t child) {
    int status = 0;
    REQUIRE(::waitpid(child, &status, WUNTRACED) == child);
    REQUIRE(WIFSTOPPED(status));
}
// Goes on to the next boundary of a system call; whether that is where the exchange is over.
bool step(pid_t child) {
    int status = 0;
    for (;;) {
        REQUIRE(::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr) == 0);
        REQUIRE(::waitpid(child, &status, 0) == child);
        REQUIRE(WIFSTOPPED(status));
        if (WSTOPSIG(status) != (SIGTRAP | 0x80)) continue;
        __ptrace_syscall_info info{};
        REQUIRE(::ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) > 0);
        return info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == SYS_getppid;
    }
}

struct Outcome {
    bool finished = false;  // the victim was through before its time had come
    std::string heard;      // from the connection: its owner's answer, or nothing when it is closed
    int leaked = 0;         // descriptors that the survivor has and should not
};
Outcome kill_after(Victim victim, int steps) {
    Socket connection, far_end, at_sender, at_receiver;
    REQUIRE(UnixSocket::pair(connection, far_end));
    REQUIRE(UnixSocket::pair(at_sender, at_receiver));
    REQUIRE(far_end.send(TextView("before ").bytes()));

    const pid_t sender = ::fork();
    if (sender == 0) {
        far_end.close();
        at_receiver.close();
        run_sender(std::move(at_sender), std::move(connection), victim == Victim::sender);
    }
    const pid_t receiver = ::fork();
    if (receiver == 0) {
        far_end.close();
        at_sender.close();
        connection.close();
        run_receiver(std::move(at_receiver), victim == Victim::receiver);
    }
    connection.close();
    at_sender.close();
    at_receiver.close();
    wait_until_stopped(sender);
    wait_until_stopped(receiver);
    const pid_t dying = victim == Victim::sender ? sender : receiver, living = victim == Victim::sender ? receiver : sender;
    const int before = open_descriptors(std::to_string(living));
    REQUIRE(::ptrace(PTRACE_SETOPTIONS, dying, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) == 0);
    REQUIRE(::kill(living, SIGCONT) == 0);

    Outcome outcome;
    for (int i = 0; i < steps && !outcome.finished; ++i) outcome.finished = step(dying);
    REQUIRE(::kill(dying, SIGKILL) == 0);
    int status = 0;
    REQUIRE(::waitpid(dying, &status, 0) == dying);
    REQUIRE(WIFSIGNALED(status));

    static_cast<void>(far_end.send(TextView("after").bytes()));
    const std::string all = "before after";
    pollfd entry{far_end.fd(), POLLIN, 0};
    while (outcome.heard.size() < all.size() + 1 && ::poll(&entry, 1, 60'000) == 1) {
        std::byte room[100];
        const auto n = far_end.receive(room);
        if (!n || *n == 0) break;
        for (std::byte b : Bytes(room, *n))
            if (outcome.heard.empty() || std::to_integer<char>(b) != outcome.heard[0]) outcome.heard += std::to_integer<char>(b);
    }
    // The survivor has lost its end of the channel, and has the connection if it owns it.
    const bool had = living == sender, has = !outcome.heard.empty();
    const int should = before - 1 - (had ? 1 : 0) + (has ? 1 : 0);
    for (int i = 0; i < 5000 && open_descriptors(std::to_string(living)) != should; ++i) ::usleep(1000);
    outcome.leaked = open_descriptors(std::to_string(living)) - should;
    REQUIRE(::kill(living, SIGKILL) == 0);
    REQUIRE(::waitpid(living, &status, 0) == living);
    return outcome;
}

}  // namespace

TEST_CASE("whoever is killed, at whatever system call, the connection has one owner or none, and loses nothing", "[native]") {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0 ? 0 : 1);
    int status = 1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    if (status != 0) return test::skip("ptrace(2) is not allowed");

    for (Victim victim : {Victim::sender, Victim::receiver}) {
        const char survivor = victim == Victim::sender ? 'R' : 'S';
        bool seen_owned = false, seen_closed = false;
        for (int steps = 0;; ++steps) {
            CAPTURE(victim == Victim::sender ? "sender" : "receiver", steps);
            const Outcome outcome = kill_after(victim, steps);
            if (outcome.heard.empty())
                seen_closed = true;
            else
                REQUIRE(outcome.heard == survivor + std::string("before after"));
            seen_owned = seen_owned || !outcome.heard.empty();
            REQUIRE(outcome.leaked == 0);
            // A sender that dies had offered it, and then the receiver owns it, or it had not. (Of a receiver that dies no step says
            // whether it had been given it: the sender goes on meanwhile.)
            if (victim == Victim::sender && outcome.heard.empty()) REQUIRE(!seen_owned);
            if (outcome.finished) break;
            REQUIRE(steps < 1000);
        }
        CHECK(seen_owned);
        CHECK(seen_closed);
    }
}
#endif
