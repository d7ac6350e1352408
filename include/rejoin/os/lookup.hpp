// SPDX-License-Identifier: BSL-1.0
#pragma once

// `look_up(name)`, which waits, and `no_address`.
#include <rejoin/os/posix/lookup.hpp>
#include <rejoin/os/windows/lookup.hpp>
