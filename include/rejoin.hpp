// SPDX-License-Identifier: BSL-1.0
#pragma once

// All of rejoin but what many programs do without: MQTT and the messages over it (rejoin/signal.hpp), firewalls and routers
// (rejoin/opening.hpp, rejoin/reach.hpp), and the adaptors to the standard types (rejoin/std.hpp) and to OpenSSL (rejoin/openssl.hpp).
#include <rejoin/handoff/plain_end.hpp>
#include <rejoin/handoff/push.hpp>
#include <rejoin/listener.hpp>
#include <rejoin/network/external_address.hpp>
#include <rejoin/network/scripted.hpp>
#include <rejoin/os/posix/program.hpp>
#include <rejoin/os/pull_socket.hpp>
#include <rejoin/pipe.hpp>
#include <rejoin/transport/faulty.hpp>
#include <rejoin/transport/tls.hpp>
