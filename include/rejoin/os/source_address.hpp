// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/socket.hpp>

namespace rejoin::inline v0_1 {

/// The local address that the system would send from to `destination` now, or of family `none` where it would not send. A datagram socket
/// is told when it is connected, and nothing is sent. Any thread.
[[gnu::cold]] inline IpAddress source_address(const IpAddress& destination) {
    auto socket = Socket::udp(destination.family);
    if (!socket || !socket->connect(destination, 53)) return {};
    IpAddress source = socket->local_endpoint().ip();
    if (source.family == Family::v6 && !source.is_link_local()) source.scope = 0;
    return source;
}

}  // namespace rejoin::inline v0_1
