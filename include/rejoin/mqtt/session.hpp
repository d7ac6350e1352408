// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/list.hpp>
#include <rejoin/core/time.hpp>
#include <rejoin/mqtt/decode.hpp>
#include <rejoin/mqtt/encode.hpp>

namespace rejoin::inline v0_1::mqtt {

/// What a session holds and waits for at most.
struct Limits {
    std::size_t packet = 1024 * 1024;    ///< bytes of one packet from the server; told to it (5.0)
    std::size_t queue = 1024 * 1024;     ///< bytes of messages that were accepted and are not delivered, 64 more counted for each
    std::uint16_t in_flight = 64;        ///< messages with a QoS under way to the server; fewer when it says so (5.0)
    std::uint16_t receive_maximum = 64;  ///< messages of QoS 2 from it that are not complete; told to it (5.0)
    std::uint16_t topic_aliases = 16;    ///< that the server may use (5.0)
    std::uint16_t subscriptions = 1024;
    Duration keep_alive = Duration::seconds(30);  ///< the server is asked for a sign of life when it has given none for so long
    Duration answer = Duration::seconds(10);      ///< for CONNACK, and for that sign: later, the connection counts as dead

    bool valid() const {
        return packet >= 64 && queue >= 64 && in_flight > 0 && receive_maximum > 0 && subscriptions > 0 && keep_alive > Duration() &&
               keep_alive <= Duration::seconds(UINT16_MAX) && answer > Duration();
    }
};

/// A message to publish; copied.
struct Message {
    TextView topic;
    Bytes payload;
    Qos qos = Qos::at_most_once;
    bool retain = false;
    /// Not sent any more after that, and told to the server (5.0); 0: never.
    Duration expiry = {};
    Bytes properties = {};  ///< 5.0, from a `PropertyWriter`; without message expiry, topic alias and subscription identifiers
};

/// Names a message, or a subscription, of one session.
using Token = std::uint64_t;

/// What has happened.
struct Event {
    enum class Kind : std::uint8_t {
        connected,     ///< the server let this client in: `packet` is its CONNACK
        refused,       ///< it did not: `reason`, and perhaps a `server_reference` in `packet`
        disconnected,  ///< it ended the connection (5.0): the same
        message,       ///< `packet` is a PUBLISH with its topic
        delivered,     ///< message `token` has arrived: with QoS 0 it was written, else acknowledged
        failed,        ///< it has not, and will not: `error`, and the server's `reason` where it gave one
        subscribed,    ///< subscription `token` was granted, or not: `reason`
        unsubscribed,  ///< subscription `token` is no more
    };
    Kind kind = Kind::connected;
    Token token = 0;
    Error error;
    Reason reason = Reason::success;
    Packet packet;
};

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
    Session(Version version, const Limits& limits) : version_(version), limits_(limits) {}
    Session(const Session&) = delete;
    ~Session() {
        for (List* list : {&queue_, &writing_, &in_flight_, &done_})
            while (ListNode* node = list->front()) delete static_cast<Outgoing*>(node);
        while (ListNode* node = filters_.front()) delete static_cast<Filter*>(node);
    }

