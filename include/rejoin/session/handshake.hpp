// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/address.hpp>
#include <rejoin/session/frame.hpp>
#include <rejoin/session/sha256.hpp>

// How a connection joins a session, both ends, as pure state machines. One round trip before the client sends data:
//
//   new session       client: HELLO ->            <- WELCOME :server           client: CONFIRM, DATA ...
//   resume            client: RESUME ->           <- RESUMED :server           client: CONFIRM, DATA ...
//   no                                            <- REFUSED :server (closes)
//
// Both proofs are HMAC-SHA-256, under the session's key, over everything the two ends said, fresh nonces of both included; so a
// recorded handshake proves nothing later. The server changes nothing of a session before it has seen CONFIRM, and the old connection
// serves until then: so only CONFIRM, with which the client gives the old connection up, says from where both directions go on.
namespace rejoin::inline v0_1::session {

/// Names a session: 16 bytes from the system's entropy.
struct SessionId {
    std::byte bytes[16] = {};
    friend bool operator==(const SessionId&, const SessionId&) = default;
};

struct Nonce {
    std::byte bytes[16] = {};
};

/// What both ends of a session know of it for ever: its name and key.
struct Identity {
    SessionId id;
    Digest key;
};

inline constexpr std::byte magic_and_version[4] = {std::byte{'R'}, std::byte{'J'}, std::byte{'N'}, std::byte{1}};

// Payload sizes, in bytes, and what stands in them, in order.
inline constexpr std::size_t hello_size = 4 + 4 + 4 + 16;                 // magic and version, flags, window, nonce
inline constexpr std::size_t welcome_body_size = 4 + 16 + 16;             // window, session id, nonce
inline constexpr std::size_t welcome_size = welcome_body_size + 32 + 32;  // body, key (zeros when pre-shared), proof
inline constexpr std::size_t resume_size = 4 + 4 + 16 + 8 + 16;           // magic and version, window, session id, epoch, nonce
inline constexpr std::size_t resumed_body_size = 4 + 8 + 16;              // window, received, nonce
inline constexpr std::size_t resumed_size = resumed_body_size + 32;       // body, proof
inline constexpr std::size_t confirm_body_size = 8 + 8;                   // received, going on from
inline constexpr std::size_t confirm_size = confirm_body_size + 32;       // body, proof
inline constexpr std::size_t refused_size = 1;                            // code
inline constexpr std::size_t push_back_size = 1 + 1 + 2 + 4 + 16;         // code, zero, port, milliseconds, address (IPv4: mapped)
inline constexpr std::uint32_t flag_pre_shared_key = 1;                   // in HELLO: both ends derive the key, WELCOME has none
inline constexpr std::uint32_t window_min = 4096;
inline constexpr std::uint32_t window_max = 1u << 30;

/// Why a server says no, as it stands in REFUSED.
enum class Refusal : std::uint8_t { version = 1, unknown = 2, limit = 3, proof = 4, fenced = 5, later = 6, elsewhere = 7 };

constexpr Error error_of(Refusal refusal) {
    switch (refusal) {
        case Refusal::version:
            return Errc::version_mismatch;
        case Refusal::unknown:
            return Errc::session_unknown;
        case Refusal::limit:
            return Errc::session_limit;
        case Refusal::proof:
            return Errc::proof_invalid;
        case Refusal::fenced:
            return Errc::session_fenced;
        case Refusal::later:
            return Errc::overloaded;
        case Refusal::elsewhere:
            return Errc::redirected;
    }
    return Errc::malformed;
}

/// What a server asks of a client that it pushes back: with `later`, to stay away for so long; with `elsewhere`, to go there.
struct PushBack {
    std::uint32_t retry_after_ms = 0;
    IpAddress ip;
    std::uint16_t port = 0;
};

/// What a handshake agreed on, for `Session::attach`.
struct Agreement {
    std::uint64_t send_from = 0;     ///< the peer has everything of ours before this offset: we go on from here
    std::uint64_t receive_from = 0;  ///< the peer goes on from here, although more may have arrived
    std::uint64_t epoch = 0;         ///< of this connection; 0 for a session's first
    std::uint32_t window = 0;        ///< bytes the peer keeps unacknowledged at most
};

namespace detail {

inline std::byte* put(std::byte* to, Bytes bytes) {
    copy(to, bytes);
    return to + bytes.size();
}
template <class T>
std::byte* put_number(std::byte* to, T number) {
    store_big(to, number);
    return to + sizeof number;
}
template <class T>
T get(const std::byte*& from) {  // of byte-array structs: SessionId, Nonce, Digest
    T value;
    std::memcpy(value.bytes, from, sizeof value.bytes);
    from += sizeof value.bytes;
    return value;
}
template <class T>
T get_number(const std::byte*& from) {
    const T value = load_big<T>(from);
    from += sizeof value;
    return value;
}

inline Digest prove(const Digest& key, char who, Bytes request, Bytes answer, Bytes confirmation) {
    const char side[] = {who};
    const Bytes pieces[] = {TextView("rejoin proof ").bytes(), TextView(side, 1).bytes(), request, answer, confirmation};
    return hmac_sha256(key, pieces);
}
inline bool proven(const Digest& key, char who, Bytes request, Bytes answer, Bytes confirmation, const std::byte* proof) {
    return equal_in_constant_time(prove(key, who, request, answer, confirmation), get<Digest>(proof));
}
inline bool window_allowed(std::uint32_t window) { return window >= window_min && window <= window_max; }
inline Digest derive_key(const Digest& pre_shared_key, Bytes request, Bytes answer) {
    const Bytes pieces[] = {TextView("rejoin key ").bytes(), request, answer};
    return hmac_sha256(pre_shared_key, pieces);
}

/// What both sides of a handshake share: one message being read, what waits to be written, and the two halves that the proofs cover.
class Handshake {
public:
    /// What is to be written next; empty when nothing is.
    Bytes pending() const { return {out_ + out_written_, out_size_ - out_written_}; }
    void wrote(std::size_t n) { out_written_ += n; }
    /// The message that `receive` has just taken, whole; until its next call.
    Bytes last_message() const { return {in_, frame_header_size + read_frame_header(in_).length}; }

protected:
    /// Takes from the front of `bytes` what belongs to the message under way. True when it is whole. A length that is not plausible is
    /// refused before a byte of the payload is kept, and so is whatever follows it; and so is an answer to what is still being written.
    Result<bool> read_message(Bytes& bytes) {
        for (;;) {
            const std::size_t want = message_size();
            if (want > sizeof in_ || want == in_size_) return Errc::malformed;
            const std::size_t n = bytes.size() < want - in_size_ ? bytes.size() : want - in_size_;
            copy(in_ + in_size_, bytes.first(n));
            in_size_ += n;
            bytes = bytes.subspan(n);
            if (in_size_ < want) return false;
            if (in_size_ == frame_header_size) continue;
            in_size_ = 0;
            if (!pending().empty()) return Errc::malformed;
            return true;
        }
    }
    bool is(FrameType type, std::size_t length) const {
        const FrameHeader header = read_frame_header(in_);
        return header.type == type && header.length == length;
    }
    const std::byte* payload() const { return in_ + frame_header_size; }

