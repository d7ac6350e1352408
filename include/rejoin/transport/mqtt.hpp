// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/core/handlers.hpp>
#include <rejoin/core/index.hpp>
#include <rejoin/core/list.hpp>
#include <rejoin/core/ring.hpp>
#include <rejoin/mqtt/event.hpp>
#include <rejoin/mqtt/stream.hpp>
#include <rejoin/os/entropy.hpp>
#include <rejoin/os/loop.hpp>
#include <rejoin/session/plain.hpp>
#include <rejoin/transport/connection.hpp>

namespace rejoin::inline v0_1 {

class MqttConnection;
class MqttStreams;
class MqttAcceptor;

/// A stream that somebody wants to open.
struct MqttIncoming {
    MqttStreams* streams = nullptr;
    std::uint64_t id = 0;
    Text<128> peer;
    Endpoint peer_endpoint() const;
};

/// The streams over one MQTT client: what `Pipe<…, Mqtt, …>` and `Listener<…Mqtt…>` of the same loop go over. It stands for this program
/// under a name; others reach it at the topic `rejoin-streams/NAME`. Made with the client, before anything is connected, and destroyed
/// before it; what still goes over it then breaks.
///
/// Names are told to pipes as endpoints that mean nothing elsewhere: `pipe.connect(streams.endpoint("bob"))`.
class MqttStreams {
public:
    /// `client` is an `mqtt::Client`, whose handlers are added to. The name may be one level of a topic, of at most 128 bytes.
    template <class Client>
    MqttStreams(Loop& loop, Client& client, TextView name) : registry_(loop.service<Registry>()), name_(name), random_(random_seed()) {
        publish_ = [&client](const mqtt::Message& message) -> Result<void> {
            const auto token = client.publish(message);
            return token ? Result<void>() : token.error();
        };
        remove_ = [&client](HandlerId id) { client.remove_handler(id); };
        limit_ = [&client] { return client.packet_limit(); };
        handlers_[0] = client.on_message([this](const mqtt::Packet& packet) {
            if (packet.topic == TextView(topic(name_))) received(packet.payload);
        });
        handlers_[1] = client.on_drained([this] { drained(); });
        handlers_[2] = client.on_state([this](auto state, const auto&) {
            using State = decltype(state);
            if (state == State::interrupted || state == State::closed) broken();
        });
        valid_ = mqtt::valid_topic_level(name) && client.subscribe(topic(name_), mqtt::Qos::at_least_once);
        registry_.streams.push(entry_);
    }
    MqttStreams(const MqttStreams&) = delete;
    ~MqttStreams();

    /// Stands for the program of that name; not `valid` for a name that may not be, or where memory is out. The same for the same name.
    Endpoint endpoint(TextView name) {
        if (!valid_ || !mqtt::valid_topic_level(name)) return {};
        const IpAddress ip = address_of(name);
        for (const Name& known : names_)
            if (known.ip == ip) return known.text == name ? Endpoint(ip, 1) : Endpoint();
        return names_.push({ip, Text<128>(name)}) ? Endpoint(ip, 1) : Endpoint();
    }
    TextView name() const { return name_; }

private:
    friend class MqttConnection;
    friend class MqttAcceptor;
    friend struct MqttIncoming;
    using StreamMessage = mqtt::StreamMessage;

    struct Entry : ListNode {
        explicit Entry(MqttStreams& s) : streams(s) {}
        MqttStreams& streams;
    };
    // All of one loop.
    struct Registry {
        explicit Registry(Loop&) {}
        List streams;
    };
    struct Name {
        IpAddress ip;
        Text<128> text;
    };

