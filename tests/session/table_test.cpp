// SPDX-License-Identifier: BSL-1.0
#include <rejoin/session/table.hpp>

#include <list>
#include <memory>

#include "bytes.hpp"
#include "catch.hpp"

using namespace rejoin;
using namespace rejoin::session;

namespace {

struct Owner {
    int told = 0;
};
using SessionTable = Table<Owner>;
using Entry = SessionTable::Entry;
struct Handshake final : SessionTable::Handshake {};

TimePoint at(std::int64_t milliseconds) { return TimePoint() + Duration::milliseconds(1'000'000 + milliseconds); }
IpAddress host(int n) { return IpAddress::v4(192, 0, static_cast<std::uint8_t>(n >> 8), static_cast<std::uint8_t>(n)); }
IpAddress v6(const char* text) { return *IpAddress::parse(text); }

Identity identity(int n) {
    Identity made;
    Sha256 hash;
    const char text[] = {static_cast<char>(n), static_cast<char>(n >> 8), static_cast<char>(n >> 16)};
    hash.update(TextView(text, sizeof text).bytes());
    copy(made.id.bytes, Bytes(hash.finish()).first(16));
    return made;
}

// A server's life with its table, a session being known by its number.
struct Life {
    explicit Life(const Limits& limits = {}) : table(limits, 7) {}
    ~Life() { shaking.clear(); }

