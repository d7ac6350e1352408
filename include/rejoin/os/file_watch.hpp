// SPDX-License-Identifier: BSL-1.0
#pragma once

// `FileWatch`: who hears that files were changed. Each system's file defines it whole, or is empty.
#include <rejoin/os/linux/file_watch.hpp>
#include <rejoin/os/posix/file_watch.hpp>
