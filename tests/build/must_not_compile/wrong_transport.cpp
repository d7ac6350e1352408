// SPDX-License-Identifier: BSL-1.0
// expect: TransportConnection.*c\.want_writable\(\)
#include <rejoin/pipe.hpp>

// A connection that nobody can wait for.
class Hasty : private rejoin::TcpConnection {
public:
    using TcpConnection::abort, TcpConnection::end, TcpConnection::local_endpoint, TcpConnection::open, TcpConnection::pause,
        TcpConnection::paused, TcpConnection::peer_endpoint, TcpConnection::set_observer, TcpConnection::set_read_limit,
        TcpConnection::TcpConnection, TcpConnection::write;
};
struct HastyTcp : rejoin::Tcp {
    using Connection = Hasty;
};

void connect(rejoin::Loop& loop) { rejoin::Pipe<rejoin::NoEvents, HastyTcp, rejoin::FailFast> pipe(loop); }
