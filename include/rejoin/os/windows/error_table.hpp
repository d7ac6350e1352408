// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/error_row.hpp>

// What Windows' codes mean, with the reason beside each. Numbers, which no other system has: so it compiles, and is tested, everywhere.
namespace rejoin::inline v0_1::detail {

// Winsock's codes, and those of Windows that sockets give (Winsock reference, "Windows Sockets Error Codes").
inline constexpr ErrorRow windows_errors[] = {
    // The way, or this host's part of it.
    {10047, FailureKind::no_route},             // WSAEAFNOSUPPORT: this host has not this family
    {10046, FailureKind::no_route},             // WSAEPFNOSUPPORT: the same
    {10050, FailureKind::no_route},             // WSAENETDOWN
    {10051, FailureKind::no_route},             // WSAENETUNREACH
    {10091, FailureKind::no_route},             // WSASYSNOTREADY: the network is not up yet
    {1231, FailureKind::no_route},              // ERROR_NETWORK_UNREACHABLE
    {10042, FailureKind::unreachable},          // WSAENOPROTOOPT: ICMP protocol unreachable
    {10064, FailureKind::unreachable},          // WSAEHOSTDOWN
    {10065, FailureKind::unreachable},          // WSAEHOSTUNREACH: the gateway is dead, or ICMP said so
    {1232, FailureKind::unreachable},           // ERROR_HOST_UNREACHABLE
    {1233, FailureKind::unreachable},           // ERROR_PROTOCOL_UNREACHABLE
    {10049, FailureKind::address_unavailable},  // WSAEADDRNOTAVAIL: the address is gone or tentative
    {10013, FailureKind::forbidden},            // WSAEACCES: the firewall, or a port that somebody has for himself alone
    {5, FailureKind::forbidden},                // ERROR_ACCESS_DENIED
    // The peer, or the connection.
    {10061, FailureKind::refused},    // WSAECONNREFUSED
    {1225, FailureKind::refused},     // ERROR_CONNECTION_REFUSED
    {1234, FailureKind::refused},     // ERROR_PORT_UNREACHABLE
    {10060, FailureKind::timed_out},  // WSAETIMEDOUT
    {121, FailureKind::timed_out},    // ERROR_SEM_TIMEOUT
    {10004, FailureKind::reset},      // WSAEINTR: a call that the socket's end cut short
    {10052, FailureKind::reset},      // WSAENETRESET: keep-alive gave up, or the interface went
    {10053, FailureKind::reset},      // WSAECONNABORTED: retransmissions unanswered, or the address is gone
    {10054, FailureKind::reset},      // WSAECONNRESET
    {10057, FailureKind::reset},      // WSAENOTCONN: reset between two calls
    {10058, FailureKind::reset},      // WSAESHUTDOWN
    {10101, FailureKind::ended},      // WSAEDISCON
    {64, FailureKind::reset},         // ERROR_NETNAME_DELETED: what an overlapped call says of a reset
    {1236, FailureKind::reset},       // ERROR_CONNECTION_ABORTED
    {10103, FailureKind::cancelled},  // WSAECANCELLED
    {10111, FailureKind::cancelled},  // WSA_E_CANCELLED
    {995, FailureKind::cancelled},    // WSA_OPERATION_ABORTED
    // What this host has run out of.
    {8, FailureKind::exhausted},      // WSA_NOT_ENOUGH_MEMORY
    {14, FailureKind::exhausted},     // ERROR_OUTOFMEMORY
    {10024, FailureKind::exhausted},  // WSAEMFILE
    {10048, FailureKind::exhausted},  // WSAEADDRINUSE: no port left
    {10055, FailureKind::exhausted},  // WSAENOBUFS: no port or no memory
    {10059, FailureKind::exhausted},  // WSAETOOMANYREFS
    {10067, FailureKind::exhausted},  // WSAEPROCLIM
    {10068, FailureKind::exhausted},  // WSAEUSERS
    {10069, FailureKind::exhausted},  // WSAEDQUOT
    // The program's mistakes.
    {6, FailureKind::invalid},      // WSA_INVALID_HANDLE
    {87, FailureKind::invalid},     // WSA_INVALID_PARAMETER
    {996, FailureKind::invalid},    // WSA_IO_INCOMPLETE
    {997, FailureKind::invalid},    // WSA_IO_PENDING
    {10009, FailureKind::invalid},  // WSAEBADF
    {10014, FailureKind::invalid},  // WSAEFAULT
    {10022, FailureKind::invalid},  // WSAEINVAL
    {10035, FailureKind::invalid},  // WSAEWOULDBLOCK: no failure, and never comes this far
    {10036, FailureKind::invalid},  // WSAEINPROGRESS
    {10037, FailureKind::invalid},  // WSAEALREADY
    {10038, FailureKind::invalid},  // WSAENOTSOCK
    {10039, FailureKind::invalid},  // WSAEDESTADDRREQ
    {10040, FailureKind::invalid},  // WSAEMSGSIZE
    {10041, FailureKind::invalid},  // WSAEPROTOTYPE
    {10043, FailureKind::invalid},  // WSAEPROTONOSUPPORT
    {10044, FailureKind::invalid},  // WSAESOCKTNOSUPPORT
    {10045, FailureKind::invalid},  // WSAEOPNOTSUPP
    {10056, FailureKind::invalid},  // WSAEISCONN
    {10092, FailureKind::invalid},  // WSAVERNOTSUPPORTED
    {10093, FailureKind::invalid},  // WSANOTINITIALISED
    // No connection gives these.
    {10062, FailureKind::other},  // WSAELOOP
    {10063, FailureKind::other},  // WSAENAMETOOLONG
    {10066, FailureKind::other},  // WSAENOTEMPTY
    {10070, FailureKind::other},  // WSAESTALE
    {10071, FailureKind::other},  // WSAEREMOTE
    {10102, FailureKind::other},  // WSAENOMORE
    {10104, FailureKind::other},  // WSAEINVALIDPROCTABLE
    {10105, FailureKind::other},  // WSAEINVALIDPROVIDER
    {10106, FailureKind::other},  // WSAEPROVIDERFAILEDINIT
    {10107, FailureKind::other},  // WSASYSCALLFAILURE
    {10108, FailureKind::other},  // WSASERVICE_NOT_FOUND
    {10109, FailureKind::other},  // WSATYPE_NOT_FOUND
    {10110, FailureKind::other},  // WSA_E_NO_MORE
    {10112, FailureKind::other},  // WSAEREFUSED
    {11005, FailureKind::other},  // WSA_QOS_RECEIVERS
    {11006, FailureKind::other},  // WSA_QOS_SENDERS
    {11007, FailureKind::other},  // WSA_QOS_NO_SENDERS
    {11008, FailureKind::other},  // WSA_QOS_NO_RECEIVERS
    {11009, FailureKind::other},  // WSA_QOS_REQUEST_CONFIRMED
    {11010, FailureKind::other},  // WSA_QOS_ADMISSION_FAILURE
    {11011, FailureKind::other},  // WSA_QOS_POLICY_FAILURE
    {11012, FailureKind::other},  // WSA_QOS_BAD_STYLE
    {11013, FailureKind::other},  // WSA_QOS_BAD_OBJECT
    {11014, FailureKind::other},  // WSA_QOS_TRAFFIC_CTRL_ERROR
    {11015, FailureKind::other},  // WSA_QOS_GENERIC_ERROR
    {11016, FailureKind::other},  // WSA_QOS_ESERVICETYPE
    {11017, FailureKind::other},  // WSA_QOS_EFLOWSPEC
    {11018, FailureKind::other},  // WSA_QOS_EPROVSPECBUF
    {11019, FailureKind::other},  // WSA_QOS_EFILTERSTYLE
    {11020, FailureKind::other},  // WSA_QOS_EFILTERTYPE
    {11021, FailureKind::other},  // WSA_QOS_EFILTERCOUNT
    {11022, FailureKind::other},  // WSA_QOS_EOBJLENGTH
    {11023, FailureKind::other},  // WSA_QOS_EFLOWCOUNT
    {11024, FailureKind::other},  // WSA_QOS_EUNKNOWNPSOBJ
    {11025, FailureKind::other},  // WSA_QOS_EPOLICYOBJ
    {11026, FailureKind::other},  // WSA_QOS_EFLOWDESC
    {11027, FailureKind::other},  // WSA_QOS_EPSFLOWSPEC
    {11028, FailureKind::other},  // WSA_QOS_EPSFILTERSPEC
    {11029, FailureKind::other},  // WSA_QOS_ESDMODEOBJ
    {11030, FailureKind::other},  // WSA_QOS_ESHAPERATEOBJ
    {11031, FailureKind::other},  // WSA_QOS_RESERVED_PETYPE
};
inline constexpr StageRow windows_errors_at[] = {
    {10048, Stage::listening, FailureKind::address_in_use},  // WSAEADDRINUSE
    {10013, Stage::listening, FailureKind::address_in_use},  // WSAEACCES: somebody has the port for himself alone (SO_EXCLUSIVEADDRUSE)
};
// GetAddrInfoW.
inline constexpr ErrorRow windows_resolver_errors[] = {
    {11001, FailureKind::name_unknown},  // WSAHOST_NOT_FOUND
    {11004, FailureKind::name_unknown},  // WSANO_DATA: the name has no address
    {10109, FailureKind::name_unknown},  // WSATYPE_NOT_FOUND: no such service
    {11002, FailureKind::name_service},  // WSATRY_AGAIN: no server answered, or there is no network to ask over
    {11003, FailureKind::name_service},  // WSANO_RECOVERY
    {10108, FailureKind::name_service},  // WSASERVICE_NOT_FOUND: no name space provider
    {8, FailureKind::exhausted},         // WSA_NOT_ENOUGH_MEMORY
    {10022, FailureKind::invalid},       // WSAEINVAL
    {10044, FailureKind::invalid},       // WSAESOCKTNOSUPPORT
    {10047, FailureKind::invalid},       // WSAEAFNOSUPPORT
};

inline constexpr ErrorTables windows_tables = {windows_errors, windows_errors_at, windows_resolver_errors, 10049};

}  // namespace rejoin::inline v0_1::detail
