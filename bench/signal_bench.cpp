// SPDX-License-Identifier: BSL-1.0
// Two peers in one process, by way of three Mosquittos on loopback. How soon the first message arrives when two of the brokers are dead
// from the start; how long single messages take by one broker alone and by three; and 100,000 messages while every second a broker is
// killed, stopped or restarted at random.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <rejoin/signal.hpp>
#include <string>
#include <vector>

namespace {

using namespace rejoin;

class Broker {
public:
    Broker() {
        auto probe = Socket::tcp(Family::v4);
        probe->reuse_address();
        if (!probe->bind(IpAddress::v4(127, 0, 0, 1), 0)) std::abort();
        port_ = probe->local_endpoint().port();
        const int file = ::mkstemp(conf_);
        const std::string text =
            "listener " + std::to_string(port_) + " 127.0.0.1\nallow_anonymous true\nuser root\nset_tcp_nodelay true\n";
        if (::write(file, text.data(), text.size()) < 0) std::abort();
        ::close(file);
        start();
    }
    ~Broker() {
        kill();
        ::unlink(conf_);
    }
    void start() {
        process_ = ::fork();
        if (process_ != 0) return;
        static_cast<void>(!std::freopen("/dev/null", "w", stderr));
        ::execlp("mosquitto", "mosquitto", "-c", conf_, nullptr);
        ::execl("/usr/sbin/mosquitto", "mosquitto", "-c", conf_, nullptr);
        ::_exit(127);
    }
    void signal(int number) { ::kill(process_, number); }
    void kill() {
        signal(SIGKILL);
        ::waitpid(process_, nullptr, 0);
    }
    Endpoint endpoint() const { return {"127.0.0.1", port_}; }

private:
    char conf_[32] = "/tmp/rejoin-bench-XXXXXX";
    int port_ = 0;
    pid_t process_ = -1;
};

using Brokers = std::vector<std::unique_ptr<Broker>>;
double now_ms() { return static_cast<double>(monotonic_now().nanoseconds()) / 1e6; }
double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

struct Pair {
    explicit Pair(const Brokers& brokers) : alice(loop, "alice"), bob(loop, "bob") {
        for (auto& broker : brokers)
            for (Signal<>* peer : {&alice, &bob})
                if (!peer->add_broker(broker->endpoint())) std::abort();
        for (Signal<>* peer : {&alice, &bob})
            if (!peer->share_key("", TextView("a key for the bench").bytes())) std::abort();
    }
    bool all_up(int brokers) const {
        for (int i = 0; i < brokers; ++i)
            if (!alice.health(i).up || !bob.health(i).up) return false;
        return true;
    }
    Loop loop;
    Signal<> alice, bob;
};

// From nothing until the first message has come, in milliseconds.
double first_message(const Brokers& brokers) {
    const double start = now_ms();
    Pair pair(brokers);
    pair.bob.on_message([&](const signalling::Event&) { pair.loop.stop(); });
    if (!pair.alice.send("bob", "hello")) std::abort();
    static_cast<void>(pair.loop.run());
    return now_ms() - start;
}
// Of single messages, one after another.
double latency(const Brokers& brokers, int count) {
    Pair pair(brokers);
    while (!pair.all_up(static_cast<int>(brokers.size()))) static_cast<void>(pair.loop.run_once(Duration::milliseconds(100)));
    std::vector<double> all;
    double sent = 0;
    const auto send = [&] {
        sent = now_ms();
        if (!pair.alice.send("bob", "0123456789012345678901234567890123456789012345678901234567890123")) std::abort();
    };
    pair.bob.on_message([&](const signalling::Event&) { all.push_back(now_ms() - sent); });
    // The next goes out when the last is done with, so that acknowledgements do not meet messages.
    pair.alice.on_delivery([&](signalling::Token, Error) { static_cast<int>(all.size()) < count ? send() : pair.loop.stop(); });
    send();
    static_cast<void>(pair.loop.run());
    return median(all);
}

}  // namespace

