// SPDX-License-Identifier: BSL-1.0
#include <rejoin/signal.hpp>

#include <map>
#include <memory>

#include "catch.hpp"
#include "lab.hpp"
#include "skip.hpp"

namespace {

using namespace netlab;
using rejoin::Duration;
using PeerSignal = rejoin::Signal<rejoin::SystemEvents, rejoin::Tcp, rejoin::Persistent>;

// Mosquittos on the server's host, by their ports.
class Brokers {
public:
    Brokers(const Lab& lab, int count) {
        for (int i = 0; i < count; ++i) {
            const pid_t child = fork();
            if (child == 0) {
                lab.enter(Host::server);
                const std::string conf = "listener " + std::to_string(port(i)) + " 10.8.0.2\nallow_anonymous true\nuser root\n";
                const int file = memfd_create("conf", 0);
                if (write(file, conf.data(), conf.size()) < 0 || std::freopen("/dev/null", "w", stderr) == nullptr) _exit(1);
                const std::string path = "/proc/self/fd/" + std::to_string(file);
                execlp("mosquitto", "mosquitto", "-c", path.c_str(), nullptr);
                execl("/usr/sbin/mosquitto", "mosquitto", "-c", path.c_str(), nullptr);
                _exit(127);
            }
            processes_.push_back(child);
        }
    }
    Brokers(const Brokers&) = delete;
    ~Brokers() {
        for (pid_t process : processes_) {
            kill(process, SIGKILL);
            waitpid(process, nullptr, 0);
        }
    }
    static int port(int i) { return 1883 + i; }

private:
    std::vector<pid_t> processes_;
};
struct Peer {
    Peer(rejoin::Loop& loop, rejoin::TextView name) : signal(loop, name) {
        for (int i = 0; i < 3; ++i) REQUIRE(signal.add_broker({"10.8.0.2", Brokers::port(i)}));
        signal.on_message([this](const rejoin::signalling::Event&) { ++heard; });
        signal.on_delivery([this](rejoin::signalling::Token, rejoin::Error error) { error ? ++failed : ++delivered; });
    }
    int up() const {
        int n = 0;
        for (int i = 0; i < 3; ++i) n += signal.health(i).up ? 1 : 0;
        return n;
    }
    PeerSignal signal;
    int heard = 0, delivered = 0, failed = 0;
};

TEST_CASE("brokers behind a firewall, and slow ones, hold no message up", "[netlab]") {
    if (std::system("command -v mosquitto >/dev/null || test -x /usr/sbin/mosquitto") != 0) return test::skip("there is no mosquitto");
    Lab lab;
    const Brokers brokers(lab, 3);
    lab.enter(Host::client);
    rejoin::Loop loop;
    Peer alice(loop, "alice"), bob(loop, "bob");
    REQUIRE(eventually(loop, [&] { return alice.up() == 3 && bob.up() == 3; }));
    int sent = 0;
    const auto send = [&] {
        REQUIRE(alice.signal.send("bob", "hello"));
        ++sent;
        const rejoin::TimePoint before = rejoin::monotonic_now();
        REQUIRE(eventually(loop, [&] { return alice.delivered == sent; }));
        return rejoin::monotonic_now() - before;
    };
    send();

    SECTION("one is cut off silently, is found out, and is there again when it is not") {
        meanwhile(loop, [&] { lab.drop("tcp dport 1883"); });
        for (int i = 0; i < 20; ++i) send();
        REQUIRE(eventually(loop, [&] { return alice.up() == 2 && bob.up() == 2; }));
        send();
        meanwhile(loop, [&] { lab.restore(); });
        REQUIRE(eventually(loop, [&] { return alice.up() == 3 && bob.up() == 3; }));
    }
    SECTION("one refuses") {
        meanwhile(loop, [&] { lab.in(Host::router, "nft add rule inet lab forward tcp dport 1884 reject with tcp reset"); });
        for (int i = 0; i < 20; ++i) send();
        REQUIRE(eventually(loop, [&] { return alice.up() == 2 && bob.up() == 2; }));
        meanwhile(loop, [&] { lab.restore(); });
        REQUIRE(eventually(loop, [&] { return alice.up() == 3 && bob.up() == 3; }));
    }
    SECTION("one is slow: nine packets of ten are lost on the way to it") {
        meanwhile(loop, [&] { lab.drop("tcp dport 1885 numgen random mod 10 < 9"); });
        for (int i = 0; i < 50; ++i) send();
        CHECK(alice.signal.health(0).confirmed + alice.signal.health(1).confirmed >= 50);
    }
    SECTION("all but one are cut off") {
        meanwhile(loop, [&] { lab.drop("tcp dport 1883-1884"); });
        for (int i = 0; i < 20; ++i) send();
    }
    CHECK(bob.heard == sent);
    CHECK(alice.failed == 0);
}

}  // namespace
