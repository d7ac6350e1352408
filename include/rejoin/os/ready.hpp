// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <rejoin/core/version.hpp>

namespace rejoin::inline v0_1 {

/// What a descriptor is ready for, or is to be watched for. An error or a hang-up counts as both: the call that follows tells which.
enum class Ready : std::uint8_t { none = 0, readable = 1, writable = 2, both = 3 };

constexpr Ready operator|(Ready a, Ready b) { return static_cast<Ready>(static_cast<unsigned>(a) | static_cast<unsigned>(b)); }
constexpr bool has(Ready set, Ready what) { return (static_cast<unsigned>(set) & static_cast<unsigned>(what)) != 0; }

}  // namespace rejoin::inline v0_1
