// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/session/session.hpp>

namespace rejoin::inline v0_1::session {

/// Everything of a session that another process needs to go on with it. Offsets as in `Session`.
struct State {
    Identity identity;
    bool accepted = false;  ///< the server's end
    std::uint64_t epoch = 0, asked_epoch = 0;
    Duration round_trip;

    std::uint64_t acknowledged = 0;  ///< the peer has our stream up to here, FIN not counted
    std::uint64_t highest_sent = 0;  ///< sent over any connection
    bool finishing = false, fin_acknowledged = false;
    std::uint64_t received = 0;  ///< of the peer's stream, delivered
    bool peer_finished = false, held_fin = false;

    // Of the connection, where there is one.
    bool attached = false;
    std::uint64_t sent = 0;                  ///< what goes out next
    std::uint64_t acknowledgement_sent = 0;  ///< what the peer was told last
    std::uint64_t skip = 0;                  ///< of what comes next, known already
    std::uint32_t window = 0;
    std::uint32_t payload_out = 0, payload_in = 0;  ///< left of the data frame being written, and of the one being read
    bool pong_due = false;
    std::uint64_t pong = 0;
    Array<std::byte> out;  ///< left of the small frames, or the header, being written
    Array<std::byte> in;   ///< the beginning of a frame that has not come whole

    Array<std::byte> held;    ///< the peer's stream that was not delivered yet, and not acknowledged
    Array<std::byte> replay;  ///< our stream from `acknowledged` on
};

[[gnu::cold]] inline Result<void> Session::save(State& to) const {
    to.identity = identity_;
    to.accepted = accepted_;
    to.epoch = epoch_;
    to.asked_epoch = last_asked_epoch_;
    to.round_trip = round_trip_;
    to.acknowledged = acknowledged_;
    to.highest_sent = highest_sent_;
    to.finishing = finishing_;
    to.fin_acknowledged = fin_acknowledged_;
    to.received = received_;
    to.peer_finished = peer_finished_;
    to.held_fin = held_ != nullptr && held_->fin;
    to.attached = attached_;
    to.sent = sent_;
    to.acknowledgement_sent = acknowledgement_sent_;
    to.skip = skip_;
    to.window = window_;
    to.payload_out = payload_out_;
    to.payload_in = payload_in_;
    to.pong_due = pong_due_;
    to.pong = pong_;
    const std::size_t unwritten = static_cast<std::size_t>(out_size_ - out_written_);
    if (!to.out.append(out_ + out_written_, unwritten) || !to.in.append(header_, header_size_) ||
        (held_ != nullptr && !held_->bytes.copy_to(to.held)) || !replay_.copy_to(to.replay))
        return Errc::out_of_memory;
    return {};
}

[[gnu::cold]] inline Result<void> Session::restore(const State& from, TimePoint now) {
    if (from.replay.size() > options_->replay_limit) return Errc::too_large;
    const std::uint64_t fin = from.finishing ? 1 : 0;
    const std::uint64_t stream_end = from.acknowledged + from.replay.size();
    bool possible = stream_end >= from.acknowledged && from.highest_sent >= from.acknowledged && from.highest_sent <= stream_end + fin &&
                    (!from.fin_acknowledged || (from.finishing && from.replay.empty() && from.highest_sent == stream_end + 1)) &&
                    from.held.size() <= window_max && !(from.peer_finished && (from.held_fin || !from.held.empty())) &&
                    from.round_trip >= Duration();
    if (from.attached)
        possible = possible && from.sent >= from.acknowledged && from.sent <= from.highest_sent && from.skip <= from.received &&
                   from.acknowledgement_sent <= from.received - from.skip && from.window >= window_min && from.window <= window_max &&
                   from.payload_out <= frame_payload_max && from.payload_out <= (from.sent < stream_end ? stream_end - from.sent : 0) &&
                   from.payload_in <= frame_length_max && from.out.size() <= sizeof out_ && from.in.size() < sizeof header_ &&
                   (from.payload_in == 0 || from.in.empty());
    if (!possible) return Errc::malformed;

    if (!from.replay.empty()) {
        const std::size_t growth = replay_.capacity_for(from.replay.size());
        if (budget_ != nullptr && !budget_->charge(growth)) return Errc::would_block;
        if (!replay_.append({from.replay.data(), from.replay.size()})) {
            if (budget_ != nullptr) budget_->credit(growth);
            return Errc::out_of_memory;
        }
    }
    if (!from.held.empty() && !keep({from.held.data(), from.held.size()})) return Errc::out_of_memory;
    if (held_ != nullptr) held_->fin = from.held_fin;
    set_identity(from.identity, from.accepted);
    epoch_ = from.epoch;
    last_asked_epoch_ = from.asked_epoch;
    round_trip_ = from.round_trip;
    acknowledged_ = from.acknowledged;
    highest_sent_ = from.highest_sent;
    finishing_ = from.finishing;
    fin_acknowledged_ = from.fin_acknowledged;
    received_ = from.received;
    peer_finished_ = from.peer_finished;
    if (!from.attached) return {};
    sent_ = from.sent;
    acknowledgement_sent_ = from.acknowledgement_sent;
    skip_ = from.skip;
    set_window(from.window);
    payload_out_ = from.payload_out;
    payload_in_ = from.payload_in;
    pong_due_ = from.pong_due;
    pong_ = from.pong;
    copy(out_, {from.out.data(), from.out.size()});
    out_size_ = static_cast<std::uint8_t>(from.out.size());
    copy(header_, {from.in.data(), from.in.size()});
    header_size_ = static_cast<std::uint8_t>(from.in.size());
    attached_ = heard_ = true;
    ++attachment_;
    acknowledged_before_ = static_cast<std::uint32_t>(acknowledged_);
    heard_at_ = pinged_at_ = now;
    return {};
}

}  // namespace rejoin::inline v0_1::session
