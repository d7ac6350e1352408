// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/bytes.hpp>
#include <rejoin/core/error.hpp>
#include <rejoin/core/time.hpp>
#include <rejoin/signalling/window.hpp>

// What goes into signalling, and what comes out of it.
namespace rejoin::inline v0_1::signalling {

/// What is held and waited for at most.
struct Limits {
    std::size_t message = 64 * 1024;  ///< bytes of one message, sent or received
    std::size_t queue = 1024 * 1024;  ///< bytes of messages that were accepted and have not arrived, 128 more counted for each
    std::size_t held = 1024 * 1024;   ///< bytes of ordered messages that wait for one before them
    std::size_t peers = 1024;         ///< that are sent to at a time
    std::size_t streams = 1024;       ///< senders that are heard of at a time: the longest silent makes room
    int copies = 0;                   ///< how many brokers a message goes to; 0: all
    Duration clock_tolerance = Duration::seconds(60);  ///< by which the clocks of peers that share a key may differ
    Duration retry_max = Duration::seconds(10);        ///< the longest pause before an unacknowledged message is sent again

    bool valid() const {
        return message > 0 && message <= 16 * 1024 * 1024 && queue > 0 && peers > 0 && streams > 0 && copies >= 0 &&
               clock_tolerance > Duration() && retry_max >= Duration::milliseconds(100);
    }
};

/// How a message is sent.
struct SendOptions {
    bool ordered = false;                     ///< not before the ordered one that was sent to that peer before it, unless that has failed
    Duration expiry = Duration::seconds(30);  ///< by when it has to have arrived
};

using Token = std::uint64_t;

/// What has happened.
struct Event {
    enum class Kind : std::uint8_t {
        message,    ///< `peer` has sent `payload`
        delivered,  ///< message `token` has arrived at `peer`: its program has had it
        failed,     ///< nobody has said that it arrived: `error`
    };
    Kind kind = Kind::message;
    bool sealed = false;  ///< it is from somebody with whom a key is shared
    Token token = 0;
    Error error;
    TextView peer;
    Bytes payload;

    TextView text() const { return {reinterpret_cast<const char*>(payload.data()), payload.size()}; }
};

/// What came from the brokers, and what was made of it.
struct Counters {
    std::uint64_t messages = 0;    ///< given on, each once
    std::uint64_t duplicates = 0;  ///< copies of messages that were there already
    std::uint64_t sent_again = 0;  ///< of this peer's messages, as no acknowledgement came in time
    // Dropped, without a trace but here.
    std::uint64_t malformed = 0;  ///< no envelope, or one of another version
    std::uint64_t too_large = 0;
    std::uint64_t unsealed = 0;  ///< from a name with which a key is shared
    std::uint64_t forged = 0;    ///< the seal is not that of the key, or there is none
    std::uint64_t stale = 0;     ///< expired, recorded and repeated, or of a clock that is too far away
    std::uint64_t no_room = 0;   ///< out of order by more than may be held; it is sent again
};

}  // namespace rejoin::inline v0_1::signalling
