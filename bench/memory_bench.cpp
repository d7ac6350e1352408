// SPDX-License-Identifier: BSL-1.0
// What 10,000 idle resumable pipes cost in one process, both sides counted: the heap in use, by malloc's own account, and the process'
// resident memory. The kernel's share of the sockets is not counted.
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <rejoin.hpp>
#include <vector>

namespace {

constexpr double bar = 2048;

std::size_t heap() { return ::mallinfo2().uordblks; }
std::size_t resident() {
    long pages = 0, ignored = 0;
    if (std::FILE* f = std::fopen("/proc/self/statm", "r")) {
        if (std::fscanf(f, "%ld %ld", &ignored, &pages) != 2) pages = 0;
        std::fclose(f);
    }
    return static_cast<std::size_t>(pages) * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

int main() {
    // Two descriptors a pipe: where the system allows fewer than that in one process, as many pipes as it does.
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
    const int pipes_wanted = static_cast<int>(std::min<rlim_t>(10'000, (files.rlim_cur - 50) / 2));

    rejoin::Loop loop;
    using Server = rejoin::Listener<rejoin::Resumable<rejoin::Tcp>>;
    Server::Options options;
    options.limits.half_made_per_peer = options.limits.half_made = static_cast<std::size_t>(pipes_wanted);  // all come from this one host
    Server server{loop, options};
    std::size_t echoed = 0, back = 0;
    server.on_accept([&](rejoin::ResumablePipe& pipe) {
        pipe.on_receive([&](rejoin::Bytes bytes) {
            ++echoed;
            pipe.send(bytes);
        });
    });
    if (!server.listen({"127.0.0.1", 0})) return 1;

    std::vector<std::unique_ptr<rejoin::ResumablePipe>> pipes;
    pipes.reserve(static_cast<std::size_t>(pipes_wanted));
    { rejoin::ResumablePipe warm{loop}; }  // what the loop has once is not counted
    loop.run_once(rejoin::Duration());
    const std::size_t heap_before = heap(), resident_before = resident();
    for (int i = 0; i < pipes_wanted; ++i) {
        pipes.push_back(std::make_unique<rejoin::ResumablePipe>(loop));
        auto& pipe = *pipes.back();
        pipe.on_receive([&](rejoin::Bytes) {
            if (++back == pipes.capacity()) loop.stop();
        });
        pipe.connect(server.local_endpoint());
        pipe.send("hello");
        if (i % 64 == 0) loop.run_once(rejoin::Duration());
    }
    loop.run_for(rejoin::Duration::seconds(60));
    if (back != pipes.capacity()) return std::printf("only %zu of %d pipes answered\n", back, pipes_wanted), 1;
    // Until they are idle: everything acknowledged, and the buffers given back.
    loop.run_for(rejoin::Duration::seconds(12));
    for (const auto& pipe : pipes)
        if (pipe->state() != rejoin::PipeState::connected || pipe->statistics().bytes_unacknowledged != 0) return std::puts("not idle"), 1;

    const double heap_each = static_cast<double>(heap() - heap_before) / pipes_wanted;
    const double resident_each = static_cast<double>(resident() - resident_before) / pipes_wanted;
    std::printf("%d idle resumable pipes, a pipe, both sides: heap in use %.0f bytes, resident %.0f bytes  (bar: at most %.0f)  %s\n",
                pipes_wanted, heap_each, resident_each, bar, heap_each <= bar ? "held" : "MISSED");
    std::printf("of which Pipe %zu, TcpConnection %zu, Session %zu bytes\n", sizeof(rejoin::ResumablePipe), sizeof(rejoin::TcpConnection),
                sizeof(rejoin::session::Session));
    return heap_each <= bar ? 0 : 1;
}
