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

/// A Mosquitto of this test's own, on a port that was free.
class Mosquitto {
public:
    /// `configuration`: lines beyond those that are needed.
    explicit Mosquitto(const std::string& configuration = "allow_anonymous true\n") {
        REQUIRE(::mkdtemp(folder_) != nullptr);
        {
            auto probe = Socket::tcp(Family::v4);
            REQUIRE(probe);
            probe->reuse_address();  // a port at once
            REQUIRE(probe->bind(IpAddress::v4(127, 0, 0, 1), 0));
            port_ = probe->local_endpoint().port();
        }
        FILE* const file = std::fopen((folder() + "/conf").c_str(), "w");
        REQUIRE(file != nullptr);
        std::fprintf(file, "listener %d 127.0.0.1\npersistence_location %s/\nuser root\n%s", port_, folder_, configuration.c_str());
        std::fclose(file);
        start();
    }
    Mosquitto(const Mosquitto&) = delete;
    ~Mosquitto() {
        kill();
        static_cast<void>(std::system(("rm -r " + folder()).c_str()));
    }
    Endpoint endpoint() const { return {"127.0.0.1", port_}; }
    std::string folder() const { return folder_; }
    std::string port() const { return std::to_string(port_); }

    void start() {
        process_ = ::fork();
        if (process_ == 0) {
            const std::string conf = folder() + "/conf";
            static_cast<void>(!std::freopen("/dev/null", "w", stderr));
            ::execlp("mosquitto", "mosquitto", "-c", conf.c_str(), nullptr);
            ::execl("/usr/sbin/mosquitto", "mosquitto", "-c", conf.c_str(), nullptr);
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
        FAIL("mosquitto does not start");
    }
    void signal(int number) { ::kill(process_, number); }
    /// Ends it, by that signal, and waits until it is gone.
    void kill(int number = SIGKILL) {
        if (process_ <= 0) return;
        signal(number);
        ::waitpid(process_, nullptr, 0);
        process_ = -1;
    }

private:
    char folder_[32] = "/tmp/rejoin-mosquitto-XXXXXX";
    int port_ = 0;
    pid_t process_ = -1;
};

/// A client, and what it was told.
struct Told {
    using Client = mqtt::Client<NoEvents, Tcp, Persistent>;

    Told(Loop& loop, mqtt::Version version, const char* name, bool clean = true, mqtt::Limits limits = mqtt::Limits())
        : client(loop, options(version, limits)), client_id(name) {
        who.client_id = client_id;
        who.clean = clean;
        if (version == mqtt::Version::v5 && !clean) {
            expiry.number(mqtt::Property::session_expiry_interval, 3600);
            who.properties = expiry.bytes();
        }
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
    static Client::Options options(mqtt::Version version, const mqtt::Limits& limits) {
        Client::Options o;
        o.pipe = quick<Pipe<NoEvents, mqtt::detail::Over<Tcp>, Persistent>>();
        o.version = version;
        o.limits = limits;
        return o;
    }
    bool is(mqtt::ClientState state) const { return client.state() == state; }

    Client client;
    std::string client_id;
    mqtt::Connect who;
    mqtt::PropertyWriter expiry{mqtt::PacketType::connect};
    std::vector<mqtt::ClientState> states;
    std::vector<mqtt::Trouble> troubles;
    std::vector<std::string> topics, payloads;
    std::vector<mqtt::Reason> subscriptions;
    std::size_t delivered = 0, failed = 0;
};

}  // namespace brokers
