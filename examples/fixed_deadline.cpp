// SPDX-License-Identifier: BSL-1.0
// A recovery policy with a deadline: a player who is not back within eight seconds has lost the round, whatever the reason, and is to be
// told so then, not later. Until then it tries as hard as it may. Here a round is 0.8 s, and Faulty takes the network away.
#include <cstdio>
#include <rejoin.hpp>

namespace {

using rejoin::Action;
using rejoin::Duration;
using rejoin::TimePoint;

class FixedDeadline {
public:
    struct Options {
        Duration round = Duration::seconds(8);
        Duration pause = Duration::milliseconds(100);
    };
    FixedDeadline(const Options& options, std::uint64_t seed) : options_(&options), random_(seed) {}

    Action decide(const rejoin::Failure& failure, const rejoin::NetworkState&, TimePoint now) {
        if (lost_at_ == TimePoint()) lost_at_ = now;
        const Duration left = lost_at_ + options_->round - now;
        if (left <= Duration() || failure.kind == rejoin::FailureKind::session_unknown) return Action::give_up();
        if (failure.stage == rejoin::Stage::established) return Action::retry_after(Duration());
        // Not even without a network does it wait for longer than the round lasts.
        const Duration pause = random_.between(options_->pause / 2, options_->pause);
        return Action::retry_after(pause < left ? pause : left);
    }
    // An attempt that says nothing gets another beside it; the last one ends with the round.
    Duration patience(TimePoint now) {
        if (lost_at_ == TimePoint()) lost_at_ = now;
        const Duration left = lost_at_ + options_->round - now;
        return left > Duration() && left < options_->pause ? left : options_->pause;
    }
    void connected(TimePoint) { lost_at_ = {}; }

private:
    const Options* options_;
    rejoin::Random random_;
    TimePoint lost_at_;  // zero while there is a connection
};

using Player = rejoin::Pipe<rejoin::SystemEvents, rejoin::Resumable<rejoin::Faulty<rejoin::Tcp>>, FixedDeadline>;
using Server = rejoin::Listener<rejoin::Resumable<rejoin::Tcp>, rejoin::NoEvents>;

}  // namespace

int main() {
    rejoin::Loop loop;
    Server server(loop);
    if (!server.listen({"127.0.0.1", 0})) return 1;
    Player::Options options;
    options.recovery.round = Duration::milliseconds(800);
    options.give_up_after = options.recovery.round;  // also when every attempt is silent, and the policy is not asked
    Player player(loop, options);
    TimePoint lost;
    Duration took;
    player.on_state([&](rejoin::PipeState state, const rejoin::Failure& why) {
        std::printf("%s\n", describe(state, why).c_str());
        if (state == rejoin::PipeState::connected) {
            using rejoin::Fault;
            rejoin::Faults& faults = rejoin::Faults::of(loop);
            static_cast<void>(faults.add({Fault::At::write, Fault::Kind::error, rejoin::Errc::end_of_stream}));
            static_cast<void>(faults.add({Fault::At::open, Fault::Kind::error, rejoin::Errc::timed_out, {}, 1, 0, UINT32_MAX}));
            static_cast<void>(player.send("my move"));
        }
        if (state == rejoin::PipeState::interrupted && lost == TimePoint()) lost = loop.now();
        if (state == rejoin::PipeState::closed) took = loop.now() - lost, loop.stop();
    });
    if (!player.connect(server.local_endpoint())) return 1;
    static_cast<void>(loop.run_for(Duration::seconds(30)));
    const rejoin::Statistics s = player.statistics();
    std::printf("the round is lost after %lld ms and %llu attempts\n", static_cast<long long>(took.milliseconds()),
                static_cast<unsigned long long>(s.attempts));
    return lost != TimePoint() && took >= options.recovery.round - options.recovery.pause && s.attempts > 3 ? 0 : 1;
}
