// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/mqtt/outbox.hpp>
#include <rejoin/mqtt/subscriptions.hpp>

namespace rejoin::inline v0_1::mqtt {

/// The client's side of an MQTT session, 3.1.1 or 5.0, over one connection after another. Pure: bytes and times go in, bytes and events
/// come out. What was accepted for publication is kept until the server has it, or its failure was told; subscriptions are asked for again
/// where the server has forgotten them.
///
///     closed --opened--> connecting --CONNACK--> connected
///       any --lost--> closed
class Session {
public:
    enum class State : std::uint8_t { closed, connecting, connected };

    /// `limits` are looked at by `configure`.
    Session(Version version, const Limits& limits)
        : version_(version), limits_(limits), out_(version), outbox_(version, limits_), subscriptions_(limits.subscriptions) {}
    Session(const Session&) = delete;

    /// Who this client is, and how it wants to be treated; copied. Of `connect` keep-alive and the limits' properties (5.0) are this
    /// function's to say. Before there is a connection. `invalid_argument` for limits outside their bounds, texts that are ill-formed, a
    /// will without a topic, in 3.1.1 a password without a user name, or neither a name nor `clean`; `unsupported` for enhanced
    /// authentication; `out_of_memory`.
    Result<void> configure(const Connect& connect) {
        if (!limits_.valid() || !valid(connect)) return Errc::invalid_argument;
        Connect said = connect;
        said.keep_alive = static_cast<std::uint16_t>((limits_.keep_alive.milliseconds() + 999) / 1000);
        Array<std::byte> properties;
        if (version_ == Version::v5) {
            const Properties theirs(connect.properties);
            PropertyValue method;
            if (theirs.find(Property::authentication_method, method)) return Errc::unsupported;
            wants_words_ = theirs.number(Property::request_problem_information, 1) != 0;
            ends_session_ = connect.clean && session_expiry() > 0;
            PropertyWriter ours(PacketType::connect);
            if (session_expiry() > 0) ours.number(Property::session_expiry_interval, session_expiry());
            ours.number(Property::receive_maximum, limits_.receive_maximum);
            ours.number(Property::maximum_packet_size,
                        static_cast<std::uint32_t>(limits_.packet < UINT32_MAX ? limits_.packet : UINT32_MAX));
            if (limits_.topic_aliases > 0) ours.number(Property::topic_alias_maximum, limits_.topic_aliases);
            if (ours.error() || !properties.append(ours.bytes().data(), ours.bytes().size()) ||
                !properties.append(connect.properties.data(), connect.properties.size()))
                return Errc::out_of_memory;
            said.properties = {properties.data(), properties.size()};
            if (detail::check_properties(said.properties, PacketType::connect) != Violation::none) return Errc::invalid_argument;
        }
        connect_.clear();
        std::byte* const to = connect_.extend(size_of(version_, said));
        if (to == nullptr) return Errc::out_of_memory;
        write(to, version_, said);
        return {};
    }
    Version version() const { return version_; }
    State state() const { return state_; }

    // ---- The application's side.

    /// Accepts a message: `delivered` or `failed` tells of it later. `would_block` over the queue's limit (see `drained`), `too_large` for
    /// more than fits at all, `invalid_argument` for a topic or properties that may not be, `out_of_memory`.
    Result<Token> publish(const Message& message, TimePoint now) {
        if (auto added = outbox_.add(message, last_token_ + 1, now); !added) return added.error();
        return ++last_token_;
    }
    /// Once after a refusal: whether there is room again.
    bool drained() { return outbox_.drained(); }
    /// Bytes that are accepted and not delivered, 64 more counted for each message.
    std::size_t queued() const { return outbox_.bytes(); }
    /// Bytes of one packet that the server takes at most.
    std::size_t packet_limit() const { return outbox_.packet_limit(); }
    /// Gives up everything that was accepted and is not delivered: `failed`, with `cancelled`.
    void cancel() { outbox_.cancel(); }

    /// Subscribes, now or when there is a connection, and again whenever the server has forgotten; a filter that is there already is asked
    /// for anew. `subscribed` tells. `invalid_argument` for a filter that may not be, `would_block` over the limit, `out_of_memory`.
    Result<Token> subscribe(const Subscription& subscription) {
        if (auto added = subscriptions_.add(subscription, last_token_ + 1); !added) return added.error();
        return ++last_token_;
    }
    /// Takes a subscription back; `unsubscribed` tells. `invalid_argument` for one that is not there.
    Result<Token> unsubscribe(TextView filter) { return subscriptions_.remove(filter); }

    // ---- The connection's side.