    // A unique local address (RFC 4193) which nobody has.
    static IpAddress address_of(TextView name) {
        const std::uint64_t h = hash_of(name);
        IpAddress ip = {{0xfd, 'r', 'e', 'j', 'o', 'i', 'n', 0}, 0, Family::v6};
        for (int i = 0; i < 8; ++i) ip.bytes[8 + i] = static_cast<std::uint8_t>(h >> (56 - 8 * i));
        return ip;
    }
    static Text<160> topic(TextView name) { return Text<160>(TextView("rejoin-streams/")).append(name); }
    static MqttStreams* find(Loop& loop, const IpAddress& ip, TextView& name) {
        List& all = loop.service<Registry>().streams;
        for (ListNode* node = all.front(); node != nullptr; node = all.next(*node)) {
            MqttStreams& streams = static_cast<Entry*>(node)->streams;
            for (const Name& known : streams.names_)
                if (known.ip == ip) {
                    name = known.text;
                    return &streams;
                }
        }
        return nullptr;
    }
    // As many bytes as fit into one message, beside its topic and what it begins with; none where the broker takes next to nothing.
    std::size_t piece() const {
        constexpr std::size_t overhead = 512, piece_max = 16 * 1024;
        const std::size_t limit = limit_();
        return limit <= overhead ? 0 : limit - overhead < piece_max ? limit - overhead : piece_max;
    }
    Result<void> say(TextView to, const StreamMessage& message);
    MqttConnection* find(const StreamMessage& message) const;
    void received(Bytes bytes);
    void drained();
    void broken();

    Registry& registry_;
    Entry entry_{*this};
    const Text<128> name_;
    Random random_;
    bool valid_ = false;
    HandlerId handlers_[3] = {};
    Function<Result<void>(const mqtt::Message&)> publish_;
    Function<void(HandlerId)> remove_;
    mutable Function<std::size_t()> limit_;
    Array<Name> names_;
    mutable List connections_;
    MqttAcceptor* acceptor_ = nullptr;
    Array<std::byte> out_;
};

/// One stream between two names, over messages: opened once or accepted, and destroyed to close it.
class MqttConnection : ListNode {
public:
    MqttConnection(Loop& loop, ConnectionObserver& observer)
        : loop_(loop), observer_(&observer), kick_(loop, Delegate<void()>::to<&MqttConnection::kicked>(this)) {}
    ~MqttConnection() {
        if (!(end_said_ && end_heard_)) abort();
    }

    void set_observer(ConnectionObserver& observer) { observer_ = &observer; }
    /// Opens a stream to whom a `MqttStreams::endpoint` stands for. `invalid_argument` for any other; `too_large` where the broker takes no
    /// message of a useful size.
    Result<void> open(const Endpoint& to, const Way&) {
        TextView name;
        MqttStreams* const streams = MqttStreams::find(loop_, to.ip(), name);
        if (streams == nullptr) return Errc::invalid_argument;
        if (streams->piece() == 0) return Errc::too_large;
        streams_ = streams;
        peer_ = Text<128>(name);
        id_ = streams_->random_.next();
        opener_ = true;
        streams_->connections_.push(*this);
        return say(StreamMessage::Type::open);
    }
    Result<void> adopt(MqttIncoming incoming) {
        streams_ = incoming.streams;
        peer_ = incoming.peer;
        id_ = incoming.id;
        open_ = true;
        streams_->connections_.push(*this);
        return say(StreamMessage::Type::opened);
    }

    /// Gives the client as much as the peer has room for, and the client.
    Result<std::size_t> write(std::span<const Bytes> pieces) {
        if (streams_ == nullptr) return Errc::end_of_stream;
        std::size_t taken = 0;
        for (Bytes piece : pieces)
            while (!piece.empty()) {
                const std::uint64_t room = granted_ - sent_;
                std::size_t n = streams_->piece();
                if (n > piece.size()) n = piece.size();
                if (n > room) n = static_cast<std::size_t>(room);
                if (n == 0 || !say(StreamMessage::Type::data, sent_, piece.first(n)))
                    return taken > 0 ? Result<std::size_t>(taken) : Errc::would_block;
                sent_ += n;
                taken += n;
                piece = piece.subspan(n);
            }
        return taken;
    }
    void want_writable() { writable_wanted_ = true; }
    void pause(bool paused) {
        paused_ = paused;
        if (!paused) kick_.schedule();
    }
    bool paused() const { return paused_; }
    void set_read_limit(std::uint32_t limit) { read_limit_ = limit; }
    void end() {
        end_due_ = true;
        say_end();
    }
    void abort() {
        if (streams_ == nullptr) return;
        static_cast<void>(say(StreamMessage::Type::reset));
        leave();
    }
    Endpoint local_endpoint() const { return streams_ == nullptr ? Endpoint() : streams_->endpoint(streams_->name()); }
    /// Whoever comes gets no place among the names that pipes are told.
    Endpoint peer_endpoint() const { return streams_ == nullptr ? Endpoint() : Endpoint(MqttStreams::address_of(peer_), 1); }

private:
    friend class MqttStreams;
    using StreamMessage = mqtt::StreamMessage;
    // So much is taken before the peer is told, and may send on.
    static constexpr std::uint64_t tell_after = StreamMessage::window / 4;

