// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/time.hpp>
#include <rejoin/os/windows/winsock.hpp>

#if defined(_WIN32)

namespace rejoin::inline v0_1 {

namespace detail {

using InterruptTime = void(WINAPI*)(ULONGLONG*);

// The clocks that are read to 100 ns came with Windows 10, and are in no library that is linked by itself. The others move on with the
// timer interrupt, every 0.5 to 15.6 ms.
inline InterruptTime interrupt_time(const char* precise, InterruptTime coarse) {
    const HMODULE library = ::GetModuleHandleW(L"kernelbase.dll");
    const FARPROC found = library == nullptr ? nullptr : ::GetProcAddress(library, precise);
    return found == nullptr ? coarse : reinterpret_cast<InterruptTime>(reinterpret_cast<void*>(found));
}
inline TimePoint read_clock(InterruptTime clock) {
    ULONGLONG units = 0;  // of 100 ns
    clock(&units);
    return TimePoint::from_nanoseconds(static_cast<std::int64_t>(units) * 100);
}

}  // namespace detail

/// Now, on a clock that stands still while the host is suspended: QueryUnbiasedInterruptTime, to 100 ns where the system can. Any thread.
inline TimePoint monotonic_now() {
    static const detail::InterruptTime clock =
        detail::interrupt_time("QueryUnbiasedInterruptTimePrecise", [](ULONGLONG* to) WINAPI { ::QueryUnbiasedInterruptTime(to); });
    return detail::read_clock(clock);
}

/// Now, on a clock that goes on while the host is suspended: to be compared with itself only. How much it runs ahead of `monotonic_now()`
/// is how long the host has slept. Any thread.
inline TimePoint boottime_now() {
    static const detail::InterruptTime clock =
        detail::interrupt_time("QueryInterruptTimePrecise", [](ULONGLONG* to) WINAPI { *to = ::GetTickCount64() * 10'000; });
    return detail::read_clock(clock);
}

/// What the time is, in milliseconds since the beginning of 1970 (UTC): it may be set, and may jump. Any thread.
inline std::int64_t realtime_now() {
    FILETIME time{};  // in 100 ns since 1601
    ::GetSystemTimeAsFileTime(&time);
    const auto units = static_cast<std::int64_t>(std::uint64_t{time.dwHighDateTime} << 32 | time.dwLowDateTime);
    return (units - 116'444'736'000'000'000) / 10'000;
}

}  // namespace rejoin::inline v0_1
#endif
