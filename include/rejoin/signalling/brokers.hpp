// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/index.hpp>
#include <rejoin/signalling/envelope.hpp>

namespace rejoin::inline v0_1::signalling {

/// What one broker has done for this peer.
struct Health {
    bool up = false;              ///< it is connected to
    bool suspect = false;         ///< it takes messages that do not arrive: it comes last
    std::uint64_t sent = 0;       ///< copies of messages that were given to it
    std::uint64_t refused = 0;    ///< that were not, as it takes nothing for now
    std::uint64_t confirmed = 0;  ///< that peers have told to have come
    std::uint64_t came = 0;       ///< copies of peers' messages that came by it
    std::uint64_t first = 0;      ///< of these, that were the first of their message
    Duration round_trip;          ///< from a message that arrived by it first to the acknowledgement: smoothed
};

/// Several brokers, by numbers from 0 to 31; a set of them is a bit each.
class Brokers {
public:
    static constexpr int count_max = static_cast<int>(Receipt::brokers_max);
    using Set = std::uint32_t;
    static constexpr Set one(int broker) { return Set{1} << broker; }

    /// Adds one that both sides know by that label; its number, or -1 when there are too many.
    int add(TextView label) {
        for (int i = 0; i < count_max; ++i)
            if ((present_ & one(i)) == 0) {
                present_ |= one(i);
                brokers_[i] = {};
                brokers_[i].label = hash_of(label);
                return i;
            }
        return -1;
    }
    void remove(int broker) { present_ &= ~one(broker); }
    bool has(int broker) const { return broker >= 0 && broker < count_max && (present_ & one(broker)) != 0; }
    const Health& health(int broker) const { return brokers_[broker].health; }
    Health& health(int broker) { return brokers_[broker].health; }
    Set up() const {
        Set set = 0;
        for (int i = 0; i < count_max; ++i)
            if (has(i) && brokers_[i].health.up) set |= one(i);
        return set;
    }

    /// The `copies` brokers that are up and come first in the order that the name gives them, by rendezvous hashing (Thaler, Ravishankar
    /// 1998), so that everybody comes to the same; all for 0. Those under suspicion come last, but are tried now and then.
    Set choose(TextView name, int copies, TimePoint now) {
        Set chosen = 0, left = up();
        if (copies == 0) return left;
        for (int n = 0; left != 0 && n < copies; ++n) {
            int best = -1;
            for (int i = 0; i < count_max; ++i)
                if ((left & one(i)) != 0 && (best < 0 || before(i, best, name))) best = i;
            left &= ~one(best);
            chosen |= one(best);
        }
        for (int i = 0; i < count_max; ++i)
            if ((left & one(i)) != 0 && brokers_[i].health.suspect && brokers_[i].try_at <= now) chosen |= one(i);
        for (int i = 0; i < count_max; ++i)
            if ((chosen & one(i)) != 0 && brokers_[i].health.suspect) brokers_[i].try_at = now + try_again;
        return chosen;
    }

    /// A copy of a message was given to it.
    void sent(int broker, TimePoint now) {
        Broker& b = brokers_[broker];
        ++b.health.sent;
        if (b.unconfirmed++ == 0) b.unconfirmed_since = now;
    }
    /// A peer has told that so many more copies have come by it.
    void confirmed(int broker, std::uint32_t copies) {
        if (!has(broker) || copies == 0) return;
        brokers_[broker].health.confirmed += copies;
        brokers_[broker].health.suspect = false;
        brokers_[broker].unconfirmed = 0;
    }
    /// A peer has told of copies: those brokers that took as many without one arriving are suspects.
    void look(TimePoint now) {
        for (int i = 0; i < count_max; ++i) {
            Broker& b = brokers_[i];
            if (!has(i) || b.health.suspect || b.unconfirmed < suspicious || now - b.unconfirmed_since < suspicious_after) continue;
            b.health.suspect = true;
            b.try_at = now + try_again;
        }
    }
    void took(int broker, Duration round_trip) {
        Duration& smoothed = brokers_[broker].health.round_trip;
        smoothed = smoothed == Duration() ? round_trip : (smoothed * 7 + round_trip) / 8;
    }

private:
    // Eight may be lost with a connection that breaks, and not within two seconds.
    static constexpr std::uint32_t suspicious = 8;
    static constexpr Duration suspicious_after = Duration::seconds(2), try_again = Duration::seconds(10);

    struct Broker {
        Health health;
        std::uint64_t label = 0;
        std::uint32_t unconfirmed = 0;  // copies since one was confirmed
        TimePoint unconfirmed_since;
        TimePoint try_at;
    };
    bool before(int a, int b, TextView name) const {
        const Broker &x = brokers_[a], &y = brokers_[b];
        if (x.health.suspect != y.health.suspect) return y.health.suspect;
        return hash_of(name, x.label) > hash_of(name, y.label);
    }

    Broker brokers_[count_max];
    Set present_ = 0;
};

}  // namespace rejoin::inline v0_1::signalling
