// SPDX-License-Identifier: BSL-1.0
#include "support.hpp"

namespace {

/// TCP that counts what is accepted.
struct CountingTcp : Tcp {
    struct Acceptor : TcpAcceptor {
        Acceptor(Loop& loop, Delegate<void(Socket&&)> accepted)
            : TcpAcceptor(loop, Delegate<void(Socket&&)>::to<&Acceptor::count>(this)), pass_on(accepted) {}
        void count(Socket&& socket) {
            ++accepted_sockets;
            pass_on(std::move(socket));
        }
        Delegate<void(Socket&&)> pass_on;
    };
    static inline int accepted_sockets = 0;
};

TEST_CASE("a crowd many times larger than the bound on handshakes gets in at the first attempt of each") {
    Loop loop;
    using Server = Listener<Resumable<CountingTcp>>;
    Server::Options options;
    options.limits.half_made = options.limits.half_made_per_peer = 8;
    Server server{loop, options};
    int conversations = 0;
    server.on_accept([&](Server::AcceptedPipe&) { ++conversations; });
    REQUIRE(server.listen({"127.0.0.1", 0}));

    constexpr int crowd = 300;
    std::list<ResumablePipe> pipes;
    for (int i = 0; i < crowd; ++i) REQUIRE(pipes.emplace_back(loop).connect(server.local_endpoint()));
    REQUIRE(until(loop, [&] { return conversations == crowd; }));
    REQUIRE(until(loop, [&] {
        for (auto& pipe : pipes)
            if (pipe.state() != PipeState::connected) return false;
        return true;
    }));
    REQUIRE(CountingTcp::accepted_sockets == crowd);
}

}  // namespace
