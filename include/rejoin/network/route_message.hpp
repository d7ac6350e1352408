// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bit>
#include <rejoin/core/bytes.hpp>
#include <rejoin/network/state.hpp>
#include <rejoin/os/bsd/route_layout.hpp>

namespace rejoin::inline v0_1 {

/// What one message of a routing socket says. Of the parts, `kind` says which one is filled.
struct RouteUpdate {
    enum class Kind : std::uint8_t {
        interface_is,    ///< `interface_`: all that is known of it, but for the name, which only some messages have
        interface_gone,  ///< `interface_`
        address_is,      ///< `address`; without `flags_told`, whether it is being checked, a duplicate and so on must be asked for
        address_gone,    ///< `address`
        routes_touched,  ///< a route to all or most of the world came, went or changed: ask again
        route_is,        ///< `route`: the answer to RTM_GET, to whoever asked
        overrun,         ///< more happened than is told: messages were lost, or an interface came. Read everything again
    };
    Kind kind = Kind::overrun;
    bool flags_told = false;
    std::uint32_t process = 0;   ///< of an answer: the id of the process that asked, and
    std::uint32_t sequence = 0;  ///< what it called the question
    Interface interface_;
    InterfaceAddress address;
    Route route;
};

/// Whether macOS keeps an interface of this name for its own ends: Wi-Fi's side channels (awdl, llw, ap), tunnels (utun, ipsec, gif,
/// stf), and the links to its own coprocessors and to hosts on USB (anpi, XHC). A VPN's utun counts when a route leads over it, which is
/// for the state to say.
inline bool noise_interface(TextView name) {
    static constexpr TextView kinds[] = {"awdl", "llw", "ap", "utun", "ipsec", "gif", "stf", "anpi", "XHC"};
    for (TextView kind : kinds) {
        const std::size_t size = kind.size();
        // Followed by a number, or nothing: "ap1", not "apple0".
        if (name.size() >= size && TextView(name.data(), size) == kind && (name.size() == size || name[size] <= '9')) return true;
    }
    return false;
}

/// Takes over what the system says of an address's check and age: in6_iff_ flags, and in_iff_ ones for IPv4, where `dialect` has them.
inline void set_address_flags(const RouteDialect& dialect, std::uint32_t flags, InterfaceAddress& to) {
    using namespace rtsock;
    if (to.ip.family == Family::v4) {
        if (!dialect.in_iff) return;
        to.duplicate = (flags & in_iff_duplicated) != 0;
        to.tentative = !to.duplicate && (flags & (in_iff_tentative | in_iff_trytentative | in_iff_detached)) != 0;
        return;
    }
    // NetBSD detaches the addresses of a link without carrier, and checks them anew before they may be used again. What the others call
    // detached may be used.
    const std::uint32_t unchecked = dialect.in_iff ? in6_iff_tentative | in6_iff_detached : in6_iff_tentative;
    to.duplicate = (flags & in6_iff_duplicated) != 0;
    to.tentative = !to.duplicate && (flags & unchecked) != 0;
    to.deprecated = (flags & in6_iff_deprecated) != 0;
    to.temporary = (flags & in6_iff_temporary) != 0;
}

namespace detail {

/// The addresses behind a header, as far as anybody wants them. The first six have the same numbers in all dialects.
struct RouteAddresses {
    Bytes at[6];
    bool has_mask = false;
};

inline bool split_addresses(const RouteDialect& dialect, Bytes body, std::uint32_t which, RouteAddresses& to) {
    to.has_mask = (which & rtsock::rta_netmask) != 0;
    for (std::size_t i = 0; i < 6; ++i) {
        if ((which >> i & 1) == 0) continue;
        if (body.empty()) return false;
        const auto size = static_cast<std::size_t>(body[0]);  // sa_len
        if (size > body.size()) return false;
        to.at[i] = body.first(size);
        const std::size_t unit = dialect.alignment;
        const std::size_t next = size == 0 ? unit : (size + unit - 1) / unit * unit;
        body = body.subspan(next < body.size() ? next : body.size());
    }
    return true;
}

inline Family family_of(const RouteDialect& dialect, Bytes address) {
    if (address.size() < 2) return Family::none;
    const auto family = static_cast<std::uint8_t>(address[1]);
    return family == rtsock::af_inet ? Family::v4 : family == dialect.af_inet6 ? Family::v6 : Family::none;
}

/// sockaddr_in or sockaddr_in6; any other, or one cut short, is of family `none`. A link-local one has its scope inside (the kernel's
/// own form), or beside it, or takes that of the interface it is told of.
inline IpAddress route_address(const RouteDialect& dialect, Bytes address, std::endian order, std::uint32_t interface_index) {
    IpAddress ip;
    const Family family = family_of(dialect, address);
    const std::size_t at = family == Family::v4 ? 4 : 8, size = family == Family::v4 ? 4 : 16;
    if (family == Family::none || address.size() < at + size) return ip;
    std::memcpy(ip.bytes, address.data() + at, size);
    ip.family = family;
    if (family == Family::v4 || !ip.is_link_local()) return ip;
    ip.scope = static_cast<std::uint32_t>(ip.bytes[2] << 8 | ip.bytes[3]);
    ip.bytes[2] = ip.bytes[3] = 0;
    if (ip.scope == 0 && address.size() >= 28) ip.scope = load<std::uint32_t>(address.data() + 24, order);
    if (ip.scope == 0) ip.scope = interface_index;
    return ip;
}

/// The leading ones of a mask, which ends where only zeros follow, and whose family, often missing, is that of what it masks.
inline std::uint8_t prefix_length(const RouteAddresses& addresses, Family family) {
    const std::size_t at = family == Family::v4 ? 4 : 8, size = family == Family::v4 ? 4 : 16;
    if (!addresses.has_mask) return static_cast<std::uint8_t>(size * 8);
    const Bytes mask = addresses.at[rtsock::rtax_netmask];
    std::size_t ones = 0;
    for (std::size_t i = at; i < at + size && i < mask.size() && ones == (i - at) * 8; ++i)
        ones += static_cast<std::size_t>(std::countl_one(static_cast<std::uint8_t>(mask[i])));
    return static_cast<std::uint8_t>(ones);
}

inline void set_name(const RouteDialect& dialect, TextView name, Interface& to) {
    to.name = Text<15>(name);
    to.noise = dialect.makes_noise && noise_interface(name);
}

/// What RTAX_IFP says: sockaddr_dl, the same everywhere. False when the name does not fit into it.
inline bool decode_link_address(const RouteDialect& dialect, Bytes link, std::endian order, Interface& to) {
    if (link.size() < 8 || static_cast<std::uint8_t>(link[1]) != rtsock::af_link) return true;
    if (to.index == 0) to.index = load<std::uint16_t>(link.data() + 2, order);
    const auto size = static_cast<std::size_t>(link[5]);
    if (size > link.size() - 8) return false;
    if (size != 0) set_name(dialect, {reinterpret_cast<const char*>(link.data()) + 8, size}, to);
    return true;
}

inline bool carrier(const RouteDialect& dialect, const RouteMessageLayout& layout, Bytes message, std::endian order, std::uint32_t flags) {
    std::size_t at = layout.link_state;
    if (layout.data != 0) at += load<std::uint16_t>(message.data() + layout.data, order);
    std::uint32_t state = 0;
    if (at != 0 && at + layout.link_state_size <= message.size())
        state = layout.link_state_size == 1 ? static_cast<std::uint8_t>(message[at]) : load<std::uint32_t>(message.data() + at, order);
    // Where a driver does not know of carriers, or the system does not tell, it is at least working or not.
    return state == 0 ? (flags & rtsock::iff_running) != 0 : state >= dialect.link_up;
}

/// Whether a route is wide enough to matter: to all of the world, or to the halves to sixteenths that private networks lay over it.
inline bool is_broad(const RouteDialect& dialect, std::uint32_t flags, const RouteAddresses& addresses) {
    if ((flags & rtsock::rtf_host) != 0 || (flags & dialect.rtf_ifscope) != 0) return false;
    const Bytes to = addresses.at[rtsock::rtax_dst];
    const Family family = family_of(dialect, to);
    if (family == Family::none) return to.size() < 2;  // of another protocol, or "default" in the shortest form
    return prefix_length(addresses, family) <= 4;
}

/// Fills `update` from a message whose header is whole. False: malformed; `wanted` says whether it concerns us.
inline bool decode_message(const RouteDialect& dialect, const RouteMessageLayout& layout, Bytes message, Bytes body, std::endian order,
                           RouteUpdate& update, bool& wanted) {
    using namespace rtsock;
    using Kind = RouteUpdate::Kind;
    const auto u32 = [&](std::uint8_t at) { return at == 0 ? 0 : load<std::uint32_t>(message.data() + at, order); };
    const std::uint32_t flags = u32(layout.flags);
    const std::uint32_t index = layout.index == 0 ? 0 : load<std::uint16_t>(message.data() + layout.index, order);
    RouteAddresses addresses;
    if (layout.addrs != 0 && !split_addresses(dialect, body, u32(layout.addrs), addresses)) return false;
    Interface& interface_ = update.interface_;
    interface_.index = index;
    wanted = true;
    switch (layout.what) {
        case RouteWhat::change:
            update.kind = Kind::routes_touched;
            wanted = u32(layout.error) == 0 && is_broad(dialect, flags, addresses);
            return true;
        case RouteWhat::answer:
            update.kind = Kind::route_is;
            update.process = u32(layout.process);
            update.sequence = u32(layout.sequence);
            if (!decode_link_address(dialect, addresses.at[rtax_ifp], order, interface_)) return false;
            if (u32(layout.error) != 0 || (flags & (rtf_up | rtf_reject | rtf_blackhole)) != rtf_up) return true;
            update.route.present = true;
            update.route.interface_index = interface_.index;
            if ((flags & rtf_gateway) != 0)
                update.route.gateway = route_address(dialect, addresses.at[rtax_gateway], order, interface_.index);
            update.route.source = route_address(dialect, addresses.at[rtax_ifa], order, interface_.index);
            return true;
        case RouteWhat::interface_:
            update.kind = Kind::interface_is;
            interface_.up = (flags & iff_up) != 0;
            interface_.loopback = (flags & iff_loopback) != 0;
            interface_.point_to_point = (flags & iff_pointopoint) != 0;
            interface_.carrier = carrier(dialect, layout, message, order, flags);
            if (!decode_link_address(dialect, addresses.at[rtax_ifp], order, interface_)) return false;
            wanted = interface_.index != 0;
            return true;
        case RouteWhat::address:
        case RouteWhat::address_gone: {
            update.kind = layout.what == RouteWhat::address ? Kind::address_is : Kind::address_gone;
            InterfaceAddress& address = update.address;
            address.interface_index = index;
            address.ip = route_address(dialect, addresses.at[rtax_ifa], order, index);
            address.prefix_length = prefix_length(addresses, address.ip.family);
            update.flags_told = layout.address_flags != 0;
            if (update.flags_told) set_address_flags(dialect, u32(layout.address_flags), address);
            wanted = index != 0 && address.ip.family != Family::none;
            return true;
        }
        case RouteWhat::announcement: {
            const bool gone = load<std::uint16_t>(message.data() + layout.announced, order) == ifan_departure;
            update.kind = gone ? Kind::interface_gone : Kind::overrun;  // of one that came, only the name is told
            std::size_t size = 0;
            const auto* name = reinterpret_cast<const char*>(message.data()) + layout.name;
            while (size < 16 && name[size] != 0) ++size;
            set_name(dialect, {name, size}, interface_);
            return true;
        }
        case RouteWhat::overrun:
            update.kind = Kind::overrun;
            return true;
    }
    return true;
}

/// Takes messages from the front of `bytes` up to and with the next one that concerns us: true, and `update` is what it says. False when
/// there is none.
inline Result<bool> next_update(const RouteDialect& dialect, Bytes& bytes, std::endian order, RouteUpdate& update) {
    while (!bytes.empty()) {
        if (bytes.size() < 4) return Errc::malformed;
        const std::size_t size = load<std::uint16_t>(bytes.data(), order);
        if (size < 4 || size > bytes.size()) return Errc::malformed;
        const Bytes message = bytes.first(size);
        bytes = bytes.subspan(size);
        if (static_cast<std::uint8_t>(message[2]) != dialect.version) continue;
        const RouteMessageLayout* layout = nullptr;
        for (const RouteMessageLayout& known : dialect.messages)
            if (known.type == static_cast<std::uint8_t>(message[3])) layout = &known;
        if (layout == nullptr) continue;
        std::size_t header = layout->header;
        if (size < header) return Errc::malformed;
        if (layout->header_length != 0) {
            const std::size_t said = load<std::uint16_t>(message.data() + layout->header_length, order);
            if (said < header || said > size) return Errc::malformed;
            header = said;
        }
        update = {};
        bool wanted = false;
        if (!decode_message(dialect, *layout, message.first(header), message.subspan(header), order, update, wanted))
            return Errc::malformed;
        if (wanted) return true;
    }
    return false;
}

}  // namespace detail

/// Reads every message of `bytes`, whose numbers are in `order` (the kernel's own), as one read from a routing socket or a whole list of
/// the sysctl CTL_NET.PF_ROUTE gives them, and calls `sink(const RouteUpdate&)` for each that concerns us. Skipped are: messages of other
/// versions and types, requests that failed, routes with a prefix longer than 4 bits or of one interface alone, and addresses of other
/// families. `malformed`: a message or address is shorter than it must be, or longer than what holds it; what stood before has been
/// delivered. Reads nothing outside `bytes`.
template <class Sink>
Result<void> decode_route_messages(const RouteDialect& dialect, Bytes bytes, std::endian order, Sink&& sink) {
    for (RouteUpdate update;;) {
        auto more = detail::next_update(dialect, bytes, order, update);
        if (!more) return more.error();
        if (!*more) return {};
        sink(static_cast<const RouteUpdate&>(update));
    }
}

/// A request to the kernel, ready to be written to a routing socket.
struct RouteRequest {
    std::byte data[224] = {};
    std::size_t size = 0;
    Bytes bytes() const { return {data, size}; }
};

/// Asks which route the kernel would take to `destination`, of either family (RTM_GET, as `route get` does). It answers with one
/// `route_is`, or refuses the request with the error that a connection would get. `table` counts only on OpenBSD. A dialect of lists has no
/// requests: the request is then empty.
inline RouteRequest route_query(const RouteDialect& dialect, const IpAddress& destination, std::uint32_t sequence, std::endian order,
                                std::uint16_t table = 0) {
    using namespace rtsock;
    RouteRequest request;
    const RouteMessageLayout* layout = nullptr;
    for (const RouteMessageLayout& known : dialect.messages)
        if (known.type == rtm_get) layout = &known;
    if (layout == nullptr) return request;
    const auto put = [&](std::size_t at, auto value) {
        for (std::size_t i = 0; i < sizeof value; ++i)
            request.data[at + i] = static_cast<std::byte>(value >> 8 * (order == std::endian::big ? sizeof value - 1 - i : i));
    };
    const auto advance = [&](std::size_t size) { request.size += (size + dialect.alignment - 1u) / dialect.alignment * dialect.alignment; };
    request.size = layout->header;
    std::byte* const to = request.data + request.size;
    const bool v4 = destination.family == Family::v4;
    to[0] = std::byte{v4 ? std::uint8_t{16} : std::uint8_t{28}};
    to[1] = std::byte{v4 ? af_inet : dialect.af_inet6};
    std::memcpy(to + (v4 ? 4 : 8), destination.bytes, destination.size());
    if (destination.scope != 0 && dialect.embeds_scope)
        store_big(to + 10, static_cast<std::uint16_t>(destination.scope));
    else if (destination.scope != 0)
        put(request.size + 24, destination.scope);
    advance(v4 ? 16 : 28);
    request.data[request.size] = std::byte{20};  // an empty sockaddr_dl: say the interface too, and with it the local address
    request.data[request.size + 1] = std::byte{af_link};
    advance(20);
    put(0, static_cast<std::uint16_t>(request.size));
    request.data[2] = std::byte{dialect.version};
    request.data[3] = std::byte{rtm_get};
    if (layout->header_length != 0) put(layout->header_length, static_cast<std::uint16_t>(layout->header));
    if (layout->table != 0) put(layout->table, table);
    put(layout->addrs, rta_dst | rta_ifp);
    put(layout->flags, rtf_up | rtf_host);
    put(layout->sequence, sequence);
    return request;
}

}  // namespace rejoin::inline v0_1
