// SPDX-License-Identifier: BSL-1.0
#pragma once

// `Mutex`, `Lock`, `start_thread`: all that the library knows of threads. Name resolution and `Loop::post` are their users.
#include <rejoin/os/posix/thread.hpp>
