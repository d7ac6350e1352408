// SPDX-License-Identifier: BSL-1.0
// A recovery policy that spares a metered link and its radio: quiet connections are probed twelve times as seldom there, and pauses between
// attempts are longer. Shown on a script of the network, from "wlan0" to "wwan0" and back.
#include <cstdio>
#include <cstring>
#include <rejoin.hpp>

namespace {

using rejoin::Duration;

class BatterySaver : public rejoin::Persistent {
public:
    struct Options : Persistent::Options {
        /// Interfaces whose names begin like this are metered.
        const char* metered = "wwan";
        int seldom = 12;
    };
    BatterySaver(const Options& options, std::uint64_t seed) : Persistent(options, seed), options_(&options) {}

    // How often a quiet connection is probed on this network. A NAT may forget one that is quiet for longer than it allows: then the
    // connection is found dead at the next probe, the session goes on, and the interval is halved.
    Duration liveness_interval(const rejoin::NetworkState& network, Duration usual) const {
        return metered(network) ? usual * options_->seldom : usual;
    }
    rejoin::Action decide(const rejoin::Failure& failure, const rejoin::NetworkState& network, rejoin::TimePoint now) {
        rejoin::Action action = Persistent::decide(failure, network, now);
        if (metered(network) && action.kind == rejoin::Action::Kind::retry_after) action.delay = action.delay * 4;
        return action;
    }

private:
    bool metered(const rejoin::NetworkState& network) const {
        const rejoin::Interface* active = network.find_interface(network.active_interface());
        return active != nullptr && std::strncmp(active->name.c_str(), options_->metered, std::strlen(options_->metered)) == 0;
    }
    const Options* options_;
};

using Pipe = rejoin::Pipe<rejoin::Scripted, rejoin::Resumable<rejoin::Tcp>, BatterySaver>;
using Server = rejoin::Listener<rejoin::Resumable<rejoin::Tcp>, rejoin::NoEvents>;

// The internet is reached by this interface.
void use(rejoin::Loop& loop, const char* name, std::uint32_t index) {
    rejoin::NetworkState state;
    rejoin::Interface link;
    link.index = index;
    link.name = rejoin::TextView(name);
    link.up = link.carrier = true;
    state.put(link);
    state.route[0] = {true, index, {}, {}};
    rejoin::Scripted::of(loop).set(std::move(state));
}

}  // namespace

int main() {
    rejoin::Loop loop;
    use(loop, "wlan0", 2);
    Server server(loop);
    if (!server.listen({"127.0.0.1", 0})) return 1;
    Pipe::Options options;
    options.transport.liveness_interval = Duration::milliseconds(50);  // a hundredth, so that it can be watched
    Pipe pipe(loop, options);
    if (!pipe.connect(server.local_endpoint())) return 1;

    unsigned long long probes[3] = {};
    for (int i = 0; i < 3; ++i) {
        use(loop, i == 1 ? "wwan0" : "wlan0", i == 1 ? 3 : 2);
        const auto before = pipe.statistics().probes;
        static_cast<void>(loop.run_for(Duration::milliseconds(1500)));
        probes[i] = pipe.statistics().probes - before;
        std::printf("%s: %llu probes in 1.5 s\n", i == 1 ? "wwan0" : "wlan0", probes[i]);
    }
    return pipe.state() == rejoin::PipeState::connected && probes[1] * 2 < probes[0] && probes[1] * 2 < probes[2] ? 0 : 1;
}
