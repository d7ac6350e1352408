// SPDX-License-Identifier: BSL-1.0
// Whatever a handler does, at whatever moment: destroys its own pipe or the other, or the listener, closes, aborts, sends, connects, adds
// and removes handlers. One conversation with a relay that is cut, a network that changes, more sent than fits, and an orderly end is run
// over and over; each time one action is taken inside one handler's call, the first, the second and so on, until every call has had its
// turn. AddressSanitizer sees what should not have been touched.
#include <map>
#include <set>

#include "pipe/support.hpp"

namespace {

using Client = Pipe<Scripted, Resumable<Tcp>, Persistent>;
using Server = Listener<Resumable<Tcp>, Scripted, Persistent>;
using Relays = Listener<Tcp, NoEvents, FailFast>;

enum class Act {
    none,
    destroy_client,
    destroy_listener,
    close,
    abort,
    send,
    connect,
    server_close,
    server_abort,
    remove_all,
    add,
    pause,
    link,
    count
};

struct Conversation {
    Conversation(Act what, int when) : action(what), at_call(when) {
        server_options.pipe.transport.replay_limit = client_options.transport.replay_limit = 4096;
        server_options.pipe.transport.liveness_interval = client_options.transport.liveness_interval = ms(20);
        client_options.close_timeout = server_options.pipe.close_timeout = ms(200);
        server_options.pipe.transport.keep_detached = ms(200);
        client_options.give_up_after = ms(500);
        server = std::make_unique<Server>(loop, server_options);
        client = std::make_unique<Client>(loop, client_options);
        bystander = std::make_unique<Client>(loop);
        server->on_accept([this](Server::AcceptedPipe& pipe) {
            player = &pipe;
            pipe.on_receive([this](Bytes bytes) {
                if (player != nullptr && player->state() == PipeState::connected) static_cast<void>(player->send(bytes));
                call("server receive");
            });
            pipe.on_state([this](PipeState state, const Failure&) {
                if (state == PipeState::closed) player = nullptr;
                call(state == PipeState::connected     ? "server connected"
                     : state == PipeState::interrupted ? "server interrupted"
                     : state == PipeState::closing     ? "server closing"
                                                       : "server closed");
            });
            pipe.on_drained([this] { call("server drained"); });
            pipe.on_network_change([this](const NetworkChange&) { call("server network"); });
            call("accept");
        });
        REQUIRE(server->listen({"127.0.0.1", 0}));
        relays.on_accept([this](Relays::AcceptedPipe& in) {
            outs.push_back(std::make_unique<Pipe<NoEvents, Tcp, FailFast>>(loop));
            auto& out = *outs.back();
            relayed = &in;
            in.on_state([this, pipe = &in](PipeState state, const Failure&) {
                if (state == PipeState::closed && relayed == pipe) relayed = nullptr;
            });
            if (server == nullptr || !out.connect(server->local_endpoint()) || !out.link(in)) in.abort();
        });
        REQUIRE(relays.listen({"127.0.0.1", 0}));

        client->on_receive([this](Bytes bytes) {
            back += bytes.size();
            call("client receive");
            if (client != nullptr) go_on();
        });
        client->on_state([this](PipeState state, const Failure&) {
            over = over || state == PipeState::closed;
            call(state == PipeState::connecting    ? "client connecting"
                 : state == PipeState::connected   ? "client connected"
                 : state == PipeState::interrupted ? "client interrupted"
                 : state == PipeState::closing     ? "client closing"
                                                   : "client closed");
        });
        client->on_drained([this] { call("client drained"); });
        client->on_network_change([this](const NetworkChange&) { call("client network"); });
        // Behind the handlers that destroy: its captured text must live until it returns.
        client->on_receive([this, kept = std::string(100, 'k')](Bytes) { kept_intact = kept_intact && kept == std::string(100, 'k'); });
    }

    void run() {
        REQUIRE(client->connect(relays.local_endpoint()));
        REQUIRE(client->send("hello"));
        const TimePoint end = monotonic_now() + Duration::seconds(20);
        while (!done() && monotonic_now() < end) loop.run_once(ms(10));
        CHECK(monotonic_now() < end);
        CHECK(kept_intact);
    }
    bool done() const { return client == nullptr || over; }

