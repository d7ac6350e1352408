// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/os/ready.hpp>
#include <rejoin/os/socket.hpp>

namespace rejoin::inline v0_1 {

/// Who is at the other end of a local socket: as whom it ran when it connected, listened, or made the pair (SO_PEERCRED, getpeereid(3),
/// GetNamedPipeClientProcessId).
struct PeerCredentials {
    /// Users have no numbers on Windows: there 0 is the user of this process, and UINT32_MAX any other.
    std::uint32_t user = UINT32_MAX;
    std::uint32_t group = UINT32_MAX;
    std::int32_t process = 0;  ///< 0 where the system does not say
};

/// What one read of a local socket brought.
struct LocalReceived {
    std::size_t bytes = 0;    ///< 0: the end
    bool descriptor = false;  ///< with a descriptor on one of them
    Socket socket;            ///< which this is, as far as anybody knows: `Socket::check_in` says whether it is one
};

}  // namespace rejoin::inline v0_1

// `LocalSocket`: a stream between two processes of this host, over which sockets go. `UnixSocket`, or on Windows `NamedPipe`.
#include <rejoin/os/posix/unix_socket.hpp>
#include <rejoin/os/windows/named_pipe.hpp>
