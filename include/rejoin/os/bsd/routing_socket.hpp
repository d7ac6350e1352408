// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/bsd/route_layout.hpp>
#include <rejoin/os/posix/poll.hpp>
#include <rejoin/os/source_address.hpp>

#if !defined(_WIN32) && !defined(__linux__)
#include <net/if.h>
#include <net/route.h>
#include <stddef.h>
#include <sys/ioctl.h>
#if defined(__APPLE__)
// Its sys/sysctl.h brings names into everybody's way (struct session, proc), for this one call.
extern "C" int sysctl(int*, unsigned, void*, std::size_t*, void*, std::size_t);
#else
#include <sys/sysctl.h>
#endif

#include <cstdlib>

#if __has_include(<netinet6/in6_var.h>)
#include <netinet6/in6_var.h>
#endif

namespace rejoin::inline v0_1 {

/// What `RouteSocket` asks the system: a routing socket (route(4)), the list of interfaces (sysctl(3): CTL_NET, PF_ROUTE), and a few
/// things that neither tells. What the kernel need not send is filtered out there, where it can be.
class RoutingSocket {
public:
    static const RouteDialect& dialect();
    static const RouteDialect& list_dialect();

    Error open() {
        socket_ = Socket(::socket(PF_ROUTE, SOCK_RAW, AF_UNSPEC));
        if (!socket_) return Error::system(errno);
#if defined(SO_RERROR)
        set(SOL_SOCKET, SO_RERROR, 1);  // say that messages were lost (FreeBSD 14, NetBSD 8)
#endif
#if defined(ROUTE_MSGFILTER)  // OpenBSD
        unsigned types = 0;
        for (const RouteMessageLayout& message : dialect().messages) types |= 1u << message.type;
        set(AF_ROUTE, ROUTE_MSGFILTER, types);
        set(AF_ROUTE, ROUTE_TABLEFILTER, static_cast<unsigned>(::getrtable()));
#if defined(ROUTE_FLAGFILTER)
        set(AF_ROUTE, ROUTE_FLAGFILTER, unsigned{RTF_LLINFO | RTF_BROADCAST | RTF_MULTICAST});
#endif
#elif defined(RO_MSGFILTER)  // NetBSD
        unsigned char types[32];
        socklen_t count = 0;
        for (const RouteMessageLayout& message : dialect().messages) types[count++] = message.type;
        ::setsockopt(socket_.fd(), PF_ROUTE, RO_MSGFILTER, types, count);
#endif
        return {};
    }
    int fd() const { return socket_.fd(); }
    Result<std::size_t> receive(MutableBytes to) { return socket_.receive(to); }
    Result<void> send(Bytes request) {
        if (::write(socket_.fd(), request.data(), request.size()) >= 0) return {};
        if (errno == ENOBUFS || errno == ENOMEM) return Errc::out_of_memory;
        if (errno == EAGAIN) return Errc::would_block;
        return Error::system(errno);
    }

