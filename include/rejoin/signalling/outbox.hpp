// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/core/index.hpp>
#include <rejoin/core/list.hpp>
#include <rejoin/signalling/brokers.hpp>
#include <rejoin/signalling/limits.hpp>

namespace rejoin::inline v0_1::signalling {

/// The messages that were accepted, until they have arrived or failed. Each receiver has a stream of numbered messages of its own.
///
///     waiting --copies given to brokers--> under way --acknowledged--> done
///        ^------ no acknowledgement in time, ------'  --expired------> done
///                or all its brokers are gone
class Outbox {
public:
    using Set = Brokers::Set;

    struct Peer;
    // In its peer's list from the beginning to the end; in `due` as long as copies of it are to be given to brokers.
    struct Queued : ListNode {};
    struct Due : ListNode {};
    struct Message : Queued, Due {
        Peer* peer = nullptr;
        Token token = 0;
        std::uint64_t number = 0, after = 0;
        Array<std::byte> payload;
        TimePoint expires, sent_at, retry_at = TimePoint::never();
        int retries = 0;
        Set wanted = 0;  // brokers that are to have a copy
        Set with = 0;    // that have had one
        bool ordered = false;
        bool again = false;  // a copy may have come already
        Error error;
    };
    struct Peer : ListNode {
        Array<char> name;
        std::uint64_t name_hash = 0;
        std::uint64_t stream = 0;
        std::uint64_t last = 0, last_ordered = 0;  // numbers
        std::uint64_t heard = 0;                   // the greatest `base` of an acknowledgement
        std::uint32_t confirmed[Receipt::brokers_max] = {};
        Duration round_trip;
        List messages;  // by number
        TimePoint idle_since;

        TextView view() const { return {name.data(), name.size()}; }
        std::uint64_t hash() const { return name_hash; }
        bool is(TextView other) const { return view() == other; }
        Message* oldest() { return static_cast<Message*>(static_cast<Queued*>(messages.front())); }
        std::uint64_t base() { return oldest() == nullptr ? last + 1 : oldest()->number; }
        // Twice what it usually takes. One who has not answered yet may just be about to listen.
        Duration patience() const {
            return round_trip == Duration() ? Duration::milliseconds(50) : Duration::milliseconds(100) + round_trip * 2;
        }
    };

    Outbox(const Limits& limits, std::uint64_t seed) : limits_(limits), random_(seed) {}
    Outbox(const Outbox&) = delete;
    ~Outbox() {
        while (ListNode* node = done_.front()) delete static_cast<Message*>(static_cast<Queued*>(node));
        while (ListNode* node = peers_.front()) {
            Peer* const peer = static_cast<Peer*>(node);
            while (Message* message = peer->oldest()) delete message;
            delete peer;
        }
    }

    /// Accepts a message, which `brokers` are to have. `would_block`, `too_large`, `out_of_memory`.
    Result<Token> add(TextView to, Bytes payload, const SendOptions& options, Brokers& brokers, TimePoint now) {
        if (payload.size() + overhead > limits_.queue) return Errc::too_large;
        Peer* const peer = find_or_make(to, now);
        if (peer == nullptr) return peer_count_ >= limits_.peers ? refuse() : Error(Errc::out_of_memory);
        if (payload.size() + overhead > limits_.queue - bytes_ || peer->last + 1 - peer->base() >= Window::size) return refuse();
        auto* const message = new (std::nothrow) Message;
        if (message == nullptr || !message->payload.append(payload.data(), payload.size())) {
            delete message;
            return Errc::out_of_memory;
        }
        message->peer = peer;
        message->token = ++last_token_;
        message->number = ++peer->last;
        message->ordered = options.ordered;
        if (options.ordered) message->after = std::exchange(peer->last_ordered, message->number);
        message->expires = now + options.expiry;
        message->sent_at = now;
        bytes_ += payload.size() + overhead;
        peer->messages.push(static_cast<Queued&>(*message));
        want(*message, brokers.choose(peer->view(), limits_.copies, now));
        if (message->expires < next_) next_ = message->expires;
        return message->token;
    }
    /// Once after a refusal, when something has gone since: whether there is room again.
    bool drained() {
        if (!refused_ || !freed_ || bytes_ > limits_.queue / 2) return false;
        refused_ = false;
        return true;
    }
    std::size_t bytes() const { return bytes_; }

