// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/feed.hpp>
#include <rejoin/os/loop.hpp>
#include <utility>

namespace rejoin::inline v0_1 {

/// An event source whose network is what the program says it is: for tests, the users' own included. Belongs to the loop's thread.
class Scripted {
public:
    explicit Scripted(Loop&) {}
    /// The one of this loop, made when first asked for. Lives as long as the loop.
    static Scripted& of(Loop& loop) { return loop.service<Scripted>(); }

    const NetworkState& state() const { return state_; }
    /// Tells `observer` of every change from now on, until it is unlinked or destroyed.
    void observe(NetworkObserver& observer) { feed_.add(observer); }
    Error error() const { return {}; }

    /// The network looks like this from now on; before this returns, the observers have been told what that changes. Called from an
    /// observer, it takes effect when all have been told of the change under way, and the last call of several counts.
    void set(NetworkState&& state) {
        next_ = std::move(state);
        next_.known = pending_ = true;
        if (publishing_) return;
        publishing_ = true;
        while (std::exchange(pending_, false)) {
            before_ = std::move(state_);
            state_ = std::move(next_);
            feed_.publish(before_, state_);
        }
        publishing_ = false;
    }

private:
    NetworkState state_, before_, next_;
    ChangeFeed feed_;
    bool pending_ = false, publishing_ = false;
};

}  // namespace rejoin::inline v0_1
