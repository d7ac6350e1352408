// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/bytes.hpp>
#include <rejoin/core/socket_kind.hpp>
#include <rejoin/os/path_info.hpp>
#include <rejoin/os/socket_address.hpp>
#include <utility>

#if defined(_WIN32)

namespace rejoin::inline v0_1 {

/// A socket: owned, move-only, non-blocking, not inherited by child processes. Errors are the system's own codes (WSAGetLastError), but for
/// "it would have to wait", which is `would_block`.
class Socket {
public:
    using Handle = SOCKET;

    Socket() = default;
    /// Takes a socket over and makes it non-blocking and not inheritable.
    explicit Socket(Handle fd) : fd_(fd) {
        if (fd == INVALID_SOCKET) return;
        u_long on = 1;
        ::ioctlsocket(fd, static_cast<long>(FIONBIO), &on);
        ::SetHandleInformation(reinterpret_cast<HANDLE>(fd), HANDLE_FLAG_INHERIT, 0);
    }
    /// Whether there is a socket: nothing is left to do for one that came from another process.
    bool check_in() { return fd_ != INVALID_SOCKET; }
    Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, INVALID_SOCKET)) {}
    Socket& operator=(Socket&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~Socket() { close(); }

    static Result<Socket> tcp(Family family) { return open(family, SOCK_STREAM); }
    /// An ICMP error that an earlier datagram met with does not come back from a later call (SIO_UDP_CONNRESET and SIO_UDP_NETRESET are
    /// off).
    static Result<Socket> udp(Family family) {
        auto made = open(family, SOCK_DGRAM);
        if (!made) return made;
        for (DWORD report : {0x9800000Cu /* SIO_UDP_CONNRESET */, 0x9800000Fu /* SIO_UDP_NETRESET */}) {
            BOOL off = FALSE;
            DWORD size = 0;
            ::WSAIoctl(made->fd_, report, &off, sizeof off, nullptr, 0, &size, nullptr, nullptr);
        }
        return made;
    }

    explicit operator bool() const { return fd_ != INVALID_SOCKET; }
    Handle fd() const { return fd_; }
    /// Gives the socket to the caller, who closes it.
    Handle release() { return std::exchange(fd_, INVALID_SOCKET); }
    void close() {
        if (fd_ != INVALID_SOCKET) ::closesocket(std::exchange(fd_, INVALID_SOCKET));
    }
    /// Closes with a reset instead of an orderly end (SO_LINGER of zero): what was not sent is discarded.
    void reset() {
        if (fd_ == INVALID_SOCKET) return;
        set(SOL_SOCKET, SO_LINGER, linger{1, 0});
        close();
    }

    /// Binds to a local address and port; port 0 is chosen by the system.
    Result<void> bind(const IpAddress& ip, std::uint16_t port) {
        // Everybody's IPv6 address stands for IPv4 too, as elsewhere.
        if (ip.family == Family::v6 && ip.is_unspecified()) set(IPPROTO_IPV6, IPV6_V6ONLY, DWORD{0});
        const detail::SocketAddress to(ip, port);
        return result(::bind(fd_, to.get(), to.size()));
    }
    /// For a server: nobody else may bind to its port (SO_EXCLUSIVEADDRUSE); before `bind`. Connections that linger do not keep a port from
    /// being bound here; what SO_REUSEADDR does here is to let any program take it away.
    void reuse_address() { set(SOL_SOCKET, SO_EXCLUSIVEADDRUSE, BOOL{TRUE}); }
    /// Hears what is sent to a multicast group, by the interface that has the address `by`, or for IPv6 by that of the group's scope;
    /// beside other programs that do (here SO_REUSEADDR is what lets several bind). In place of `bind`.
    Result<void> join(const IpAddress& group, std::uint16_t port, const IpAddress& by) {
        set(SOL_SOCKET, SO_REUSEADDR, BOOL{TRUE});
        IpAddress any;
        any.family = group.family;
        if (auto bound = bind(any, port); !bound) return bound;
        if (group.family == Family::v4) {
            ip_mreq request{};
            std::memcpy(&request.imr_multiaddr, group.bytes, 4);
            std::memcpy(&request.imr_interface, by.bytes, 4);
            return result(::setsockopt(fd_, IPPROTO_IP, IP_ADD_MEMBERSHIP, reinterpret_cast<const char*>(&request),
                                       static_cast<int>(sizeof request)));
        }
        ipv6_mreq request{};
        std::memcpy(&request.ipv6mr_multiaddr, group.bytes, 16);
        request.ipv6mr_interface = group.scope;
        return result(::setsockopt(fd_, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, reinterpret_cast<const char*>(&request),
                                   static_cast<int>(sizeof request)));
    }
    /// A backlog of more than 200 has to be asked for as a hint, the number negated, or counts as 200.
    Result<void> listen(int backlog) { return result(::listen(fd_, backlog > 200 ? -backlog : backlog)); }
    /// Starts to connect. `would_block`: under way; when it is writable, `take_error` has the outcome.
    Result<void> connect(const IpAddress& ip, std::uint16_t port) {
        const detail::SocketAddress to(ip, port);
        return result(::connect(fd_, to.get(), to.size()));
    }
    /// Takes one waiting connection.
    Result<Socket> accept() {
        const Handle fd = ::accept(fd_, nullptr, nullptr);
        if (fd == INVALID_SOCKET) return detail::winsock_error();
        return Socket(fd);
    }
    /// Whether an error of `accept` means that descriptors or memory are out: the connection still waits.
    static bool exhausted(Error error) { return error == Error::system(WSAEMFILE) || error == Error::system(WSAENOBUFS); }

    /// Reads what is there; 0 is the end of the stream.
    Result<std::size_t> receive(MutableBytes to) {
        const int n = ::recv(fd_, reinterpret_cast<char*>(to.data()), length(to.size()), 0);
        if (n >= 0) return static_cast<std::size_t>(n);
        return detail::winsock_error();
    }
    /// Writes the pieces in order in one system call; returns how many bytes the system took, at least one. At most 8 pieces count.
    Result<std::size_t> send(std::span<const Bytes> pieces) {
        WSABUF buffers[8];
        DWORD count = 0;
        for (Bytes piece : pieces.first(pieces.size() < 8 ? pieces.size() : 8))
            buffers[count++] = {static_cast<ULONG>(length(piece.size())), const_cast<CHAR*>(reinterpret_cast<const CHAR*>(piece.data()))};
        DWORD sent = 0;
        if (::WSASend(fd_, buffers, count, &sent, 0, nullptr, nullptr) != 0) return detail::winsock_error();
        return sent;
    }
    Result<std::size_t> send(Bytes bytes) { return send({&bytes, 1}); }
    /// Sends one datagram from a UDP socket, whole or not at all. `would_block`: the system has no room for it now.
    Result<void> send_to(Bytes datagram, const IpAddress& ip, std::uint16_t port) {
        const detail::SocketAddress to(ip, port);
        const int n = ::sendto(fd_, reinterpret_cast<const char*>(datagram.data()), length(datagram.size()), 0, to.get(), to.size());
        return result(n >= 0 ? 0 : n);
    }
    /// Takes one datagram, and says whom it is from; it may be empty. One that does not fit is `too_large`, and gone.
    Result<std::size_t> receive_from(MutableBytes to, Endpoint& from) {
        detail::SocketAddress sender;
        int size = sizeof sender;
        const int n = ::recvfrom(fd_, reinterpret_cast<char*>(to.data()), length(to.size()), 0, sender.get(), &size);
        if (n < 0 && ::WSAGetLastError() != WSAEMSGSIZE) return detail::winsock_error();
        from = sender.endpoint();
        if (n < 0) return Errc::too_large;
        return static_cast<std::size_t>(n);
    }
    /// Ends the sending direction; the peer reads the end of the stream after everything that was sent.
    Result<void> shutdown_send() { return result(::shutdown(fd_, SD_SEND)); }

    /// The pending error of the socket (SO_ERROR), which is thereby cleared; none is `Error{}`.
    Error take_error() {
        int error = 0;
        int size = sizeof error;
        if (::getsockopt(fd_, SOL_SOCKET, SO_ERROR, reinterpret_cast<char*>(&error), &size) != 0) return detail::winsock_error();
        return error == 0 ? Error() : Error::system(error);
    }
    /// What it is, asked of the system; `none` for what is no socket.
    SocketKind kind() const {
        int type = 0, size = sizeof type;
        if (::getsockopt(fd_, SOL_SOCKET, SO_TYPE, reinterpret_cast<char*>(&type), &size) != 0) return SocketKind::none;
        if (type == SOCK_DGRAM) return SocketKind::datagram;
        BOOL listening = FALSE;
        size = sizeof listening;
        if (::getsockopt(fd_, SOL_SOCKET, SO_ACCEPTCONN, reinterpret_cast<char*>(&listening), &size) != 0) listening = !connected();
        return listening ? SocketKind::listener : SocketKind::stream;
    }
    /// Whether it has a peer.
    bool connected() const { return peer_endpoint().valid(); }
    Endpoint local_endpoint() const { return endpoint_of(::getsockname); }
    Endpoint peer_endpoint() const { return endpoint_of(::getpeername); }

    /// Sends small pieces at once (TCP_NODELAY): the library gathers by itself.
    void no_delay() { set(IPPROTO_TCP, TCP_NODELAY, BOOL{TRUE}); }
    /// Windows has no bound on the time between retransmissions.
    void cap_retransmission(Duration) {}
    /// Windows lets nobody choose.
    void limit_segments(int) {}
    /// Leaves by that interface, whatever the routes prefer (IP_UNICAST_IF, in network order; IPV6_UNICAST_IF); before `connect`.
    Result<void> leave_by(std::uint32_t interface_index, Family family) {
        constexpr int unicast_if = 31;
        const DWORD index = family == Family::v4 ? htonl(interface_index) : interface_index;
        return result(::setsockopt(fd_, family == Family::v4 ? static_cast<int>(IPPROTO_IP) : static_cast<int>(IPPROTO_IPV6), unicast_if,
                                   reinterpret_cast<const char*>(&index), sizeof index));
    }
    /// From SIO_TCP_INFO (Windows 10 1703 and later). The system does not say when it last heard from the peer, nor what becomes of its
    /// probes of a closed window: so nothing is known while the window is closed.
    PathInfo path_info() const {
        struct {  // TCP_INFO_v0
            std::uint32_t state, mss;
            std::uint64_t connection_time_ms;
            std::uint8_t timestamps;
            std::uint32_t rtt_us, min_rtt_us, bytes_in_flight, congestion_window, send_window, receive_window, receive_buffer;
            std::uint64_t bytes_out, bytes_in;
            std::uint32_t reordered, retransmitted, fast_retransmits, duplicate_acks, timeout_episodes;
            std::uint8_t syn_retransmits;
        } info;
        DWORD version = 0, size = 0;
        PathInfo path;
        if (::WSAIoctl(fd_, 0xD8000027u /* SIO_TCP_INFO */, &version, sizeof version, &info, sizeof info, &size, nullptr, nullptr) != 0 ||
            size < sizeof info || info.mss == 0)
            return path;
        path.known = info.send_window > 0;
        path.in_flight = (info.bytes_in_flight + info.mss - 1) / info.mss;
        path.since_ack = Duration::unlimited();
        return path;
    }

private:
    static int length(std::size_t n) { return n > INT32_MAX ? INT32_MAX : static_cast<int>(n); }
    static Result<Socket> open(Family family, int type) {
        if (family == Family::none) return Errc::invalid_argument;
        if (const Error error = detail::start_winsock()) return error;
        const Handle fd =
            ::WSASocketW(family == Family::v4 ? AF_INET : AF_INET6, type, 0, nullptr, 0, WSA_FLAG_OVERLAPPED | detail::no_handle_inherit);
        if (fd == INVALID_SOCKET) return detail::winsock_error();
        return Socket(fd);
    }
    static Result<void> result(int returned) {
        if (returned != 0) return detail::winsock_error();
        return {};
    }
    template <class T>
    void set(int level, int option, const T& value) {
        ::setsockopt(fd_, level, option, reinterpret_cast<const char*>(&value), sizeof value);
    }
    Endpoint endpoint_of(int(WSAAPI* get)(SOCKET, sockaddr*, int*)) const {
        detail::SocketAddress from;
        int size = sizeof from;
        if (get(fd_, from.get(), &size) != 0) return {};
        return from.endpoint();
    }

    Handle fd_ = INVALID_SOCKET;
};

}  // namespace rejoin::inline v0_1
#endif
