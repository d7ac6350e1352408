// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bit>
#include <rejoin/core/bytes.hpp>
#include <rejoin/network/state.hpp>
#include <utility>

namespace rejoin::inline v0_1 {

/// Linux' rtnetlink protocol (netlink(7), rtnetlink(7)): its numbers, named as the kernel's headers name them, but in small letters,
/// which no header defines as macros.
namespace rtnetlink {

// nlmsg_type
inline constexpr std::uint16_t nlmsg_error = 2, nlmsg_done = 3, rtm_newlink = 16, rtm_dellink = 17, rtm_getlink = 18, rtm_newaddr = 20,
                               rtm_deladdr = 21, rtm_getaddr = 22, rtm_newroute = 24, rtm_delroute = 25, rtm_getroute = 26,
                               rtm_newrule = 32, rtm_delrule = 33;
// nlmsg_flags
inline constexpr std::uint16_t nlm_f_request = 0x1, nlm_f_dump_intr = 0x10, nlm_f_dump = 0x300;
// attributes
inline constexpr std::uint16_t nla_type_mask = 0x3fff, ifla_ifname = 3, ifa_address = 1, ifa_local = 2, ifa_flags = 8, rta_dst = 1,
                               rta_src = 2, rta_oif = 4, rta_gateway = 5, rta_prefsrc = 7, rta_mark = 16, rta_via = 18;
// ifi_flags
inline constexpr std::uint32_t iff_up = 0x1, iff_loopback = 0x8, iff_pointopoint = 0x10, iff_running = 0x40, iff_lower_up = 0x10000,
                               iff_dormant = 0x20000;
// ifa_flags
inline constexpr std::uint32_t ifa_f_temporary = 0x01, ifa_f_optimistic = 0x04, ifa_f_dadfailed = 0x08, ifa_f_deprecated = 0x20,
                               ifa_f_tentative = 0x40;
// rtm_flags
inline constexpr std::uint32_t rtnh_f_dead = 0x1, rtnh_f_linkdown = 0x10;
// families, and rtm_type
inline constexpr std::uint8_t af_unspec = 0, af_inet = 2, af_inet6 = 10, rtn_unicast = 1, rtn_local = 2;
/// Sizes of the fixed headers: nlmsghdr, rtattr, ifinfomsg, ifaddrmsg, rtmsg.
inline constexpr std::size_t nlmsghdr_size = 16, rtattr_size = 4, ifinfomsg_size = 16, ifaddrmsg_size = 8, rtmsg_size = 12;

}  // namespace rtnetlink

/// What one netlink message says. Of the parts, `kind` says which one is filled.
struct NetlinkUpdate {
    enum class Kind : std::uint8_t {
        interface_is,    ///< `interface_`: all that is known of it, new or not
        interface_gone,  ///< `interface_`
        address_is,      ///< `address`
        address_gone,    ///< `address`
        route_is,        ///< `route`: a route of the kernel's, or its answer to `route_query`
        routes_touched,  ///< a route went, or the rules that choose among tables changed: ask again
        end,             ///< a dump is complete, or a request was refused or acknowledged: `error`
    };
    Kind kind = Kind::end;
    bool interrupted = false;      ///< the dump it belongs to was overtaken by a change: ask again (NLM_F_DUMP_INTR)
    Family family = Family::none;  ///< of the routes in question; `none`: of either
    std::uint32_t sequence = 0;    ///< of the request that it answers, or that caused it; the kernel's own have 0
    std::int32_t error = 0;        ///< errno, or 0
    Interface interface_;
    InterfaceAddress address;
    Route route;
};

namespace detail {

/// An address attribute of 4 or 16 bytes, as its family has it; of family `none` when the size does not fit.
inline IpAddress netlink_address(Bytes payload, std::uint8_t family) {
    IpAddress ip;
    if (payload.size() != (family == rtnetlink::af_inet ? 4u : 16u)) return ip;
    std::memcpy(ip.bytes, payload.data(), payload.size());
    ip.family = family == rtnetlink::af_inet ? Family::v4 : Family::v6;
    return ip;
}

/// Calls `f(type, payload) -> bool` for each attribute; false when one does not fit into `attributes`, or `f` refuses it.
template <class F>
bool for_each_attribute(Bytes attributes, std::endian order, F f) {
    while (!attributes.empty()) {
        if (attributes.size() < rtnetlink::rtattr_size) return false;
        const std::size_t size = load<std::uint16_t>(attributes.data(), order);
        if (size < rtnetlink::rtattr_size || size > attributes.size()) return false;
        const auto type = static_cast<std::uint16_t>(load<std::uint16_t>(attributes.data() + 2, order) & rtnetlink::nla_type_mask);
        if (!f(type, attributes.subspan(rtnetlink::rtattr_size, size - rtnetlink::rtattr_size))) return false;
        const std::size_t next = (size + 3) & ~std::size_t{3};
        attributes = attributes.subspan(next < attributes.size() ? next : attributes.size());
    }
    return true;
}

inline bool decode_link(Bytes body, std::endian order, Interface& to) {
    using namespace rtnetlink;
    to.index = load<std::uint32_t>(body.data() + 4, order);
    const auto flags = load<std::uint32_t>(body.data() + 8, order);
    to.up = (flags & iff_up) != 0;
    // A carrier may carry nothing yet. RUNNING says that the operational state is up or unknown (netdevice(7), operstates.rst of the
    // kernel), also in messages that have no IFLA_OPERSTATE, as those of wireless statistics; dormant are Wi-Fi and 802.1X before their
    // keys.
    to.carrier = (flags & (iff_running | iff_lower_up | iff_dormant)) == (iff_running | iff_lower_up);
    to.loopback = (flags & iff_loopback) != 0;
    to.point_to_point = (flags & iff_pointopoint) != 0;
    return for_each_attribute(body.subspan(ifinfomsg_size), order, [&](std::uint16_t type, Bytes payload) {
        if (type != ifla_ifname) return true;
        std::size_t size = 0;
        while (size < payload.size() && payload[size] != std::byte{0}) ++size;
        to.name = Text<15>({reinterpret_cast<const char*>(payload.data()), size});
        return true;
    });
}

inline bool decode_address(Bytes body, std::endian order, InterfaceAddress& to) {
    using namespace rtnetlink;
    const auto family = static_cast<std::uint8_t>(body[0]);
    to.prefix_length = static_cast<std::uint8_t>(body[1]);
    auto flags = static_cast<std::uint32_t>(body[2]);
    to.interface_index = load<std::uint32_t>(body.data() + 4, order);
    bool local = false;
    const bool whole = for_each_attribute(body.subspan(ifaddrmsg_size), order, [&](std::uint16_t type, Bytes payload) {
        // On a point-to-point link IFA_ADDRESS is the other end, and IFA_LOCAL is ours.
        if (type == ifa_local || (type == ifa_address && !local)) {
            to.ip = netlink_address(payload, family);
            local = type == ifa_local;
            return to.ip.family != Family::none;
        }
        if (type == ifa_flags) {  // all of them; the header has room for eight
            if (payload.size() != 4) return false;
            flags = load<std::uint32_t>(payload.data(), order);
        }
        return true;
    });
    if (!whole || to.ip.family == Family::none) return false;
    if (to.ip.family == Family::v6 && to.ip.is_link_local()) to.ip.scope = to.interface_index;
    to.tentative = (flags & (ifa_f_tentative | ifa_f_optimistic)) == ifa_f_tentative;  // an optimistic one may be used (RFC 4429)
    to.duplicate = (flags & ifa_f_dadfailed) != 0;
    to.deprecated = (flags & ifa_f_deprecated) != 0;
    to.temporary = family == af_inet6 && (flags & ifa_f_temporary) != 0;  // in IPv4 the same bit says "secondary"
    return true;
}

inline bool decode_route(Bytes body, std::endian order, Route& to) {
    using namespace rtnetlink;
    const auto family = static_cast<std::uint8_t>(body[0]);
    const auto type = static_cast<std::uint8_t>(body[7]);
    const bool whole = for_each_attribute(body.subspan(rtmsg_size), order, [&](std::uint16_t attribute, Bytes payload) {
        switch (attribute) {
            case rta_oif:
                if (payload.size() != 4) return false;
                to.interface_index = load<std::uint32_t>(payload.data(), order);
                return true;
            case rta_gateway:
                to.gateway = netlink_address(payload, family);
                return to.gateway.family != Family::none;
            case rta_via:  // a gateway of the other family (RFC 8950)
                if (payload.size() < 2) return false;
                to.gateway = netlink_address(payload.subspan(2), static_cast<std::uint8_t>(load<std::uint16_t>(payload.data(), order)));
                return to.gateway.family != Family::none;
            case rta_prefsrc:
                to.source = netlink_address(payload, family);
                return to.source.family != Family::none;
            default:
                return true;
        }
    });
    if (!whole) return false;
    to.present = (type == rtn_unicast || type == rtn_local) &&  // the others refuse: unreachable, prohibit, blackhole
                 (load<std::uint32_t>(body.data() + 8, order) & (rtnh_f_dead | rtnh_f_linkdown)) == 0;
    if (!to.present) to = {};
    for (IpAddress* ip : {&to.gateway, &to.source})
        if (ip->family == Family::v6 && ip->is_link_local()) ip->scope = to.interface_index;
    return true;
}

/// Takes messages from the front of `datagram` up to and with the next one that concerns us: true, and `update` is what it says. False
/// when there is none.
[[gnu::cold]] inline Result<bool> next_update(Bytes& datagram, std::endian order, NetlinkUpdate& update) {
    using namespace rtnetlink;
    using Kind = NetlinkUpdate::Kind;
    while (!datagram.empty()) {
        if (datagram.size() < nlmsghdr_size) return Errc::malformed;
        const std::size_t size = load<std::uint32_t>(datagram.data(), order);
        const auto type = load<std::uint16_t>(datagram.data() + 4, order);
        const auto flags = load<std::uint16_t>(datagram.data() + 6, order);
        if (size < nlmsghdr_size || size > datagram.size()) return Errc::malformed;
        const Bytes body = datagram.subspan(nlmsghdr_size, size - nlmsghdr_size);
        const std::size_t next = (size + 3) & ~std::size_t{3};
        datagram = datagram.subspan(next < datagram.size() ? next : datagram.size());

        update = {};
        update.sequence = load<std::uint32_t>(body.data() - 8, order);
        update.interrupted = (flags & nlm_f_dump_intr) != 0;
        // The family, where there is one; it decides whether the rest of the message is ours to judge.
        const auto family = body.empty() ? af_unspec : static_cast<std::uint8_t>(body[0]);
        update.family = family == af_inet ? Family::v4 : family == af_inet6 ? Family::v6 : Family::none;
        const bool foreign = !body.empty() && family != af_inet && family != af_inet6;
        bool whole = true;
        switch (type) {
            case rtm_newlink:
            case rtm_dellink:
                if (family != af_unspec) continue;
                update.kind = type == rtm_newlink ? Kind::interface_is : Kind::interface_gone;
                whole = body.size() >= ifinfomsg_size && decode_link(body, order, update.interface_);
                break;
            case rtm_newaddr:
            case rtm_deladdr:
                if (foreign) continue;
                update.kind = type == rtm_newaddr ? Kind::address_is : Kind::address_gone;
                whole = body.size() >= ifaddrmsg_size && decode_address(body, order, update.address);
                break;
            case rtm_newroute:
                if (foreign) continue;
                update.kind = Kind::route_is;
                whole = body.size() >= rtmsg_size && decode_route(body, order, update.route);
                break;
            case rtm_delroute:
            case rtm_newrule:
            case rtm_delrule:
                update.kind = Kind::routes_touched;
                break;
            case nlmsg_error:
            case nlmsg_done:  // an error number, negative, which old kernels leave out of NLMSG_DONE
                update.kind = Kind::end;
                whole = body.size() >= 4 || (type == nlmsg_done && body.empty());
                if (whole && !body.empty()) update.error = static_cast<std::int32_t>(0 - load<std::uint32_t>(body.data(), order));
                break;
            default:
                continue;
        }
        if (!whole) return Errc::malformed;
        return true;
    }
    return false;
}

}  // namespace detail

/// Reads every message of one netlink datagram, whose numbers are in `order` (the kernel's own), and calls `sink(const NetlinkUpdate&)`
/// for each that concerns us; of all others only the length is looked at. Skipped are: other message types, interfaces seen as bridge
/// ports (their family is not AF_UNSPEC, and "removed" means from the bridge), addresses and routes of other families, unknown
/// attributes, and what nested ones contain. `malformed`: a message or attribute is shorter than it must be, or longer than what holds
/// it, or an address is missing or of the wrong size; what stood before has been delivered. Reads nothing outside `datagram`.
template <class Sink>
Result<void> decode_netlink(Bytes datagram, std::endian order, Sink&& sink) {
    for (NetlinkUpdate update;;) {
        auto more = detail::next_update(datagram, order, update);
        if (!more) return more.error();
        if (!*more) return {};
        sink(static_cast<const NetlinkUpdate&>(update));
    }
}

/// A request to the kernel, ready to be sent.
struct NetlinkRequest {
    std::byte data[96] = {};
    std::size_t size = 0;
    Bytes bytes() const { return {data, size}; }
};

namespace detail {

template <class T>
void put(NetlinkRequest& to, T value, std::endian order) {
    for (std::size_t i = 0; i < sizeof(T); ++i)
        to.data[to.size++] = static_cast<std::byte>(value >> 8 * (order == std::endian::big ? sizeof(T) - 1 - i : i));
}
[[gnu::cold]] inline NetlinkRequest netlink_request(std::size_t body, std::uint16_t type, std::uint16_t flags, std::uint32_t sequence,
                                                    std::endian order) {
    NetlinkRequest request;
    put(request, static_cast<std::uint32_t>(rtnetlink::nlmsghdr_size + body), order);
    put(request, type, order);
    put(request, static_cast<std::uint16_t>(flags | rtnetlink::nlm_f_request), order);
    put(request, sequence, order);
    request.size = rtnetlink::nlmsghdr_size + body;  // the sender's port stays 0: the kernel fills it in
    return request;
}

}  // namespace detail

/// Asks for every interface; the answers end with an update of kind `end`.
inline NetlinkRequest link_dump(std::uint32_t sequence, std::endian order) {
    return detail::netlink_request(rtnetlink::ifinfomsg_size, rtnetlink::rtm_getlink, rtnetlink::nlm_f_dump, sequence, order);
}
/// Asks for every address of every interface; the answers end with an update of kind `end`.
inline NetlinkRequest address_dump(std::uint32_t sequence, std::endian order) {
    return detail::netlink_request(rtnetlink::ifaddrmsg_size, rtnetlink::rtm_getaddr, rtnetlink::nlm_f_dump, sequence, order);
}
/// Asks which route the kernel would take to `destination`, of either family, for a socket bound to `source` (unless its family is none)
/// with the firewall mark `mark` (SO_MARK, socket(7)): rules may choose another table for either (ip-rule(8)). It answers with one update,
/// `route_is`, or `end` with the error that a connection would get. Looked up, not dumped: the cost does not grow with the table. A
/// destination with a scope is looked up on that interface. The source counts only if it is of the destination's family.
inline NetlinkRequest route_query(const IpAddress& destination, std::uint32_t sequence, std::endian order, const IpAddress& source = {},
                                  std::uint32_t mark = 0) {
    using namespace rtnetlink;
    NetlinkRequest request = detail::netlink_request(rtmsg_size, rtm_getroute, 0, sequence, order);
    const auto attribute = [&](std::uint16_t type, const std::uint8_t* bytes, std::size_t size) {
        detail::put(request, static_cast<std::uint16_t>(rtattr_size + size), order);
        detail::put(request, type, order);
        for (std::size_t i = 0; i < size; ++i) detail::put(request, bytes[i], order);
    };
    const auto number = [&](std::uint16_t type, std::uint32_t value) {
        detail::put(request, static_cast<std::uint16_t>(rtattr_size + 4), order);
        detail::put(request, type, order);
        detail::put(request, value, order);
    };
    request.data[nlmsghdr_size] = std::byte{destination.family == Family::v4 ? af_inet : af_inet6};
    request.data[nlmsghdr_size + 1] = static_cast<std::byte>(destination.size() * 8);  // rtm_dst_len, in bits
    attribute(rta_dst, destination.bytes, destination.size());
    if (source.family == destination.family) {
        request.data[nlmsghdr_size + 2] = static_cast<std::byte>(source.size() * 8);  // rtm_src_len
        attribute(rta_src, source.bytes, source.size());
    }
    if (destination.scope != 0) number(rta_oif, destination.scope);
    if (mark != 0) number(rta_mark, mark);
    const std::size_t size = std::exchange(request.size, 0);
    detail::put(request, static_cast<std::uint32_t>(size), order);  // nlmsg_len, now that it is known
    request.size = size;
    return request;
}

}  // namespace rejoin::inline v0_1
