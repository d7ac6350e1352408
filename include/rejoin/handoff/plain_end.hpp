// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/local_socket.hpp>

namespace rejoin::inline v0_1::handoff {

/// A plain stream socket for a program that does not speak the session protocol, or cannot go on after a break: whatever goes over it goes
/// over `pipe`, which stays here and rejoins. `local` is an idle pipe over one plain connection, such as `Pipe<NoEvents, Tcp, FailFast>`,
/// which carries the bytes between the two, with back-pressure and half-close (`Pipe::link`); both pipes live as long as the conversation.
/// The caller owns the socket, and gives it away, as by `start_program`. It refuses descriptors where the system can. Errors of
/// `LocalSocket::stream_pair`, `Pipe::adopt` and `Pipe::link`.
template <class Local, class P>
Result<Socket> plain_end(Local& local, P& pipe) {
    Socket ours, theirs;
    if (auto made = LocalSocket::stream_pair(ours, theirs); !made) return made.error();
    static_cast<void>(LocalSocket::refuse_descriptors(ours) && LocalSocket::refuse_descriptors(theirs));
    if (auto adopted = local.adopt(std::move(ours)); !adopted) return adopted.error();
    if (auto linked = local.link(pipe); !linked) {
        local.abort();
        return linked.error();
    }
    return theirs;
}

}  // namespace rejoin::inline v0_1::handoff
