// SPDX-License-Identifier: BSL-1.0
// A server of several processes behind one port. Each holds sessions of its own; a client that comes back to the wrong one is passed on to
// the one that holds its session, connection and all. A worker that dies is replaced.
#include <signal.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <rejoin.hpp>
#include <string>
#include <vector>

namespace {

using namespace rejoin;
using handoff::Channel;
using handoff::Parcel;
using Server = Listener<Resumable<Tcp>, NoEvents, Persistent>;

constexpr const char usage[] =
    "usage: workers [--workers N] HOST:PORT\n"
    "\n"
    "Echoes at HOST:PORT from N processes (default 4), each of which is started anew when it dies.\n";

// What an offer between the processes is about.
constexpr TextView for_nobody = "nobody holds this session";
bool is_for_nobody(const Parcel& parcel) { return TextView(parcel.note.data(), parcel.note.size()) == for_nobody; }
void set_note(Parcel& parcel, TextView note) {
    parcel.note.clear();
    static_cast<void>(parcel.note.append(note.data(), note.size()));
}

int fail(const char* what, Error error) {
    std::fprintf(stderr, "workers: %s: %s\n", what, describe(classify(error, Stage::established)).c_str());
    return 1;
}

// ---- A worker: serves, and deals with its supervisor.

class Worker {
public:
    Worker() : server_(loop_), supervisor_(loop_) {
        server_.on_accept([](Server::AcceptedPipe& guest) {
            guest.on_receive([&guest](Bytes bytes) {
                if (!guest.send(bytes)) guest.abort();  // it sends and does not listen
            });
        });
        // A session that is not here is another worker's, as far as this one knows.
        server_.admit([](const Newcomer& newcomer) { return newcomer.resuming ? Admission::pass_on() : Admission::accept(); });
        server_.on_pass_on([this](const Newcomer& newcomer, Parcel&& parcel) {
            static_cast<void>(handoff::append_base64(parcel.note, newcomer.session.bytes));
            const auto offered = supervisor_.offer(std::move(parcel), [this](Error error, Parcel&& back) {
                if (error) static_cast<void>(server_.adopt(std::move(back)));  // which tells the client that nobody knows it
            });
            if (!offered) static_cast<void>(server_.adopt(std::move(parcel)));
        });
        supervisor_.admit([this](const Parcel& parcel) {
            Array<std::byte> id;
            session::SessionId wanted;
            if (is_for_nobody(parcel)) return true;
            if (!handoff::append_from_base64(id, {parcel.note.data(), parcel.note.size()}) || id.size() != sizeof wanted.bytes)
                return false;
            std::memcpy(wanted.bytes, id.data(), id.size());
            return server_.has_session(wanted);
        });
        supervisor_.on_parcel([this](Parcel&& parcel) { static_cast<void>(server_.adopt(std::move(parcel))); });
        supervisor_.on_close([this](Error) { loop_.stop(); });
    }
    int run() {
        auto inherited = inherited_sockets();
        auto channel = parent_channel();
        if (!inherited || inherited->size() != 1 || !channel) return fail("not started by a supervisor", Errc::invalid_state);
        if (auto listening = server_.listen(std::move((*inherited)[0].socket)); !listening) return fail("listen", listening.error());
        if (auto open = supervisor_.start(std::move(*channel)); !open) return fail("the supervisor", open.error());
        static_cast<void>(loop_.run());
        return 0;
    }

private:
    Loop loop_;
    Server server_;
    Channel supervisor_;
};

// ---- The supervisor: owns the listening socket, and knows the way to every worker.

class Supervisor {
public:
    Supervisor(const char* program, Socket listener, int workers) : program_(program), listener_(std::move(listener)) {
        places_.resize(static_cast<std::size_t>(workers));
    }
    int run() {
        for (std::size_t i = 0; i < places_.size(); ++i)
            if (const Error error = start(i)) return fail("a worker", error);
        static_cast<void>(loop_.run());
        return 1;
    }

private:
    struct Place {
        pid_t process = -1;
        std::unique_ptr<Channel> channel;
    };

    Error start(std::size_t place) {
        Socket ours, theirs;
        if (auto made = UnixSocket::pair(ours, theirs); !made) return made.error();
        const char* const arguments[] = {program_, "--worker", nullptr};
        const NamedDescriptor listen[] = {{listener_.fd(), "echo", false}};
        ProgramStart start;
        start.arguments = arguments;
        start.listen = listen;
        start.channel = theirs.fd();
        const auto started = start_program(start);
        if (!started) return started.error();

        Place& at = places_[place];
        at.process = *started;
        at.channel = std::make_unique<Channel>(loop_);
        at.channel->on_parcel([this, place](Parcel&& parcel) { ask(std::move(parcel), place, 1); });
        at.channel->on_close([this, place](Error) { static_cast<void>(loop_.post([this, place] { replace(place); })); });
        if (auto open = at.channel->start(std::move(ours)); !open) return open.error();
        std::printf("worker %zu is process %d\n", place, static_cast<int>(at.process));
        std::fflush(stdout);
        return {};
    }
    void replace(std::size_t place) {
        const pid_t gone = std::exchange(places_[place].process, -1);
        if (gone > 0) {
            ::kill(gone, SIGKILL);  // it may only have closed the channel
            ::waitpid(gone, nullptr, 0);
        }
        if (const Error error = start(place))
            static_cast<void>(loop_.after(Duration::seconds(1), [this, place] { replace(place); })), fail("a worker", error);
    }
    // Offers the connection to each worker but the one it came from, until one says that the session is its. When none does, to that one
    // again, to tell the client.
    void ask(Parcel&& parcel, std::size_t from, std::size_t distance) {
        const bool nobody = distance == places_.size();
        if (distance > places_.size()) return;  // that one has died too
        if (nobody) set_note(parcel, for_nobody);
        Channel& channel = *places_[(from + distance) % places_.size()].channel;
        const auto offered = channel.offer(std::move(parcel), [this, from, distance](Error error, Parcel&& back) {
            if (error) ask(std::move(back), from, distance + 1);
        });
        if (!offered) ask(std::move(parcel), from, distance + 1);
    }

    const char* const program_;
    Loop loop_;
    Socket listener_;
    std::vector<Place> places_;
};

}  // namespace

int main(int argc, char** argv) {
    ::signal(SIGPIPE, SIG_IGN);
    if (argc == 2 && std::strcmp(argv[1], "--worker") == 0) return Worker().run();
    int workers = 4;
    const bool said = argc == 4 && std::strcmp(argv[1], "--workers") == 0 && std::sscanf(argv[2], "%d", &workers) == 1;
    const Endpoint at = said || argc == 2 ? Endpoint::parse(argv[argc - 1]) : Endpoint();
    if (!at.valid() || workers < 1 || workers > 1000) {
        std::fputs(usage, stderr);
        return 2;
    }
    auto listener = Socket::tcp(at.ip().family);
    if (!listener) return fail("a socket", listener.error());
    listener->reuse_address();
    if (auto bound = listener->bind(at.ip(), at.port()); !bound) return fail(to_text(at).c_str(), bound.error());
    if (auto listening = listener->listen(4096); !listening) return fail(to_text(at).c_str(), listening.error());
    std::printf("serving at %s\n", to_text(listener->local_endpoint()).c_str());
    return Supervisor(argv[0], std::move(*listener), workers).run();
}
