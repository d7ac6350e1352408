// SPDX-License-Identifier: BSL-1.0
#include <rejoin/signal.hpp>
#include <cstdio>

int main(int argc, char** argv) {
    if (argc < 4) return std::puts("usage: meet ME PEER BROKER..."), 2;
    rejoin::Loop loop;
    rejoin::Signal<> signal{loop, argv[1]};                       // this one's name
    for (int i = 3; i < argc; ++i) signal.add_broker(rejoin::Endpoint::parse(argv[i], 1883));
    signal.share_key(argv[2], rejoin::TextView("what both were told").bytes());
    signal.on_message([](const rejoin::signalling::Event& e) { std::printf("%.*s\n", int(e.text().size()), e.text().data()); });
    signal.on_delivery([](auto, rejoin::Error error) { std::puts(error ? "nobody there" : "arrived"); });
    signal.send(argv[2], "here I am");
    loop.run();
}
