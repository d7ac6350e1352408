// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/error.hpp>
#include <rejoin/core/text.hpp>

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
    forbidden,            ///< this host's firewall or a missing privilege
    exhausted,            ///< descriptors, ports, buffers or memory of this host
    name_unknown,         ///< there is no such name
    name_service,         ///< the name service gave no answer
    protocol,             ///< the peer speaks something else, or cannot prove who it is
    session_unknown,      ///< the peer does not know the session: it was restarted, or the session expired there
    session_refused,      ///< the peer has no room for another session
    session_expired,      ///< the session was without a connection for longer than it may be
    session_aborted,      ///< the peer gave the session up
    fenced,               ///< a newer connection of the same session took over
    cancelled,            ///< the program called it off
    invalid,              ///< the program asked for what cannot be
    other,                ///< a code that has no better kind; it is in `error`
};

/// At which point of a connection's life.
enum class Stage : std::uint8_t { resolving, connecting, handshaking, resuming, established, listening };

/// A classified error: what, when, and the code as it came.
struct Failure {
    FailureKind kind = FailureKind::none;
    Stage stage = Stage::connecting;
    Error error;

    explicit operator bool() const { return kind != FailureKind::none; }
    friend bool operator==(const Failure&, const Failure&) = default;
};

/// One sentence, with what usually helps where that is known.
[[gnu::cold]] inline Description describe(const Failure& failure) {
    static constexpr const char* stages[] = {"while resolving the name", "while connecting",       "during the handshake",
                                             "while resuming",           "on the open connection", "while listening"};
    static constexpr const char* kinds[] = {
        "no failure",
        "connection refused: nothing listens there",
        "no answer in time: the peer is down, or something on the way drops packets",
        "no route: this host is not connected, or routing forbids it",
        "unreachable: a router or the last hop says so",
        "connection reset by the peer or by something on the way",
        "the peer ended the connection",
        "the path went silent",
        "the local address cannot be used",
        "the local address or interface went away",
        "not permitted: this host's firewall, or a missing privilege",
        "out of descriptors, ports or memory",
        "unknown host name",
        "the name service does not answer",
        "the other end is not the right one, or speaks another protocol",
        "the peer does not know the session: it was restarted, or the session expired there",
        "the peer has no room for another session",
        "the session was without a connection for too long",
        "the peer gave the session up",
        "a newer connection took over",
        "called off by this program",
        "not a valid request",
        "unexpected error",
    };
    Description text(kinds[static_cast<std::size_t>(failure.kind)]);
    if (failure.kind == FailureKind::none) return text;
    text.append(" (").append(stages[static_cast<std::size_t>(failure.stage)]);
    static constexpr const char* domains[] = {"", ", system error ", ", resolver error "};
    if (failure.error.domain() != Error::Domain::rejoin)
        text.append(domains[static_cast<std::size_t>(failure.error.domain())]).append_number(failure.error.code());
    return text.append(")");
}

}  // namespace rejoin::inline v0_1
