// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/random.hpp>
#include <rejoin/network/state.hpp>
#include <rejoin/recovery/action.hpp>
#include <rejoin/recovery/failure.hpp>

namespace rejoin::inline v0_1 {

/// A recovery policy that does not let go: jittered backoff within a retry budget, quick overlapping attempts just after a break and just
/// after a change of the network, no attempt while there is no route, and one at once when the network is back. The budget, and a breaker
/// that keeps a crowd off a server that is down, are shared by all pipes of a loop to that server. Pure: time comes in, and the seed.
class Persistent {
public:
    struct Options {
        /// The shortest pause between two attempts that fail by themselves, and the longest.
        Duration backoff_base = Duration::milliseconds(200);
        Duration backoff_cap = Duration::seconds(30);
        /// An attempt that says nothing gets another beside it after this long, while the break is fresh: SYNs are repeated every
        /// second at best, so attempts a quarter of a second apart find a returned path sooner than any one of them.
        Duration overlap = Duration::milliseconds(250);
        Duration fresh = Duration::seconds(10);
        /// Attempts at hand for each pipe to one server, and how long it takes for one more: a peer that fails at once is not hammered,
        /// even by a jitter that draws short pauses. An attempt without a route, and one while the network settles, are not counted.
        int budget = 40;
        Duration budget_refill = Duration::seconds(5);
        /// After this long with a connection the next break starts with a clean slate.
        Duration stable_after = Duration::seconds(10);
        /// When the network comes back, the first attempt is spread over this long, so that a crowd does not arrive as one.
        Duration regain_jitter = Duration::milliseconds(50);
        /// For this long after a change of the network everything may fail although every address is right (an address that is still being
        /// checked, a router that does not forward yet, a name server that is not there yet): attempts then follow each other within
        /// `overlap`, and are not counted.
        Duration settling = Duration::seconds(5);
    };

    /// What all pipes of a loop to one server share. After `failures_max` failures in a row that lie with the server, it counts as down:
    /// one pipe goes on trying, and the others wait. When it answers, they come one after another, `pace` apart. So they do, too, where it
    /// has ended as many connections within `together` as a server does that is restarted at once.
    class Server {
    public:
        static constexpr int failures_max = 5;
        static constexpr Duration pace = Duration::milliseconds(4);
        static constexpr Duration together = Duration::milliseconds(100);

        /// Whether `who` may make an attempt now; if not, it waits.
        [[gnu::cold]] bool admit(const void* who, TimePoint now) {
            if (held_until_ != TimePoint()) {
                if (now < held_until_) return false;
                held_until_ = {};
                recover(now);
            }
            if (state_ == State::answers) return true;
            if (state_ == State::down) {
                if (prober_ == nullptr) prober_ = who;
                return prober_ == who;
            }
            if (now < next_) return false;
            if (now - next_ > over_after) state_ = State::answers;  // nobody has waited for a while
            next_ = now + pace;
            return true;
        }
        /// When whoever waits for longest is to try `admit` again; never: when this has been told of something.
        TimePoint next(TimePoint now) const {
            if (held_until_ > now) return held_until_;
            if (state_ == State::recovers) return next_;
            return state_ == State::down && prober_ != nullptr ? TimePoint::never() : now;
        }
        bool down() const { return state_ == State::down; }

    private:
        friend Persistent;
        enum class State : std::uint8_t { answers, down, recovers };
        static constexpr Duration over_after = Duration::seconds(1);

