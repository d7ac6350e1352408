// SPDX-License-Identifier: BSL-1.0
// A session with 64 KiB of state goes back and forth between two server processes, while a client in a third talks with whoever has it,
// both ways and without a pause. From before the push until the other process has it; and whether a byte was lost or repeated.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <rejoin.hpp>
#include <string>
#include <vector>

namespace {

using namespace rejoin;
using handoff::Channel;
using handoff::Parcel;
using Server = Listener<Resumable<Tcp>, NoEvents, Persistent>;
using Client = Pipe<NoEvents, Resumable<Tcp>, Persistent>;

constexpr std::uint32_t pushes = 10'000;
constexpr std::size_t state_size = 64 * 1024;
constexpr double bar_ms = 1.0;

struct Shared {
    std::uint32_t count = 0, wrong = 0, port = 0;
    std::int64_t started = 0;
    std::int64_t took[pushes] = {};
    std::uint64_t state = 0;  // bytes of it, in all
};
Shared* shared = nullptr;
template <class T>
T load(const T& from) {
    return __atomic_load_n(&from, __ATOMIC_ACQUIRE);
}
template <class T>
void store(T& to, T value) {
    __atomic_store_n(&to, value, __ATOMIC_RELEASE);
}
// Bytes that tell where in the stream they belong.
std::byte at(std::uint64_t offset) { return static_cast<std::byte>((offset * 0x9e3779b97f4a7c15) >> 56); }
void check(Bytes bytes, std::uint64_t& offset) {
    for (std::byte b : bytes)
        if (b != at(offset++)) __atomic_add_fetch(&shared->wrong, 1u, __ATOMIC_RELAXED);
}
template <class P>
void fill(P& pipe, std::uint64_t& sent) {
    for (;;) {
        std::byte piece[4096];
        for (std::size_t i = 0; i < sizeof piece; ++i) piece[i] = at(sent + i);
        if (!pipe.send(Bytes(piece))) return;
        sent += sizeof piece;
    }
}

class Worker {
public:
    explicit Worker(Socket channel_end) : server_(loop_, options()), channel_(loop_) {
        server_.on_accept([this](Server::AcceptedPipe& pipe) {
            pipe.on_drained([this, &pipe] { fill(pipe, sent_); });
            pipe.on_receive([this, &pipe](Bytes bytes) {
                check(bytes, received_);
                heard_ += bytes.size();
                if (heard_ < 10'000 || due_ || load(shared->count) == pushes) return;
                due_ = true;
                static_cast<void>(loop_.post([this, &pipe] { push(pipe); }));
            });
            pipe.on_state([this, &pipe](PipeState state, const Failure&) {
                if (state == PipeState::connected) fill(pipe, sent_);
            });
        });
        channel_.on_parcel([this](Parcel&& parcel) { take(std::move(parcel)); });
        if (!channel_.start(std::move(channel_end))) ::_exit(1);
    }
    [[noreturn]] void run(bool first) {
        if (first) {
            if (!server_.listen({"127.0.0.1", 0})) ::_exit(1);
            store(shared->port, std::uint32_t{server_.local_endpoint().port()});
        }
        static_cast<void>(loop_.run());
        ::_exit(1);
    }

private:
    // So much is on its way at most, and with a client that is never quicker, as much is.
    static Server::Options options() {
        Server::Options options;
        options.pipe.transport.replay_limit = state_size + 8192;
        return options;
    }
    void push(Server::AcceptedPipe& pipe) {
        fill(pipe, sent_);
        __atomic_add_fetch(&shared->state, pipe.statistics().bytes_unacknowledged, __ATOMIC_RELAXED);
        const std::string note = std::to_string(sent_) + ' ' + std::to_string(received_);
        store(shared->started, monotonic_now().nanoseconds());
        if (!handoff::push(channel_, pipe, note, [](Error error, Parcel&&) {
                if (error) ::_exit(1);
            }))
            ::_exit(1);
    }
    void take(Parcel&& parcel) {
        const std::string note(parcel.note.data(), parcel.note.size());
        if (std::sscanf(note.c_str(), "%lu %lu", &sent_, &received_) != 2) ::_exit(1);
        due_ = false;
        heard_ = 0;
        if (!server_.adopt(std::move(parcel))) ::_exit(1);
        const std::uint32_t n = load(shared->count);
        shared->took[n] = monotonic_now().nanoseconds() - load(shared->started);
        store(shared->count, n + 1);
    }

    Loop loop_;
    Server server_;
    Channel channel_;
    unsigned long sent_ = 0, received_ = 0;
    std::size_t heard_ = 0;  // since it came
    bool due_ = false;
};

}  // namespace

int main() {
    shared = static_cast<Shared*>(::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    Socket ends[2];
    if (shared == MAP_FAILED || !UnixSocket::pair(ends[0], ends[1])) return 1;
    pid_t workers[2];
    for (int i = 0; i < 2; ++i) {
        workers[i] = ::fork();
        if (workers[i] != 0) continue;
        ends[1 - i].close();
        Worker(std::move(ends[i])).run(i == 0);
    }
    for (Socket& end : ends) end.close();
    while (load(shared->port) == 0) ::usleep(1000);

    Loop loop;
    Client client(loop);
    std::uint64_t sent = 0, received = 0, interruptions = 0;
    client.on_receive([&](Bytes bytes) { check(bytes, received); });
    client.on_drained([&] { fill(client, sent); });
    client.on_state([&](PipeState state, const Failure&) { interruptions += state == PipeState::interrupted; });
    if (!client.connect({"127.0.0.1", static_cast<int>(load(shared->port))})) return 1;
    fill(client, sent);
    while (load(shared->count) < pushes && ::waitpid(-1, nullptr, WNOHANG) == 0)
        static_cast<void>(loop.run_once(Duration::milliseconds(10)));
    for (pid_t worker : workers) ::kill(worker, SIGKILL);

    const std::uint32_t n = load(shared->count);
    if (n < pushes) return std::printf("a worker gave up after %u pushes\n", n), 1;
    std::sort(shared->took, shared->took + n);
    const auto ms = [&](std::size_t i) { return static_cast<double>(shared->took[i]) / 1e6; };
    const bool held = ms(n / 2) < bar_ms && shared->wrong == 0 && interruptions == 0;
    std::printf("%u pushes of a session with %.0f KiB of state: median %.3f ms, 99%% %.3f ms, longest %.3f ms  (bar: under %.0f ms)\n", n,
                static_cast<double>(shared->state) / n / 1024, ms(n / 2), ms(n * 99 / 100), ms(n - 1), bar_ms);
    std::printf("client: %.1f MB up, %.1f MB down, %u bytes wrong, %lu interruptions  %s\n", static_cast<double>(sent) / 1e6,
                static_cast<double>(received) / 1e6, shared->wrong, static_cast<unsigned long>(interruptions), held ? "held" : "MISSED");
    return held ? 0 : 1;
}
