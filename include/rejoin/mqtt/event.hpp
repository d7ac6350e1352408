// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/time.hpp>
#include <rejoin/mqtt/decode.hpp>
#include <rejoin/mqtt/encode.hpp>

// What goes into a session, and what comes out of it.
namespace rejoin::inline v0_1::mqtt {

/// What a session holds and waits for at most.
struct Limits {
    std::size_t packet = 1024 * 1024;    ///< bytes of one packet from the server; told to it (5.0)
    std::size_t queue = 1024 * 1024;     ///< bytes of messages that were accepted and are not delivered, 64 more counted for each
    std::uint16_t in_flight = 64;        ///< messages with a QoS under way to the server; fewer when it says so (5.0)
    std::uint16_t receive_maximum = 64;  ///< messages of QoS 2 from it that are not complete; told to it (5.0)
    std::uint16_t topic_aliases = 16;    ///< that the server may use (5.0)
    std::uint16_t subscriptions = 1024;
    Duration keep_alive = Duration::seconds(30);  ///< the server is asked for a sign of life when it has given none for so long
    Duration answer = Duration::seconds(10);      ///< for CONNACK, and for that sign: later, the connection counts as dead
    /// For so long the server keeps the session when the connection is gone, and what comes for it meanwhile (5.0); whole seconds, rounded
    /// up. 0: not at all.
    Duration session_expiry = Duration::seconds(300);

    bool valid() const {
        return packet >= 64 && queue >= 64 && in_flight > 0 && receive_maximum > 0 && subscriptions > 0 && keep_alive > Duration() &&
               keep_alive <= Duration::seconds(UINT16_MAX) && answer > Duration() && session_expiry >= Duration() &&
               session_expiry <= Duration::seconds(UINT32_MAX);
    }
};

/// A message to publish; copied.
struct Message {
    TextView topic;
    Bytes payload;
    Qos qos = Qos::at_most_once;
    bool retain = false;
    /// Not sent any more after that, and told to the server (5.0); 0, and what is longer than 5.0 can say (136 years): never.
    Duration expiry = {};
    Bytes properties = {};  ///< 5.0, from a `PropertyWriter`; without message expiry, topic alias and subscription identifiers
};

/// Names a message, or a subscription, of one session.
using Token = std::uint64_t;

/// What has happened.
struct Event {
    enum class Kind : std::uint8_t {
        connected,     ///< the server let this client in: `packet` is its CONNACK
        refused,       ///< it did not: `reason`, and perhaps a `server_reference` in `packet`
        disconnected,  ///< it ended the connection (5.0): the same
        message,       ///< `packet` is a PUBLISH with its topic
        delivered,     ///< message `token` has arrived: with QoS 0 it was written, else acknowledged
        failed,        ///< it has not, and will not: `error`, and the server's `reason` where it gave one
        subscribed,    ///< subscription `token` was granted, or not: `reason`
        unsubscribed,  ///< subscription `token` is no more
    };
    Kind kind = Kind::connected;
    Token token = 0;
    Error error;
    Reason reason = Reason::success;
    Packet packet;
};

}  // namespace rejoin::inline v0_1::mqtt
