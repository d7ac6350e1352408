// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/mqtt_client.hpp>
#include <rejoin/os/clock.hpp>
#include <rejoin/os/entropy.hpp>
#include <rejoin/signalling/exchange.hpp>
#include <rejoin/transport/mqtt.hpp>

namespace rejoin::inline v0_1 {

/// Small messages between peers that know each other's names, by way of several MQTT brokers as one: each message goes out over all of them
/// (or the first few of an order that both sides have), arrives once, and counts as sent when the receiving peer says so. Any broker may
/// die, stall or lie (signalling/README.md).
///
/// Belongs to its loop's thread, and is neither copied nor moved. A handler may destroy it and call anything. `E`, `T` and `R` are the
/// policies of the pipes to the brokers.
template <EventSource E = SystemEvents, Transport T = Tcp, RecoveryPolicy R = Persistent>
class Signal {
    using Client = mqtt::Client<E, T, R>;

public:
    struct Options {
        typename Client::Options client = for_signalling();
        signalling::Limits limits;
        /// Peer `name` is reached at the topic `prefix/name`.
        Text<63> prefix = TextView("rejoin");

        // A broker that says nothing for 15 s is not there. What is sent has a clock of its own.
        static typename Client::Options for_signalling() {
            typename Client::Options options;
            options.limits.keep_alive = Duration::seconds(10);
            options.limits.answer = Duration::seconds(5);
            return options;
        }
    };

    /// As the peer of that name; it may be one level of a topic, of at most 128 bytes.
    Signal(Loop& loop, TextView name) : Signal(loop, name, Options()) {}
    Signal(Loop& loop, TextView name, const Options& options)
        : loop_(loop),
          options_(options),
          exchange_(options.limits, random_seed()),
          timer_(loop, Delegate<void()>::template to<&Signal::late>(this)),
          kick_(loop, Delegate<void()>::template to<&Signal::kicked>(this)) {
        static_cast<void>(exchange_.set_name(name));  // without one, whatever is asked for says so
    }
    Signal(const Signal&) = delete;
    ~Signal() {
        while (ListNode* node = brokers_.front()) delete static_cast<Broker*>(node);
    }

    // ---- Handlers. Each `on_…` returns an id for `remove_handler`, or 0 when the handler is empty or memory is out.

    /// A peer has sent something: `peer` and `payload` of the event hold until the handlers have returned. The peer is told then.
    HandlerId on_message(Function<void(const signalling::Event&)> handler) { return add(message_, std::move(handler)); }
    /// What became of a message that `send` accepted: no error, and the peer's program has had it; `timed_out`: nobody has said so in time.
    HandlerId on_delivery(Function<void(signalling::Token, Error)> handler) { return add(delivery_, std::move(handler)); }
    /// A broker is connected to, or is not any more, and why.
    HandlerId on_broker(Function<void(int broker, mqtt::ClientState, const mqtt::Trouble&)> handler) {
        return add(broker_changed_, std::move(handler));
    }
    /// After `send` was refused with `would_block`: there is room again.
    HandlerId on_drained(Function<void()> handler) { return add(drained_, std::move(handler)); }
    /// Takes a handler away; false when there is none of that id.
    bool remove_handler(HandlerId id) {
        return id != 0 && (message_.remove(id) || delivery_.remove(id) || broker_changed_.remove(id) || drained_.remove(id));
    }

    // ---- Brokers: at most 32, added and removed at any time.

    /// Goes to a broker, and returns its number. `who` says how to get in; without a name there, one is drawn by lot. Errors of
    /// `mqtt::Client::connect`, and `would_block` when there are as many as there may be.
    Result<int> add_broker(const Endpoint& to, mqtt::Connect who = {}) {
        if (exchange_.name().size() == 0) return Errc::invalid_argument;
        const int number = exchange_.add_broker(to_text(to));
        if (number < 0) return Errc::would_block;
        Text<63> drawn("rejoin-");
        if (who.client_id.size() == 0) who.client_id = drawn.append_hex(random_seed());
        auto* const broker = new (std::nothrow) Broker(*this, number);
        Error error = broker == nullptr ? Errc::out_of_memory : Error();
        if (!error) error = broker->client.connect(to, who).error();
        if (!error) error = broker->client.subscribe(topic(exchange_.name())).error();
        if (error) {
            delete broker;
            exchange_.remove_broker(number, loop_.now());
            return error;
        }
        brokers_.push(*broker);
        return number;
    }
    /// Leaves a broker; false when there is none of that number.
    bool remove_broker(int number) {
        Broker* const broker = find(number);
        if (broker == nullptr) return false;
        exchange_.remove_broker(number, loop_.now());
        delete broker;
        kick_.schedule();
        return true;
    }
    /// What a broker has done; of none, as one that was just added.
    signalling::Health health(int broker) const { return find(broker) != nullptr ? exchange_.health(broker) : signalling::Health(); }
    /// What its connection is doing, and why.
    Explanation explain(int broker) const { return find(broker) != nullptr ? find(broker)->client.explain() : Explanation(); }
    const signalling::Counters& counters() const { return exchange_.counters(); }

