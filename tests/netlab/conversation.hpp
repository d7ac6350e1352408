// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdio>

#include "catch.hpp"
#include "lab.hpp"

namespace netlab {

using rejoin::Duration;
using rejoin::FailureKind;
using rejoin::PipeState;
using rejoin::ResumablePipe;
using rejoin::TimePoint;
using ServerOptions = rejoin::Listener<rejoin::Resumable<rejoin::Tcp>>::Options;

/// A client in this thread and a server in a process of its own, in conversation; or not yet, where it is not said to whom.
template <class P = ResumablePipe>
struct Conversation {
    using Options = typename P::Options;
    explicit Conversation(const Options& options = {}, const ServerOptions& server_options = {}, const char* to = "10.8.0.2",
                          const char* listen_at = "0.0.0.0")
        : start_server([this, listen_at, server_options] { serve(*server, listen_at, server_options); }),
          server_process(lab, Host::server, start_server),
          inside(lab),
          pipe(loop, options),
          talker(loop, pipe, client, Host::client) {
        rejoin::Resolver::of(loop).replace([](const char*, rejoin::Function<void(rejoin::Resolver::Answer)> done) {
            rejoin::Array<rejoin::IpAddress> both;
            both.push(rejoin::IpAddress::v4(10, 8, 0, 2));
            both.push(rejoin::IpAddress::v4(10, 9, 0, 2));
            done(std::move(both));
        });
        pipe.on_event([this](const rejoin::Event& event) {
            if (event.failure) met.push_back(event.failure);
            if (event.kind == rejoin::Event::Kind::joined) joined_at = event.at;
            if (std::getenv("REJOIN_NETLAB_TRACE") != nullptr)
                std::fprintf(stderr, "%.4f   %s\n", static_cast<double>(event.at.nanoseconds()) / 1e9, rejoin::describe(event).c_str());
        });
        REQUIRE(eventually(loop, [&] { return server->ready.load(); }));
        if (to == nullptr) return;
        REQUIRE(pipe.connect({to, port}));
        talks();
        began = rejoin::monotonic_now();
    }

    /// Both have heard a good deal of each other.
    void talks() {
        REQUIRE(until([&] { return client.received > 20'000 && server->received > 20'000; }));
    }
    /// Whether the pipe has met, or meets, a failure of that kind.
    bool meets(FailureKind kind) {
        return until([&] {
            for (const rejoin::Failure& failure : met)
                if (failure.kind == kind) return true;
            return false;
        });
    }
    /// Does it while the loop goes on.
    void in(Host host, const std::string& commands) {
        meanwhile(loop, [&] { lab.in(host, commands); });
    }

    template <class F>
    bool until(F condition) {
        return eventually(loop, condition);
    }
    /// Both directions work over another connection than before.
    bool rejoined() {
        return until([&] { return client.rejoined() > began && server->rejoined() > began; });
    }
    /// Bytes have arrived at both ends after this moment.
    bool data_after(TimePoint when) {
        return until([&] { return client.received_at > when.nanoseconds() && server->received_at > when.nanoseconds(); });
    }
    /// At neither end was there ever no connection.
    void nobody_saw_a_break() {
        REQUIRE(client.interruptions == 0);
        REQUIRE(server->interruptions == 0);
    }
    void report(const char* what) {
        std::printf("%s: data again after %.1f ms, %d connections\n", what,
                    static_cast<double>((server->rejoined() - began).nanoseconds()) / 1e6, static_cast<int>(client.connections));
    }
    /// Ends it in order; then nothing is lost, repeated or reordered, and the server has seen one conversation from begin to end.
    void end() {
        pipe.close();
        REQUIRE(until([&] { return client.closings == 1 && server->closings == 1; }));
        REQUIRE(client.failure == FailureKind::none);
        REQUIRE(server->failure == FailureKind::none);
        REQUIRE(difference(client, *server) == "");
        REQUIRE(difference(*server, client) == "");
        REQUIRE(client.unacknowledged == 0);
        REQUIRE(server->conversations == 1);
    }

    struct Inside {
        explicit Inside(const Lab& lab) { lab.enter(Host::client); }
    };
    Lab lab;
    Shared<Side> server;
    std::function<void()> start_server;
    Process server_process;
    Inside inside;
    rejoin::Loop loop;
    Side client;
    P pipe;
    Talker<P> talker;
    TimePoint began;      // of what happens
    TimePoint joined_at;  // the connection in use
    std::vector<rejoin::Failure> met;
};

}  // namespace netlab
