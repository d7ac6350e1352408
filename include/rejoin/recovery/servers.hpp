// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/address.hpp>
#include <rejoin/core/index.hpp>
#include <rejoin/core/list.hpp>
#include <rejoin/core/random.hpp>
#include <rejoin/os/loop.hpp>

namespace rejoin::inline v0_1::detail {

/// What the pipes of one loop know together of each server, by the endpoint that they were told to connect to; and those of them that wait
/// for their turn. `S` is the policy's part of it (policies.hpp: `R::Server`).
template <class S>
class Servers {
public:
    /// A pipe that waits: called when its turn may have come.
    struct Waiter : ListNode {
        explicit Waiter(Delegate<void()> g) : go(g) {}
        const Delegate<void()> go;
    };

    class Server : ListNode {
    public:
        Server(Loop& loop, const Endpoint& to, std::uint64_t hash)
            : loop_(loop), timer_(loop, Delegate<void()>::to<&Server::turn>(this)), to_(to), hash_(hash) {}
        S state;

        std::uint64_t hash() const { return hash_; }
        bool is(const Endpoint& to) const { return to_ == to; }
        void wait(Waiter& waiter) {
            waiters_.push(waiter);
            look();
        }
        /// Something has changed that may give one who waits a turn.
        void look() {
            if (!waiters_.empty()) timer_.at(state.next(loop_.now()));
        }

    private:
        friend class Servers;
        void turn() {
            ++users_;  // whoever has a turn may be the last who knows this server
            while (!waiters_.empty()) {
                const TimePoint next = state.next(loop_.now());
                if (next > loop_.now()) {
                    timer_.at(next);
                    break;
                }
                auto& waiter = static_cast<Waiter&>(*waiters_.front());
                waiter.unlink();
                waiter.go();
            }
            loop_.service<Servers>().leave(*this);
        }

        Loop& loop_;
        List waiters_;
        Loop::Timer timer_;
        const Endpoint to_;
        const std::uint64_t hash_;
        unsigned users_ = 0;
    };

    explicit Servers(Loop& loop) : loop_(loop) {}
    ~Servers() {
        while (Server* idle = static_cast<Server*>(idle_.front())) remove(idle);
    }

    /// The one for `to`, until `leave`. Null when memory is out.
    [[gnu::cold]] Server* join(const Endpoint& to) {
        const std::uint64_t hash = hash_of(to);
        Server* server = all_.find(hash, to);
        if (server == nullptr) {
            server = new (std::nothrow) Server(loop_, to, hash);
            if (server == nullptr || !all_.insert(server)) {
                delete server;
                return nullptr;
            }
        } else if (server->users_ == 0) {
            server->unlink();
            --idle_count_;
        }
        ++server->users_;
        return server;
    }
    /// What is known is kept for the next who comes, as long as there are few such servers.
    [[gnu::cold]] void leave(Server& server) {
        if (--server.users_ > 0) return;
        idle_.push(server);
        if (++idle_count_ > idle_max) {
            --idle_count_;
            remove(static_cast<Server*>(idle_.front()));
        }
    }

private:
    static constexpr std::size_t idle_max = 64;

    void remove(Server* server) {
        all_.erase(server);
        delete server;
    }
    static std::uint64_t hash_of(const Endpoint& to) {
        std::uint64_t h = to.port();
        const auto mix = [&](std::uint64_t word) { h = Random(h ^ word).next(); };
        for (std::uint8_t b : to.ip().bytes) mix(b);
        for (const char* c = to.name(); c != nullptr && *c != 0; ++c) mix(static_cast<unsigned char>(*c));
        return h;
    }

    Loop& loop_;
    Index<Server, Endpoint> all_;
    List idle_;
    std::size_t idle_count_ = 0;
};

}  // namespace rejoin::inline v0_1::detail
