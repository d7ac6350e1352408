// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/ring.hpp>
#include <rejoin/core/time.hpp>
#include <rejoin/session/handshake.hpp>

namespace rejoin::inline v0_1::session {

/// The memory in which many sessions keep bytes for replay, and how much it may be: a server's bound in all, and within it each peer's.
struct Budget {
    std::size_t limit = SIZE_MAX;
    Budget* outer = nullptr;
    std::size_t used = 0;

    /// Takes `n` bytes of it; false, and nothing is taken, when that is more than is left.
    bool charge(std::size_t n) {
        if (n > limit - used || (outer != nullptr && !outer->charge(n))) return false;
        used += n;
        return true;
    }
    /// Gives back what was taken.
    void credit(std::size_t n) {
        used -= n;
        if (outer != nullptr) outer->credit(n);
    }
};

/// A key that both ends hold before they meet, made of a secret of at least 16 random bytes. Default: none.
class PreSharedKey {
public:
    PreSharedKey() = default;
    explicit PreSharedKey(Bytes secret) : set_(true) {
        Sha256 hash;
        hash.update(secret);
        key_ = hash.finish();
    }
    /// The key, or null for none. Lives as long as this object.
    const Digest* get() const { return set_ ? &key_ : nullptr; }

private:
    Digest key_;
    bool set_ = false;
};

/// Bounds and times of a session.
struct Options {
    /// Bytes kept until the peer's application has them, at most: 4 KiB to 1 GiB. A `send` beyond it is refused with `would_block`. As many
    /// are kept of what comes while the application here has paused.
    std::size_t replay_limit = 1024 * 1024;
    /// How often a quiet connection is probed; the accepting side, which hears the other's probes, waits twice as long. Half of what a
    /// hasty NAT allows an idle connection (15 s seen) leaves room for one lost probe. Where connections are found dead after a quiet time
    /// twice in a row, it is halved, down to a second.
    Duration liveness_interval = Duration::seconds(5);
    /// A probe unanswered for this long, or for four round trips if that is longer, makes the path suspect: another is tried beside it.
    Duration suspect_after = Duration::seconds(1);
    /// A probe unanswered for this long, or for four round trips if that is longer, while the peer's kernel is silent too: dead.
    Duration dead_after = Duration::seconds(3);
    /// The accepting side keeps a session without a connection for this long, and then reports `session_expired`.
    Duration keep_detached = Duration::seconds(120);
    /// A key that both sides hold beforehand. Without one, the session's key is sent once, in the clear.
    PreSharedKey pre_shared_key;

    bool valid() const {
        return replay_limit >= window_min && replay_limit <= window_max && liveness_interval > Duration() && suspect_after > Duration() &&
               dead_after > Duration() && keep_detached > Duration();
    }
};

struct State;

/// One end of a session: a stream each way that goes on over one connection after another, without loss, repetition or reordering.
/// Pure: bytes and times go in, bytes come out; it knows no socket and no clock. 64-bit offsets count the bytes of each direction from
/// 0; the end of a stream (FIN) counts as one.
///
///     detached --attach--> attached --detach--> detached ...
///     either, once `finish` and the peer's FIN have both arrived and been acknowledged: `ended`
class Session {
public:
    static constexpr bool survives_connections = true;
    static constexpr bool has_end = true;
    using Options = session::Options;

    Session() = default;
    Session(const Session&) = delete;
    [[gnu::cold]] ~Session() {
        drop_held();
        set_budget(nullptr);
    }

    void set_options(const Options& options) { options_ = &options; }
    const Options& options() const { return *options_; }
    /// `accepted`: this is the server's end.
    void set_identity(const Identity& identity, bool accepted) {
        identity_ = identity;
        accepted_ = accepted;
        established_ = true;
    }
    const Identity& identity() const { return identity_; }
    /// Whether the two ends have ever agreed: from then on a new connection resumes.
    bool established() const { return established_; }
    /// The epoch of the connection in use; a resume must bring a higher one.
    std::uint64_t epoch() const { return epoch_; }
    std::uint64_t next_epoch() { return ++last_asked_epoch_; }
    /// Charges the memory of the replay buffer, and of what is held, to `budget`, which outlives the session or is taken away again with
    /// null. Before the first `send`.
    [[gnu::cold]] void set_budget(Budget* budget) {
        if (budget_ != nullptr) budget_->credit(replay_.capacity() + (held_ == nullptr ? 0 : std::exchange(held_->charged, 0)));
        budget_ = budget;
    }