        [[gnu::noinline, gnu::cold]] void ended(TimePoint now) {
            if (endings_ == 0 || now - first_ending_ > together) {
                first_ending_ = now;
                endings_ = 0;
            }
            if (++endings_ >= failures_max && state_ == State::answers) recover(now);
        }
        void failed(const void* who) {
            if (++failures_ < failures_max) return;
            failures_ = failures_max;
            state_ = State::down;
            if (prober_ == nullptr) prober_ = who;
        }
        void answered(TimePoint now) {
            failures_ = 0;
            prober_ = nullptr;
            if (state_ == State::down) recover(now);
        }
        void recover(TimePoint now) {
            state_ = State::recovers;
            next_ = now;
        }
        void release(const void* who) {
            if (prober_ == who) prober_ = nullptr;
        }
        // Of what is spent, each pipe makes one good in every `budget_refill`.
        [[gnu::cold]] bool spend(const Options& options, TimePoint now) {
            const std::int64_t each = options.budget_refill.nanoseconds();
            if (spent_ == 0) refilled_at_ = now;
            const std::int64_t made_good = each > 0 ? (now - refilled_at_).nanoseconds() / each * pipes_ : spent_;
            if (made_good > 0) {
                spent_ = made_good < spent_ ? spent_ - made_good : 0;
                refilled_at_ = now;
            }
            if (spent_ >= std::int64_t{options.budget} * pipes_) return false;
            ++spent_;
            return true;
        }

        const void* prober_ = nullptr;
        TimePoint next_;
        TimePoint held_until_;
        TimePoint refilled_at_;
        TimePoint first_ending_;
        std::int64_t spent_ = 0;
        std::int64_t pipes_ = 0;
        int failures_ = 0;
        int endings_ = 0;
        State state_ = State::answers;
    };

    /// `seed` from the system's entropy: machines that start or fail together must not move in step.
    Persistent(const Options& options, std::uint64_t seed) : options_(&options), random_(seed) {}
    Persistent(const Persistent&) = delete;
    ~Persistent() { leave(); }

    /// Shares `server` with others from now on; it outlives this, or `leave`. Without one there is no budget and no breaker.
    void join(Server& server) {
        leave();
        server_ = &server;
        ++server.pipes_;
    }
    [[gnu::cold]] void leave() {
        if (server_ == nullptr) return;
        idle();
        --server_->pipes_;
        // What those who left have spent is not for the others to make good.
        const std::int64_t limit = std::int64_t{options_->budget} * (server_->pipes_ > 0 ? server_->pipes_ : 1);
        if (server_->spent_ > limit) server_->spent_ = limit;
        server_ = nullptr;
    }
    /// Nothing is tried for now: if this was the one that does it for all, another takes over.
    void idle() {
        if (server_ != nullptr) server_->release(this);
    }
    /// Whether an attempt may be made now; if not, `Server::next` says when to ask again.
    bool admitted(TimePoint now) { return server_ == nullptr || server_->admit(this, now); }

