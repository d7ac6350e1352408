// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/function.hpp>
#include <rejoin/core/list.hpp>
#include <rejoin/handoff/message.hpp>
#include <rejoin/handoff/parcel.hpp>
#include <rejoin/os/local_socket.hpp>
#include <rejoin/os/loop.hpp>

namespace rejoin::inline v0_1::handoff {

/// A channel to another process on this host, over a connected Unix socket: live sockets go over it, both ways, each owned by exactly one
/// process at every moment, whichever of the two dies (README.md of this folder says how).
///
/// Belongs to its loop's thread, and is neither copied nor moved. A handler may do anything, and destroy the channel. A channel that is
/// destroyed leaves to the receiver what it has offered completely, and closes everything else it holds.
class Channel {
public:
    struct Options {
        /// Bytes of one line, at most; base64 makes four bytes of three. A longer one from the peer closes the channel.
        std::size_t message_limit = 4 * 1024 * 1024;
        /// Offers under way at once, each way.
        std::uint32_t offers = 64;
        /// An offer that was not accepted by then is withdrawn.
        Duration deadline = Duration::seconds(5);
        /// Whether to deal with whoever is at the other end. By default: the same user as this process.
        bool (*trusts)(const PeerCredentials&) = LocalSocket::trusted;

        bool valid() const { return message_limit >= 256 && offers > 0 && deadline > Duration() && trusts != nullptr; }
    };

    /// What became of an offer: no error, and it is the receiver's; or an error, and here it is again. `cancelled`: the receiver declined,
    /// or it was withdrawn; `timed_out`; `end_of_stream`: the receiver died. Where the channel had to be given up and it is not known what
    /// the receiver has made of it, the socket is closed and the parcel comes without it.
    using Done = Function<void(Error, Parcel&&)>;

    explicit Channel(Loop& loop) : Channel(loop, Options()) {}
    Channel(Loop& loop, const Options& options)
        : options_(options),
          watch_(loop, Delegate<void(Ready)>::to<&Channel::ready>(this)),
          kick_(loop, Delegate<void()>::to<&Channel::kicked>(this)),
          deadline_(loop, Delegate<void()>::to<&Channel::late>(this)) {}
    Channel(const Channel&) = delete;
    ~Channel() {
        if (destroyed_ != nullptr) *destroyed_ = true;
        watch_.stop();
        drop(lines_);
        while (Offer* offer = first_offer()) delete offer;
        while (Offer* offer = first_outcome()) delete offer;
        drop_incoming();
    }

    /// Speaks over a connected Unix stream socket, or on Windows a named pipe, from now on, and owns it. EPERM where the peer is not to be
    /// trusted; `invalid_argument` for options outside their bounds; `invalid_state` when it speaks already; else the system's error.
    Result<void> start(LocalSocket::End socket) {
        if (!options_.valid()) return Errc::invalid_argument;
        if (socket_) return Errc::invalid_state;
        const auto peer = LocalSocket::peer_credentials(socket);
        if (!peer) return peer.error();
        if (!options_.trusts(*peer)) return Error::system(EPERM);
        if (auto watched = watch_.start(socket.fd(), Ready::readable); !watched) return watched;
        socket_ = std::move(socket);
        return {};
    }
    bool open() const { return static_cast<bool>(socket_); }

    /// Called with each parcel that has become this process'. Without a handler, offers are declined.
    void on_parcel(Function<void(Parcel&&)> handler) { parcel_.set(std::move(handler)); }
    /// Asks `decide` about each offer: false declines it. It must not destroy the channel, take its own place, or keep the parcel, whose
    /// socket nobody has looked at yet.
    void admit(Function<bool(const Parcel&)> decide) { admission_ = std::move(decide); }
    /// The channel is closed: by the peer (`end_of_stream`), for what it said (`malformed`, `too_large`), or by the system.
    void on_close(Function<void(Error)> handler) { close_.set(std::move(handler)); }
    /// After an offer was refused with `would_block`: there is room again.
    void on_drained(Function<void()> handler) { drained_.set(std::move(handler)); }

