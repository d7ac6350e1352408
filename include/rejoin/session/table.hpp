// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/address.hpp>
#include <rejoin/core/index.hpp>
#include <rejoin/core/list.hpp>
#include <rejoin/core/random.hpp>
#include <rejoin/core/time.hpp>
#include <rejoin/session/session.hpp>

namespace rejoin::inline v0_1::session {

/// What a server holds at most. A peer is an IPv4 address, or an IPv6 /64: what one host or household can be given.
struct Limits {
    std::size_t sessions = 65'536;           ///< in all, with and without a connection
    std::size_t sessions_per_peer = 16'384;  ///< many players share one address behind a carrier's NAT
    std::size_t half_made = 1'024;  ///< connections that are shaking hands, in all; and as many sessions that nobody has joined yet
    std::size_t half_made_per_peer = 256;
    std::size_t replay_bytes = std::size_t{1} << 30;  ///< of memory for replay, of all sessions
    std::size_t replay_bytes_per_peer = std::size_t{1} << 28;
    Duration handshake = Duration::seconds(5);  ///< a connection that has not joined by then is closed; a session never joined is forgotten

    bool valid() const {
        return sessions > 0 && sessions_per_peer > 0 && half_made > 0 && half_made_per_peer > 0 && replay_bytes > 0 &&
               replay_bytes_per_peer > 0 && handshake > Duration();
    }
};

/// A server's sessions, found by id, the connections that are shaking hands for one, and the bounds of both. Pure: `Owner` is whoever
/// serves a session, only pointed to.
///
///     half-made --attach--> attached <--> detached --keep_detached passed--> expired
///                                    ---> finished --finished_for passed---> expired
///                                    ---> moved --moved_for passed---> forgotten
///
/// Whoever comes when there are as many as there may be takes a place: a connection that of the oldest one shaking hands, a half-made
/// session that of the oldest half-made one, and a session that is joined that of the one finished for longest, else of the one detached
/// for longest; where none is finished or detached, the newcomer is refused. Where it is a peer that has as many as one may, one of that
/// peer's gives way. So nothing but a proven join can end a session, and of those only one without a connection.
template <class Owner>
class Table {
    enum State : std::uint8_t { shaking, half_made_session, attached, detached, finished, moved_away, nowhere };

    // What a peer has, or all have: in each state the oldest first.
    struct Group {
        List in[nowhere];
        std::size_t count[nowhere] = {};
        std::size_t sessions() const { return count[attached] + count[detached] + count[finished]; }
        bool empty() const { return sessions() + count[shaking] + count[half_made_session] + count[moved_away] == 0; }
    };
    struct OfAll : ListNode {};
    struct OfPeer : ListNode {};
    struct Member : OfAll, OfPeer {
        TimePoint since;  // when it came into its state
        State state = nowhere;
    };

public:
    class Peer : Group {
    public:
        Budget budget;
        std::uint64_t hash() const { return mixed; }
        bool is(const IpAddress& other) const { return ip == other; }

    private:
        friend Table;
        IpAddress ip;
        std::uint64_t mixed = 0;
    };

    /// A connection that is shaking hands: the caller's, which derives from this. Counted from `admit` until it is destroyed.
    class Handshake : Member {
    public:
        Handshake() = default;
        ~Handshake() {
            if (table_ != nullptr) table_->leave(*this, peer_);
        }
        Peer& peer() const { return *peer_; }
        TimePoint since() const { return Member::since; }

    private:
        friend Table;
        Table* table_ = nullptr;
        Peer* peer_ = nullptr;
    };

    /// One session's place.
    class Entry : Member {
    public:
        Identity identity;
        Owner* owner = nullptr;  ///< null while half-made, and once moved
        Peer& peer() const { return *peer_; }
        std::uint64_t hash() const { return hash_of(identity.id); }
        bool is(const SessionId& id) const { return identity.id == id; }

    private:
        friend Table;
        Peer* peer_ = nullptr;
    };

    /// `seed` from the system's entropy: peers choose their addresses, and must not choose their places in the index.
    Table(const Limits& limits, std::uint64_t seed) : limits_(limits), seed_(seed) { budget_.limit = limits.replay_bytes; }
    Table(const Table&) = delete;
    /// The connections have gone before.
    ~Table() {
        for (State state : {half_made_session, attached, detached, finished, moved_away})
            while (Entry* entry = oldest_entry(state)) erase(entry);
    }