    /// Starts the next message, in place of what was there.
    std::byte* write_message(FrameType type, std::size_t length) {
        write_frame_header(out_, type, length);
        out_size_ = frame_header_size + length;
        out_written_ = 0;
        return out_ + frame_header_size;
    }

    Bytes request() const { return {request_, request_size_}; }
    void set_request(const std::byte* from, std::size_t size) { copy(request_, {from, request_size_ = size}); }

    Digest key_;

private:
    // As far as it is known: of the header, while that is not there.
    std::size_t message_size() const { return frame_header_size + (in_size_ < frame_header_size ? 0 : read_frame_header(in_).length); }

    std::size_t request_size_ = 0;
    std::size_t in_size_ = 0;
    std::size_t out_size_ = 0;
    std::size_t out_written_ = 0;
    std::byte request_[resume_size];  // HELLO is shorter
    std::byte in_[frame_header_size + welcome_size];
    std::byte out_[frame_header_size + welcome_size];
};

}  // namespace detail

/// The client's side of one connection's joining.
///
///     asked --WELCOME or RESUMED with a good proof--> joined: the caller lets one attempt `confirm`, and drops the others
///           --REFUSED, or anything else-------------> failed, with the error that says why
class ClientHandshake : public detail::Handshake {
public:
    /// Asks for a new session. `window`: bytes this side keeps unacknowledged at most. `pre_shared_key`: null for none; kept by the caller.
    void ask_new(const Nonce& nonce, std::uint32_t window, const Digest* pre_shared_key) {
        pre_shared_key_ = pre_shared_key;
        std::byte* const payload = write_message(FrameType::hello, hello_size);
        std::byte* to = detail::put(payload, magic_and_version);
        to = detail::put_number(to, pre_shared_key == nullptr ? 0u : flag_pre_shared_key);
        to = detail::put_number(to, window);
        detail::put(to, nonce.bytes);
        set_request(payload, hello_size);
    }

