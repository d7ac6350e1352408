// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <rejoin/signal.hpp>
#include <string>

/// What mqtt_pub and mqtt_sub have in common: whom to go to, and as whom.
struct MqttArguments {
    using Client = rejoin::mqtt::Client<>;

    std::string host = "localhost", topic, id, user, password;
    int port = rejoin::mqtt::default_port;
    int qos = 0;
    Client::Options options;
    bool has_user = false, has_password = false;

    /// Takes one option and its value; false when it is none of these, or the value cannot be.
    bool take(const char* option, const char* value) {
        if (std::strlen(option) != 2 || option[0] != '-' || value == nullptr) return false;
        switch (option[1]) {
            case 'h':
                host = value;
                return true;
            case 'p':
                return (port = std::atoi(value)) > 0 && port < 65536;
            case 't':
                topic = value;
                return true;
            case 'i':
                id = value;
                return true;
            case 'q':
                return (qos = std::atoi(value)) >= 0 && qos <= 2;
            case 'u':
                user = value;
                return has_user = true;
            case 'P':
                password = value;
                return has_password = true;
            case 'V':
                options.version = value[0] == '3' ? rejoin::mqtt::Version::v3_1_1 : rejoin::mqtt::Version::v5;
                return std::strcmp(value, "5") == 0 || std::strcmp(value, "311") == 0;
            default:
                return false;
        }
    }
    rejoin::Result<void> connect(Client& client) const {
        rejoin::mqtt::Connect who;
        const rejoin::TextView name = user;
        const rejoin::Bytes secret = rejoin::TextView(password).bytes();
        who.client_id = id;
        if (has_user) who.user_name = &name;
        if (has_password) who.password = &secret;
        return client.connect({host, port}, who);
    }
    /// Says on standard error what keeps a client from its server, once for each kind of trouble; true when it is for good.
    static bool told(const char* program, rejoin::mqtt::ClientState state, const rejoin::mqtt::Trouble& why) {
        const bool over = state == rejoin::mqtt::ClientState::closed;
        if (!why) return over;
        if (failed(why.reason))
            std::fprintf(stderr, "%s: the server says no: reason 0x%02x\n", program, static_cast<unsigned>(why.reason));
        else
            std::fprintf(stderr, "%s: %s\n", program, describe(why.failure).c_str());
        return over;
    }
    static constexpr const char usage[] =
        "  -h HOST   the server (localhost)     -p PORT   its port (1883)\n"
        "  -u USER   -P PASSWORD                -i NAME   of this client\n"
        "  -q 0|1|2  quality of service (0)     -V 5|311  version (5)\n";
};