    /// A connection is there, and nothing was said on it.
    Result<void> opened(TimePoint now) {
        lost();
        // The session goes on, whatever was asked for the first time: only a clean session of 3.1.1 never does.
        if (version_ == Version::v5 && was_connected_) connect_[connect_flags()] &= ~std::byte{2};
        if (!out_.restart({connect_.data(), connect_.size()})) return Errc::out_of_memory;
        decoder_ = Decoder(version_, limits_.packet);
        why_ = Violation::none;
        state_ = State::connecting;
        opened_ = last_sent_ = last_heard_ = now;
        pinging_ = false;
        return {};
    }
    /// The connection is gone. What was not written of it is kept, and what was not acknowledged.
    void lost() {
        state_ = State::closed;
        out_.restart({});
        acknowledge_ = 0;
        outbox_.lost();
        subscriptions_.lost();
    }
    /// The next event, from what is outstanding and from the front of `bytes`: true when there is one; its views hold until the next call.
    /// An error means that the connection is of no use any more: `malformed` or `too_large` (see `violation`), `out_of_memory`. What there
    /// still is to be written then says so to the server.
    Result<bool> next(Bytes& bytes, TimePoint now, Event& event) {
        if (acknowledge_ != 0 && !finish_message()) return fail(Errc::out_of_memory);
        if (outbox_.tell(event) || subscriptions_.tell(event)) return true;
        while (state_ != State::closed) {
            if (!bytes.empty()) last_heard_ = now, pinging_ = false;
            const auto there = decoder_.next(bytes, event.packet);
            if (!there) {
                why_ = decoder_.violation();
                return fail(there.error());
            }
            if (!*there) return false;
            event.error = {};
            event.token = 0;
            event.reason = event.packet.reason;
            bool is_event = false;
            Error error = handle(event, is_event);
            if (!error && why_ != Violation::none) error = Errc::malformed;
            if (error) return fail(error);
            if (is_event || outbox_.tell(event)) return true;
        }
        return false;
    }
    /// The connection has ended in order: `malformed` when that was inside a packet.
    Error end() {
        const Error error = decoder_.end();
        if (error) why_ = decoder_.violation();
        return error;
    }
    /// What was wrong with what the server sent on this connection.
    Violation violation() const { return why_; }

    /// What is to be written. The first bytes of each connection are CONNECT's, and no others go before the answer. Views hold until the
    /// next call of anything.
    Bytes pending(TimePoint now) {
        static_cast<void>(out_.pending());  // makes room
        if (state_ == State::connected && !out_.finished()) {
            const auto id = [this] { return new_id(); };
            subscriptions_.ask(out_, id);
            outbox_.fill(out_, id, now);
        }
        return out_.pending();
    }
    /// So much of it was written.
    void wrote(std::size_t n, TimePoint now) {
        out_.wrote(n);
        last_sent_ = now;
        outbox_.wrote(out_.written());
    }
    /// Whether more from the server may be taken: not while it leaves unread what is said to it.
    bool takes_more() const { return out_.has_room(); }
    /// Nothing is left to write or to be acknowledged.
    bool idle() const { return out_.size() == 0 && outbox_.bytes() == 0; }
    /// Says DISCONNECT, behind what is being written, and nothing after it. The will is published only with `disconnect_with_will` (5.0). A
    /// session that began clean ends here.
    Result<void> leave(Reason reason = Reason::success) {
        if (state_ != State::connected || out_.finished()) return {};
        Leave leave{PacketType::disconnect, reason, {}};
        static constexpr std::byte no_expiry[] = {std::byte{0x11}, std::byte{0}, std::byte{0}, std::byte{0}, std::byte{0}};
        if (ends_session_ && reason == Reason::success) leave.properties = no_expiry;
        if (!out_.say(leave)) return Errc::out_of_memory;
        out_.finish();
        return {};
    }