    /// Offers a parcel; it is the channel's from here on, and `done` tells what became of it, never inside this call. Whoever watches its
    /// socket has stopped before: a registration would outlive the descriptor (epoll(7)). Refused, with the parcel untouched:
    /// `would_block` with as many under way as there may be; `too_large`; `invalid_argument` for a parcel of nothing, and for a descriptor
    /// that is no socket; `invalid_state` when the channel is closed; `out_of_memory`. Returns its number, for `withdraw`.
    Result<std::uint64_t> offer(Parcel&& parcel, Done&& done) {
        if (auto room = has_room(); !room) return room.error();
        const SocketKind kind = !parcel.socket ? SocketKind::none : parcel.kind != SocketKind::none ? parcel.kind : parcel.socket.kind();
        if (kind == SocketKind::none && (parcel.socket || !parcel.resumable)) return Errc::invalid_argument;
        auto* line = new (std::nothrow) Line(Message::Type::offer);
        auto* offer = new (std::nothrow) Offer;
        const bool v6 = kind == SocketKind::datagram && parcel.socket.local_endpoint().ip().family == Family::v6;
        Error error = line == nullptr || offer == nullptr ? Errc::out_of_memory : Error();
        parcel.ticket.clear();
        if (!error && parcel.socket) error = LocalSocket::issue_ticket(socket_, parcel.socket, parcel.ticket);
        if (!error && !write_offer(line->text, next_id_, kind, v6, parcel)) error = Errc::out_of_memory;
        if (!error && line->text.size() > options_.message_limit) error = Errc::too_large;
        if (error) {
            delete line;
            delete offer;
            return error;
        }
        offer->id = next_id_++;
        offer->parcel = std::move(parcel);
        offer->done = std::move(done);
        offer->deadline = watch_.loop().now() + options_.deadline;
        line->offer = offer;
        offers_.push(static_cast<Place&>(*offer));
        ++offered_;
        if (!deadline_.armed()) deadline_.at(offer->deadline);
        add(line);
        return offer->id;
    }
    /// Whether one more may be offered now: `would_block`, `invalid_state`, as `offer` has them.
    Result<void> has_room() {
        if (!socket_) return Errc::invalid_state;
        if (offered_ < options_.offers) return {};
        refused_ = true;
        return Errc::would_block;
    }
    /// Takes an offer back, unless it is the receiver's already; `done` tells which. False for a number that is no longer under way.
    bool withdraw(std::uint64_t id) {
        for (Offer* offer = first_offer(); offer != nullptr; offer = next(*offer))
            if (offer->id == id) return take_back(*offer, Errc::cancelled);
        return false;
    }
    /// How many offers are under way.
    std::size_t offered() const { return offered_; }

private:
    // An offer has a place among those under way until it is answered, which it is even when it was withdrawn; and one among those whose
    // outcome is to be told.
    struct Place : ListNode {};
    struct Outcome : ListNode {};
    struct Offer : Place, Outcome {
        enum State : std::uint8_t { queued, sent, accepted, withdrawing, withdrawn };
        std::uint64_t id = 0;
        Parcel parcel;
        Done done;
        TimePoint deadline;
        Error outcome;
        State state = queued;
        bool answered = false;
    };
    struct Line : ListNode {
        explicit Line(Message::Type t) : type(t) {}
        Array<char> text;
        std::size_t written = 0;
        Offer* offer = nullptr;
        Message::Type type;
    };
    // Accepted, and not committed yet.
    struct Incoming : ListNode {
        std::uint64_t id = 0;
        Parcel parcel;
    };

    // One handler. What it has captured lives until it returns, though it destroys the channel or takes its own place.
    template <class... Args>
    class Slot {
    public:
        void set(Function<void(Args...)> handler) {
            handler_ = std::move(handler);
            replaced_ = true;
        }
        explicit operator bool() const { return static_cast<bool>(handler_); }
        void call(const bool& destroyed, Args... args) {
            if (!handler_) return;
            replaced_ = false;
            Function<void(Args...)> running = std::move(handler_);
            running(std::forward<Args>(args)...);
            if (!destroyed && !replaced_) handler_ = std::move(running);
        }

    private:
        Function<void(Args...)> handler_;
        bool replaced_ = false;
    };

