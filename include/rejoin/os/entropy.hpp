// SPDX-License-Identifier: BSL-1.0
#pragma once

// `entropy(MutableBytes) -> Result<void>`: secrets from the system.
#include <rejoin/os/bsd/entropy.hpp>
#include <rejoin/os/linux/entropy.hpp>
#include <rejoin/os/windows/entropy.hpp>

namespace rejoin::inline v0_1 {

/// A seed for `Random`: not from a clock, as programs that start together must differ. 0 where the system has no entropy to give.
inline std::uint64_t random_seed() {
    std::byte bytes[8] = {};
    static_cast<void>(entropy(bytes));
    return load_big<std::uint64_t>(bytes);
}

}  // namespace rejoin::inline v0_1
