// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/random.hpp>
#include <rejoin/network/state.hpp>
#include <rejoin/recovery/action.hpp>
#include <rejoin/recovery/failure.hpp>

namespace rejoin::inline v0_1 {

/// A recovery policy that does not let go: jittered backoff within a retry budget, quick overlapping attempts just after a break, no
/// attempt while there is no route, and one at once when the network is back. Pure: time comes in, and the seed from the pipe.
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
        /// Attempts at hand, and how long it takes for one more: a peer that fails at once is not hammered, even by a jitter that
        /// draws short pauses. An attempt without a route is not counted.
        int budget = 40;
        Duration budget_refill = Duration::seconds(5);
        /// After this long with a connection the next break starts with a clean slate.
        Duration stable_after = Duration::seconds(10);
        /// When the network comes back, the first attempt is spread over this long, so that a crowd does not arrive as one.
        Duration regain_jitter = Duration::milliseconds(50);
    };

    /// `seed` from the system's entropy: machines that start or fail together must not move in step.
    Persistent(const Options& options, std::uint64_t seed) : options_(&options), random_(seed) {}

    [[gnu::cold]] Action decide(const Failure& failure, const NetworkState& network, TimePoint now) {
        if (broken_at_ == TimePoint()) broken_at_ = now;
        switch (failure.kind) {
            case FailureKind::session_unknown:
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
                if (network.offline()) return Action::wait_for_network();
                if (failure.stage == Stage::resolving && !ever_connected_) return Action::give_up();
                break;
            case FailureKind::no_route:
            case FailureKind::name_service:
                if (network.offline()) return Action::wait_for_network();
                break;
            case FailureKind::reset:
            case FailureKind::ended:
            case FailureKind::unresponsive:
            case FailureKind::address_lost:
            case FailureKind::fenced:
                if (failure.stage == Stage::established && spend(now)) return Action::retry_after(Duration());
                break;
            default:
                break;
        }
        const Duration pause = back_off(now, failure.kind != FailureKind::no_route);
        return failure.stage == Stage::connecting ? Action::try_next(pause) : Action::retry_after(pause);
    }

    /// How long to leave an attempt alone before another is started beside it.
    Duration patience(TimePoint now) {
        if (broken_at_ == TimePoint()) broken_at_ = now;
        return now - broken_at_ < options_->fresh ? options_->overlap : back_off(now);
    }

    /// A connection is open and, where there is a session, joined.
    void connected(TimePoint now) {
        ever_connected_ = true;
        connected_at_ = now;
        broken_at_ = TimePoint();
    }

    /// The network has changed for the better, or in a way that may make an address work: when to try.
    Duration network_regained(TimePoint) {
        previous_pause_ = Duration();
        return random_.between(Duration(), options_->regain_jitter);
    }

private:
    // Decorrelated jitter: each pause between the base and three times the one before, capped. A long stable connection resets it.
    Duration back_off(TimePoint now, bool counts = true) {
        if (connected_at_ != TimePoint() && broken_at_ - connected_at_ >= options_->stable_after) previous_pause_ = Duration();
        connected_at_ = TimePoint();
        const Duration base = options_->backoff_base;
        const Duration high = previous_pause_ > base ? previous_pause_ * 3 : base * 3;
        Duration pause = random_.between(base, high < options_->backoff_cap ? high : options_->backoff_cap);
        previous_pause_ = pause;
        if (counts && !spend(now) && pause < options_->budget_refill) pause = options_->budget_refill;
        return pause;
    }
    bool spend(TimePoint now) {
        if (refilled_at_ == TimePoint()) {
            refilled_at_ = now;
            tokens_ = options_->budget;
        }
        const std::int64_t refill =
            options_->budget_refill.nanoseconds() > 0 ? (now - refilled_at_).nanoseconds() / options_->budget_refill.nanoseconds() : 0;
        if (refill > 0) {
            tokens_ = refill > options_->budget - tokens_ ? options_->budget : tokens_ + static_cast<int>(refill);
            refilled_at_ = now;
        }
        if (tokens_ == 0) return false;
        --tokens_;
        return true;
    }

    const Options* options_;
    Random random_;
    Duration previous_pause_;
    TimePoint broken_at_;
    TimePoint connected_at_;
    TimePoint refilled_at_;
    int tokens_ = 0;
    bool ever_connected_ = false;
};

}  // namespace rejoin::inline v0_1
