// SPDX-License-Identifier: BSL-1.0
#pragma once

// `Poller`: what a `Loop` asks of the system. Each system's file defines it whole, or is empty. Where REJOIN_POLL is defined, in every
// unit of the program alike, it is poll(2) on any system.
#include <rejoin/os/bsd/poller.hpp>
#include <rejoin/os/linux/poller.hpp>
#include <rejoin/os/poll_poller.hpp>
