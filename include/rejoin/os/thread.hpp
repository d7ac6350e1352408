// SPDX-License-Identifier: BSL-1.0
#pragma once

// `Mutex`, `Lock`, `start_thread`: all that the library knows of threads. Name resolution and `Loop::post` are their users.
#include <rejoin/os/posix/thread.hpp>
#include <rejoin/os/windows/thread.hpp>

namespace rejoin::inline v0_1 {

/// Holds a `Mutex` for the length of a scope.
class Lock {
public:
    explicit Lock(Mutex& mutex) : mutex_(mutex) { mutex_.lock(); }
    Lock(const Lock&) = delete;
    ~Lock() { mutex_.unlock(); }

private:
    Mutex& mutex_;
};

}  // namespace rejoin::inline v0_1