    /// Gives the whole list to `sink(Bytes)`.
    template <class Sink>
    Result<void> list(Sink sink) {
#if defined(NET_RT_IFLISTL)
        constexpr int what = NET_RT_IFLISTL;
#else
        constexpr int what = NET_RT_IFLIST;
#endif
#if defined(__APPLE__)
        constexpr int ctl_net = 4;
#else
        constexpr int ctl_net = CTL_NET;
#endif
        int name[] = {ctl_net, PF_ROUTE, 0, 0, what, 0};
        // Between the two calls the list may grow; then the second has no room for it.
        for (int attempt = 0;; ++attempt) {
            std::size_t size = 0;
            if (::sysctl(name, 6, nullptr, &size, nullptr, 0) != 0) return Error::system(errno);
            size += size / 4 + 512;
            void* const buffer = std::malloc(size);
            if (buffer == nullptr) return Errc::out_of_memory;
            Error error;
            if (::sysctl(name, 6, buffer, &size, nullptr, 0) != 0)
                error = Error::system(errno);
            else
                sink(Bytes(static_cast<const std::byte*>(buffer), size));
            std::free(buffer);
            if (error != Error::system(ENOMEM) || attempt == 4) return error;
        }
    }
    /// `unsupported` where the system's headers do not have it.
    Result<std::uint32_t> address_flags(TextView interface_, const IpAddress& ip) {
#if defined(SIOCGIFAFLAG_IN6)
        auto socket = Socket::udp(Family::v6);
        if (!socket) return socket.error();
        in6_ifreq request{};
        std::memcpy(request.ifr_name, interface_.data(), interface_.size() < IFNAMSIZ - 1 ? interface_.size() : IFNAMSIZ - 1);
        request.ifr_addr.sin6_len = sizeof request.ifr_addr;
        request.ifr_addr.sin6_family = AF_INET6;
        std::memcpy(&request.ifr_addr.sin6_addr, ip.bytes, 16);
        request.ifr_addr.sin6_scope_id = ip.scope;
        if (::ioctl(socket->fd(), SIOCGIFAFLAG_IN6, &request) != 0) return Error::system(errno);
        return static_cast<std::uint32_t>(request.ifr_ifru.ifru_flags6);
#else
        static_cast<void>(interface_), static_cast<void>(ip);
        return Errc::unsupported;
#endif
    }
    Text<15> interface_name(std::uint32_t index) {
        char name[IF_NAMESIZE];
        return ::if_indextoname(index, name) != nullptr ? Text<15>(name) : Text<15>();
    }
    IpAddress source(const IpAddress& destination) { return source_address(destination); }
    std::uint32_t process() const { return static_cast<std::uint32_t>(::getpid()); }
    void wait(Duration d) {
        pollfd readable{socket_.fd(), POLLIN, 0};
        ::poll(&readable, 1, static_cast<int>(d.milliseconds()));
    }

private:
    template <class T>
    void set(int level, int option, const T& value) {
        ::setsockopt(socket_.fd(), level, option, &value, sizeof value);
    }
    Socket socket_;
};

namespace detail {
#if defined(__APPLE__)
inline constexpr const RouteDialect &system_dialect = route_dialect::macos, &system_list_dialect = route_dialect::macos;
#elif defined(__FreeBSD__)
inline constexpr bool wide = sizeof(long) == 8;
inline constexpr const RouteDialect& system_dialect = wide ? route_dialect::freebsd : route_dialect::freebsd_32;
inline constexpr const RouteDialect& system_list_dialect = wide ? route_dialect::freebsd_list : route_dialect::freebsd_list_32;
#elif defined(__NetBSD__)
inline constexpr const RouteDialect &system_dialect = route_dialect::netbsd, &system_list_dialect = route_dialect::netbsd;
#else
inline constexpr const RouteDialect& system_dialect = sizeof(long) == 8 ? route_dialect::openbsd : route_dialect::openbsd_32;
inline constexpr const RouteDialect& system_list_dialect = system_dialect;
#endif
}  // namespace detail

inline const RouteDialect& RoutingSocket::dialect() { return detail::system_dialect; }
inline const RouteDialect& RoutingSocket::list_dialect() { return detail::system_list_dialect; }

// The decoder's tables are the system's structures.
static_assert([] {
    const auto layout = [](const RouteDialect& dialect, std::uint8_t type) {
        for (const RouteMessageLayout& known : dialect.messages)
            if (known.type == type) return known;
        return RouteMessageLayout{};
    };
    const RouteDialect& dialect = detail::system_dialect;
    const RouteMessageLayout route = layout(dialect, RTM_GET), address = layout(dialect, RTM_NEWADDR), link = layout(dialect, RTM_IFINFO);
    bool same = dialect.version == RTM_VERSION && dialect.af_inet6 == AF_INET6 && rtsock::af_inet == AF_INET &&
                rtsock::af_link == AF_LINK && rtsock::rtax_gateway == RTAX_GATEWAY && rtsock::rtax_netmask == RTAX_NETMASK &&
                rtsock::rtax_ifp == RTAX_IFP && rtsock::rtax_ifa == RTAX_IFA && rtsock::rtf_up == RTF_UP &&
                rtsock::rtf_gateway == RTF_GATEWAY && rtsock::rtf_host == RTF_HOST && rtsock::rtf_reject == RTF_REJECT &&
                rtsock::rtf_blackhole == RTF_BLACKHOLE && rtsock::iff_up == IFF_UP && rtsock::iff_loopback == IFF_LOOPBACK &&
                rtsock::iff_pointopoint == IFF_POINTOPOINT && rtsock::iff_running == IFF_RUNNING &&
                layout(dialect, RTM_DELADDR).type == RTM_DELADDR;
    same = same && route.header == sizeof(rt_msghdr) && route.addrs == offsetof(rt_msghdr, rtm_addrs) &&
           route.flags == offsetof(rt_msghdr, rtm_flags) && route.index == offsetof(rt_msghdr, rtm_index) &&
           route.error == offsetof(rt_msghdr, rtm_errno) && route.process == offsetof(rt_msghdr, rtm_pid) &&
           route.sequence == offsetof(rt_msghdr, rtm_seq);
    same = same && address.addrs == offsetof(ifa_msghdr, ifam_addrs) && address.index == offsetof(ifa_msghdr, ifam_index) &&
           link.addrs == offsetof(if_msghdr, ifm_addrs) && link.flags == offsetof(if_msghdr, ifm_flags) &&
           link.index == offsetof(if_msghdr, ifm_index);
#if defined(__APPLE__)
    const RouteMessageLayout longer = layout(dialect, RTM_IFINFO2);
    same = same && dialect.rtf_ifscope == RTF_IFSCOPE && address.header == sizeof(ifa_msghdr) && link.header == sizeof(if_msghdr) &&
           longer.header == sizeof(if_msghdr2) && longer.index == offsetof(if_msghdr2, ifm_index);
#else
    const RouteMessageLayout announcement = layout(dialect, RTM_IFANNOUNCE);
    same = same && link.link_state == offsetof(if_msghdr, ifm_data) + offsetof(if_data, ifi_link_state) &&
           dialect.link_up == LINK_STATE_UP && announcement.index == offsetof(if_announcemsghdr, ifan_index) &&
           announcement.name == offsetof(if_announcemsghdr, ifan_name) &&
           announcement.announced == offsetof(if_announcemsghdr, ifan_what) && rtsock::ifan_departure == IFAN_DEPARTURE;
#endif
#if defined(__FreeBSD__)
    const RouteMessageLayout listed = layout(detail::system_list_dialect, RTM_IFINFO);
    same = same && address.header == sizeof(ifa_msghdr) && link.header == sizeof(if_msghdr) &&
           listed.header_length == offsetof(if_msghdrl, ifm_len) && listed.data == offsetof(if_msghdrl, ifm_data_off) &&
           listed.link_state == offsetof(if_data, ifi_link_state) &&
           layout(detail::system_list_dialect, RTM_NEWADDR).header_length == offsetof(ifa_msghdrl, ifam_len);
#elif defined(__NetBSD__)
    same = same && address.header == sizeof(ifa_msghdr) && link.header == sizeof(if_msghdr) &&
           address.address_flags == offsetof(ifa_msghdr, ifam_addrflags) && layout(dialect, RTM_CHGADDR).type == RTM_CHGADDR;
#elif defined(__OpenBSD__)
    same = same && route.table == offsetof(rt_msghdr, rtm_tableid) && route.header_length == offsetof(rt_msghdr, rtm_hdrlen) &&
           address.header_length == offsetof(ifa_msghdr, ifam_hdrlen) && layout(dialect, RTM_DESYNC).type == RTM_DESYNC &&
           layout(dialect, RTM_CHGADDRATTR).type == RTM_CHGADDRATTR;
#endif
    return same;
}());

}  // namespace rejoin::inline v0_1
#endif
