// SPDX-License-Identifier: BSL-1.0
#include "catch.hpp"

#if !defined(_WIN32)
#include "brokers/brokers.hpp"

using namespace brokers;
using mqtt::ClientState;
using mqtt::Qos;
using mqtt::Version;

namespace {

constexpr Version versions[] = {Version::v3_1_1, Version::v5};

}  // namespace

TEST_CASE("messages of every QoS go through ejabberd, in both versions, and it is come back to when it was killed") {
    if (!Ejabberd::there()) return test::skip("there is no ejabberd here");
    Ejabberd broker;
    const TextView user = "me@localhost";
    const Bytes password = TextView("any").bytes();
    for (Version version : versions) {
        Loop loop;
        Told from(loop, version, "from"), to(loop, version, "to");
        for (Told* told : {&from, &to}) {
            told->who.user_name = &user;
            told->who.password = &password;
            REQUIRE(told->client.connect(broker.endpoint(), told->who));
        }
        REQUIRE(to.client.subscribe("a/+", Qos::exactly_once));
        REQUIRE(until(loop, [&] { return to.subscriptions.size() == 1; }));
        CHECK_FALSE(mqtt::failed(to.subscriptions[0]));
        for (int i = 0; i < 300; ++i) REQUIRE(from.client.publish("a/b", std::to_string(i), static_cast<Qos>(i % 3)));
        REQUIRE(until(loop, [&] { return to.payloads.size() == 300 && from.delivered == 300; }));
        CHECK(from.failed == 0);
        if (version == Version::v5) CHECK(from.client.publish("a/b", std::string(100'000, 'x'), Qos::at_least_once));
        broker.kill();
        REQUIRE(until(loop, [&] { return to.is(ClientState::interrupted) && from.is(ClientState::interrupted); }));
        broker.start();
        REQUIRE(until(loop, [&] { return to.subscriptions.size() == 2 && from.is(ClientState::connected); }));
        to.payloads.clear();
        REQUIRE(from.client.publish("a/b", "again", Qos::at_least_once));
        REQUIRE(until(loop, [&] { return !to.payloads.empty() && to.payloads.back() == "again"; }));
    }
}

TEST_CASE("it understands Paho, and Paho understands it") {
    if (!there_is("mosquitto") || std::system("/usr/bin/python3 -c 'import paho.mqtt.client' 2>/dev/null") != 0)
        return test::skip("there is no mosquitto, or no Paho for Python");
    const std::string file = __FILE__, here = file.substr(0, file.find_last_of('/'));
    Mosquitto broker;
    for (Version version : versions) {
        Loop loop;
        Told told(loop, version, "rejoin");
        REQUIRE(told.client.connect(broker.endpoint(), told.who));
        REQUIRE(told.client.subscribe("to/rejoin", Qos::exactly_once));
        REQUIRE(until(loop, [&] { return told.subscriptions.size() == 1; }));
        // Paho says hello with each QoS, and sends back what it hears.
        FILE* const paho =
            ::popen(("/usr/bin/python3 " + here + "/paho_echo.py " + broker.port() + (version == Version::v5 ? " 5" : " 3")).c_str(), "r");
        REQUIRE(paho != nullptr);
        REQUIRE(until(loop, [&] { return told.payloads.size() == 3; }));
        CHECK(told.payloads == std::vector<std::string>{"hello 0", "hello 1", "hello 2"});
        for (int qos = 0; qos < 3; ++qos) REQUIRE(told.client.publish("to/paho", "echo " + std::to_string(qos), static_cast<Qos>(qos)));
        REQUIRE(until(loop, [&] { return told.payloads.size() == 6 && told.delivered == 3; }));
        CHECK(std::vector<std::string>(told.payloads.begin() + 3, told.payloads.end()) ==
              std::vector<std::string>{"echo 0", "echo 1", "echo 2"});
        REQUIRE(told.client.publish("to/paho", "stop", Qos::at_least_once));
        REQUIRE(until(loop, [&] { return told.delivered == 4; }));
        CHECK(::pclose(paho) == 0);
    }
}
#endif
