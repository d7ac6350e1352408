// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/state.hpp>

namespace rejoin::inline v0_1 {

namespace detail {

/// Takes what stands in front of the first of `separators` off `text`, and that separator with it.
inline TextView take_until(TextView& text, TextView separators) {
    std::size_t end = 0;
    const auto separates = [&](char c) {
        for (char s : separators)
            if (c == s) return true;
        return false;
    };
    while (end < text.size() && !separates(text[end])) ++end;
    const TextView taken(text.data(), end);
    const std::size_t rest = end == text.size() ? end : end + 1;
    text = TextView(text.data() + rest, text.size() - rest);
    return taken;
}

/// The scope of `fe80::1%eth0` or `fe80::1%2` (RFC 4007 §11.2): an interface's index, or 0 when `interfaces` does not have it.
inline std::uint32_t scope_index(TextView scope, const Array<Interface>& interfaces) {
    std::uint32_t number = 0;
    bool digits = scope.size() > 0 && scope.size() < 10;
    for (char c : scope) {
        digits = digits && c >= '0' && c <= '9';
        if (digits) number = number * 10 + static_cast<std::uint32_t>(c - '0');
    }
    for (const Interface& i : interfaces)
        if (digits ? i.index == number : i.name == scope) return i.index;
    return 0;
}

}  // namespace detail

/// Reads the text of a resolv.conf (resolv.conf(5)) and puts the name servers it lists in place of `to.dns_servers`, in their order: the
/// first `NetworkState::dns_servers_max`, each once. A link-local one gets its scope from `to.interfaces`, or 0 when the interface is not
/// there. Every other line, and one whose address makes no sense, is passed over, as the system's resolver does. Any bytes will do,
/// in lines of any length. False when memory is out. No server at all: the resolver then asks 127.0.0.1, which is not listed here.
[[gnu::cold]] inline bool parse_resolv_conf(TextView text, NetworkState& to) {
    to.dns_servers.clear();
    while (text.size() > 0 && to.dns_servers.size() < NetworkState::dns_servers_max) {
        TextView line = detail::take_until(text, "\n");
        if (!(detail::take_until(line, " \t") == TextView("nameserver"))) continue;  // a keyword stands at the start of its line
        TextView word;
        while (word.size() == 0 && line.size() > 0) word = detail::take_until(line, " \t\r");
        const TextView address = detail::take_until(word, "%");
        auto server = IpAddress::parse(address);
        if (!server) continue;
        if (server->family == Family::v6 && server->is_link_local()) server->scope = detail::scope_index(word, to.interfaces);
        bool listed = false;
        for (const IpAddress& known : to.dns_servers) listed = listed || known == *server;
        if (!listed && !to.dns_servers.push(*server)) return false;
    }
    return true;
}

}  // namespace rejoin::inline v0_1
