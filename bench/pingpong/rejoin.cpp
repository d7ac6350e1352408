// SPDX-License-Identifier: BSL-1.0
// Sends 64 bytes back and forth N times through `Pipe<NoEvents, Tcp, FailFast>`. The other side, a child process, is a blocking echo.
// pingpong.sh counts what this costs against epoll.cpp.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <rejoin.hpp>

#include "echo.hpp"

int main(int argc, char** argv) {
    if (argc > 1 && std::strcmp(argv[1], "echo") == 0) return echo(3), 0;
    long left = argc > 1 ? std::atol(argv[1]) : 1000;
    char message[64] = {};

    rejoin::Loop loop;
    rejoin::Pipe<rejoin::NoEvents, rejoin::Tcp, rejoin::FailFast> pipe{loop};
    std::size_t received = 0;
    pipe.on_receive([&](rejoin::Bytes bytes) {
        received += bytes.size();
        if (received < sizeof message) return;
        received = 0;
        if (--left == 0)
            loop.stop();
        else
            pipe.send({message, sizeof message});
    });
    if (!pipe.adopt(rejoin::Socket(connect_to_echo(argv[0])))) return 1;
    pipe.send({message, sizeof message});
    return loop.run() && left == 0 ? 0 : 1;
}
