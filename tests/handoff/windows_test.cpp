// SPDX-License-Identifier: BSL-1.0
#include "catch.hpp"

#if defined(_WIN32)
#include <cstdlib>
#include <rejoin/handoff/push.hpp>
#include <string>

#include "pipe/support.hpp"

// Between two programs: this one starts itself again, as the receiver of one of the tests below.

using handoff::Channel;
using handoff::Parcel;

namespace {

using Client = Pipe<NoEvents, Resumable<Tcp>, Persistent>;
using Server = Listener<Resumable<Tcp>, NoEvents, Persistent>;

constexpr const char variable[] = "REJOIN_TEST_PIPE";
// Whether this is a receiver: the tests that are one do nothing otherwise.
bool started() { return std::getenv(variable) != nullptr; }

class Program {
public:
    // Runs the test of that tag, which finds the pipe by the environment.
    Program(const std::string& tag, const std::string& pipe) {
        char path[MAX_PATH];
        REQUIRE(::GetModuleFileNameA(nullptr, path, MAX_PATH) > 0);
        ::SetEnvironmentVariableA(variable, pipe.c_str());
        std::string command = '"' + std::string(path) + "\" " + tag;
        STARTUPINFOA start{};
        start.cb = sizeof start;
        REQUIRE(::CreateProcessA(nullptr, command.data(), nullptr, nullptr, FALSE, 0, nullptr, nullptr, &start, &info_));
    }
    ~Program() {
        ::TerminateProcess(info_.hProcess, 9);
        ::CloseHandle(info_.hProcess);
        ::CloseHandle(info_.hThread);
    }
    DWORD wait() {
        DWORD status = 99;
        REQUIRE(::WaitForSingleObject(info_.hProcess, 60'000) == WAIT_OBJECT_0);
        ::GetExitCodeProcess(info_.hProcess, &status);
        return status;
    }

private:
    PROCESS_INFORMATION info_{};
};
// The sender's end of a channel to such a program.
struct Sender {
    explicit Sender(const std::string& tag)
        : name("rejoin-test-" + tag.substr(2, tag.size() - 3) + std::to_string(::GetCurrentProcessId())), channel(loop, patient()) {
        auto listening = NamedPipe::listen(name);
        REQUIRE(listening);
        program.emplace(tag, name);
        Result<NamedPipe> called = Errc::would_block;
        REQUIRE(until(loop, [&] { return static_cast<bool>(called = listening->accept()); }));
        REQUIRE(channel.start(std::move(*called)));
    }
    static Channel::Options patient() {
        Channel::Options options;
        options.deadline = Duration::seconds(60);
        return options;
    }
    Channel::Done done() {
        return [this](Error error, Parcel&& back) {
            errors.push_back(error);
            parcels.push_back(std::move(back));
        };
    }
    Loop loop;
    std::string name;
    std::optional<Program> program;
    Channel channel;
    std::vector<Error> errors;
    std::vector<Parcel> parcels;
};
struct Receiver {
    Receiver() : channel(loop) {
        auto connected = NamedPipe::connect(std::string(std::getenv(variable)));
        REQUIRE(connected);
        pipe = std::move(*connected);
    }
    Loop loop;
    NamedPipe pipe;
    Channel channel;
};

}  // namespace

TEST_CASE("receives a plain connection", "[.plain]") {
    if (!started()) return;
    Receiver receiver;
    Parcel got;
    receiver.channel.on_parcel([&](Parcel&& parcel) { got = std::move(parcel); });
    REQUIRE(receiver.channel.start(std::move(receiver.pipe)));
    REQUIRE(until(receiver.loop, [&] { return static_cast<bool>(got.socket); }));
    std::string all = text({got.unread.data(), got.unread.size()});
    REQUIRE(until(receiver.loop, [&] {
        std::byte room[1000];
        const auto n = got.socket.receive(room);
        if (n) all += text(Bytes(room, *n));
        return n && *n == 0;
    }));
    REQUIRE(got.socket.send(TextView(all).bytes()));
}

TEST_CASE("a connection moves to another program, with bytes on the way and bytes that were read") {
    Sender sender("[.plain]");
    Parcel parcel;
    Socket far_end;
    REQUIRE(NamedPipe::stream_pair(parcel.socket, far_end));
    REQUIRE(parcel.unread.append(TextView("read ").bytes().data(), 5));
    REQUIRE(far_end.send(TextView("on the way ").bytes()));
    REQUIRE(sender.channel.offer(std::move(parcel), sender.done()));
    REQUIRE(until(sender.loop, [&] { return !sender.errors.empty(); }));
    CHECK(sender.errors[0] == Error());
    CHECK_FALSE(sender.parcels[0].socket);
    REQUIRE(far_end.send(TextView("and later").bytes()));
    REQUIRE(far_end.shutdown_send());
    std::string back;
    REQUIRE(until(sender.loop, [&] {
        std::byte room[100];
        const auto n = far_end.receive(room);
        if (n) back += text(Bytes(room, *n));
        return n && *n == 0;
    }));
    CHECK(back == "read on the way and later");
    CHECK(sender.program->wait() == 0);
}

TEST_CASE("receives a session", "[.session]") {
    if (!started()) return;
    Receiver receiver;
    Server server(receiver.loop, quick_listener<Server>());
    bool over = false;
    server.on_accept([&](Server::AcceptedPipe& pipe) {
        pipe.on_receive([&](Bytes bytes) { REQUIRE(pipe.send("there: " + text(bytes))); });
        pipe.on_state([&](PipeState state, const Failure&) { over = over || state == PipeState::closing || state == PipeState::closed; });
    });
    receiver.channel.on_parcel([&](Parcel&& parcel) { REQUIRE(server.adopt(std::move(parcel))); });
    REQUIRE(receiver.channel.start(std::move(receiver.pipe)));
    REQUIRE(until(receiver.loop, [&] { return over; }));
    settle(receiver.loop);
}

TEST_CASE("a session moves to another program, and its client does not notice") {
    Sender sender("[.session]");
    Server server(sender.loop, quick_listener<Server>());
    Server::AcceptedPipe* accepted = nullptr;
    std::string here;
    server.on_accept([&](Server::AcceptedPipe& pipe) {
        accepted = &pipe;
        pipe.on_receive([&](Bytes bytes) { here += text(bytes); });
    });
    REQUIRE(server.listen({"127.0.0.1", 0}));
    Client client(sender.loop, quick<Client>());
    Heard heard(client);
    REQUIRE(client.connect(server.local_endpoint()));
    REQUIRE(client.send("one"));
    REQUIRE(until(sender.loop, [&] { return here == "one"; }));
    REQUIRE(handoff::push(sender.channel, *accepted, "", sender.done()));
    REQUIRE(client.send("two"));
    REQUIRE(until(sender.loop, [&] { return heard.bytes == "there: two"; }));
    CHECK(sender.errors.at(0) == Error());
    CHECK(heard.times(PipeState::interrupted) == 0);
    CHECK(client.statistics().connections == 1);
    client.close();
    REQUIRE(until(sender.loop, [&] { return heard.is(PipeState::closed); }));
    CHECK(sender.program->wait() == 0);
}

TEST_CASE("receives nothing, and dies", "[.dies]") {
    if (!started()) return;
    Receiver receiver;
    std::byte room[10];
    REQUIRE(until(receiver.loop, [&] { return static_cast<bool>(NamedPipe::receive(receiver.pipe, room)); }));
    ::TerminateProcess(::GetCurrentProcess(), 7);
}

TEST_CASE("what a program that dies was offered comes back") {
    Sender sender("[.dies]");
    Parcel parcel;
    Socket far_end;
    REQUIRE(NamedPipe::stream_pair(parcel.socket, far_end));
    REQUIRE(sender.channel.offer(std::move(parcel), sender.done()));
    REQUIRE(until(sender.loop, [&] { return !sender.errors.empty(); }));
    CHECK(sender.errors[0] == Errc::end_of_stream);
    CHECK(sender.program->wait() == 7);
    REQUIRE(far_end.send(TextView("hello").bytes()));
    std::byte room[10];
    REQUIRE(until(sender.loop, [&] { return static_cast<bool>(sender.parcels.at(0).socket.receive(room)); }));
    CHECK(text(Bytes(room, 5)) == "hello");
}
#endif