    // ---- The application's side.

    /// Queues `bytes` whole, or refuses them whole: `would_block` (see `take_drained`), `too_large` for more than the replay limit,
    /// `invalid_state` after `finish`, `out_of_memory`.
    Result<void> send(Bytes bytes) {
        if (finishing_) return Errc::invalid_state;
        if (bytes.size() > options_->replay_limit) return Errc::too_large;
        if (bytes.size() > options_->replay_limit - replay_.size()) return refuse(Errc::would_block);
        if (budget_ == nullptr) return replay_.append(bytes) ? Result<void>() : Errc::out_of_memory;
        const std::size_t growth = replay_.capacity_for(replay_.size() + bytes.size()) - replay_.capacity();
        if (!budget_->charge(growth)) return refuse(Errc::would_block);
        if (replay_.append(bytes)) return {};
        budget_->credit(growth);
        return Errc::out_of_memory;
    }
    /// Bytes that `send` would take now, as far as its own limit goes.
    std::size_t send_space() const { return options_->replay_limit - replay_.size(); }
    std::size_t send_limit() const { return options_->replay_limit; }
    /// True once after a refusal, when half of the limit is free again. (What a budget refused may be refused again.)
    bool take_drained() {
        if (!refused_ || replay_.size() > options_->replay_limit / 2) return false;
        refused_ = false;
        return true;
    }
    /// Ends the sending direction after everything queued.
    void finish() { finishing_ = true; }
    bool finishing() const { return finishing_; }
    /// The peer ended its direction, and all of it has been delivered here.
    bool peer_finished() const { return peer_finished_; }
    /// Both directions have ended and arrived. The server's end knows first, and says GOODBYE; the client's end is over when it hears it.
    bool ended() const { return accepted_ ? complete() : goodbye_; }
    /// Both directions have ended, and both are known here to have arrived. The client's end still waits for GOODBYE, so that the server
    /// knows it too; a server that has forgotten the session by then has nothing to tell it.
    bool complete() const { return fin_acknowledged_ && peer_finished_; }
    /// Bytes the peer's application is not known to have.
    std::size_t unacknowledged() const { return replay_.size(); }
    /// The offset up to which the peer's stream has been delivered here, and that up to which ours is known to have been there. FIN counts
    /// one in both.
    std::uint64_t received() const { return received_; }
    std::uint64_t acknowledged() const { return acknowledged_ + (fin_acknowledged_ ? 1 : 0); }
    /// Bytes of our stream so far, queued ones included.
    std::uint64_t sent() const { return end(); }
    /// Bytes that were sent more than once, over all connections.
    std::uint64_t replayed() const { return replayed_; }
    /// Smoothed (RFC 6298 §2); zero while unknown.
    Duration round_trip() const { return round_trip_; }

    /// The most bytes that one call of `deliver` gets.
    void set_piece(std::uint32_t n) { piece_ = n; }
    /// While the application takes nothing, the peer's stream is kept here, and not acknowledged: so this end's window bounds it. What else
    /// the peer says is heard all the time; two ends that wait for each other's acknowledgements would otherwise wait for ever.
    void hold(bool held) { holding_ = held; }
    /// Bytes that wait to be taken.
    std::size_t held() const { return held_ == nullptr ? 0 : held_->bytes.size(); }
    /// Whether nothing more should be read for now: the peer does not mind the window, or the budget is spent.
    bool full() const { return held() > options_->replay_limit || (held_ != nullptr && held_->over_budget); }
    /// Copies what waits into `to`, as far as it fits; it counts as delivered. `held_delivered` follows when it has been.
    [[gnu::cold]] std::size_t take_held(MutableBytes to) {
        std::size_t n = 0;
        if (to.size() > piece_) to = to.first(piece_);
        while (n < to.size() && held() > 0) {
            const Bytes part = held_->bytes.peek(0, to.size() - n);
            copy(to.data() + n, part);
            n += part.size();
            held_->bytes.drop(part.size());
        }
        received_ += n;
        return n;
    }
    [[gnu::cold]] void held_delivered() {
        if (held_ == nullptr || held() > 0) return;
        const bool fin = held_->fin;
        drop_held();
        if (fin) peer_finishes();
    }

