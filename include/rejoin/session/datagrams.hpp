// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/error.hpp>
#include <rejoin/core/ring.hpp>
#include <rejoin/core/time.hpp>

namespace rejoin::inline v0_1::session {

/// The session of a transport of datagrams: a queue of those that wait for a socket, or for the system to take them. Each arrives whole or
/// not at all, in any order. Nothing tells the peer of an end. Pure.
class Datagrams {
public:
    static constexpr bool survives_connections = false;
    static constexpr bool has_end = false;
    /// The longest that UDP carries over IPv4.
    static constexpr std::size_t datagram_max = 65'507;

    struct Options {
        /// Bytes queued until the system takes them, at most, with four more for each datagram. A `send` beyond it is refused with
        /// `would_block`.
        std::size_t queue_limit = 256 * 1024;

        bool valid() const { return queue_limit >= datagram_max + header; }
    };

    void set_options(const Options& options) { options_ = &options; }

    /// Queues one datagram, which may be empty: `would_block`, `too_large`, `invalid_state` after `finish`, `out_of_memory`.
    Result<void> send(Bytes datagram) {
        if (finishing_) return Errc::invalid_state;
        if (datagram.size() > datagram_max) return Errc::too_large;
        if (datagram.size() + header > options_->queue_limit - queue_.size()) return refuse();
        if (!queue_.reserve(header + datagram.size())) return Errc::out_of_memory;
        std::byte length[header];
        store_big(length, static_cast<std::uint32_t>(datagram.size()));
        queue_.append(length);
        queue_.append(datagram);
        sent_ += datagram.size();
        return {};
    }
    /// Says `would_block`, and `take_drained` later.
    Error refuse() {
        refused_ = true;
        return Errc::would_block;
    }
    std::size_t send_space() const { return options_->queue_limit - queue_.size(); }
    std::size_t send_limit() const { return options_->queue_limit; }
    bool empty() const { return queue_.empty(); }
    /// True once after a refusal, when half of the limit is free again.
    bool take_drained() {
        if (!refused_ || queue_.size() > options_->queue_limit / 2) return false;
        refused_ = false;
        return true;
    }
    void finish() { finishing_ = true; }
    bool finishing() const { return finishing_; }
    /// Bytes that `send` took, and that were delivered, over all sockets.
    std::uint64_t sent() const { return sent_; }
    std::uint64_t received() const { return received_; }
    void delivered(std::size_t n) { received_ += n; }
    std::size_t unacknowledged() const { return queue_.size(); }

    /// The most pieces that `gather` gives.
    static constexpr std::size_t pieces_max = 2;
    /// Tells what makes the next datagram, as views that hold until the next call of anything; returns how many pieces.
    std::size_t gather(std::span<Bytes, pieces_max> pieces) const {
        const std::size_t size = front_size();
        pieces[0] = queue_.peek(header, size);
        if (pieces[0].size() == size) return 1;
        pieces[1] = queue_.peek(header + pieces[0].size(), size - pieces[0].size());
        return 2;
    }
    /// The next datagram was taken, or is given up.
    void wrote(std::size_t) { queue_.drop(header + front_size()); }
    /// Whether another socket is worth a try, when this host's firewall has refused a datagram: not more often than every 5 s.
    bool may_replace_socket(TimePoint now) {
        if (now < replace_after_) return false;
        replace_after_ = now + Duration::seconds(5);
        return true;
    }
    /// What waits goes out by the next socket.
    void restart() {}

private:
    static constexpr std::size_t header = 4;

    std::size_t front_size() const {
        std::byte length[header];
        for (std::size_t i = 0; i < header; ++i) length[i] = queue_.peek(i, 1)[0];
        return load_big<std::uint32_t>(length);
    }

    const Options* options_ = nullptr;
    Ring queue_;
    TimePoint replace_after_;
    std::uint64_t sent_ = 0;
    std::uint64_t received_ = 0;
    bool finishing_ = false;
    bool refused_ = false;
};

}  // namespace rejoin::inline v0_1::session