    Result<void> say(StreamMessage::Type type, std::uint64_t position = 0, Bytes payload = {}) {
        StreamMessage message;
        message.type = type;
        message.from_opener = opener_;
        message.id = id_;
        message.position = position;
        message.payload = payload;
        return streams_->say(peer_, message);
    }
    void say_end() {
        if (end_due_ && !end_said_ && streams_ != nullptr) end_said_ = static_cast<bool>(say(StreamMessage::Type::end, sent_));
    }
    void say_taken() {
        if (taken_ - told_ >= tell_after && streams_ != nullptr && say(StreamMessage::Type::taken, taken_)) told_ = taken_;
    }
    void leave() {
        unlink();
        streams_ = nullptr;
        kick_.cancel();
    }
    // The stream is over; told later, where nothing else is under way.
    void fail_later(Error error) {
        leave();
        error_ = error;
        kick_.schedule();
    }
    void fail(Error error) {
        leave();
        observer_->on_error(error);
    }
    // There may be room again.
    void go_on() {
        say_end();
        say_taken();
        if (writable_wanted_) {
            writable_due_ = true;
            kick_.schedule();
        }
    }
    // What the peer said. This may be destroyed by it.
    void heard(const StreamMessage& message) {
        switch (message.type) {
            case StreamMessage::Type::opened:
                if (!opener_ || std::exchange(open_, true)) return;
                return observer_->on_open();
            case StreamMessage::Type::data:
                if (!open_ || end_heard_ || message.position != received_ ||
                    message.payload.size() > taken_ + StreamMessage::window - received_ || !held_.append(message.payload)) {
                    abort();
                    return observer_->on_error(Errc::end_of_stream);  // something was lost
                }
                received_ += message.payload.size();
                return kicked();
            case StreamMessage::Type::taken:
                if (message.position > sent_ || message.position + StreamMessage::window < granted_) return;
                granted_ = message.position + StreamMessage::window;
                return go_on();
            case StreamMessage::Type::end:
                if (!open_ || message.position != received_) return fail(Errc::end_of_stream);
                end_heard_ = true;
                return kicked();
            default:
                return fail(Errc::end_of_stream);
        }
    }
    void kicked() {
        if (error_) return observer_->on_error(std::exchange(error_, Error()));
        Ring held = std::move(held_);  // which outlives what the handlers do
        while (!held.empty() && !paused_) {
            Bytes piece = held.peek(0, held.size());
            if (piece.size() > read_limit_) piece = piece.first(read_limit_);
            taken_ += piece.size();
            say_taken();
            if (!observer_->on_bytes(piece)) return;
            held.drop(piece.size());
        }
        held_ = std::move(held);
        if (std::exchange(writable_due_, false) && std::exchange(writable_wanted_, false) && !observer_->on_writable()) return;
        if (held_.empty() && end_heard_ && !std::exchange(end_told_, true)) observer_->on_end();
    }

    Loop& loop_;
    ConnectionObserver* observer_;
    Loop::Deferred kick_;
    MqttStreams* streams_ = nullptr;
    Text<128> peer_;
    std::uint64_t id_ = 0;
    std::uint64_t sent_ = 0, granted_ = StreamMessage::window;  // by this side; as far as the peer has room
    std::uint64_t received_ = 0, taken_ = 0, told_ = 0;         // from the peer; by the observer; as the peer has been told
    Ring held_;
    Error error_;
    std::uint32_t read_limit_ = UINT32_MAX;
    bool opener_ = false, open_ = false;
    bool paused_ = false, writable_wanted_ = false, writable_due_ = false;
    bool end_due_ = false, end_said_ = false, end_heard_ = false, end_told_ = false;
};

/// Hears who wants to open a stream to this program's name.
class MqttAcceptor {
public:
    using Accepted = MqttIncoming;

