// SPDX-License-Identifier: BSL-1.0
// Throughput over loopback, one thread a side: `Resumable<Tcp>` against raw send and recv with the same message sizes. The runs of both are
// interleaved; medians and their ratio are printed, and the exit status says whether the bars hold.
#include <arpa/inet.h>
#include <benchmark/benchmark.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rejoin.hpp>
#include <thread>
#include <vector>

#include "ratio.hpp"

namespace {

constexpr std::size_t bytes_per_run(std::size_t message) { return message >= 65536 ? std::size_t{256} << 20 : std::size_t{32} << 20; }

void raw(benchmark::State& state) {
    const auto message = static_cast<std::size_t>(state.range(0));
    const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    ::bind(listener, reinterpret_cast<sockaddr*>(&at), size);
    ::listen(listener, 1);
    ::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size);
    const int out = ::socket(AF_INET, SOCK_STREAM, 0);
    ::connect(out, reinterpret_cast<sockaddr*>(&at), sizeof at);
    const int in = ::accept(listener, nullptr, nullptr);
    const int one = 1;
    ::setsockopt(out, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);

    const std::size_t total = bytes_per_run(message);
    std::thread reader([&] {
        std::vector<char> buffer(message > 65536 ? message : 65536);
        std::size_t in_run = 0;
        for (ssize_t n; (n = ::recv(in, buffer.data(), buffer.size(), 0)) > 0;)
            if ((in_run += static_cast<std::size_t>(n)) == total) {
                in_run = 0;
                if (::send(in, "x", 1, MSG_NOSIGNAL) != 1) return;
            }
    });
    const std::vector<char> bytes(message, 'r');
    for (auto _ : state) {
        for (std::size_t sent = 0; sent < total;) {
            const ssize_t n = ::send(out, bytes.data(), message, MSG_NOSIGNAL);
            if (n <= 0) return state.SkipWithError("send failed");
            sent += static_cast<std::size_t>(n);
        }
        char done;
        if (::recv(out, &done, 1, 0) != 1) return state.SkipWithError("recv failed");
    }
    ::close(out);
    reader.join();
    ::close(in);
    ::close(listener);
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(total));
}

void resumable(benchmark::State& state) {
    const auto message = static_cast<std::size_t>(state.range(0));
    const std::size_t total = bytes_per_run(message);
    rejoin::Endpoint at;
    rejoin::Loop server_loop;
    rejoin::Listener<rejoin::Resumable<rejoin::Tcp>, rejoin::NoEvents> server{server_loop};
    std::size_t in_run = 0;
    server.on_accept([&](auto& pipe) {
        pipe.on_receive([&](rejoin::Bytes bytes) {
            if ((in_run += bytes.size()) == total) {
                in_run = 0;
                pipe.send("x");
            }
        });
    });
    if (!server.listen({"127.0.0.1", 0})) return state.SkipWithError("listen failed");
    at = server.local_endpoint();
    std::thread reader([&] { server_loop.run(); });

    rejoin::Loop loop;
    rejoin::Pipe<rejoin::NoEvents, rejoin::Resumable<rejoin::Tcp>, rejoin::Persistent> pipe{loop};
    const std::vector<std::byte> bytes(message, std::byte{'r'});
    std::size_t sent = total;
    // As much as the pipe takes; `on_drained` goes on.
    const auto fill = [&] {
        while (sent < total && pipe.send(bytes)) sent += message;
    };
    pipe.on_drained(fill);
    pipe.on_state([&](rejoin::PipeState s, const rejoin::Failure&) {
        if (s == rejoin::PipeState::connected) loop.stop();
    });
    pipe.on_receive([&](rejoin::Bytes) { loop.stop(); });
    pipe.connect(at);
    loop.run();
    for (auto _ : state) {
        sent = 0;
        fill();
        loop.run();
    }
    pipe.abort();
    server_loop.post([&] { server_loop.stop(); });
    reader.join();
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(total));
}

}  // namespace

int main(int argc, char** argv) {
    Ratios ratios(argc, argv);
    ratios.compare("64 KiB messages", resumable, raw, 65536, "raw send and recv", 0.85);
    ratios.compare("1 KiB messages in bursts", resumable, raw, 1024, "raw send and recv", 2.0);
    ratios.compare("64 byte messages in bursts", resumable, raw, 64, "raw send and recv", 2.0);
    return ratios.run();
}
