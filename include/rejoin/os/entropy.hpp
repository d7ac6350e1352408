// SPDX-License-Identifier: BSL-1.0
#pragma once

// `entropy(MutableBytes) -> Result<void>`: secrets from the system.
#include <rejoin/os/bsd/entropy.hpp>
#include <rejoin/os/linux/entropy.hpp>
#include <rejoin/os/windows/entropy.hpp>
