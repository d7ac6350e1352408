// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/state.hpp>

namespace rejoin::inline v0_1 {

/// Reads the text of Linux' /proc/net/if_inet6, `address index prefix_length scope flags name` a line, all but the name in hexadecimal,
/// and calls `sink(const InterfaceAddress&, TextView name)` for each that makes sense. Any bytes will do. Pure.
template <class Sink>
[[gnu::cold]] void parse_if_inet6(TextView text, Sink&& sink) {
    std::size_t at = 0;
    const auto skip_blanks = [&] {
        while (at < text.size() && text[at] == ' ') ++at;
    };
    const auto digit = [&]() -> int {
        const char c = at < text.size() ? text[at] : ' ';
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    };
    const auto number = [&] {
        std::uint32_t value = 0;
        skip_blanks();
        for (int n = 0; digit() >= 0 && n < 8; ++at, ++n) value = value << 4 | static_cast<std::uint32_t>(digit());
        return value;
    };
    while (at < text.size()) {
        InterfaceAddress address;
        address.ip.family = Family::v6;
        int nibbles = 0;
        for (; nibbles < 32 && digit() >= 0; ++at, ++nibbles)
            address.ip.bytes[nibbles / 2] = static_cast<std::uint8_t>(address.ip.bytes[nibbles / 2] << 4 | digit());
        address.interface_index = number();
        const std::uint32_t length = number();
        number();  // the scope, which the address shows
        const std::uint32_t flags = number();
        skip_blanks();
        const std::size_t name = at;
        while (at < text.size() && text[at] != '\n') ++at;
        if (nibbles == 32 && address.interface_index != 0 && length <= 128 && at > name) {
            address.prefix_length = static_cast<std::uint8_t>(length);
            if (address.ip.is_link_local()) address.ip.scope = address.interface_index;
            address.temporary = (flags & 0x01) != 0;     // IFA_F_TEMPORARY, as all of linux/if_addr.h
            address.duplicate = (flags & 0x08) != 0;     // IFA_F_DADFAILED
            address.deprecated = (flags & 0x20) != 0;    // IFA_F_DEPRECATED
            address.tentative = (flags & 0x44) == 0x40;  // IFA_F_TENTATIVE without IFA_F_OPTIMISTIC
            sink(static_cast<const InterfaceAddress&>(address), TextView(text.data() + name, at - name));
        }
        ++at;
    }
}

}  // namespace rejoin::inline v0_1
