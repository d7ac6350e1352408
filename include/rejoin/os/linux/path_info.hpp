// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/posix/socket.hpp>

#if defined(__linux__)

namespace rejoin::inline v0_1 {

inline PathInfo Socket::path_info() const {
    tcp_info info{};
    socklen_t size = sizeof info;
    if (::getsockopt(fd_, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return {};
    PathInfo path;
    path.known = true;
    path.in_flight = info.tcpi_unacked;
    path.probes = info.tcpi_probes;
    path.retransmits = info.tcpi_retransmits;
    path.since_ack = Duration::milliseconds(info.tcpi_last_ack_recv);
    return path;
}

}  // namespace rejoin::inline v0_1
#endif
