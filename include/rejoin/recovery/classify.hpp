// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/recovery/failure.hpp>

namespace rejoin::inline v0_1 {

namespace detail {

struct ErrorRow {
    std::int32_t code;
    FailureKind kind;
};

inline constexpr ErrorRow linux_errors[] = {
    {1, FailureKind::forbidden},             // EPERM: an output rule of the local firewall (UDP), or SO_BINDTODEVICE without privilege
    {4, FailureKind::reset},                 // EINTR: on a socket only when it is torn down under the call
    {12, FailureKind::exhausted},            // ENOMEM
    {13, FailureKind::no_route},             // EACCES: a prohibit route; a broadcast address without SO_BROADCAST is the program's fault
    {19, FailureKind::no_route},             // ENODEV: the bound device is gone
    {22, FailureKind::no_route},             // EINVAL: a blackhole route, on connect
    {23, FailureKind::exhausted},            // ENFILE
    {24, FailureKind::exhausted},            // EMFILE
    {32, FailureKind::reset},                // EPIPE: written after the peer's reset
    {71, FailureKind::reset},                // EPROTO
    {92, FailureKind::unreachable},          // ENOPROTOOPT: ICMP protocol unreachable
    {97, FailureKind::no_route},             // EAFNOSUPPORT: this host has not this family
    {98, FailureKind::exhausted},            // EADDRINUSE: no port left on connect; on listen, taken
    {99, FailureKind::address_unavailable},  // EADDRNOTAVAIL: the address is gone or tentative; on connect, no port left
    {100, FailureKind::no_route},            // ENETDOWN
    {101, FailureKind::no_route},            // ENETUNREACH
    {102, FailureKind::reset},               // ENETRESET
    {103, FailureKind::reset},               // ECONNABORTED: the system destroyed the socket
    {104, FailureKind::reset},               // ECONNRESET
    {105, FailureKind::exhausted},           // ENOBUFS
    {107, FailureKind::reset},               // ENOTCONN: reset between two calls
    {110, FailureKind::timed_out},           // ETIMEDOUT
    {111, FailureKind::refused},             // ECONNREFUSED
    {112, FailureKind::unreachable},         // EHOSTDOWN
    {113, FailureKind::unreachable},         // EHOSTUNREACH: the gateway is dead, or ICMP said so
};

inline constexpr ErrorRow resolver_errors[] = {
    {-2, FailureKind::name_unknown},  // EAI_NONAME
    {-3, FailureKind::name_service},  // EAI_AGAIN: no server answered, or there is no network to ask over
    {-4, FailureKind::name_service},  // EAI_FAIL
    {-5, FailureKind::name_unknown},  // EAI_NODATA: the name has no address
    {-9, FailureKind::name_unknown},  // EAI_ADDRFAMILY
    {-10, FailureKind::exhausted},    // EAI_MEMORY
};

constexpr FailureKind kind_of(Errc code) {
    switch (code) {
        case Errc::ok:
            return FailureKind::none;
        case Errc::out_of_memory:
            return FailureKind::exhausted;
        case Errc::timed_out:
            return FailureKind::timed_out;
        case Errc::cancelled:
            return FailureKind::cancelled;
        case Errc::malformed:
        case Errc::version_mismatch:
        case Errc::proof_invalid:
            return FailureKind::protocol;
        case Errc::session_unknown:
            return FailureKind::session_unknown;
        case Errc::session_limit:
            return FailureKind::session_refused;
        case Errc::session_aborted:
            return FailureKind::session_aborted;
        case Errc::session_fenced:
            return FailureKind::fenced;
        case Errc::session_expired:
            return FailureKind::session_expired;
        case Errc::unresponsive:
            return FailureKind::unresponsive;
        case Errc::address_lost:
            return FailureKind::address_lost;
        case Errc::end_of_stream:
            return FailureKind::ended;
        case Errc::would_block:
        case Errc::invalid_argument:
        case Errc::invalid_state:
        case Errc::too_large:
        case Errc::unsupported:
            return FailureKind::invalid;
    }
    return FailureKind::other;
}

}  // namespace detail

/// What an error means at the stage where it came up. Total: a code without a row is `other`, and is kept. Pure.
[[gnu::cold]] inline Failure classify(Error error, Stage stage) {
    Failure failure{FailureKind::other, stage, error};
    const auto look_up = [&](const auto& rows) {
        for (const detail::ErrorRow& row : rows)
            if (row.code == error.code()) failure.kind = row.kind;
    };
    if (!error)
        failure.kind = FailureKind::none;
    else if (error.domain() == Error::Domain::rejoin)
        failure.kind = detail::kind_of(static_cast<Errc>(error.code()));
    else if (error.domain() == Error::Domain::resolver)
        look_up(detail::resolver_errors);
    else
        look_up(detail::linux_errors);
    return failure;
}

}  // namespace rejoin::inline v0_1