    // ---- Messages.

    /// As `signalling::Exchange::share_key` and `set_ciphers`.
    Result<void> share_key(TextView peer, Bytes secret) { return exchange_.share_key(peer, secret); }
    void set_ciphers(signalling::Cipher encrypt, signalling::Cipher decrypt) {
        exchange_.set_ciphers(std::move(encrypt), std::move(decrypt));
    }
    /// Accepts a message, connected or not: `on_delivery` tells what became of it. Errors of `signalling::Exchange::send`.
    Result<signalling::Token> send(TextView peer, Bytes payload, const signalling::SendOptions& options = {}) {
        auto token = exchange_.send(peer, payload, options, loop_.now());
        if (token) kick_.schedule();
        return token;
    }
    /// The same for text.
    Result<signalling::Token> send(TextView peer, TextView text, const signalling::SendOptions& options = {}) {
        return send(peer, text.bytes(), options);
    }
    /// Bytes of messages that were accepted and have not arrived yet, 128 more counted for each.
    std::size_t queued() const { return exchange_.queued(); }

private:
    struct Broker : ListNode {
        Broker(Signal& s, int n) : signal(s), number(n), client(s.loop_, s.options_.client) {
            client.on_state([this](mqtt::ClientState state, const mqtt::Trouble& why) { signal.changed(*this, state, why); });
            client.on_message([this](const mqtt::Packet& packet) { signal.received(*this, packet.payload); });
            client.on_subscription([this](mqtt::Token, mqtt::Reason reason) { signal.subscribed(*this, reason); });
        }
        Signal& signal;
        const int number;
        Client client;
        bool listening = false;
    };

    template <class... Args>
    HandlerId add(Handlers<Args...>& handlers, Function<void(Args...)> handler) {
        return handlers.add(++last_handler_, std::move(handler)) ? last_handler_ : 0;
    }
    Broker* find(int number) const {
        for (ListNode* node = brokers_.front(); node != nullptr; node = brokers_.next(*node))
            if (static_cast<Broker*>(node)->number == number) return static_cast<Broker*>(node);
        return nullptr;
    }
    Text<255> topic(TextView name) const { return Text<255>(options_.prefix).append("/").append(name); }

    void changed(Broker& broker, mqtt::ClientState state, const mqtt::Trouble& why) {
        if (state == mqtt::ClientState::connected && broker.listening)
            exchange_.broker_up(broker.number, loop_.now());
        else
            exchange_.broker_down(broker.number, loop_.now());
        kick_.schedule();
        broker_changed_(broker.number, state, why);
    }
    // Nothing is sent before this peer hears what is answered. When it comes back, the subscription goes out before anything else.
    void subscribed(Broker& broker, mqtt::Reason reason) {
        broker.listening = !failed(reason);
        if (broker.listening) {
            exchange_.broker_up(broker.number, loop_.now());
            return kick_.schedule();
        }
        mqtt::Trouble why;
        why.reason = reason;
        changed(broker, broker.client.state(), why);
    }
    void received(Broker& broker, Bytes bytes) {
        exchange_.received(broker.number, bytes, loop_.now(), realtime_now());
        kick_.schedule();
        static_cast<void>(tell());
    }
    // False when a handler has destroyed this.
    bool tell() {
        for (signalling::Event event; exchange_.next(event);)
            if (event.kind == signalling::Event::Kind::message ? !message_(event) : !delivery_(event.token, event.error)) return false;
        return !exchange_.drained() || drained_();
    }
    void kicked() {
        const TimePoint now = loop_.now();
        const std::int64_t wall = realtime_now();
        for (signalling::Copy copy; exchange_.next_copy(copy, now, wall);) {
            const Text<255> to = topic(copy.to);
            mqtt::Message message;
            // The acknowledgement is the peer's, not the broker's.
            message.qos = mqtt::Qos::at_most_once;
            message.payload = copy.bytes;
            message.expiry = copy.valid;
            message.topic = to;
            exchange_.given(copy, static_cast<bool>(find(copy.broker)->client.publish(message)), now);
        }
        if (tell()) timer_.at(exchange_.deadline());
    }
    void late() {
        exchange_.expire(loop_.now());
        kicked();
    }

    Loop& loop_;
    const Options options_;
    signalling::Exchange exchange_;
    mutable List brokers_;
    Loop::Timer timer_;
    Loop::Deferred kick_;
    Handlers<const signalling::Event&> message_;
    Handlers<signalling::Token, Error> delivery_;
    Handlers<int, mqtt::ClientState, const mqtt::Trouble&> broker_changed_;
    Handlers<> drained_;
    HandlerId last_handler_ = 0;
};

}  // namespace rejoin::inline v0_1
