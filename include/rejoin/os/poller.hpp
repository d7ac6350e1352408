// SPDX-License-Identifier: BSL-1.0
#pragma once

// `Poller`: what a `Loop` asks of the system. Each system's file defines it whole, or is empty.
#include <rejoin/os/linux/poller.hpp>