    [[gnu::cold]] Action decide(const Failure& failure, const NetworkState& network, TimePoint now) {
        if (broken_at_ == TimePoint()) broken_at_ = now;
        const bool answered = failure.stage == Stage::handshaking || failure.stage == Stage::resuming;
        bool settling = false;  // it may come of a network that is not ready
        switch (failure.kind) {
            case FailureKind::session_unknown:
                if (server_ != nullptr) server_->answered(now);
                return Action::give_up();
            case FailureKind::session_expired:
            case FailureKind::session_aborted:
            case FailureKind::cancelled:
                return Action::give_up();  // trying again would meet the same
            case FailureKind::invalid:
                if (failure.error.domain() == Error::Domain::rejoin) return Action::give_up();
                break;  // what the system calls a mistake may come of a connection torn down under the call
            case FailureKind::protocol:
                // A captive portal, or another stranger on the way: behind it the session is still there.
                if (failure.stage == Stage::resuming && !(failure.error == Errc::version_mismatch)) break;
                return Action::give_up();
            case FailureKind::name_unknown:
                // Without a network nobody was asked, whatever the system's resolver makes of that.
                if (network.offline()) return wait_for_network();
                if (failure.stage == Stage::resolving && !ever_connected_) return Action::give_up();
                settling = true;
                break;
            case FailureKind::no_route:
            case FailureKind::name_service:
                if (network.offline()) return wait_for_network();
                settling = true;
                break;
            case FailureKind::unreachable:
            case FailureKind::address_unavailable:
                settling = true;
                break;
            case FailureKind::timed_out:
                if (answered && server_ != nullptr) server_->failed(this);
                settling = !answered;
                break;
            case FailureKind::refused:
            case FailureKind::session_refused:
                if (server_ != nullptr) server_->failed(this);
                break;
            case FailureKind::overloaded: {
                const Duration asked = Duration::milliseconds(failure.retry_after_ms);
                const Duration away = asked < overloaded_cap ? asked : overloaded_cap;
                if (server_ != nullptr && server_->held_until_ < now + away) server_->held_until_ = now + away;
                const Duration pause = back_off(now, true);
                const Duration jittered = random_.between(away, away + away / 2);
                return Action::retry_after(pause > jittered ? pause : jittered);
            }
            case FailureKind::reset:
            case FailureKind::ended:
                if (failure.stage == Stage::established && server_ != nullptr) server_->ended(now);
                [[fallthrough]];
            case FailureKind::unresponsive:
            case FailureKind::address_lost:
            case FailureKind::fenced:
                if (failure.stage == Stage::established && spend(now)) return Action::retry_after(Duration());
                if (answered && server_ != nullptr) server_->failed(this);
                break;
            default:
                break;
        }
        const Duration pause = settling && now < settled_by_ ? random_.between(options_->overlap / 5, options_->overlap)
                                                             : back_off(now, failure.kind != FailureKind::no_route);
        return failure.stage == Stage::connecting ? Action::try_next(pause) : Action::retry_after(pause);
    }

    /// How long to leave an attempt alone before another is started beside it.
    [[gnu::cold]] Duration patience(TimePoint now) {
        if (broken_at_ == TimePoint()) broken_at_ = now;
        return now - broken_at_ < options_->fresh || now < settled_by_ ? options_->overlap : back_off(now, true);
    }

    /// A connection is open and, where there is a session, joined.
    [[gnu::cold]] void connected(TimePoint now) {
        if (server_ != nullptr) server_->answered(now);
        ever_connected_ = true;
        connected_at_ = now;
        broken_at_ = TimePoint();
    }

    /// The network has changed in a way that concerns this pipe's peer, or may.
    void network_changed(TimePoint now) { settled_by_ = now + options_->settling; }
    /// It has changed for the better, or in a way that may make an address work: when to try.
    Duration network_regained(TimePoint) {
        previous_pause_ = Duration();
        return random_.between(Duration(), options_->regain_jitter);
    }

private:
    static constexpr Duration overloaded_cap = Duration::seconds(120);

    Action wait_for_network() {
        idle();
        return Action::wait_for_network();
    }
    bool spend(TimePoint now) { return server_ == nullptr || server_->spend(*options_, now); }
    // Decorrelated jitter: each pause between the base and three times the one before, capped. A long stable connection resets it.
    [[gnu::cold]] Duration back_off(TimePoint now, bool counts) {
        if (connected_at_ != TimePoint() && broken_at_ - connected_at_ >= options_->stable_after) previous_pause_ = Duration();
        connected_at_ = TimePoint();
        const Duration base = options_->backoff_base;
        const Duration high = previous_pause_ > base ? previous_pause_ * 3 : base * 3;
        Duration pause = random_.between(base, high < options_->backoff_cap ? high : options_->backoff_cap);
        previous_pause_ = pause;
        if (counts && !spend(now) && pause < options_->budget_refill) pause = options_->budget_refill;
        return pause;
    }

    const Options* options_;
    Server* server_ = nullptr;
    Random random_;
    Duration previous_pause_;
    TimePoint broken_at_;
    TimePoint connected_at_;
    TimePoint settled_by_;
    bool ever_connected_ = false;
};

}  // namespace rejoin::inline v0_1
