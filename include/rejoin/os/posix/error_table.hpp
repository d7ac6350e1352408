// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/error_row.hpp>

#if !defined(_WIN32)
#include <errno.h>
#include <netdb.h>

// What the POSIX systems' codes mean, with the reason beside each. By name: each system has its own numbers.
namespace rejoin::inline v0_1::detail {

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

#if defined(__APPLE__)
inline constexpr std::int16_t local_network_denied = EHOSTUNREACH;
#else
inline constexpr std::int16_t local_network_denied = 0;
#endif
inline constexpr ErrorTables posix_tables = {posix_errors, posix_errors_at, posix_resolver_errors, EADDRNOTAVAIL, local_network_denied};

}  // namespace rejoin::inline v0_1::detail
#endif
