// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/os/clock.hpp>
#include <rejoin/os/posix/poll.hpp>
#include <rejoin/os/ready.hpp>
#include <rejoin/os/windows/poll.hpp>

#if defined(REJOIN_POLL) || defined(_WIN32)
namespace rejoin::inline v0_1 {

/// The system under a `Loop` where there is nothing better, and on Windows: poll(2) or WSAPoll, whose cost grows with what is watched: for
/// some hundred descriptors.
/// No one descriptor stands for all, and the alarm is only as exact as a time-out in milliseconds.
class Poller {
public:
    using Handle = detail::PollHandle;
    static constexpr Handle no_handle = static_cast<Handle>(-1);
    static constexpr bool has_fd = false;

    Poller() {
        error_ = bell_.open();
        if (!error_) error_ = add(bell_.fd(), Ready::readable, &bell_).error();
    }
    Poller(const Poller&) = delete;

    /// Why it could not be made, if so: out of descriptors or memory.
    Error error() const { return error_; }

    /// Watches `fd`; `key`, not null, comes back from `wait`.
    Result<void> add(Handle fd, Ready ready, void* key) {
        // Memory for all that can be ready is taken here, so that `wait` needs none.
        const std::size_t n = entries_.size() + 1;
        if (n > keys_capacity_) {
            const std::size_t room = n < 8 ? 8 : 2 * n;
            if (!keys_.reserve(room) || !ready_.reserve(room) || !entries_.reserve(room)) return Errc::out_of_memory;
            keys_capacity_ = room;
        }
        detail::PollEntry entry{};
        entry.fd = fd;
        entry.events = events(ready);
        if (const Error error = detail::poll_refuses(entry)) return error;
        entries_.push(entry);
        keys_.push(key);
        return {};
    }
    Result<void> modify(Handle fd, Ready ready, void*) {
        entries_[find(fd)].events = events(ready);
        return {};
    }
    void remove(Handle fd) {
        const std::size_t at = find(fd);
        entries_[at] = entries_.back();
        keys_[at] = keys_.back();
        entries_.pop();
        keys_.pop();
    }

    /// Waits up to `timeout` milliseconds (-1: for ever). What is ready then is taken one by one: `take(i)` and `ready(i)` for `i` below
    /// `ready_count()`; after the last, `alarmed` and `rung` are known.
    void wait(int timeout) {
        rung_ = false;
        ready_.clear();
        if (alarm_ != TimePoint::never()) {
            const std::int64_t ms = (alarm_ - monotonic_now() + Duration::nanoseconds(999'999)).milliseconds();
            const int until = ms < 0 ? 0 : ms > INT32_MAX ? INT32_MAX : static_cast<int>(ms);
            if (timeout < 0 || until < timeout) timeout = until;
        }
        int left = detail::poll_wait(entries_.data(), entries_.size(), timeout);
        alarmed_ = alarm_ != TimePoint::never() && monotonic_now() >= alarm_;
        if (alarmed_) alarm_ = TimePoint::never();
        for (std::size_t i = 0; left > 0 && i < entries_.size(); ++i) {
            const auto e = entries_[i].revents;
            if (e == 0) continue;
            --left;
            const bool failed = (e & ~(detail::poll_in | detail::poll_out)) != 0;
            ready_.push({keys_[i], failed ? Ready::both
                                          : ((e & detail::poll_in) != 0 ? Ready::readable : Ready::none) |
                                                ((e & detail::poll_out) != 0 ? Ready::writable : Ready::none)});
        }
    }
    int ready_count() const { return static_cast<int>(ready_.size()); }
    /// The key of what is ready, or null: the bell, or something forgotten meanwhile.
    void* take(int i) {
        void* const key = ready_[static_cast<std::size_t>(i)].key;
        if (key != &bell_) return key;
        rung_ = true;
        bell_.clear();
        return nullptr;
    }
    Ready ready(int i) const { return ready_[static_cast<std::size_t>(i)].ready; }
    /// Forgets what was ready for `key` and has not been handled yet.
    void forget(void* key) {
        for (auto& one : ready_)
            if (one.key == key) one.key = nullptr;
    }

    /// Whether the alarm went off.
    bool alarmed() const { return alarmed_; }
    /// Whether the bell was rung.
    bool rung() const { return rung_; }
    /// Sets the one alarm, in place of the one set before.
    void set_alarm(TimePoint when) { alarm_ = when; }
    /// Ends the wait under way, or the next one. From any thread.
    void ring() { bell_.ring(); }

private:
    struct Event {
        void* key;
        Ready ready;
    };
    static short events(Ready ready) {
        return static_cast<short>((has(ready, Ready::readable) ? detail::poll_in : 0) |
                                  (has(ready, Ready::writable) ? detail::poll_out : 0));
    }
    std::size_t find(Handle fd) const {
        std::size_t i = 0;
        while (entries_[i].fd != fd) ++i;
        return i;
    }

    detail::Bell bell_;
    Array<detail::PollEntry> entries_;
    Array<void*> keys_;  // of the entries
    Array<Event> ready_;
    std::size_t keys_capacity_ = 0;
    TimePoint alarm_ = TimePoint::never();
    bool alarmed_ = false;
    bool rung_ = false;
    Error error_;
};

}  // namespace rejoin::inline v0_1
#endif
