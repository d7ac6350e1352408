// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/error.hpp>
#include <rejoin/core/ring.hpp>

namespace rejoin::inline v0_1::session {

/// The session of a transport that has none: a queue of what is to be written on the one connection. What is in it, or on its way,
/// when the connection breaks is lost. Pure.
class Plain {
public:
    static constexpr bool survives_connections = false;
    struct Options {
        /// Bytes queued until the system takes them, at most. A `send` beyond it is refused with `would_block`.
        std::size_t queue_limit = 1024 * 1024;

        bool valid() const { return queue_limit > 0; }
    };

    void set_options(const Options& options) { options_ = &options; }

    /// Queues `bytes` whole, or refuses them whole: `would_block`, `too_large`, `invalid_state` after `finish`, `out_of_memory`.
    Result<void> send(Bytes bytes) {
        if (finishing_) return Errc::invalid_state;
        if (bytes.size() > options_->queue_limit - queue_.size()) {
            if (bytes.size() > options_->queue_limit) return Errc::too_large;
            return refuse();
        }
        if (!queue_.append(bytes)) return Errc::out_of_memory;
        sent_ += bytes.size();
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
    /// Bytes that `send` took, and that were delivered, over all connections.
    std::uint64_t sent() const { return sent_; }
    std::uint64_t received() const { return received_; }
    void delivered(std::size_t n) { received_ += n; }
    std::size_t unacknowledged() const { return queue_.size(); }

    /// Whether the peer hears of an end.
    static constexpr bool has_end = true;
    /// The most pieces that `gather` gives.
    static constexpr std::size_t pieces_max = 2;
    /// Tells what to write next, in order, as views that hold until the next call of anything; returns how many pieces.
    std::size_t gather(std::span<Bytes, pieces_max> pieces) const {
        pieces[0] = queue_.peek(0, queue_.size());
        if (pieces[0].size() == queue_.size()) return 1;
        pieces[1] = queue_.peek(pieces[0].size(), queue_.size());
        return 2;
    }
    void wrote(std::size_t n) { queue_.drop(n); }
    /// Adds a copy of what is queued to `to`; false when memory is out.
    bool save(Array<std::byte>& to) const { return queue_.copy_to(to); }
    /// Starts over for a new connection: what was queued is dropped.
    void restart() { queue_.release(); }

private:
    const Options* options_ = nullptr;
    Ring queue_;
    std::uint64_t sent_ = 0;
    std::uint64_t received_ = 0;
    bool finishing_ = false;
    bool refused_ = false;
};

}  // namespace rejoin::inline v0_1::session
