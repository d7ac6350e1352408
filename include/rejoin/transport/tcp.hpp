// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/loop.hpp>
#include <rejoin/os/socket.hpp>
#include <rejoin/session/plain.hpp>
#include <rejoin/transport/connection.hpp>

namespace rejoin::inline v0_1 {

/// One TCP connection: opened once, or adopted, and closed. Tells its observer what happens; writes what the system takes, no more.
class TcpConnection {
public:
    TcpConnection(Loop& loop, ConnectionObserver& observer)
        : observer_(&observer), watch_(loop, Delegate<void(Ready)>::to<&TcpConnection::ready>(this)) {}
    ~TcpConnection() { watch_.stop(); }

    void set_observer(ConnectionObserver& observer) { observer_ = &observer; }

    /// Starts to connect to a numeric endpoint, on that way. `on_open` or `on_error` follows, never inside this call.
    [[gnu::cold]] Result<void> open(const Endpoint& to, const Way& way) {
        auto made = Socket::tcp(to.ip().family);
        if (!made) return made.error();
        socket_ = std::move(*made);
        if (way.segment_max != 0) socket_.limit_segments(way.segment_max);
        if (way.interface_index != 0)
            if (auto bound = socket_.leave_by(way.interface_index, to.ip().family); !bound) return bound;
        if (way.from.family != Family::none)
            if (auto bound = socket_.bind(way.from, 0); !bound) return bound;
        if (auto connected = socket_.connect(to.ip(), to.port()); !connected && connected.error() != Errc::would_block) return connected;
        opening_ = true;
        return watch_.start(socket_.fd(), Ready::writable);
    }
    /// Takes over a connected socket; open at once, without `on_open`.
    [[gnu::cold]] Result<void> adopt(Socket socket) {
        socket_ = std::move(socket);
        configure();
        return watch_.start(socket_.fd(), Ready::readable);
    }
    /// Gives the socket to the caller; nothing more is heard.
    Socket release() {
        watch_.stop();
        return std::move(socket_);
    }

    /// Writes the pieces, in order, as far as the system takes them: how many bytes, or `would_block` for none.
    Result<std::size_t> write(std::span<const Bytes> pieces) { return socket_.send(pieces); }
    /// Asks for one `on_writable`.
    void want_writable() {
        writable_wanted_ = true;
        update();
    }
    /// Stops reading, or goes on.
    void pause(bool paused) {
        paused_ = paused;
        update();
    }
    bool paused() const { return paused_; }
    /// Reads at most `n` bytes at a time.
    void set_read_limit(std::uint32_t n) { read_limit_ = n; }

    /// Ends the sending direction after what was written.
    void end() { static_cast<void>(socket_.shutdown_send()); }
    /// Closes with a reset, for the peer to notice at once; destroying only closes.
    void abort() {
        watch_.stop();
        socket_.reset();
    }

    Endpoint local_endpoint() const { return socket_.local_endpoint(); }
    Endpoint peer_endpoint() const { return socket_.peer_endpoint(); }
    PathInfo path_info() const { return socket_.path_info(); }

private:
    [[gnu::cold]] void configure() {
        socket_.no_delay();
        // A connection that stays in use through an outage retries within a second of the path's return.
        socket_.cap_retransmission(Duration::seconds(1));
    }
    void update() {
        if (opening_) return;
        const Ready wanted = (reading() ? Ready::readable : Ready::none) | (writable_wanted_ ? Ready::writable : Ready::none);
        if (!hung_up_)
            watch_.change(wanted);
        else if (reading())
            hung_up_ = !watch_.start(socket_.fd(), wanted);
    }
    bool reading() const { return !paused_ && !ended_; }

    void ready(Ready what) {
        if (opening_) return opened();
        if (what == Ready::readable && reading()) return read();
        if (writable_wanted_ && has(what, Ready::writable)) {
            writable_wanted_ = false;
            update();
            if (!observer_->on_writable() || !socket_) return;  // gone, or released
        }
        if (!has(what, Ready::readable)) return;
        if (!reading()) {
            // Only an error or a hang-up gets here, and would again at once. Behind a hang-up there may still be something to read.
            if (what == Ready::both) {
                watch_.stop();
                hung_up_ = true;
                if (const Error error = socket_.take_error()) observer_->on_error(error);
            }
            return;
        }
        read();
    }
    void read() {
        const MutableBytes room = watch_.loop().scratch();
        auto size = socket_.receive(room.first(read_limit_ < room.size() ? read_limit_ : room.size()));
        if (!size) {
            if (size.error() != Errc::would_block) observer_->on_error(size.error());
            return;
        }
        if (*size == 0) {
            ended_ = true;
            update();
            observer_->on_end();
            return;
        }
        observer_->on_bytes(room.first(*size));
    }
    [[gnu::cold]] void opened() {
        if (const Error error = socket_.take_error()) return observer_->on_error(error);
        opening_ = false;
        configure();
        update();
        observer_->on_open();
    }

