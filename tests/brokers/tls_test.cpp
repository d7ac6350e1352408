// SPDX-License-Identifier: BSL-1.0
#include "skip.hpp"
#include "transport/certificates.hpp"
#if defined(REJOIN_TEST_OPENSSL) && !defined(_WIN32)
#include <rejoin/openssl.hpp>

#include "brokers/brokers.hpp"

using namespace brokers;

TEST_CASE("a Mosquitto that takes nothing but TLS is come back to when it was killed") {
    const test::Certificate certificate;
    if (!there_is("mosquitto") || !certificate.there()) return test::skip("there is no mosquitto here, or no openssl(1)");
    Mosquitto broker("allow_anonymous true\ncertfile " + certificate.chain() + "\nkeyfile " + certificate.key() + "\n");
    Loop loop;
    REQUIRE(OpenSsl::Context::of(loop).trust(certificate.chain().c_str()));
    using TlsTold = ToldOver<Tls<Tcp, OpenSsl>>;
    TlsTold from(loop, mqtt::Version::v5, "from"), to(loop, mqtt::Version::v3_1_1, "to");
    const Endpoint endpoint("localhost", broker.endpoint().port());
    REQUIRE(from.client.connect(endpoint, from.who));
    REQUIRE(to.client.connect(endpoint, to.who));
    REQUIRE(to.client.subscribe("a", mqtt::Qos::exactly_once));
    REQUIRE(until(loop, [&] { return to.subscriptions.size() == 1; }));
    const std::string large(300'000, 'x');
    for (const TextView payload : {TextView("small"), TextView(large)}) REQUIRE(from.client.publish("a", payload, mqtt::Qos::exactly_once));
    REQUIRE(until(loop, [&] { return to.payloads.size() == 2 && from.delivered == 2; }));
    CHECK(to.payloads == std::vector<std::string>{"small", large});

    broker.kill();
    REQUIRE(until(loop, [&] { return from.is(mqtt::ClientState::interrupted) && to.is(mqtt::ClientState::interrupted); }));
    broker.start();
    REQUIRE(until(loop, [&] { return to.subscriptions.size() == 2; }));
    REQUIRE(from.client.publish("a", "again", mqtt::Qos::at_least_once));
    REQUIRE(until(loop, [&] { return to.payloads.size() == 3; }));
    from.client.close();
    to.client.close();
    REQUIRE(until(loop, [&] { return from.is(mqtt::ClientState::closed) && to.is(mqtt::ClientState::closed); }));
    CHECK_FALSE(from.troubles.back());

    // Whom nobody trusts is not spoken to.
    Loop other;
    TlsTold wary(other, mqtt::Version::v5, "wary");
    const TextView user = "me";
    wary.who.user_name = &user;
    REQUIRE(wary.client.connect(endpoint, wary.who));
    REQUIRE(until(other, [&] { return wary.is(mqtt::ClientState::closed); }));
    CHECK(wary.troubles.back().failure.error == Errc::proof_invalid);
}
#else
#include "catch.hpp"
TEST_CASE("a Mosquitto that takes nothing but TLS is come back to when it was killed") { test::skip("there is no OpenSSL here"); }
#endif