    // ---- The connection's side.

    /// Goes on over a new connection, in place of the one before. `preface`: what the handshake still has to write. `malformed`, and
    /// nothing has changed, when the peer claims to have received what was never sent, to lack what it acknowledged, or to know of more
    /// than arrived here.
    [[gnu::cold]] Result<void> attach(const Agreement& agreement, Bytes preface, Duration round_trip, TimePoint now) {
        if (agreement.send_from < acknowledged() || agreement.send_from > highest_sent_ || agreement.receive_from > received_ ||
            preface.size() > sizeof out_)
            return Errc::malformed;
        acknowledge(agreement.send_from);
        drop_held();  // comes again, as it was not acknowledged
        sent_ = agreement.send_from;
        skip_ = received_ - agreement.receive_from;
        acknowledgement_sent_ = agreement.receive_from;
        if (agreement.epoch > epoch_) epoch_ = agreement.epoch;
        set_window(agreement.window);
        copy(out_, preface);
        out_size_ = static_cast<std::uint8_t>(preface.size());
        out_written_ = 0;
        payload_out_ = payload_in_ = 0;
        header_size_ = 0;
        pong_due_ = ping_due_ = ping_unanswered_ = goodbye_sent_ = heard_ = false;
        attached_ = true;
        acknowledged_before_ = static_cast<std::uint32_t>(acknowledged_);
        ++attachment_;
        heard_at_ = pinged_at_ = now;
        if (round_trip > Duration()) measure(round_trip);
        return {};
    }
    [[gnu::cold]] void detach() {
        attached_ = false;
        ++attachment_;
        if (replay_.empty()) release_memory();  // for as long as it may take
    }
    bool attached() const { return attached_; }

    /// The most pieces that `gather` gives.
    static constexpr std::size_t pieces_max = 3;
    /// Tells what to write next, in order, as views that hold until the next call of anything but `wrote`; returns how many pieces.
    std::size_t gather(std::span<Bytes, pieces_max> pieces) {
        if (!attached_ || goodbye_) return 0;  // GOODBYE may come in the middle of what is sent again
        if (out_written_ == out_size_ && payload_out_ == 0) compose();
        std::size_t n = 0;
        if (out_written_ < out_size_) pieces[n++] = {out_ + out_written_, static_cast<std::size_t>(out_size_ - out_written_)};
        const auto from = static_cast<std::size_t>(sent_ - acknowledged_);
        for (std::size_t at = 0; at < payload_out_; at += pieces[n - 1].size()) pieces[n++] = replay_.peek(from + at, payload_out_ - at);
        return n;
    }
    /// The connection took the first `n` bytes of what was gathered.
    void wrote(std::size_t n) {
        const std::size_t out_left = static_cast<std::size_t>(out_size_ - out_written_);
        const std::size_t from_out = n < out_left ? n : out_left;
        out_written_ = static_cast<std::uint8_t>(out_written_ + from_out);
        n -= from_out;
        payload_out_ -= static_cast<std::uint32_t>(n);
        if (sent_ < highest_sent_) replayed_ += n < highest_sent_ - sent_ ? n : highest_sent_ - sent_;
        sent_ += n;
        if (sent_ > highest_sent_) highest_sent_ = sent_;
    }

