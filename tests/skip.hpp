// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdio>

namespace test {

inline bool skipped = false;

/// Says why a test cannot be made here; `return` from it then. The program ends with 77, by which ctest shows the test as skipped.
inline void skip(const char* why) {
    std::printf("skipped: %s\n", why);
    skipped = true;
}

}  // namespace test
