// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/feed.hpp>
#include <rejoin/os/loop.hpp>
#include <utility>

namespace rejoin::inline v0_1 {

/// An event source whose network is what the program says it is: for tests, the users' own included. Belongs to the loop's thread.
class Scripted {
public:
    explicit Scripted(Loop& loop) : feed_(loop), later_(loop, Delegate<void()>::to<&Scripted::apply>(this)) {}
    /// The one of this loop, made when first asked for. Lives as long as the loop.
    static Scripted& of(Loop& loop) { return loop.service<Scripted>(); }

    const NetworkState& state() const { return feed_.state(); }
    /// Tells `observer` of every change from now on, until it is unlinked or destroyed.
    void observe(NetworkObserver& observer) { feed_.observe(observer); }
    Error error() const { return {}; }

    /// The network looks like this from now on; before this returns, the observers have been told what that changes. Called from an
    /// observer, it takes effect when all have been told of the change under way, and the last call of several counts.
    void set(NetworkState&& state) {
        next_ = std::move(state);
        next_.known = pending_ = true;
        if (!feed_.publishing()) return apply();
        if (!applying_) later_.schedule();
    }
    /// Tells of a change that is no difference between states: `woke`, `external_address_changed`.
    void tell(const NetworkChange& change) { feed_.publish(change); }

private:
    void apply() {
        applying_ = true;
        while (std::exchange(pending_, false)) feed_.replace(std::move(next_));
        applying_ = false;
    }

    ChangeFeed feed_;
    Loop::Deferred later_;
    NetworkState next_;
    bool pending_ = false, applying_ = false;
};

}  // namespace rejoin::inline v0_1