    /// Asks to go on with a session. `epoch` is higher than any used before.
    void ask_resume(const Identity& identity, const Nonce& nonce, std::uint64_t epoch, std::uint32_t window) {
        resuming_ = true;
        identity_ = identity;
        agreement_.epoch = epoch;
        std::byte* const payload = write_message(FrameType::resume, resume_size);
        std::byte* to = detail::put(payload, magic_and_version);
        to = detail::put_number(to, window);
        to = detail::put(to, identity.id.bytes);
        to = detail::put_number(to, epoch);
        detail::put(to, nonce.bytes);
        set_request(payload, resume_size);
    }
    bool resuming() const { return resuming_; }

    /// Takes bytes from the server off the front of `bytes`. True once joined; what is then left in `bytes` belongs to the session.
    [[gnu::cold]] Result<bool> receive(Bytes& bytes) {
        auto whole = read_message(bytes);
        if (!whole || !*whole) return whole;
        const std::byte* from = payload();
        if (is(FrameType::refused, refused_size) || is(FrameType::refused, push_back_size)) return refused(from);
        if (!is(resuming_ ? FrameType::resumed : FrameType::welcome, resuming_ ? resumed_size : welcome_size)) return Errc::malformed;
        agreement_.window = detail::get_number<std::uint32_t>(from);
        if (!detail::window_allowed(agreement_.window)) return Errc::malformed;
        if (resuming_) {
            agreement_.send_from = detail::get_number<std::uint64_t>(from);
        } else {
            identity_.id = detail::get<SessionId>(from);
            const std::byte* key = answer().data() + welcome_body_size;
            identity_.key = detail::get<Digest>(key);
            if (pre_shared_key_ != nullptr) {  // then nothing is sent in its place, which no proof covers
                if (!equal_in_constant_time(identity_.key, Digest{})) return Errc::malformed;
                identity_.key = detail::derive_key(*pre_shared_key_, request(), answer());
            }
        }
        const std::byte* proof = payload() + (resuming_ ? resumed_size : welcome_size) - sizeof(Digest);
        if (!detail::proven(identity_.key, 'S', request(), answer(), {}, proof)) return Errc::proof_invalid;
        return true;
    }

    /// Composes CONFIRM, once `receive` has said true: everything before `received` has arrived here, over any connection, and everything
    /// before `acknowledged` is known to have arrived there. From here on the session uses no other connection.
    void confirm(std::uint64_t received, std::uint64_t acknowledged) {
        agreement_.receive_from = received;
        // An acknowledgement may have come over the old connection since the server answered, and what it covers is not kept.
        if (agreement_.send_from < acknowledged) agreement_.send_from = acknowledged;
        std::byte* const body = write_message(FrameType::confirm, confirm_size);
        std::byte* to = detail::put_number(body, agreement_.receive_from);
        to = detail::put_number(to, agreement_.send_from);
        detail::put(to, detail::prove(identity_.key, 'C', request(), answer(), {body, confirm_body_size}));
    }

