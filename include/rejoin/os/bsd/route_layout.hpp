// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <span>

namespace rejoin::inline v0_1 {

/// Routing sockets (route(4)) of macOS, FreeBSD, NetBSD and OpenBSD: the numbers that all of them share, named as their headers name
/// them, but in small letters, which no header defines as macros.
namespace rtsock {

// rtm_type
inline constexpr std::uint8_t rtm_add = 1, rtm_delete = 2, rtm_change = 3, rtm_get = 4;
// rtm_addrs, and the order in which the addresses follow a header
inline constexpr std::uint32_t rta_dst = 0x1, rta_netmask = 0x4, rta_ifp = 0x10;
inline constexpr std::size_t rtax_dst = 0, rtax_gateway = 1, rtax_netmask = 2, rtax_ifp = 4, rtax_ifa = 5;
// rtm_flags
inline constexpr std::uint32_t rtf_up = 0x1, rtf_gateway = 0x2, rtf_host = 0x4, rtf_reject = 0x8, rtf_blackhole = 0x1000;
// ifm_flags
inline constexpr std::uint32_t iff_up = 0x1, iff_loopback = 0x8, iff_pointopoint = 0x10, iff_running = 0x40;
// families: that of IPv6 is each system's own
inline constexpr std::uint8_t af_inet = 2, af_link = 18;
// ifan_what
inline constexpr std::uint16_t ifan_departure = 1;
// flags of an IPv6 address (netinet6/in6_var.h)
inline constexpr std::uint32_t in6_iff_tentative = 0x02, in6_iff_duplicated = 0x04, in6_iff_detached = 0x08, in6_iff_deprecated = 0x10,
                               in6_iff_temporary = 0x80;
// and NetBSD's of an IPv4 address (netinet/in_var.h)
inline constexpr std::uint32_t in_iff_tentative = 0x01, in_iff_duplicated = 0x02, in_iff_detached = 0x04, in_iff_trytentative = 0x08;

}  // namespace rtsock

/// Where the fields of one type of message stand: offsets in bytes. 0 is a field that it does not have.
struct RouteMessageLayout {
    enum class What : std::uint8_t {
        change,        ///< of a route
        answer,        ///< to RTM_GET
        interface_,    ///< as it is
        address,       ///< as it is
        address_gone,  ///<
        announcement,  ///< an interface came or went
        overrun,       ///< messages were lost
    };
    std::uint8_t type;
    What what;
    std::uint8_t header;             ///< size; the least one, where the message says it itself
    std::uint8_t header_length = 0;  ///< u16: the size of the header
    std::uint8_t addrs = 0;          ///< u32: which addresses follow the header
    std::uint8_t flags = 0;          ///< u32
    std::uint8_t index = 0;          ///< u16: of the interface
    std::uint8_t error = 0;          ///< u32: errno
    std::uint8_t process = 0;        ///< u32: who asked, and
    std::uint8_t sequence = 0;       ///< u32: what he called it
    std::uint8_t table = 0;          ///< u16: the routing table
    std::uint8_t data = 0;           ///< u16: the offset of if_data, to which `link_state` is then relative
    std::uint8_t link_state = 0;
    std::uint8_t link_state_size = 1;
    std::uint8_t name = 0;           ///< 16 bytes
    std::uint8_t announced = 0;      ///< u16: whether it came or went
    std::uint8_t address_flags = 0;  ///< u32: in6_iff_, in_iff_
};

/// One system's form of the messages: all that a decoder has to know of it.
struct RouteDialect {
    std::uint8_t version;       ///< RTM_VERSION
    std::uint8_t af_inet6;      ///<
    std::uint8_t alignment;     ///< of the addresses behind a header
    std::uint8_t link_up;       ///< link states from here on are up, 0 is not known, and the others are down
    std::uint32_t rtf_ifscope;  ///< the flag of a route that counts only for what is bound to its interface; 0: there are none
    bool in_iff;                ///< addresses come with their flags, those of IPv4 too
    bool embeds_scope;          ///< requests have the scope of a link-local address inside it
    bool makes_noise;           ///< some interfaces are the system's own: `noise_interface`
    std::span<const RouteMessageLayout> messages;
};

namespace detail {

using RouteWhat = RouteMessageLayout::What;

// rt_msghdr
constexpr RouteMessageLayout bsd_route(std::uint8_t type, RouteWhat what, std::uint8_t header) {
    return {.type = type, .what = what, .header = header, .addrs = 12, .flags = 8, .index = 4, .error = 24, .process = 16, .sequence = 20};
}
constexpr RouteMessageLayout openbsd_route(std::uint8_t type, RouteWhat what) {
    return {.type = type,
            .what = what,
            .header = 0x60,
            .header_length = 4,
            .addrs = 12,
            .flags = 16,
            .index = 6,
            .error = 32,
            .process = 24,
            .sequence = 28,
            .table = 8};
}
// ifa_msghdr
constexpr RouteMessageLayout bsd_address(std::uint8_t type, RouteWhat what, std::uint8_t header = 20, std::uint8_t index = 12,
                                         std::uint8_t header_length = 0) {
    return {.type = type, .what = what, .header = header, .header_length = header_length, .addrs = 4, .flags = 8, .index = index};
}
constexpr RouteMessageLayout netbsd_address(std::uint8_t type, RouteWhat what) {
    return {.type = type, .what = what, .header = 0x20, .addrs = 12, .flags = 8, .index = 4, .address_flags = 20};
}
constexpr RouteMessageLayout openbsd_address(std::uint8_t type, RouteWhat what) {
    return {.type = type, .what = what, .header = 0x18, .header_length = 4, .addrs = 12, .flags = 16, .index = 6};
}

// What is not in these lists is passed over. Left out on purpose: RTM_MISS, of which macOS sends storms; RTM_LOSING, which is one
// connection's suspicion and changes nothing; RTM_REDIRECT, which is about a single host; RTM_RESOLVE and the link-layer ones, which are
// about neighbours; multicast groups; NetBSD's old forms of RTM_IFINFO, which come beside the new one.
inline constexpr RouteMessageLayout macos_messages[] = {
    bsd_route(rtsock::rtm_add, RouteWhat::change, 0x5c),
    bsd_route(rtsock::rtm_delete, RouteWhat::change, 0x5c),
    bsd_route(rtsock::rtm_change, RouteWhat::change, 0x5c),
    bsd_route(rtsock::rtm_get, RouteWhat::answer, 0x5c),
    bsd_address(0xc, RouteWhat::address),
    bsd_address(0xd, RouteWhat::address_gone),
    {.type = 0xe, .what = RouteWhat::interface_, .header = 0x70, .addrs = 4, .flags = 8, .index = 12},
    {.type = 0x12, .what = RouteWhat::interface_, .header = 0xa0, .addrs = 4, .flags = 8, .index = 12},  // RTM_IFINFO2
};

template <std::uint8_t RouteHeader>
inline constexpr RouteMessageLayout freebsd_messages[] = {
    bsd_route(rtsock::rtm_add, RouteWhat::change, RouteHeader),
    bsd_route(rtsock::rtm_delete, RouteWhat::change, RouteHeader),
    bsd_route(rtsock::rtm_change, RouteWhat::change, RouteHeader),
    bsd_route(rtsock::rtm_get, RouteWhat::answer, RouteHeader),
    bsd_address(0xc, RouteWhat::address),
    bsd_address(0xd, RouteWhat::address_gone),
    {.type = 0xe, .what = RouteWhat::interface_, .header = 0xa8, .addrs = 4, .flags = 8, .index = 12, .link_state = 20},
    {.type = 0x11, .what = RouteWhat::announcement, .header = 0x18, .index = 4, .name = 6, .announced = 22},
};
// if_msghdrl and ifa_msghdrl: NET_RT_IFLISTL alone has them, under the same types and version.
inline constexpr RouteMessageLayout freebsd_list_messages[] = {
    bsd_address(0xc, RouteWhat::address, 24, 12, 16),
    {.type = 0xe,
     .what = RouteWhat::interface_,
     .header = 24,
     .header_length = 16,
     .addrs = 4,
     .flags = 8,
     .index = 12,
     .data = 18,
     .link_state = 4},
};

inline constexpr RouteMessageLayout netbsd_messages[] = {
    bsd_route(rtsock::rtm_add, RouteWhat::change, 0x78),
    bsd_route(rtsock::rtm_delete, RouteWhat::change, 0x78),
    bsd_route(rtsock::rtm_change, RouteWhat::change, 0x78),
    bsd_route(rtsock::rtm_get, RouteWhat::answer, 0x78),
    bsd_address(0xc, RouteWhat::address, 0x18, 16),  // before NetBSD 8
    bsd_address(0xd, RouteWhat::address_gone, 0x18, 16),
    {.type = 0x10, .what = RouteWhat::announcement, .header = 0x18, .index = 4, .name = 6, .announced = 22},
    {.type = 0x14,
     .what = RouteWhat::interface_,
     .header = 0x98,
     .addrs = 4,
     .flags = 8,
     .index = 12,
     .link_state = 20,
     .link_state_size = 4},
    netbsd_address(0x16, RouteWhat::address),
    netbsd_address(0x17, RouteWhat::address_gone),
    netbsd_address(0x18, RouteWhat::address),  // RTM_CHGADDR
};

inline constexpr RouteMessageLayout openbsd_messages[] = {
    openbsd_route(rtsock::rtm_add, RouteWhat::change),
    openbsd_route(rtsock::rtm_delete, RouteWhat::change),
    openbsd_route(rtsock::rtm_change, RouteWhat::change),
    openbsd_route(rtsock::rtm_get, RouteWhat::answer),
    openbsd_address(0xc, RouteWhat::address),
    openbsd_address(0xd, RouteWhat::address_gone),
    {.type = 0xe, .what = RouteWhat::interface_, .header = 28, .header_length = 4, .addrs = 12, .flags = 16, .index = 6, .link_state = 27},
    {.type = 0xf, .what = RouteWhat::announcement, .header = 0x1a, .header_length = 4, .index = 6, .name = 10, .announced = 8},
    {.type = 0x10, .what = RouteWhat::overrun, .header = 4},
    openbsd_address(0x14, RouteWhat::address),  // RTM_CHGADDRATTR
};

}  // namespace detail

/// The forms. FreeBSD's and OpenBSD's depend on the *kernel's* `long`, which `_32` says is one of four bytes; `freebsd_list` is that of
/// its sysctl NET_RT_IFLISTL.
namespace route_dialect {

inline constexpr RouteDialect macos{5, 30, 4, 1, 0x1000000, false, true, true, detail::macos_messages};
inline constexpr RouteDialect freebsd{5, 28, 8, 2, 0, false, false, false, detail::freebsd_messages<0x98>};
inline constexpr RouteDialect freebsd_32{5, 28, 4, 2, 0, false, false, false, detail::freebsd_messages<0x5c>};
inline constexpr RouteDialect freebsd_list{5, 28, 8, 2, 0, false, false, false, detail::freebsd_list_messages};
inline constexpr RouteDialect freebsd_list_32{5, 28, 4, 2, 0, false, false, false, detail::freebsd_list_messages};
inline constexpr RouteDialect netbsd{4, 24, 8, 2, 0, true, true, false, detail::netbsd_messages};
inline constexpr RouteDialect openbsd{5, 24, 8, 4, 0, false, true, false, detail::openbsd_messages};
inline constexpr RouteDialect openbsd_32{5, 24, 4, 4, 0, false, true, false, detail::openbsd_messages};

}  // namespace route_dialect

}  // namespace rejoin::inline v0_1
