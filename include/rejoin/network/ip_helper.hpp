// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/feed.hpp>
#include <rejoin/network/wake_watch.hpp>

namespace rejoin::inline v0_1 {

/// The event source of a system that says only that something has changed (Windows): then everything is read, and compared. Belongs to the
/// loop's thread.
///
///     Notice: Error open(); Handle fd(), readable when something may have changed, until clear(); void clear()
///     Reader: as that of `PollingWith`
template <class Notice, class Reader>
class IpHelperOf {
public:
    /// Opens the notices and reads the state: `error` says whether that went well. Use `of`, so that a loop has one.
    explicit IpHelperOf(Loop& loop)
        : loop_(loop),
          watch_(loop, Delegate<void(Ready)>::to<&IpHelperOf::hear>(this)),
          timer_(loop, Delegate<void()>::to<&IpHelperOf::look>(this)),
          feed_(loop),
          reader_(loop, Delegate<void()>::to<&IpHelperOf::look>(this)),
          wake_(loop, feed_, Delegate<void()>::to<&IpHelperOf::look>(this)) {
        error_ = notice_.open();
        if (!error_) error_ = watch_.start(notice_.fd(), Ready::readable).error();
        NetworkState first;
        if (!error_) error_ = reader_.read(first).error();
        if (error_)
            watch_.stop();
        else
            feed_.replace(std::move(first));
    }
    /// The one of this loop, made when first asked for. Lives as long as the loop.
    static IpHelperOf& of(Loop& loop) { return loop.service<IpHelperOf>(); }

    const NetworkState& state() const { return feed_.state(); }
    /// Tells `observer` of every change from now on, until it is unlinked or destroyed.
    void observe(NetworkObserver& observer) { feed_.observe(observer); }
    /// Why the network cannot be watched, or none; `state().known` is then false for good.
    Error error() const { return error_; }

private:
    // A notice may come before what it is about can be read; and many come at once, while reading everything is not cheap: 1 ms and more.
    static constexpr Duration look_again[] = {Duration::milliseconds(10), Duration::milliseconds(100), Duration::seconds(1)};
    static constexpr Duration between_readings = Duration::milliseconds(10);

    void hear(Ready) {
        wake_.look();
        notice_.clear();  // first, so that what happens while it is read makes itself heard again
        looks_ = 0;
        const TimePoint next = last_ + between_readings;
        if (loop_.now() < next)
            timer_.at(next);
        else
            look();
    }
    // A reading that fails changes nothing: the next one is made all the same.
    void look() {
        if (error_) return;
        last_ = loop_.now();
        NetworkState fresh;
        if (reader_.read(fresh)) feed_.replace(std::move(fresh));
        if (looks_ < sizeof look_again / sizeof look_again[0]) timer_.after(look_again[looks_++]);
    }

    Loop& loop_;
    Notice notice_;
    Loop::Watch watch_;  // after the notice: it stops before that is closed
    Loop::Timer timer_;
    ChangeFeed feed_;
    Reader reader_;
    WakeWatch wake_;
    Error error_;
    TimePoint last_;                                                // when everything was last read
    std::size_t looks_ = sizeof look_again / sizeof look_again[0];  // none is due
};

}  // namespace rejoin::inline v0_1