    /// When `expire` has something to do.
    TimePoint deadline() const {
        TimePoint next = TimePoint::never();
        if (state_ == State::connecting)
            next = opened_ + limits_.answer;
        else if (state_ == State::connected)
            next = pinging_ ? pinged_ + limits_.answer : (last_heard_ < last_sent_ ? last_heard_ : last_sent_) + keep_alive_;
        return next < outbox_.next_expiry() ? next : outbox_.next_expiry();
    }
    /// `unresponsive` when the server has not answered in time: the connection is dead. Else asks it for a sign of life, if it is time to,
    /// and gives up messages that have expired.
    Error expire(TimePoint now) {
        outbox_.expire(now);
        if (state_ == State::closed || deadline() > now) return {};
        if (state_ == State::connecting || pinging_) return Errc::unresponsive;
        if (!out_.add(pingreq)) return Errc::out_of_memory;
        pinging_ = true;
        pinged_ = now;
        return {};
    }

private:
    bool valid(const Connect& connect) const {
        const bool v5 = version_ == Version::v5;
        const auto fits = [](Bytes text) { return text.size() <= UINT16_MAX && check_string(text) == Violation::none; };
        const auto properties = [&](Bytes of, PacketType packet) {
            return v5 ? detail::check_properties(of, packet) == Violation::none : of.empty();
        };
        if (!fits(connect.client_id.bytes()) || !properties(connect.properties, PacketType::connect)) return false;
        if (connect.user_name != nullptr && !fits(connect.user_name->bytes())) return false;
        if (connect.password != nullptr && connect.password->size() > UINT16_MAX) return false;
        if (!v5 && connect.password != nullptr && connect.user_name == nullptr) return false;  // MQTT-3.1.2-22
        if (!v5 && !connect.clean && connect.client_id.size() == 0) return false;              // MQTT-3.1.3-7
        if (connect.will == nullptr) return true;
        const Will& will = *connect.will;
        return will.topic.size() > 0 && will.topic.size() <= UINT16_MAX && check_topic_name(will.topic.bytes()) == Violation::none &&
               will.payload.size() <= UINT16_MAX && static_cast<unsigned>(will.qos) <= 2 && properties(will.properties, in_will);
    }
    // Where CONNECT has its flags: behind its header, the protocol's name and its version.
    std::size_t connect_flags() const {
        std::size_t header = 2;
        while ((std::to_integer<unsigned>(connect_[header - 1]) & 0x80) != 0) ++header;
        return header + 7;
    }
    Error fail(Error error) {
        if (version_ == Version::v5) static_cast<void>(leave(why_ == Violation::none ? Reason::unspecified_error : reason_of(why_)));
        state_ = State::closed;
        return error;
    }

