// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/local_socket.hpp>

#if !defined(_WIN32)
#include <stddef.h>
#include <sys/stat.h>
#include <sys/un.h>

namespace rejoin::inline v0_1 {

/// Unix domain stream sockets, unix(7), and the descriptors that travel over them. Every socket is a `Socket`: non-blocking and
/// close-on-exec.
class UnixSocket {
public:
    using End = Socket;
    /// A descriptor goes over it on a byte. Where that is not so, a ticket goes in the bytes.
    static constexpr bool passes_descriptors = true;
    /// What to watch an end for, to hear that it takes more again.
    static constexpr Ready when_it_takes_more = Ready::both;

    /// Two sockets that are connected with each other.
    static Result<void> pair(Socket& one, Socket& other) {
        int fds[2];
        if (::socketpair(AF_UNIX, type, 0, fds) != 0) return Error::system(errno);
        one = Socket(fds[0]);
        other = Socket(fds[1]);
        return {};
    }
    /// Connects to `path`; where the first character is `@` and the system is Linux, to that abstract name. Never waits: the system's
    /// error, ECONNREFUSED where nobody listens, `would_block` where those who do have too many waiting.
    static Result<Socket> connect(TextView path) {
        Address address;
        if (!address.set(path)) return Errc::invalid_argument;
        auto made = open();
        if (made && ::connect(made->fd(), address.get(), address.size) != 0)
            return errno == EAGAIN ? Error(Errc::would_block) : Error::system(errno);
        return made;
    }
    /// Listens at `path`, as `connect` has it. The folder of a path has to belong to this user, and nobody else may enter it, or anybody
    /// could put a socket of their own there: else EPERM. A socket left there by a process that is gone is replaced; EADDRINUSE where
    /// somebody listens. An abstract name has no such protection: look at the credentials of who connects.
    static Result<Socket> listen(TextView path, int backlog) {
        Address address;
        if (!address.set(path)) return Errc::invalid_argument;
        if (!address.abstract())
            if (auto ours = folder_is_ours(address); !ours) return ours.error();
        auto made = open();
        if (!made) return made;
        int bound = ::bind(made->fd(), address.get(), address.size);
        if (bound != 0 && errno == EADDRINUSE && !address.abstract()) {
            if (auto other = connect(path); other || other.error() != Error::system(ECONNREFUSED)) return Error::system(EADDRINUSE);
            ::unlink(address.name.sun_path);
            bound = ::bind(made->fd(), address.get(), address.size);
        }
        if (bound != 0) return Error::system(errno);
        if (auto listening = made->listen(backlog); !listening) return listening.error();
        return made;
    }
    /// Who is at the other end.
    static Result<PeerCredentials> peer_credentials(const Socket& socket) {
        PeerCredentials peer;
#if defined(__linux__)
        struct {
            pid_t pid;
            uid_t uid;
            gid_t gid;
        } of{};  // ucred, which glibc shows only to _GNU_SOURCE
        socklen_t size = sizeof of;
        if (::getsockopt(socket.fd(), SOL_SOCKET, SO_PEERCRED, &of, &size) != 0) return Error::system(errno);
        peer = {of.uid, of.gid, of.pid};
#else
        uid_t user = 0;
        gid_t group = 0;
        if (::getpeereid(socket.fd(), &user, &group) != 0) return Error::system(errno);
        peer.user = user;
        peer.group = group;
#endif
        return peer;
    }
    /// Whether that is the same user as this process.
    static bool trusted(const PeerCredentials& peer) { return peer.user == ::geteuid(); }
    /// Whether an error says that nobody is at the other end any more.
    static bool gone(Error error) { return error == Error::system(EPIPE) || error == Error::system(ECONNRESET); }
    /// Refuses descriptors: a peer that sends one gets EPERM. Linux 6.16 and later (SO_PASSRIGHTS); false elsewhere.
    static bool refuse_descriptors(const Socket& socket) {
#if defined(__linux__)
        const int no = 0;
        return ::setsockopt(socket.fd(), SOL_SOCKET, 83 /* SO_PASSRIGHTS */, &no, sizeof no) == 0;
#else
        static_cast<void>(socket);
        return false;
#endif
    }

