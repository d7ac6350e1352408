// SPDX-License-Identifier: BSL-1.0
// Each kind of handler, in each state in which it can be called, on either side, with and without a session: each action taken in it once,
// with what has to follow from that. What should not be touched any more, AddressSanitizer sees.
#include <set>

#include "pipe/support.hpp"

namespace {

enum class Do {
    nothing,
    destroy_own,
    destroy_other,
    close,
    abort,
    send,
    connect,
    release,
    remove_self,
    remove_other,
    add,
    pause,
    link,
    end
};

const char* name(PipeState state) {
    static constexpr const char* names[] = {"idle", "connecting", "connected", "interrupted", "closing", "closed"};
    return names[static_cast<std::size_t>(state)];
}

template <class T>
struct Story {
    using Client = Pipe<Scripted, T, Persistent>;
    using Server = Listener<T, Scripted, Persistent>;
    static constexpr bool survives = T::Session::survives_connections;

    Story(Do what, std::string when) : action(what), moment(std::move(when)) {
        limit(options.pipe.transport);
        options.pipe.close_timeout = ms(200);
        server = std::make_unique<Server>(loop, options);
        server->on_accept([this](Client& pipe) {
            accepted = &pipe;
            std::erase_if(removed, [&](const auto& each) { return each.first == &pipe; });  // another that was at the same place
            listen(pipe, "server ");
            at(pipe, "accept", 0, 0);
        });
        REQUIRE(server->listen({"127.0.0.1", 0}));
        middle.emplace(loop, server->local_endpoint());
        client = std::make_unique<Client>(loop, options.pipe);
        listen(*client, "client ");
    }
    static void limit(session::Options& o) {
        o.replay_limit = 4096;
        o.keep_detached = ms(500);
    }
    static void limit(session::Plain::Options& o) { o.queue_limit = 4096; }

    // Two handlers of each kind: the first acts.
    void listen(Client& pipe, const std::string& side) {
        struct Ids {
            HandlerId self[4], other[4];
        };
        auto ids = std::make_shared<Ids>();
        Client* const p = &pipe;
        const auto self = [=, this](std::size_t kind, const std::string& what) { at(*p, side + what, ids->self[kind], ids->other[kind]); };
        const auto other = [=, this](std::size_t kind) {
            CHECK(removed.count({p, ids->other[kind]}) == 0);
            CHECK(gone.count(p) == 0);
        };
        ids->self[0] = pipe.on_receive([=, kept = std::string(100, 'k')](Bytes bytes) {
            if (side == "server ") static_cast<void>(p->send(bytes));
            self(0, p->state() == PipeState::closing ? "receive closing" : "receive");
            CHECK(kept == std::string(100, 'k'));  // even when the handler, or its pipe, is gone
        });
        ids->self[1] = pipe.on_state([=, this](PipeState state, const Failure&) {
            forget(*p, state);
            self(1, name(state));
        });
        ids->self[2] =
            pipe.on_network_change([=](const NetworkChange&) { self(2, std::string("network ") + name(p->state())); }, Notice::at_once);
        ids->self[3] = pipe.on_drained([=] { self(3, "drained"); });
        ids->other[0] = pipe.on_receive([=](Bytes) { other(0); });
        ids->other[1] = pipe.on_state([=, this](PipeState state, const Failure&) {
            forget(*p, state);  // where the first has removed itself
            other(1);
        });
        ids->other[2] = pipe.on_network_change([=](const NetworkChange&) { other(2); }, Notice::at_once);
        ids->other[3] = pipe.on_drained([=] { other(3); });
    }

    void forget(const Client& pipe, PipeState state) {
        if (state == PipeState::closed && &pipe == accepted) accepted = nullptr;
    }

    void at(Client& pipe, const std::string& what, HandlerId self, HandlerId other) {
        CHECK(gone.count(&pipe) == 0);
        CHECK((self == 0 || removed.count({&pipe, self}) == 0));
        reached.insert(what);
        if (what != moment || acted) return;
        acted = true;
        const bool own_is_client = &pipe == client.get();
        const PipeState state = pipe.state();
        switch (action) {
            case Do::destroy_own:
            case Do::destroy_other:
                if (own_is_client == (action == Do::destroy_own)) {
                    gone.insert(client.get());
                    client.reset();
                } else {
                    if (accepted != nullptr) gone.insert(accepted);
                    accepted = nullptr;
                    server.reset();
                }
                break;
            case Do::close:
                pipe.close();
                CHECK(pipe.state() >= PipeState::closing);
                break;
            case Do::abort:
                pipe.abort();
                CHECK((pipe.state() == PipeState::closed || state == PipeState::idle));
                break;
            case Do::send: {
                const Errc expected = state == PipeState::idle || state >= PipeState::closing ? Errc::invalid_state
                                      : !survives && state == PipeState::interrupted          ? Errc::would_block
                                                                                              : Errc::ok;
                auto sent = pipe.send("from the handler");
                CHECK((sent.error() == expected || sent.error() == Errc::would_block));
                break;
            }
            case Do::connect: {
                auto connected = pipe.connect(middle->endpoint());
                const bool can = own_is_client && (state == PipeState::idle || state == PipeState::closed);
                CHECK(connected.error() == (can ? Errc::ok : Errc::invalid_state));
                break;
            }
            case Do::release: {
                auto socket = pipe.release();
                CHECK((socket ? !survives && state == PipeState::connected
                              : socket.error() == Errc::unsupported || socket.error() == Errc::invalid_state ||
                                    socket.error() == Errc::would_block));
                break;
            }
            case Do::remove_self:
                if (self == 0) break;
                CHECK(pipe.remove_handler(self));
                CHECK_FALSE(pipe.remove_handler(self));
                removed.insert({&pipe, self});
                break;
            case Do::remove_other:
                if (self == 0) break;
                CHECK(pipe.remove_handler(other));
                CHECK_FALSE(pipe.remove_handler(other));
                removed.insert({&pipe, other});
                break;
            case Do::add: {
                const Client* const p = &pipe;
                CHECK(pipe.on_receive([this, p](Bytes) { CHECK(gone.count(p) == 0); }) != 0);
                CHECK(pipe.on_state([this, p](PipeState, const Failure&) { CHECK(gone.count(p) == 0); }) != 0);
                CHECK(pipe.on_network_change([this, p](const NetworkChange&) { CHECK(gone.count(p) == 0); }) != 0);
                CHECK(pipe.on_drained([this, p] { CHECK(gone.count(p) == 0); }) != 0);
                break;
            }
            case Do::pause:
                pipe.pause();
                if (own_is_client)
                    loop.after(Duration(), [this] {
                        if (client) client->resume();
                    });
                else
                    pipe.resume();
                break;
            case Do::link: {
                auto linked = pipe.link(bystander.emplace(loop, options.pipe));
                CHECK(linked.error() == (state >= PipeState::closing ? Errc::invalid_state : Errc::ok));
                loop.after(Duration(), [this] { bystander.reset(); });  // whose end ends the other
                break;
            }
            default:
                break;
        }
    }

