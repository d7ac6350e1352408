// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/windows/winsock.hpp>
#include <rejoin/recovery/failure.hpp>

#if !defined(_WIN32)
#include <errno.h>
#include <netdb.h>
#endif

namespace rejoin::inline v0_1 {

namespace detail {

struct ErrorRow {
    std::int32_t code;
    FailureKind kind;
};

#if defined(_WIN32)
inline constexpr ErrorRow system_errors[] = {
    {8, FailureKind::exhausted},                           // ERROR_NOT_ENOUGH_MEMORY
    {14, FailureKind::exhausted},                          // ERROR_OUTOFMEMORY
    {WSAEINTR, FailureKind::reset},                        // a call that the socket's end cut short
    {WSAEACCES, FailureKind::forbidden},                   // the firewall, or a port that somebody has for himself alone
    {WSAEMFILE, FailureKind::exhausted},                   //
    {WSAENOPROTOOPT, FailureKind::unreachable},            // ICMP protocol unreachable
    {WSAEAFNOSUPPORT, FailureKind::no_route},              // this host has not this family
    {WSAEADDRINUSE, FailureKind::exhausted},               // no port left on connect; on listen, taken
    {WSAEADDRNOTAVAIL, FailureKind::address_unavailable},  // the address is gone or tentative
    {WSAENETDOWN, FailureKind::no_route},                  //
    {WSAENETUNREACH, FailureKind::no_route},               //
    {WSAENETRESET, FailureKind::reset},                    // keep-alive gave up, or the interface went
    {WSAECONNABORTED, FailureKind::reset},                 // the system ended it: retransmissions unanswered, or the address is gone
    {WSAECONNRESET, FailureKind::reset},                   //
    {WSAENOBUFS, FailureKind::exhausted},                  // no port or no memory
    {WSAENOTCONN, FailureKind::reset},                     // reset between two calls
    {WSAESHUTDOWN, FailureKind::reset},                    //
    {WSAETIMEDOUT, FailureKind::timed_out},                //
    {WSAECONNREFUSED, FailureKind::refused},               //
    {WSAEHOSTDOWN, FailureKind::unreachable},              //
    {WSAEHOSTUNREACH, FailureKind::unreachable},           // the gateway is dead, or ICMP said so
    {WSAEPROCLIM, FailureKind::exhausted},                 //
    {WSASYSNOTREADY, FailureKind::no_route},               // the network is not up yet
};

// GetAddrInfoW
inline constexpr ErrorRow resolver_errors[] = {
    {WSAHOST_NOT_FOUND, FailureKind::name_unknown},
    {WSATRY_AGAIN, FailureKind::name_service},  // no server answered, or there is no network to ask over
    {WSANO_RECOVERY, FailureKind::name_service},
    {WSANO_DATA, FailureKind::name_unknown},  // the name has no address
    {WSA_NOT_ENOUGH_MEMORY, FailureKind::exhausted},
};
#else
// By their names: each system has its own numbers.
inline constexpr ErrorRow system_errors[] = {
    {EPERM, FailureKind::forbidden},                    // an output rule of the local firewall (UDP), or SO_BINDTODEVICE without privilege
    {EINTR, FailureKind::reset},                        // on a socket only when it is torn down under the call
    {ENOMEM, FailureKind::exhausted},                   //
    {EACCES, FailureKind::no_route},                    // a prohibit route; a broadcast address without SO_BROADCAST is the program's fault
    {ENODEV, FailureKind::no_route},                    // the bound device is gone
    {EINVAL, FailureKind::no_route},                    // a blackhole route, on connect
    {ENFILE, FailureKind::exhausted},                   //
    {EMFILE, FailureKind::exhausted},                   //
    {EPIPE, FailureKind::reset},                        // written after the peer's reset
    {EPROTO, FailureKind::reset},                       //
    {ENOPROTOOPT, FailureKind::unreachable},            // ICMP protocol unreachable
    {EAFNOSUPPORT, FailureKind::no_route},              // this host has not this family
    {EADDRINUSE, FailureKind::exhausted},               // no port left on connect; on listen, taken
    {EADDRNOTAVAIL, FailureKind::address_unavailable},  // the address is gone or tentative; on connect, no port left
    {ENETDOWN, FailureKind::no_route},                  //
    {ENETUNREACH, FailureKind::no_route},               //
    {ENETRESET, FailureKind::reset},                    //
    {ECONNABORTED, FailureKind::reset},                 // the system destroyed the socket
    {ECONNRESET, FailureKind::reset},                   //
    {ENOBUFS, FailureKind::exhausted},                  //
    {ENOTCONN, FailureKind::reset},                     // reset between two calls
    {ETIMEDOUT, FailureKind::timed_out},                //
    {ECONNREFUSED, FailureKind::refused},               //
    {EHOSTDOWN, FailureKind::unreachable},              //
    {EHOSTUNREACH, FailureKind::unreachable},           // the gateway is dead, or ICMP said so
};

inline constexpr ErrorRow resolver_errors[] = {
    {EAI_NONAME, FailureKind::name_unknown},
    {EAI_AGAIN, FailureKind::name_service},  // no server answered, or there is no network to ask over
    {EAI_FAIL, FailureKind::name_service},
#if defined(EAI_NODATA)
    {EAI_NODATA, FailureKind::name_unknown},  // the name has no address
#endif
#if defined(EAI_ADDRFAMILY)
    {EAI_ADDRFAMILY, FailureKind::name_unknown},
#endif
    {EAI_MEMORY, FailureKind::exhausted},
};
#endif

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
        look_up(detail::system_errors);
    return failure;
}

}  // namespace rejoin::inline v0_1
