// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/loop.hpp>

#if !defined(_WIN32) && !defined(__linux__)
namespace rejoin::inline v0_1 {

/// Hears of nothing: who wants to know whether a file has changed reads it from time to time, as it has to with Linux' `FileWatch` too.
class FileWatch {
public:
    FileWatch(Loop&, Delegate<void()>) {}
    void watch(std::span<const char* const>) {}
};

}  // namespace rejoin::inline v0_1
#endif
