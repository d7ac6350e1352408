// SPDX-License-Identifier: BSL-1.0
// Many clients of one server that gives everything back, and what they notice: for whoever changes something about the server meanwhile.
#include <cinttypes>
#include <cstdio>
#include <functional>
#include <memory>
#include <rejoin.hpp>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace rejoin;
using Client = Pipe<NoEvents, Resumable<Faulty<Tcp>>, Persistent>;

constexpr const char usage[] =
    "usage: crowd [--sessions N] [--every MS] [--cut MS] HOST:PORT\n"
    "\n"
    "Holds sessions with a server that echoes, and sends 100 bytes over each again and again. Says \"ready\"\n"
    "once every session has had an answer, and a line of what was noticed for each line of its standard\n"
    "input; ends with it, with status 0 if no byte was lost, repeated or altered.\n"
    "\n"
    "  --sessions N  how many (default 100)\n"
    "  --every MS    how long after an answer the next message goes (default 20)\n"
    "  --cut MS      breaks one connection each time so long has passed (default: none)\n";

constexpr std::size_t message_size = 100;

struct Notes {
    std::uint64_t answered = 0, wrong = 0, refused = 0, broken = 0, resumed = 0, lost = 0;
    std::size_t talking = 0;  // sessions that have had an answer
    Duration longest;         // wait for an answer
};

// One client, whose bytes tell where in its stream they belong.
class Talker {
public:
    Talker(Loop& loop, const Endpoint& to, Duration every, std::uint64_t salt, Notes& notes)
        : loop_(loop),
          to_(to),
          every_(every),
          salt_(salt),
          notes_(notes),
          pipe_(loop, options()),
          next_(loop, Delegate<void()>::to<&Talker::talk>(this)) {
        pipe_.on_receive([this](Bytes bytes) { hear(bytes); });
        pipe_.on_state([this](PipeState state, const Failure& why) { state_changed(state, why); });
        begin();
    }

private:
    static Client::Options options() {
        Client::Options options;
        options.recovery.backoff_base = Duration::milliseconds(5);
        return options;
    }
    std::byte at(std::uint64_t offset) const { return static_cast<std::byte>(((offset + salt_) * 0x9e3779b97f4a7c15) >> 56); }

    void begin() {
        sent_ = heard_ = 0;
        static_cast<void>(pipe_.connect(to_));
        talk();
    }
    void talk() {
        std::byte message[message_size];
        for (std::byte& b : message) b = at(sent_++);
        asked_ = loop_.now();
        static_cast<void>(pipe_.send(Bytes(message)));
    }
    void hear(Bytes bytes) {
        for (std::byte b : bytes)
            if (b != at(heard_++)) ++notes_.wrong;
        if (heard_ > sent_) ++notes_.wrong;
        if (heard_ != sent_) return;
        const Duration waited = loop_.now() - asked_;
        if (notes_.longest < waited) notes_.longest = waited;
        ++notes_.answered;
        if (!std::exchange(talking_, true)) ++notes_.talking;
        next_.after(every_);
    }
    void state_changed(PipeState state, const Failure& why) {
        if (why.kind == FailureKind::refused)
            ++notes_.refused;
        else if (state == PipeState::interrupted)
            ++notes_.broken;
        if (state == PipeState::connected && pipe_.statistics().resumes > resumes_) {
            ++notes_.resumed;
            ++resumes_;
        }
        if (state != PipeState::closed) return;
        ++notes_.lost;
        resumes_ = 0;
        next_.cancel();
        if (std::exchange(talking_, false)) --notes_.talking;
        static_cast<void>(loop_.post([this] { begin(); }));
    }

    Loop& loop_;
    const Endpoint to_;
    const Duration every_;
    const std::uint64_t salt_;
    Notes& notes_;
    Client pipe_;
    Loop::Timer next_;
    std::uint64_t sent_ = 0, heard_ = 0;
    std::uint64_t resumes_ = 0;
    bool talking_ = false;
    TimePoint asked_;
};

void print(const Notes& notes) {
    std::printf("answered=%" PRIu64 " wrong=%" PRIu64 " refused=%" PRIu64 " broken=%" PRIu64 " resumed=%" PRIu64 " lost=%" PRIu64
                " talking=%zu longest_ms=%.1f\n",
                notes.answered, notes.wrong, notes.refused, notes.broken, notes.resumed, notes.lost, notes.talking,
                static_cast<double>(notes.longest.nanoseconds()) / 1e6);
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
    int sessions = 100, every = 20, cut = 0, i = 1;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        const std::string name = argv[i];
        int* const option = name == "--sessions" ? &sessions : name == "--every" ? &every : name == "--cut" ? &cut : nullptr;
        if (option == nullptr || std::sscanf(argv[i + 1], "%d", option) != 1 || *option < 0 || *option > 1'000'000) i = argc;
    }
    const Endpoint to = i + 1 == argc ? Endpoint::parse(argv[i]) : Endpoint();
    if (!to.valid() || sessions == 0) {
        std::fputs(usage, stderr);
        return 2;
    }
    Loop loop;
    Notes notes;
    std::vector<std::unique_ptr<Talker>> talkers;
    for (int n = 0; n < sessions; ++n)
        talkers.push_back(
            std::make_unique<Talker>(loop, to, Duration::milliseconds(every), static_cast<std::uint64_t>(n) * 1'000'003, notes));
    while (notes.talking < static_cast<std::size_t>(sessions)) static_cast<void>(loop.run_once(Duration::seconds(1)));
    notes.longest = {};
    std::puts("ready");
    std::fflush(stdout);

    std::function<void()> break_one = [&] {
        Fault fault;
        fault.at = Fault::At::read;
        fault.error = Error::system(ECONNRESET);
        static_cast<void>(Faults::of(loop).add(fault));
        static_cast<void>(loop.after(Duration::milliseconds(cut), [&] { break_one(); }));
    };
    if (cut > 0) break_one();
    std::thread reader([&] {  // not every system can watch a standard input
        char line[256];
        while (std::fgets(line, sizeof line, stdin) != nullptr) static_cast<void>(loop.post([&] { print(notes); }));
        static_cast<void>(loop.post([&] { loop.stop(); }));
    });
    static_cast<void>(loop.run());
    reader.join();
    print(notes);
    return notes.wrong == 0 ? 0 : 1;
}
