// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/list.hpp>
#include <rejoin/mqtt/event.hpp>
#include <rejoin/mqtt/output.hpp>

namespace rejoin::inline v0_1::mqtt {

/// The messages that a session has accepted, until their delivery or failure was told.
///
///     waiting --PUBLISH, QoS 0--> writing --written--> done
///             --PUBLISH---------> in flight --PUBACK, or PUBREC, PUBREL, PUBCOMP--> done
///     waiting --expired, not for this server--> done
///     writing, in flight --the connection was lost--> sent again, or waiting again where the server has forgotten
class Outbox {
public:
    Outbox(Version version, const Limits& limits) : version_(version), limits_(limits) {}
    Outbox(const Outbox&) = delete;
    ~Outbox() {
        for (List* list : {&waiting_, &writing_, &in_flight_, &done_})
            while (Outgoing* message = first(*list)) delete message;
    }

    /// As `Session::publish`; `token` is new.
    Result<void> add(const Message& m, Token token, TimePoint now) {
        const bool v5 = version_ == Version::v5;
        if (m.topic.size() == 0 || m.topic.size() > UINT16_MAX || check_topic_name(m.topic.bytes()) != Violation::none ||
            static_cast<unsigned>(m.qos) > 2 || m.expiry < Duration() || !(v5 ? may_publish(m.properties) : m.properties.empty()))
            return Errc::invalid_argument;
        const bool expires = m.expiry > Duration() && m.expiry <= Duration::seconds(UINT32_MAX);
        const std::size_t expiry = v5 && expires ? expiry_size : 0;
        const std::size_t size = m.topic.size() + expiry + m.properties.size() + m.payload.size();
        if (size > length_max / 2 || size + overhead > limits_.queue) return Errc::too_large;
        if (size + overhead > limits_.queue - bytes_) {
            refused_ = true;
            return Errc::would_block;
        }
        auto* const message = new (std::nothrow) Outgoing;
        std::byte* const to = message == nullptr ? nullptr : message->data.extend(size);
        if (to == nullptr) {
            delete message;
            return Errc::out_of_memory;
        }
        detail::Put put{to};
        put.bytes(m.topic.bytes());
        if (expiry > 0) {
            put.byte(static_cast<unsigned>(Property::message_expiry_interval));
            put.to += 4;  // written when it is sent
        }
        put.bytes(m.properties);
        put.bytes(m.payload);
        message->token = token;
        message->topic_size = static_cast<std::uint16_t>(m.topic.size());
        message->properties_size = static_cast<std::uint32_t>(expiry + m.properties.size());
        message->qos = m.qos;
        message->retain = m.retain;
        message->expires = expires ? now + m.expiry : TimePoint::never();
        if (message->expires < next_expiry_) next_expiry_ = message->expires;
        bytes_ += size + overhead;
        waiting_.push(*message);
        return {};
    }
    /// Once after a refusal: whether there is room again.
    bool drained() {
        if (!refused_ || bytes_ > limits_.queue / 2) return false;
        refused_ = false;
        return true;
    }
    std::size_t bytes() const { return bytes_; }
    std::size_t packet_limit() const { return packet_limit_ < length_max ? packet_limit_ : length_max; }

    /// The connection is gone: what was written in part, or not at all, comes first on the next.
    void lost() { wait_again(writing_); }
    /// The server has let this client in, and said what it takes.
    void connected(const Packet& connack) {
        const std::uint32_t window = connack.properties.number(Property::receive_maximum, UINT16_MAX);
        window_ = window < limits_.in_flight ? window : limits_.in_flight;
        packet_limit_ = connack.properties.number(Property::maximum_packet_size, UINT32_MAX);
        qos_ = connack.properties.number(Property::maximum_qos, 2);
        retains_ = connack.properties.number(Property::retain_available, 1) != 0;
        under_way_ = 0;
        again_ = !in_flight_.empty();
        for (Outgoing* message = first(in_flight_); message != nullptr; message = next(in_flight_, *message)) {
            message->under_way = false;
            message->again = true;
        }
        if (connack.session_present) return;
        // The server knows of none of them; whatever it had said that it had, it had.
        List forgotten;
        while (Outgoing* message = first(in_flight_)) {
            message->id = 0;
            message->again = false;
            if (message->received) {
                finish(*message, {}, Reason::success);
                continue;
            }
            message->unlink();
            forgotten.push(*message);
        }
        wait_again(forgotten);
    }
    /// Gives up everything that is not delivered: `failed`, with `cancelled`.
    void cancel() {
        for (List* list : {&writing_, &in_flight_, &waiting_})
            while (Outgoing* message = first(*list)) finish(*message, Errc::cancelled, Reason::success);
        next_expiry_ = TimePoint::never();
    }

