// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <rejoin/core/version.hpp>

namespace rejoin::inline v0_1 {

/// What a socket is, as far as one has to know before using it.
enum class SocketKind : std::uint8_t {
    none,      ///< no socket, or nobody has said
    stream,    ///< connected: TCP or Unix
    listener,  ///< waits for connections
    datagram,  ///< UDP
};

}  // namespace rejoin::inline v0_1
