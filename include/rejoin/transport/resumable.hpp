// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/session/session.hpp>

namespace rejoin::inline v0_1 {

/// The transport policy that puts a session over any stream transport: the conversation goes on over a new connection, from another
/// address if need be, with no byte lost, repeated or reordered. Both ends speak it; session/README.md has the protocol.
template <class T>
struct Resumable {
    using Connection = typename T::Connection;
    using Acceptor = typename T::Acceptor;
    using Session = session::Session;
    using Options = Session::Options;
};

}  // namespace rejoin::inline v0_1
