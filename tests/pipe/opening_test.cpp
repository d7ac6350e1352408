// SPDX-License-Identifier: BSL-1.0
#include <rejoin/opening.hpp>

#include "pipe/support.hpp"

namespace {

struct Told final : Opener {
    void opened(const Endpoint& local) override { said += "+" + std::to_string(local.port()) + " "; }
    void closed() override { said += "- "; }
    std::string said;
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
