// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/bytes.hpp>
#include <rejoin/core/socket_kind.hpp>
#include <rejoin/os/path_info.hpp>
#include <rejoin/os/socket_address.hpp>

#if !defined(_WIN32)
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <utility>

namespace rejoin::inline v0_1 {

/// A socket: owned, move-only, non-blocking, close-on-exec, never raising SIGPIPE. Errors are the system's own codes, but for "it would
/// have to wait", which is `would_block`.
class Socket {
public:
    using Handle = int;

    Socket() = default;
    /// Takes a descriptor over and makes it non-blocking and close-on-exec.
    explicit Socket(Handle fd) : fd_(fd) {
        if (fd < 0) return;
        ::fcntl(fd, F_SETFD, FD_CLOEXEC);
        prepare();
    }
    /// Takes over a descriptor that was received, and is close-on-exec already: `check_in` before it is used as a socket.
    static Socket of_received(Handle fd) { return Socket(fd, Made{}); }
    /// Makes what was received non-blocking. False, and it is closed, for what is no socket.
    bool check_in() {
        struct stat is {};
        if (::fstat(fd_, &is) == 0 && S_ISSOCK(is.st_mode))
            prepare();
        else
            close();
        return fd_ >= 0;
    }
    Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Socket& operator=(Socket&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~Socket() { close(); }

    static Result<Socket> tcp(Family family) { return open(family, SOCK_STREAM); }
    static Result<Socket> udp(Family family) { return open(family, SOCK_DGRAM); }

    explicit operator bool() const { return fd_ >= 0; }
    Handle fd() const { return fd_; }
    /// Gives the descriptor to the caller, who closes it.
    Handle release() { return std::exchange(fd_, -1); }
    void close() {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }
    /// Closes with a reset instead of an orderly end (SO_LINGER of zero, socket(7)): what was not sent is discarded.
    void reset() {
        if (fd_ < 0) return;
        const linger now{1, 0};
        set(SOL_SOCKET, SO_LINGER, now);
        close();
    }

    /// Binds to a local address and port; port 0 is chosen by the system, for outgoing connections as late as it can be.
    Result<void> bind(const IpAddress& ip, std::uint16_t port) {
#if defined(IP_BIND_ADDRESS_NO_PORT)
        if (port == 0 && !listening_reuse_) set(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
#endif
        // Everybody's IPv6 address stands for IPv4 too, whatever the system's habit. OpenBSD has it otherwise, and cannot be asked.
        if (ip.family == Family::v6 && ip.is_unspecified()) set(IPPROTO_IPV6, IPV6_V6ONLY, 0);
        detail::SocketAddress to(ip, port);
        return result(::bind(fd_, to.get(), to.size()));
    }
    /// Lets a server listen again at once on a port whose old connections still linger (SO_REUSEADDR, socket(7)); before `bind`.
    void reuse_address() {
        listening_reuse_ = true;
        set(SOL_SOCKET, SO_REUSEADDR, 1);
    }
    /// Hears what is sent to a multicast group, by the interface that has the address `by`, or for IPv6 by that of the group's scope;
    /// beside other programs that do (ip(7), ipv6(7)). In place of `bind`.
    Result<void> join(const IpAddress& group, std::uint16_t port, const IpAddress& by) {
        set(SOL_SOCKET, SO_REUSEADDR, 1);
#if !defined(__linux__)
        set(SOL_SOCKET, SO_REUSEPORT, 1);  // which alone lets several bind there
#endif
        IpAddress any;
        any.family = group.family;
        if (auto bound = bind(any, port); !bound) return bound;
        if (group.family == Family::v4) {
            ip_mreq request{};
            std::memcpy(&request.imr_multiaddr, group.bytes, 4);
            std::memcpy(&request.imr_interface, by.bytes, 4);
            return result(::setsockopt(fd_, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof request));
        }
        ipv6_mreq request{};
        std::memcpy(&request.ipv6mr_multiaddr, group.bytes, 16);
        request.ipv6mr_interface = group.scope;
        return result(::setsockopt(fd_, IPPROTO_IPV6, IPV6_JOIN_GROUP, &request, sizeof request));
    }
    Result<void> listen(int backlog) { return result(::listen(fd_, backlog)); }
    /// Starts to connect. `would_block`: under way; when it is writable, `take_error` has the outcome.
    Result<void> connect(const IpAddress& ip, std::uint16_t port) {
        detail::SocketAddress to(ip, port);
        if (::connect(fd_, to.get(), to.size()) == 0) return {};
        return errno == EINPROGRESS || errno == EINTR ? Error(Errc::would_block) : last_error();
    }
    /// Takes one waiting connection.
    Result<Socket> accept() {
        for (;;) {
#if defined(__linux__)
            const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd >= 0) return Socket(fd, Made{});
#else
            const int fd = ::accept(fd_, nullptr, nullptr);
            if (fd >= 0) return Socket(fd);
#endif
            if (errno != EINTR) return last_error();
        }
    }

    /// Whether an error of `accept` means that descriptors or memory are out: the connection still waits (accept(2)).
    static bool exhausted(Error error) {
        for (int code : {EMFILE, ENFILE, ENOBUFS, ENOMEM})
            if (error == Error::system(code)) return true;
        return false;
    }

    /// Reads what is there; 0 is the end of the stream.
    Result<std::size_t> receive(MutableBytes to) {
        for (;;) {
            const ssize_t n = ::recv(fd_, to.data(), to.size(), 0);
            if (n >= 0) return static_cast<std::size_t>(n);
            if (errno != EINTR) return last_error();
        }
    }
    /// Writes the pieces in order in one system call; returns how many bytes the system took, at least one. At most 8 pieces count.
    Result<std::size_t> send(std::span<const Bytes> pieces) {
        if (pieces.size() == 1) return send(pieces[0]);
        iovec vectors[8];
        msghdr message{};
        message.msg_iov = vectors;
        for (Bytes piece : pieces.first(pieces.size() < 8 ? pieces.size() : 8))
            vectors[message.msg_iovlen++] = {const_cast<std::byte*>(piece.data()), piece.size()};
        for (;;) {
            const ssize_t n = ::sendmsg(fd_, &message, MSG_NOSIGNAL);
            if (n >= 0) return static_cast<std::size_t>(n);
            if (errno != EINTR) return last_error();
        }
    }
    Result<std::size_t> send(Bytes bytes) {
        for (;;) {
            const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (n >= 0) return static_cast<std::size_t>(n);
            if (errno != EINTR) return last_error();
        }
    }
    /// Sends one datagram from a UDP socket, whole or not at all. `would_block`: the system has no room for it now.
    Result<void> send_to(Bytes datagram, const IpAddress& ip, std::uint16_t port) {
        detail::SocketAddress to(ip, port);
        for (;;) {
            if (::sendto(fd_, datagram.data(), datagram.size(), MSG_NOSIGNAL, to.get(), to.size()) >= 0) return {};
            if (errno != EINTR) return last_error();
        }
    }
    /// Takes one datagram, and says whom it is from; it may be empty. One that does not fit is `too_large`, and gone.
    Result<std::size_t> receive_from(MutableBytes to, Endpoint& from) {
        detail::SocketAddress sender;
        iovec room{to.data(), to.size()};
        msghdr message{};
        message.msg_iov = &room;
        message.msg_iovlen = 1;
        for (;;) {
            message.msg_name = sender.get();
            message.msg_namelen = sizeof sender;
            const ssize_t n = ::recvmsg(fd_, &message, 0);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) return last_error();
            from = sender.endpoint();
            if ((message.msg_flags & MSG_TRUNC) != 0) return Errc::too_large;
            return static_cast<std::size_t>(n);
        }
    }
    /// Ends the sending direction; the peer reads the end of the stream after everything that was sent.
    Result<void> shutdown_send() { return result(::shutdown(fd_, SHUT_WR)); }

