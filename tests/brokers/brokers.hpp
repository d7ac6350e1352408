// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <rejoin/mqtt_client.hpp>
#include <string>

#include "pipe/support.hpp"
#include "skip.hpp"

namespace brokers {

inline bool there_is(const char* program) {
    return std::system(("command -v " + std::string(program) + " >/dev/null || test -x /usr/sbin/" + program).c_str()) == 0;
}
/// Runs a program to its end; what it printed.
inline std::string output_of(const std::string& command) {
    std::string all;
    FILE* const pipe = ::popen(command.c_str(), "r");
    REQUIRE(pipe != nullptr);
    for (int c; (c = std::fgetc(pipe)) != EOF;) all += static_cast<char>(c);
    REQUIRE(::pclose(pipe) == 0);
    return all;
}

/// A broker of this test's own, in a folder of its own, on a port that was free.
class Broker {
public:
    Broker(const Broker&) = delete;
    virtual ~Broker() {
        kill();
        static_cast<void>(std::system(("rm -r " + folder()).c_str()));
    }
    Endpoint endpoint() const { return {"127.0.0.1", port_}; }
    std::string folder() const { return folder_; }
    std::string port() const { return std::to_string(port_); }

    void start() {
        process_ = ::fork();
        if (process_ == 0) {
            static_cast<void>(!std::freopen("/dev/null", "w", stderr));
            run();
            ::_exit(127);
        }
        for (int i = 0; i < 6000; ++i) {
            auto probe = Socket::tcp(Family::v4);
            REQUIRE(probe);
            static_cast<void>(probe->connect(IpAddress::v4(127, 0, 0, 1), static_cast<std::uint16_t>(port_)));
            if (wait_for(*probe, poll_out) && !probe->take_error()) return;
            REQUIRE(::waitpid(process_, nullptr, WNOHANG) == 0);
            ::usleep(10'000);
        }
        FAIL("the broker does not start");
    }
    void signal(int number) { ::kill(process_, number); }
    /// Ends it, by that signal, and waits until it is gone.
    void kill(int number = SIGKILL) {
        if (process_ <= 0) return;
        signal(number);
        ::waitpid(process_, nullptr, 0);
        process_ = -1;
    }

protected:
    Broker() {
        REQUIRE(::mkdtemp(folder_) != nullptr);
        auto probe = Socket::tcp(Family::v4);
        REQUIRE(probe);
        probe->reuse_address();  // a port at once
        REQUIRE(probe->bind(IpAddress::v4(127, 0, 0, 1), 0));
        port_ = probe->local_endpoint().port();
    }
    void write_configuration(const std::string& text) {
        FILE* const file = std::fopen((folder() + "/conf").c_str(), "w");
        REQUIRE(file != nullptr);
        std::fputs(text.c_str(), file);
        std::fclose(file);
    }

private:
    virtual void run() = 0;

    char folder_[32] = "/tmp/rejoin-broker-XXXXXX";
    int port_ = 0;
    pid_t process_ = -1;
};

/// Mosquitto.
class Mosquitto final : public Broker {
public:
    /// `configuration`: lines beyond those that are needed.
    explicit Mosquitto(const std::string& configuration = "allow_anonymous true\n") {
        write_configuration("listener " + port() + " 127.0.0.1\npersistence_location " + folder() + "/\nuser root\n" + configuration);
        start();
    }

private:
    void run() override {
        const std::string conf = folder() + "/conf";
        ::execlp("mosquitto", "mosquitto", "-c", conf.c_str(), nullptr);
        ::execl("/usr/sbin/mosquitto", "mosquitto", "-c", conf.c_str(), nullptr);
    }
};

/// ejabberd, which has nothing of Mosquitto's code: it lets in whoever has a name of the form user@localhost.
class Ejabberd final : public Broker {
public:
    static bool there() { return there_is("erl") && there_is("ejabberdctl"); }
    Ejabberd() {
        write_configuration(
            "hosts: [localhost]\nloglevel: warning\nauth_method: [anonymous]\nanonymous_protocol: both\nallow_multiple_connections: true\n"
            "listen:\n  - {port: " +
            port() +
            ", ip: 127.0.0.1, module: mod_mqtt}\n"
            "modules:\n  mod_mqtt:\n    access_publish: {\"#\": [{allow: all}]}\n    access_subscribe: {\"#\": [{allow: all}]}\n");
        static_cast<void>(!::rename((folder() + "/conf").c_str(), (folder() + "/ejabberd.yml").c_str()));
        start();
    }

private:
    void run() override {
        const auto quoted = [this](const char* file) { return '"' + folder() + file + '"'; };
        const std::string spool = quoted("/spool"), conf = quoted("/ejabberd.yml"), log = quoted("/log");
        ::setenv("ERL_LIBS", "/usr/lib/x86_64-linux-gnu:/usr/lib/aarch64-linux-gnu", 1);
        static_cast<void>(!std::freopen("/dev/null", "w", stdout));
        ::execlp("erl", "erl", "-noinput", "-mnesia", "dir", spool.c_str(), "-ejabberd", "config", conf.c_str(), "log_path", log.c_str(),
                 "-s", "ejabberd", nullptr);
    }
};

/// A client over that transport, and what it was told.
template <class T>
struct ToldOver {
    using Client = mqtt::Client<NoEvents, T, Persistent>;

    ToldOver(Loop& loop, mqtt::Version version, const char* name, bool clean = true, mqtt::Limits limits = mqtt::Limits())
        : client(loop, options(version, limits)), client_id(name) {
        who.client_id = client_id;
        who.clean = clean;
        client.on_state([this](mqtt::ClientState state, const mqtt::Trouble& why) {
            states.push_back(state);
            troubles.push_back(why);
        });
        client.on_message([this](const mqtt::Packet& packet) {
            topics.emplace_back(packet.topic.data(), packet.topic.size());
            payloads.push_back(text(packet.payload));
        });
        client.on_delivery(
            [this](mqtt::Token, Error error, mqtt::Reason reason) { error || mqtt::failed(reason) ? ++failed : ++delivered; });
        client.on_subscription([this](mqtt::Token, mqtt::Reason reason) { subscriptions.push_back(reason); });
    }
    static auto options(mqtt::Version version, const mqtt::Limits& limits) {
        typename Client::Options o;
        o.pipe = quick<Pipe<NoEvents, mqtt::detail::Over<T>, Persistent>>();
        o.version = version;
        o.limits = limits;
        return o;
    }
    bool is(mqtt::ClientState state) const { return client.state() == state; }

    Client client;
    std::string client_id;
    mqtt::Connect who;
    std::vector<mqtt::ClientState> states;
    std::vector<mqtt::Trouble> troubles;
    std::vector<std::string> topics, payloads;
    std::vector<mqtt::Reason> subscriptions;
    std::size_t delivered = 0, failed = 0;
};
using Told = ToldOver<Tcp>;

}  // namespace brokers
