// SPDX-License-Identifier: BSL-1.0
#pragma once

// `Socket`, with one face on every system.
#include <rejoin/os/linux/path_info.hpp>
#include <rejoin/os/posix/socket.hpp>
#include <rejoin/os/windows/socket.hpp>
