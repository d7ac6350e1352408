// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/bytes.hpp>
#include <rejoin/core/error.hpp>

#if !defined(_WIN32) && !defined(__linux__)
#include <stdlib.h>

namespace rejoin::inline v0_1 {

/// Fills `to` with bytes fit for keys, from arc4random_buf(3), which never fails.
inline Result<void> entropy(MutableBytes to) {
    ::arc4random_buf(to.data(), to.size());
    return {};
}

}  // namespace rejoin::inline v0_1
#endif
