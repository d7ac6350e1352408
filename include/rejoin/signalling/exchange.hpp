// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/function.hpp>
#include <rejoin/mqtt/utf8.hpp>
#include <rejoin/signalling/inbox.hpp>
#include <rejoin/signalling/outbox.hpp>

namespace rejoin::inline v0_1::signalling {

/// Turns the payload of one peer's message into what goes over the brokers, or back. False where that cannot be, or memory is out.
using Cipher = Function<bool(TextView peer, Bytes from, Array<std::byte>& to)>;

/// A copy to be given to a broker.
struct Copy {
    int broker = 0;
    TextView to;
    Bytes bytes;     ///< until the next call of anything
    Duration valid;  ///< no use after that
};

/// Signalling by several brokers as one. Pure: what came from brokers and the times go in, copies for brokers and events come out.
///
/// `now` is a monotonic time; `wall` milliseconds since 1970, of which only peers that share a key take notice.
class Exchange {
public:
    /// `seed` from the system's entropy.
    Exchange(const Limits& limits, std::uint64_t seed)
        : limits_(limits), random_(seed), outbox_(limits_, random_.next()), inbox_(limits_, random_.next()) {}
    Exchange(const Exchange&) = delete;
    ~Exchange() {
        delete given_;
        delete done_;
    }

    /// Under which name others reach this one: a level of a topic, of at most 128 bytes. `invalid_argument`; `out_of_memory`.
    Result<void> set_name(TextView name) {
        if (!mqtt::valid_topic_level(name) || !limits_.valid()) return Errc::invalid_argument;
        name_.clear();
        return name_.append(name.data(), name.size()) ? Result<void>() : Errc::out_of_memory;
    }
    TextView name() const { return {name_.data(), name_.size()}; }

    /// From now on only what is sealed with this secret is taken from that peer, and what is sent to it is. For an empty name: from and to
    /// everybody who has no secret of its own. `invalid_argument` for a name that may not be, and for less than 16 bytes; `out_of_memory`.
    Result<void> share_key(TextView peer, Bytes secret) {
        if ((peer.size() > 0 && !mqtt::valid_topic_level(peer)) || secret.size() < 16) return Errc::invalid_argument;
        Key key;
        if (!key.name.append(peer.data(), peer.size())) return Errc::out_of_memory;
        const Bytes pieces[] = {TextView("rejoin signalling key").bytes()};
        key.key = hmac_sha256(secret, pieces);
        for (Key& known : keys_)
            if (known.view() == peer) {
                known = std::move(key);
                return {};
            }
        return keys_.push(std::move(key)) ? Result<void>() : Errc::out_of_memory;
    }
    /// From now on payloads go through these, before they are sealed, and after the seal was looked at.
    void set_ciphers(Cipher encrypt, Cipher decrypt) {
        encrypt_ = std::move(encrypt);
        decrypt_ = std::move(decrypt);
    }

    // ---- Brokers.

    int add_broker(TextView label) { return brokers_.add(label); }
    void remove_broker(int broker, TimePoint now) {
        broker_down(broker, now);
        brokers_.remove(broker);
    }
    void broker_up(int broker, TimePoint now) {
        if (brokers_.health(broker).up) return;
        brokers_.health(broker).up = true;
        outbox_.came_up(broker, brokers_, now);
    }
    void broker_down(int broker, TimePoint now) {
        if (!brokers_.health(broker).up) return;
        brokers_.health(broker).up = false;
        outbox_.went_down(broker, brokers_, now);
    }
    const Health& health(int broker) const { return brokers_.health(broker); }
    const Counters& counters() const { return counters_; }

    // ---- Sending.

    /// Accepts a message. `invalid_argument`; `would_block` while too much is under way, to anybody or to that peer (see `drained`);
    /// `too_large`; `out_of_memory`.
    Result<Token> send(TextView to, Bytes payload, const SendOptions& options, TimePoint now) {
        if (!mqtt::valid_topic_level(to) || options.expiry <= Duration() || name_.empty()) return Errc::invalid_argument;
        if (payload.size() > limits_.message) return Errc::too_large;
        Array<std::byte> encrypted;
        if (encrypt_) {
            if (!encrypt_(to, payload, encrypted)) return Errc::invalid_argument;
            if (encrypted.size() > limits_.message + cipher_room) return Errc::too_large;
            payload = {encrypted.data(), encrypted.size()};
        }
        return outbox_.add(to, payload, options, brokers_, now);
    }
    bool drained() { return outbox_.drained(); }
    std::size_t queued() const { return outbox_.bytes(); }
    void cancel(TimePoint now) { outbox_.cancel(now); }