    /// Who this client is, and how it wants to be treated; copied. Of `connect` keep-alive and the limits' properties (5.0) are this
    /// function's to say. Once, before there is a connection. `invalid_argument` for limits outside their bounds, texts that are
    /// ill-formed, a will without a topic, in 3.1.1 a password without a user name, or neither a name nor `clean`; `out_of_memory`.
    Result<void> configure(const Connect& connect) {
        const Version version = version_;
        const Limits& limits = limits_;
        PropertyWriter ours(PacketType::connect);
        const auto fits = [](Bytes text) { return text.size() <= UINT16_MAX && check_string(text) == Violation::none; };
        const Will* const will = connect.will;
        const bool good =
            limits.valid() && fits(connect.client_id.bytes()) && (connect.user_name == nullptr || fits(connect.user_name->bytes())) &&
            (connect.password == nullptr || connect.password->size() <= UINT16_MAX) &&
            (will == nullptr || (will->topic.size() > 0 && will->topic.size() <= UINT16_MAX &&
                                 check_topic_name(will->topic.bytes()) == Violation::none && will->payload.size() <= UINT16_MAX &&
                                 (version == Version::v5 ? detail::check_properties(will->properties, in_will) == Violation::none
                                                         : will->properties.empty()))) &&
            (version == Version::v5 ? detail::check_properties(connect.properties, PacketType::connect) == Violation::none
                                    : connect.properties.empty() && (connect.password == nullptr || connect.user_name != nullptr) &&
                                          (connect.clean || connect.client_id.size() > 0));
        if (!good) return Errc::invalid_argument;
        Connect said = connect;
        said.keep_alive = static_cast<std::uint16_t>((limits.keep_alive.milliseconds() + 999) / 1000);
        Array<std::byte> all;
        if (version == Version::v5) {
            ours.number(Property::receive_maximum, limits.receive_maximum);
            ours.number(Property::maximum_packet_size, static_cast<std::uint32_t>(limits.packet < UINT32_MAX ? limits.packet : UINT32_MAX));
            if (limits.topic_aliases > 0) ours.number(Property::topic_alias_maximum, limits.topic_aliases);
            if (ours.error() || !all.append(ours.bytes().data(), ours.bytes().size()) ||
                !all.append(connect.properties.data(), connect.properties.size()))
                return ours.error() ? ours.error() : Errc::out_of_memory;
            said.properties = {all.data(), all.size()};
            if (detail::check_properties(said.properties, PacketType::connect) != Violation::none) return Errc::invalid_argument;
        }
        std::byte* const to = connect_.extend(size_of(version, said));
        if (to == nullptr) return Errc::out_of_memory;
        write(to, version, said);
        return {};
    }
    Version version() const { return version_; }
    State state() const { return state_; }

    // ---- The application's side.

    /// Accepts a message: `delivered` or `failed` tells of it later. `would_block` over the queue's limit (see `drained`), `too_large` for
    /// more than fits at all, `invalid_argument` for a topic or properties that may not be, `out_of_memory`.
    Result<Token> publish(const Message& m, TimePoint now) {
        const bool v5 = version_ == Version::v5;
        if (m.topic.size() == 0 || m.topic.size() > UINT16_MAX || check_topic_name(m.topic.bytes()) != Violation::none ||
            static_cast<unsigned>(m.qos) > 2 || m.expiry < Duration() || !(v5 ? may_publish(m.properties) : m.properties.empty()))
            return Errc::invalid_argument;
        const std::size_t expiry = v5 && m.expiry > Duration() ? expiry_size : 0;
        const std::size_t size = m.topic.size() + expiry + m.properties.size() + m.payload.size();
        if (size > length_max / 2 || size + 64 > limits_.queue) return Errc::too_large;
        if (size + 64 > limits_.queue - queued_bytes_) {
            refused_ = true;
            return Errc::would_block;
        }
        auto* const node = new (std::nothrow) Outgoing;
        std::byte* to = node == nullptr ? nullptr : node->data.extend(size);
        if (to == nullptr) {
            delete node;
            return Errc::out_of_memory;
        }
        detail::Put put{to};
        put.bytes(m.topic.bytes());
        if (expiry > 0) {
            put.byte(static_cast<unsigned>(Property::message_expiry_interval));
            put.to += 4;
        }
        put.bytes(m.properties);
        put.bytes(m.payload);
        node->token = ++last_token_;
        node->topic_size = static_cast<std::uint16_t>(m.topic.size());
        node->properties_size = static_cast<std::uint32_t>(expiry + m.properties.size());
        node->qos = m.qos;
        node->retain = m.retain;
        node->expires = m.expiry > Duration() ? now + m.expiry : TimePoint::never();
        if (node->expires < next_expiry_) next_expiry_ = node->expires;
        queued_bytes_ += size + 64;
        queue_.push(*node);
        return node->token;
    }
    /// Once after a refusal: whether there is room again.
    bool drained() {
        if (!refused_ || queued_bytes_ > limits_.queue / 2) return false;
        refused_ = false;
        return true;
    }
    /// Bytes that are accepted and not delivered, 64 more counted for each message.
    std::size_t queued() const { return queued_bytes_; }

