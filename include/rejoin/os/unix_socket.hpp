// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/socket.hpp>

namespace rejoin::inline v0_1 {

/// Who is at the other end of a Unix socket: as whom it ran when it connected, listened, or made the pair (SO_PEERCRED, getpeereid(3)).
struct PeerCredentials {
    std::uint32_t user = UINT32_MAX;
    std::uint32_t group = UINT32_MAX;
    std::int32_t process = 0;  ///< 0 where the system does not say
};

/// What one read of a Unix socket brought.
struct UnixReceived {
    std::size_t bytes = 0;    ///< 0: the end
    bool descriptor = false;  ///< with a descriptor on one of them
    Socket socket;            ///< which this is, where it is a socket; any other is closed
};

}  // namespace rejoin::inline v0_1

// `UnixSocket`, with one face on every system.
#include <rejoin/os/posix/unix_socket.hpp>
#include <rejoin/os/windows/unix_socket.hpp>
