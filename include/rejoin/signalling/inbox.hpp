// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/core/index.hpp>
#include <rejoin/core/list.hpp>
#include <rejoin/signalling/brokers.hpp>
#include <rejoin/signalling/limits.hpp>

namespace rejoin::inline v0_1::signalling {

/// The messages that come: each is given on once, by whichever broker it comes first, and in order where that was asked for.
class Inbox {
public:
    struct Held : ListNode {
        std::uint64_t number = 0, after = 0;
        Array<std::byte> payload;
    };
    struct Heard : ListNode {};
    struct Due : ListNode {};
    // From one sender. In `due` while it is to be acknowledged.
    struct Stream : Heard, Due {
        std::uint64_t id = 0, mixed = 0;
        Array<char> name;
        bool sealed = false;
        std::uint8_t via = 0;  // by which the newest came first, as the sender numbers its brokers
        Window seen;
        List held;
        std::uint64_t newest = 0;
        std::uint64_t stamp = 0;  // of the last acknowledgement
        std::int64_t time = 0;    // of the newest, by the sender's clock
        std::uint32_t copies[Receipt::brokers_max] = {};
        Brokers::Set came_by = 0;  // since the last acknowledgement
        TimePoint heard;

        TextView view() const { return {name.data(), name.size()}; }
        std::uint64_t hash() const { return mixed; }
        bool is(const Envelope& e) const { return id == e.stream && sealed == e.sealed && view() == e.from; }
    };
    enum class Verdict : std::uint8_t { fresh, held, duplicate, stale, no_room };

    Inbox(const Limits& limits, std::uint64_t seed) : limits_(limits), seed_(seed) {}
    Inbox(const Inbox&) = delete;
    ~Inbox() {
        while (Stream* stream = oldest()) forget(stream);
    }

    /// Looks at a message that came by `broker`; `stream` is whose it is, unless it is stale or there is no room.
    Verdict look(const Envelope& e, int broker, TimePoint now, Stream*& stream) {
        stream = find_or_make(e);
        if (stream == nullptr) return refused_as_;
        stream->heard = now;
        stream->Heard::unlink();
        streams_.push(static_cast<Heard&>(*stream));
        stream->came_by |= Brokers::one(broker);
        if (e.time > stream->time) stream->time = e.time;
        if (e.via < Receipt::brokers_max) ++stream->copies[e.via];
        stream->seen.skip_to(e.base - 1);
        if (stream->seen.seen(e.number)) {
            if (e.again) due_.push(static_cast<Due&>(*stream));  // the acknowledgement was lost
            return Verdict::duplicate;
        }
        if (stream->seen.beyond(e.number)) return Verdict::no_room;
        return e.ordered && !stream->seen.seen(e.after) ? Verdict::held : Verdict::fresh;
    }
    /// Such a one is given on.
    void take(Stream& stream, const Envelope& e) {
        stream.seen.add(e.number);
        stream.newest = e.number;
        stream.via = e.via < Receipt::brokers_max ? e.via : 0;
        due_.push(static_cast<Due&>(stream));
    }
    /// Such a one is kept until its turn comes. False when there is no room for it.
    bool hold(Stream& stream, const Envelope& e, Bytes payload, bool& already) {
        already = false;
        for (ListNode* node = stream.held.front(); node != nullptr && !already; node = stream.held.next(*node))
            already = static_cast<Held*>(node)->number == e.number;
        if (already) return true;
        if (payload.size() + overhead > limits_.held - held_) return false;
        auto* const held = new (std::nothrow) Held;
        if (held == nullptr || !held->payload.append(payload.data(), payload.size())) {
            delete held;
            return false;
        }
        held->number = e.number;
        held->after = e.after;
        held_ += payload.size() + overhead;
        stream.held.push(*held);
        return true;
    }
    /// One whose turn has come, which is then the caller's; null when there is none.
    Held* release(Stream& stream) {
        for (ListNode* node = stream.held.front(); node != nullptr;) {
            auto* const held = static_cast<Held*>(node);
            node = stream.held.next(*node);
            const bool given_up = stream.seen.seen(held->number);
            if (!given_up && !stream.seen.seen(held->after)) continue;
            held->unlink();
            held_ -= held->payload.size() + overhead;
            if (given_up) {  // by its sender
                delete held;
                continue;
            }
            stream.seen.add(held->number);
            due_.push(static_cast<Due&>(stream));
            return held;
        }
        return nullptr;
    }

