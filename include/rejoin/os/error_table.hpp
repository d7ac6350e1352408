// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/posix/error_table.hpp>
#include <rejoin/os/windows/error_table.hpp>

namespace rejoin::inline v0_1::detail {

// Of the system that is compiled for.
#if defined(_WIN32)
inline constexpr const ErrorTables& host_tables = windows_tables;
#else
inline constexpr const ErrorTables& host_tables = posix_tables;
#endif

}  // namespace rejoin::inline v0_1::detail
