// SPDX-License-Identifier: BSL-1.0
// Makes a connection, and gives it to a program: as its standard input and output, as descriptor 3, or over a channel.
#include <cstdio>
#include <cstring>
#include <optional>
#include <rejoin.hpp>
#include <string>

namespace {

using namespace rejoin;
using handoff::Channel;
using handoff::Parcel;
using PlainPipe = Pipe<SystemEvents, Tcp, Persistent>;
using LocalPipe = Pipe<NoEvents, Tcp, FailFast>;

constexpr const char usage[] =
    "usage: push [--resume] HOST:PORT PROGRAM [ARGUMENT...]              as its standard input and output\n"
    "       push [--resume] --listen-fds HOST:PORT PROGRAM [ARGUMENT...] as descriptor 3, sd_listen_fds(3)\n"
    "       push [--resume] --node HOST:PORT node SCRIPT [ARGUMENT...]   to a child's process.on('message')\n"
    "       push [--resume] --channel PATH HOST:PORT                     to who listens at PATH; @NAME is abstract\n"
    "\n"
    "Connects, over every address and family there is, and gives the live connection away. With --resume\n"
    "the server speaks rejoin's session protocol: the program gets a plain socket, behind which the\n"
    "conversation goes on over one connection after another.\n";

int fail(const char* what, Error error) {
    std::fprintf(stderr, "push: %s: %s\n", what, describe(classify(error, Stage::established)).c_str());
    return 1;
}

struct Wanted {
    bool resume = false;
    enum class As { standard_io, listen_fds, node, channel } as = As::standard_io;
    std::string path;
    Endpoint to;
    char** program = nullptr;
};

bool parse(int argc, char** argv, Wanted& wanted) {
    int i = 1;
    for (; i < argc && std::strncmp(argv[i], "--", 2) == 0; ++i) {
        const std::string option = argv[i];
        if (option == "--resume")
            wanted.resume = true;
        else if (option == "--listen-fds")
            wanted.as = Wanted::As::listen_fds;
        else if (option == "--node")
            wanted.as = Wanted::As::node;
        else if (option == "--channel" && i + 1 < argc)
            wanted.as = Wanted::As::channel, wanted.path = argv[++i];
        else
            return false;
    }
    if (i == argc) return false;
    wanted.to = Endpoint::parse(argv[i++]);
    wanted.program = argv + i;
    return wanted.to.valid() && wanted.to.port() != 0 && (i < argc) == (wanted.as != Wanted::As::channel);
}

// Gives the socket away, and tells when that is done, and with the program's number if there is one.
class Giver {
public:
    Giver(Loop& loop, const Wanted& wanted) : loop_(loop), wanted_(wanted) {}

    // What is to be returned by main, or nothing while it is under way.
    std::optional<int> result;
    pid_t program = -1;

    void give(Socket socket) {
        if (wanted_.as == Wanted::As::node || wanted_.as == Wanted::As::channel) return push(std::move(socket));
        ProgramStart start;
        start.arguments = wanted_.program;
        const NamedDescriptor listen[] = {{socket.fd(), "connection"}};
        if (wanted_.as == Wanted::As::listen_fds)
            start.listen = listen;
        else
            start.standard_io = socket.fd();
        run(start);
        if (program > 0) result = 0;
    }

private:
    void run(const ProgramStart& start) {
        auto started = start_program(start);
        if (!started)
            result = fail(wanted_.program[0], started.error());
        else
            program = *started;
    }
    void push(Socket socket) {
        Socket ours, theirs;
        if (wanted_.as == Wanted::As::node) {
            if (auto made = UnixSocket::pair(ours, theirs); !made) return void(result = fail("no channel", made.error()));
            ProgramStart start;
            start.arguments = wanted_.program;
            start.channel = theirs.fd();
            run(start);
            if (program < 0) return;
            theirs.close();
        } else {
            auto made = UnixSocket::connect(wanted_.path);
            if (!made) return void(result = fail(wanted_.path.c_str(), made.error()));
            ours = std::move(*made);
        }
        channel_.emplace(loop_);
        if (auto open = channel_->start(std::move(ours)); !open) return void(result = fail("the channel", open.error()));
        Parcel parcel;
        parcel.socket = std::move(socket);
        const std::string note = "connected to " + std::string(to_text(wanted_.to).c_str());
        static_cast<void>(parcel.note.append(note.data(), note.size()));
        const auto offered = channel_->offer(std::move(parcel), [this](Error error, Parcel&&) {
            result = error ? fail("the connection was not taken", error) : 0;
            loop_.stop();
        });
        if (!offered) result = fail("the connection cannot be offered", offered.error());
    }

    Loop& loop_;
    const Wanted& wanted_;
    std::optional<Channel> channel_;
};

int wait_for(pid_t program) {
    int status = 0;
    if (program < 0 || ::waitpid(program, &status, 0) != program) return 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// The connection itself goes, and this process has nothing to do with it any more.
int push_plain(const Wanted& wanted) {
    int result = 1;
    pid_t program = -1;
    {
        Loop loop;
        Giver giver(loop, wanted);
        PlainPipe pipe(loop);
        pipe.on_state([&](PipeState state, const Failure& why) {
            if (why) std::fprintf(stderr, "push: %s\n", describe(state, why).c_str());
            if (state == PipeState::connected) {
                pipe.pause();
                static_cast<void>(loop.post([&] {
                    auto socket = pipe.release();
                    if (socket)
                        giver.give(std::move(*socket));
                    else
                        giver.result = fail("the connection", socket.error());
                    if (giver.result) loop.stop();
                }));
            } else if (state == PipeState::closed && why) {
                giver.result = 1;
                loop.stop();
            }
        });
        if (auto connecting = pipe.connect(wanted.to); !connecting) return fail("cannot connect", connecting.error());
        while (!giver.result)
            if (auto ran = loop.run(); !ran) return fail("cannot run", ran.error());
        result = *giver.result;
        program = giver.program;
    }
    const int of_program = wait_for(program);
    return result != 0 ? result : of_program;
}

// A plain socket goes; the session stays here, and with it this process, until both sides have ended.
int push_resumable(const Wanted& wanted) {
    Loop loop;
    Giver giver(loop, wanted);
    ResumablePipe pipe(loop);
    LocalPipe local(loop);
    bool failed = false;
    pipe.on_state([&](PipeState state, const Failure& why) {
        if (why) std::fprintf(stderr, "push: %s\n", describe(state, why).c_str());
        failed = failed || (state == PipeState::closed && why);
        if (state == PipeState::closed) static_cast<void>(loop.post([&] { loop.stop(); }));
    });
    if (auto connecting = pipe.connect(wanted.to); !connecting) return fail("cannot connect", connecting.error());
    auto end = handoff::plain_end(local, pipe);
    if (!end) return fail("no socket", end.error());
    giver.give(std::move(*end));
    while (pipe.state() != PipeState::closed && giver.result.value_or(0) == 0)
        if (auto ran = loop.run(); !ran) return fail("cannot run", ran.error());
    if (giver.result.value_or(0) != 0) return *giver.result;
    const int of_program = wait_for(giver.program);
    return failed ? 1 : of_program;
}

}  // namespace

int main(int argc, char** argv) {
    Wanted wanted;
    if (!parse(argc, argv, wanted)) {
        std::fputs(usage, stderr);
        return 2;
    }
    return wanted.resume ? push_resumable(wanted) : push_plain(wanted);
}
