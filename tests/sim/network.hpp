// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/bytes.hpp>
#include <rejoin/core/random.hpp>
#include <rejoin/core/time.hpp>

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <queue>
#include <vector>

// A network of ordered byte pipes in virtual time, as bad as TCP connections can be: delay, arbitrary segments, full buffers, stalls of
// one direction, cuts at any byte that either side notices sooner, later or never. Everything follows from one seed.
namespace sim {

using rejoin::Bytes;
using rejoin::Duration;
using rejoin::Random;
using rejoin::TimePoint;

/// What happens next, in order of time and then of arrival.
class Events {
public:
    TimePoint now() const { return now_; }
    void after(Duration d, std::function<void()> call) { queue_.push({now_ + d, ++count_, std::move(call)}); }
    /// False when nothing is left to happen.
    bool run_one() {
        if (queue_.empty()) return false;
        auto call = std::move(const_cast<Event&>(queue_.top()).call);
        now_ = queue_.top().at;
        queue_.pop();
        call();
        return true;
    }
    std::uint64_t count() const { return count_; }

private:
    struct Event {
        TimePoint at;
        std::uint64_t number;
        std::function<void()> call;
        bool operator<(const Event& other) const { return other.at != at ? other.at < at : other.number < number; }
    };
    std::priority_queue<Event> queue_;
    TimePoint now_;
    std::uint64_t count_ = 0;
};

/// A program: stopped for a while, nothing reaches it, its timers included, and then all of it at once. Its clock has its own origin.
struct Process {
    TimePoint stopped_until;
    Duration clock;
};

/// Hears what happens at one side of a link; may close it, or destroy itself, in any call.
class Observer {
public:
    virtual void on_bytes(Bytes bytes) = 0;
    virtual void on_writable() = 0;
    virtual void on_lost() = 0;  ///< ended or reset

protected:
    ~Observer() = default;
};

struct Weather {
    Duration delay = Duration::milliseconds(10);
    Duration jitter = Duration::milliseconds(10);
    std::size_t buffer = 4096;
};

/// One connection. Side 0 opened it, side 1 accepted it.
class Link : public std::enable_shared_from_this<Link> {
public:
    Link(Events& events, Random& random, const Weather& weather, Process& opener, Process& accepter)
        : events_(events), random_(random), weather_(weather), process_{&opener, &accepter} {}

    void set_observer(int side, Observer* observer) { observer_[side] = observer; }