    static void drop(List& lines) {
        while (ListNode* node = lines.front()) delete static_cast<Line*>(node);
    }
    void drop_incoming() {
        while (ListNode* node = incoming_.front()) delete static_cast<Incoming*>(node);
        incoming_count_ = 0;
    }
    Offer* first_offer() { return static_cast<Offer*>(static_cast<Place*>(offers_.front())); }
    Offer* next(Offer& offer) { return static_cast<Offer*>(static_cast<Place*>(offers_.next(static_cast<Place&>(offer)))); }
    Offer* first_outcome() { return static_cast<Offer*>(static_cast<Outcome*>(finished_.front())); }

    // ---- What is said.

    void say(Message::Type type, Offer* offer, std::uint64_t id) {
        auto* line = new (std::nothrow) Line(type);
        if (line == nullptr || !write_message(line->text, type, id)) {
            delete line;
            return fail(Errc::out_of_memory);
        }
        line->offer = offer;
        add(line);
    }
    void add(Line* line) {
        const bool idle = lines_.empty();
        lines_.push(*line);
        if (idle) flush();
    }
    void flush() {
        while (auto* line = static_cast<Line*>(lines_.front())) {
            const Bytes left = TextView(line->text.data() + line->written, line->text.size() - line->written).bytes();
            const bool with_descriptor = line->type == Message::Type::offer && line->written == 0 && line->offer->parcel.socket;
            const auto sent = LocalSocket::send(socket_, left, with_descriptor ? &line->offer->parcel.socket : nullptr);
            if (!sent) {
                if (sent.error() == Errc::would_block) return watch_.change(LocalSocket::when_it_takes_more);
                if (!LocalSocket::gone(sent.error())) return fail(sent.error());
                drop(lines_);  // nobody hears it; what the peer said before is still to be read
                break;
            }
            line->written += *sent;
            if (line->written < line->text.size()) continue;
            written(line->type, line->offer);
            delete line;
        }
        watch_.change(Ready::readable);
    }
    // The whole line is on its way: this is the moment in which a commit or a withdrawal counts.
    void written(Message::Type type, Offer* offer) {
        if (type == Message::Type::offer) {
            if (offer->state == Offer::queued) offer->state = Offer::sent;
        } else if (type == Message::Type::commit) {
            offer->parcel = {};
            finish(*offer, {});
        } else if (type == Message::Type::withdraw) {
            offer->state = Offer::withdrawn;
            tell(*offer, offer->outcome);
            if (offer->answered) vacate(*offer);
        }
    }
    bool take_back(Offer& offer, Errc why) {
        if (offer.state >= Offer::accepted) return false;
        offer.outcome = why;
        if (offer.state == Offer::queued)
            for (ListNode* node = lines_.front(); node != nullptr; node = lines_.next(*node)) {
                auto* line = static_cast<Line*>(node);
                if (line->offer != &offer || line->written > 0) continue;
                delete line;  // nothing of it was said
                finish(offer, why);
                return true;
            }
        offer.state = Offer::withdrawing;
        say(Message::Type::withdraw, &offer, offer.id);
        return true;
    }
    // When nothing else is under way.
    void tell(Offer& offer, Error outcome) {
        offer.outcome = outcome;
        finished_.push(static_cast<Outcome&>(offer));
        kick_.schedule();
    }
    void vacate(Offer& offer) {
        offer.Place::unlink();
        --offered_;
        kick_.schedule();
        if (!offer.Outcome::linked()) delete &offer;
    }
    void finish(Offer& offer, Error outcome) {
        tell(offer, outcome);
        vacate(offer);
    }
    void late() {
        const TimePoint now = watch_.loop().now();
        for (Offer* offer = first_offer(); offer != nullptr; offer = next(*offer)) {
            if (offer->state >= Offer::accepted) continue;
            if (offer->deadline > now) {
                deadline_.at(offer->deadline);
                return;
            }
            take_back(*offer, Errc::timed_out);
            return late();  // others may have gone with it
        }
    }
    [[gnu::noinline]] void kicked() {
        bool destroyed = false;
        bool* const outer = std::exchange(destroyed_, &destroyed);
        while (Offer* offer = first_outcome()) {
            offer->Outcome::unlink();
            Done done = std::move(offer->done);
            Parcel parcel = std::move(offer->parcel);
            const Error outcome = offer->outcome;
            if (!offer->Place::linked()) delete offer;
            if (done) done(outcome, std::move(parcel));
            if (destroyed) return leave(outer);
        }
        if (closed_ && !std::exchange(told_, true)) close_.call(destroyed, closed_);
        if (destroyed) return leave(outer);
        if (socket_ && refused_ && offered_ <= options_.offers / 2) {
            refused_ = false;
            drained_.call(destroyed);
            if (destroyed) return leave(outer);
        }
        destroyed_ = outer;
    }
    static void leave(bool* outer) {
        if (outer != nullptr) *outer = true;
    }