    // Goes on until that is so; or, when the story has taken another course, for a little while.
    template <class Condition>
    void then(Condition done) {
        if (!acted) REQUIRE(until(loop, [&] { return acted || done(); }));
        if (acted) settle(loop);
    }
    void change_network() { Scripted::of(loop).set(network(true, {"127.0.0.1", ++changes % 2 == 0 ? "192.0.2.1" : "192.0.2.2"})); }
    bool client_is(PipeState state) const { return client != nullptr && client->state() == state; }

    void run() {
        change_network();
        middle->hold(true);
        if (client) {
            auto connected = client->connect(middle->endpoint());
            REQUIRE((connected || acted));
        }
        if (!survives) change_network();  // without a handshake it is connected soon
        then([&] { return middle->connections == 1; });
        change_network();
        middle->hold(false);
        then([&] { return client_is(PipeState::connected) && accepted != nullptr && accepted->state() == PipeState::connected; });
        change_network();
        if (client) static_cast<void>(client->send("ping"));
        then([&] { return reached.count("client receive") == 1; });

        // More than fits, in one turn.
        const std::string piece(1500, 'x');
        for (int i = 0; i < 4; ++i)
            if (client) static_cast<void>(client->send(piece));
        then([&] { return reached.count("client drained") == 1; });
        for (int i = 0; i < 4; ++i)
            if (accepted) static_cast<void>(accepted->send(piece));
        then([&] { return reached.count("server drained") == 1; });

        middle->retarget(Mute().endpoint());  // nobody there
        middle->cut();
        then([&] { return client_is(PipeState::interrupted) && (!survives || reached.count("server interrupted") == 1); });
        change_network();
        if (server) middle->retarget(server->local_endpoint());
        then([&] { return client_is(PipeState::connected) && accepted != nullptr && accepted->state() == PipeState::connected; });

        middle->hold(true);
        if (client) static_cast<void>(client->send("last words"));
        if (client) client->close();
        if (accepted) static_cast<void>(accepted->send("and the answer to them"));
        change_network();
        settle(loop);
        middle->hold(false);
        then([&] { return client_is(PipeState::closed) && accepted == nullptr; });
        change_network();
    }

    const Do action;
    const std::string moment;
    std::set<std::string> reached;
    bool acted = false;

    Loop loop;
    typename Server::Options options = quick_listener<Server>();
    std::unique_ptr<Server> server;
    std::optional<Middle> middle;
    std::optional<Client> bystander;
    std::unique_ptr<Client> client;
    Client* accepted = nullptr;
    int changes = 0;
    std::set<const Client*> gone;
    std::set<std::pair<const Client*, HandlerId>> removed;
};

// Who is called when, with a session and without.
const std::vector<std::string> common = {"accept",
                                         "client connecting",
                                         "client connected",
                                         "client interrupted",
                                         "client closing",
                                         "client closed",
                                         "client receive",
                                         "client receive closing",
                                         "client drained",
                                         "client network idle",
                                         "client network connecting",
                                         "client network connected",
                                         "client network interrupted",
                                         "client network closing",
                                         "client network closed",
                                         "server connected",
                                         "server closing",
                                         "server closed",
                                         "server receive",
                                         "server drained",
                                         "server network connected"};

template <class T>
void every_action_at_every_moment(const std::vector<std::string>& moments) {
    {
        Story<T> told(Do::nothing, "");
        told.run();
        for (const std::string& moment : moments) {
            INFO(moment);
            CHECK(told.reached.count(moment) == 1);
        }
        for (const std::string& moment : told.reached) {
            INFO(moment);
            CHECK(std::count(moments.begin(), moments.end(), moment) == 1);
        }
    }
    for (const std::string& moment : moments)
        for (int action = 1; action < static_cast<int>(Do::end); ++action) {
            INFO(moment << ", action " << action);
            Story<T> story(static_cast<Do>(action), moment);
            story.run();
            CHECK(story.acted);
        }
}

}  // namespace

TEST_CASE("Every handler may do everything in every state: with a session") {
    auto moments = common;
    moments.insert(moments.end(), {"server interrupted", "server network interrupted", "server network closed"});
    every_action_at_every_moment<Resumable<Tcp>>(moments);
}

TEST_CASE("Every handler may do everything in every state: plain", "[reset]") { every_action_at_every_moment<Tcp>(common); }
