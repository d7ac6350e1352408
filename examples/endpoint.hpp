// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin.hpp>
#include <string>

/// HOST:PORT or [IPV6]:PORT, as a user types it; not `valid` for anything else.
inline rejoin::Endpoint endpoint(const std::string& text) {
    const std::size_t colon = text.rfind(':');
    if (colon == std::string::npos || colon + 1 == text.size() || text.size() - colon > 6) return {};
    if (text.find_first_not_of("0123456789", colon + 1) != std::string::npos) return {};
    std::string host = text.substr(0, colon);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    return {host, std::stoi(text.substr(colon + 1))};
}
