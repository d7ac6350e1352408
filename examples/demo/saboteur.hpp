// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <functional>
#include <list>
#include <optional>
#include <rejoin.hpp>

/// What the saboteur does to a connection.
enum class Sabotage { reset, silence, half_close, stall, cut_in_frame };
inline constexpr const char* sabotage_names[] = {"reset", "silent drop", "half-close", "stall", "cut in mid-frame"};

/// Stands between the player and the server, carries their bytes over plain TCP, and strikes with a piece of the stream in its hands.
class Saboteur {
    using Plain = rejoin::Pipe<rejoin::NoEvents, rejoin::Tcp, rejoin::FailFast>;

public:
    /// `in_use` tells of the player's endpoint: only the connection that is in use is worth a strike.
    Saboteur(rejoin::Loop& loop, const rejoin::Endpoint& server, std::uint64_t seed, std::function<rejoin::Endpoint()> in_use)
        : loop_(loop), server_(server), random_(seed), in_use_(std::move(in_use)), door_(loop, {plain(), {}, 64}) {
        door_.on_accept([this](Plain& player) { bridges_.emplace_back(*this, player); });
        static_cast<void>(door_.listen({"127.0.0.1", 0}));
    }

    /// Where the player is to connect to, in the belief that it is the server.
    rejoin::Endpoint endpoint() const { return door_.local_endpoint(); }
    /// Called after each strike; `rejoining`: it hit a connection that was just about to resume the session.
    std::function<void(Sabotage, bool rejoining)> on_strike;

    /// Strikes as soon as the connection in use carries something.
    void strike() { strike_due_ = true; }
    /// What comes now is let pass.
    void rest() { strike_due_ = false, ambush_.reset(); }

private:
    static Plain::Options plain() {
        Plain::Options options;
        // What the two sessions keep unacknowledged, 1 MiB each way, always fits.
        options.transport.queue_limit = 4 * 1024 * 1024;
        return options;
    }

    // One connection of the player's, and the one to the server that belongs to it.
    class Bridge {
    public:
        Bridge(Saboteur& saboteur, Plain& player)
            : s_(saboteur), near_(&player), far_(saboteur.loop_, plain()), stall_end_(saboteur.loop_, Call::to<&Bridge::go_on>(this)) {
            player.on_receive([this](rejoin::Bytes bytes) { carry(bytes, far_); });
            far_.on_receive([this](rejoin::Bytes bytes) { near_ != nullptr ? carry(bytes, *near_) : void(); });
            player.on_state([this](rejoin::PipeState state, const rejoin::Failure& why) {
                if (state != rejoin::PipeState::closed) return;
                near_ = nullptr;
                if (far_.state() == rejoin::PipeState::closed) return s_.remove(this);
                why ? far_.abort() : far_.close();
            });
            far_.on_state([this](rejoin::PipeState state, const rejoin::Failure& why) {
                if (state != rejoin::PipeState::closed) return;
                if (near_ == nullptr) return s_.remove(this);
                why ? near_->abort() : near_->close();
            });
            static_cast<void>(far_.connect(s_.server_));
        }

    private:
        using Call = rejoin::Delegate<void()>;

        void carry(rejoin::Bytes bytes, Plain& to) {
            if (silent_) return;
            carried_ += bytes.size();
            if (s_.ambush_ && number_ > s_.ambush_->behind && carried_ > s_.ambush_->after) {
                const Sabotage kind = s_.ambush_->kind;
                s_.ambush_.reset();
                return strike(kind, true, bytes, to);
            }
            if (s_.strike_due_ && near_ != nullptr && near_->peer_endpoint() == s_.in_use_()) {
                s_.strike_due_ = false;
                return strike(static_cast<Sabotage>(s_.random_.below(5)), false, bytes, to);
            }
            static_cast<void>(to.send(bytes));
        }
        // May destroy this bridge, as its last act.
        void strike(Sabotage kind, bool rejoining, rejoin::Bytes bytes, Plain& to) {
            // One in four of those who come back is met at the door: in the handshake, or just behind it.
            if (kind != Sabotage::stall && s_.random_.below(4) == 0) {
                const auto next = static_cast<Sabotage>(s_.random_.below(5));
                s_.ambush_ = {next == Sabotage::stall ? Sabotage::reset : next, s_.bridges_.back().number_, s_.random_.below(400)};
            }
            if (s_.on_strike) s_.on_strike(kind, rejoining);
            switch (kind) {
                case Sabotage::reset:
                    return near_ != nullptr ? near_->abort() : far_.abort();
                case Sabotage::silence:
                    silent_ = true;
                    return;
                case Sabotage::half_close:
                    static_cast<void>(to.send(bytes));
                    return s_.random_.below(2) == 0 && near_ != nullptr ? near_->close() : far_.close();
                case Sabotage::stall:
                    static_cast<void>(to.send(bytes));
                    pause(true);
                    stall_end_.after(s_.random_.between(rejoin::Duration::milliseconds(50), rejoin::Duration::milliseconds(500)));
                    return;
                case Sabotage::cut_in_frame:
                    static_cast<void>(to.send(bytes.first(static_cast<std::size_t>(s_.random_.below(bytes.size())))));
                    if (near_ != nullptr) near_->close();
                    return far_.close();
            }
        }
        void pause(bool paused) {
            if (near_ != nullptr) paused ? near_->pause() : near_->resume();
            paused ? far_.pause() : far_.resume();
        }
        void go_on() { pause(false); }

        Saboteur& s_;
        const std::uint64_t number_ = ++s_.last_number_;
        Plain* near_;  // the listener's; null when it is closed
        Plain far_;
        rejoin::Loop::Timer stall_end_;
        std::uint64_t carried_ = 0;
        bool silent_ = false;
    };

    void remove(Bridge* bridge) {
        bridges_.remove_if([&](const Bridge& b) { return &b == bridge; });
    }

    struct Ambush {
        Sabotage kind;
        std::uint64_t behind;  // strikes a later bridge than this one
        std::uint64_t after;   // when it has carried more than so many bytes
    };

    rejoin::Loop& loop_;
    rejoin::Endpoint server_;
    rejoin::Random random_;
    std::function<rejoin::Endpoint()> in_use_;
    bool strike_due_ = false;
    std::optional<Ambush> ambush_;
    std::uint64_t last_number_ = 0;
    std::list<Bridge> bridges_;  // before the door: its pipes go first
    rejoin::Listener<rejoin::Tcp, rejoin::NoEvents, rejoin::FailFast> door_;
};