    /// Subscribes, now or when there is a connection, and again whenever the server has forgotten; a filter that is there already is asked
    /// for anew. `subscribed` tells. `invalid_argument` for a filter that may not be, `would_block` over the limit, `out_of_memory`.
    Result<Token> subscribe(const Subscription& s) {
        if (!valid_topic_filter(s.filter) || static_cast<unsigned>(s.qos) > 2 || s.retain_handling > 2) return Errc::invalid_argument;
        Filter* filter = find(s.filter);
        if (filter == nullptr) {
            if (filter_count_ >= limits_.subscriptions) return Errc::would_block;
            filter = new (std::nothrow) Filter;
            if (filter == nullptr || !filter->text.append(s.filter.data(), s.filter.size())) {
                delete filter;
                return Errc::out_of_memory;
            }
            filters_.push(*filter);
            ++filter_count_;
        }
        filter->options = s;
        filter->token = ++last_token_;
        filter->step = Filter::Step::wanted;
        filter->id = 0;
        filter->tell = false;
        return filter->token;
    }
    /// Takes a subscription back; `unsubscribed` tells. `invalid_argument` for one that is not there.
    Result<Token> unsubscribe(TextView text) {
        Filter* const filter = find(text);
        if (filter == nullptr) return Errc::invalid_argument;
        filter->step = Filter::Step::unwanted;
        filter->id = 0;
        filter->tell = false;
        return filter->token;
    }

    // ---- The connection's side.

    /// A connection is there, and nothing was said on it.
    Result<void> opened(TimePoint now) {
        lost();
        if (!out_.append(connect_.data(), connect_.size())) return Errc::out_of_memory;
        // The session goes on, whatever was asked for the first time: only a clean session of 3.1.1 never does.
        if (version_ == Version::v5 && was_connected_) out_[connect_flags()] &= ~std::byte{2};
        decoder_ = Decoder(version_, limits_.packet);
        state_ = State::connecting;
        opened_ = last_sent_ = last_heard_ = now;
        pinging_ = false;
        return {};
    }
    /// The connection is gone. What was not written of it is kept, and what was not acknowledged.
    void lost() {
        state_ = State::closed;
        out_.clear();
        out_from_ = 0;
        leaving_ = false;
        acknowledge_ = 0;
        // What was written in part, or not at all, comes first on the next.
        queue_before(writing_);
        for (ListNode* node = filters_.front(); node != nullptr; node = filters_.next(*node)) {
            auto* const filter = static_cast<Filter*>(node);
            if (filter->id == 0) continue;
            filter->id = 0;
            filter->step = filter->step == Filter::Step::leaving ? Filter::Step::unwanted : Filter::Step::wanted;
        }
        sub_told_ = nullptr;
    }
    /// The next event, from what is outstanding and from the front of `bytes`: true when there is one; its views hold until the next call.
    /// An error means that the connection is of no use any more: `malformed` or `too_large` (see `violation`), `out_of_memory`. What there
    /// still is to be written then says so to the server.
    Result<bool> next(Bytes& bytes, TimePoint now, Event& event) {
        if (acknowledge_ != 0 && !finish_message()) return fail(Errc::out_of_memory);
        if (tell(event)) return true;
        while (state_ != State::closed) {
            if (!bytes.empty()) last_heard_ = now, pinging_ = false;
            Packet& packet = event.packet;
            const auto there = decoder_.next(bytes, packet);
            if (!there) {
                why_ = decoder_.violation();
                return fail(there.error());
            }
            if (!*there) return false;
            event.error = {};
            event.token = 0;
            event.reason = packet.reason;
            bool is_event = false;
            const Error error = handle(event, is_event);
            if (error) return fail(error);
            if (is_event || tell(event)) return true;
        }
        return false;
    }
    /// The connection has ended in order: `malformed` when that was inside a packet.
    Error end() {
        const Error error = decoder_.end();
        if (error) why_ = decoder_.violation();
        return error;
    }
    /// What was wrong with what the server sent.
    Violation violation() const { return why_; }

