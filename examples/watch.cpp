// SPDX-License-Identifier: BSL-1.0
// Says in plain words what happens to this host's network, as it happens.   watch [--once]
#include <cstdio>
#include <ctime>
#include <rejoin.hpp>

namespace {

void print(const rejoin::NetworkState& network) {
    for (const rejoin::Interface& i : network.interfaces) {
        std::printf("%-15s %s\n", i.name.c_str(), i.running() ? "has a link" : i.up ? "has no link" : "is switched off");
        for (const rejoin::InterfaceAddress& a : network.addresses)
            if (a.interface_index == i.index)
                std::printf("%-15s %s/%d%s\n", "", to_text(a.ip).c_str(), a.prefix_length, a.usable() ? "" : ", not usable");
    }
    for (rejoin::Family family : {rejoin::Family::v4, rejoin::Family::v6}) {
        const rejoin::Route& route = network.route_for(family);
        const char* name = family == rejoin::Family::v4 ? "IPv4" : "IPv6";
        const rejoin::Interface* by = network.find_interface(route.interface_index);
        if (route.present && by != nullptr)
            std::printf("%s goes to the internet by %s, through %s, from %s.\n", name, by->name.c_str(), to_text(route.gateway).c_str(),
                        to_text(route.source).c_str());
        else
            std::printf("%s has no route to the internet.\n", name);
    }
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
    const bool once = argc == 2 && rejoin::TextView(argv[1]) == "--once";
    if (argc > 1 && !once) {
        std::fputs("usage: watch [--once]\n", stderr);
        return 2;
    }
    rejoin::Loop loop;
    if (const rejoin::Error error = rejoin::SystemEvents::of(loop).error()) {
        std::fprintf(stderr, "The network cannot be watched here (error %d).\n", error.code());
        return 1;
    }
    rejoin::ResumablePipe pipe(loop);  // idle: that is enough to hear of the network
    print(pipe.network());
    if (once) return 0;
    pipe.on_network_change([](const rejoin::NetworkChange& change) {
        char time[16];
        const std::time_t now = std::time(nullptr);
        std::strftime(time, sizeof time, "%H:%M:%S", std::localtime(&now));
        std::printf("%s  %s%s\n", time, describe(change).c_str(), change.major ? "  (connections may break)" : "");
        std::fflush(stdout);
    });
    return loop.run() ? 0 : 1;
}