    /// Takes bytes from the peer; `deliver(Bytes) -> bool` gets the stream's, and returns false when it destroyed this session. Returns
    /// no error, or why the connection is of no use any more; `gone` when the session was destroyed. A frame's length is checked before
    /// use.
    template <class Deliver>
    Error receive(Bytes bytes, TimePoint now, Deliver&& deliver, bool& gone) {
        if (ping_unanswered_ && quiet_long()) deaths_in_quiet_ = 0;
        heard_at_ = now;
        heard_ = true;
        ping_unanswered_ = false;
        const std::uint32_t attachment = attachment_;
        while (!bytes.empty() && !goodbye_) {
            if (payload_in_ > 0) {
                const std::uint32_t most = payload_in_ < piece_ ? payload_in_ : piece_;
                Bytes part = bytes.first(bytes.size() < most ? bytes.size() : most);
                bytes = bytes.subspan(part.size());
                payload_in_ -= static_cast<std::uint32_t>(part.size());
                const std::uint64_t again = skip_ > 0 && peer_finished_ ? skip_ - 1 : skip_;  // FIN is not repeated by data
                const std::size_t known = again < part.size() ? static_cast<std::size_t>(again) : part.size();
                skip_ -= known;
                part = part.subspan(known);
                if (part.empty()) continue;
                if (peer_finished_ || (held_ != nullptr && held_->fin)) return Errc::malformed;
                if (holding_ || held_ != nullptr) {
                    if (!keep(part)) return Errc::out_of_memory;
                    continue;
                }
                received_ += part.size();
                if (!deliver(part)) {
                    gone = true;
                    return {};
                }
                if (attachment != attachment_) return {};  // the handler closed the connection that this came from
                continue;
            }
            // A whole frame in place is read there; one that is split is put together first.
            const std::byte* frame = bytes.data();
            std::size_t size = bytes.size();
            std::size_t kept = 0;
            if (header_size_ > 0) {
                kept = header_size_;
                const std::size_t room = sizeof header_ - kept;
                const std::size_t n = size < room ? size : room;
                copy(header_ + kept, bytes.first(n));
                frame = header_;
                size = kept + n;
            }
            std::size_t need = frame_header_size;
            FrameHeader header{};
            if (size >= need) {
                header = read_frame_header(frame);
                if (!frame_length_allowed(header)) return Errc::malformed;
                if (header.type != FrameType::data) need += header.length;
            }
            if (size < need) {
                if (kept == 0) copy(header_, bytes);
                header_size_ = static_cast<std::uint8_t>(size);
                return {};
            }
            header_size_ = 0;
            if (header.type == FrameType::data)
                payload_in_ = header.length;
            else if (Error error = handle(header.type, frame + frame_header_size, now))
                return error;
            bytes = bytes.subspan(need - kept);
        }
        return {};
    }

    // ---- Moving to another process (session/state.hpp).

    /// Copies everything that another process needs to go on into a new `State`, over the same connection or a new one; this end must then
    /// do nothing more with either, unless the other process does not take it. `out_of_memory`.
    Result<void> save(State& state) const;
    /// Goes on where `state` ends, in a session that is new. `malformed` for what no session can be; `too_large` for more unacknowledged
    /// bytes than the options here allow; `would_block` over the budget; `out_of_memory`.
    Result<void> restore(const State& state, TimePoint now);

    // ---- Time.

    enum class Liveness : std::uint8_t { fine, suspect, dead };
    /// What the silence of the connection means at `now`; composes a probe when one is due. Call it at `deadline`, then write.
    Liveness on_time(TimePoint now) {
        if (!attached_) return Liveness::fine;
        if (now >= release_at()) release_memory();
        if (ping_unanswered_) {
            const Duration silence = now - pinged_at_;
            const Duration patience = round_trip_ * 4;
            if (silence >= longer(options_->dead_after, patience)) return Liveness::dead;
            return silence >= longer(options_->suspect_after, patience) ? Liveness::suspect : Liveness::fine;
        }
        if (now >= ping_at()) {
            ping_due_ = ping_unanswered_ = true;
            pinged_at_ = unanswered_since_ = now;
        }
        return Liveness::fine;
    }
    /// The path is known to work although the peer says nothing (its kernel acknowledges): probes again and waits for the answer anew.
    void excuse(TimePoint now) {
        pinged_at_ = now;
        ping_due_ = true;
    }
    /// Whether it was excused for as long as would make it dead otherwise: something on the way may acknowledge and pass nothing on.
    bool overdue(TimePoint now) const {
        return ping_unanswered_ && now - unanswered_since_ >= longer(options_->dead_after, round_trip_ * 4);
    }
    /// When the last probe was sent.
    TimePoint probed_at() const { return pinged_at_; }
    /// When `on_time` wants to be called next.
    TimePoint deadline(TimePoint now) const {
        if (!attached_) return TimePoint::never();
        TimePoint next = ping_at();
        if (ping_unanswered_) {
            const Duration patience = round_trip_ * 4;
            const TimePoint suspect = pinged_at_ + longer(options_->suspect_after, patience);
            const TimePoint dead = pinged_at_ + longer(options_->dead_after, patience);
            next = suspect > now && suspect < dead ? suspect : dead;
        }
        if (release_at() < next) next = release_at();
        return acknowledgement_due() && now + acknowledge_after < next ? now + acknowledge_after : next;
    }
    /// Whether the last flush left an acknowledgement for later, so that it may ride on data.
    bool acknowledgement_due() const { return position() != acknowledgement_sent_; }
    /// The delayed acknowledgement is sent with the next flush, data or none.
    void acknowledge_now() { acknowledge_due_ = true; }
    /// Asks for an answer at once, for a path in doubt.
    void probe(TimePoint now) {
        if (!attached_ || ping_unanswered_) return;
        ping_due_ = ping_unanswered_ = true;
        pinged_at_ = unanswered_since_ = now;
    }
    bool probe_unanswered() const { return ping_unanswered_; }
    /// How many probes were sent, over all connections.
    std::uint32_t probes() const { return probes_; }

