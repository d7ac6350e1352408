// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/error.hpp>
#include <rejoin/core/failure_kind.hpp>
#include <rejoin/core/text.hpp>

namespace rejoin::inline v0_1 {

/// Whom a failure lies with, as far as the failure itself tells.
enum class Origin : std::uint8_t {
    unknown,
    host,  ///< this host: its network, its limits, its rules, or the program
    path,  ///< something on the way, or nothing there at all
    peer,  ///< the peer's host or program
    name_service,
};

/// A classified error: what, when, and the code as it came.
struct Failure {
    FailureKind kind = FailureKind::none;
    Stage stage = Stage::connecting;
    Error error;
    /// Of `overloaded`: for how many milliseconds the server asks to be left alone, at least.
    std::uint32_t retry_after_ms = 0;

    explicit operator bool() const { return kind != FailureKind::none; }
    friend bool operator==(const Failure&, const Failure&) = default;

    /// Whom it lies with.
    Origin origin() const;
    /// What usually helps, for people, as one sentence; empty where nothing needs to. Lives as long as the program.
    const char* advice() const;
};

// Each of these tables is in the order of `FailureKind`, and apart, so that a program has only those that it asks for.
inline Origin Failure::origin() const {
    using enum Origin;
    static constexpr Origin origins[] = {
        unknown,       // none
        peer,          // refused
        path,          // timed_out
        host,          // no_route
        path,          // unreachable
        path,          // reset
        peer,          // ended
        path,          // unresponsive
        host,          // address_unavailable
        host,          // address_lost
        host,          // address_in_use
        host,          // forbidden
        host,          // exhausted
        name_service,  // name_unknown
        name_service,  // name_service
        peer,          // protocol
        peer,          // session_unknown
        peer,          // session_refused
        peer,          // overloaded
        peer,          // redirected
        path,          // session_expired
        peer,          // session_aborted
        peer,          // fenced
        host,          // cancelled
        host,          // invalid
        unknown,       // other
    };
    // Who accepts a connection and then says nothing is not the path.
    if (kind == FailureKind::timed_out && stage == Stage::handshaking) return peer;
    if (kind == FailureKind::timed_out && stage == Stage::resolving) return name_service;
    return origins[static_cast<std::size_t>(kind)];
}

[[gnu::cold]] inline const char* Failure::advice() const {
    static constexpr const char* advices[] = {
        "",                                                                                                   // none
        "Start the server, or correct the address and the port.",                                             // refused
        "Look whether the peer is up, and whether a firewall on the way lets the port through.",              // timed_out
        "Connect this host to a network.",                                                                    // no_route
        "Try another network; the peer may be switched off.",                                                 // unreachable
        "",                                                                                                   // reset
        "",                                                                                                   // ended
        "Try another network.",                                                                               // unresponsive
        "Give an address that this host has, or none.",                                                       // address_unavailable
        "",                                                                                                   // address_lost
        "Choose another port, or end the program that has it.",                                               // address_in_use
        "Allow the program in this host's firewall, or on macOS on the local network.",                       // forbidden
        "Raise this host's limits, or close what is not needed.",                                             // exhausted
        "Correct the name.",                                                                                  // name_unknown
        "Look at the name servers that this host is told to ask.",                                            // name_service
        "Log in to the network if it asks for that; correct the address, the port, the key or the version.",  // protocol
        "Start a new session.",                                                                               // session_unknown
        "Try again later.",                                                                                   // session_refused
        "Try again later.",                                                                                   // overloaded
        "",                                                                                                   // redirected
        "Start a new session.",                                                                               // session_expired
        "Start a new session.",                                                                               // session_aborted
        "",                                                                                                   // fenced
        "",                                                                                                   // cancelled
        "Correct the program.",                                                                               // invalid
        "",                                                                                                   // other
    };
    return advices[static_cast<std::size_t>(kind)];
}

/// One sentence: what happened, when, and the system's own code.
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
        "the local address and port are in use",
        "not permitted: this host's firewall, or a missing privilege",
        "out of descriptors, ports or memory",
        "unknown host name",
        "the name service does not answer",
        "the other end is not the right one, or speaks another protocol",
        "the peer does not know the session: it was restarted, or the session expired there",
        "the peer has no room for another session",
        "the server asks to come back later",
        "the server sends its clients to another one",
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
