// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/state.hpp>
#include <rejoin/os/error_table.hpp>
#include <rejoin/recovery/failure.hpp>

namespace rejoin::inline v0_1 {

/// What else is known where an error came up.
struct FailureContext {
    IpAddress from;                         ///< the local address that was asked for; of family none: the system's choice
    const NetworkState* network = nullptr;  ///< as it was then; null: unknown
    IpAddress to = {};                      ///< the peer's; of family none: not known
};

namespace detail {

constexpr FailureKind kind_of(Errc code) {
    switch (code) {
        case Errc::ok:
            return FailureKind::none;
        case Errc::out_of_memory:
            return FailureKind::exhausted;
        case Errc::timed_out:
            return FailureKind::timed_out;
        case Errc::cancelled:
            return FailureKind::cancelled;
        case Errc::malformed:
        case Errc::version_mismatch:
        case Errc::proof_invalid:
            return FailureKind::protocol;
        case Errc::session_unknown:
            return FailureKind::session_unknown;
        case Errc::session_limit:
            return FailureKind::session_refused;
        case Errc::overloaded:
            return FailureKind::overloaded;
        case Errc::redirected:
            return FailureKind::redirected;
        case Errc::session_aborted:
            return FailureKind::session_aborted;
        case Errc::session_fenced:
            return FailureKind::fenced;
        case Errc::session_expired:
            return FailureKind::session_expired;
        case Errc::unresponsive:
            return FailureKind::unresponsive;
        case Errc::address_lost:
            return FailureKind::address_lost;
        case Errc::end_of_stream:
            return FailureKind::ended;
        case Errc::would_block:
        case Errc::invalid_argument:
        case Errc::invalid_state:
        case Errc::too_large:
        case Errc::unsupported:
            return FailureKind::invalid;
    }
    return FailureKind::other;
}

[[gnu::cold]] constexpr FailureKind kind_of(std::span<const ErrorRow> rows, std::int32_t code) {
    for (const ErrorRow& row : rows)
        if (row.code == code) return row.kind;
    return FailureKind::other;
}
[[gnu::cold]] inline bool can_send_from(const NetworkState& network, const IpAddress& ip) {
    for (const InterfaceAddress& a : network.addresses)
        if (a.usable() && same_address(a.ip, ip)) return true;
    return false;
}
[[gnu::cold]] inline bool is_neighbour(const NetworkState& network, const IpAddress& ip) {
    for (const InterfaceAddress& a : network.addresses)
        if (a.usable() && network.on_link(a.interface_index, ip)) return true;
    return false;
}
[[gnu::cold]] inline FailureKind kind_of(const ErrorTables& tables, Error error, Stage stage, const FailureContext& context) {
    if (error.domain() == Error::Domain::resolver) return kind_of(tables.resolver, error.code());
    for (const StageRow& row : tables.system_at)
        if (row.code == error.code() && row.stage == stage) return row.kind;
    if (error.code() == tables.address_not_available && stage == Stage::connecting) {
        // Nothing is wrong with an address that the system chose, or that is there and ready: no port is left on it.
        const NetworkState* const network = context.network;
        const bool there = network != nullptr && network->known && can_send_from(*network, context.from);
        if (context.from.family == Family::none || there) return FailureKind::exhausted;
    }
    // To neighbours nobody else could say that; one that is not there is EHOSTDOWN.
    if (tables.local_network_denied != 0 && error.code() == tables.local_network_denied && stage == Stage::connecting &&
        context.network != nullptr && is_neighbour(*context.network, context.to))
        return FailureKind::forbidden;
    return kind_of(tables.system, error.code());
}

}  // namespace detail

/// What an error means at the stage where it came up, and with what else is known. Total: a code without a row is `other`, and is kept.
/// Pure.
[[gnu::cold]] inline Failure classify(Error error, Stage stage, const FailureContext& context = {}) {
    if (!error) return {FailureKind::none, stage, error};
    if (error.domain() == Error::Domain::rejoin) return {detail::kind_of(static_cast<Errc>(error.code())), stage, error};
    return {detail::kind_of(detail::host_tables, error, stage, context), stage, error};
}

}  // namespace rejoin::inline v0_1
