// SPDX-License-Identifier: BSL-1.0
// Publishes one message, or each line of its input, and does not give up until the server has it.
#include "mqtt.hpp"

int main(int argc, char** argv) {
    MqttArguments arguments;
    std::string text;
    bool lines = false, retain = false, said = false, good = true;
    for (int i = 1; i < argc && good; ++i) {
        const std::string option = argv[i];
        if (option == "-l") {
            lines = true;
        } else if (option == "-r") {
            retain = true;
        } else if (option == "-m" && i + 1 < argc) {
            text = argv[++i];
            said = true;
        } else {
            good = arguments.take(argv[i], i + 1 < argc ? argv[i + 1] : nullptr);
            ++i;
        }
    }
    if (!good || arguments.topic.empty() || said == lines) {
        std::fprintf(stderr,
                     "usage: mqtt_pub -t TOPIC (-m TEXT | -l) [-r] [OPTION...]\n\n  -m TEXT   what to publish            -l        each "
                     "line of standard input\n  -r        to be retained\n%s",
                     MqttArguments::usage);
        return 2;
    }
    rejoin::Loop loop;
    MqttArguments::Client client(loop, arguments.options);
    int result = 0;
    client.on_state([&](rejoin::mqtt::ClientState state, const rejoin::mqtt::Trouble& why) {
        if (!MqttArguments::told("mqtt_pub", state, why)) return;
        if (why) result = 1;
        loop.stop();
    });
    client.on_delivery([&](rejoin::mqtt::Token, rejoin::Error error, rejoin::mqtt::Reason reason) {
        if (!error && !failed(reason)) return;
        std::fprintf(stderr, "mqtt_pub: the server does not take it: reason 0x%02x\n", static_cast<unsigned>(reason));
        result = 1;
    });
    if (auto connecting = arguments.connect(client); !connecting) {
        std::fprintf(stderr, "mqtt_pub: %s\n", describe(classify(connecting.error(), rejoin::Stage::connecting)).c_str());
        return 2;
    }
    rejoin::mqtt::Message message;
    message.topic = arguments.topic;
    message.qos = static_cast<rejoin::mqtt::Qos>(arguments.qos);
    message.retain = retain;
    const auto publish = [&](rejoin::TextView payload) {
        message.payload = payload.bytes();
        return client.publish(message);
    };
    // The input is read as far as there is room; a line that had none waits.
    bool waiting = false;
    const auto go_on = [&] {
        for (char line[65536]; lines && (waiting || std::fgets(line, sizeof line, stdin) != nullptr);) {
            if (!waiting) text.assign(line, std::strcspn(line, "\n"));
            const auto published = publish(text);
            waiting = !published && published.error() == rejoin::Errc::would_block;
            if (waiting) return;
            if (!published) result = 2;
        }
        client.close();
    };
    client.on_drained(go_on);
    if (!lines && !publish(text)) {
        std::fputs("mqtt_pub: this may not be published\n", stderr);
        return 2;
    }
    go_on();
    static_cast<void>(loop.run());
    return result;
}