    /// What is to be written. The first bytes of each connection are CONNECT's, and no others go before the answer. Views hold until the
    /// next call of anything.
    Bytes pending(TimePoint now) {
        if (out_from_ == out_.size() || out_from_ >= out_limit) {
            const std::size_t left = out_.size() - out_from_;
            if (left > 0) std::memmove(out_.data(), out_.data() + out_from_, left);
            out_.truncate(left);
            out_from_ = 0;
        }
        if (state_ == State::connected && !leaving_) fill(now);
        return {out_.data() + out_from_, out_.size() - out_from_};
    }
    /// So much of it was written.
    void wrote(std::size_t n, TimePoint now) {
        out_from_ += n;
        written_ += n;
        last_sent_ = now;
        while (ListNode* node = writing_.front()) {
            auto* const message = static_cast<Outgoing*>(node);
            if (message->end > written_) break;
            finish(*message, {}, Reason::success);
        }
    }
    /// Whether more from the server may be taken: not while it leaves unread what is said to it.
    bool takes_more() const { return out_.size() - out_from_ < out_limit; }
    /// Nothing is left to write or to be acknowledged.
    bool idle() const { return out_.size() == out_from_ && queued_bytes_ == 0; }
    /// Says DISCONNECT, behind what is being written; nothing is published after it. The will is published only with
    /// `disconnect_with_will` (5.0).
    Result<void> leave(Reason reason = Reason::success) {
        if (state_ != State::connected || leaving_) return {};
        leaving_ = true;
        return say(Leave{PacketType::disconnect, reason, {}}) ? Result<void>() : Errc::out_of_memory;
    }

    /// Gives up everything that was accepted and is not delivered: `failed`, with `cancelled`.
    void cancel() {
        for (List* list : {&writing_, &in_flight_, &queue_})
            while (ListNode* node = list->front()) finish(*static_cast<Outgoing*>(node), Errc::cancelled, Reason::success);
        in_flight_count_ = 0;
        next_expiry_ = TimePoint::never();
    }

    /// When `expire` has something to do.
    TimePoint deadline() const {
        if (state_ == State::closed) return next_expiry_;
        TimePoint next = state_ == State::connecting ? opened_ + limits_.answer
                         : pinging_                  ? pinged_ + limits_.answer
                                                     : (last_heard_ < last_sent_ ? last_heard_ : last_sent_) + keep_alive_;
        return next < next_expiry_ ? next : next_expiry_;
    }
    /// `unresponsive` when the server has not answered in time: the connection is dead. Else asks it for a sign of life, if it is time to,
    /// and gives up messages that have expired.
    Error expire(TimePoint now) {
        if (now >= next_expiry_) drop_expired(now);
        if (state_ == State::closed || deadline() > now) return {};
        if (state_ == State::connecting || pinging_) return Errc::unresponsive;
        if (!out_.append(pingreq, sizeof pingreq)) return Errc::out_of_memory;
        pinging_ = true;
        pinged_ = now;
        return {};
    }

private:
    static constexpr std::size_t expiry_size = 5;
    static constexpr std::size_t out_limit = 64 * 1024;  // gathered for one write

    // A message on its way: in `queue_` until it is put into `out_`; then with QoS 0 in `writing_` until it is written, else in
    // `in_flight_` until it is acknowledged; and in `done_` until that is told.
    struct Outgoing : ListNode {
        Token token = 0;
        TimePoint expires;
        std::uint64_t end = 0;  // of QoS 0: where its bytes end in all that was ever written
        Array<std::byte> data;  // topic, properties, payload
        Error error;
        Reason reason = Reason::success;
        std::uint32_t properties_size = 0;
        std::uint16_t topic_size = 0;
        std::uint16_t id = 0;
        Qos qos = Qos::at_most_once;
        bool retain = false;
        bool again = false;     // to be sent again on this connection
        bool received = false;  // QoS 2: the server has it; PUBREL is next
    };
    struct Filter : ListNode {
        enum class Step : std::uint8_t { wanted, asked, granted, unwanted, leaving };
        Array<char> text;
        Subscription options;
        Token token = 0;
        std::uint16_t id = 0;  // of the packet that asks
        Step step = Step::wanted;
        Reason reason = Reason::success;
        bool tell = false;
    };