    /// Sends bytes, at least one, and on the first of them the socket `with`, unless null: it stays the sender's as well. How many of them
    /// were taken: where any was, the socket went too.
    static Result<std::size_t> send(const Socket& socket, Bytes bytes, const Socket* with = nullptr) {
        iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
        msghdr message{};
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        alignas(cmsghdr) unsigned char control[CMSG_SPACE(sizeof(int))] = {};
        if (with != nullptr) {
            const int descriptor = with->fd();
            message.msg_control = control;
            message.msg_controllen = sizeof control;
            cmsghdr* const header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(sizeof(int));
            std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
        }
        for (;;) {
            const ssize_t n = ::sendmsg(socket.fd(), &message, MSG_NOSIGNAL);
            if (n >= 0) return static_cast<std::size_t>(n);
            if (errno == EAGAIN || errno == EWOULDBLOCK) return Errc::would_block;
            if (errno != EINTR) return Error::system(errno);
        }
    }
    /// Reads bytes, and with them at most one descriptor: see `Socket::check_in`. `malformed`, and all of them are closed, when
    /// more came than one.
    static Result<LocalReceived> receive(const Socket& socket, MutableBytes to) {
        int descriptor = -1;
        iovec room{to.data(), to.size()};
        msghdr message{};
        message.msg_iov = &room;
        message.msg_iovlen = 1;
        // Room for as many as a message may have, so that each can be closed: on macOS, and under QEMU, what is cut off stays open.
        alignas(cmsghdr) unsigned char control[CMSG_SPACE(512 * sizeof(int))];
        ssize_t n = 0;
        do {
            message.msg_control = control;
            message.msg_controllen = sizeof control;
            n = ::recvmsg(socket.fd(), &message, receive_flags);
        } while (n < 0 && errno == EINTR);
        if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? Error(Errc::would_block) : Error::system(errno);
        bool more = (message.msg_flags & MSG_CTRUNC) != 0;
        // Walked by hand: CMSG_NXTHDR does not compile without warnings everywhere, and macOS lets a length say more than there is.
        constexpr auto start = static_cast<std::size_t>(CMSG_LEN(0));
        const auto filled = static_cast<std::size_t>(message.msg_controllen);
        for (std::size_t at = 0; at + start <= filled;) {
            cmsghdr header;
            std::memcpy(&header, control + at, sizeof header);
            const auto size = static_cast<std::size_t>(header.cmsg_len);
            if (size < start) break;
            const std::size_t end = size < filled - at ? at + size : filled;
            const bool descriptors = header.cmsg_level == SOL_SOCKET && header.cmsg_type == SCM_RIGHTS;
            for (std::size_t i = at + start; descriptors && i + sizeof(int) <= end; i += sizeof(int)) {
                int fd = -1;
                std::memcpy(&fd, control + i, sizeof fd);
#if !defined(MSG_CMSG_CLOEXEC)
                ::fcntl(fd, F_SETFD, FD_CLOEXEC);
#endif
                more = more || descriptor >= 0;
                if (more)
                    ::close(fd);
                else
                    descriptor = fd;
            }
            at += static_cast<std::size_t>(CMSG_SPACE(size - start));
        }
        LocalReceived received{static_cast<std::size_t>(n), descriptor >= 0, Socket::of_received(descriptor)};
        if (more) return Errc::malformed;
        return received;
    }

    /// No tickets here: descriptors go by themselves.
    static Error issue_ticket(const Socket&, const Socket&, Array<std::byte>&) { return {}; }
    static Socket redeem_ticket(Bytes) { return {}; }
    /// Two plain stream sockets, for any program, that are connected with each other.
    static Result<void> stream_pair(Socket& one, Socket& other) { return pair(one, other); }

private:
#if defined(__linux__)
    static constexpr int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
#else
    static constexpr int type = SOCK_STREAM;
#endif
#if defined(MSG_CMSG_CLOEXEC)
    static constexpr int receive_flags = MSG_CMSG_CLOEXEC;
#else
    static constexpr int receive_flags = 0;
#endif

    struct Address {
        sockaddr_un name{};
        socklen_t size = 0;

        bool set(TextView path) {
            if (path.size() == 0 || path.size() >= sizeof name.sun_path) return false;
            for (char c : path)
                if (c == 0) return false;
            name.sun_family = AF_UNIX;
            std::memcpy(name.sun_path, path.data(), path.size());
            size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (abstract() ? 0 : 1));
#if defined(__linux__)
            if (abstract()) name.sun_path[0] = 0;
#endif
            return true;
        }
        bool abstract() const {
#if defined(__linux__)
            return name.sun_path[0] == '@' || name.sun_path[0] == 0;
#else
            return false;
#endif
        }
        const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&name); }
    };
    static Result<Socket> open() {
        const int fd = ::socket(AF_UNIX, type, 0);
        if (fd < 0) return Error::system(errno);
        return Socket(fd);
    }
    static Result<void> folder_is_ours(const Address& address) {
        Address folder = address;
        std::size_t slash = 0;
        for (std::size_t i = 0; address.name.sun_path[i] != 0; ++i)
            if (address.name.sun_path[i] == '/') slash = i;
        if (slash == 0 && address.name.sun_path[0] != '/')
            std::memcpy(folder.name.sun_path, ".", 2);
        else
            folder.name.sun_path[slash == 0 ? 1 : slash] = 0;
        struct stat is {};
        if (::stat(folder.name.sun_path, &is) != 0) return Error::system(errno);
        if (!S_ISDIR(is.st_mode) || is.st_uid != ::geteuid() || (is.st_mode & 077) != 0) return Error::system(EPERM);
        return {};
    }
};

using LocalSocket = UnixSocket;

}  // namespace rejoin::inline v0_1
#endif
