// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/pipe.hpp>
#include <rejoin/session/table.hpp>

namespace rejoin::inline v0_1 {

/// Who wants to come in.
struct Newcomer {
    Endpoint from;
    bool resuming = false;  ///< with a session that is not known here: of another server, of this one before it was restarted, or expired
    session::SessionId session;  ///< of one that resumes
};

/// What becomes of a newcomer.
struct Admission {
    /// Let in; one that resumes is told that its session is not known.
    static Admission accept() { return {}; }
    /// Told to come back after `d` (up to 49 days), at the earliest.
    static Admission later(Duration d) { return {Kind::pushed_back, d, {}}; }
    /// Sent to another server: a numeric address, neither link-local nor unspecified, and its port; anything else counts as `later` with a
    /// second.
    static Admission elsewhere(const Endpoint& to) {
        const IpAddress& ip = to.ip();
        if (to.port() == 0 || ip.is_unspecified() || ip.is_link_local()) return later(Duration::seconds(1));
        return {Kind::pushed_back, {}, to};
    }
    /// Given to another process on this host, connection and all: see `Listener::on_pass_on`. The client does not notice.
    static Admission pass_on() { return {Kind::passed_on, {}, {}}; }

    enum class Kind : std::uint8_t { accepted, pushed_back, passed_on };
    Kind kind = Kind::accepted;
    Duration retry_after;
    Endpoint to;
};

/// Accepts conversations: `T` is the transport, `E` and `R` the policies of the pipes that it makes. It owns them: a pipe lives until
/// it has reported `closed`, or the listener is destroyed, which gives all of them up. With a session, `on_accept` comes once a
/// session, however many connections that takes.
///
/// Belongs to its loop's thread, and is neither copied nor moved. A handler may do anything with the pipes, and may close or destroy the
/// listener.
template <class T, class E = SystemEvents, class R = Persistent>
class Listener {
public:
    using AcceptedPipe = Pipe<E, T, R>;

    struct Options {
        /// Of every pipe; `transport.keep_detached` says how long a session waits for its client to come back.
        typename AcceptedPipe::Options pipe;
        /// What is held at most; without a session, only `sessions` counts.
        session::Limits limits;
        /// Connections that the system keeps waiting, as far as it allows (net.core.somaxconn): a crowd that comes back at once.
        int backlog = 4096;
        /// Is told what is listened on, so that others can reach it: an `Opening`, which lives longer than this listener. Null: nobody.
        Opener* opener = nullptr;
    };

    [[gnu::cold]] explicit Listener(Loop& loop, const Options& options = Options())
        : loop_(loop),
          options_(options),
          table_(options.limits, random_seed()),
          acceptor_(loop, Delegate<void(Came&&)>::template to<&Listener::accepted>(this)),
          expiry_(loop, Delegate<void()>::template to<&Listener::expire>(this)),
          reap_(loop, Delegate<void()>::template to<&Listener::reap>(this)) {}
    Listener(const Listener&) = delete;
    [[gnu::cold]] ~Listener() {
        close();
        if (destroyed_ != nullptr) *destroyed_ = true;
        while (auto* joining = table_.oldest_handshake()) delete static_cast<Joining*>(joining);
        for (List* list : {&accepted_, &evicted_, &dead_})
            while (ListNode* node = list->front()) delete static_cast<Accepted*>(node);
    }

