// SPDX-License-Identifier: BSL-1.0
// Regional servers, in the order of their measured distance: the nearest is tried first, and one that is down, full or busy gives way to
// the next at once. Three of them run here, at distances that Faulty makes up.
#include <cstdio>
#include <memory>
#include <rejoin.hpp>
#include <vector>

namespace {

using rejoin::Action;
using rejoin::Duration;
using rejoin::Endpoint;
using rejoin::FailureKind;
using rejoin::IpAddress;
using rejoin::TimePoint;

// Recovery: what lies with one server is no reason to wait while there is another.
class Regional : public rejoin::Persistent {
public:
    using Persistent::Persistent;
    Action decide(const rejoin::Failure& failure, const rejoin::NetworkState& network, TimePoint now) {
        const bool full = failure.kind == FailureKind::session_refused || failure.kind == FailureKind::overloaded;
        const bool silent = failure.kind == FailureKind::timed_out && failure.stage == rejoin::Stage::handshaking;
        if (!full && !silent) return Persistent::decide(failure, network, now);
        // When all of them say no, it is as long as the last one asks for, or a second.
        return Action::try_next(full && failure.retry_after_ms > 0 ? Duration::milliseconds(failure.retry_after_ms) : Duration::seconds(1));
    }
};

// Measures how long a connection to each server takes to open, and then tells in which order to try them. Whoever has not answered within a
// second comes last.
class Distances {
public:
    using Connection = rejoin::FaultyConnection<rejoin::TcpConnection>;
    Distances(rejoin::Loop& loop, const std::vector<Endpoint>& servers, rejoin::Function<void(rejoin::Array<IpAddress>)> done)
        : loop_(loop), done_(std::move(done)), began_(loop.now()) {
        for (const Endpoint& server : servers) {
            probes_.push_back(std::make_unique<Probe>(*this, server.ip()));
            if (!probes_.back()->connection.open(server, {})) probes_.back()->answered = true;
        }
        deadline_ = loop_.after(Duration::seconds(1), [this] { finish(); });
    }
    ~Distances() { loop_.cancel(deadline_); }

private:
    struct Probe final : rejoin::ConnectionObserver {
        Probe(Distances& d, const IpAddress& a) : distances(d), ip(a), connection(d.loop_, *this) {}
        void on_open() override { distances.heard(*this, true); }
        void on_error(rejoin::Error) override { distances.heard(*this, false); }
        bool on_bytes(rejoin::Bytes) override { return true; }
        bool on_writable() override { return true; }
        void on_end() override {}
        Distances& distances;
        IpAddress ip;
        bool answered = false;
        Connection connection;
    };
    void heard(Probe& probe, bool there) {
        probe.answered = true;
        if (there) {
            std::printf("%s is %lld ms away\n", to_text(probe.ip).c_str(), static_cast<long long>((loop_.now() - began_).milliseconds()));
            order_.push(probe.ip);
        }
        for (const auto& each : probes_)
            if (!each->answered) return;
        loop_.cancel(deadline_);
        deadline_ = loop_.after(Duration(), [this] { finish(); });
    }
    void finish() {
        for (const auto& each : probes_) {
            bool known = false;
            for (const IpAddress& ip : order_) known = known || ip == each->ip;
            if (!known) order_.push(each->ip);
        }
        probes_.clear();
        done_(std::move(order_));
    }

    rejoin::Loop& loop_;
    rejoin::Function<void(rejoin::Array<IpAddress>)> done_;
    const TimePoint began_;
    std::vector<std::unique_ptr<Probe>> probes_;
    rejoin::Array<IpAddress> order_;
    rejoin::TimerId deadline_ = 0;
};

using Player = rejoin::Pipe<rejoin::SystemEvents, rejoin::Resumable<rejoin::Tcp>, Regional>;
using Server = rejoin::Listener<rejoin::Resumable<rejoin::Tcp>, rejoin::NoEvents>;

}  // namespace

int main() {
    rejoin::Loop loop;
    std::vector<std::unique_ptr<Server>> servers;
    std::vector<Endpoint> endpoints;
    std::uint16_t port = 0;
    for (const char* address : {"127.0.0.2", "127.0.0.3", "127.0.0.4"}) {
        servers.push_back(std::make_unique<Server>(loop));
        if (auto listening = servers.back()->listen({address, port}); !listening) {
            std::printf("%s: %s\n", address, describe(rejoin::classify(listening.error(), rejoin::Stage::listening)).c_str());
            return 1;
        }
        endpoints.push_back(servers.back()->local_endpoint());
        port = endpoints.back().port();
    }
    // The third is the nearest, and full; then comes the first, and the second is far away.
    servers[2]->admit([](const rejoin::Newcomer&) { return rejoin::Admission::later(Duration::seconds(60)); });
    for (int milliseconds : {40, 120, 10})
        static_cast<void>(
            rejoin::Faults::of(loop).add({rejoin::Fault::At::open, rejoin::Fault::Kind::delay, {}, Duration::milliseconds(milliseconds)}));

    // The name of the game, looked up by what was measured.
    std::unique_ptr<Distances> distances;
    rejoin::Resolver::of(loop).replace([&](const char*, rejoin::Function<void(rejoin::Resolver::Answer)> done) {
        distances = std::make_unique<Distances>(loop, endpoints, [done = std::move(done)](rejoin::Array<IpAddress> order) mutable {
            done(rejoin::Resolver::Answer(std::move(order)));
        });
    });
    Player player(loop);
    player.on_event([](const rejoin::Event& event) { std::printf("  %s\n", describe(event).c_str()); });
    player.on_state([&](rejoin::PipeState state, const rejoin::Failure&) {
        if (state == rejoin::PipeState::connected) loop.after(Duration(), [&] { loop.stop(); });
    });
    if (!player.connect({"the.game", port})) return 1;
    static_cast<void>(loop.run_for(Duration::seconds(30)));
    return player.state() == rejoin::PipeState::connected && player.peer_endpoint().ip() == endpoints[0].ip() ? 0 : 1;
}
