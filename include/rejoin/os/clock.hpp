// SPDX-License-Identifier: BSL-1.0
#pragma once

// `monotonic_now()`, `boottime_now()` and `realtime_now()`: the only place where the library reads a clock. Everything below the loop takes
// time as an argument.
#include <rejoin/os/bsd/clock.hpp>
#include <rejoin/os/linux/clock.hpp>
#include <rejoin/os/windows/clock.hpp>