    // The channel is over. Whatever was not committed stays here, where the receiver cannot have it any more: it is gone, or never got
    // the whole offer, or was told.
    void fail(Error why) {
        if (!socket_) return;
        const bool peer_is_gone = why == Errc::end_of_stream;
        bool revoked = peer_is_gone;
        if (!peer_is_gone) {
            // A line that makes no sense makes the receiver forget every offer.
            static constexpr char nonsense[] = "\n!\n";
            const auto sent = LocalSocket::send(socket_, TextView(nonsense).bytes());
            revoked = sent ? *sent == sizeof nonsense - 1 : LocalSocket::gone(sent.error());
        }
        closed_ = why;
        watch_.stop();
        deadline_.cancel();
        drop(lines_);
        while (Offer* offer = first_offer()) {
            if (!revoked && offer->state != Offer::queued) offer->parcel.socket.close();
            if (offer->state != Offer::withdrawn) tell(*offer, offer->outcome ? offer->outcome : why);
            vacate(*offer);
        }
        descriptors_.reset();
        text_.reset();
        if (!peer_is_gone) drop_incoming();
        socket_.close();
        kick_.schedule();
    }

    // ---- What is heard.

    [[gnu::noinline]] void ready(Ready what) {
        bool destroyed = false;
        bool* const outer = std::exchange(destroyed_, &destroyed);
        if (!lines_.empty()) flush();
        if (has(what, Ready::readable) && socket_) read(destroyed);
        if (destroyed) return leave(outer);
        destroyed_ = outer;
        if (!finished_.empty() || closed_) kicked();
    }
    void read(bool& destroyed) {
        const MutableBytes room = watch_.loop().scratch();
        auto received = LocalSocket::receive(socket_, room);
        if (!received && received.error() == Errc::would_block) return;
        if (!received && !LocalSocket::gone(received.error())) return fail(received.error());
        if (!received || received->bytes == 0) return ended(destroyed);
        if (received->descriptor && !descriptors_.push(std::move(received->socket))) return fail(Errc::out_of_memory);

        TextView text(reinterpret_cast<const char*>(room.data()), received->bytes);
        while (text.size() > 0 && socket_) {
            const auto* const newline = static_cast<const char*>(std::memchr(text.data(), '\n', text.size()));
            const std::size_t n = newline == nullptr ? text.size() : static_cast<std::size_t>(newline - text.data());
            const bool whole = newline != nullptr && text_.empty();
            if (text_.size() + n > options_.message_limit) return fail(Errc::too_large);
            if (!whole && !text_.append(text.data(), n)) return fail(Errc::out_of_memory);
            if (newline == nullptr) break;
            const Array<char> kept = std::move(text_);
            text_ = {};
            const TextView line = whole ? TextView(text.data(), n) : TextView(kept.data(), kept.size());
            text = TextView(newline + 1, text.size() - n - 1);
            const Error error = heard(line);
            if (destroyed) return;
            if (error) return fail(error);
        }
        // A descriptor comes with the first byte of its line: where no line is under way there is none.
        if (socket_ && descriptors_.size() > (text_.empty() ? 0u : 1u)) fail(Errc::malformed);
    }
    Error heard(TextView line) {
        Parcel parcel;
        const auto message = read_message(line, parcel);
        if (!message) return message.error();
        switch (message->type) {
            case Message::Type::offer:
                return offered(*message, parcel);
            case Message::Type::accept:
            case Message::Type::decline:
                return answered(message->type == Message::Type::accept);
            case Message::Type::commit:
            case Message::Type::withdraw:
                for (ListNode* node = incoming_.front(); node != nullptr; node = incoming_.next(*node)) {
                    auto* incoming = static_cast<Incoming*>(node);
                    if (incoming->id != message->id) continue;
                    parcel = std::move(incoming->parcel);
                    delete incoming;
                    --incoming_count_;
                    return message->type == Message::Type::commit ? deliver(std::move(parcel)) : Error();
                }
                // What was declined may be withdrawn at the same time.
                return message->type == Message::Type::withdraw ? Error() : Error(Errc::malformed);
            case Message::Type::other:
                break;
        }
        return {};
    }
    Error offered(const Message& message, Parcel& parcel) {
        parcel.kind = message.kind;
        if (message.kind != SocketKind::none) {
            if (descriptors_.empty() == LocalSocket::passes_descriptors) return Errc::malformed;
            if (LocalSocket::passes_descriptors) {
                parcel.socket = std::move(descriptors_[0]);
                descriptors_.erase(0);
            } else {
                parcel.socket = LocalSocket::redeem_ticket({parcel.ticket.data(), parcel.ticket.size()});
                parcel.ticket.reset();
            }
        }
        for (ListNode* node = incoming_.front(); node != nullptr; node = incoming_.next(*node))
            if (message.ours && static_cast<Incoming*>(node)->id == message.id) return Errc::malformed;
        const bool nothing = message.kind != SocketKind::none && !parcel.socket;
        const bool full = incoming_count_ >= options_.offers;
        auto* const incoming = message.ours && !full ? new (std::nothrow) Incoming : nullptr;
        if (nothing || full || !parcel_ || (message.ours && incoming == nullptr) || (admission_ && !admission_(parcel))) {
            delete incoming;
            say(Message::Type::decline, nullptr, 0);
            return {};
        }
        say(Message::Type::accept, nullptr, 0);
        if (!socket_) {  // the answer could not be given
            delete incoming;
            return {};
        }
        if (!message.ours) return deliver(std::move(parcel));
        incoming->id = message.id;
        incoming->parcel = std::move(parcel);
        incoming_.push(*incoming);
        ++incoming_count_;
        return {};
    }
    Error answered(bool accepted) {
        for (Offer* offer = first_offer(); offer != nullptr; offer = next(*offer)) {
            if (offer->answered || offer->state == Offer::queued) continue;
            offer->answered = true;
            if (offer->state == Offer::sent && accepted) {
                offer->state = Offer::accepted;
                say(Message::Type::commit, offer, offer->id);
            } else if (offer->state == Offer::sent) {
                finish(*offer, Errc::cancelled);
            } else if (offer->state == Offer::withdrawn) {
                vacate(*offer);
            }
            return {};
        }
        return Errc::malformed;
    }
    // The peer is gone, and did not take back what it had offered: it died, and all of that is this process'.
    void ended(bool& destroyed) {
        fail(Errc::end_of_stream);
        while (auto* incoming = static_cast<Incoming*>(incoming_.front())) {
            Parcel parcel = std::move(incoming->parcel);
            delete incoming;
            --incoming_count_;
            static_cast<void>(deliver(std::move(parcel)));
            if (destroyed) return;
        }
    }
    Error deliver(Parcel&& parcel) {
        if (parcel.kind != SocketKind::none && !parcel.socket.check_in()) return Errc::malformed;
        parcel_.call(*destroyed_, std::move(parcel));
        return {};
    }

    const Options options_;
    LocalSocket::End socket_;
    Loop::Watch watch_;
    Loop::Deferred kick_;
    Loop::Timer deadline_;
    List lines_;     // to be said
    List offers_;    // under way, the oldest first
    List finished_;  // to be told of
    List incoming_;
    Array<char> text_;           // of a line that has not come whole
    Array<Socket> descriptors_;  // that came, and belong to lines that have not
    std::uint64_t next_id_ = 1;
    std::size_t offered_ = 0;
    std::size_t incoming_count_ = 0;
    Slot<Parcel&&> parcel_;
    Function<bool(const Parcel&)> admission_;
    Slot<Error> close_;
    Slot<> drained_;
    Error closed_;
    bool told_ = false;
    bool refused_ = false;
    bool* destroyed_ = nullptr;
};

}  // namespace rejoin::inline v0_1::handoff
