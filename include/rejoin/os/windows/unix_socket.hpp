// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/unix_socket.hpp>

#if defined(_WIN32)

namespace rejoin::inline v0_1 {

/// Windows passes no descriptors over Unix sockets: nothing that has to do so can be started there, and says so when it is compiled.
class UnixSocket {
public:
    static constexpr bool passes_descriptors = false;
    static Result<void> pair(Socket&, Socket&) { return Errc::unsupported; }
    static Result<PeerCredentials> peer_credentials(const Socket&) { return Errc::unsupported; }
    static bool trusted(const PeerCredentials&) { return false; }
    static bool refuse_descriptors(const Socket&) { return false; }
    static Result<std::size_t> send(const Socket&, Bytes, const Socket* = nullptr) { return Errc::unsupported; }
    static Result<UnixReceived> receive(const Socket&, MutableBytes) { return Errc::unsupported; }
    static bool gone(Error) { return true; }
};

}  // namespace rejoin::inline v0_1
#endif
