// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/address.hpp>
#include <rejoin/core/socket_kind.hpp>
#include <rejoin/session/state.hpp>

namespace rejoin::inline v0_1::handoff {

/// What moves beside the descriptor.
struct Luggage {
    /// Of a received one: as the sender calls it. Of one that is offered: where it is `none`, the system is asked.
    SocketKind kind = SocketKind::none;
    /// Anything that the two programs want to tell each other of it, as UTF-8. Of an offer that is not rejoin's: its `msg`, as JSON.
    Array<char> note;
    /// Bytes that the sender's program has read from the socket and not used: they come before all that is still to be read.
    Array<std::byte> unread;
    /// Bytes that the sender's program has queued: they come before all that is still to be written.
    Array<std::byte> unsent;
    /// Where the system passes no descriptors: what brings the socket. The channel's own.
    Array<std::byte> ticket;
    /// What a side that connects was asked to connect to; not `valid` on the side that accepts.
    Endpoint peer;
    /// The session, where there is one.
    bool resumable = false;
    session::State session;
};

}  // namespace rejoin::inline v0_1::handoff
