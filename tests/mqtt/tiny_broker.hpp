// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin.hpp>

#include <map>
#include <set>
#include <string>

#include "pipe/support.hpp"

namespace test {

/// As much of an MQTT 3.1.1 broker as a test needs, in this process: filters are topics, to the letter, and QoS is 0 or 1.
class TinyBroker {
public:
    explicit TinyBroker(Loop& loop) : listener_(std::make_unique<Server>(loop)), loop_(loop) { listen(0); }
    Endpoint endpoint() const { return {"127.0.0.1", port_}; }
    /// Dies, and forgets everything.
    void die() {
        listener_ = nullptr;
        clients_.clear();
    }
    void come_back() {
        listener_ = std::make_unique<Server>(loop_);
        listen(port_);
    }
    /// Breaks the connections, and stays.
    void cut() {
        while (!clients_.empty()) {
            auto* const pipe = clients_.begin()->first;
            clients_.erase(clients_.begin());
            pipe->abort();
        }
    }
    int clients() const { return static_cast<int>(clients_.size()); }
    bool delivers = true;  ///< else it takes everything, and passes nothing on
    int lost = 0;          ///< so many of the next messages are not passed on
    int passed_on = 0;

private:
    using Server = Listener<Tcp, NoEvents, FailFast>;
    struct Guest {
        std::string in;
        std::set<std::string> topics;
        unsigned last_id = 0;
    };

    void listen(int port) {
        listener_->on_accept([this](Server::AcceptedPipe& pipe) {
            clients_[&pipe];
            pipe.on_receive([this, &pipe](Bytes bytes) {
                if (clients_.count(&pipe) == 0) return;
                clients_[&pipe].in.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
                read(pipe);
            });
            pipe.on_state([this, &pipe](PipeState state, const Failure&) {
                if (state >= PipeState::closing) clients_.erase(&pipe);
            });
        });
        REQUIRE(listener_->listen({"127.0.0.1", port}));
        port_ = listener_->local_endpoint().port();
    }
    static unsigned byte(const std::string& text, std::size_t i) { return static_cast<unsigned char>(text.at(i)); }
    static unsigned word(const std::string& text, std::size_t i) { return byte(text, i) << 8 | byte(text, i + 1); }
    static std::string word(unsigned n) { return {static_cast<char>(n >> 8), static_cast<char>(n)}; }
    static void say(Server::AcceptedPipe& to, unsigned head, const std::string& body) {
        std::string packet(1, static_cast<char>(head));
        std::size_t left = body.size();
        do {
            packet += static_cast<char>((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
            left >>= 7;
        } while (left > 0);
        static_cast<void>(to.send(TextView(packet + body)));
    }
    void read(Server::AcceptedPipe& pipe) {
        for (;;) {
            std::string& in = clients_[&pipe].in;
            std::size_t length = 0, at = 1;
            for (unsigned shift = 0;; shift += 7) {
                if (at >= in.size()) return;
                length |= std::size_t{byte(in, at) & 0x7f} << shift;
                if ((byte(in, at++) & 0x80) == 0) break;
            }
            if (in.size() - at < length) return;
            const unsigned head = byte(in, 0);
            const std::string body = in.substr(at, length);
            in.erase(0, at + length);
            packet(pipe, head, body);
            if (clients_.count(&pipe) == 0) return;
        }
    }
    void packet(Server::AcceptedPipe& pipe, unsigned head, const std::string& body) {
        Guest& guest = clients_[&pipe];
        if (head >> 4 == 1) say(pipe, 0x20, std::string(2, '\0'));
        if (head >> 4 == 12) say(pipe, 0xd0, "");
        if (head >> 4 == 8) {
            guest.topics.insert(body.substr(4, word(body, 2)));
            say(pipe, 0x90, body.substr(0, 2) + '\1');
        }
        if (head >> 4 != 3) return;
        const unsigned qos = head >> 1 & 3, size = word(body, 0);
        const std::string topic = body.substr(2, size), payload = body.substr(2 + size + (qos > 0 ? 2 : 0));
        if (qos > 0) say(pipe, 0x40, body.substr(2 + size, 2));
        if (!delivers || (lost > 0 && lost-- > 0)) return;
        for (auto& [other, there] : clients_) {
            if (there.topics.count(topic) == 0) continue;
            ++passed_on;
            there.last_id = there.last_id % 65535 + 1;
            say(*other, 0x30 | qos << 1, body.substr(0, 2 + size) + (qos > 0 ? word(there.last_id) : "") + payload);
        }
    }

    std::unique_ptr<Server> listener_;
    Loop& loop_;
    int port_ = 0;
    std::map<Server::AcceptedPipe*, Guest> clients_;
};

}  // namespace test
