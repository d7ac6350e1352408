// SPDX-License-Identifier: BSL-1.0
// One publisher and one subscriber through a Mosquitto on loopback, 64-byte messages: mqtt::Client beside libmosquitto and Paho C, each in
// a process of its own, whose processor time is counted, all its threads included. Then single messages, one at a time, and their latency.
// At last what it costs to read and decode messages that wait: libmosquitto has no decoder to be called apart, so both read them from a
// socket.
#include <MQTTAsync.h>
#include <mosquitto.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <rejoin/signal.hpp>
#include <string>
#include <vector>

namespace {

using namespace rejoin;

constexpr int messages = 200'000, singles = 5'000;
// So many are under way at most, of each, so that the broker never has to drop one; when half of them are back, as many go out.
constexpr int window = 1000;
constexpr char topic[] = "bench/0123456789/0123456789/01234";
char payload[65] = "0123456789012345678901234567890123456789012345678901234567890123";
int port = 0;

struct Figures {
    double seconds = 0, processor = 0;      // of all messages; of the process, in seconds
    double median = 0, p99 = 0, worst = 0;  // microseconds, of single ones
};
double processor_time() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}
double now_us() { return static_cast<double>(monotonic_now().nanoseconds()) / 1e3; }

// Counts what comes back, and says when to send: the same for all three.
struct Course {
    int total = messages, at_once = window;
    int sent = 0, came = 0;
    bool filling = false;
    double started = now_us(), processor = processor_time(), sent_at = 0;
    std::vector<double> latencies;

    bool may_send() {
        if (sent - came <= at_once / 2) filling = true;
        if (sent == total || sent - came == at_once) filling = false;
        return filling;
    }
    void sends() {
        ++sent;
        if (at_once == 1) sent_at = now_us();
    }
    void comes() {
        ++came;
        if (at_once == 1) latencies.push_back(now_us() - sent_at);
    }
    bool done() const { return came == total; }
    Figures result() {
        Figures r;
        r.seconds = (now_us() - started) / 1e6;
        r.processor = processor_time() - processor;
        if (latencies.empty()) return r;
        std::sort(latencies.begin(), latencies.end());
        r.median = latencies[latencies.size() / 2];
        r.p99 = latencies[latencies.size() * 99 / 100];
        r.worst = latencies.back();
        return r;
    }
};
// Begins when everybody is connected and subscribed.
Course course(bool single) {
    Course c;
    if (single) c.total = singles, c.at_once = 1;
    return c;
}

Figures run_rejoin(int qos, bool single) {
    Loop loop;
    mqtt::Client<>::Options options;
    options.version = mqtt::Version::v3_1_1;
    options.limits.in_flight = window;
    mqtt::Client<> from(loop, options), to(loop, options);
    mqtt::Connect who;
    who.client_id = "from";
    if (!from.connect({"127.0.0.1", port}, who)) std::abort();
    who.client_id = "to";
    if (!to.connect({"127.0.0.1", port}, who)) std::abort();
    bool ready = false;
    Course c;
    const auto fill = [&] {
        while (c.may_send()) {
            c.sends();
            if (!from.publish(topic, payload, static_cast<mqtt::Qos>(qos))) std::abort();
        }
    };
    to.on_subscription([&](mqtt::Token, mqtt::Reason) {
        ready = true;
        loop.stop();
    });
    to.on_message([&](const mqtt::Packet&) {
        c.comes();
        if (c.done()) return loop.stop();
        fill();
    });
    if (!to.subscribe(topic, static_cast<mqtt::Qos>(qos))) std::abort();
    while (!ready || from.state() != mqtt::ClientState::connected) static_cast<void>(loop.run_once(Duration::seconds(1)));
    c = course(single);
    fill();
    static_cast<void>(loop.run());
    return c.result();
}

