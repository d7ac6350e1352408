// SPDX-License-Identifier: BSL-1.0
#pragma once

// The version, by Semantic Versioning 2.0.0. `#if` can compare REJOIN_VERSION: major * 10000 + minor * 100 + patch.
// The build reads these three lines; nothing else in the project repeats the numbers.
#define REJOIN_VERSION_MAJOR 0
#define REJOIN_VERSION_MINOR 1
#define REJOIN_VERSION_PATCH 0
#define REJOIN_VERSION (REJOIN_VERSION_MAJOR * 10000 + REJOIN_VERSION_MINOR * 100 + REJOIN_VERSION_PATCH)

/// Everything lives in `rejoin`, inside an inline namespace that names the version, so that two versions of the library can be
/// linked into one program.
namespace rejoin::inline v0_1 {}
