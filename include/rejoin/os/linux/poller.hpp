// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/error.hpp>
#include <rejoin/core/time.hpp>
#include <rejoin/os/ready.hpp>

#if defined(__linux__) && !defined(REJOIN_POLL)
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

namespace rejoin::inline v0_1 {

/// The system under a `Loop`: readiness (epoll), one alarm (timerfd), one bell that any thread may ring (eventfd), and one
/// descriptor that stands for all three. The alarm and the bell are edge-triggered, so that neither needs to be read.
class Poller {
public:
    using Handle = int;
    static constexpr Handle no_handle = -1;
    static constexpr bool has_fd = true;
    static constexpr int batch = 64;

    Poller() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
        if (epoll_ < 0) {
            error_ = Error::system(errno);
            return;
        }
        alarm_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        bell_ = alarm_ < 0 ? -1 : ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (bell_ < 0 || control(EPOLL_CTL_ADD, alarm_, EPOLLIN | EPOLLET, &alarm_) != 0 ||
            control(EPOLL_CTL_ADD, bell_, EPOLLIN | EPOLLET, &bell_) != 0)
            error_ = Error::system(errno);
    }
    Poller(const Poller&) = delete;
    ~Poller() {
        for (int fd : {bell_, alarm_, epoll_})
            if (fd >= 0) ::close(fd);
    }

    /// Why it could not be made, if so: out of descriptors or memory.
    Error error() const { return error_; }
    Handle fd() const { return epoll_; }

    /// Watches `fd`; `key`, not null, comes back from `wait`.
    Result<void> add(Handle fd, Ready ready, void* key) { return result(control(EPOLL_CTL_ADD, fd, events(ready), key)); }
    Result<void> modify(Handle fd, Ready ready, void* key) { return result(control(EPOLL_CTL_MOD, fd, events(ready), key)); }
    void remove(Handle fd) { control(EPOLL_CTL_DEL, fd, 0, nullptr); }

    /// Waits up to `timeout` milliseconds (-1: for ever). What is ready then is taken one by one: `take(i)` and `ready(i)` for `i` below
    /// `ready_count()`; after the last, `alarmed` and `rung` are known.
    void wait(int timeout) {
        alarmed_ = rung_ = false;
        count_ = ::epoll_wait(epoll_, ready_, batch, timeout);  // -1 when interrupted: nothing is ready
    }
    int ready_count() const { return count_; }
    /// The key of what is ready, or null: the alarm, the bell, or something forgotten meanwhile.
    void* take(int i) {
        void* const key = ready_[i].data.ptr;
        if (key == &alarm_)
            alarmed_ = true;
        else if (key == &bell_)
            rung_ = true;
        else
            return key;
        return nullptr;
    }
    Ready ready(int i) const {
        const auto e = ready_[i].events;
        if (e == EPOLLIN) return Ready::readable;  // nearly always
        return (e & (EPOLLERR | EPOLLHUP)) != 0
                   ? Ready::both
                   : ((e & EPOLLIN) != 0 ? Ready::readable : Ready::none) | ((e & EPOLLOUT) != 0 ? Ready::writable : Ready::none);
    }
    /// Forgets what was ready for `key` and has not been handled yet.
    void forget(void* key) {
        for (int i = 0; i < count_; ++i)
            if (ready_[i].data.ptr == key) ready_[i].data.ptr = nullptr;
    }

    /// Whether the alarm went off.
    bool alarmed() const { return alarmed_; }
    /// Whether the bell was rung.
    bool rung() const { return rung_; }
    /// Sets the one alarm, in place of the one set before.
    void set_alarm(TimePoint when) {
        itimerspec at{};
        const std::int64_t ns = when.nanoseconds() > 0 ? when.nanoseconds() : 1;  // zero would disarm it
        at.it_value.tv_sec = static_cast<time_t>(ns / 1'000'000'000);
        at.it_value.tv_nsec = static_cast<long>(ns % 1'000'000'000);
        ::timerfd_settime(alarm_, TFD_TIMER_ABSTIME, &at, nullptr);
    }
    /// Ends the wait under way, or the next one. From any thread.
    void ring() {
        const std::uint64_t one = 1;
        [[maybe_unused]] const ssize_t n = ::write(bell_, &one, sizeof one);  // cannot fail but by overflow, when it rings already
    }

private:
    static std::uint32_t events(Ready ready) {
        return (has(ready, Ready::readable) ? std::uint32_t{EPOLLIN} : 0) | (has(ready, Ready::writable) ? std::uint32_t{EPOLLOUT} : 0);
    }
    int control(int what, int fd, std::uint32_t mask, void* key) {
        epoll_event event{};
        event.events = mask;
        event.data.ptr = key;
        return ::epoll_ctl(epoll_, what, fd, &event);
    }
    static Result<void> result(int returned) {
        if (returned != 0) return Error::system(errno);
        return {};
    }

    int epoll_;
    int alarm_ = -1;
    int bell_ = -1;
    int count_ = 0;
    bool alarmed_ = false;
    bool rung_ = false;
    Error error_;
    epoll_event ready_[batch];
};

}  // namespace rejoin::inline v0_1
#endif