// By its own functions for a program's event loop, which costs it the least.
Figures run_libmosquitto(int qos, bool single) {
    struct Context {
        Course c;
        bool ready = false, connected = false;
    } context;
    mosquitto_lib_init();
    mosquitto* const from = mosquitto_new("from", true, &context);
    mosquitto* const to = mosquitto_new("to", true, &context);
    mosquitto_max_inflight_messages_set(from, window);
    mosquitto_connect_callback_set(from, [](mosquitto*, void* to_it, int) { static_cast<Context*>(to_it)->connected = true; });
    mosquitto_subscribe_callback_set(to, [](mosquitto*, void* to_it, int, int, const int*) { static_cast<Context*>(to_it)->ready = true; });
    mosquitto_message_callback_set(to, [](mosquitto*, void* to_it, const mosquitto_message*) { static_cast<Context*>(to_it)->c.comes(); });
    for (mosquitto* m : {from, to}) {
        if (mosquitto_connect(m, "127.0.0.1", port, 60) != MOSQ_ERR_SUCCESS) std::abort();
        const int on = 1;
        ::setsockopt(mosquitto_socket(m), IPPROTO_TCP, 1, &on, sizeof on);  // TCP_NODELAY
    }
    mosquitto_subscribe(to, nullptr, topic, qos);
    const auto turn = [&] {
        pollfd polled[2];
        mosquitto* const all[] = {from, to};
        for (int i = 0; i < 2; ++i)
            polled[i] = {mosquitto_socket(all[i]), static_cast<short>(POLLIN | (mosquitto_want_write(all[i]) ? POLLOUT : 0)), 0};
        ::poll(polled, 2, 1000);
        for (int i = 0; i < 2; ++i) {
            if ((polled[i].revents & POLLIN) != 0) mosquitto_loop_read(all[i], 1);
            if (mosquitto_want_write(all[i])) mosquitto_loop_write(all[i], 1);
        }
    };
    while (!context.ready || !context.connected) turn();
    context.c = course(single);
    while (!context.c.done()) {
        while (context.c.may_send()) {
            context.c.sends();
            if (mosquitto_publish(from, nullptr, topic, 64, payload, qos, false) != MOSQ_ERR_SUCCESS) std::abort();
        }
        turn();
    }
    return context.c.result();
}

Figures run_paho(int qos, bool single) {
    struct Context {
        std::mutex mutex;
        std::condition_variable changed;
        Course c;
        int there = 0;
        MQTTAsync from = nullptr;
        int qos = 0;
    } context;
    context.qos = qos;
    const std::string server = "tcp://127.0.0.1:" + std::to_string(port);
    MQTTAsync to = nullptr;
    MQTTAsync_create(&context.from, server.c_str(), "from", MQTTCLIENT_PERSISTENCE_NONE, nullptr);
    MQTTAsync_create(&to, server.c_str(), "to", MQTTCLIENT_PERSISTENCE_NONE, nullptr);
    MQTTAsync_setCallbacks(
        to, &context, nullptr,
        [](void* to_it, char* name, int, MQTTAsync_message* message) {
            auto& all = *static_cast<Context*>(to_it);
            {
                const std::lock_guard lock(all.mutex);
                all.c.comes();
            }
            all.changed.notify_one();
            MQTTAsync_freeMessage(&message);
            MQTTAsync_free(name);
            return 1;
        },
        nullptr);
    const auto succeeded = [](void* to_it, MQTTAsync_successData*) {
        auto& all = *static_cast<Context*>(to_it);
        const std::lock_guard lock(all.mutex);
        ++all.there;
        all.changed.notify_one();
    };
    for (MQTTAsync client : {context.from, to}) {
        MQTTAsync_connectOptions options = MQTTAsync_connectOptions_initializer;
        options.maxInflight = window;
        options.context = &context;
        options.onSuccess = succeeded;
        if (MQTTAsync_connect(client, &options) != MQTTASYNC_SUCCESS) std::abort();
    }
    std::unique_lock lock(context.mutex);
    context.changed.wait(lock, [&] { return context.there == 2; });
    lock.unlock();
    MQTTAsync_responseOptions subscribing = MQTTAsync_responseOptions_initializer;
    subscribing.context = &context;
    subscribing.onSuccess = succeeded;
    if (MQTTAsync_subscribe(to, topic, qos, &subscribing) != MQTTASYNC_SUCCESS) std::abort();
    lock.lock();
    context.changed.wait(lock, [&] { return context.there == 3; });
    context.c = course(single);
    while (!context.c.done()) {
        while (context.c.may_send()) {
            context.c.sends();
            lock.unlock();
            if (MQTTAsync_send(context.from, topic, 64, payload, qos, 0, nullptr) != MQTTASYNC_SUCCESS) std::abort();
            lock.lock();
        }
        context.changed.wait(lock, [&] { return context.c.may_send() || context.c.done(); });
    }
    return context.c.result();
}