    /// Takes what fits, or a part of that; 0 asks for `on_writable`.
    std::size_t write(int side, Bytes bytes) {
        Way& way = ways_[side];
        std::size_t n = std::min(bytes.size(), weather_.buffer - std::min(way.outstanding, weather_.buffer));
        if (n > 1 && random_.below(4) == 0) n = 1 + random_.below(n);
        if (side == 0 && said.size() < 1024) said.insert(said.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
        if (n < bytes.size()) way.writable_wanted = true;
        if (n == 0) return 0;
        way.outstanding += n;
        if (!way.dead) {
            way.bytes.insert(way.bytes.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
            const TimePoint arrival = std::max(way.last_arrival, events_.now() + delay());
            way.last_arrival = arrival;
            way.arrivals.push_back({arrival, n});
            look(side, arrival);
        } else if (way.writable_wanted) {
            way.writable_wanted = false;  // nobody will acknowledge: the buffer stays full
        }
        return n;
    }
    /// The program closes its side: the other one hears of it behind what is on its way, or, reset, at once.
    void close(int side) {
        if (observer_[side] == nullptr) return;
        observer_[side] = nullptr;
        Way& way = ways_[side];
        if (way.dead) return;
        if (random_.below(3) == 0) way.clear();
        way.end = std::max(way.last_arrival, events_.now() + delay());
        look(side, way.end);
        ways_[1 - side].dead = true;
    }
    bool closed() const { return observer_[0] == nullptr && observer_[1] == nullptr; }
    bool dead() const { return ways_[0].dead || ways_[1].dead; }

    /// Nothing goes through one direction for so long; what is on its way comes later.
    void stall(int side, Duration d) {
        Way& way = ways_[side];
        way.stalled_until = std::max(way.stalled_until, events_.now() + d);
        way.last_arrival = std::max(way.last_arrival, way.stalled_until);
        look(side, way.stalled_until);
    }
    /// The end of the link: of what is on its way a random part still arrives, cut at any byte. Each side notices after the given time,
    /// or never.
    void cut(Duration first_notices, Duration second_notices) {
        for (Way& way : ways_) {
            way.dead = true;
            way.bytes.resize(random_.below(way.bytes.size() + 1));
        }
        const Duration notices[] = {first_notices, second_notices};
        for (int side : {0, 1})
            if (notices[side] != Duration::unlimited()) later(notices[side], side, [this, side] { lost(side); });
    }

    /// What side 0 wrote first, for an eavesdropper.
    std::vector<std::byte> said;
    bool ghost = false;

private:
    struct Arrival {
        TimePoint at;
        std::size_t size;
    };
    struct Way {
        std::deque<std::byte> bytes;
        std::deque<Arrival> arrivals;
        std::size_t outstanding = 0;  // written and not read by the other side
        TimePoint last_arrival;
        TimePoint stalled_until;
        TimePoint end = TimePoint::never();
        bool dead = false;
        bool writable_wanted = false;
        void clear() {
            bytes.clear();
            arrivals.clear();
        }
    };

    Duration delay() { return weather_.delay + random_.between(Duration(), weather_.jitter); }
    // Calls when the process of `side` is there to hear it.
    void later(Duration d, int side, std::function<void()> call) {
        events_.after(d, [self = shared_from_this(), side, call = std::move(call)] { self->when_running(side, call); });
    }
    void when_running(int side, const std::function<void()>& call) {
        const TimePoint until = process_[side]->stopped_until;
        if (until > events_.now())
            events_.after(until - events_.now(), [self = shared_from_this(), side, call] { self->when_running(side, call); });
        else
            call();
    }
    void look(int side, TimePoint at) {
        later(at - events_.now(), 1 - side, [this, side] { arrive(side); });
    }
    // Hands over what of `side`'s bytes has arrived, in random pieces.
    void arrive(int side) {
        Way& way = ways_[side];
        const TimePoint now = events_.now();
        if (way.stalled_until > now) return;
        std::size_t arrived = 0;
        while (!way.arrivals.empty() && way.arrivals.front().at <= now) {
            arrived += way.arrivals.front().size;
            way.arrivals.pop_front();
        }
        arrived = std::min(arrived, way.bytes.size());
        const bool whole = random_.below(3) != 0;
        while (arrived > 0 && observer_[1 - side] != nullptr && !way.bytes.empty()) {
            arrived = std::min(arrived, way.bytes.size());  // a handler may have cut the link
            const std::size_t n = whole ? arrived : 1 + random_.below(std::min<std::size_t>(arrived, 1 + random_.below(1500)));
            const std::vector<std::byte> piece(way.bytes.begin(), way.bytes.begin() + static_cast<std::ptrdiff_t>(n));
            way.bytes.erase(way.bytes.begin(), way.bytes.begin() + static_cast<std::ptrdiff_t>(n));
            arrived -= n;
            way.outstanding -= std::min(n, way.outstanding);
            observer_[1 - side]->on_bytes(piece);
        }
        if (way.end <= now && way.arrivals.empty()) lost(1 - side);
        if (way.writable_wanted && way.outstanding < weather_.buffer && !way.dead) {
            way.writable_wanted = false;
            later(delay(), side, [this, side] {
                if (observer_[side] != nullptr) observer_[side]->on_writable();
            });
        }
    }
    void lost(int side) {
        ways_[0].dead = ways_[1].dead = true;
        if (Observer* observer = std::exchange(observer_[side], nullptr)) observer->on_lost();
    }

    Events& events_;
    Random& random_;
    const Weather& weather_;
    Process* process_[2];
    Observer* observer_[2] = {};
    Way ways_[2];
};

}  // namespace sim