    /// A new conversation. The pipe is the listener's; it may be kept by reference until it has reported `closed`. Handlers added here
    /// miss nothing.
    HandlerId on_accept(Function<void(AcceptedPipe&)> handler) {
        return accept_handlers_.add(++last_handler_, std::move(handler)) ? last_handler_ : 0;
    }
    bool remove_handler(HandlerId id) { return id != 0 && accept_handlers_.remove(id); }
    /// Asks `decide` about everybody who wants to begin a conversation, or to go on with one that is not here, from now on: a server
    /// that is full or about to stop sends its clients away with it, and one of several those whose session is another's. An empty one
    /// lets everybody in again. It must not destroy the listener. Only with a session. (Where nobody says otherwise, a client whose session
    /// has moved to another process within the last 10 s is told to come back in a moment.)
    void admit(Function<Admission(const Newcomer&)> decide) { admission_ = std::move(decide); }
    /// Is given whoever is to be passed on, as a parcel for the listener that is to let them in, which `adopt`s it: the connection, and in
    /// `unread` what the client has said. It must not destroy the listener. Without it, or where they were passed on to this one already,
    /// they are let in here.
    [[gnu::cold]] void on_pass_on(Function<void(const Newcomer&, handoff::Parcel&&)> handler) requires requires(typename T::Connection& c) {
        c.release();
    }
    {
        pass_on_ = [handler = std::move(handler)](Joining& joining, const Newcomer& newcomer, Bytes rest) mutable {
            handoff::Parcel parcel;
            const Bytes said = joining.handshake.last_message();
            const bool ok = parcel.unread.append(said.data(), said.size()) && parcel.unread.append(rest.data(), rest.size());
            parcel.kind = SocketKind::stream;
            parcel.socket = joining.connection->release();
            delete &joining;
            if (ok) handler(newcomer, std::move(parcel));
        };
    }
    /// Whether a session is here, with or without a connection.
    bool has_session(const session::SessionId& id) const {
        const Entry* const entry = table_.find(id);
        return entry != nullptr && !table_.moved(*entry);
    }

    /// Listens on a numeric endpoint; `0.0.0.0` is every local IPv4 address, `::` every one of both families (on OpenBSD of IPv6 alone:
    /// inet6(4)), port 0 lets the system choose (see `local_endpoint`). `invalid_argument` for a name or options outside their bounds,
    /// `invalid_state` when it listens already, else the system's error.
    [[gnu::cold]] Result<void> listen(const Endpoint& at) {
        if (acceptor_.listening()) return Errc::invalid_state;
        if (!at.valid() || at.name() != nullptr || !options_.pipe.transport.valid() || !options_.limits.valid() || options_.backlog < 1)
            return Errc::invalid_argument;
        if (auto listening = acceptor_.listen(at, options_.backlog); !listening) return listening;
        if (options_.opener != nullptr) options_.opener->opened(local_endpoint());
        return {};
    }
    /// Goes on with a socket that listens already: one that was handed over, or inherited. The listener owns it from here on.
    /// `invalid_argument` for one that does not listen; errors as of the other.
    [[gnu::cold]] Result<void> listen(Socket socket) requires requires(typename T::Acceptor& a) { a.adopt(Socket()); }
    {
        if (acceptor_.listening()) return Errc::invalid_state;
        if (socket.kind() != SocketKind::listener || !options_.pipe.transport.valid() || !options_.limits.valid())
            return Errc::invalid_argument;
        if (auto listening = acceptor_.adopt(std::move(socket)); !listening) return listening;
        if (options_.opener != nullptr) options_.opener->opened(local_endpoint());
        return {};
    }
    /// Gives the listening socket to the caller, to hand it over: who comes meanwhile waits in the system's queue, and nobody is refused.
    [[gnu::cold]] Socket release() requires requires(typename T::Acceptor& a) { a.release(); }
    { return acceptor_.release(); }
    /// Goes on with a conversation that was accepted in another process (handoff/README.md): `on_accept` comes within this call. Its socket
    /// and session are the listener's from here on; `note` and `unread` stay with the caller, who sees to what was read before. Errors,
    /// with nothing changed: `invalid_argument` for a parcel of another kind than this transport's, and for a session that is here already;
    /// `session_limit`; `malformed`, `too_large` and `would_block` as `session::Session::restore`; `out_of_memory`; the system's. The pipe,
    /// or null where a handler has ended it. Where sessions are served, a connection without one has just come, or was passed on: `unread`
    /// is what it has said, it joins as any other, and null is returned.
    [[gnu::cold]] Result<AcceptedPipe*> adopt(handoff::Parcel&& parcel) requires requires(typename T::Connection& c) { c.release(); }
    {
        if constexpr (survives)
            if (!parcel.resumable && parcel.socket.connected()) {
                const auto joining = let_join(std::move(parcel.socket));
                if (!joining) return joining.error();
                (*joining)->passed_on = true;
                if (!parcel.unread.empty()) join(**joining, {parcel.unread.data(), parcel.unread.size()});
                return static_cast<AcceptedPipe*>(nullptr);
            }
        if (parcel.resumable != survives || (survives && !parcel.session.accepted) || (!parcel.socket && !survives) ||
            (survives && static_cast<bool>(parcel.socket) != parcel.session.attached))
            return Errc::invalid_argument;
        const TimePoint now = loop_.now();
        Connection* connection = nullptr;
        if (parcel.socket && (connection = new (std::nothrow) Connection(loop_, detail::Nobody::instance())) == nullptr)
            return Errc::out_of_memory;
        auto* const made = new (std::nothrow) Accepted(*this);
        if (made == nullptr) {
            delete connection;
            return Errc::out_of_memory;
        }
        const IpAddress ip = connection == nullptr ? IpAddress() : unmapped(parcel.socket.peer_endpoint().ip());
        Error error;
        if (connection != nullptr) error = connection->adopt(std::move(parcel.socket)).error();
        if (!error) error = make_home(*made, parcel, ip, now);
        if (error) {
            if (connection != nullptr) parcel.socket = connection->release();
            delete connection;
            delete made;
            return error;
        }
        accepted_.push(*made);
        AcceptedPipe& pipe = made->pipe;
        pipe.state_ = PipeState::connecting;
        if (!announce(pipe) || pipe.state_ == PipeState::closed) {
            delete connection;
            return static_cast<AcceptedPipe*>(nullptr);
        }
        const bool there = connection != nullptr ? pipe.accept(connection) : pipe.arrive_without(now);
        return there ? &pipe : nullptr;
    }
    /// Accepts nothing more; the conversations go on, but none whose connection breaks can come back.
    void close() {
        if (options_.opener != nullptr && acceptor_.listening()) options_.opener->closed();
        acceptor_.close();
    }
    /// Where it listens; not `valid` when it does not.
    Endpoint local_endpoint() const { return acceptor_.listening() ? acceptor_.local_endpoint() : Endpoint(); }
    /// How many conversations there are, with and without a connection.
    std::size_t size() const { return size_; }
    /// How many connections have come, and have not joined a session yet.
    std::size_t joining() const { return table_.shaking_hands(); }

private:
    using Connection = typename T::Connection;
    using Came = typename T::Acceptor::Accepted;
    using Table = session::Table<AcceptedPipe>;
    using Entry = typename Table::Entry;
    static constexpr bool survives = T::Session::survives_connections;

