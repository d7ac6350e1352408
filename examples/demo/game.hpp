// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <memory>
#include <optional>

#include "stream.hpp"

/// A game server that knows nothing of connections: every conversation starts a game of its own, with fresh state.
class Server {
public:
    using Listener = rejoin::Listener<rejoin::Resumable<rejoin::Tcp>>;

    explicit Server(rejoin::Loop& loop, const Listener::Options& options = {}) : listener_(loop, options) {
        listener_.on_accept([this](rejoin::ResumablePipe& player) {
            struct Game {
                stream::Sender world{1};
                stream::Receiver moves{2};
            };
            auto game = std::make_shared<Game>();  // a server that does so over plain TCP starts anew with every connection
            ++games;
            player.on_receive([game](rejoin::Bytes bytes) { game->moves.take(bytes); });
            player.on_drained([game, &player] { game->world.pump(player); });
            player.on_state([this, game, &player](rejoin::PipeState state, const rejoin::Failure&) {
                if (state == rejoin::PipeState::connected) game->world.pump(player);
                if (state != rejoin::PipeState::closed) return;
                world = game->world;
                moves = game->moves;
            });
        });
    }
    rejoin::Result<void> listen(const rejoin::Endpoint& at) { return listener_.listen(at); }
    rejoin::Endpoint endpoint() const { return listener_.local_endpoint(); }

    std::uint64_t games = 0;
    std::optional<stream::Sender> world;  ///< of the last game that ended
    std::optional<stream::Receiver> moves;

private:
    Listener listener_;
};

/// Plays: sends moves and takes what comes of the world, as much as goes through.
class Player {
public:
    explicit Player(rejoin::Loop& loop, const rejoin::ResumablePipe::Options& options = {}) : pipe(loop, options) {
        pipe.on_receive([this](rejoin::Bytes bytes) {
            world.take(bytes);
            on_data();
        });
        pipe.on_drained([this] {
            moves.pump(pipe);
            on_data();
        });
        pipe.on_state([this, &loop](rejoin::PipeState state, const rejoin::Failure& why) {
            if (state != rejoin::PipeState::closed) return;
            end = why;
            loop.stop();
        });
    }
    void play(const rejoin::Endpoint& server) {
        static_cast<void>(pipe.connect(server));
        moves.pump(pipe);
    }

    rejoin::ResumablePipe pipe;
    stream::Sender moves{2};
    stream::Receiver world{1};
    rejoin::Function<void()> on_data;  ///< set it before `play`
    rejoin::Failure end;
};