    // ---- What is learnt of the path.

    /// Whether what was sent on this connection waits for an acknowledgement.
    bool waiting() const { return attached_ && sent_ > acknowledged(); }
    /// Whether more than fits into a small packet was sent on this connection, and nothing of it has come through.
    bool stuck() const {
        return attached_ && static_cast<std::uint32_t>(acknowledged_) == acknowledged_before_ && sent_ - acknowledged_ > small_packet;
    }
    /// Whether nothing at all came from the peer since this connection joined.
    bool barren() const { return attached_ && !heard_; }
    /// The connection is dead. When that is seen by a probe after a quiet time, for the second time in a row, something on the way forgets
    /// quiet connections: probes are sent twice as often from now on.
    void found_dead() {
        if (!ping_unanswered_ || !quiet_long() || ++deaths_in_quiet_ < 2) return;
        deaths_in_quiet_ = 0;
        if (liveness_interval() > liveness_min) ++halvings_;
    }
    /// Another network: what was learnt of the one before does not hold.
    void unlearn() { halvings_ = deaths_in_quiet_ = 0; }
    /// How often a quiet connection is probed at present.
    [[gnu::noinline]] Duration liveness_interval() const {  // it is large, and asked for in many places
        const Duration asked = asked_ms_ != 0 ? Duration::milliseconds(asked_ms_) : options_->liveness_interval;
        if (halvings_ == 0 || asked < liveness_min) return asked;
        return longer(asked / (std::int64_t{1} << halvings_), liveness_min);
    }
    /// Another interval than the options' from now on, 1 ms to 49 days.
    void set_liveness_interval(Duration d) {
        const std::int64_t ms = d.milliseconds();
        asked_ms_ = static_cast<std::uint32_t>(ms < 1 ? 1 : ms > UINT32_MAX ? UINT32_MAX : ms);
    }

    /// Whether no frame is half written, so that `abort_frame` may follow.
    bool at_frame_boundary() const { return attached_ && out_written_ == out_size_ && payload_out_ == 0; }
    /// What giving up says to the peer, as one frame.
    static constexpr std::byte abort_frame[5] = {std::byte{0x16}, {}, {}, std::byte{1}, {}};

private:
    friend struct TestAccess;  // places a session at offsets that would take years to reach

    static constexpr std::uint32_t frame_payload_max = 256 * 1024;  // more would keep a PONG waiting behind it on a slow link
    static constexpr std::uint32_t acknowledge_every_max = 64 * 1024;
    static constexpr Duration acknowledge_after = Duration::milliseconds(25);  // long enough to ride on an answer, short against any outage
    static constexpr Duration quiet = Duration::milliseconds(500);             // unanswered data is followed by a probe this soon

    static constexpr std::uint64_t small_packet = 1000;
    static constexpr Duration liveness_min = Duration::seconds(1);

    bool quiet_long() const { return (unanswered_since_ - heard_at_) * 4 >= liveness_interval() * 3; }
    static Duration longer(Duration a, Duration b) { return a > b ? a : b; }

    Result<void> refuse(Errc why) {
        refused_ = true;
        return why;
    }
    void set_window(std::uint32_t window) {
        window_ = window;
        const std::uint32_t quarter = static_cast<std::uint32_t>(window_ < options_->replay_limit ? window_ : options_->replay_limit) / 4;
        acknowledge_every_ = quarter < acknowledge_every_max ? quarter : acknowledge_every_max;
    }
    bool fin_due() const { return finishing_ && sent_ == end() && !fin_acknowledged_; }
    // How far this connection has come in the peer's stream; more may have arrived over an older one. An acknowledgement says no more, as
    // the peer goes on from what it knows.
    std::uint64_t position() const { return received_ - skip_; }

