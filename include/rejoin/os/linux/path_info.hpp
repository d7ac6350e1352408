// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/posix/socket.hpp>

#if defined(__linux__)

namespace rejoin::inline v0_1 {

inline PathInfo Socket::path_info() const {
    struct {  // the first part of tcp_info in linux/tcp.h; each C library's own declaration ends elsewhere
        std::uint8_t state, ca_state, retransmits, probes, backoff, options, window_scales, limits;
        std::uint32_t rto, ato, snd_mss, rcv_mss, unacked, sacked, lost, retrans, fackets;
        std::uint32_t last_data_sent, last_ack_sent, last_data_recv, last_ack_recv;
        std::uint32_t pmtu, rcv_ssthresh, rtt, rttvar, snd_ssthresh, snd_cwnd, advmss, reordering, rcv_rtt, rcv_space, total_retrans;
        std::uint64_t pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
        std::uint32_t segs_out, segs_in;
    } info{};
    static_assert(sizeof info == 144);
    socklen_t size = sizeof info;
    if (::getsockopt(fd_, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return {};
    PathInfo path;
    path.known = true;
    path.in_flight = info.unacked;
    path.probes = info.probes;
    path.retransmits = info.retransmits;
    path.segments_sent = info.segs_out;
    path.segments_resent = info.total_retrans;
    path.since_ack = Duration::milliseconds(info.last_ack_recv);
    return path;
}

}  // namespace rejoin::inline v0_1
#endif