    // The next part of the story, when the last has come back.
    void go_on() {
        if (client->state() == PipeState::closing || client->state() == PipeState::closed) return;
        if (stage == 0) {
            stage = 1;
            loop.post([this] {
                if (relayed != nullptr) relayed->abort();  // the cut
            });
            static_cast<void>(client->send("after the cut"));
        } else if (stage == 1 && back >= 18) {
            stage = 2;
            NetworkState network;
            network.put(Interface{1, TextView("lo"), true, true, true});
            Scripted::of(loop).set(std::move(network));
            if (client == nullptr) return;
            const std::string piece(1500, 'x');
            for (int i = 0; i < 4; ++i) static_cast<void>(client->send(piece));  // the third is refused
        } else if (stage == 2 && back >= 3018) {
            stage = 3;
            client->close();
        }
    }

    // Every handler says that it is being called; the chosen one then acts.
    void call(const char* which) {
        if (++calls != at_call) return;
        acted = which;
        switch (action) {
            case Act::destroy_client:
                client.reset();
                break;
            case Act::destroy_listener:
                player = nullptr;
                server.reset();
                break;
            case Act::close:
                if (client) client->close();
                break;
            case Act::abort:
                if (client) client->abort();
                break;
            case Act::send:
                if (client) static_cast<void>(client->send("more")), static_cast<void>(client->send(std::string(4000, 'm')));
                break;
            case Act::connect:
                if (client && client->connect(relays.local_endpoint())) {  // only from closed: once more from the start
                    over = false;
                    loop.after(ms(50), [this] {
                        if (client) client->abort();
                    });
                }
                break;
            case Act::server_close:
                if (player) player->close();
                break;
            case Act::server_abort:
                if (player) player->abort();
                break;
            case Act::remove_all:
                if (client)
                    for (HandlerId id = 1; id < 10; ++id) removed += client->remove_handler(id) ? 1 : 0;
                over = true;  // nobody is left to tell
                break;
            case Act::add:
                if (client) {
                    CHECK(client->on_state([this](PipeState, const Failure&) { ++added; }) != 0);
                    CHECK(client->on_receive([this](Bytes) { ++added; }) != 0);
                }
                break;
            case Act::pause:
                if (client) {
                    client->pause();
                    loop.after(ms(20), [this] {
                        if (client) client->resume();
                    });
                }
                break;
            case Act::link:
                if (client) static_cast<void>(client->link(*bystander));
                loop.after(ms(20), [this] { bystander.reset(); });  // whose end ends the other
                break;
            default:
                break;
        }
    }

    Loop loop;
    Client::Options client_options = quick<Client>();
    Server::Options server_options = quick_listener<Server>();
    Relays relays{loop};
    std::vector<std::unique_ptr<Pipe<NoEvents, Tcp, FailFast>>> outs;
    std::unique_ptr<Server> server;
    std::unique_ptr<Client> bystander;
    std::unique_ptr<Client> client;
    Server::AcceptedPipe* player = nullptr;
    Relays::AcceptedPipe* relayed = nullptr;
    const Act action;
    const int at_call;
    int calls = 0, stage = 0, removed = 0, added = 0;
    std::size_t back = 0;
    bool over = false, kept_intact = true;
    const char* acted = nullptr;
};

}  // namespace

TEST_CASE("a handler may do anything at any moment") {
    Conversation plain(Act::none, 0);
    plain.run();
    REQUIRE(plain.stage == 3);
    const int calls = plain.calls;
    REQUIRE(calls > 15);

    for (int a = 1; a < static_cast<int>(Act::count); ++a) {
        std::set<std::string> covered;
        for (int at = 1; at <= calls; ++at) {
            Conversation conversation(static_cast<Act>(a), at);
            INFO("action " << a << " in call " << at);
            conversation.run();
            if (conversation.acted != nullptr) covered.insert(conversation.acted);
        }
        // Which call comes when may differ a little from run to run; that each kind had its turn may not.
        INFO("action " << a);
        for (const char* kind :
             {"client connecting", "client connected", "client interrupted", "client receive", "client drained", "client network", "accept",
              "server connected", "server receive", "server interrupted", "server network"}) {
            INFO(kind);
            CHECK(covered.count(kind) == 1);
        }
    }
}
