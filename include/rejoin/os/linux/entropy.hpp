// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/bytes.hpp>
#include <rejoin/core/error.hpp>

#if defined(__linux__)
#include <errno.h>
#include <sys/random.h>

namespace rejoin::inline v0_1 {

/// Fills `to` with bytes fit for keys, from getrandom(2). Waits only on a machine that has just booted and has no entropy yet.
inline Result<void> entropy(MutableBytes to) {
    while (!to.empty()) {
        const ssize_t n = ::getrandom(to.data(), to.size(), 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return Error::system(errno);
        to = to.subspan(static_cast<std::size_t>(n));
    }
    return {};
}

}  // namespace rejoin::inline v0_1
#endif