    /// Several round trips and retransmissions of the slowest usual path.
    static constexpr Duration finished_for = Duration::seconds(10);
    /// Whoever took it over is known to a client's address, or to whom it asks, by then.
    static constexpr Duration moved_for = Duration::seconds(10);

    const Limits& limits() const { return limits_; }
    std::size_t peers() const { return peers_.size(); }
    /// Sessions that have been joined.
    std::size_t size() const { return all_.sessions(); }
    std::size_t half_made() const { return all_.count[half_made_session]; }
    std::size_t shaking_hands() const { return all_.count[shaking]; }

    // ---- Connections that are shaking hands.

    /// The one that has to be closed before another from `ip` is admitted; null when none has.
    Handshake* in_the_way(const IpAddress& ip) {
        Peer* peer = find_peer(network_of(ip));
        if (peer != nullptr && peer->count[shaking] >= limits_.half_made_per_peer)
            return static_cast<Handshake*>(first<OfPeer>(peer->in[shaking]));
        return all_.count[shaking] >= limits_.half_made ? oldest_handshake() : nullptr;
    }
    /// Counts one; false when memory is out: close it.
    [[gnu::cold]] bool admit(Handshake& handshake, const IpAddress& ip, TimePoint now) {
        handshake.peer_ = make_peer(network_of(ip));
        if (handshake.peer_ == nullptr) return false;
        handshake.table_ = this;
        enter(handshake, handshake.peer_, shaking, now);
        return true;
    }
    /// The one that has been at it for longest; null when there is none.
    Handshake* oldest_handshake() { return static_cast<Handshake*>(first<OfAll>(all_.in[shaking])); }
    /// One that has been at it for longer than it may; null when there is none. The caller destroys it.
    Handshake* late(TimePoint now) {
        Handshake* oldest = oldest_handshake();
        return oldest != nullptr && now - oldest->since() >= limits_.handshake ? oldest : nullptr;
    }

    // ---- Sessions.

    /// Makes a half-made session; null when there could be no place for it, or memory is out. Its id is new.
    [[gnu::cold]] Entry* create(const Identity& identity, Peer& peer, TimePoint now) {
        if ((full(peer) && idle<OfPeer>(peer) == nullptr) || (full() && idle<OfAll>(all_) == nullptr)) return nullptr;
        if (peer.count[half_made_session] >= limits_.half_made_per_peer)
            erase(static_cast<Entry*>(first<OfPeer>(peer.in[half_made_session])));
        else if (half_made() >= limits_.half_made)
            erase(oldest_entry(half_made_session));
        auto* entry = new (std::nothrow) Entry;
        if (entry == nullptr) return nullptr;
        entry->identity = identity;
        entry->peer_ = &peer;
        if (!entries_.insert(entry)) {
            delete entry;
            return nullptr;
        }
        enter(*entry, &peer, half_made_session, now);
        return entry;
    }
    /// The same for one that comes from `ip` by another way than a handshake.
    [[gnu::cold]] Entry* create(const Identity& identity, const IpAddress& ip, TimePoint now) {
        Peer* const peer = make_peer(network_of(ip));
        Entry* const entry = peer == nullptr ? nullptr : create(identity, *peer, now);
        if (peer != nullptr && entry == nullptr) forget_if_idle(peer);
        return entry;
    }
    Entry* find(const SessionId& id) const { return entries_.find(hash_of(id), id); }
    /// The handshake is complete, for the first time or after a break, or the session has moved here: `owner` has it. One that is new here
    /// may take the place of another: `evict(Entry&)` erases that one before it returns. False when there is none to give way.
    template <class Evict>
    bool attach(Entry& entry, Owner* owner, TimePoint now, Evict evict) {
        if (entry.state == half_made_session || entry.state == moved_away) {
            Peer& peer = *entry.peer_;
            while (full(peer) || full()) {
                Entry* oldest = full(peer) ? idle<OfPeer>(peer) : idle<OfAll>(all_);
                if (oldest == nullptr) return false;
                evict(*oldest);
            }
        }
        entry.owner = owner;
        move(entry, attached, now);
        return true;
    }
    void detach(Entry& entry, TimePoint now) { move(entry, detached, now); }
    /// The session has ended, and is kept a little longer for a client that missed GOODBYE.
    void finish(Entry& entry, TimePoint now) { move(entry, finished, now); }
    /// The session has moved to another process. Its id is remembered for a while, so that a client that comes here meanwhile is not told
    /// that nobody knows it; of as many as there may be sessions.
    void depart(Entry& entry, TimePoint now) {
        if (all_.count[moved_away] >= limits_.sessions) erase(oldest_entry(moved_away));
        entry.owner = nullptr;
        move(entry, moved_away, now);
    }
    bool moved(const Entry& entry) const { return entry.state == moved_away; }
    [[gnu::cold]] void erase(Entry* entry) {
        entries_.erase(entry);
        leave(*entry, entry->peer_);
        delete entry;
    }

