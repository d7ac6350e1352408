// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/posix_reader.hpp>
#include <rejoin/network/wake_watch.hpp>
#include <rejoin/network/windows_reader.hpp>

namespace rejoin::inline v0_1 {

/// An event source that looks from time to time, for where the system does not tell: everything is read anew and compared. `Reader` reads:
/// made as `Reader(Loop&, Delegate<void()> touched)`, and called as `Result<void> read(NetworkState& empty)`. Belongs to the loop's thread.
template <class Reader>
class PollingWith {
public:
    /// Between two looks: what a laptop may be woken for, and how late a change is noticed.
    static constexpr Duration interval = WakeWatch::interval;

    /// Looks once. Use `of`, so that a loop has one.
    explicit PollingWith(Loop& loop)
        : feed_(loop),
          reader_(loop, Delegate<void()>::to<&PollingWith::look>(this)),
          wake_(loop, feed_, Delegate<void()>::to<&PollingWith::look>(this)) {
        look();
    }
    /// The one of this loop, made when first asked for. Lives as long as the loop.
    static PollingWith& of(Loop& loop) { return loop.service<PollingWith>(); }

    const NetworkState& state() const { return feed_.state(); }
    /// Tells `observer` of every change from now on, until it is unlinked or destroyed.
    void observe(NetworkObserver& observer) { feed_.observe(observer); }
    /// Why the last look failed, if it did: the state is then that of the last one that did not.
    Error error() const { return error_; }

    /// Whether changes are looked for instead of told: always.
    bool polling() const { return true; }

    /// Looks now, for who has reason to believe that something changed. Not from inside an observer's call.
    void look() {
        NetworkState fresh;
        error_ = reader_.read(fresh).error();
        if (!error_) feed_.replace(std::move(fresh));
    }

private:
    ChangeFeed feed_;
    Reader reader_;
    WakeWatch wake_;
    Error error_;
};

/// The polling event source with the system's own reader. A look costs about as much as reading everything by netlink once: 110 µs with
/// five addresses (bench/network_bench.cpp).
using Polling = PollingWith<NetworkReader>;

}  // namespace rejoin::inline v0_1