    // One conversation.
    struct Accepted final : ListNode, detail::PipeOwner {
        explicit Accepted(Listener& l) : listener(l), pipe(l.loop_, &l.options_.pipe, this) { ++l.size_; }
        [[gnu::cold]] ~Accepted() {
            --listener.size_;
            if constexpr (survives) {
                pipe.session_.set_budget(nullptr);
                if (entry != nullptr) listener.table_.erase(entry);
            }
        }
        [[gnu::cold]] void pipe_detached() override {
            if constexpr (survives) {
                const TimePoint now = listener.loop_.now();
                pipe.state() == PipeState::closed ? listener.table_.finish(*entry, now) : listener.table_.detach(*entry, now);
                listener.arm_expiry();
            }
        }
        [[gnu::cold]] void pipe_departed() override {
            if constexpr (survives) {
                pipe.session_.set_budget(nullptr);
                listener.table_.depart(*std::exchange(entry, nullptr), listener.loop_.now());
                listener.arm_expiry();
            }
        }
        [[gnu::cold]] void pipe_closed() override {
            unlink();
            listener.dead_.push(*this);
            listener.reap_.schedule();
        }

        Listener& listener;
        Entry* entry = nullptr;
        AcceptedPipe pipe;
    };

    // A handshake is a matter of two round trips. One that has taken this long gives way to the next who comes; until then it is let
    // finish: in a crowd that comes back at once, each would else push out another that is nearly through, which comes again. Those for
    // whom there is no room at all wait in the system's queue.
    static constexpr Duration ripe = Duration::seconds(1);

