// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/time.hpp>
#include <rejoin/stun/message.hpp>

namespace rejoin::inline v0_1::stun {

/// One Binding transaction over UDP, from its first request to its answer or its failure (RFC 8489 §6.2.1, §6.3). Pure: the owner has
/// the socket and the clock, calls `advance` whenever `due` has come, and sends a request when that says so. After `start` it does so
/// up to seven times, each time after twice the pause of before, and gives up 79 RTOs after the first (39.5 s).
///
///     idle ──start──▶ running ──receive──▶ answered      the server said what address it sees
///                             ──receive──▶ failed        the server refused, or cannot be understood
///                             ──advance──▶ failed        no answer in time
///     any  ──start──▶ running
///
/// An answer counts while the transaction runs, from where the request went to, with the transaction's id, and well-formed. Everything
/// else changes nothing.
class Transaction {
public:
    enum class State : std::uint8_t { idle, running, answered, failed };

    /// How long the first answer is waited for (RFC 8489 §6.2.1: at least 500 ms, as long as nothing is known of the path).
    static constexpr Duration default_rto = Duration::milliseconds(500);
    static constexpr int requests_max = 7;  ///< Rc of §6.2.1
    static constexpr int last_wait = 16;    ///< Rm: the wait after the last request, in RTOs

    /// Begins anew: the first request is due at `now`. `id` is random and was never used before; `server` is an address, not a name.
    void start(const TransactionId& id, const Endpoint& server, TimePoint now, Duration rto = default_rto) {
        *this = {};
        state_ = State::running;
        id_ = id;
        server_ = server;
        rto_ = rto;
        due_ = now;
    }

    State state() const { return state_; }
    const TransactionId& id() const { return id_; }
    const Endpoint& server() const { return server_; }
    /// When `advance` has something to do: never, unless it runs.
    TimePoint due() const { return state_ == State::running ? due_ : TimePoint::never(); }

    /// Returns whether to send the request now (again): `encode_request` with `id`, and the same options each time. The transaction may
    /// have failed instead.
    bool advance(TimePoint now) {
        if (now < due()) return false;
        if (sent_ == requests_max) {
            fail(Errc::timed_out);
            return false;
        }
        due_ = now + rto_ * (sent_ == requests_max - 1 ? last_wait : 1 << sent_);
        ++sent_;
        return true;
    }

    /// Takes a datagram that came to the socket; returns whether it ended the transaction. With a `key` only an answer that was made
    /// with it does (RFC 8489 §9.1.4).
    bool receive(const Endpoint& from, Bytes datagram, Bytes key = {}) {
        if (state_ != State::running || !(from == server_) || datagram.size() < header_size) return false;
        if (std::memcmp(&datagram[8], id_.bytes, sizeof id_.bytes) != 0) return false;
        const Result<Message> message = decode(datagram, key);
        if (!message) {
            if (message.error() != Errc::unsupported) return false;  // forged or damaged: the right one may still come
            fail(Errc::unsupported);                                 // §6.3.3, §6.3.4
            return true;
        }
        if (message->type == MessageType::success) {
            state_ = State::answered;
            mapped_ = message->mapped;
            return true;
        }
        if (message->type != MessageType::error) return false;
        error_code_ = message->error_code;
        alternate_ = message->alternate_server;
        fail(Errc::unsupported);
        return true;
    }

    /// Gives up for a reason of the owner's: the request cannot be sent.
    void fail(Error why) {
        state_ = State::failed;
        error_ = why;
    }

    /// The address and port that the server sees, once it has answered.
    const Endpoint& mapped() const { return mapped_; }
    /// Why it failed: `timed_out`; `unsupported`: the server refused, and `error_code` says with what, or (0) its answer has an attribute
    /// that has to be understood and is not; or what the owner gave.
    Error error() const { return error_; }
    /// The code of a refusal, 300 to 699 (RFC 8489 §14.8), else 0.
    std::uint16_t error_code() const { return error_code_; }
    /// Whom to ask instead, when the code is 300 (RFC 8489 §10). Nobody here follows it.
    const Endpoint& alternate_server() const { return alternate_; }

private:
    State state_ = State::idle;
    std::uint8_t sent_ = 0;
    std::uint16_t error_code_ = 0;
    TransactionId id_;
    TimePoint due_;
    Duration rto_;
    Error error_;
    Endpoint server_, mapped_, alternate_;
};

}  // namespace rejoin::inline v0_1::stun
