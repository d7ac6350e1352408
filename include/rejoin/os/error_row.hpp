// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <rejoin/core/failure_kind.hpp>
#include <span>

namespace rejoin::inline v0_1::detail {

// What a code means; and where that depends on the stage.
struct ErrorRow {
    std::int16_t code;
    FailureKind kind;
};
struct StageRow {
    std::int16_t code;
    Stage stage;
    FailureKind kind;
};
// The codes of one system.
struct ErrorTables {
    std::span<const ErrorRow> system;
    std::span<const StageRow> system_at;
    std::span<const ErrorRow> resolver;
    std::int16_t address_not_available;  // EADDRNOTAVAIL, as the system numbers it
    // What connecting to a neighbour comes to where the user has not given the program the local network (macOS 15), which nothing else
    // tells; 0: there is no such permission.
    std::int16_t local_network_denied = 0;
};

}  // namespace rejoin::inline v0_1::detail
