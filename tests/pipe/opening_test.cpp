// SPDX-License-Identifier: BSL-1.0
#include <algorithm>
#include <rejoin/opening.hpp>

#include "pipe/support.hpp"

namespace {

struct Told final : Opener {
    void opened(const Endpoint& local) override { said += "+" + std::to_string(local.port()) + " "; }
    void closed() override { said += "- "; }
    std::string said;
};

// Grants by PCP whatever it is asked for, at 45.45.45.1, and remembers for how long it was asked.
struct Gateway {
    Gateway() { REQUIRE(socket.bind(IpAddress::v4(127, 0, 0, 1), router::pcp_port)); }
    void answer() {
        std::byte message[router::pcp::request_size];
        Endpoint from;
        while (const auto size = socket.receive_from(message, from)) {
            if (*size != sizeof message) continue;
            asked.push_back(std::to_string(load_big<std::uint16_t>(message + 40)) +
                            (load_big<std::uint32_t>(message + 4) == 0 ? "-" : "+"));
            message[1] |= std::byte{0x80};
            std::memset(message + 8, 0, 16);
            store_big(message + 8, ++epoch);
            router::pcp::put_address(message + 44, IpAddress::v4(45, 45, 45, 1));
            static_cast<void>(socket.send_to(message, from.ip(), from.port()));
        }
    }
    bool has(const std::string& what) const { return std::find(asked.begin(), asked.end(), what) != asked.end(); }
    Socket socket = std::move(*Socket::udp(Family::v4));
    std::vector<std::string> asked;
    std::uint32_t epoch = 100;
};

}  // namespace

TEST_CASE("whoever opens for a listener is told what it listens on, once, and when it does not any more") {
    Loop loop;
    Told told_of;
    Listener<Tcp, NoEvents, FailFast>::Options options;
    options.opener = &told_of;
    std::string port;
    {
        Listener<Tcp, NoEvents, FailFast> listener(loop, options);
        CHECK_FALSE(listener.listen({"192.0.2.1", 0}));  // which this host does not have
        CHECK(told_of.said.empty());
        REQUIRE(listener.listen({"127.0.0.1", 0}));
        port = std::to_string(listener.local_endpoint().port());
        CHECK(told_of.said == "+" + port + " ");
        listener.close();
        listener.close();
        CHECK(told_of.said == "+" + port + " - ");
        REQUIRE(listener.listen({"127.0.0.1", 0}));
        port = std::to_string(listener.local_endpoint().port());
        told_of.said.clear();
    }
    CHECK(told_of.said == "- ");
}

TEST_CASE("whoever opens for a pipe is told its local endpoint while it is connected, and when that is another") {
    Loop loop;
    using Lasting = Resumable<Tcp>;
    Listener<Lasting, NoEvents, Persistent> server(loop, quick_listener<Listener<Lasting, NoEvents, Persistent>>());
    REQUIRE(server.listen({"127.0.0.1", 0}));
    Middle middle(loop, server.local_endpoint());
    Told told_of;
    auto options = quick<Pipe<NoEvents, Lasting, Persistent>>();
    options.opener = &told_of;
    std::string expected;
    {
        Pipe<NoEvents, Lasting, Persistent> pipe(loop, options);
        REQUIRE(pipe.connect(middle.endpoint()));
        REQUIRE(until(loop, [&] { return pipe.state() == PipeState::connected; }));
        expected = "+" + std::to_string(pipe.local_endpoint().port()) + " ";
        CHECK(told_of.said == expected);
        middle.cut();
        REQUIRE(until(loop, [&] { return pipe.state() == PipeState::interrupted; }));
        REQUIRE(until(loop, [&] { return pipe.state() == PipeState::connected; }));
        expected += "+" + std::to_string(pipe.local_endpoint().port()) + " ";
        CHECK(told_of.said == expected);
        pipe.close();
        REQUIRE(until(loop, [&] { return pipe.state() == PipeState::closed; }));
        expected += "- ";
    }
    CHECK(told_of.said == expected);
    told_of.said.clear();
    {
        Pipe<NoEvents, Lasting, Persistent> pipe(loop, options);
        REQUIRE(pipe.connect(middle.endpoint()));
        REQUIRE(until(loop, [&] { return pipe.state() == PipeState::connected; }));
    }
    CHECK(told_of.said.substr(told_of.said.size() - 2) == "- ");
}

TEST_CASE("an opening looks at this host's firewall, and asks nobody where there is no gateway") {
    Loop loop;
    Opening<Scripted>::Options options;
    options.rule.app = TextView("rejoin-test");
    Opening<Scripted> opening(loop, options);
    int told = 0;
    opening.on_change([&] { ++told; });
    Listener<Tcp, NoEvents, FailFast>::Options of_listener;
    of_listener.opener = &opening;
    Listener<Tcp, NoEvents, FailFast> listener(loop, of_listener);
    REQUIRE(listener.listen({"127.0.0.1", 0}));
    CHECK(told == 1);
    CHECK(opening.report().rule.port == listener.local_endpoint().port());
    CHECK_FALSE(opening.report().error);
    CHECK_FALSE(opening.report().changed());
    CHECK_FALSE(opening.external().valid());
    CHECK(opening.method() == router::Method::none);
    listener.close();
    CHECK(told == 1);
}

TEST_CASE("an opening maps what is listened on, takes it back, and maps it again when it is listened on anew") {
    Gateway gateway;
    Loop loop;
    NetworkState state = network(true);
    state.route[0].gateway = state.route[0].source = IpAddress::v4(127, 0, 0, 1);
    Scripted::of(loop).set(std::move(state));
    Opening<Scripted>::Options options;
    options.rule.app = TextView("rejoin-test");
    Opening<Scripted> opening(loop, options);
    Listener<Tcp, NoEvents, FailFast>::Options of_listener;
    of_listener.opener = &opening;
    Listener<Tcp, NoEvents, FailFast> listener(loop, of_listener);
    const auto answered = [&](auto condition) {
        return until(loop, [&] {
            gateway.answer();
            return condition();
        });
    };
    for (int i = 0; i < 3; ++i) {
        REQUIRE(listener.listen({"127.0.0.1", 0}));
        const std::string port = std::to_string(listener.local_endpoint().port());
        REQUIRE(answered([&] { return opening.external().valid(); }));
        CHECK(opening.external() == Endpoint(IpAddress::v4(45, 45, 45, 1), listener.local_endpoint().port()));
        CHECK(opening.method() == router::Method::pcp);
        listener.close();
        if (i == 1) continue;  // and at once anew, before the gateway has answered
        REQUIRE(answered([&] { return gateway.has(port + "-"); }));
    }
    // It is not listened for what the gateway announces any more.
    Socket free = std::move(*Socket::udp(Family::v4));
    REQUIRE(answered([&] {
        free = std::move(*Socket::udp(Family::v4));
        return static_cast<bool>(free.bind(IpAddress::v4(0, 0, 0, 0), router::announcement_port));
    }));
}
