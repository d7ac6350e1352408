// SPDX-License-Identifier: BSL-1.0
// Prints what is published, and is there again when the server, or the way to it, was gone.
#include "mqtt.hpp"

int main(int argc, char** argv) {
    MqttArguments arguments;
    bool verbose = false, good = true;
    long count = -1;
    for (int i = 1; i < argc && good; ++i) {
        const std::string option = argv[i];
        if (option == "-v") {
            verbose = true;
        } else if (option == "-C" && i + 1 < argc) {
            good = (count = std::atol(argv[++i])) > 0;
        } else {
            good = arguments.take(argv[i], i + 1 < argc ? argv[i + 1] : nullptr);
            ++i;
        }
    }
    if (!good || arguments.topic.empty()) {
        std::fprintf(stderr,
                     "usage: mqtt_sub -t FILTER [-v] [-C COUNT] [OPTION...]\n\n  -v        with the topic             -C COUNT  so many, "
                     "and no more\n%s",
                     MqttArguments::usage);
        return 2;
    }
    rejoin::Loop loop;
    MqttArguments::Client client(loop, arguments.options);
    int result = 0;
    client.on_state([&](rejoin::mqtt::ClientState state, const rejoin::mqtt::Trouble& why) {
        if (!MqttArguments::told("mqtt_sub", state, why)) return;
        if (why) result = 1;
        loop.stop();
    });
    client.on_subscription([&](rejoin::mqtt::Token, rejoin::mqtt::Reason reason) {
        if (!failed(reason)) return;
        std::fprintf(stderr, "mqtt_sub: the server refuses the subscription: reason 0x%02x\n", static_cast<unsigned>(reason));
        result = 1;
        loop.stop();
    });
    client.on_message([&](const rejoin::mqtt::Packet& packet) {
        if (count == 0) return;
        if (verbose) std::printf("%.*s ", static_cast<int>(packet.topic.size()), packet.topic.data());
        std::fwrite(packet.payload.data(), 1, packet.payload.size(), stdout);
        std::putchar('\n');
        std::fflush(stdout);
        if (count > 0 && --count == 0) client.close();
    });
    auto connecting = arguments.connect(client);
    if (connecting && !client.subscribe(arguments.topic, static_cast<rejoin::mqtt::Qos>(arguments.qos)))
        connecting = rejoin::Errc::invalid_argument;
    if (!connecting) {
        std::fprintf(stderr, "mqtt_sub: %s\n", describe(classify(connecting.error(), rejoin::Stage::connecting)).c_str());
        return 2;
    }
    static_cast<void>(loop.run());
    return result;
}