    static bool may_publish(Bytes properties) {
        if (detail::check_properties(properties, PacketType::publish) != Violation::none) return false;
        bool good = true;
        Properties(properties).each([&](Property id, const PropertyValue&) {
            good = id != Property::message_expiry_interval && id != Property::topic_alias && id != Property::subscription_identifier;
            return good;
        });
        return good;
    }
    std::size_t connect_flags() const {
        std::size_t header = 2;
        while ((std::to_integer<unsigned>(connect_[header - 1]) & 0x80) != 0) ++header;
        return header + 7;
    }
    Filter* find(TextView text) {
        for (ListNode* node = filters_.front(); node != nullptr; node = filters_.next(*node)) {
            auto* const filter = static_cast<Filter*>(node);
            if (TextView(filter->text.data(), filter->text.size()) == text) return filter;
        }
        return nullptr;
    }
    // Puts the messages of `list` before those that wait.
    void queue_before(List& list) {
        List waiting;
        waiting.take(queue_);
        queue_.take(list);
        while (ListNode* node = waiting.front()) {
            node->unlink();
            queue_.push(*node);
        }
    }
    template <class P>
    bool say(const P& packet) {
        std::byte* const to = out_.extend(size_of(version_, packet));
        if (to != nullptr) write(to, version_, packet);
        return to != nullptr;
    }
    Error fail(Error error) {
        if (version_ == Version::v5 && state_ == State::connected && !leaving_)
            static_cast<void>(leave(error == Errc::too_large         ? Reason::packet_too_large
                                    : why_ == Violation::topic_alias ? Reason::topic_alias_invalid
                                    : error == Errc::malformed       ? Reason::malformed_packet
                                                                     : Reason::unspecified_error));
        state_ = State::closed;
        return error;
    }

    // ---- What is told.

    void finish(Outgoing& message, Error error, Reason reason) {
        message.error = error;
        message.reason = reason;
        queued_bytes_ -= message.data.size() + 64;
        message.unlink();
        done_.push(message);
    }
    bool tell(Event& event) {
        if (auto* const message = static_cast<Outgoing*>(done_.front())) {
            const bool ok = !message->error && !failed(message->reason);
            event = {ok ? Event::Kind::delivered : Event::Kind::failed, message->token, message->error, message->reason, {}};
            delete message;
            return true;
        }
        while (sub_told_ != nullptr) {
            Filter* const filter = sub_told_;
            sub_told_ = static_cast<Filter*>(filters_.next(*filter));
            if (!std::exchange(filter->tell, false)) continue;
            const bool left = filter->step == Filter::Step::leaving;
            event = {left ? Event::Kind::unsubscribed : Event::Kind::subscribed, filter->token, {}, filter->reason, {}};
            // One that was refused is not asked for again.
            if (left || failed(filter->reason)) {
                delete filter;
                --filter_count_;
            }
            return true;
        }
        return false;
    }

    // ---- What is heard.