Figures in_a_process(Figures (*run)(int, bool), int qos, bool single) {
    int ends[2];
    if (::pipe(ends) != 0) std::abort();
    const pid_t child = ::fork();
    if (child == 0) {
        const Figures result = run(qos, single);
        static_cast<void>(!::write(ends[1], &result, sizeof result));
        ::_exit(0);
    }
    Figures result;
    ::close(ends[1]);
    if (::read(ends[0], &result, sizeof result) != sizeof result) std::abort();
    ::close(ends[0]);
    ::waitpid(child, nullptr, 0);
    return result;
}

// A server that lets its first client in, and then says all messages at once, over and over.
pid_t talker(int& at) {
    auto made = Socket::tcp(Family::v4);
    if (!made || !made->bind(IpAddress::v4(127, 0, 0, 1), 0) || !made->listen(1)) std::abort();
    at = made->local_endpoint().port();
    const pid_t child = ::fork();
    if (child != 0) return child;
    pollfd polled{made->fd(), POLLIN, 0};
    ::poll(&polled, 1, -1);
    const int client = ::accept(made->fd(), nullptr, nullptr);
    char connect[200];
    mqtt::Publish publish;
    publish.topic = topic;
    publish.payload = {reinterpret_cast<const std::byte*>(payload), 64};
    const std::size_t one = mqtt::size_of(mqtt::Version::v3_1_1, publish);
    std::vector<std::byte> all(one * 500);
    for (std::size_t i = 0; i < 500; ++i) mqtt::write(all.data() + i * one, mqtt::Version::v3_1_1, publish);
    bool ok = ::read(client, connect, sizeof connect) > 0 && ::write(client, "\x20\2\0\0", 4) == 4;
    for (std::size_t said = 0; ok && said < messages; said += 500) ok = ::write(client, all.data(), all.size()) == ssize_t(all.size());
    ::pause();
    ::_exit(0);
}
// Nanoseconds of processor time for each message.
double reads_rejoin(int at) {
    Loop loop;
    mqtt::Client<NoEvents, Tcp, FailFast>::Options options;
    options.version = mqtt::Version::v3_1_1;
    mqtt::Client<NoEvents, Tcp, FailFast> client(loop, options);
    int came = 0;
    client.on_message([&](const mqtt::Packet&) {
        if (++came == messages) loop.stop();
    });
    const double before = processor_time();
    if (!client.connect({"127.0.0.1", at}, mqtt::Connect())) std::abort();
    static_cast<void>(loop.run());
    return (processor_time() - before) * 1e9 / messages;
}
double reads_libmosquitto(int at) {
    mosquitto_lib_init();
    int came = 0;
    mosquitto* const client = mosquitto_new("me", true, &came);
    mosquitto_message_callback_set(client, [](mosquitto*, void* count, const mosquitto_message*) { ++*static_cast<int*>(count); });
    const double before = processor_time();
    if (mosquitto_connect(client, "127.0.0.1", at, 60) != MOSQ_ERR_SUCCESS) std::abort();
    while (came < messages) {
        pollfd polled{mosquitto_socket(client), static_cast<short>(POLLIN | (mosquitto_want_write(client) ? POLLOUT : 0)), 0};
        ::poll(&polled, 1, 1000);
        if ((polled.revents & POLLOUT) != 0) mosquitto_loop_write(client, 1);
        if ((polled.revents & POLLIN) != 0) mosquitto_loop_read(client, 100);
    }
    return (processor_time() - before) * 1e9 / messages;
}

}  // namespace

