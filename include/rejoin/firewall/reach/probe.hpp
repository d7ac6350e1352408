// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/function.hpp>
#include <rejoin/firewall/reach/message.hpp>
#include <rejoin/os/loop.hpp>
#include <rejoin/os/socket.hpp>

namespace rejoin::inline v0_1 {

namespace detail {

// So long one try takes: a packet there and back, and one that was lost.
inline constexpr Duration probe_max = Duration::seconds(2), meeting_max = Duration::seconds(4), meeting_pause = Duration::milliseconds(50);

// Connects to one place from one port, again and again until that succeeds or it is enough.
class Connector {
public:
    Connector(Loop& loop, Delegate<void(Result<Socket>&&)> done)
        : loop_(loop),
          done_(done),
          watch_(loop, Delegate<void(Ready)>::to<&Connector::ready>(this)),
          again_(loop, Delegate<void()>::to<&Connector::due>(this)) {}
    ~Connector() { watch_.stop(); }

    // Takes a port, of that address; what is told to the other side before it begins.
    Result<std::uint16_t> bind(const IpAddress& ip) {
        stop();
        auto made = Socket::tcp(ip.family);
        if (!made) return made.error();
        made->reuse_address();
        if (auto bound = made->bind(ip, 0); !bound) return bound.error();
        socket_ = std::move(*made);
        from_ = socket_.local_endpoint();
        return from_.port();
    }
    // `meeting`: whoever is there may not be ready yet.
    void start(const Endpoint& to, TimePoint until, bool meeting) {
        to_ = to;
        until_ = until;
        meeting_ = meeting;
        attempt();
    }
    void stop() {
        watch_.stop();
        again_.cancel();
        socket_.close();
        from_ = {};
    }

private:
    void attempt() {
        if (!socket_) {
            auto made = Socket::tcp(to_.ip().family);
            if (!made) return end(made.error());
            if (from_.valid()) {
                made->reuse_address();
                if (auto bound = made->bind(from_.ip(), from_.port()); !bound) return end(bound.error());
            }
            socket_ = std::move(*made);
        }
        if (auto connected = socket_.connect(to_.ip(), to_.port()); !connected && connected.error() != Errc::would_block)
            return refused(connected.error());
        if (auto watched = watch_.start(socket_.fd(), Ready::writable); !watched) return end(watched.error());
        again_.at(until_);
    }
    void ready(Ready) {
        if (const Error error = socket_.take_error()) return refused(error);
        watch_.stop();
        again_.cancel();
        done_(std::move(socket_));
    }
    void refused(Error error) {
        watch_.stop();
        socket_.close();
        if (!meeting_ || loop_.now() + meeting_pause >= until_) return end(error);
        again_.after(meeting_pause);
    }
    void due() {
        if (loop_.now() >= until_) return end(Errc::timed_out);
        attempt();
    }
    void end(Error error) {
        watch_.stop();
        again_.cancel();
        socket_.close();
        done_(error);
    }

    Loop& loop_;
    Delegate<void(Result<Socket>&&)> done_;
    Loop::Watch watch_;
    Loop::Timer again_;
    Socket socket_;
    Endpoint from_, to_;
    TimePoint until_;
    bool meeting_ = false;
};

// Sends a datagram to one place from one port, again and again, until it is answered or it is enough.
class DatagramProbe {
public:
    DatagramProbe(Loop& loop, Delegate<void(Result<Socket>&&)> done)
        : loop_(loop),
          done_(done),
          watch_(loop, Delegate<void(Ready)>::to<&DatagramProbe::ready>(this)),
          again_(loop, Delegate<void()>::to<&DatagramProbe::due>(this)) {}
    ~DatagramProbe() { watch_.stop(); }

    // Takes a port, of that address.
    Result<std::uint16_t> bind(const IpAddress& ip) {
        stop();
        auto made = Socket::udp(ip.family);
        if (!made) return made.error();
        made->reuse_address();  // a port now, and not when it sends
        if (auto bound = made->bind(ip, 0); !bound) return bound.error();
        socket_ = std::move(*made);
        return socket_.local_endpoint().port();
    }
    // `meeting`: whoever is there may not listen yet, and may be seen elsewhere than where it says.
    void start(const ReachMessage& probe, const Endpoint& to, TimePoint until, bool meeting) {
        probe_ = probe;
        probe_.kind = ReachMessage::Kind::probe;
        to_ = to;
        until_ = until;
        if (!meeting)  // then a closed port is told
            if (auto connected = socket_.connect(to.ip(), to.port()); !connected) return end(connected.error());
        meeting_ = meeting;
        if (auto watched = watch_.start(socket_.fd(), Ready::readable); !watched) return end(watched.error());
        due();
    }
    void stop() {
        watch_.stop();
        again_.cancel();
        socket_.close();
    }

private:
    void due() {
        if (loop_.now() >= until_) return end(Errc::timed_out);
        std::byte bytes[ReachMessage::size];
        probe_.encode(bytes);
        // What the system refuses now it may take next time.
        static_cast<void>(meeting_ ? socket_.send_to(bytes, to_.ip(), to_.port()).error() : socket_.send(Bytes(bytes)).error());
        again_.after(meeting_pause);
    }
    void ready(Ready) {
        for (int i = 0; i < 16; ++i) {
            std::byte room[ReachMessage::size + 1];
            Endpoint from;
            const auto size = socket_.receive_from(room, from);
            if (!size && size.error() == Errc::would_block) return;
            if (!size && size.error() != Errc::too_large && !meeting_) return end(size.error());
            if (!size) continue;
            const auto message = ReachMessage::decode(Bytes(room, *size));
            if (!message || message->attempt != probe_.attempt || message->step != probe_.step) continue;
            if (message->kind == ReachMessage::Kind::probe) to_ = from;
            if (message->kind != ReachMessage::Kind::answer) continue;
            watch_.stop();
            again_.cancel();
            if (auto connected = socket_.connect(from.ip(), from.port()); !connected) return end(connected.error());
            return done_(std::move(socket_));
        }
    }
    void end(Error error) {
        stop();
        done_(error);
    }

    Loop& loop_;
    Delegate<void(Result<Socket>&&)> done_;
    Loop::Watch watch_;
    Loop::Timer again_;
    Socket socket_;
    ReachMessage probe_;
    Endpoint to_;
    TimePoint until_;
    bool meeting_ = false;
};

}  // namespace detail

}  // namespace rejoin::inline v0_1