    // What is wrong goes into `why_`; an error only where memory is out.
    Error handle(Event& event, bool& is_event) {
        const auto said = [](bool ok) { return ok ? Error() : Error(Errc::out_of_memory); };
        Packet& packet = event.packet;
        if (!wants_words_ && has_words(packet)) return why_ = Violation::property_unasked, Error();
        switch (packet.type) {
            case PacketType::connack:
                is_event = true;
                return said(connack(event));
            case PacketType::publish:
                return published(event, is_event);
            case PacketType::puback:
            case PacketType::pubrec:
            case PacketType::pubcomp:
                return said(outbox_.acknowledged(packet, out_, why_));
            case PacketType::pubrel:
                return said(released(packet));
            case PacketType::suback:
            case PacketType::unsuback:
                why_ = subscriptions_.answered(packet, event, is_event);
                return {};
            case PacketType::disconnect:
                event.kind = Event::Kind::disconnected;
                is_event = true;
                state_ = State::closed;
                return {};
            case PacketType::auth:
                why_ = Violation::authentication_unasked;
                return {};
            default:
                return {};
        }
    }
    // A reason in words, or user properties, where a client that wants none may not be told them.
    static bool has_words(const Packet& packet) {
        using enum PacketType;
        if (packet.type == publish || packet.type == connack || packet.type == disconnect) return false;
        PropertyValue words;
        return packet.properties.find(Property::reason_string, words) || packet.properties.find(Property::user_property, words);
    }
    std::uint32_t session_expiry() const { return static_cast<std::uint32_t>((limits_.session_expiry.milliseconds() + 999) / 1000); }
    // The name that the server has given this client is its name from now on, so that its session is found again.
    bool take_name(Bytes name) {
        std::size_t at = connect_flags() + 3;
        detail::Cursor from(Bytes(connect_.data() + at, connect_.size() - at));
        const std::size_t properties = from.variable();
        at = connect_.size() - from.left() + properties;
        if (load_big<std::uint16_t>(connect_.data() + at) != 0) return true;
        Array<std::byte> named;
        const std::size_t header = connect_flags() - 7, body = connect_.size() - header + name.size();
        std::byte* const to = named.extend(1 + detail::variable_size(body) + body);
        if (to == nullptr) return false;
        detail::Put put{to};
        put.byte(0x10);
        put.variable(body);
        put.bytes({connect_.data() + header, at - header});
        put.string(name);
        put.bytes({connect_.data() + at + 2, connect_.size() - at - 2});
        connect_ = std::move(named);
        return true;
    }
    bool connack(Event& event) {
        const Packet& packet = event.packet;
        if (packet.reason != Reason::success) {
            event.kind = Event::Kind::refused;
            state_ = State::closed;
            return true;
        }
        event.kind = Event::Kind::connected;
        const std::uint32_t seconds = packet.properties.number(Property::server_keep_alive, 0);
        keep_alive_ = seconds == 0 ? limits_.keep_alive : Duration::seconds(seconds) * 3 / 4;
        aliases_.clear();
        if (!packet.session_present) {
            receiving_.clear();
            subscriptions_.forgotten();
        }
        outbox_.connected(packet);
        subscriptions_.connected(packet.properties);
        state_ = State::connected;
        was_connected_ = true;
        PropertyValue name;
        return !packet.properties.find(Property::assigned_client_identifier, name) || take_name(name.bytes);
    }
    Error published(Event& event, bool& is_event) {
        Packet& packet = event.packet;
        event.kind = Event::Kind::message;
        is_event = true;
        if (const std::uint32_t alias = packet.properties.number(Property::topic_alias, 0); alias != 0)
            if (const Error error = resolve(packet, alias); error || why_ != Violation::none) return error;
        if (packet.qos == Qos::at_most_once) return {};
        acknowledge_ = packet.id;
        acknowledge_type_ = packet.qos == Qos::at_least_once ? PacketType::puback : PacketType::pubrec;
        if (packet.qos == Qos::at_least_once) return {};
        for (std::uint16_t id : receiving_)
            if (id == packet.id) {  // it was given on before, and is not again
                is_event = false;
                return finish_message() ? Error() : Error(Errc::out_of_memory);
            }
        if (receiving_.size() >= limits_.receive_maximum && version_ == Version::v5)
            why_ = Violation::receive_maximum;
        else if (!receiving_.push(packet.id))
            return Errc::out_of_memory;
        return {};
    }
    // A topic's alias: said with the topic, it stands for it from now on; without, it stands for what was said before.
    Error resolve(Packet& packet, std::uint32_t alias) {
        if (alias > limits_.topic_aliases) return why_ = Violation::topic_alias, Error();
        while (aliases_.size() < alias)
            if (!aliases_.push({})) return Errc::out_of_memory;
        Array<char>& topic = aliases_[alias - 1];
        if (packet.topic.size() > 0) {
            topic.clear();
            if (!topic.append(packet.topic.data(), packet.topic.size())) return Errc::out_of_memory;
        }
        if (topic.empty()) why_ = Violation::topic_alias;
        packet.topic = {topic.data(), topic.size()};
        return {};
    }
    // What was given on is acknowledged when the next is asked for: it has been dealt with.
    bool finish_message() {
        return out_.say(Acknowledge{acknowledge_type_, std::exchange(acknowledge_, std::uint16_t{0}), Reason::success});
    }
    bool released(const Packet& packet) {
        bool known = false;
        for (std::size_t i = 0; i < receiving_.size() && !known; ++i) {
            known = receiving_[i] == packet.id;
            if (known) receiving_.erase(i);
        }
        return out_.say(Acknowledge{PacketType::pubcomp, packet.id, known ? Reason::success : Reason::packet_identifier_not_found});
    }
    // One that nothing uses. Those in use are looked through once for the whole stretch of identifiers up to the next of them.
    std::uint16_t new_id() {
        for (;;) {
            if (++last_id_ == 0) {
                ++last_id_;
                if (free_ids_ > 0) --free_ids_;
            }
            if (free_ids_ == 0) {
                free_ids_ = UINT16_MAX;
                const auto used = [this](std::uint16_t id) {
                    if (const auto ahead = static_cast<std::uint16_t>(id - last_id_); id != 0 && ahead < free_ids_) free_ids_ = ahead;
                };
                outbox_.each_id(used);
                subscriptions_.each_id(used);
                if (free_ids_ == 0) continue;
            }
            --free_ids_;
            return last_id_;
        }
    }

    const Version version_;
    const Limits limits_;
    State state_ = State::closed;
    bool was_connected_ = false;
    bool pinging_ = false;
    bool wants_words_ = true;
    bool ends_session_ = false;
    PacketType acknowledge_type_ = PacketType::puback;
    std::uint16_t acknowledge_ = 0;  // the message that was given on, and is not acknowledged yet
    std::uint16_t last_id_ = 0;
    std::uint16_t free_ids_ = 0;  // behind it, that nothing uses
    Violation why_ = Violation::none;
    Token last_token_ = 0;
    Array<std::byte> connect_;
    Decoder decoder_{Version::v5, 64};
    Output out_;
    Outbox outbox_;
    Subscriptions subscriptions_;
    Array<std::uint16_t> receiving_;  // of QoS 2, given on and not released
    Array<Array<char>> aliases_;
    TimePoint opened_, last_sent_, last_heard_, pinged_;
    Duration keep_alive_ = Duration::seconds(30);
};

}  // namespace rejoin::inline v0_1::mqtt