    const Identity& identity() const { return identity_; }
    /// For `Session::attach`, after `confirm`.
    const Agreement& agreement() const { return agreement_; }
    /// What the server asks for, when `receive` has said `overloaded` or `redirected`.
    const PushBack& push_back() const { return push_back_; }

private:
    [[gnu::cold]] Errc refused(const std::byte* from) {
        const auto why = static_cast<Refusal>(from[0]);
        const bool pushed_back = why == Refusal::later || why == Refusal::elsewhere;
        if (pushed_back != is(FrameType::refused, push_back_size)) return Errc::malformed;
        if (!pushed_back) return static_cast<Errc>(error_of(why).code());
        const bool zero = from[1] == std::byte{0};
        from += 2;
        push_back_.port = detail::get_number<std::uint16_t>(from);
        push_back_.retry_after_ms = detail::get_number<std::uint32_t>(from);
        IpAddress ip;
        ip.family = Family::v6;
        std::memcpy(ip.bytes, from, sizeof ip.bytes);
        push_back_.ip = unmapped(ip);
        const bool nowhere = push_back_.port == 0 && ip.is_unspecified();
        const bool somewhere = push_back_.port != 0 && !push_back_.ip.is_unspecified() && !push_back_.ip.is_link_local();
        if (!zero || (why == Refusal::later ? !nowhere : !somewhere || push_back_.retry_after_ms != 0)) return Errc::malformed;
        return static_cast<Errc>(error_of(why).code());
    }
    Bytes answer() const { return {payload(), resuming_ ? resumed_body_size : welcome_body_size}; }

    const Digest* pre_shared_key_ = nullptr;
    bool resuming_ = false;
    Identity identity_;
    Agreement agreement_;
    PushBack push_back_;
};

/// The server's side of one connection's joining.
///
///     waiting --HELLO---> caller makes a session: `welcome`  --> answered --CONFIRM with a good proof--> joined
///             --RESUME--> caller finds it: `resume` or `refuse`
///
/// A connection that was refused is closed once `pending` is written.
class ServerHandshake : public detail::Handshake {
public:
    enum class Step : std::uint8_t { more, hello, resume, joined };

    /// Takes bytes from the client off the front of `bytes`. After `hello` and `resume` the caller answers before it calls again. What
    /// is left in `bytes` after `joined` belongs to the session.
    [[gnu::cold]] Result<Step> receive(Bytes& bytes) {
        auto whole = read_message(bytes);
        if (!whole) return whole.error();
        if (!*whole) return Step::more;
        const std::byte* from = payload();
        if (answered_) {
            if (!is(FrameType::confirm, confirm_size)) return Errc::malformed;
            if (!detail::proven(key_, 'C', request(), answer(), {from, confirm_body_size}, from + confirm_body_size))
                return Errc::proof_invalid;
            const std::uint64_t told = agreement_.receive_from;
            agreement_.send_from = detail::get_number<std::uint64_t>(from);
            agreement_.receive_from = detail::get_number<std::uint64_t>(from);
            if (agreement_.receive_from < told) return Errc::malformed;
            return Step::joined;
        }
        const FrameHeader header = read_frame_header(payload() - frame_header_size);
        if ((header.type != FrameType::hello && header.type != FrameType::resume) || header.length < sizeof magic_and_version ||
            std::memcmp(from, magic_and_version, 3) != 0)
            return Errc::malformed;
        if (from[3] != magic_and_version[3]) return Errc::version_mismatch;
        from += sizeof magic_and_version;
        const bool hello = is(FrameType::hello, hello_size);
        if (!hello && !is(FrameType::resume, resume_size)) return Errc::malformed;
        set_request(payload(), hello ? hello_size : resume_size);
        if (hello) {
            const auto flags = detail::get_number<std::uint32_t>(from);
            if (flags > flag_pre_shared_key) return Errc::malformed;
            pre_shared_ = flags != 0;
        }
        agreement_.window = detail::get_number<std::uint32_t>(from);
        if (!detail::window_allowed(agreement_.window)) return Errc::malformed;
        if (hello) return Step::hello;
        id_ = detail::get<SessionId>(from);
        agreement_.epoch = detail::get_number<std::uint64_t>(from);
        if (agreement_.epoch == 0) return Errc::malformed;
        return Step::resume;
    }