    // Whoever asks for a session that has just moved: it is where it should be in a moment, or comes back.
    static constexpr Duration come_back = Duration::milliseconds(50);

    // One connection that is shaking hands.
    struct Joining final : Table::Handshake, ConnectionObserver {
        explicit Joining(Listener& l) : listener(l), connection(new (std::nothrow) Connection(l.loop_, *this)) {}
        [[gnu::cold]] ~Joining() {
            delete connection;
            if constexpr (requires { listener.acceptor_.go_on(); }) listener.acceptor_.go_on();
        }
        void on_open() override {}
        bool on_bytes(Bytes bytes) override {
            if constexpr (survives)
                return listener.join(*this, bytes);
            else
                return true;
        }
        bool on_writable() override { return listener.answer(*this); }
        void on_end() override { delete this; }
        void on_error(Error) override { delete this; }

        Listener& listener;
        Connection* connection;
        bool refused = false;
        bool passed_on = false;  // from another process to this one
        session::ServerHandshake handshake;
    };

    // A place for what comes in a parcel.
    [[gnu::cold]] Error make_home(Accepted& made, const handoff::Parcel& parcel, const IpAddress& ip, TimePoint now) {
        auto& session = made.pipe.session_;
        if constexpr (survives) {
            Entry* entry = table_.find(parcel.session.identity.id);
            if (entry != nullptr && !table_.moved(*entry)) return Errc::invalid_argument;
            if (entry == nullptr) entry = made.entry = table_.create(parcel.session.identity, ip, now);
            if (entry == nullptr) return Errc::session_limit;
            session.set_budget(&entry->peer().budget);
            if (auto restored = session.restore(parcel.session, now); !restored) return restored.error();
            if (!table_.attach(*entry, &made.pipe, now, [this](Entry& other) { evict(other); })) return Errc::session_limit;
            made.entry = entry;
        } else {
            if (size_ > options_.limits.sessions) return Errc::session_limit;
            if (!parcel.unsent.empty())
                if (auto queued = session.send({parcel.unsent.data(), parcel.unsent.size()}); !queued) return queued.error();
        }
        return {};
    }
    // Calls the accept handlers. False when the listener is gone.
    [[gnu::cold]] bool announce(AcceptedPipe& pipe) {
        bool destroyed = false;
        bool* const outer = std::exchange(destroyed_, &destroyed);
        accept_handlers_(pipe);
        if (destroyed) {
            if (outer != nullptr) *outer = true;
            return false;
        }
        destroyed_ = outer;
        return true;
    }

    [[gnu::cold]] void accepted(Came&& socket) {
        if constexpr (survives) {
            static_cast<void>(let_join(std::move(socket)));
        } else {
            if (size_ >= options_.limits.sessions) return;
            auto* connection = new (std::nothrow) Connection(loop_, detail::Nobody::instance());
            if (connection == nullptr) return;
            auto* made = new (std::nothrow) Accepted(*this);
            if (made == nullptr || !connection->adopt(std::move(socket))) {
                delete connection;
                delete made;
                return;
            }
            accepted_.push(*made);
            made->pipe.state_ = PipeState::connecting;
            if (announce(made->pipe))
                made->pipe.accept(connection);
            else
                delete connection;
        }
    }
    // A connection that has yet to say which session it is of. On an error the socket is still the caller's.
    [[gnu::cold]] Result<Joining*> let_join(Came&& socket) {
        const IpAddress ip = unmapped(socket.peer_endpoint().ip());
        const TimePoint now = loop_.now();
        if (auto* oldest = table_.in_the_way(ip)) {
            if (now - oldest->since() < ripe) return Errc::session_limit;
            delete static_cast<Joining*>(oldest);
        }
        auto* joining = new (std::nothrow) Joining(*this);
        if (joining == nullptr) return Errc::out_of_memory;
        if (joining->connection == nullptr || !table_.admit(*joining, ip, now)) {
            delete joining;
            return Errc::out_of_memory;
        }
        if (auto adopted = joining->connection->adopt(std::move(socket)); !adopted) {
            if constexpr (requires { joining->connection->release(); }) socket = joining->connection->release();
            delete joining;
            return adopted.error();
        }
        arm_expiry();
        if constexpr (requires { acceptor_.rest(ripe); })
            if (table_.shaking_hands() >= options_.limits.half_made) {
                const Duration age = now - table_.oldest_handshake()->since();
                if (age < ripe) acceptor_.rest(ripe - age);
            }
        return joining;
    }

