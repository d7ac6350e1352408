// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <map>
#include <memory>
#include <rejoin/signalling/exchange.hpp>
#include <set>
#include <string>
#include <vector>

#include "catch.hpp"

namespace sim {

using namespace rejoin;

struct SignallingTally {
    std::uint64_t messages = 0, delivered = 0, failed = 0, copies = 0, lost = 0, repeated = 0, changed = 0, replayed = 0, restarts = 0;
    std::uint64_t sent_again = 0, duplicates = 0, refused = 0, digest = 0;
};

/// Two peers and some brokers, which lose, repeat, delay, reorder, change and replay what they are given, and die and come back.
class SignallingWorld {
public:
    explicit SignallingWorld(std::uint64_t seed) : random_(seed), sealed_(random_.below(2) == 0) {
        brokers_.resize(1 + random_.below(4u));
        signalling::Limits limits;
        limits.copies = static_cast<int>(random_.below(3u));
        if (random_.below(3) == 0) limits.queue = 4096;
        if (random_.below(3) == 0) limits.held = 2048;
        for (int i = 0; i < 2; ++i) {
            peers_[i].exchange = std::make_unique<signalling::Exchange>(limits, random_.next());
            peers_[i].skew = static_cast<std::int64_t>(random_.below(40'000u)) - 20'000;
            REQUIRE(peers_[i].exchange->set_name(name(i)));
            if (sealed_) REQUIRE(peers_[i].exchange->share_key(name(1 - i), TextView("a secret of theirs").bytes()));
            for (std::size_t b = 0; b < brokers_.size(); ++b)
                REQUIRE(peers_[i].exchange->add_broker("broker " + std::to_string(b)) == static_cast<int>(b));
        }
    }

    SignallingTally run() {
        const TimePoint hostile_until = now_ + Duration::seconds(60), end = hostile_until + Duration::seconds(400);
        TimePoint next_send = now_, next_mischief = now_;
        while (now_ < end) {
            const bool hostile = now_ < hostile_until;
            if (hostile && next_mischief <= now_) {
                mischief();
                next_mischief = now_ + random_.between(Duration::milliseconds(10), Duration::seconds(3));
            }
            if (!hostile && !healed_) heal();
            if (hostile && next_send <= now_) {
                for (unsigned n = random_.below(5u); n > 0; --n) send(static_cast<int>(random_.below(2u)));
                next_send = now_ + random_.between(Duration::milliseconds(1), Duration::milliseconds(400));
            }
            for (int i = 0; i < 2; ++i) {
                peers_[i].exchange->expire(now_);
                flush(i);
            }
            // On to whatever is next.
            TimePoint next = end;
            const auto sooner = [&](TimePoint t) {
                if (t < next) next = t;
            };
            for (const Broker& broker : brokers_)
                if (!broker.queue.empty()) sooner(broker.queue.begin()->first);
            for (Peer& peer : peers_) sooner(peer.exchange->deadline());
            if (hostile) sooner(next_mischief), sooner(next_send), sooner(hostile_until);
            if (next <= now_) next = now_ + Duration::milliseconds(1);
            now_ = next;
            deliver();
        }
        check();
        return tally_;
    }

private:
    enum class Mood { honest, dead, lossy, black_hole, slow, liar };
    struct Letter {
        int to;
        std::string bytes;
    };
    struct Broker {
        Mood mood = Mood::honest;
        bool up[2] = {false, false};
        std::multimap<TimePoint, Letter> queue;
        std::vector<std::pair<TimePoint, Letter>> kept;  // to be told again
    };
    struct Sent {
        bool ordered = false, lasting = false, received = false, told = false, delivered = false;
    };
    struct Peer {
        std::unique_ptr<signalling::Exchange> exchange;
        std::int64_t skew = 0;
        std::map<signalling::Token, unsigned> tokens;
        std::vector<Sent> sent;  // what this one has sent
        unsigned last_ordered = 0;
        bool any_ordered = false;
    };

    static std::string name(int i) { return i == 0 ? "alice" : "bob"; }
    std::int64_t wall(int i) const { return 1'700'000'000'000 + now_.nanoseconds() / 1'000'000 + peers_[i].skew; }
    void note(std::uint64_t what) { tally_.digest = (tally_.digest ^ what) * 0x9e3779b97f4a7c15 + 1; }

    void send(int from) {
        Peer& peer = peers_[from];
        signalling::SendOptions options;
        options.ordered = random_.below(2) == 0;
        options.expiry = random_.below(8) == 0 ? Duration::milliseconds(200) : Duration::seconds(300);
        const auto number = static_cast<unsigned>(peer.sent.size());
        std::string text = std::to_string(number) + ":" + std::string(random_.below(200u), 'x');
        const auto token = peer.exchange->send(name(1 - from), TextView(text).bytes(), options, now_);
        if (!token) {
            REQUIRE(token.error() == Errc::would_block);
            return;
        }
        peer.tokens[*token] = number;
        Sent sent;
        sent.ordered = options.ordered;
        sent.lasting = options.expiry > Duration::seconds(1);
        peer.sent.push_back(sent);
        ++tally_.messages;
    }
    void flush(int i) {
        tell(i);
        for (signalling::Copy copy; peers_[i].exchange->next_copy(copy, now_, wall(i));) {
            Broker& broker = brokers_[static_cast<std::size_t>(copy.broker)];
            REQUIRE(broker.up[i]);
            ++tally_.copies;
            const bool taken = broker.mood != Mood::slow || random_.below(3) != 0;
            if (taken)
                carry(broker, {copy.to == TextView("alice") ? 0 : 1,
                               std::string(reinterpret_cast<const char*>(copy.bytes.data()), copy.bytes.size())});
            peers_[i].exchange->given(copy, taken, now_);
        }
        tell(i);
    }
    void carry(Broker& broker, Letter letter) {
        const auto soon = [&](int at_most) { return now_ + random_.between(Duration::milliseconds(1), Duration::milliseconds(at_most)); };
        switch (broker.mood) {
            case Mood::dead:
            case Mood::black_hole:
                ++tally_.lost;
                return;
            case Mood::lossy:
                if (random_.below(2) == 0) {
                    ++tally_.lost;
                    return;
                }
                break;
            case Mood::liar:
                if (random_.below(3) == 0) {
                    ++tally_.repeated;
                    broker.queue.emplace(soon(3000), letter);
                }
                if (random_.below(3) == 0 && broker.kept.size() < 50) broker.kept.emplace_back(now_, letter);
                // Without a seal a broker is believed.
                if (sealed_ && random_.below(3) == 0) {
                    ++tally_.changed;
                    letter.bytes[random_.below(letter.bytes.size())] ^= static_cast<char>(1u << random_.below(8u));
                }
                broker.queue.emplace(soon(5000), std::move(letter));
                return;
            default:
                break;
        }
        broker.queue.emplace(soon(broker.mood == Mood::slow ? 2000 : 30), std::move(letter));
    }
    void deliver() {
        for (std::size_t b = 0; b < brokers_.size(); ++b) {
            Broker& broker = brokers_[b];
            while (!broker.queue.empty() && broker.queue.begin()->first <= now_) {
                const Letter letter = std::move(broker.queue.begin()->second);
                broker.queue.erase(broker.queue.begin());
                if (!broker.up[letter.to]) continue;
                const TextView text(letter.bytes);
                peers_[letter.to].exchange->received(static_cast<int>(b), text.bytes(), now_, wall(letter.to));
                tell(letter.to);
            }
        }
    }
    void tell(int i) {
        Peer& peer = peers_[i];
        for (signalling::Event event; peer.exchange->next(event);) {
            REQUIRE(event.peer == TextView(name(1 - i)));
            if (event.kind != signalling::Event::Kind::message) {
                const unsigned number = peer.tokens.at(event.token);
                Sent& sent = peer.sent[number];
                REQUIRE_FALSE(sent.told);
                sent.told = true;
                sent.delivered = event.kind == signalling::Event::Kind::delivered;
                if (sent.delivered) REQUIRE(sent.received);
                sent.delivered ? ++tally_.delivered : ++tally_.failed;
                note(number * 2 + sent.delivered);
                continue;
            }
            REQUIRE(event.sealed == sealed_);
            const auto number = static_cast<unsigned>(std::strtoul(reinterpret_cast<const char*>(event.payload.data()), nullptr, 10));
            Peer& other = peers_[1 - i];
            REQUIRE(number < other.sent.size());
            Sent& sent = other.sent[number];
            REQUIRE_FALSE(sent.received);
            sent.received = true;
            if (sent.ordered) {
                REQUIRE((!other.any_ordered || number > other.last_ordered));
                other.any_ordered = true;
                other.last_ordered = number;
            }
            note(number);
        }
    }
    void set_up(std::size_t b, int i, bool up) {
        if (brokers_[b].up[i] == up) return;
        brokers_[b].up[i] = up;
        up ? peers_[i].exchange->broker_up(static_cast<int>(b), now_) : peers_[i].exchange->broker_down(static_cast<int>(b), now_);
    }
    void mischief() {
        const std::size_t b = random_.below(brokers_.size());
        Broker& broker = brokers_[b];
        switch (random_.below(5u)) {
            case 0:  // it dies, or comes back without what it had
                broker.queue.clear();
                broker.mood = broker.mood == Mood::dead ? Mood::honest : Mood::dead;
                for (int i = 0; i < 2; ++i) set_up(b, i, broker.mood != Mood::dead);
                ++tally_.restarts;
                break;
            case 1:  // one peer's connection breaks, or is there again
                if (broker.mood != Mood::dead) {
                    const int i = static_cast<int>(random_.below(2u));
                    set_up(b, i, !broker.up[i]);
                }
                break;
            case 2:
                for (auto& [when, letter] : broker.kept)
                    if (sealed_ || now_ - when < Duration::seconds(100)) {
                        ++tally_.replayed;
                        broker.queue.emplace(now_ + random_.between(Duration(), Duration::seconds(5)), letter);
                    }
                break;
            default:
                if (broker.mood == Mood::dead) break;
                broker.mood = static_cast<Mood>(static_cast<int>(Mood::lossy) + static_cast<int>(random_.below(4u)));
                if (random_.below(3) == 0) broker.mood = Mood::honest;
        }
    }
    // One honest broker is enough.
    void heal() {
        healed_ = true;
        const std::size_t honest = random_.below(brokers_.size());
        for (std::size_t b = 0; b < brokers_.size(); ++b) {
            if (b == honest) brokers_[b].mood = Mood::honest;
            if (brokers_[b].mood != Mood::dead)
                for (int i = 0; i < 2; ++i) set_up(b, i, b == honest || random_.below(2) == 0);
            for (auto& [when, letter] : brokers_[b].kept)
                if (sealed_)
                    brokers_[b].queue.emplace(now_ + Duration::seconds(static_cast<std::int64_t>(200 + random_.below(200u))), letter);
        }
        set_up(honest, 0, true);
        set_up(honest, 1, true);
    }
    void check() {
        for (Peer& peer : peers_) {
            for (const Sent& sent : peer.sent) {
                REQUIRE(sent.told);
                if (sent.lasting) REQUIRE(sent.delivered);
            }
            REQUIRE(peer.exchange->queued() == 0);
            const signalling::Counters& c = peer.exchange->counters();
            tally_.sent_again += c.sent_again;
            tally_.duplicates += c.duplicates;
            tally_.refused += c.malformed + c.too_large + c.unsealed + c.forged + c.stale;
            if (!sealed_) REQUIRE(c.malformed + c.unsealed + c.forged + c.stale + c.too_large == 0);
        }
    }

    Random random_;
    const bool sealed_;
    bool healed_ = false;
    TimePoint now_ = TimePoint::from_nanoseconds(1'000'000'000);
    std::vector<Broker> brokers_;
    Peer peers_[2];
    SignallingTally tally_;
};

}  // namespace sim