    ConnectionObserver* observer_;
    Socket socket_;
    std::uint32_t read_limit_ = UINT32_MAX;
    bool opening_ = false;
    bool paused_ = false;
    bool writable_wanted_ = false;
    bool ended_ = false;    // the peer's direction: read to its end
    bool hung_up_ = false;  // both directions: no longer watched while nothing is read
    Loop::Watch watch_;
};

/// Listens for TCP connections and hands each accepted socket to its delegate.
class TcpAcceptor {
public:
    using Accepted = Socket;

    TcpAcceptor(Loop& loop, Delegate<void(Socket&&)> accepted)
        : accepted_(accepted),
          watch_(loop, Delegate<void(Ready)>::to<&TcpAcceptor::ready>(this)),
          again_(loop, Delegate<void()>::to<&TcpAcceptor::go_on>(this)) {}

    /// Listens on a numeric endpoint; port 0 lets the system choose. `backlog`: connections the system keeps waiting.
    [[gnu::cold]] Result<void> listen(const Endpoint& at, int backlog) {
        if (at.ip().family == Family::none) return Errc::invalid_argument;
        auto made = Socket::tcp(at.ip().family);
        if (!made) return made.error();
        made->reuse_address();
        if (auto bound = made->bind(at.ip(), at.port()); !bound) return bound;
        if (auto listening = made->listen(backlog); !listening) return listening;
        if (auto watched = watch_.start(made->fd(), Ready::readable); !watched) return watched;
        socket_ = std::move(*made);
        return {};
    }
    /// Goes on with a socket that listens already.
    [[gnu::cold]] Result<void> adopt(Socket socket) {
        if (auto watched = watch_.start(socket.fd(), Ready::readable); !watched) return watched;
        socket_ = std::move(socket);
        return {};
    }
    /// Gives the socket to the caller; who comes waits in the system's queue.
    [[gnu::cold]] Socket release() {
        watch_.stop();
        again_.cancel();
        return std::move(socket_);
    }
    ~TcpAcceptor() {
        if (destroyed_ != nullptr) *destroyed_ = true;
    }
    [[gnu::cold]] void close() {
        watch_.stop();
        again_.cancel();
        socket_.close();
    }
    bool listening() const { return static_cast<bool>(socket_); }
    Endpoint local_endpoint() const { return socket_.local_endpoint(); }

    /// Accepts nothing for `d`, or until `go_on`: who comes meanwhile waits in the system's queue.
    [[gnu::cold]] void rest(Duration d) {
        watch_.change(Ready::none);
        again_.after(d);
    }
    [[gnu::cold]] void go_on() {
        again_.cancel();
        watch_.change(Ready::readable);
    }

private:
    // So many in one turn that a crowd is let in quickly, and so few that those who are in are still served.
    static constexpr int accepts_per_turn = 64;

    void ready(Ready) {
        bool destroyed = false;
        destroyed_ = &destroyed;
        for (int i = 0; i < accepts_per_turn && socket_ && !again_.armed(); ++i) {
            auto socket = socket_.accept();
            if (!socket && stop_at(socket.error())) break;
            if (socket) accepted_(std::move(*socket));  // may close or destroy this acceptor
            if (destroyed) return;
        }
        destroyed_ = nullptr;
    }
    bool stop_at(Error error) {
        // Without descriptors or memory the waiting connection stays, and the listening socket stays readable: look again a little
        // later instead of at once, for ever. Other errors are those of the one connection (accept(2)).
        const bool exhausted = Socket::exhausted(error);
        if (exhausted) rest(Duration::milliseconds(100));
        return exhausted || error == Errc::would_block;
    }

    Delegate<void(Socket&&)> accepted_;
    Socket socket_;
    Loop::Watch watch_;
    Loop::Timer again_;
    bool* destroyed_ = nullptr;  // of the call under way
};

/// The transport policy for plain TCP: a stream over one connection. What was on its way when it breaks is lost.
struct Tcp {
    using Connection = TcpConnection;
    using Acceptor = TcpAcceptor;
    using Session = session::Plain;
    using Options = Session::Options;
};

}  // namespace rejoin::inline v0_1