    /// A stream that is to be acknowledged; null when there is none.
    Stream* due() { return static_cast<Stream*>(static_cast<Due*>(due_.front())); }
    /// Writes the payload of its acknowledgement.
    static bool write_receipt(const Stream& stream, Array<std::byte>& to) {
        std::byte bits[Window::size / 8];
        Receipt receipt;
        receipt.via = stream.via;
        for (std::size_t i = 0; i < Receipt::brokers_max; ++i) {
            receipt.copies[i] = stream.copies[i];
            if (stream.copies[i] != 0) receipt.brokers = static_cast<std::uint8_t>(i + 1);
        }
        receipt.done = Bytes(bits, stream.seen.write(bits));
        to.clear();
        std::byte* const room = to.extend(receipt.size());
        if (room != nullptr) receipt.write(room);
        return room != nullptr;
    }
    static void acknowledged(Stream& stream) {
        stream.Due::unlink();
        stream.came_by = 0;
    }

    /// How long a stream is remembered after it was last heard of: by then whatever was recorded of it is stale.
    Duration memory() const { return lifetime + limits_.clock_tolerance * 2; }
    TimePoint deadline() { return oldest() == nullptr ? TimePoint::never() : oldest()->heard + memory(); }
    void expire(TimePoint now) {
        while (Stream* stream = oldest()) {
            if (stream->heard + memory() > now) return;
            forget(stream);
        }
    }
    /// For how long a copy is valid at most.
    static constexpr Duration lifetime = Duration::seconds(30);

private:
    static constexpr std::size_t overhead = 128;

    Stream* oldest() { return static_cast<Stream*>(static_cast<Heard*>(streams_.front())); }
    // The sender chooses the number, and is not to choose the place.
    std::uint64_t mix(std::uint64_t id) const { return Random(id ^ seed_).next(); }
    Stream* find_or_make(const Envelope& e) {
        const std::uint64_t mixed = mix(e.stream);
        if (Stream* const known = index_.find(mixed, e)) return known;
        // It may be one that was forgotten for want of room: what was recorded of it is not to come again.
        refused_as_ = Verdict::stale;
        if (e.sealed && e.time <= forgotten_) return nullptr;
        refused_as_ = Verdict::no_room;
        if (index_.size() >= limits_.streams) {
            Stream* const silent = oldest();
            if (silent == nullptr) return nullptr;
            if (silent->sealed && silent->time > forgotten_) forgotten_ = silent->time;
            forget(silent);
        }
        auto* const stream = new (std::nothrow) Stream;
        if (stream == nullptr || !stream->name.append(e.from.data(), e.from.size())) {
            delete stream;
            return nullptr;
        }
        stream->id = e.stream;
        stream->mixed = mixed;
        stream->sealed = e.sealed;
        if (!index_.insert(stream)) {
            delete stream;
            return nullptr;
        }
        return stream;
    }
    void forget(Stream* stream) {
        while (auto* const held = static_cast<Held*>(stream->held.front())) {
            held_ -= held->payload.size() + overhead;
            delete held;
        }
        index_.erase(stream);
        delete stream;
    }

    const Limits& limits_;
    const std::uint64_t seed_;
    Index<Stream, Envelope> index_;
    List streams_;  // the longest silent first
    List due_;
    std::size_t held_ = 0;
    std::int64_t forgotten_ = INT64_MIN;
    Verdict refused_as_ = Verdict::no_room;
};

}  // namespace rejoin::inline v0_1::signalling