    // An empty replay buffer gives its memory back when the peer has been quiet for a moment: not between two messages.
    TimePoint release_at() const { return replay_.empty() && replay_.capacity() > 0 ? heard_at_ + quiet : TimePoint::never(); }
    [[gnu::cold]] void release_memory() {
        if (budget_ != nullptr) budget_->credit(replay_.capacity());
        replay_.release();
    }

    [[gnu::noinline]] TimePoint ping_at() const {
        const Duration interval = liveness_interval();
        const bool unanswered = sent_ > acknowledged() && interval > quiet;
        if (accepted_) return heard_at_ + (unanswered ? quiet : interval * 2);
        const TimePoint regular = pinged_at_ + interval;
        const TimePoint soon = (heard_at_ > pinged_at_ ? heard_at_ : pinged_at_) + quiet;
        return unanswered && soon < regular ? soon : regular;
    }

    // Puts into `out_` every small frame that is due, and the header of the next data.
    void compose() {
        out_size_ = out_written_ = 0;
        const std::uint64_t may_send = end() - acknowledged_ < window_ ? end() : acknowledged_ + window_;
        const std::size_t unsent = sent_ < may_send ? static_cast<std::size_t>(may_send - sent_) : 0;
        const bool something = unsent > 0 || pong_due_ || ping_due_ || fin_due() || acknowledge_due_;
        if (acknowledgement_due() && (something || position() - acknowledgement_sent_ >= acknowledge_every_)) {
            add(FrameType::ack, position());
            acknowledgement_sent_ = position();
        }
        acknowledge_due_ = false;
        if (pong_due_) add(FrameType::pong, pong_);
        if (ping_due_) ++probes_, add(FrameType::ping, static_cast<std::uint64_t>(pinged_at_.nanoseconds()));
        pong_due_ = ping_due_ = false;
        if (unsent > 0) {
            payload_out_ = unsent < frame_payload_max ? static_cast<std::uint32_t>(unsent) : frame_payload_max;
            add(FrameType::data, payload_out_, 0);
        } else if (fin_due()) {
            add(FrameType::fin, 0, 0);
            if (++sent_ > highest_sent_) highest_sent_ = sent_;
        } else if (accepted_ && ended() && !goodbye_sent_) {
            goodbye_sent_ = true;
            add(FrameType::goodbye, 0, 0);
        }
    }
    void add(FrameType type, std::size_t length, int) {
        write_frame_header(out_ + out_size_, type, length);
        out_size_ = static_cast<std::uint8_t>(out_size_ + frame_header_size);
    }
    void add(FrameType type, std::uint64_t number) {
        add(type, sizeof number, 0);
        store_big(out_ + out_size_, number);
        out_size_ = static_cast<std::uint8_t>(out_size_ + sizeof number);
    }

    Error handle(FrameType type, const std::byte* payload, TimePoint now) {
        switch (type) {
            case FrameType::ack: {
                const auto offset = load_big<std::uint64_t>(payload);
                if (offset > sent_) return Errc::malformed;
                if (offset > acknowledged_) acknowledge(offset);
                return {};
            }
            case FrameType::ping:
                pong_ = load_big<std::uint64_t>(payload);
                pong_due_ = true;
                return {};
            case FrameType::pong: {
                const auto sent_at = static_cast<std::int64_t>(load_big<std::uint64_t>(payload));
                // Only the last probe is measured, so that a peer cannot make up round trips.
                if (sent_at == pinged_at_.nanoseconds()) measure(now - pinged_at_);
                return {};
            }
            case FrameType::fin:
                if (skip_ > 0) return --skip_ == 0 && peer_finished_ ? Error() : Error(Errc::malformed);  // again
                if (peer_finished_ || (held_ != nullptr && held_->fin)) return Errc::malformed;
                if (held_ != nullptr)
                    held_->fin = true;  // its turn comes behind what waits
                else
                    peer_finishes();
                return {};
            case FrameType::goodbye:
                if (accepted_ || !peer_finished_ || highest_sent_ <= end()) return Errc::malformed;  // FIN has not even been sent
                acknowledge(highest_sent_);
                goodbye_ = true;
                return {};
            case FrameType::abort:
                return Errc::session_aborted;
            default:
                return Errc::malformed;
        }
    }

