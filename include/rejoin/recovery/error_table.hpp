// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/recovery/failure.hpp>

#if !defined(_WIN32)
#include <errno.h>
#include <netdb.h>
#endif

// What each of the systems' own codes means, with the reason beside it. By name where systems number them differently (POSIX), by number
// where only one system has them (Windows): so that each table compiles wherever it can.
namespace rejoin::inline v0_1::detail {

struct ErrorRow {
    std::int16_t code;
    FailureKind kind;
};
struct StageRow {
    std::int16_t code;
    Stage stage;
    FailureKind kind;
};

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
inline constexpr std::int16_t windows_address_not_available = 10049;

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

#if !defined(_WIN32)
inline constexpr ErrorRow posix_errors[] = {
    // The way, or this host's part of it.
    {EACCES, FailureKind::no_route},                    // a prohibit route; a broadcast address without SO_BROADCAST is the program's fault
    {EAFNOSUPPORT, FailureKind::no_route},              // this host has not this family
    {EPFNOSUPPORT, FailureKind::no_route},              // the same
    {ENETDOWN, FailureKind::no_route},                  // the interface is switched off; macOS after waking
    {ENETUNREACH, FailureKind::no_route},               //
    {ENODEV, FailureKind::no_route},                    // the bound device is gone
    {ENXIO, FailureKind::no_route},                     // the same, on the BSDs
    {ENOPROTOOPT, FailureKind::unreachable},            // ICMP protocol unreachable
    {EHOSTDOWN, FailureKind::unreachable},              // the last hop does not answer: macOS and the BSDs
    {EHOSTUNREACH, FailureKind::unreachable},           // the gateway is dead, or ICMP said so
    {EADDRNOTAVAIL, FailureKind::address_unavailable},  // the address is gone or tentative
    {EPERM, FailureKind::forbidden},                    // an output rule of the local firewall (UDP), or SO_BINDTODEVICE without privilege
    // The peer, or the connection.
    {ECONNREFUSED, FailureKind::refused},  //
    {ETIMEDOUT, FailureKind::timed_out},   //
    {EINTR, FailureKind::reset},           // on a socket only when it is torn down under the call
    {EPIPE, FailureKind::reset},           // written after the peer's reset
    {ENETRESET, FailureKind::reset},       // keep-alive gave up
    {ECONNABORTED, FailureKind::reset},    // the system destroyed the socket
    {ECONNRESET, FailureKind::reset},      //
    {ENOTCONN, FailureKind::reset},        // reset between two calls
    {ESHUTDOWN, FailureKind::reset},       //
    {EPROTO, FailureKind::reset},          // what accept(2) says of a connection that is gone again
    {ECANCELED, FailureKind::cancelled},   //
    // What this host has run out of.
    {EAGAIN, FailureKind::exhausted},        // no failure on a socket; of threads and ports, none left
    {EWOULDBLOCK, FailureKind::exhausted},   // the same
    {ENOMEM, FailureKind::exhausted},        //
    {ENFILE, FailureKind::exhausted},        //
    {EMFILE, FailureKind::exhausted},        //
    {ENOSPC, FailureKind::exhausted},        // inotify's and epoll's limits
    {EDQUOT, FailureKind::exhausted},        //
    {EADDRINUSE, FailureKind::exhausted},    // no port left
    {ENOBUFS, FailureKind::exhausted},       // the interface's queue is full, for a moment
    {EUSERS, FailureKind::exhausted},        //
    {ETOOMANYREFS, FailureKind::exhausted},  // descriptors on their way through a Unix socket
    // The program's mistakes.
    {EINVAL, FailureKind::invalid},           //
    {EBADF, FailureKind::invalid},            //
    {ENOTSOCK, FailureKind::invalid},         //
    {EFAULT, FailureKind::invalid},           //
    {EDESTADDRREQ, FailureKind::invalid},     //
    {EMSGSIZE, FailureKind::invalid},         // a datagram too large for the path
    {EPROTOTYPE, FailureKind::invalid},       //
    {EPROTONOSUPPORT, FailureKind::invalid},  //
    {ESOCKTNOSUPPORT, FailureKind::invalid},  //
    {EOPNOTSUPP, FailureKind::invalid},       //
    {ENOTSUP, FailureKind::invalid},          // the same, on some systems
    {EISCONN, FailureKind::invalid},          //
    {EALREADY, FailureKind::invalid},         // no failure, and never comes this far
    {EINPROGRESS, FailureKind::invalid},      // the same
    {ENOSYS, FailureKind::invalid},           // a sandbox, or an old kernel
    // No socket gives these.
    {ENOENT, FailureKind::other},
    {ESRCH, FailureKind::other},
    {EIO, FailureKind::other},
    {E2BIG, FailureKind::other},
    {ENOEXEC, FailureKind::other},
    {ECHILD, FailureKind::other},
    {EDEADLK, FailureKind::other},
    {ENOTBLK, FailureKind::other},
    {EBUSY, FailureKind::other},
    {EEXIST, FailureKind::other},
    {EXDEV, FailureKind::other},
    {ENOTDIR, FailureKind::other},
    {EISDIR, FailureKind::other},
    {ENOTTY, FailureKind::other},
    {ETXTBSY, FailureKind::other},
    {EFBIG, FailureKind::other},
    {ESPIPE, FailureKind::other},
    {EROFS, FailureKind::other},
    {EMLINK, FailureKind::other},
    {EDOM, FailureKind::other},
    {ERANGE, FailureKind::other},
    {ELOOP, FailureKind::other},
    {ENAMETOOLONG, FailureKind::other},
    {ENOTEMPTY, FailureKind::other},
    {ESTALE, FailureKind::other},
    {EREMOTE, FailureKind::other},
    {ENOLCK, FailureKind::other},
    {EOVERFLOW, FailureKind::other},
    {EIDRM, FailureKind::other},
    {ENOMSG, FailureKind::other},
    {EILSEQ, FailureKind::other},
    {EBADMSG, FailureKind::other},
    {ENOTRECOVERABLE, FailureKind::other},
    {EOWNERDEAD, FailureKind::other},
#if defined(EMULTIHOP)  // all but OpenBSD
    {EMULTIHOP, FailureKind::other},
    {ENOLINK, FailureKind::other},
#endif
#if defined(ETIME)  // Linux, macOS, NetBSD: of STREAMS
    {ETIME, FailureKind::timed_out},
    {ENOSR, FailureKind::exhausted},
    {ENODATA, FailureKind::other},
    {ENOSTR, FailureKind::other},
#endif
#if defined(ERFKILL)                        // Linux
    {ERFKILL, FailureKind::no_route},       // the radio is switched off
    {ENONET, FailureKind::no_route},        // a machine that is not on the network
    {ECOMM, FailureKind::unreachable},      // a link that could not send
    {ENOKEY, FailureKind::no_route},        // a tunnel without a key for the peer
    {EKEYEXPIRED, FailureKind::no_route},   // the same
    {EKEYREVOKED, FailureKind::no_route},   // the same
    {EKEYREJECTED, FailureKind::no_route},  // the same
    {ERESTART, FailureKind::reset},         // an interrupted call
    {EADV, FailureKind::other},
    {EBADE, FailureKind::other},
    {EBADFD, FailureKind::invalid},
    {EBADR, FailureKind::other},
    {EBADRQC, FailureKind::other},
    {EBADSLT, FailureKind::other},
    {EBFONT, FailureKind::other},
    {ECHRNG, FailureKind::other},
    {EDEADLOCK, FailureKind::other},
    {EDOTDOT, FailureKind::other},
    {EHWPOISON, FailureKind::other},
    {EISNAM, FailureKind::other},
    {EL2HLT, FailureKind::other},
    {EL2NSYNC, FailureKind::other},
    {EL3HLT, FailureKind::other},
    {EL3RST, FailureKind::other},
    {ELIBACC, FailureKind::other},
    {ELIBBAD, FailureKind::other},
    {ELIBEXEC, FailureKind::other},
    {ELIBMAX, FailureKind::other},
    {ELIBSCN, FailureKind::other},
    {ELNRNG, FailureKind::other},
    {EMEDIUMTYPE, FailureKind::other},
    {ENAVAIL, FailureKind::other},
    {ENOANO, FailureKind::other},
    {ENOCSI, FailureKind::other},
    {ENOMEDIUM, FailureKind::other},
    {ENOPKG, FailureKind::other},
    {ENOTNAM, FailureKind::other},
    {ENOTUNIQ, FailureKind::other},
    {EREMCHG, FailureKind::other},
    {EREMOTEIO, FailureKind::other},
    {ESRMNT, FailureKind::other},
    {ESTRPIPE, FailureKind::other},
    {EUCLEAN, FailureKind::other},
    {EUNATCH, FailureKind::other},
    {EXFULL, FailureKind::other},
#else  // macOS and the BSDs
    {EPROCLIM, FailureKind::exhausted},
    {EAUTH, FailureKind::other},
    {ENEEDAUTH, FailureKind::other},
    {EBADRPC, FailureKind::other},
    {ERPCMISMATCH, FailureKind::other},
    {EPROGUNAVAIL, FailureKind::other},
    {EPROGMISMATCH, FailureKind::other},
    {EPROCUNAVAIL, FailureKind::other},
    {EFTYPE, FailureKind::other},
    {ENOATTR, FailureKind::other},
#endif
#if defined(EQFULL)                    // macOS
    {EQFULL, FailureKind::exhausted},  // the interface's queue is full
    {EPWROFF, FailureKind::no_route},  // the device is switched off
    {EDEVERR, FailureKind::no_route},  // the device is broken
    {EBADEXEC, FailureKind::other},
    {EBADARCH, FailureKind::other},
    {ESHLIBVERS, FailureKind::other},
    {EBADMACHO, FailureKind::other},
    {ENOPOLICY, FailureKind::other},
#endif
#if defined(ENOTCAPABLE)  // macOS, FreeBSD: a sandbox (Capsicum)
    {ENOTCAPABLE, FailureKind::forbidden},
#endif
#if defined(ECAPMODE)  // FreeBSD
    {ECAPMODE, FailureKind::forbidden},
    {EDOOFUS, FailureKind::invalid},
    {EINTEGRITY, FailureKind::other},
#endif
#if defined(EIPSEC)  // OpenBSD: its IPsec policy lets nothing through in the clear
    {EIPSEC, FailureKind::forbidden},
#endif
};
inline constexpr StageRow posix_errors_at[] = {
    {EACCES, Stage::listening, FailureKind::forbidden},           // a port below 1024 without privilege
    {EADDRINUSE, Stage::listening, FailureKind::address_in_use},  //
    {EINVAL, Stage::connecting, FailureKind::no_route},           // a blackhole route
    {EPROTOTYPE, Stage::established, FailureKind::reset},         // macOS: written while the connection was being torn down
    {EPROTOTYPE, Stage::handshaking, FailureKind::reset},         // the same
    {EPROTOTYPE, Stage::resuming, FailureKind::reset},            // the same
};
inline constexpr std::int16_t posix_address_not_available = EADDRNOTAVAIL;

// getaddrinfo(3).
inline constexpr ErrorRow posix_resolver_errors[] = {
    {EAI_NONAME, FailureKind::name_unknown},
    {EAI_SERVICE, FailureKind::name_unknown},  // no such service
    {EAI_AGAIN, FailureKind::name_service},    // no server answered, or there is no network to ask over
    {EAI_FAIL, FailureKind::name_service},
    {EAI_MEMORY, FailureKind::exhausted},
    {EAI_OVERFLOW, FailureKind::invalid},
    {EAI_BADFLAGS, FailureKind::invalid},
    {EAI_FAMILY, FailureKind::invalid},
    {EAI_SOCKTYPE, FailureKind::invalid},
    {EAI_SYSTEM, FailureKind::other},  // errno is given in its place
#if defined(EAI_NODATA)
    {EAI_NODATA, FailureKind::name_unknown},  // the name has no address
#endif
#if defined(EAI_ADDRFAMILY)
    {EAI_ADDRFAMILY, FailureKind::name_unknown},  // none of the family asked for
#endif
#if defined(EAI_BADHINTS)  // macOS and the BSDs
    {EAI_BADHINTS, FailureKind::invalid},
    {EAI_PROTOCOL, FailureKind::invalid},
#endif
#if defined(EAI_INPROGRESS)  // glibc's getaddrinfo_a(3)
    {EAI_INPROGRESS, FailureKind::invalid},
    {EAI_CANCELED, FailureKind::cancelled},
    {EAI_NOTCANCELED, FailureKind::invalid},
    {EAI_ALLDONE, FailureKind::invalid},
    {EAI_INTR, FailureKind::cancelled},
    {EAI_IDN_ENCODE, FailureKind::name_unknown},  // what cannot be a name
#endif
};
#endif

}  // namespace rejoin::inline v0_1::detail