    // What becomes of somebody whose session is not here, or is new.
    [[gnu::cold]] Admission decide(const Joining& joining, const Newcomer& newcomer, bool moved) {
        const Admission said = admission_ ? admission_(newcomer) : Admission::accept();
        const bool can_pass_on = pass_on_ && !joining.passed_on;
        if (said.kind == Admission::Kind::pushed_back || (said.kind == Admission::Kind::passed_on && can_pass_on)) return said;
        return moved ? Admission::later(come_back) : Admission::accept();
    }
    [[gnu::cold]] bool push_back(Joining& joining, const Admission& said) {
        const std::int64_t ms = said.retry_after.milliseconds();
        joining.handshake.push_back({static_cast<std::uint32_t>(ms < 0            ? 0
                                                                : ms > UINT32_MAX ? UINT32_MAX
                                                                                  : ms),
                                     said.to.ip(), said.to.port()});
        joining.refused = true;
        return answer(joining);
    }
    // Bytes of a handshake. False when its connection is not the handshake's any more.
    bool join(Joining& joining, Bytes bytes) {
        using Step = session::ServerHandshake::Step;
        using session::Refusal;
        auto& handshake = joining.handshake;
        for (;;) {
            auto step = handshake.receive(bytes);
            if (joining.refused) return true;  // it is being told so
            if (!step) {
                if (step.error() == Errc::version_mismatch) return refuse(joining, Refusal::version);
                delete &joining;
                return false;
            }
            if (*step == Step::more) return answer(joining);
            if (*step == Step::joined) return joined(joining, bytes);

            Entry* entry = *step == Step::resume ? table_.find(handshake.id()) : nullptr;
            if (entry == nullptr || table_.moved(*entry)) {
                const Newcomer newcomer{joining.connection->peer_endpoint(), *step == Step::resume, handshake.id()};
                const Admission said = decide(joining, newcomer, entry != nullptr);
                if (said.kind == Admission::Kind::pushed_back) return push_back(joining, said);
                if (said.kind == Admission::Kind::passed_on) return pass_on_(joining, newcomer, bytes), false;
                entry = nullptr;
            }
            session::Nonce nonce;
            if (!entropy(nonce.bytes)) return refuse(joining, Refusal::limit);
            const auto window = static_cast<std::uint32_t>(options_.pipe.transport.replay_limit);
            if (*step == Step::hello) {
                session::Identity identity;
                if (!entropy(identity.id.bytes) || !entropy(identity.key.bytes)) return refuse(joining, Refusal::limit);
                if (!handshake.welcome(identity, nonce, window, options_.pipe.transport.pre_shared_key.get()))
                    return refuse(joining, Refusal::proof);
                if (table_.create(identity, joining.peer(), loop_.now()) == nullptr) return refuse(joining, Refusal::limit);
            } else {
                if (entry == nullptr) return refuse(joining, Refusal::unknown);
                AcceptedPipe* pipe = entry->owner;
                if (pipe != nullptr && handshake.agreement().epoch <= pipe->session_.epoch()) return refuse(joining, Refusal::fenced);
                handshake.resume(entry->identity.key, nonce, pipe == nullptr ? 0 : pipe->session_.received(), window);
            }
        }
    }
    [[gnu::cold]] bool refuse(Joining& joining, session::Refusal why) {
        joining.handshake.refuse(why);
        joining.refused = true;
        return answer(joining);
    }
    bool answer(Joining& joining) {
        while (!joining.handshake.pending().empty()) {
            const Bytes piece[] = {joining.handshake.pending()};
            auto wrote = joining.connection->write(piece);
            if (wrote) {
                joining.handshake.wrote(*wrote);
            } else if (wrote.error() == Errc::would_block) {
                joining.connection->want_writable();
                return true;
            } else {
                joining.refused = true;
                break;
            }
        }
        if (!joining.refused) return true;
        delete &joining;
        return false;
    }
    [[gnu::cold]] bool joined(Joining& joining, Bytes rest) {
        Entry* entry = table_.find(joining.handshake.id());
        const session::Agreement agreement = joining.handshake.agreement();
        // Between its question and its proof the session may have gone, or a newer connection have come.
        if (entry == nullptr || table_.moved(*entry) || (entry->owner != nullptr && agreement.epoch <= entry->owner->session_.epoch())) {
            delete &joining;
            return false;
        }
        const TimePoint now = loop_.now();
        const Duration round_trip = now - joining.since();
        const bool first = entry->owner == nullptr;
        auto* const made = first ? new (std::nothrow) Accepted(*this) : nullptr;
        AcceptedPipe* const pipe = first && made != nullptr ? &made->pipe : entry->owner;
        if (pipe == nullptr || !table_.attach(*entry, pipe, now, [this](Entry& other) { evict(other); })) {
            delete made;
            delete &joining;
            return false;
        }
        if (first) {
            accepted_.push(*made);
            made->entry = entry;
            pipe->session_.set_identity(entry->identity, true);
            pipe->session_.set_budget(&entry->peer().budget);
            pipe->state_ = PipeState::connecting;
        }
        Connection* connection = std::exchange(joining.connection, nullptr);
        connection->set_observer(detail::Nobody::instance());
        delete &joining;
        if (first && !announce(*pipe)) {
            delete connection;
            return false;
        }
        if (pipe->state_ == PipeState::closed && first) {  // the handler gave it up
            delete connection;
            return false;
        }
        return pipe->accept(connection, agreement, round_trip, !first) && pipe->take_rest(connection, rest);
    }

