// SPDX-License-Identifier: BSL-1.0
// expect: EventSource.*seen\.state\(\)
#include <rejoin/pipe.hpp>

// Knows nothing of the network's state.
struct Deaf {
    static Deaf& of(rejoin::Loop& loop) { return loop.service<Deaf>(); }
    explicit Deaf(rejoin::Loop&) {}
    void observe(rejoin::NetworkObserver&) {}
};

void connect(rejoin::Loop& loop) { rejoin::Pipe<Deaf, rejoin::Tcp, rejoin::FailFast> pipe(loop); }