    MqttAcceptor(Loop& loop, Delegate<void(MqttIncoming&&)> accepted) : loop_(loop), accepted_(accepted) {}
    ~MqttAcceptor() { close(); }

    /// `at` is the endpoint of the streams' own name. `invalid_argument` for any other; `invalid_state` when somebody listens already.
    Result<void> listen(const Endpoint& at, int) {
        TextView name;
        MqttStreams* const streams = MqttStreams::find(loop_, at.ip(), name);
        if (streams == nullptr || !(name == streams->name())) return Errc::invalid_argument;
        if (streams->acceptor_ != nullptr) return Errc::invalid_state;
        streams_ = streams;
        streams_->acceptor_ = this;
        return {};
    }
    void close() {
        if (streams_ != nullptr) streams_->acceptor_ = nullptr;
        streams_ = nullptr;
    }
    bool listening() const { return streams_ != nullptr; }
    Endpoint local_endpoint() const { return streams_ == nullptr ? Endpoint() : streams_->endpoint(streams_->name()); }

private:
    friend class MqttStreams;
    Loop& loop_;
    Delegate<void(MqttIncoming&&)> accepted_;
    MqttStreams* streams_ = nullptr;
};

inline Endpoint MqttIncoming::peer_endpoint() const { return {MqttStreams::address_of(peer), 1}; }

inline MqttStreams::~MqttStreams() {
    for (HandlerId id : handlers_) remove_(id);
    if (acceptor_ != nullptr) acceptor_->streams_ = nullptr;
    broken();
}
// What only opens is of no use later; nothing of the rest may be lost.
inline Result<void> MqttStreams::say(TextView to, const StreamMessage& said) {
    StreamMessage message = said;
    message.from = name_;
    out_.clear();
    std::byte* const room = out_.extend(message.size());
    if (room == nullptr) return Errc::out_of_memory;
    message.write(room);
    const Text<160> name = topic(to);
    mqtt::Message packet;
    packet.topic = name;
    packet.payload = {out_.data(), out_.size()};
    packet.qos = mqtt::Qos::at_least_once;
    if (message.type == StreamMessage::Type::open) packet.expiry = Duration::seconds(5);
    return publish_(packet);
}
inline MqttConnection* MqttStreams::find(const StreamMessage& message) const {
    for (ListNode* node = connections_.front(); node != nullptr; node = connections_.next(*node)) {
        auto* const connection = static_cast<MqttConnection*>(node);
        if (connection->id_ == message.id && connection->opener_ != message.from_opener && message.from == TextView(connection->peer_))
            return connection;
    }
    return nullptr;
}
inline void MqttStreams::received(Bytes bytes) {
    const auto message = StreamMessage::read(bytes);
    if (!message) return;
    if (MqttConnection* const connection = find(*message)) {
        if (message->type != StreamMessage::Type::open) connection->heard(*message);
        return;
    }
    if (message->type == StreamMessage::Type::reset || !mqtt::valid_topic_level(message->from)) return;
    if (message->type == StreamMessage::Type::open && acceptor_ != nullptr)
        return acceptor_->accepted_({this, message->id, Text<128>(message->from)});
    StreamMessage unknown;
    unknown.from_opener = !message->from_opener;
    unknown.id = message->id;
    static_cast<void>(say(message->from, unknown));
}
inline void MqttStreams::drained() {
    connections_.for_each([](ListNode& node) { static_cast<MqttConnection&>(node).go_on(); });
}
inline void MqttStreams::broken() {
    while (ListNode* node = connections_.front()) static_cast<MqttConnection*>(node)->fail_later(Errc::end_of_stream);
}

/// The transport policy for a stream by way of a broker, where nothing more direct works: see `MqttStreams`. Ordered, and with
/// back-pressure from end to end; a stream breaks when either client loses its connection to the broker, and `Resumable<Mqtt>` goes on over
/// the next. A peer that vanishes without a word is noticed by a session alone.
struct Mqtt {
    using Connection = MqttConnection;
    using Acceptor = MqttAcceptor;
    using Session = session::Plain;
    using Options = Session::Options;
};

}  // namespace rejoin::inline v0_1