    /// A message of which a copy is to be given to a broker now, and to which; null when there is none.
    Message* next(Set up, int& broker) {
        while (auto* const message = static_cast<Message*>(static_cast<Due*>(due_.front()))) {
            message->wanted &= up;
            if (message->wanted == 0) {
                message->Due::unlink();
                continue;
            }
            broker = __builtin_ctz(message->wanted);
            return message;
        }
        return nullptr;
    }
    /// It was given to that broker, or the broker did not take it.
    void given(Message& message, int broker, bool taken, TimePoint now) {
        message.wanted &= ~Brokers::one(broker);
        if (taken) {
            if (message.with == 0 && !message.again) message.sent_at = now;
            message.with |= Brokers::one(broker);
        }
        if (message.wanted == 0) message.Due::unlink();
        if (message.retry_at == TimePoint::never()) plan(message, now);
    }
    /// A broker has come: whatever it is chosen for and has not had, it is to have.
    void came_up(int broker, Brokers& brokers, TimePoint now) {
        each([&](Message& message) {
            if ((brokers.choose(message.peer->view(), limits_.copies, now) & Brokers::one(broker)) != 0)
                want(message, Brokers::one(broker));
        });
    }
    /// A broker has gone: what nobody else has is to go elsewhere.
    void went_down(int broker, Brokers& brokers, TimePoint now) {
        each([&](Message& message) {
            message.again = message.again || message.with == Brokers::one(broker);
            message.with &= ~Brokers::one(broker);
            message.wanted &= ~Brokers::one(broker);
            if (message.with != 0) return;
            want(message, brokers.choose(message.peer->view(), limits_.copies, now));
        });
    }

    /// What the receiver has. Returns whether it says anything new; `confirm(broker, copies)`, `took(broker, round_trip)`.
    template <class Confirm, class Took>
    bool acknowledged(const Envelope& ack, const Receipt& receipt, TimePoint now, Confirm confirm, Took took) {
        Peer* const peer = find(ack.from);
        if (peer == nullptr || peer->stream != ack.stream || ack.base <= peer->heard || ack.number > peer->last) return false;
        peer->heard = ack.base;
        bool progress = false;
        for (int i = 0; i < receipt.brokers; ++i) {
            if (receipt.copies[i] > peer->confirmed[i]) confirm(i, receipt.copies[i] - peer->confirmed[i]);
            peer->confirmed[i] = receipt.copies[i];  // a receiver that was restarted counts anew
        }
        for (Message* message = peer->oldest(); message != nullptr;) {
            Message& one = *message;
            message = after(one);
            const std::uint64_t bit = one.number - ack.number - 1;
            const bool done = one.number <= ack.number ||
                              (bit / 8 < receipt.done.size() &&
                               (std::to_integer<unsigned>(receipt.done[static_cast<std::size_t>(bit / 8)]) >> (bit % 8) & 1) != 0);
            if (!done) continue;
            if (one.number == ack.after && !one.again) {  // of one that was sent again it is not known which copy that was (Karn)
                const Duration took_it = now - one.sent_at;
                peer->round_trip = peer->round_trip == Duration() ? took_it : (peer->round_trip * 7 + took_it) / 8;
                took(int{receipt.via}, took_it);
            }
            finish(one, {}, now);
            progress = true;
        }
        // The receiver is there: what it has not had does not wait as long as for one that may not be.
        const TimePoint by = now + peer->patience();
        for (Message* message = progress ? peer->oldest() : nullptr; message != nullptr; message = after(*message)) {
            message->retries = 0;
            if (message->retry_at > by && message->retry_at != TimePoint::never()) message->retry_at = by;
            soon(*message);
        }
        return true;
    }