    /// Says as much as the server takes, in order; what is sent again comes first. `new_id()` gives an identifier that nothing uses.
    template <class NewId>
    void fill(Output& out, NewId new_id, TimePoint now) {
        if (!send_again(out, now)) return;
        while (out.has_room()) {
            Outgoing* const message = first(waiting_);
            if (message == nullptr) return;
            const bool with_qos = message->qos != Qos::at_most_once;
            if (const Errc refused = cannot_send(*message, now); refused != Errc::ok) {
                finish(*message, refused, Reason::success);
                continue;
            }
            if (with_qos && under_way_ >= window_) return;
            if (with_qos) message->id = new_id();
            if (!put(out, *message, false, now)) return;
            message->unlink();
            message->end = out.end();
            (with_qos ? in_flight_ : writing_).push(*message);
        }
    }
    /// So much was written on all connections.
    void wrote(std::uint64_t written) {
        while (Outgoing* message = first(writing_)) {
            if (message->end > written) return;
            finish(*message, {}, Reason::success);
        }
    }
    /// Calls `f(id)` with each identifier that is in use.
    template <class F>
    void each_id(F f) {
        for (Outgoing* message = first(in_flight_); message != nullptr; message = next(in_flight_, *message)) f(message->id);
    }
    /// PUBACK, PUBREC or PUBCOMP. False when memory is out.
    bool acknowledged(const Packet& packet, Output& out, Violation& why) {
        Outgoing* const message = find(packet.id);
        if (packet.type == PacketType::pubrec) {
            if (message != nullptr && message->qos != Qos::exactly_once) return why = Violation::qos_not_granted, true;
            if (failed(packet.reason)) return message == nullptr || (finish(*message, {}, packet.reason), true);
            if (message != nullptr) message->received = true;
            // One that is not known is released all the same, so that the server forgets it.
            const Reason reason = message != nullptr ? Reason::success : Reason::packet_identifier_not_found;
            return out.say(Acknowledge{PacketType::pubrel, packet.id, reason});
        }
        if (message == nullptr) return true;
        const bool puback = packet.type == PacketType::puback;
        if (puback ? message->qos != Qos::at_least_once : !message->received) return why = Violation::qos_not_granted, true;
        finish(*message, {}, puback ? packet.reason : Reason::success);
        return true;
    }

    /// When the next of those that wait expires, and what becomes of them then.
    TimePoint next_expiry() const { return next_expiry_; }
    void expire(TimePoint now) {
        if (now < next_expiry_) return;
        next_expiry_ = TimePoint::never();
        for (Outgoing* message = first(waiting_); message != nullptr;) {
            Outgoing& one = *message;
            message = next(waiting_, one);
            if (one.expires <= now)
                finish(one, Errc::timed_out, Reason::success);
            else if (one.expires < next_expiry_)
                next_expiry_ = one.expires;
        }
    }
    /// One that is done, and is then forgotten; false when there is none.
    bool tell(Event& event) {
        Outgoing* const message = first(done_);
        if (message == nullptr) return false;
        const bool ok = !message->error && !failed(message->reason);
        event = {ok ? Event::Kind::delivered : Event::Kind::failed, message->token, message->error, message->reason, {}};
        delete message;
        return true;
    }

private:
    static constexpr std::size_t expiry_size = 5, overhead = 64;

    struct Outgoing : ListNode {
        Token token = 0;
        TimePoint expires;
        std::uint64_t end = 0;  // where its bytes end in all that was ever written
        Array<std::byte> data;  // topic, properties, payload
        Error error;
        Reason reason = Reason::success;
        std::uint32_t properties_size = 0;
        std::uint16_t topic_size = 0;
        std::uint16_t id = 0;
        Qos qos = Qos::at_most_once;
        bool retain = false;
        bool again = false;      // to be sent again on this connection
        bool under_way = false;  // counts against the server's window
        bool received = false;   // QoS 2: the server has it; PUBREL is next
    };

