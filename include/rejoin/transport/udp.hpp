// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/loop.hpp>
#include <rejoin/os/socket.hpp>
#include <rejoin/session/datagrams.hpp>
#include <rejoin/transport/connection.hpp>

namespace rejoin::inline v0_1 {

/// A UDP socket connected to one peer: opened once, and closed. Hears datagrams of that peer alone; `on_bytes` is one datagram.
class UdpConnection {
public:
    UdpConnection(Loop& loop, ConnectionObserver& observer)
        : observer_(&observer), watch_(loop, Delegate<void(Ready)>::to<&UdpConnection::ready>(this)) {}
    ~UdpConnection() { watch_.stop(); }

    void set_observer(ConnectionObserver& observer) { observer_ = &observer; }

    /// Connects to a numeric endpoint, on that way: nothing is sent. `on_open` follows, never inside this call; an error comes at once.
    Result<void> open(const Endpoint& to, const Way& way) {
        auto made = Socket::udp(to.ip().family);
        if (!made) return made.error();
        socket_ = std::move(*made);
        if (way.interface_index != 0)
            if (auto bound = socket_.leave_by(way.interface_index, to.ip().family); !bound) return bound;
        if (way.from.family != Family::none)
            if (auto bound = socket_.bind(way.from, 0); !bound) return bound;
        if (auto connected = socket_.connect(to.ip(), to.port()); !connected) return connected;
        opening_ = true;
        return watch_.start(socket_.fd(), Ready::writable);
    }
    /// Takes over a connected socket; open at once, without `on_open`.
    Result<void> adopt(Socket socket) {
        socket_ = std::move(socket);
        return watch_.start(socket_.fd(), Ready::readable);
    }
    /// Gives the socket to the caller; nothing more is heard.
    Socket release() {
        watch_.stop();
        return std::move(socket_);
    }

    /// Sends the pieces as one datagram.
    Result<std::size_t> write(std::span<const Bytes> pieces) { return socket_.send(pieces); }
    /// Asks for one `on_writable`.
    void want_writable() {
        writable_wanted_ = true;
        update();
    }
    /// Stops reading, or goes on: what comes meanwhile waits in the system's buffer as far as it has room.
    void pause(bool paused) {
        paused_ = paused;
        update();
    }
    bool paused() const { return paused_; }
    void set_read_limit(std::uint32_t) {}

    /// The peer hears of neither.
    void end() {}
    void abort() {
        watch_.stop();
        socket_.close();
    }

    Endpoint local_endpoint() const { return socket_.local_endpoint(); }
    Endpoint peer_endpoint() const { return socket_.peer_endpoint(); }

private:
    static constexpr int reads_per_turn = 16;

    void update() {
        if (!opening_) watch_.change((paused_ ? Ready::none : Ready::readable) | (writable_wanted_ ? Ready::writable : Ready::none));
    }
    void ready(Ready what) {
        if (opening_) {
            opening_ = false;
            update();
            return observer_->on_open();
        }
        if (writable_wanted_ && has(what, Ready::writable)) {
            writable_wanted_ = false;
            update();
            if (!observer_->on_writable() || !socket_) return;
        }
        if (!has(what, Ready::readable)) return;
        if (paused_) {  // only an error gets here, and would again at once
            if (const Error error = socket_.take_error()) observer_->on_error(error);
            return;
        }
        for (int i = 0; i < reads_per_turn && !paused_; ++i) {
            const MutableBytes room = watch_.loop().scratch();
            auto size = socket_.receive(room);
            if (!size) {
                if (size.error() != Errc::would_block) observer_->on_error(size.error());
                return;
            }
            if (!observer_->on_bytes(room.first(*size)) || !socket_) return;
        }
    }

    ConnectionObserver* observer_;
    Socket socket_;
    bool opening_ = false;
    bool paused_ = false;
    bool writable_wanted_ = false;
    Loop::Watch watch_;
};

/// The transport policy for UDP: each `send` is a datagram of at most 65,507 bytes, and each `on_receive` too. A pipe over it opens another
/// socket when the network changes under the one in use, and after an error that the system tells (a closed port); what the system refuses
/// as too large for the path, or by a rule of this host's firewall, is lost as if on the way, and told as an event.
struct Udp {
    using Connection = UdpConnection;
    using Session = session::Datagrams;
    using Options = Session::Options;
};

}  // namespace rejoin::inline v0_1
