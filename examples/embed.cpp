// SPDX-License-Identifier: BSL-1.0
// rejoin inside a program that has a loop of its own, here poll(2): what a command prints goes to a collector over a resumable pipe.
#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <rejoin.hpp>

int main(int argc, char** argv) {
    rejoin::Loop loop;
    rejoin::Listener<rejoin::Resumable<rejoin::Tcp>> collector(loop);
    collector.on_accept([](rejoin::ResumablePipe& sender) {
        sender.on_receive([](rejoin::Bytes bytes) { std::fwrite(bytes.data(), 1, bytes.size(), stdout); });
    });
    if (!collector.listen({"127.0.0.1", 0})) return 1;

    bool running = true, whole = false;
    rejoin::ResumablePipe pipe(loop);
    pipe.on_state([&](rejoin::PipeState state, const rejoin::Failure& why) {
        if (state != rejoin::PipeState::closed) return;
        running = false;
        whole = !why;
    });
    static_cast<void>(pipe.connect(collector.local_endpoint()));

    std::FILE* command = ::popen(argc > 1 ? argv[1] : "uname -sr; uptime", "r");
    if (command == nullptr) return 1;
    bool more = true;
    while (running) {
        std::byte piece[4096];
        const bool room = pipe.statistics().bytes_unacknowledged + sizeof piece <= rejoin::ResumablePipe::Options().transport.replay_limit;
        pollfd watched[] = {{loop.fd(), POLLIN, 0}, {more && room ? ::fileno(command) : -1, POLLIN, 0}};
        ::poll(watched, 2, -1);
        if (watched[1].revents != 0) {
            const ssize_t n = ::read(watched[1].fd, piece, sizeof piece);
            more = n > 0;
            more ? static_cast<void>(pipe.send({piece, static_cast<std::size_t>(n)})) : pipe.close();
        }
        // Timers, too, make the descriptor readable: there is no deadline to ask for.
        if (watched[0].revents != 0) static_cast<void>(loop.run_once(rejoin::Duration()));
    }
    return ::pclose(command) == 0 && whole ? 0 : 1;
}
