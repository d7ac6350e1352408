// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/mqtt/session.hpp>
#include <string>

#include "catch.hpp"
#include "session/bytes.hpp"

// What a client says, and a session that is connected with a server that the test plays, for the tests of the standards' statements.
namespace test {

using namespace rejoin;
using namespace rejoin::mqtt;

inline constexpr Version versions[] = {Version::v3_1_1, Version::v5};

template <class P>
std::string said(Version version, const P& packet) {
    Buffer room(size_of(version, packet));
    write(room.data(), version, packet);
    return to_hex(room);
}
struct Talk {
    // In 5.0 the server says this of itself.
    explicit Talk(Version version, const std::string& properties = "00", const Limits& limits = Limits()) : session(version, limits) {
        Connect connect;
        connect.client_id = "me";
        connect.clean = false;
        REQUIRE(session.configure(connect));
        again(false, properties);
    }
    // Another connection.
    void again(bool session_present, const std::string& properties = "00") {
        REQUIRE(session.opened(now));
        const std::string flags = session_present ? " 01 00 " : " 00 00 ";
        if (session.version() == Version::v5)
            hear("20 " + to_hex(Buffer{static_cast<std::byte>(2 + from_hex(properties).size())}) + flags + properties);
        else
            hear("20 02" + flags);
    }
    std::string says() {
        const Bytes out = session.pending(now);
        const std::string all = to_hex(out);
        session.wrote(out.size(), now);
        return all;
    }
    // Everything, with what comes of it dealt with.
    void hear(const std::string& spaced) {
        const Buffer bytes = from_hex(spaced);
        Bytes from(bytes);
        for (mqtt::Event event;;) {
            const auto there = session.next(from, now, event);
            if (!there) return static_cast<void>(error = there.error());
            if (!*there) return;
            ++events;
            last = event.kind;
            reason = event.reason;
            if (event.kind == mqtt::Event::Kind::message) heard += std::string(event.packet.topic.data(), event.packet.topic.size()) + " ";
        }
    }
    void publish(const char* topic, Qos qos) {
        Message message;
        message.topic = topic;
        message.qos = qos;
        REQUIRE(session.publish(message, now));
    }
    void subscribe(const char* filter) {
        Subscription subscription;
        subscription.filter = filter;
        REQUIRE(session.subscribe(subscription));
    }
    TimePoint now = TimePoint() + Duration::seconds(1000);
    Session session;
    std::string heard;
    int events = 0;
    mqtt::Event::Kind last{};
    Reason reason{};
    Error error;
};

}  // namespace test
