// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/error.hpp>

#if !defined(_WIN32)
#include <errno.h>
#include <pthread.h>
#include <signal.h>

namespace rejoin::inline v0_1 {

/// A mutual exclusion lock (pthread_mutex_t).
class Mutex {
public:
    Mutex() = default;
    Mutex(const Mutex&) = delete;
    ~Mutex() { ::pthread_mutex_destroy(&mutex_); }
    void lock() { ::pthread_mutex_lock(&mutex_); }
    void unlock() { ::pthread_mutex_unlock(&mutex_); }

private:
    pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
};

/// Runs `body(argument)` on a new thread that nobody joins. The thread takes no signals: they belong to the program's own threads.
inline Result<void> start_thread(void* (*body)(void*), void* argument) {
    pthread_attr_t attributes;
    if (const int error = ::pthread_attr_init(&attributes); error != 0) return Error::system(error);
    ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigset_t all, before;
    sigfillset(&all);  // a macro, on macOS
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    const int error = ::pthread_create(&thread, &attributes, body, argument);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::pthread_attr_destroy(&attributes);
    if (error != 0) return Error::system(error);
    return {};
}

}  // namespace rejoin::inline v0_1
#endif
