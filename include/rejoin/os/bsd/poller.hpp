// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/time.hpp>
#include <rejoin/os/clock.hpp>
#include <rejoin/os/posix/poll.hpp>
#include <rejoin/os/ready.hpp>

#if !defined(_WIN32) && !defined(__linux__) && !defined(REJOIN_POLL)
#include <sys/event.h>
#include <sys/types.h>

namespace rejoin::inline v0_1 {

/// The system under a `Loop` on macOS and the BSDs: readiness and one alarm (kqueue(2)), and one bell that any thread may ring: a pipe,
/// since OpenBSD's kqueue has no events of the user's. One descriptor stands for all three.
class Poller {
public:
    using Handle = int;
    static constexpr Handle no_handle = -1;
    static constexpr bool has_fd = true;
    static constexpr int batch = 64;

    Poller() : queue_(::kqueue()) {
        if (queue_ < 0) {
            error_ = Error::system(errno);
            return;
        }
        ::fcntl(queue_, F_SETFD, FD_CLOEXEC);
        error_ = bell_.open();
        if (!error_) error_ = add(bell_.fd(), Ready::readable, &bell_).error();
    }
    Poller(const Poller&) = delete;
    ~Poller() {
        if (queue_ >= 0) ::close(queue_);
    }

    /// Why it could not be made, if so: out of descriptors or memory.
    Error error() const { return error_; }
    Handle fd() const { return queue_; }

    /// Watches `fd`; `key`, not null, comes back from `wait`, for each direction by itself. While it is watched for nothing, errors and
    /// hang-ups are not told either.
    Result<void> add(Handle fd, Ready ready, void* key) { return modify(fd, ready, key); }
    Result<void> modify(Handle fd, Ready ready, void* key) {
        struct kevent changes[] = {event(fd, EVFILT_READ, flags(has(ready, Ready::readable)), key),
                                   event(fd, EVFILT_WRITE, flags(has(ready, Ready::writable)), key)};
        // Each of the two comes back at once with its own error (EV_RECEIPT), and what was ready stays where it is.
        if (::kevent(queue_, changes, 2, changes, 2, nullptr) < 0) return Error::system(errno);
        for (const auto& done : changes)
            if (done.data != 0 && done.data != ENOENT) return Error::system(static_cast<int>(done.data));  // ENOENT: it was not watched
        return {};
    }
    void remove(Handle fd) { static_cast<void>(modify(fd, Ready::none, nullptr)); }

    /// Waits up to `timeout` milliseconds (-1: for ever). What is ready then is taken one by one: `take(i)` and `ready(i)` for `i` below
    /// `ready_count()`; after the last, `alarmed` and `rung` are known.
    void wait(int timeout) {
        alarmed_ = rung_ = false;
        timespec t{};
        t.tv_sec = timeout / 1000;
        t.tv_nsec = timeout % 1000 * 1'000'000L;
        count_ = ::kevent(queue_, nullptr, 0, ready_, batch, timeout < 0 ? nullptr : &t);  // -1 when interrupted: nothing is ready
    }
    int ready_count() const { return count_; }
    /// The key of what is ready, or null: the alarm, the bell, or something forgotten meanwhile.
    void* take(int i) {
        void* const key = key_of(ready_[i]);
        if (ready_[i].filter == EVFILT_TIMER) {
            alarmed_ = true;
        } else if (key == &bell_) {
            rung_ = true;
            bell_.clear();
        } else {
            return key;
        }
        return nullptr;
    }
    Ready ready(int i) const { return ready_[i].filter == EVFILT_WRITE ? Ready::writable : Ready::readable; }
    /// Forgets what was ready for `key` and has not been handled yet.
    void forget(void* key) {
        for (int i = 0; i < count_; ++i)
            if (key_of(ready_[i]) == key) ready_[i].udata = {};
    }

    /// Whether the alarm went off.
    bool alarmed() const { return alarmed_; }
    /// Whether the bell was rung.
    bool rung() const { return rung_; }
    /// Sets the one alarm, in place of the one set before.
    void set_alarm(TimePoint when) {
        const Duration left = when - monotonic_now();
        struct kevent alarm = event(0, EVFILT_TIMER, EV_ADD | EV_ONESHOT, nullptr);
        alarm.fflags = NOTE_NSECONDS;
        alarm.data = left.nanoseconds() > 0 ? left.nanoseconds() : 1;
        ::kevent(queue_, &alarm, 1, nullptr, 0, nullptr);
    }
    /// Ends the wait under way, or the next one. From any thread.
    void ring() { bell_.ring(); }

private:
    using Key = decltype(kevent::udata);  // a pointer, or on older NetBSD an integer
    static void* key_of(const struct kevent& event) { return reinterpret_cast<void*>(event.udata); }
    static constexpr int flags(bool on) { return (on ? EV_ADD : EV_DELETE) | EV_RECEIPT; }
    static struct kevent event(int ident, decltype(kevent::filter) filter, int flags, void* key) {
        struct kevent e {};
        e.ident = static_cast<decltype(e.ident)>(ident);
        e.filter = filter;
        e.flags = static_cast<decltype(e.flags)>(flags);
        e.udata = reinterpret_cast<Key>(key);
        return e;
    }

    int queue_;
    detail::Bell bell_;
    int count_ = 0;
    bool alarmed_ = false;
    bool rung_ = false;
    Error error_;
    struct kevent ready_[batch];
};

}  // namespace rejoin::inline v0_1
#endif