    /// Answers HELLO. `identity.key` is fresh from the system's entropy; with a pre-shared key it is replaced by the derived one.
    /// `proof_invalid` when one side has a pre-shared key and the other has none: refuse it as such.
    Result<void> welcome(Identity& identity, const Nonce& nonce, std::uint32_t window, const Digest* pre_shared_key) {
        if (pre_shared_ != (pre_shared_key != nullptr)) return Errc::proof_invalid;
        std::byte* const body = write_message(FrameType::welcome, welcome_size);
        std::byte* to = detail::put_number(body, window);
        to = detail::put(to, identity.id.bytes);
        to = detail::put(to, nonce.bytes);
        if (pre_shared_key != nullptr) identity.key = detail::derive_key(*pre_shared_key, request(), {body, welcome_body_size});
        to = detail::put(to, pre_shared_key == nullptr ? identity.key : Digest{});
        id_ = identity.id;
        answer(identity.key, {body, welcome_body_size}, to);
        return {};
    }
    /// Answers RESUME: everything before `received` has arrived here.
    void resume(const Digest& key, const Nonce& nonce, std::uint64_t received, std::uint32_t window) {
        agreement_.receive_from = received;
        std::byte* const body = write_message(FrameType::resumed, resumed_size);
        std::byte* to = detail::put_number(body, window);
        to = detail::put_number(to, received);
        to = detail::put(to, nonce.bytes);
        answer(key, {body, resumed_body_size}, to);
    }
    /// Says no, in place of an answer of which nothing has been written yet.
    void refuse(Refusal why) { *write_message(FrameType::refused, refused_size) = static_cast<std::byte>(why); }
    /// The same, with what is asked for: `later` when `ask.ip` is of family none, else `elsewhere`; that address is neither link-local nor
    /// unspecified, and its port not 0.
    void push_back(const PushBack& ask) {
        const bool later = ask.ip.family == Family::none;
        std::byte* to = write_message(FrameType::refused, push_back_size);
        *to++ = static_cast<std::byte>(later ? Refusal::later : Refusal::elsewhere);
        *to++ = {};
        to = detail::put_number(to, later ? std::uint16_t{0} : ask.port);
        to = detail::put_number(to, later ? ask.retry_after_ms : 0u);
        std::memcpy(to, mapped(ask.ip).bytes, 16);
    }

    /// The session asked for by RESUME, or made for HELLO.
    const SessionId& id() const { return id_; }
    /// For `Session::attach`, after `joined`; `epoch` is known from `resume` on.
    const Agreement& agreement() const { return agreement_; }

private:
    Bytes answer() const { return {answer_, answer_size_}; }
    void answer(const Digest& key, Bytes body, std::byte* proof) {
        key_ = key;
        copy(answer_, body);
        answer_size_ = static_cast<std::uint8_t>(body.size());
        detail::put(proof, detail::prove(key, 'S', request(), answer(), {}));
        answered_ = true;
    }

    bool answered_ = false;
    bool pre_shared_ = false;
    std::uint8_t answer_size_ = 0;
    std::byte answer_[welcome_body_size];
    SessionId id_;
    Agreement agreement_;
};

}  // namespace rejoin::inline v0_1::session
