// SPDX-License-Identifier: BSL-1.0
// expect: RecoveryPolicy.*policy\.decide\(failure, network, now\)
#include <rejoin/pipe.hpp>

// Decides without being told of the network.
struct Blind {
    struct Options {};
    Blind(const Options&, std::uint64_t) {}
    rejoin::Action decide(const rejoin::Failure&) { return rejoin::Action::give_up(); }
};

void connect(rejoin::Loop& loop) { rejoin::Pipe<rejoin::NoEvents, rejoin::Tcp, Blind> pipe(loop); }
