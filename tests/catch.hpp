// SPDX-License-Identifier: BSL-1.0
#pragma once

// Catch2: version 3, or the 2.13 that Debian 12 packages.
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;  // as version 2 has it
#else
#include <catch2/catch.hpp>
#endif
