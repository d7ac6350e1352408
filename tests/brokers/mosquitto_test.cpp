// SPDX-License-Identifier: BSL-1.0
#include "catch.hpp"

#if !defined(_WIN32)
#include "brokers/brokers.hpp"

using namespace brokers;
using mqtt::ClientState;
using mqtt::Qos;
using mqtt::Version;

namespace {

bool none() {
    if (there_is("mosquitto") && there_is("mosquitto_pub")) return false;
    test::skip("there is no mosquitto here");
    return true;
}
constexpr Version versions[] = {Version::v3_1_1, Version::v5};
// Mosquitto 2.0.11 loses messages where it has to queue them, which it does when so many are under way to a client.
constexpr char no_queue[] = "allow_anonymous true\nmax_inflight_messages 2000\n";
mqtt::Limits all_at_once() {
    mqtt::Limits limits;
    limits.receive_maximum = 2000;
    return limits;
}

}  // namespace

TEST_CASE("messages of every QoS go through Mosquitto, in both versions") {
    if (none()) return;
    Mosquitto broker(no_queue);
    for (Version version : versions) {
        Loop loop;
        Told from(loop, version, "from"), to(loop, version, "to", true, all_at_once());
        REQUIRE(from.client.connect(broker.endpoint(), from.who));
        REQUIRE(to.client.connect(broker.endpoint(), to.who));
        REQUIRE(to.client.subscribe("a/+", Qos::exactly_once));
        REQUIRE(until(loop, [&] { return to.subscriptions.size() == 1; }));
        CHECK_FALSE(mqtt::failed(to.subscriptions[0]));
        for (int i = 0; i < 300; ++i) REQUIRE(from.client.publish("a/b", std::to_string(i), static_cast<Qos>(i % 3)));
        REQUIRE(until(loop, [&] { return to.payloads.size() == 300 && from.delivered == 300; }));
        CHECK(from.failed == 0);
        // Each QoS keeps its order.
        int last[3] = {-1, -1, -1};
        for (const std::string& payload : to.payloads) {
            const int i = std::stoi(payload);
            CHECK(last[i % 3] == (last[i % 3] < 0 ? -1 : i - 3));
            last[i % 3] = i;
        }
        const std::string large(300'000, 'x');
        REQUIRE(from.client.publish("a/large", large, Qos::at_least_once));
        REQUIRE(until(loop, [&] { return to.payloads.size() == 301; }));
        CHECK(to.payloads.back() == large);
        CHECK(to.topics.back() == "a/large");
        from.client.close();
        to.client.close();
        REQUIRE(until(loop, [&] { return from.is(ClientState::closed) && to.is(ClientState::closed); }));
        CHECK_FALSE(from.troubles.back());
    }
}

TEST_CASE("it understands mosquitto_pub and mosquitto_sub, and they understand it") {
    if (none()) return;
    Mosquitto broker;
    for (const char* version : {"mqttv311", "mqttv5"}) {
        Loop loop;
        Told told(loop, version == std::string("mqttv5") ? Version::v5 : Version::v3_1_1, "rejoin");
        REQUIRE(told.client.connect(broker.endpoint(), told.who));
        REQUIRE(told.client.subscribe("to/rejoin", Qos::exactly_once));
        REQUIRE(until(loop, [&] { return told.subscriptions.size() == 1; }));
        for (const char* qos : {"0", "1", "2"})
            output_of(std::string("mosquitto_pub -V ") + version + " -p " + broker.port() + " -t to/rejoin -m hello" + qos + " -q " + qos);
        REQUIRE(until(loop, [&] { return told.payloads.size() == 3; }));
        CHECK(told.payloads == std::vector<std::string>{"hello0", "hello1", "hello2"});

        mqtt::Message retained;
        retained.topic = "from/rejoin";
        retained.payload = TextView("kept").bytes();
        retained.qos = Qos::at_least_once;
        retained.retain = true;
        REQUIRE(told.client.publish(retained));
        REQUIRE(until(loop, [&] { return told.delivered == 1; }));
        CHECK(output_of(std::string("mosquitto_sub -V ") + version + " -p " + broker.port() + " -t from/rejoin -C 1 -W 60") == "kept\n");
    }
}

TEST_CASE("a broker that asks for a password gets it, and one that gets a wrong one says so for good") {
    if (none()) return;
    char name[] = "/tmp/rejoin-passwords-XXXXXX";
    REQUIRE(::mkstemp(name) >= 0);
    output_of(std::string("mosquitto_passwd -b ") + name + " me secret 2>&1");
    Mosquitto broker("allow_anonymous false\npassword_file " + std::string(name) + "\n");
    for (Version version : versions)
        for (bool right : {true, false}) {
            Loop loop;
            Told told(loop, version, "me");
            const TextView user = "me";
            const Bytes password = TextView(right ? "secret" : "wrong").bytes();
            told.who.user_name = &user;
            told.who.password = &password;
            REQUIRE(told.client.connect(broker.endpoint(), told.who));
            REQUIRE(until(loop, [&] { return told.is(right ? ClientState::connected : ClientState::closed); }));
            if (!right) CHECK(told.troubles.back().reason == mqtt::Reason::not_authorized);
        }
    ::unlink(name);
}

TEST_CASE("a broker that is killed and comes back without its memory is joined again, and has its subscriptions again") {
    if (none()) return;
    Mosquitto broker;
    for (Version version : versions) {
        Loop loop;
        Told from(loop, version, "from"), to(loop, version, "to");
        REQUIRE(from.client.connect(broker.endpoint(), from.who));
        REQUIRE(to.client.connect(broker.endpoint(), to.who));
        REQUIRE(to.client.subscribe("a", Qos::exactly_once));
        REQUIRE(until(loop, [&] { return to.subscriptions.size() == 1 && from.is(ClientState::connected); }));
        for (int round = 0; round < 3; ++round) {
            to.subscriptions.clear();
            to.payloads.clear();
            broker.kill();
            REQUIRE(until(loop, [&] { return from.is(ClientState::interrupted) && to.is(ClientState::interrupted); }));
            for (int i = 0; i < 50; ++i) REQUIRE(from.client.publish("a", std::to_string(i), static_cast<Qos>(1 + i % 2)));
            // What is published before the other has subscribed again would be nobody's.
            broker.start();
            REQUIRE(until(loop, [&] { return to.subscriptions.size() == 1; }));
            for (int i = 50; i < 100; ++i) REQUIRE(from.client.publish("a", std::to_string(i), static_cast<Qos>(1 + i % 2)));
            REQUIRE(until(loop, [&] { return from.client.queued() == 0 && !to.payloads.empty() && to.payloads.back() == "99"; }));
        }
        CHECK(from.delivered == 300);
        CHECK(from.failed == 0);
    }
}

TEST_CASE("with a broker that keeps its memory nothing is lost and nothing comes twice, however often it is restarted") {
    if (none()) return;
    Mosquitto broker(std::string(no_queue) + "persistence true\nmax_queued_messages 0\n");
    for (Version version : versions) {
        Loop loop;
        const std::string v = version == Version::v5 ? "5" : "3";
        Told from(loop, version, ("from" + v).c_str(), false), to(loop, version, ("to" + v).c_str(), false, all_at_once());
        REQUIRE(from.client.connect(broker.endpoint(), from.who));
        REQUIRE(to.client.connect(broker.endpoint(), to.who));
        const std::string topic = "kept/" + v;
        REQUIRE(to.client.subscribe(topic, Qos::exactly_once));
        REQUIRE(until(loop, [&] { return to.subscriptions.size() == 1; }));
        constexpr std::size_t total = 1000;
        for (std::size_t i = 0; i < total; ++i) REQUIRE(from.client.publish(topic, std::to_string(i), Qos::exactly_once));
        for (std::size_t round = 1; round <= 4; ++round) {
            REQUIRE(until(loop, [&] { return to.payloads.size() > round * total / 8; }));
            broker.kill(SIGTERM);
            REQUIRE(until(loop, [&] { return from.is(ClientState::interrupted) && to.is(ClientState::interrupted); }));
            broker.start();
        }
        REQUIRE(until(loop, [&] { return to.payloads.size() == total && from.delivered == total; }));
        for (std::size_t i = 0; i < total; ++i) REQUIRE(to.payloads[i] == std::to_string(i));
        CHECK(from.failed == 0);
    }
}

TEST_CASE("what comes for a client without a name while its connection is gone has come when it is back") {
    if (none()) return;
    Mosquitto broker;
    Loop loop, other;
    mqtt::Limits limits;
    limits.keep_alive = Duration::seconds(1);
    Told from(loop, Version::v5, "from"), to(other, Version::v5, "", true, limits);
    mqtt::Will will;
    will.topic = "gone";
    to.who.will = &will;
    REQUIRE(from.client.connect(broker.endpoint(), from.who));
    REQUIRE(from.client.subscribe("gone"));
    REQUIRE(to.client.connect(broker.endpoint(), to.who));
    REQUIRE(to.client.subscribe("a", Qos::at_least_once));
    REQUIRE(until(other, [&] { return to.subscriptions.size() == 1; }));
    REQUIRE(until(loop, [&] { return from.topics.size() == 1; }));  // whose loop stands still, and so the broker gives it up
    for (const char* payload : {"1", "2", "3"}) REQUIRE(from.client.publish("a", payload, Qos::at_least_once));
    REQUIRE(until(loop, [&] { return from.delivered == 3; }));
    REQUIRE(until(other, [&] { return to.payloads.size() == 3; }));
    CHECK(to.payloads == std::vector<std::string>{"1", "2", "3"});
    CHECK(to.subscriptions.size() == 1);  // the broker knows it
}

TEST_CASE("a broker that stands still is found out, and joined again when it goes on") {
    if (none()) return;
    Mosquitto broker;
    Loop loop;
    mqtt::Limits limits;
    limits.keep_alive = Duration::seconds(1);
    limits.answer = ms(500);
    Told told(loop, Version::v5, "me", true, limits);
    REQUIRE(told.client.connect(broker.endpoint(), told.who));
    REQUIRE(until(loop, [&] { return told.is(ClientState::connected); }));
    broker.signal(SIGSTOP);
    REQUIRE(until(loop, [&] { return told.is(ClientState::interrupted); }));
    CHECK(told.troubles.back().failure.kind == FailureKind::unresponsive);
    broker.signal(SIGCONT);
    REQUIRE(until(loop, [&] { return told.is(ClientState::connected); }));
    REQUIRE(told.client.publish("a", "x", Qos::at_least_once));
    REQUIRE(until(loop, [&] { return told.delivered == 1; }));
}

TEST_CASE("a broker's limits are kept, and what is beyond them fails by name") {
    if (none()) return;
    Mosquitto broker("allow_anonymous true\nmax_packet_size 1000\nmax_qos 1\nretain_available false\nmax_inflight_messages 2\n");
    Loop loop;
    Told told(loop, Version::v5, "me");
    std::vector<Error> errors;
    told.client.on_delivery([&](mqtt::Token, Error error, mqtt::Reason) { errors.push_back(error); });
    REQUIRE(told.client.connect(broker.endpoint(), told.who));
    REQUIRE(told.client.publish("a", std::string(1000, 'x')));
    REQUIRE(told.client.publish("a", "x", Qos::exactly_once));
    mqtt::Message retained;
    retained.topic = "a";
    retained.retain = true;
    REQUIRE(told.client.publish(retained));
    for (int i = 0; i < 50; ++i) REQUIRE(told.client.publish("a", "x", Qos::at_least_once));
    REQUIRE(until(loop, [&] { return errors.size() == 53; }));
    CHECK(std::count(errors.begin(), errors.end(), Error(Errc::too_large)) == 1);
    CHECK(std::count(errors.begin(), errors.end(), Error(Errc::unsupported)) == 2);
    CHECK(std::count(errors.begin(), errors.end(), Error()) == 50);
    CHECK(std::count(told.states.begin(), told.states.end(), ClientState::interrupted) == 0);
}
#endif