    /// A half-made, finished or detached session that has been so for longer than it may; null when there is none. The caller
    /// erases it, after telling its owner.
    [[gnu::cold]] Entry* expired(TimePoint now, Duration keep_detached) {
        for (State state : {half_made_session, finished, detached, moved_away}) {
            Entry* oldest = oldest_entry(state);
            if (oldest != nullptr && now - oldest->since >= kept(state, keep_detached)) return oldest;
        }
        return nullptr;
    }
    /// When `late` or `expired` will next have one.
    [[gnu::cold]] TimePoint next_expiry(Duration keep_detached) {
        TimePoint next = TimePoint::never();
        for (State state : {shaking, half_made_session, finished, detached, moved_away}) {
            const Member* oldest = first<OfAll>(all_.in[state]);
            if (oldest != nullptr && oldest->since + kept(state, keep_detached) < next) next = oldest->since + kept(state, keep_detached);
        }
        return next;
    }

private:
    static std::uint64_t hash_of(const SessionId& id) {
        std::uint64_t h;
        std::memcpy(&h, id.bytes, sizeof h);
        return h;  // ids come from the system's entropy, and only our own are in the table
    }
    static IpAddress network_of(IpAddress ip) {
        if (ip.family == Family::v6) std::memset(ip.bytes + 8, 0, 8);
        ip.scope = 0;
        return ip;
    }
    Duration kept(State state, Duration keep_detached) const {
        return state == detached ? keep_detached : state == finished ? finished_for : state == moved_away ? moved_for : limits_.handshake;
    }

    bool full(const Peer& peer) const { return peer.sessions() >= limits_.sessions_per_peer; }
    bool full() const { return all_.sessions() >= limits_.sessions; }
    // The session that gives way first.
    template <class Of>
    Entry* idle(Group& group) {
        Member* member = first<Of>(group.in[finished]);
        return static_cast<Entry*>(member != nullptr ? member : first<Of>(group.in[detached]));
    }
    template <class Of>
    static Member* first(List& list) {
        return static_cast<Member*>(static_cast<Of*>(list.front()));
    }
    Entry* oldest_entry(State state) { return static_cast<Entry*>(first<OfAll>(all_.in[state])); }

    [[gnu::cold]] void enter(Member& member, Peer* peer, State state, TimePoint now) {
        member.since = now;
        member.state = state;
        all_.in[state].push(static_cast<OfAll&>(member));
        peer->in[state].push(static_cast<OfPeer&>(member));
        ++all_.count[state];
        ++peer->count[state];
    }
    [[gnu::cold]] void unlink(Member& member, Peer* peer) {
        member.OfAll::unlink();
        member.OfPeer::unlink();
        --all_.count[member.state];
        --peer->count[member.state];
    }
    void move(Entry& entry, State state, TimePoint now) {
        unlink(entry, entry.peer_);
        enter(entry, entry.peer_, state, now);
    }
    [[gnu::cold]] void leave(Member& member, Peer* peer) {
        unlink(member, peer);
        forget_if_idle(peer);
    }
    [[gnu::cold]] void forget_if_idle(Peer* peer) {
        if (!peer->empty()) return;
        peers_.erase(peer);
        delete peer;
    }

    std::uint64_t mix(const IpAddress& network) const {
        std::uint64_t word;
        std::memcpy(&word, network.bytes, sizeof word);
        return Random(seed_ ^ word).next();
    }
    Peer* find_peer(const IpAddress& network) const { return peers_.find(mix(network), network); }
    [[gnu::cold]] Peer* make_peer(const IpAddress& network) {
        if (Peer* known = find_peer(network)) return known;
        auto* peer = new (std::nothrow) Peer;
        if (peer == nullptr) return nullptr;
        peer->ip = network;
        peer->mixed = mix(network);
        peer->budget.limit = limits_.replay_bytes_per_peer;
        peer->budget.outer = &budget_;
        if (peers_.insert(peer)) return peer;
        delete peer;
        return nullptr;
    }

    const Limits limits_;
    const std::uint64_t seed_;
    Budget budget_;
    Index<Entry, SessionId> entries_;
    Index<Peer, IpAddress> peers_;
    Group all_;
};

}  // namespace rejoin::inline v0_1::session
