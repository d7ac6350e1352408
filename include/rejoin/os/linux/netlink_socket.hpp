// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/bytes.hpp>
#include <rejoin/core/error.hpp>
#include <utility>

#if defined(__linux__)
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

namespace rejoin::inline v0_1 {

/// A socket to the kernel's netlink (netlink(7)): owned, move-only, non-blocking, close-on-exec. It belongs to the network namespace
/// of the thread that opened it.
class NetlinkSocket {
public:
    NetlinkSocket() = default;
    NetlinkSocket(NetlinkSocket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    NetlinkSocket& operator=(NetlinkSocket&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~NetlinkSocket() {
        if (fd_ >= 0) ::close(fd_);
    }

    /// A socket that hears what the kernel says unasked of links, addresses, rules and routes, both families. Of routes, only broad ones
    /// get through: a filter in the kernel drops the others, so that a routing table of any size costs nothing.
    static Result<NetlinkSocket> events() {
        constexpr unsigned groups[] = {RTNLGRP_LINK,       RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
                                       RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE,   RTNLGRP_IPV6_RULE};
        std::uint32_t mask = 0;
        for (unsigned group : groups) mask |= 1u << (group - 1);
        return open(NETLINK_ROUTE, mask);
    }
    /// A socket for requests and their answers, which no filter may drop.
    static Result<NetlinkSocket> requests() { return open(NETLINK_ROUTE, 0); }
    /// The same to the packet filter's part of the kernel (nfnetlink), whose answers are there when `send` returns.
    static Result<NetlinkSocket> netfilter() { return open(NETLINK_NETFILTER, 0); }

    explicit operator bool() const { return fd_ >= 0; }
    int fd() const { return fd_; }

    Result<void> send(Bytes request) {
        sockaddr_nl kernel{};
        kernel.nl_family = AF_NETLINK;
        while (::sendto(fd_, request.data(), request.size(), 0, reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel) < 0)
            if (errno != EINTR) return Error::system(errno);
        return {};
    }

    /// Reads one datagram. `would_block`: there is none. `too_large`: messages were lost, because the kernel's queue was full (ENOBUFS)
    /// or the datagram does not fit into `to`; what is known has to be read anew. What other processes send is thrown away.
    Result<std::size_t> receive(MutableBytes to) {
        for (;;) {
            sockaddr_nl from{};
            socklen_t size = sizeof from;
            // MSG_TRUNC: the true size is returned, even of what does not fit.
            const ssize_t n = ::recvfrom(fd_, to.data(), to.size(), MSG_TRUNC, reinterpret_cast<sockaddr*>(&from), &size);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0)
                return errno == EAGAIN || errno == EWOULDBLOCK ? Error(Errc::would_block)
                       : errno == ENOBUFS                      ? Error(Errc::too_large)
                                                               : Error::system(errno);
            if (from.nl_pid != 0) continue;
            if (static_cast<std::size_t>(n) > to.size()) return Errc::too_large;
            return static_cast<std::size_t>(n);
        }
    }

    /// Reads the datagrams that are there, as many as `sizes` has room for, in one call: each has its share of `to`, one behind another.
    /// How many; the rest as above.
    template <std::size_t N>
    Result<std::size_t> receive(MutableBytes to, std::size_t (&sizes)[N]) {
        mmsghdr messages[N] = {};
        iovec rooms[N];
        sockaddr_nl from[N] = {};
        for (std::size_t i = 0; i < N; ++i) {
            rooms[i] = {to.data() + i * (to.size() / N), to.size() / N};
            messages[i].msg_hdr.msg_iov = &rooms[i];
            messages[i].msg_hdr.msg_iovlen = 1;
            messages[i].msg_hdr.msg_name = &from[i];
            messages[i].msg_hdr.msg_namelen = sizeof from[i];
        }
        int n = 0;
        while ((n = ::recvmmsg(fd_, messages, N, MSG_DONTWAIT, nullptr)) < 0)
            if (errno != EINTR)
                return errno == EAGAIN || errno == EWOULDBLOCK ? Error(Errc::would_block)
                       : errno == ENOBUFS                      ? Error(Errc::too_large)
                                                               : Error::system(errno);
        for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
            if ((messages[i].msg_hdr.msg_flags & MSG_TRUNC) != 0) return Errc::too_large;
            sizes[i] = from[i].nl_pid == 0 ? messages[i].msg_len : 0;
        }
        return static_cast<std::size_t>(n);
    }

private:
    // Routes with a longer prefix than this lead to a part of the network. Those up to it are the default route, and the pieces that
    // virtual private networks lay over it without removing it: two of length 1, or up to the sixteen of length 4.
    static constexpr std::uint32_t broadest_prefix = 4;

    static Result<NetlinkSocket> open(int protocol, std::uint32_t groups) {
        NetlinkSocket made;
        made.fd_ = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
        if (made.fd_ < 0) return Error::system(errno);
        if (groups == 0) return made;
        // A filter loads big-endian numbers, and netlink's are the machine's own: hence htons.
        sock_filter filter[] = {
            BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(nlmsghdr, nlmsg_type)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWROUTE), 1, 0),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELROUTE), 0, 2),
            BPF_STMT(BPF_LD | BPF_B | BPF_ABS, sizeof(nlmsghdr) + offsetof(rtmsg, rtm_dst_len)),
            BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, broadest_prefix, 1, 0),
            BPF_STMT(BPF_RET | BPF_K, 0xffffffff),  // keep all of it
            BPF_STMT(BPF_RET | BPF_K, 0),           // drop it
        };
        const sock_fprog program{sizeof filter / sizeof filter[0], filter};
        sockaddr_nl address{};
        address.nl_family = AF_NETLINK;
        address.nl_groups = groups;
        if (::setsockopt(made.fd_, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0 ||
            ::bind(made.fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
            return Error::system(errno);
        return made;
    }

    int fd_ = -1;
};

}  // namespace rejoin::inline v0_1
#endif