    TimePoint deadline() const { return next_; }
    /// Gives up what has expired, and sends again what was not acknowledged in time. Returns how many that were.
    std::uint64_t expire(Brokers& brokers, TimePoint now) {
        if (now < next_) return 0;
        next_ = TimePoint::never();
        std::uint64_t again = 0;
        each([&](Message& message) {
            if (message.expires <= now) return finish(message, Errc::timed_out, now);
            if (message.retry_at <= now) {
                ++again;
                ++message.retries;
                message.again = true;
                message.retry_at = TimePoint::never();
                // One broker more each time, until it goes by all.
                const int copies = limits_.copies == 0 ? 0 : limits_.copies + message.retries;
                want(message, brokers.choose(message.peer->view(), copies, now));
            }
            soon(message);
        });
        for (ListNode* node = peers_.front(); node != nullptr;) {
            auto* const peer = static_cast<Peer*>(node);
            node = peers_.next(*node);
            if (!peer->messages.empty()) continue;
            if (peer->idle_since + forget_after <= now && done_.empty())
                forget(peer);
            else if (peer->idle_since + forget_after < next_)
                next_ = peer->idle_since + forget_after;
        }
        return again;
    }
    /// Gives up everything.
    void cancel(TimePoint now) {
        each([&](Message& message) { finish(message, Errc::cancelled, now); });
    }
    /// One that is done, which is then the caller's; null when there is none.
    Message* take_done() {
        auto* const message = static_cast<Message*>(static_cast<Queued*>(done_.front()));
        if (message != nullptr) message->Queued::unlink();
        return message;
    }

private:
    static constexpr std::size_t overhead = 128;
    // A receiver forgets a stream that is silent; one that is taken up again begins anew.
    static constexpr Duration forget_after = Duration::seconds(60);

    static Message* after(Message& message) {
        return static_cast<Message*>(static_cast<Queued*>(message.peer->messages.next(static_cast<Queued&>(message))));
    }
    Peer* find(TextView name) const { return index_.find(hash_of(name), name); }
    Peer* find_or_make(TextView name, TimePoint now) {
        if (Peer* const known = find(name)) return known;
        if (peer_count_ >= limits_.peers) return nullptr;
        auto* const peer = new (std::nothrow) Peer;
        if (peer == nullptr || !peer->name.append(name.data(), name.size())) {
            delete peer;
            return nullptr;
        }
        peer->name_hash = hash_of(name);
        peer->stream = random_.next();
        peer->idle_since = now;
        if (!index_.insert(peer)) {
            delete peer;
            return nullptr;
        }
        ++peer_count_;
        peers_.push(*peer);
        return peer;
    }
    void forget(Peer* peer) {
        index_.erase(peer);
        --peer_count_;
        freed_ = true;
        delete peer;
    }
    Error refuse() {
        refused_ = true;
        freed_ = false;
        return Errc::would_block;
    }
    template <class F>
    void each(F f) {
        for (ListNode* node = peers_.front(); node != nullptr; node = peers_.next(*node)) {
            auto* const peer = static_cast<Peer*>(node);
            for (Message* message = peer->oldest(); message != nullptr;) {
                Message& one = *message;
                message = after(one);
                f(one);
            }
        }
    }
    void want(Message& message, Set brokers) {
        message.wanted |= brokers;
        if (message.wanted != 0) due_.push(static_cast<Due&>(message));
    }
    // When it is sent again, if nothing is heard: later each time.
    void plan(Message& message, TimePoint now) {
        Duration pause = message.peer->patience();
        for (int i = 0; i < message.retries && pause < limits_.retry_max; ++i) pause = pause * 2;
        message.retry_at = now + (pause < limits_.retry_max ? pause : limits_.retry_max);
        soon(message);
    }
    void soon(const Message& message) {
        const TimePoint when = message.retry_at < message.expires ? message.retry_at : message.expires;
        if (when < next_) next_ = when;
    }
    void finish(Message& message, Error error, TimePoint now) {
        message.error = error;
        freed_ = true;
        message.Due::unlink();
        message.Queued::unlink();
        bytes_ -= message.payload.size() + overhead;
        if (message.peer->messages.empty()) {
            message.peer->idle_since = now;
            if (now + forget_after < next_) next_ = now + forget_after;
        }
        done_.push(static_cast<Queued&>(message));
    }

    const Limits& limits_;
    Random random_;
    Index<Peer, TextView> index_;
    List peers_, due_, done_;
    std::size_t peer_count_ = 0;
    std::size_t bytes_ = 0;
    Token last_token_ = 0;
    TimePoint next_ = TimePoint::never();
    bool refused_ = false;
    bool freed_ = false;  // something has gone since
};

}  // namespace rejoin::inline v0_1::signalling