    Error violated(Violation why) {
        why_ = why;
        return Errc::malformed;
    }
    Error handle(Event& event, bool& is_event) {
        Packet& packet = event.packet;
        switch (packet.type) {
            case PacketType::connack:
                is_event = true;
                return connack(event);
            case PacketType::publish:
                is_event = true;
                return published(event, is_event);
            case PacketType::puback:
            case PacketType::pubrec:
            case PacketType::pubcomp:
                return acknowledged(packet);
            case PacketType::pubrel:
                return released(packet);
            case PacketType::suback:
            case PacketType::unsuback:
                return answered(packet);
            case PacketType::disconnect:
                event.kind = Event::Kind::disconnected;
                is_event = true;
                state_ = State::closed;
                return {};
            case PacketType::auth:
                return violated(Violation::authentication_unasked);
            default:
                return {};
        }
    }
    Error connack(Event& event) {
        const Packet& packet = event.packet;
        if (packet.reason != Reason::success) {
            event.kind = Event::Kind::refused;
            state_ = State::closed;
            return {};
        }
        event.kind = Event::Kind::connected;
        const std::uint32_t window = packet.properties.number(Property::receive_maximum, UINT16_MAX);
        window_ = window < limits_.in_flight ? window : limits_.in_flight;
        server_packet_limit_ = packet.properties.number(Property::maximum_packet_size, UINT32_MAX);
        server_qos_ = packet.properties.number(Property::maximum_qos, 2);
        server_retains_ = packet.properties.number(Property::retain_available, 1) != 0;
        const std::uint32_t seconds = packet.properties.number(Property::server_keep_alive, 0);
        keep_alive_ = seconds == 0 ? limits_.keep_alive : Duration::seconds(seconds) * 3 / 4;
        aliases_.clear();
        if (!packet.session_present) {
            receiving_.clear();
            // The server knows of none of them; whatever it had said that it had, it had.
            List again;
            while (auto* const message = static_cast<Outgoing*>(in_flight_.front())) {
                --in_flight_count_;
                message->id = 0;
                if (message->received) {
                    finish(*message, {}, Reason::success);
                    continue;
                }
                message->unlink();
                again.push(*message);
            }
            queue_before(again);
        }
        for (ListNode* node = in_flight_.front(); node != nullptr; node = in_flight_.next(*node))
            static_cast<Outgoing*>(node)->again = true;
        again_ = !in_flight_.empty();
        for (ListNode* node = filters_.front(); node != nullptr; node = filters_.next(*node))
            if (auto* const filter = static_cast<Filter*>(node); filter->step == Filter::Step::granted && !packet.session_present)
                filter->step = Filter::Step::wanted;
        state_ = State::connected;
        was_connected_ = true;
        return {};
    }
    Error published(Event& event, bool& is_event) {
        Packet& packet = event.packet;
        event.kind = Event::Kind::message;
        if (const std::uint32_t alias = packet.properties.number(Property::topic_alias, 0); alias != 0) {
            if (alias > limits_.topic_aliases) return violated(Violation::topic_alias);
            while (aliases_.size() < alias)
                if (!aliases_.push({})) return Errc::out_of_memory;
            Array<char>& topic = aliases_[alias - 1];
            if (packet.topic.size() > 0) {
                topic.clear();
                if (!topic.append(packet.topic.data(), packet.topic.size())) return Errc::out_of_memory;
            } else if (topic.empty()) {
                return violated(Violation::topic_alias);
            }
            packet.topic = {topic.data(), topic.size()};
        }
        if (packet.qos == Qos::at_most_once) return {};
        acknowledge_ = packet.id;
        acknowledge_type_ = PacketType::puback;
        if (packet.qos == Qos::at_least_once) return {};
        acknowledge_type_ = PacketType::pubrec;
        for (std::uint16_t id : receiving_)
            if (id == packet.id) {  // it was given on before, and is not again
                is_event = false;
                return finish_message() ? Error() : Error(Errc::out_of_memory);
            }
        if (receiving_.size() >= limits_.receive_maximum && version_ == Version::v5) return violated(Violation::receive_maximum);
        if (receiving_.size() >= UINT16_MAX || !receiving_.push(packet.id)) return Errc::out_of_memory;
        return {};
    }
    // What was given on is acknowledged when the next is asked for: it has been dealt with.
    bool finish_message() { return say(Acknowledge{acknowledge_type_, std::exchange(acknowledge_, std::uint16_t{0}), Reason::success}); }
    Error acknowledged(const Packet& packet) {
        Outgoing* message = nullptr;
        for (ListNode* node = in_flight_.front(); node != nullptr && message == nullptr; node = in_flight_.next(*node))
            if (static_cast<Outgoing*>(node)->id == packet.id && !static_cast<Outgoing*>(node)->again)
                message = static_cast<Outgoing*>(node);
        if (packet.type == PacketType::pubrec) {
            // One that is not known is released all the same, so that the server forgets it (MQTT-4.3.3-4).
            if (message != nullptr && message->qos != Qos::exactly_once) return violated(Violation::qos_not_granted);
            if (message != nullptr && failed(packet.reason)) return arrived(*message, packet.reason), Error();
            if (failed(packet.reason)) return {};
            if (message != nullptr) message->received = true;
            const Reason reason = message != nullptr ? Reason::success : Reason::packet_identifier_not_found;
            return say(Acknowledge{PacketType::pubrel, packet.id, reason}) ? Error() : Error(Errc::out_of_memory);
        }
        if (message == nullptr) return {};
        const bool fits = packet.type == PacketType::puback ? message->qos == Qos::at_least_once : message->received;
        if (!fits) return violated(Violation::qos_not_granted);
        arrived(*message, packet.type == PacketType::puback ? packet.reason : Reason::success);
        return {};
    }
    void arrived(Outgoing& message, Reason reason) {
        --in_flight_count_;
        finish(message, {}, reason);
    }
    Error released(const Packet& packet) {
        bool known = false;
        for (std::size_t i = 0; i < receiving_.size() && !known; ++i) {
            known = receiving_[i] == packet.id;
            if (known) receiving_.erase(i);
        }
        const Reason reason = known ? Reason::success : Reason::packet_identifier_not_found;
        return say(Acknowledge{PacketType::pubcomp, packet.id, reason}) ? Error() : Error(Errc::out_of_memory);
    }
    Error answered(const Packet& packet) {
        const bool sub = packet.type == PacketType::suback;
        // One filter was asked for in each packet; in 3.1.1 the end of a subscription has no code.
        if (packet.codes.size() > 1) return violated(Violation::wrong_count_of_codes);
        for (ListNode* node = filters_.front(); node != nullptr; node = filters_.next(*node)) {
            auto* const filter = static_cast<Filter*>(node);
            if (filter->id != packet.id) continue;
            if ((filter->step == Filter::Step::asked) != sub) return violated(Violation::qos_not_granted);
            filter->reason = packet.codes.empty() ? Reason::success : static_cast<Reason>(packet.codes[0]);
            filter->id = 0;
            filter->tell = true;
            if (sub) filter->step = Filter::Step::granted;
            sub_told_ = static_cast<Filter*>(filters_.front());
            break;
        }
        return {};
    }