    Handshake* shake(const IpAddress& ip, std::int64_t when = 0) {
        if (auto* oldest = table.in_the_way(ip)) shaking.remove_if([&](const auto& one) { return one.get() == oldest; });
        auto made = std::make_unique<Handshake>();
        REQUIRE(table.admit(*made, ip, at(when)));
        shaking.push_back(std::move(made));
        return shaking.back().get();
    }
    // HELLO, over a connection that is then closed.
    Entry* hello(int n, const IpAddress& ip = host(1), std::int64_t when = 0) {
        Handshake handshake;
        REQUIRE(table.admit(handshake, ip, at(when)));
        return table.create(identity(n), handshake.peer(), at(when));
    }
    bool join(Entry* entry, std::int64_t when = 0) {
        return table.attach(*entry, &owner, at(when), [&](Entry& old) {
            evicted.push_back(old.identity.id);
            table.erase(&old);
        });
    }
    Entry* joined(int n, const IpAddress& ip = host(1), std::int64_t when = 0) {
        Entry* entry = hello(n, ip, when);
        REQUIRE(entry != nullptr);
        REQUIRE(join(entry, when));
        return entry;
    }
    bool knows(int n) const { return table.find(identity(n).id) != nullptr; }
    // Which gave way since last asked: one, or -1.
    int gave_way() {
        if (evicted.empty()) return -1;
        REQUIRE(evicted.size() == 1);
        for (int n = 0; n < 100'000; ++n)
            if (identity(n).id == evicted[0]) return evicted.clear(), n;
        return -2;
    }

    SessionTable table;
    std::list<std::unique_ptr<Handshake>> shaking;
    std::vector<SessionId> evicted;
    Owner owner;
};

Limits small() {
    Limits limits;
    limits.sessions = 6;
    limits.sessions_per_peer = 3;
    limits.half_made = 5;
    limits.half_made_per_peer = 2;
    limits.handshake = Duration::seconds(5);
    return limits;
}
const Duration keep = Duration::seconds(120);

}  // namespace

TEST_CASE("a session is made, joined, found by its id, and erased") {
    Life life;
    Entry* entry = life.hello(1);
    REQUIRE(entry != nullptr);
    REQUIRE(entry->owner == nullptr);
    REQUIRE(life.table.half_made() == 1);
    REQUIRE(life.table.size() == 0);
    REQUIRE(life.table.find(identity(1).id) == entry);
    REQUIRE(life.table.find(identity(2).id) == nullptr);
    REQUIRE(life.join(entry));
    REQUIRE(entry->owner == &life.owner);
    REQUIRE(life.table.half_made() == 0);
    REQUIRE(life.table.size() == 1);
    REQUIRE(life.table.peers() == 1);
    life.table.erase(entry);
    REQUIRE_FALSE(life.knows(1));
    REQUIRE(life.table.size() == 0);
    REQUIRE(life.table.peers() == 0);
}

TEST_CASE("a table that goes takes everything with it") {
    Life life;
    life.hello(1);
    life.joined(2);
    life.table.detach(*life.joined(3), at(0));
    life.table.finish(*life.joined(4), at(0));
    // The address sanitizer watches.
    REQUIRE(life.table.size() == 3);
}

TEST_CASE("peers are IPv4 addresses and IPv6 networks of 64 bits") {
    Life life;
    life.joined(1, v6("2001:db8:1:2:3:4:5:6"));
    life.joined(2, v6("2001:db8:1:2::1"));
    REQUIRE(life.table.peers() == 1);
    life.joined(3, v6("2001:db8:1:3::1"));
    REQUIRE(life.table.peers() == 2);
    life.joined(4, host(1));
    life.joined(5, host(2));
    life.joined(6, host(1));
    REQUIRE(life.table.peers() == 4);
    IpAddress scoped = v6("fe80::1");
    life.joined(7, scoped);
    scoped.scope = 3;
    life.joined(8, scoped);
    REQUIRE(life.table.peers() == 5);
    life.joined(9, *IpAddress::parse("32.1.13.184"));  // 2001:db8:: in its first bytes
    life.joined(10, v6("2001:db8::1"));
    REQUIRE(life.table.peers() == 7);
}

TEST_CASE("over the bound, the session finished for longest gives way, then the one detached for longest, then none") {
    Life life(small());
    Entry* entries[6];
    for (int i = 0; i < 6; ++i) entries[i] = life.joined(i, host(i));  // all have a connection
    REQUIRE(life.hello(10, host(10)) == nullptr);
    life.table.detach(*entries[4], at(10));
    life.table.detach(*entries[1], at(20));
    life.table.finish(*entries[5], at(30));
    life.table.finish(*entries[0], at(40));
    for (int order : {5, 0, 4, 1}) {
        const int n = 20 + order;
        life.joined(n, host(n));
        REQUIRE(life.gave_way() == order);
        REQUIRE_FALSE(life.knows(order));
        REQUIRE(life.table.size() == 6);
    }
    REQUIRE(life.hello(11, host(11)) == nullptr);
    REQUIRE(life.knows(2));
    REQUIRE(life.knows(3));
}

TEST_CASE("a session that came back is not the one detached for longest any more") {
    Life life(small());
    Entry* entries[6];
    for (int i = 0; i < 6; ++i) entries[i] = life.joined(i, host(i));
    for (int i = 0; i < 6; ++i) life.table.detach(*entries[i], at(i));
    REQUIRE(life.join(entries[0]));
    REQUIRE(life.gave_way() == -1);  // coming back needs no place
    life.table.detach(*entries[0], at(10));
    life.joined(10, host(10));
    REQUIRE(life.gave_way() == 1);
}

TEST_CASE("a peer over its own bound gives way among its own") {
    Life life(small());
    Entry* others = life.joined(9, host(9));
    life.table.finish(*others, at(0));  // older, and somebody else's
    Entry* entries[3];
    for (int i = 0; i < 3; ++i) entries[i] = life.joined(i, host(1));
    REQUIRE(life.hello(10, host(1)) == nullptr);
    life.table.detach(*entries[2], at(10));
    life.table.detach(*entries[1], at(20));
    life.joined(10, host(1));
    REQUIRE(life.gave_way() == 2);
    life.table.finish(*entries[0], at(30));
    life.joined(11, host(1));
    REQUIRE(life.gave_way() == 0);
    REQUIRE(life.knows(9));
    REQUIRE(life.table.size() == 4);
}

TEST_CASE("both bounds at once cost one place") {
    Limits limits = small();
    limits.sessions = 3;
    Life life(limits);
    Entry* entries[3];
    for (int i = 0; i < 3; ++i) entries[i] = life.joined(i, host(1));
    for (int i = 0; i < 3; ++i) life.table.detach(*entries[i], at(i));
    life.joined(5, host(1));
    REQUIRE(life.gave_way() == 0);
    REQUIRE(life.table.size() == 3);
}

TEST_CASE("only a join takes a place, and it may come too late") {
    Life life(small());
    Entry* entries[6];
    for (int i = 0; i < 6; ++i) entries[i] = life.joined(i, host(i));
    life.table.detach(*entries[3], at(0));
    Entry* first = life.hello(10, host(10));
    Entry* second = life.hello(11, host(11));
    REQUIRE(first != nullptr);
    REQUIRE(second != nullptr);
    REQUIRE(life.gave_way() == -1);  // asking for a session ends none
    REQUIRE(life.knows(3));
    REQUIRE(life.join(first));
    REQUIRE(life.gave_way() == 3);
    REQUIRE_FALSE(life.join(second));
    REQUIRE(life.gave_way() == -1);
    REQUIRE(second->owner == nullptr);
    REQUIRE(life.table.half_made() == 1);
}

TEST_CASE("what is half-made gives way to newer: the peer's own first, then the oldest of all") {
    Life life(small());
    for (int n = 0; n < 3; ++n) life.hello(n, host(1), n);  // two a peer
    REQUIRE(life.table.half_made() == 2);
    REQUIRE_FALSE(life.knows(0));
    life.hello(3, host(2), 3);
    life.hello(4, host(3), 4);
    life.hello(5, host(4), 5);
    REQUIRE(life.table.half_made() == 5);
    life.hello(6, host(5), 6);
    REQUIRE(life.table.half_made() == 5);
    REQUIRE_FALSE(life.knows(1));
    for (int n = 2; n < 7; ++n) REQUIRE(life.knows(n));
}

TEST_CASE("connections that shake hands give way in the same order") {
    Life life(small());
    REQUIRE(life.table.in_the_way(host(1)) == nullptr);
    Handshake* first = life.shake(host(1), 0);
    Handshake* second = life.shake(host(1), 1);
    REQUIRE(first->since() == at(0));
    REQUIRE(&first->peer() == &second->peer());
    REQUIRE(life.table.in_the_way(host(1)) == first);
    REQUIRE(life.table.in_the_way(host(2)) == nullptr);
    Handshake* third = life.shake(host(1), 2);
    REQUIRE(life.table.in_the_way(host(1)) == second);
    for (int n = 2; n < 5; ++n) life.shake(host(n), n);
    REQUIRE(life.table.shaking_hands() == 5);
    REQUIRE(life.table.in_the_way(host(9)) == second);
    life.shake(host(9), 9);
    REQUIRE(life.table.in_the_way(host(8)) == third);
    REQUIRE(life.table.oldest_handshake() == third);
    REQUIRE(life.table.shaking_hands() == 5);
    REQUIRE(life.table.peers() == 5);
    life.shaking.clear();
    REQUIRE(life.table.shaking_hands() == 0);
    REQUIRE(life.table.peers() == 0);
    REQUIRE(life.table.oldest_handshake() == nullptr);
}

TEST_CASE("everything but a connection in use expires, each after its own time") {
    Life life;
    REQUIRE(life.table.next_expiry(keep) == TimePoint::never());
    life.joined(1);
    REQUIRE(life.table.next_expiry(keep) == TimePoint::never());
    life.table.detach(*life.joined(2), at(0));
    REQUIRE(life.table.next_expiry(keep) == at(120'000));
    life.table.finish(*life.joined(3), at(0));
    REQUIRE(life.table.next_expiry(keep) == at(10'000));
    life.hello(4);
    REQUIRE(life.table.next_expiry(keep) == at(5'000));
    life.shake(host(1), -1);
    REQUIRE(life.table.next_expiry(keep) == at(4'999));

    REQUIRE(life.table.late(at(4'998)) == nullptr);
    REQUIRE(life.table.late(at(4'999)) == life.shaking.front().get());
    life.shaking.clear();
    REQUIRE(life.table.late(at(1'000'000)) == nullptr);
    const auto expires = [&](std::int64_t when, int n) {
        REQUIRE(life.table.expired(at(when - 1), keep) == nullptr);
        Entry* entry = life.table.expired(at(when), keep);
        REQUIRE(entry == life.table.find(identity(n).id));
        REQUIRE(entry != nullptr);
        life.table.erase(entry);
    };
    expires(5'000, 4);
    expires(10'000, 3);
    expires(120'000, 2);
    REQUIRE(life.table.expired(TimePoint::never(), keep) == nullptr);
    REQUIRE(life.knows(1));
    REQUIRE(life.table.next_expiry(Duration::unlimited()) == TimePoint::never());
}

TEST_CASE("a session is detached from the moment it is, however long it was attached") {
    Life life;
    Entry* entry = life.joined(1);
    life.table.detach(*entry, at(100));
    REQUIRE(life.join(entry, 90'000));
    REQUIRE(life.table.expired(at(300'000), keep) == nullptr);
    life.table.detach(*entry, at(300'000));
    REQUIRE(life.table.expired(at(419'999), keep) == nullptr);
    REQUIRE(life.table.expired(at(420'000), keep) == entry);
}

TEST_CASE("every peer has a budget of memory within that of all") {
    Limits limits;
    limits.replay_bytes = 1000;
    limits.replay_bytes_per_peer = 600;
    Life life(limits);
    Budget& one = life.joined(1, host(1))->peer().budget;
    Budget& same = life.joined(2, host(1))->peer().budget;
    Budget& two = life.joined(3, host(2))->peer().budget;
    REQUIRE(&one == &same);
    REQUIRE(one.charge(500));
    REQUIRE_FALSE(same.charge(101));
    REQUIRE_FALSE(two.charge(501));
    REQUIRE(two.charge(500));
    REQUIRE_FALSE(one.charge(1));
    one.credit(500);
    two.credit(500);
    REQUIRE(two.charge(600));
    two.credit(600);
}

TEST_CASE("floods of handshakes disturb no session, and memory stays bounded") {
    Limits limits;
    limits.sessions = 1000;
    limits.half_made = 64;
    limits.half_made_per_peer = 16;
    Life life(limits);
    for (int n = 0; n < 1000; ++n) {
        Entry* entry = life.joined(n, host(n % 500), n);
        if (n % 2 == 0) life.table.detach(*entry, at(n));
    }
    const bool one_peer = GENERATE(true, false);
    std::size_t most_shaking = 0, most_half_made = 0, most_peers = 0;
    for (int n = 0; n < 20'000; ++n) {
        const IpAddress ip = one_peer ? host(600) : host(1000 + n);
        Handshake* handshake = life.shake(ip, 2000);
        REQUIRE(life.table.create(identity(10'000 + n), handshake->peer(), at(2000)) != nullptr);
        most_shaking = std::max(most_shaking, life.table.shaking_hands());
        most_half_made = std::max(most_half_made, life.table.half_made());
        most_peers = std::max(most_peers, life.table.peers());
    }
    REQUIRE(most_shaking == (one_peer ? 16 : 64));
    REQUIRE(most_half_made == (one_peer ? 16 : 64));
    REQUIRE(most_peers <= 500u + (one_peer ? 1 : 128));
    REQUIRE(life.table.size() == 1000);
    for (int n = 0; n < 1000; ++n) REQUIRE(life.knows(n));
    // In the middle of it, an honest client needs but two messages to get back, or in.
    REQUIRE(life.join(life.table.find(identity(0).id)));
    Entry* entry = life.hello(5000, host(7), 2000);
    REQUIRE(entry != nullptr);
    REQUIRE(life.join(entry));
    REQUIRE(life.gave_way() == 2);  // the one detached for longest
}

TEST_CASE("limits have bounds") {
    REQUIRE(Limits().valid());
    for (auto member : {&Limits::sessions, &Limits::sessions_per_peer, &Limits::half_made, &Limits::half_made_per_peer,
                        &Limits::replay_bytes, &Limits::replay_bytes_per_peer}) {
        Limits limits;
        limits.*member = 0;
        REQUIRE_FALSE(limits.valid());
        limits.*member = 1;
        REQUIRE(limits.valid());
    }
    Limits limits;
    limits.handshake = Duration();
    REQUIRE_FALSE(limits.valid());
}
