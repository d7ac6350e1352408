// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/state.hpp>
#include <rejoin/os/loop.hpp>
#include <rejoin/os/source_address.hpp>
#include <rejoin/os/windows/ip_helper.hpp>

#if defined(_WIN32)

namespace rejoin::inline v0_1 {

/// Reads what Windows says of its network: GetAdaptersAddresses, the source address that it gives a socket, and GetBestRoute2 for the
/// router on the way. Adapters that are switched off are not among its interfaces. Belongs to the loop's thread.
class NetworkReader {
public:
    /// `touched` is never called: nothing but the notices of the system makes itself heard.
    NetworkReader(Loop&, Delegate<void()>) {}

    /// Fills an empty state, and makes it `known`. The error is the system's.
    Result<void> read(NetworkState& to) {
        // Usual hosts fit into the first buffer; what grows meanwhile gets a larger one.
        ULONG size = 16 * 1024;
        for (int attempt = 0; attempt < 4; ++attempt) {
            void* const buffer = std::malloc(size);
            if (buffer == nullptr) return Errc::out_of_memory;
            auto* const adapters = static_cast<IP_ADAPTER_ADDRESSES*>(buffer);
            const ULONG error = ::GetAdaptersAddresses(
                AF_UNSPEC, GAA_FLAG_SKIP_ANYCAST | GAA_FLAG_SKIP_MULTICAST | GAA_FLAG_INCLUDE_GATEWAYS, nullptr, adapters, &size);
            Result<void> done = {};
            if (error == NO_ERROR)
                done = take(adapters, to);
            else if (error != ERROR_NO_DATA)
                done = Error::system(static_cast<int>(error));
            std::free(buffer);
            if (error == ERROR_BUFFER_OVERFLOW) continue;
            if (done) to.known = true;
            return done;
        }
        return Errc::too_large;
    }

private:
    static Result<void> take(const IP_ADAPTER_ADDRESSES* adapters, NetworkState& to) {
        bool stored = true;
        for (const auto* adapter = adapters; adapter != nullptr; adapter = adapter->Next) {
            Interface i;
            i.index = index_of(*adapter);
            if (i.index == 0) continue;
            i.name = name_of(adapter->FriendlyName);
            i.up = adapter->OperStatus != IfOperStatusNotPresent;
            i.carrier = adapter->OperStatus == IfOperStatusUp || adapter->OperStatus == IfOperStatusUnknown;
            i.loopback = adapter->IfType == IF_TYPE_SOFTWARE_LOOPBACK;
            i.point_to_point =
                adapter->IfType == IF_TYPE_TUNNEL || adapter->IfType == IF_TYPE_PPP || adapter->IfType == IF_TYPE_PROP_VIRTUAL;
            stored = to.put(i) && stored;
            for (const auto* at = adapter->FirstUnicastAddress; at != nullptr; at = at->Next) {
                InterfaceAddress address;
                address.interface_index = i.index;
                address.ip = detail::ip_of(at->Address.lpSockaddr);
                if (address.ip.family == Family::none) continue;
                if (address.ip.family == Family::v6 && address.ip.is_link_local()) address.ip.scope = i.index;
                address.prefix_length = at->OnLinkPrefixLength;
                address.tentative = at->DadState == IpDadStateTentative || at->DadState == IpDadStateInvalid;
                address.duplicate = at->DadState == IpDadStateDuplicate;
                address.deprecated = at->DadState == IpDadStateDeprecated;
                address.temporary = address.ip.family == Family::v6 && at->SuffixOrigin == IpSuffixOriginRandom;
                stored = to.put(address) && stored;
            }
            if (!i.running()) continue;
            for (const auto* at = adapter->FirstDnsServerAddress; at != nullptr; at = at->Next) {
                const IpAddress server = detail::ip_of(at->Address.lpSockaddr);
                if (server.family != Family::none && !is_placeholder(server)) stored = add_server(server, to) && stored;
            }
        }
        if (!stored) return Errc::out_of_memory;
        for (Family family : {Family::v4, Family::v6}) to.route_for(family) = route(family, adapters, to);
        return {};
    }

    // An interface without IPv4 has its number as one of IPv6 alone.
    static std::uint32_t index_of(const IP_ADAPTER_ADDRESSES& adapter) {
        return adapter.IfIndex != 0 ? adapter.IfIndex : adapter.Ipv6IfIndex;
    }
    // The name that people see, cut where it is too long, and not inside a character.
    static Text<15> name_of(const wchar_t* wide) {
        char name[256 * 3] = "";
        ::WideCharToMultiByte(CP_UTF8, 0, wide, -1, name, sizeof name - 1, nullptr, nullptr);
        std::size_t size = std::strlen(name);
        if (size > 15) size = 15;
        while (size > 0 && (name[size] & 0xC0) == 0x80) --size;
        return Text<15>(TextView(name, size));
    }
    // Where no IPv6 server is configured, Windows lists three addresses that nobody has (fec0:0:0:ffff::1 to 3).
    static bool is_placeholder(const IpAddress& server) {
        static constexpr std::uint8_t prefix[] = {0xfe, 0xc0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0};
        return server.family == Family::v6 && std::memcmp(server.bytes, prefix, sizeof prefix) == 0;
    }
    static bool add_server(const IpAddress& server, NetworkState& to) {
        for (const IpAddress& known : to.dns_servers)
            if (known == server) return true;
        return to.dns_servers.size() == NetworkState::dns_servers_max || to.dns_servers.push(server);
    }

    static Route route(Family family, const IP_ADAPTER_ADDRESSES* adapters, const NetworkState& in) {
        const IpAddress& destination = family == Family::v4 ? internet_v4 : internet_v6;
        Route route;
        route.source = source_address(destination);
        route.interface_index = in.interface_of(route.source);
        const Interface* const by = in.find_interface(route.interface_index);
        if (by == nullptr || !by->running() || by->loopback) return {};
        route.present = true;
        route.gateway = gateway(destination, route.interface_index, adapters);
        if (route.gateway.is_link_local() && family == Family::v6) route.gateway.scope = route.interface_index;
        return route;
    }
    static IpAddress gateway(const IpAddress& destination, std::uint32_t index, const IP_ADAPTER_ADDRESSES* adapters) {
        const detail::SocketAddress to(destination, 0);
        SOCKADDR_INET target{}, source{};
        std::memcpy(&target, to.get(), static_cast<std::size_t>(to.size()));
        MIB_IPFORWARD_ROW2 row{};
        if (::GetBestRoute2(nullptr, index, nullptr, &target, 0, &row, &source) == NO_ERROR) {
            const IpAddress next = detail::ip_of(reinterpret_cast<const sockaddr*>(&row.NextHop));
            return next.is_unspecified() ? IpAddress() : next;  // on the link
        }
        for (const auto* adapter = adapters; adapter != nullptr; adapter = adapter->Next)
            for (const auto* at = adapter->FirstGatewayAddress; at != nullptr && index_of(*adapter) == index; at = at->Next) {
                const IpAddress ip = detail::ip_of(at->Address.lpSockaddr);
                if (ip.family == destination.family) return ip;
            }
        return {};
    }
};

}  // namespace rejoin::inline v0_1
#endif
