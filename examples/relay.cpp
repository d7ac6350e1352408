// SPDX-License-Identifier: BSL-1.0
// Gives an unmodified TCP client and server a conversation that survives the network between them:
//
//     client --- relay client ~~~~~~ the network ~~~~~~ relay server --- server
#include <cstdio>
#include <fstream>
#include <iterator>
#include <list>
#include <string>

#include "demo/saboteur.hpp"
#include "demo/stream.hpp"

namespace {

using namespace rejoin;
using PlainPipe = Pipe<NoEvents, Tcp, FailFast>;
using PlainListener = Listener<Tcp, NoEvents, FailFast>;
using ResumableListener = Listener<Resumable<Tcp>>;

constexpr const char usage[] =
    "usage: relay client LISTEN RELAY-SERVER [KEY-FILE]\n"
    "       relay server LISTEN TARGET [KEY-FILE]\n"
    "       relay --selftest\n"
    "\n"
    "Run `relay client` beside the TCP client, which connects to LISTEN, and `relay server` beside\n"
    "the TCP server TARGET. Between the two the conversation goes on over one connection after\n"
    "another. All are HOST:PORT or [IPV6]:PORT; LISTEN takes addresses only. The same KEY-FILE at\n"
    "both ends, of at least 16 random bytes, lets in nobody else; nothing is encrypted.\n";

// The pipes that connect on behalf of accepted ones.
template <class Far>
class Carriers {
public:
    Carriers(Loop& loop, const Endpoint& to, const typename Far::Options& options = {}) : loop_(loop), to_(to), options_(options) {}

    // Connects, and carries bytes between the two until one has ended.
    template <class Near>
    Far& carry(Near& taken) {
        Far& onward = fars_.emplace_back(loop_, options_);
        onward.on_state([this, &onward](PipeState state, const Failure& why) {
            if (why) std::fprintf(stderr, "%s\n", describe(state, why).c_str());
            if (state == PipeState::closed)
                fars_.remove_if([&](const Far& f) { return &f == &onward; });  // in its own handler: that is allowed
        });
        static_cast<void>(taken.link(onward));
        if (!onward.connect(to_)) taken.abort();
        return onward;
    }

private:
    Loop& loop_;
    Endpoint to_;
    typename Far::Options options_;
    std::list<Far> fars_;
};

int fail(const char* what, Error error) {
    std::fprintf(stderr, "relay: %s: %s\n", what, describe(classify(error, Stage::listening)).c_str());
    return 1;
}

// A plain client and a plain echo server, a relay beside each, and a saboteur between the relays.
int selftest() {
    constexpr std::uint64_t bytes = 8 * 1024 * 1024;
    ResumablePipe::Options options;
    options.transport.liveness_interval = options.transport.suspect_after = Duration::milliseconds(100);
    options.transport.dead_after = options.handshake_timeout = Duration::milliseconds(200);
    options.recovery.backoff_cap = Duration::milliseconds(50);
    PlainPipe::Options plain;
    plain.transport.queue_limit = 2 * bytes;  // the echo holds everything, if need be

    Loop loop;
    PlainListener echo(loop, {plain, {}, 16});
    echo.on_accept([](PlainPipe& pipe) { pipe.on_receive([&pipe](Bytes b) { static_cast<void>(pipe.send(b)); }); });
    if (!echo.listen({"127.0.0.1", 0})) return 1;
    Carriers<PlainPipe> to_echo(loop, echo.local_endpoint());
    ResumableListener relay_server(loop, {options, {}, 16});
    relay_server.on_accept([&](ResumablePipe& taken) { to_echo.carry(taken); });
    if (!relay_server.listen({"127.0.0.1", 0})) return 1;

    ResumablePipe* between = nullptr;
    int strikes = 0;
    Saboteur saboteur(loop, relay_server.local_endpoint(), 1, [&] { return between->local_endpoint(); });
    Carriers<ResumablePipe> to_relay_server(loop, saboteur.endpoint(), options);
    PlainListener relay_client(loop);
    relay_client.on_accept([&](PlainPipe& taken) { between = &to_relay_server.carry(taken); });
    if (!relay_client.listen({"127.0.0.1", 0})) return 1;
    saboteur.on_strike = [&](Sabotage kind, bool) {
        std::printf("%s\n", sabotage_names[static_cast<int>(kind)]);
        ++strikes;
    };

    PlainPipe client(loop);
    stream::Sender out(1);
    stream::Receiver in(1);
    Failure end;
    const auto pump = [&] {
        if (out.count().bytes() > bytes) return client.close();
        out.pump(client);
    };
    client.on_drained(pump);
    client.on_receive([&](Bytes b) {
        if (in.count().bytes() / (bytes / 8) != (in.count().bytes() + b.size()) / (bytes / 8)) saboteur.strike();
        in.take(b);
    });
    client.on_state([&](PipeState state, const Failure& why) {
        if (state != PipeState::closed) return;
        end = why;
        loop.stop();
    });
    static_cast<void>(client.connect(relay_client.local_endpoint()));
    pump();
    static_cast<void>(loop.run_for(Duration::seconds(60)));
    std::printf("%d strikes; %llu bytes sent, %llu came back, %s\n", strikes, static_cast<unsigned long long>(out.count().bytes()),
                static_cast<unsigned long long>(in.count().bytes()), out.count() == in.count() ? "the same" : "NOT the same");
    return strikes > 0 && !end && out.count() == in.count() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    const TextView command = argc > 1 ? argv[1] : "";
    if (argc == 2 && command == "--selftest") return selftest();
    const Endpoint at = argc > 2 ? Endpoint::parse(argv[2]) : Endpoint(), to = argc > 3 ? Endpoint::parse(argv[3]) : Endpoint();
    const bool client = command == "client";
    if (argc < 4 || argc > 5 || (!client && !(command == "server")) || !at.valid() || at.name() != nullptr || !to.valid()) {
        std::fputs(usage, stderr);
        return 2;
    }
    ResumablePipe::Options options;
    if (argc == 5) {
        std::ifstream file(argv[4], std::ios::binary);
        const std::string key{std::istreambuf_iterator<char>(file), {}};
        if (key.size() < 16) {
            std::fprintf(stderr, "relay: no 16 bytes in %s\n", argv[4]);
            return 1;
        }
        options.transport.pre_shared_key = session::PreSharedKey(TextView(key).bytes());
    }

    Loop loop;
    const auto serve = [&](auto& door, auto on_accept) {
        door.on_accept(std::move(on_accept));
        if (auto listening = door.listen(at); !listening) return fail("cannot listen", listening.error());
        std::fprintf(stderr, "relay: listening on %s\n", to_text(door.local_endpoint()).c_str());
        auto ran = loop.run();
        return ran ? 0 : fail("cannot run", ran.error());
    };
    if (client) {
        Carriers<ResumablePipe> carriers(loop, to, options);
        PlainListener door(loop);
        return serve(door, [&](PlainPipe& taken) { carriers.carry(taken); });
    }
    Carriers<PlainPipe> carriers(loop, to);
    ResumableListener door(loop, {options, {}, 4096});
    return serve(door, [&](ResumablePipe& taken) { carriers.carry(taken); });
}
