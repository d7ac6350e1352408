// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace rejoin::inline v0_1 {

/// What went wrong, in terms of what can be done about it.
enum class FailureKind : std::uint8_t {
    none,
    refused,              ///< nobody listens there, or somebody says no on their behalf
    timed_out,            ///< no answer in time
    no_route,             ///< this host has no way there: no network, or routing forbids it
    unreachable,          ///< something on the way, or the last hop, says it cannot be reached
    reset,                ///< the connection was there and was torn down
    ended,                ///< the peer ended the connection where it should have gone on
    unresponsive,         ///< the connection is there and nothing comes through
    address_unavailable,  ///< the local address cannot be used: gone, or not ready yet
    address_lost,         ///< the local address or interface under a connection went away
    address_in_use,       ///< somebody else listens there already
    forbidden,            ///< this host's firewall or a missing privilege
    exhausted,            ///< descriptors, ports, buffers or memory of this host
    name_unknown,         ///< there is no such name
    name_service,         ///< the name service gave no answer
    protocol,             ///< the peer speaks something else, or cannot prove who it is
    session_unknown,      ///< the peer does not know the session: it was restarted, or the session expired there
    session_refused,      ///< the peer has no room for another session
    overloaded,           ///< the server asks to come back later: `Failure::retry_after_ms` says when
    redirected,           ///< the server sends its clients to another one
    session_expired,      ///< the session was without a connection for longer than it may be
    session_aborted,      ///< the peer gave the session up
    fenced,               ///< a newer connection of the same session took over
    cancelled,            ///< the program called it off
    invalid,              ///< the program asked for what cannot be
    other,                ///< a code that has no better kind; it is in `error`
};

/// At which point of a connection's life.
enum class Stage : std::uint8_t { resolving, connecting, handshaking, resuming, established, listening };

}  // namespace rejoin::inline v0_1