    void peer_finishes() {
        peer_finished_ = true;
        ++received_;
        acknowledge_due_ = true;
    }

    // What the application has not taken yet; exists while there is something.
    struct Held {
        Ring bytes;
        std::size_t charged = 0;
        bool fin = false;
        bool over_budget = false;
    };
    [[gnu::cold]] bool keep(Bytes part) {
        if (held_ == nullptr && (held_ = new (std::nothrow) Held) == nullptr) return false;
        const std::size_t growth = held_->bytes.capacity_for(held() + part.size()) - held_->bytes.capacity();
        held_->over_budget = budget_ != nullptr && !budget_->charge(growth);
        if (budget_ != nullptr && !held_->over_budget) held_->charged += growth;
        return held_->bytes.append(part);
    }
    [[gnu::cold]] void drop_held() {
        if (held_ == nullptr) return;
        if (budget_ != nullptr) budget_->credit(held_->charged);
        delete std::exchange(held_, nullptr);
    }

    std::uint64_t end() const { return acknowledged_ + replay_.size(); }
    void acknowledge(std::uint64_t offset) {
        std::uint64_t n = offset - acknowledged_;
        if (n > replay_.size()) {  // only by one, for FIN
            n = replay_.size();
            fin_acknowledged_ = true;
        }
        if (n == 0) return;
        replay_.drop(static_cast<std::size_t>(n));
        acknowledged_ += n;
    }
    void measure(Duration sample) {
        if (sample <= Duration()) sample = Duration::nanoseconds(1);
        round_trip_ = round_trip_ == Duration() ? sample : round_trip_ + (sample - round_trip_) / 8;
    }

    const Options* options_ = nullptr;
    Budget* budget_ = nullptr;
    Identity identity_;
    Held* held_ = nullptr;
    Ring replay_;  // what the peer's application is not known to have, from `acknowledged_` on
    std::uint64_t epoch_ = 0;
    std::uint64_t last_asked_epoch_ = 0;
    std::uint64_t acknowledged_ = 0;
    std::uint64_t sent_ = 0;          // next to go out on this connection
    std::uint64_t highest_sent_ = 0;  // on any connection
    std::uint64_t received_ = 0;      // delivered to the application
    std::uint64_t acknowledgement_sent_ = 0;
    std::uint64_t skip_ = 0;  // arrived over the old connection after the new one's handshake had said otherwise
    std::uint64_t replayed_ = 0;
    std::uint64_t pong_ = 0;
    TimePoint heard_at_;
    TimePoint pinged_at_;
    TimePoint unanswered_since_;  // the first of the probes that nothing came after
    Duration round_trip_;
    std::uint32_t payload_out_ = 0;          // of the data frame being written
    std::uint32_t payload_in_ = 0;           // of the data frame being read
    std::uint32_t acknowledged_before_ = 0;  // when this connection joined; the lower half tells
    std::uint32_t asked_ms_ = 0;             // the probes' interval, where it is not the options'
    std::uint32_t probes_ = 0;
    std::uint32_t attachment_ = 0;  // rises with every attach and detach
    std::uint32_t window_ = 0;      // what the peer keeps for an application that takes nothing
    std::uint32_t piece_ = UINT32_MAX;
    std::uint32_t acknowledge_every_ = acknowledge_every_max;
    std::uint8_t out_size_ = 0;
    std::uint8_t out_written_ = 0;
    std::uint8_t header_size_ = 0;
    std::uint8_t deaths_in_quiet_ = 0;  // in a row
    std::uint8_t halvings_ = 0;         // of the probes' interval, as the path was seen not to allow more
    bool heard_ = false;                // anything on this connection
    bool accepted_ = false;
    bool established_ = false;
    bool attached_ = false;
    bool refused_ = false;
    bool holding_ = false;
    bool finishing_ = false;
    bool fin_acknowledged_ = false;
    bool peer_finished_ = false;
    bool goodbye_ = false;
    bool goodbye_sent_ = false;
    bool acknowledge_due_ = false;
    bool pong_due_ = false;
    bool ping_due_ = false;
    bool ping_unanswered_ = false;
    std::byte header_[frame_header_size + control_length_max];
    std::byte out_[frame_header_size + confirm_size];  // more than ACK, PONG, PING and the header of DATA together
};

}  // namespace rejoin::inline v0_1::session