int main(int argc, char** argv) {
    const int count = argc > 1 ? std::atoi(argv[1]) : 100'000;
    bool held = true;
    const auto bar = [&](bool ok) {
        held = held && ok;
        return ok ? "held" : "MISSED";
    };
    Brokers brokers;
    for (int i = 0; i < 3; ++i) brokers.push_back(std::make_unique<Broker>());
    ::sleep(1);

    {
        Brokers dead;
        std::vector<double> with_all, with_one;
        for (int i = 0; i < 21; ++i) with_all.push_back(first_message(brokers));
        brokers[0]->kill();
        brokers[1]->kill();
        for (int i = 0; i < 21; ++i) with_one.push_back(first_message(brokers));
        brokers[0]->start();
        brokers[1]->start();
        ::sleep(1);
        const double a = median(with_all), b = median(with_one);
        std::printf("first message, from nothing: %.2f ms with three brokers, %.2f ms with two of them dead: %.2f times (bar: 1.5) %s\n", a,
                    b, b / a, bar(b <= a * 1.5));
    }
    {
        std::vector<double> ratios, alone, together;
        for (int round = 0; round < 5; ++round) {
            double fastest = 1e9;
            for (auto& broker : brokers) {
                Brokers one;
                one.push_back(std::move(broker));
                fastest = std::min(fastest, latency(one, 1000));
                broker = std::move(one[0]);
            }
            alone.push_back(fastest);
            together.push_back(latency(brokers, 1000));
            ratios.push_back(together.back() / fastest);
        }
        std::printf("single messages, median: %.0f us by the fastest broker alone, %.0f us by three: %.2f times (bar: 1.10) %s\n",
                    median(alone) * 1e3, median(together) * 1e3, median(ratios), bar(median(ratios) <= 1.1));
    }

    Pair pair(brokers);
    std::mt19937 random(1);
    int sent = 0, came = 0, repeated_or_reordered = 0, told = 0, failed = 0, blows = 0;
    std::vector<double> sent_at(static_cast<std::size_t>(count)), latencies;
    signalling::SendOptions options;
    options.ordered = true;
    options.expiry = Duration::seconds(600);
    enum class State { alive, dead, stopped } state[3] = {};
    pair.bob.on_message([&](const signalling::Event& event) {
        const int number = std::atoi(std::string(event.text().data(), event.text().size()).c_str());
        if (number != came) ++repeated_or_reordered;
        ++came;
        latencies.push_back(now_ms() - sent_at[static_cast<std::size_t>(number)]);
    });
    pair.alice.on_delivery([&](signalling::Token, Error error) {
        ++told;
        failed += error ? 1 : 0;
        if (told == count) pair.loop.stop();
    });
    const double start = now_ms();
    double next_blow = start + 1000;
    while (told < count) {
        // 2,000 a second, and never more than 200 ahead of what has arrived.
        const double now = now_ms();
        while (sent < count && sent < (now - start) * 2 && sent - told < 200) {
            sent_at[static_cast<std::size_t>(sent)] = now;
            if (!pair.alice.send("bob", std::to_string(sent), options)) break;
            ++sent;
        }
        if (now >= next_blow) {
            next_blow = now + 1000;
            // Each of them is killed, stopped, or made to go on, unless it is so already.
            for (std::size_t i = 0; i < 3; ++i) {
                const State next = static_cast<State>(random() % 3);
                if (next == state[i]) continue;
                ++blows;
                if (state[i] == State::stopped) brokers[i]->signal(SIGCONT);
                if (next == State::dead) brokers[i]->kill();
                if (state[i] == State::dead) brokers[i]->start();
                if (next == State::stopped) brokers[i]->signal(SIGSTOP);
                state[i] = next;
            }
        }
        static_cast<void>(pair.loop.run_once(Duration::milliseconds(1)));
        if (now - start > 600'000) break;
    }
    std::sort(latencies.begin(), latencies.end());
    std::printf(
        "%d messages in order while brokers were killed, stopped or restarted %d times: %d came, %d repeated or reordered, %d failed; "
        "%.0f s, median %.2f ms, 99 %% %.0f ms, worst %.0f ms; %llu sent again, %llu duplicates dropped (bar: all once) %s\n",
        count, blows, came, repeated_or_reordered, failed, (now_ms() - start) / 1000, latencies[latencies.size() / 2],
        latencies[latencies.size() * 99 / 100], latencies.back(), static_cast<unsigned long long>(pair.alice.counters().sent_again),
        static_cast<unsigned long long>(pair.bob.counters().duplicates), bar(came == count && repeated_or_reordered == 0 && failed == 0));
    for (std::size_t i = 0; i < 3; ++i)
        if (state[i] == State::stopped) brokers[i]->signal(SIGCONT);
    return held ? 0 : 1;
}