int main() {
    auto probe = Socket::tcp(Family::v4);
    probe->reuse_address();
    if (!probe->bind(IpAddress::v4(127, 0, 0, 1), 0)) return 1;
    port = probe->local_endpoint().port();
    char conf[] = "/tmp/rejoin-bench-XXXXXX";
    const int file = ::mkstemp(conf);
    const std::string text =
        "listener " + std::to_string(port) +
        " 127.0.0.1\nallow_anonymous true\nuser root\nset_tcp_nodelay true\nmax_inflight_messages 0\nmax_queued_messages 0\n";
    if (::write(file, text.data(), text.size()) < 0) return 1;
    const pid_t broker = ::fork();
    if (broker == 0) {
        static_cast<void>(!std::freopen("/dev/null", "w", stderr));
        ::execlp("mosquitto", "mosquitto", "-c", conf, nullptr);
        ::execl("/usr/sbin/mosquitto", "mosquitto", "-c", conf, nullptr);
        ::_exit(127);
    }
    ::sleep(1);

    bool held = true;
    const auto bar = [&](bool ok) {
        held = held && ok;
        return ok ? "held" : "MISSED";
    };
    for (int qos : {0, 1}) {
        // Medians of three, one after another in turn.
        std::vector<double> us[3];
        for (int round = 0; round < 3; ++round) {
            int i = 0;
            for (auto* run : {run_rejoin, run_libmosquitto, run_paho})
                us[i++].push_back(in_a_process(run, qos, false).processor * 1e6 / messages);
        }
        for (auto& values : us) std::sort(values.begin(), values.end());
        const double ours = us[0][1], theirs = us[1][1];
        std::printf(
            "QoS %d, %d messages of 64 bytes, processor time a message: rejoin %.2f us, libmosquitto %.2f us, Paho %.2f us; %.2f times "
            "libmosquitto's (bar: 0.50) %s\n",
            qos, messages, ours, theirs, us[2][1], ours / theirs, bar(ours <= theirs / 2));
    }
    for (int qos : {0, 1}) {
        // Medians of five, taken in turns.
        std::vector<double> medians[3], p99s[3];
        double worst = 0;
        for (int round = 0; round < 5; ++round) {
            int i = 0;
            for (auto* run : {run_rejoin, run_libmosquitto, run_paho}) {
                const Figures one = in_a_process(run, qos, true);
                if (i == 0) worst = std::max(worst, one.worst);
                medians[i].push_back(one.median);
                p99s[i++].push_back(one.p99);
            }
        }
        for (auto* all : {medians, p99s})
            for (int i = 0; i < 3; ++i) std::sort(all[i].begin(), all[i].end());
        const bool ok = medians[0][2] <= medians[1][2] && p99s[0][2] <= p99s[1][2];
        std::printf(
            "QoS %d, one message at a time: median and 99 %% rejoin %.0f and %.0f us (worst %.0f), libmosquitto %.0f and %.0f, Paho %.0f "
            "and %.0f (bar: not above libmosquitto's, and none of 40 ms) %s\n",
            qos, medians[0][2], p99s[0][2], worst, medians[1][2], p99s[1][2], medians[2][2], p99s[2][2], bar(ok && worst < 40'000));
    }
    std::vector<double> reads[2];
    for (int round = 0; round < 5; ++round) {
        int i = 0;
        for (auto* run : {reads_rejoin, reads_libmosquitto}) {
            int at = 0;
            const pid_t child = talker(at);
            reads[i++].push_back(run(at));
            ::kill(child, SIGKILL);
            ::waitpid(child, nullptr, 0);
        }
    }
    for (auto& values : reads) std::sort(values.begin(), values.end());
    std::printf("%d messages of 64 bytes that wait in a socket, read and decoded: rejoin %.0f ns each, libmosquitto %.0f ns: %.2f times\n",
                messages, reads[0][2], reads[1][2], reads[0][2] / reads[1][2]);
    ::kill(broker, SIGKILL);
    ::waitpid(broker, nullptr, 0);
    ::unlink(conf);
    return held ? 0 : 1;
}
