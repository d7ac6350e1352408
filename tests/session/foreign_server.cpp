// SPDX-License-Identifier: BSL-1.0
#include <rejoin/listener.hpp>

#include <cstdio>

#include "bytes.hpp"

// The server for foreign_peer.py: echoes every stream, and says of each that ended how long it was and its SHA-256. Prints its port
// first. Argument: a pre-shared secret in hexadecimal.
int main(int argc, char** argv) {
    using Server = rejoin::Listener<rejoin::Resumable<rejoin::Tcp>>;
    rejoin::Loop loop;
    Server::Options options;
    if (argc > 1) options.pipe.transport.pre_shared_key = rejoin::session::PreSharedKey(test::from_hex(argv[1]));
    Server server(loop, options);
    server.on_accept([](rejoin::ResumablePipe& pipe) {
        auto* const hash = new rejoin::Sha256;
        pipe.on_receive([&pipe, hash](rejoin::Bytes bytes) {
            hash->update(bytes);
            if (!pipe.send(bytes)) std::puts("the echo does not fit");
        });
        pipe.on_state([&pipe, hash](rejoin::PipeState state, const rejoin::Failure& why) {
            if (state != rejoin::PipeState::closed) return;
            if (why)
                std::puts(describe(state, why).c_str());
            else
                std::printf("%llu %s\n", static_cast<unsigned long long>(pipe.statistics().bytes_received),
                            test::to_hex(hash->finish()).c_str());
            std::fflush(stdout);
            delete hash;
        });
    });
    if (!server.listen({"127.0.0.1", 0})) return 1;
    std::printf("%u\n", static_cast<unsigned>(server.local_endpoint().port()));
    std::fflush(stdout);
    loop.run();
}
