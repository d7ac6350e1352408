// SPDX-License-Identifier: BSL-1.0
#include <rejoin.hpp>
#include <cstdio>

int main() {
    rejoin::Loop loop;

    rejoin::Listener<rejoin::Resumable<rejoin::Tcp>> server{loop};
    server.on_accept([](rejoin::ResumablePipe& player) {          // once a session, not once a connection
        player.on_receive([&player](rejoin::Bytes bytes) { player.send(bytes); });
    });
    if (auto listening = server.listen({"127.0.0.1", 0}); !listening) return 1;

    rejoin::ResumablePipe pipe{loop};                             // = Pipe<SystemEvents, Resumable<Tcp>, Persistent>
    pipe.on_network_change([](const rejoin::NetworkChange& change) { std::puts(rejoin::describe(change).c_str()); });
    pipe.on_state([](rejoin::PipeState state, const rejoin::Failure& why) { std::puts(rejoin::describe(state, why).c_str()); });
    pipe.on_receive([&](rejoin::Bytes bytes) { std::printf("%zu bytes back\n", bytes.size()); loop.stop(); });
    pipe.connect(server.local_endpoint());
    pipe.send("hello");
    loop.run();
}