    /// The next copy for a broker; false when there is none for now.
    bool next_copy(Copy& copy, TimePoint now, std::int64_t wall) {
        const Brokers::Set up = brokers_.up();
        while (acknowledging_ != 0 || inbox_.due() != nullptr) {
            if (acknowledging_ == 0 && !acknowledge(*inbox_.due(), up, wall)) return false;
            if (acknowledging_ == 0) continue;
            copy = {__builtin_ctz(acknowledging_), {to_.data(), to_.size()}, {bytes_.data(), bytes_.size()}, Inbox::lifetime};
            acknowledging_ &= acknowledging_ - 1;
            message_ = nullptr;
            return true;
        }
        message_ = outbox_.next(up, copy.broker);
        if (message_ == nullptr) return false;
        Outbox::Message& message = *message_;
        const Duration left = message.expires - now, valid = left < Inbox::lifetime ? left : Inbox::lifetime;
        Envelope e;
        e.kind = Envelope::Kind::message;
        e.ordered = message.ordered;
        e.again = message.again;
        e.via = static_cast<std::uint8_t>(copy.broker);
        e.stream = message.peer->stream;
        e.number = message.number;
        e.base = message.peer->base();
        e.after = message.after;
        e.payload = {message.payload.data(), message.payload.size()};
        if (!seal(e, message.peer->view(), valid, wall)) return false;
        copy.to = message.peer->view();
        copy.bytes = {bytes_.data(), bytes_.size()};
        copy.valid = valid;
        return true;
    }
    /// What became of that copy: whether the broker has taken it. Before anything else is called.
    void given(const Copy& copy, bool taken, TimePoint now) {
        if (message_ == nullptr) return;
        if (taken)
            brokers_.sent(copy.broker, now);
        else
            ++brokers_.health(copy.broker).refused;
        outbox_.given(*std::exchange(message_, nullptr), copy.broker, taken, now);
    }

    // ---- Receiving.

    /// Something came to this one's name by that broker. `next` then has what comes of it.
    void received(int broker, Bytes bytes, TimePoint now, std::int64_t wall) {
        if (bytes.size() > Envelope::header_size + Envelope::name_max + Envelope::seal_size + limits_.message + cipher_room) {
            ++counters_.too_large;
            return;
        }
        const auto read = read_envelope(bytes);
        if (!read || read->valid > Inbox::lifetime.milliseconds()) {
            ++counters_.malformed;
            return;
        }
        if (std::uint64_t* const why = refuse(*read, bytes, wall)) {
            ++*why;
            return;
        }
        read->kind == Envelope::Kind::message ? message(*read, broker, now) : acknowledged(*read, now);
    }
    /// The next event; its views hold until the next call of anything. False when there is none.
    bool next(Event& event) {
        delete std::exchange(given_, nullptr);
        delete std::exchange(done_, nullptr);
        if (releasing_ != nullptr) {
            event = {Event::Kind::message, releasing_->sealed, 0, {}, releasing_->view(), {}};
            if (std::exchange(fresh_, false)) {
                ++counters_.messages;
                event.payload = payload_;
                return true;
            }
            given_ = inbox_.release(*releasing_);
            if (given_ != nullptr) {
                ++counters_.messages;
                event.payload = {given_->payload.data(), given_->payload.size()};
                return true;
            }
            releasing_ = nullptr;
        }
        done_ = outbox_.take_done();
        if (done_ == nullptr) return false;
        event = {done_->error ? Event::Kind::failed : Event::Kind::delivered, false, done_->token, done_->error, done_->peer->view(), {}};
        return true;
    }

    /// When `expire` has something to do.
    TimePoint deadline() {
        const TimePoint a = outbox_.deadline(), b = inbox_.deadline();
        return a < b ? a : b;
    }
    void expire(TimePoint now) {
        counters_.sent_again += outbox_.expire(brokers_, now);
        inbox_.expire(now);
    }

private:
    // By which encryption may make a message longer.
    static constexpr std::size_t cipher_room = 256;

