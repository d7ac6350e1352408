// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/windows/winsock.hpp>

#if defined(_WIN32)

namespace rejoin::inline v0_1 {

/// A mutual exclusion lock (SRWLOCK).
class Mutex {
public:
    Mutex() = default;
    Mutex(const Mutex&) = delete;
    void lock() { ::AcquireSRWLockExclusive(&mutex_); }
    void unlock() { ::ReleaseSRWLockExclusive(&mutex_); }

private:
    SRWLOCK mutex_ = SRWLOCK_INIT;
};

/// Runs `body(argument)` on a new thread that nobody joins.
inline Result<void> start_thread(void* (*body)(void*), void* argument) {
    struct Start {
        void* (*body)(void*);
        void* argument;
        static DWORD WINAPI run(void* start) {
            const Start copy = *static_cast<Start*>(start);
            delete static_cast<Start*>(start);
            copy.body(copy.argument);
            return 0;
        }
    };
    auto* start = new (std::nothrow) Start{body, argument};
    if (start == nullptr) return Errc::out_of_memory;
    const HANDLE thread = ::CreateThread(nullptr, 0, &Start::run, start, 0, nullptr);
    if (thread == nullptr) {
        delete start;
        return Error::system(static_cast<int>(::GetLastError()));
    }
    ::CloseHandle(thread);
    return {};
}

}  // namespace rejoin::inline v0_1
#endif