    // A session without a connection is over. Its place is free at once; its pipe is told when nothing else is under way, as its handlers
    // may do anything.
    [[gnu::cold]] void evict(Entry& entry) {
        auto& gone = static_cast<Accepted&>(*entry.owner->owner_);
        gone.pipe.session_.set_budget(nullptr);
        gone.entry = nullptr;
        table_.erase(&entry);
        gone.unlink();
        evicted_.push(gone);
        reap_.schedule();
    }

    [[gnu::cold]] void arm_expiry() {
        const TimePoint next = table_.next_expiry(options_.pipe.transport.keep_detached);
        if (next < expiry_.when()) expiry_.at(next);
    }
    [[gnu::cold]] void expire() {
        if constexpr (survives) {
            const TimePoint now = loop_.now();
            while (auto* late = table_.late(now)) delete static_cast<Joining*>(late);
            while (Entry* entry = table_.expired(now, options_.pipe.transport.keep_detached))
                entry->owner == nullptr ? table_.erase(entry) : evict(*entry);
            arm_expiry();
        }
    }
    [[gnu::cold]] void reap() {
        while (ListNode* node = dead_.front()) delete static_cast<Accepted*>(node);
        ListNode* const node = evicted_.front();
        if (node == nullptr) return;
        reap_.schedule();  // one at a time: its handlers may even destroy the listener
        static_cast<Accepted*>(node)->pipe.fail(classify(Errc::session_expired, Stage::established));
    }

    Loop& loop_;
    const Options options_;
    Table table_;
    typename T::Acceptor acceptor_;
    Loop::Timer expiry_;
    Loop::Deferred reap_;
    List accepted_;
    List evicted_;  // to be told
    List dead_;
    Handlers<AcceptedPipe&> accept_handlers_;
    Function<Admission(const Newcomer&)> admission_;
    Function<void(Joining&, const Newcomer&, Bytes)> pass_on_;
    bool* destroyed_ = nullptr;
    std::size_t size_ = 0;
    HandlerId last_handler_ = 0;
};

}  // namespace rejoin::inline v0_1