    struct Key {
        Array<char> name;
        Digest key;
        TextView view() const { return {name.data(), name.size()}; }
    };
    const Digest* key_of(TextView peer) const {
        const Digest* found = nullptr;
        for (const Key& key : keys_) {
            if (key.view() == peer) return &key.key;
            if (key.name.empty()) found = &key.key;
        }
        return found;
    }
    bool seal(Envelope& e, TextView to, Duration valid, std::int64_t wall) {
        const Digest* const key = key_of(to);
        e.sealed = key != nullptr;
        e.from = name();
        e.time = wall;
        e.valid = static_cast<std::uint32_t>(valid > Duration() ? valid.milliseconds() : 0);
        bytes_.clear();
        std::byte* const room = bytes_.extend(e.size());
        if (room != nullptr) write(room, e, to, key != nullptr ? *key : Digest());
        return room != nullptr;
    }
    // The counter of what is wrong with it; null when it is good.
    std::uint64_t* refuse(const Envelope& e, Bytes bytes, std::int64_t wall) {
        const Digest* const key = key_of(e.from);
        if (key == nullptr) return e.sealed ? &counters_.forged : nullptr;
        if (!e.sealed) return &counters_.unsealed;
        if (!genuine(bytes, name(), *key)) return &counters_.forged;
        const std::int64_t late = detail::subtract(wall, e.time), tolerance = limits_.clock_tolerance.milliseconds();
        return late > tolerance + e.valid || late < -tolerance ? &counters_.stale : nullptr;
    }
    void message(const Envelope& e, int broker, TimePoint now) {
        Health& health = brokers_.health(broker);
        Inbox::Stream* stream = nullptr;
        Inbox::Verdict verdict = inbox_.look(e, broker, now, stream);
        ++health.came;
        releasing_ = stream;  // what was held may have been waiting for one that its sender has given up
        if (verdict == Inbox::Verdict::duplicate) ++counters_.duplicates;
        if (verdict == Inbox::Verdict::stale) ++counters_.stale;
        if (verdict == Inbox::Verdict::no_room) ++counters_.no_room;
        if (verdict != Inbox::Verdict::fresh && verdict != Inbox::Verdict::held) return;
        payload_ = e.payload;
        if (decrypt_) {
            decrypted_.clear();
            if (!decrypt_(e.from, e.payload, decrypted_)) {
                ++counters_.forged;
                return;
            }
            payload_ = {decrypted_.data(), decrypted_.size()};
        }
        if (verdict == Inbox::Verdict::held) {
            bool already = false;
            if (!inbox_.hold(*stream, e, payload_, already))
                ++counters_.no_room;
            else if (already)
                ++counters_.duplicates;
            else
                ++health.first;
            return;
        }
        ++health.first;
        inbox_.take(*stream, e);
        fresh_ = true;
    }
    void acknowledged(const Envelope& e, TimePoint now) {
        Receipt receipt;
        if (!Receipt::read(e.payload, receipt)) {
            ++counters_.malformed;
            return;
        }
        const auto confirm = [this](int broker, std::uint32_t copies) { brokers_.confirmed(broker, copies); };
        const auto took = [this](int broker, Duration round_trip) {
            if (brokers_.has(broker)) brokers_.took(broker, round_trip);
        };
        if (outbox_.acknowledged(e, receipt, now, confirm, took)) brokers_.look(now);
    }
    // Makes the acknowledgement, for the brokers by which the messages came, or for whichever are up. False when memory is out.
    bool acknowledge(Inbox::Stream& stream, Brokers::Set up, std::int64_t wall) {
        Envelope e;
        e.kind = Envelope::Kind::acknowledgement;
        e.stream = stream.id;
        e.number = stream.seen.lowest();
        const auto clock = static_cast<std::uint64_t>(wall > 0 ? wall : 0);
        stream.stamp = stream.stamp >= clock ? stream.stamp + 1 : clock;  // a program that was started anew goes on from there
        e.base = stream.stamp;
        e.after = stream.newest;
        to_.clear();
        if (!Inbox::write_receipt(stream, receipt_) || !to_.append(stream.name.data(), stream.name.size())) return false;
        e.payload = {receipt_.data(), receipt_.size()};
        if (!seal(e, stream.view(), Inbox::lifetime, wall)) return false;
        acknowledging_ = (stream.came_by & up) != 0 ? stream.came_by & up : up;
        Inbox::acknowledged(stream);
        return true;
    }

    const Limits limits_;
    Random random_;
    Array<char> name_;
    Array<Key> keys_;
    Cipher encrypt_, decrypt_;
    Brokers brokers_;
    Outbox outbox_;
    Inbox inbox_;
    Counters counters_;
    // What is being given on.
    Inbox::Stream* releasing_ = nullptr;
    bool fresh_ = false;
    Bytes payload_;
    Array<std::byte> decrypted_;
    Inbox::Held* given_ = nullptr;
    Outbox::Message* done_ = nullptr;
    // What is being sent.
    Brokers::Set acknowledging_ = 0;
    Outbox::Message* message_ = nullptr;
    Array<std::byte> bytes_, receipt_;
    Array<char> to_;
};

}  // namespace rejoin::inline v0_1::signalling