    // ---- What is said.

    // One that nothing else uses. Those in flight were given out in a circle, oldest first: the next is free, or is the oldest's.
    std::uint16_t new_id() {
        for (;;) {
            if (++last_id_ == 0) last_id_ = 1;
            bool used = false;
            for (ListNode* node = in_flight_.front(); node != nullptr && !used; node = in_flight_.next(*node))
                used = static_cast<Outgoing*>(node)->id == last_id_;
            for (ListNode* node = filters_.front(); node != nullptr && !used; node = filters_.next(*node))
                used = static_cast<Filter*>(node)->id == last_id_;
            if (!used) return last_id_;
        }
    }
    void fill(TimePoint now) {
        if (again_) send_again(now);
        ask_for_filters();
        while (takes_more()) {
            auto* const message = static_cast<Outgoing*>(queue_.front());
            if (message == nullptr) break;
            const bool with_qos = message->qos != Qos::at_most_once;
            if (const Errc refused = cannot_send(*message, now); refused != Errc::ok) {
                finish(*message, refused, Reason::success);
                continue;
            }
            if (with_qos && in_flight_count_ >= window_) break;
            if (with_qos) message->id = new_id();
            if (!put(*message, false, now)) break;
            message->unlink();
            if (with_qos) {
                ++in_flight_count_;
                in_flight_.push(*message);
            } else {
                message->end = written_ + out_.size() - out_from_;
                writing_.push(*message);
            }
        }
    }
    Errc cannot_send(const Outgoing& message, TimePoint now) const {
        if (message.expires <= now) return Errc::timed_out;
        if (static_cast<unsigned>(message.qos) > server_qos_ || (message.retain && !server_retains_)) return Errc::unsupported;
        return size_of(version_, packet_of(message, false)) > server_packet_limit_ ? Errc::too_large : Errc::ok;
    }
    void send_again(TimePoint now) {
        again_ = false;
        for (ListNode* node = in_flight_.front(); node != nullptr; node = in_flight_.next(*node)) {
            auto* const message = static_cast<Outgoing*>(node);
            if (!message->again) continue;
            again_ = !takes_more() ||
                     !(message->received ? say(Acknowledge{PacketType::pubrel, message->id, Reason::success}) : put(*message, true, now));
            if (again_) return;
            message->again = false;
        }
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
    bool put(Outgoing& message, bool dup, TimePoint now) {
        if (version_ == Version::v5 && message.expires != TimePoint::never()) {
            const std::int64_t left = (message.expires - now).milliseconds();
            store_big(message.data.data() + message.topic_size + 1,
                      static_cast<std::uint32_t>(left <= 0 ? 0 : left / 1000 + (left % 1000 != 0)));
        }
        return say(packet_of(message, dup));
    }
    // One in each packet: they cost no more system calls than one for all, and each answer is its own.
    void ask_for_filters() {
        for (ListNode* node = filters_.front(); node != nullptr && takes_more(); node = filters_.next(*node)) {
            auto* const filter = static_cast<Filter*>(node);
            const bool wanted = filter->step == Filter::Step::wanted;
            if (!wanted && filter->step != Filter::Step::unwanted) continue;
            Subscription one = filter->options;
            one.filter = {filter->text.data(), filter->text.size()};
            const std::uint16_t id = new_id();
            if (!say(Subscribe{wanted ? PacketType::subscribe : PacketType::unsubscribe, id, {&one, 1}, {}})) return;
            filter->id = id;
            filter->step = wanted ? Filter::Step::asked : Filter::Step::leaving;
        }
    }
    void drop_expired(TimePoint now) {
        next_expiry_ = TimePoint::never();
        for (ListNode* node = queue_.front(); node != nullptr;) {
            auto* const message = static_cast<Outgoing*>(node);
            node = queue_.next(*node);
            if (message->expires <= now)
                finish(*message, Errc::timed_out, Reason::success);
            else if (message->expires < next_expiry_)
                next_expiry_ = message->expires;
        }
    }

    const Version version_;
    State state_ = State::closed;
    bool leaving_ = false;
    bool was_connected_ = false;
    bool pinging_ = false;
    bool again_ = false;
    bool refused_ = false;
    bool server_retains_ = true;
    PacketType acknowledge_type_ = PacketType::puback;
    std::uint16_t acknowledge_ = 0;  // the message that was given on, and is not acknowledged yet
    std::uint16_t last_id_ = 0;
    Violation why_ = Violation::none;
    std::uint32_t server_qos_ = 2;
    std::uint32_t server_packet_limit_ = UINT32_MAX;
    std::uint32_t window_ = 0;
    std::uint32_t in_flight_count_ = 0;
    std::uint32_t filter_count_ = 0;
    const Limits limits_;
    Array<std::byte> connect_;
    Decoder decoder_{Version::v5, 64};
    Array<std::byte> out_;
    std::size_t out_from_ = 0;
    std::uint64_t written_ = 0;  // over all connections
    std::size_t queued_bytes_ = 0;
    Token last_token_ = 0;
    List queue_, writing_, in_flight_, done_;
    List filters_;
    Filter* sub_told_ = nullptr;
    Array<std::uint16_t> receiving_;  // of QoS 2, given on and not released
    Array<Array<char>> aliases_;
    TimePoint opened_, last_sent_, last_heard_, pinged_;
    TimePoint next_expiry_ = TimePoint::never();
    Duration keep_alive_ = Duration::seconds(30);
};

}  // namespace rejoin::inline v0_1::mqtt