    static Outgoing* first(List& list) { return static_cast<Outgoing*>(list.front()); }
    static Outgoing* next(List& list, Outgoing& message) { return static_cast<Outgoing*>(list.next(message)); }
    // Those in flight are acknowledged in order, as a rule: it is the first.
    Outgoing* find(std::uint16_t id) {
        for (Outgoing* message = first(in_flight_); message != nullptr; message = next(in_flight_, *message))
            if (message->id == id) return message;
        return nullptr;
    }
    static bool may_publish(Bytes properties) {
        if (detail::check_properties(properties, PacketType::publish) != Violation::none) return false;
        bool good = true;
        Properties(properties).each([&](Property id, const PropertyValue&) {
            good = id != Property::message_expiry_interval && id != Property::topic_alias && id != Property::subscription_identifier;
            return good;
        });
        return good;
    }
    // Before those that wait already.
    void wait_again(List& list) {
        for (Outgoing* message = first(list); message != nullptr; message = next(list, *message))
            if (message->expires < next_expiry_) next_expiry_ = message->expires;
        while (Outgoing* message = first(waiting_)) {
            message->unlink();
            list.push(*message);
        }
        waiting_.take(list);
    }
    void finish(Outgoing& message, Error error, Reason reason) {
        message.error = error;
        message.reason = reason;
        bytes_ -= message.data.size() + overhead;
        if (message.under_way) --under_way_;
        message.unlink();
        done_.push(message);
    }

    Errc cannot_send(const Outgoing& message, TimePoint now) const {
        if (message.expires <= now) return Errc::timed_out;
        if (static_cast<unsigned>(message.qos) > qos_ || (message.retain && !retains_)) return Errc::unsupported;
        return size_of(version_, packet_of(message, false)) > packet_limit_ ? Errc::too_large : Errc::ok;
    }
    // True when there is nothing left to send again.
    bool send_again(Output& out, TimePoint now) {
        if (!again_) return true;
        for (Outgoing* message = first(in_flight_); message != nullptr; message = next(in_flight_, *message)) {
            if (!message->again) continue;
            if (!out.has_room() || (!message->received && under_way_ >= window_)) return false;
            const bool said =
                message->received ? out.say(Acknowledge{PacketType::pubrel, message->id, Reason::success}) : put(out, *message, true, now);
            if (!said) return false;
            message->again = false;
        }
        again_ = false;
        return true;
    }
    Publish packet_of(const Outgoing& message, bool dup) const {
        const Bytes all(message.data.data(), message.data.size());
        Publish packet;
        packet.topic = {reinterpret_cast<const char*>(all.data()), message.topic_size};
        packet.properties = all.subspan(message.topic_size, message.properties_size);
        packet.payload = all.subspan(std::size_t{message.topic_size} + message.properties_size);
        packet.qos = message.qos;
        packet.retain = message.retain;
        packet.dup = dup;
        packet.id = message.id;
        return packet;
    }
    bool put(Output& out, Outgoing& message, bool dup, TimePoint now) {
        if (version_ == Version::v5 && message.expires != TimePoint::never()) {
            const std::int64_t left = (message.expires - now).milliseconds();
            store_big(message.data.data() + message.topic_size + 1, static_cast<std::uint32_t>(left <= 0 ? 0 : (left + 999) / 1000));
        }
        if (!out.say(packet_of(message, dup))) return false;
        message.under_way = message.qos != Qos::at_most_once;
        under_way_ += message.under_way ? 1 : 0;
        return true;
    }

    const Version version_;
    const Limits& limits_;
    bool refused_ = false;
    bool again_ = false;  // something is to be sent again
    // What the server takes.
    bool retains_ = true;
    std::uint32_t qos_ = 2;
    std::uint32_t packet_limit_ = UINT32_MAX;
    std::uint32_t window_ = 0;

    std::uint32_t under_way_ = 0;
    std::size_t bytes_ = 0;
    List waiting_, writing_, in_flight_, done_;
    TimePoint next_expiry_ = TimePoint::never();
};

}  // namespace rejoin::inline v0_1::mqtt