    /// The pending error of the socket (SO_ERROR), which is thereby cleared; none is `Error{}`.
    Error take_error() {
        int error = 0;
        socklen_t size = sizeof error;
        if (::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return Error::system(errno);
        return error == 0 ? Error() : Error::system(error);
    }
    /// What it is, asked of the system; `none` for a descriptor that is no socket. Where the system does not tell who listens (macOS), that
    /// is whoever has no peer.
    SocketKind kind() const {
        int type = 0, listening = 0;
        socklen_t size = sizeof type;
        if (::getsockopt(fd_, SOL_SOCKET, SO_TYPE, &type, &size) != 0) return SocketKind::none;
        if (type == SOCK_DGRAM) return SocketKind::datagram;
        size = sizeof listening;
        if (::getsockopt(fd_, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0) listening = connected() ? 0 : 1;
        return listening != 0 ? SocketKind::listener : SocketKind::stream;
    }
    /// Whether it has a peer, of whatever family.
    bool connected() const {
        sockaddr_storage any;
        socklen_t size = sizeof any;
        return ::getpeername(fd_, reinterpret_cast<sockaddr*>(&any), &size) == 0;
    }
    Endpoint local_endpoint() const { return endpoint_of(::getsockname); }
    Endpoint peer_endpoint() const { return endpoint_of(::getpeername); }

    /// Sends small pieces at once (TCP_NODELAY): the library gathers by itself.
    void no_delay() { set(IPPROTO_TCP, TCP_NODELAY, 1); }
    /// Lets the kernel retransmit at least this often, where it can (Linux 6.15 and later: TCP_RTO_MAX_MS, 1 s to 120 s), so that a
    /// connection kept in use finds a returned path soon.
    void cap_retransmission(Duration at_least_every) {
#if defined(__linux__)
        set(IPPROTO_TCP, 44 /* TCP_RTO_MAX_MS */, static_cast<int>(at_least_every.milliseconds()));
#else
        static_cast<void>(at_least_every);
#endif
    }
    /// Sends segments of at most `n` bytes, and asks the peer to (TCP_MAXSEG, RFC 9293 §3.7.1); before `connect`.
    void limit_segments(int n) { set(IPPROTO_TCP, TCP_MAXSEG, n); }
    /// Leaves by that interface, whatever the routes prefer; before `connect`. Linux: SO_BINDTOIFINDEX (5.1; without privilege since 5.7),
    /// macOS: IP_BOUND_IF. `unsupported` on the BSDs.
    Result<void> leave_by(std::uint32_t interface_index, Family family) {
        const int index = static_cast<int>(interface_index);
#if defined(__linux__)
        static_cast<void>(family);
        return result(::setsockopt(fd_, SOL_SOCKET, 62 /* SO_BINDTOIFINDEX */, &index, sizeof index));
#elif defined(__APPLE__)
        return family == Family::v4 ? result(::setsockopt(fd_, IPPROTO_IP, 25 /* IP_BOUND_IF */, &index, sizeof index))
                                    : result(::setsockopt(fd_, IPPROTO_IPV6, 125 /* IPV6_BOUND_IF */, &index, sizeof index));
#else
        static_cast<void>(index), static_cast<void>(family);
        return Errc::unsupported;
#endif
    }
    PathInfo path_info() const;

private:
    struct Made {};
    Socket(Handle fd, Made) : fd_(fd) {}
    void prepare() {
        if (const int flags = ::fcntl(fd_, F_GETFL); (flags & O_NONBLOCK) == 0) ::fcntl(fd_, F_SETFL, flags | O_NONBLOCK);
#if defined(SO_NOSIGPIPE) && defined(__APPLE__)
        set(SOL_SOCKET, SO_NOSIGPIPE, 1);  // where MSG_NOSIGNAL is newer than the system may be
#endif
    }

    static Result<Socket> open(Family family, int type) {
        if (family == Family::none) return Errc::invalid_argument;
        const int domain = family == Family::v4 ? AF_INET : AF_INET6;
#if defined(__linux__)
        const int fd = ::socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) return last_error();
        return Socket(fd, Made{});
#else
        const int fd = ::socket(domain, type, 0);
        if (fd < 0) return last_error();
        return Socket(fd);
#endif
    }
    static Error last_error() { return errno == EAGAIN || errno == EWOULDBLOCK ? Error(Errc::would_block) : Error::system(errno); }
    static Result<void> result(int returned) {
        if (returned != 0) return last_error();
        return {};
    }
    template <class T>
    void set(int level, int option, const T& value) {
        ::setsockopt(fd_, level, option, &value, sizeof value);
    }
    Endpoint endpoint_of(int (*get)(int, sockaddr*, socklen_t*)) const {
        detail::SocketAddress from;
        socklen_t size = sizeof from;
        if (get(fd_, from.get(), &size) != 0) return {};
        return from.endpoint();
    }

    Handle fd_ = -1;
    bool listening_reuse_ = false;
};

#if !defined(__linux__)
inline PathInfo Socket::path_info() const { return {}; }
#endif

}  // namespace rejoin::inline v0_1
#endif
