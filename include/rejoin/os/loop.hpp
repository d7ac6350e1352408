// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/bytes.hpp>
#include <rejoin/core/function.hpp>
#include <rejoin/core/list.hpp>
#include <rejoin/os/clock.hpp>
#include <rejoin/os/poller.hpp>
#include <rejoin/os/thread.hpp>
#include <rejoin/os/timers.hpp>

namespace rejoin::inline v0_1 {

/// Names a call set with `Loop::after`; 0 is never given out.
using TimerId = std::uint64_t;

/// One thread's event loop: readiness, timers, posted calls. It has one descriptor, so that another loop can drive it. Every call but
/// `post` belongs to the thread that runs it. It outlives everything made with it. Handlers do not throw.
class Loop {
public:
    Loop() = default;
    Loop(const Loop&) = delete;
    [[gnu::cold]] ~Loop() {
        while (services_ != nullptr) {
            Service* last = services_;
            last->destroy(last->object);
            services_ = last->next;
            delete last;
        }
        for (OneShot* shot : shots_) delete shot;
        ::operator delete(scratch_);
    }

    /// Why the loop could not be made (out of descriptors), if so; every call that runs it then returns this.
    Error error() const { return poller_.error(); }

    /// Handles events until `stop`. `invalid_state` inside a handler.
    Result<void> run() {
        if (auto begun = begin(); !begun) return begun;
        do turn(-1);
        while (!stopped_);
        end();
        return {};
    }
    /// Handles events until `stop`, or until `d` has passed.
    Result<void> run_for(Duration d) {
        Timer end(*this, Delegate<void()>::to<&Loop::stop>(this));
        end.after(d);
        return run();
    }
    /// Waits up to `d` (rounded up to milliseconds; zero only looks) for something to happen, and handles what did.
    Result<void> run_once(Duration d = Duration::unlimited()) {
        if (auto begun = begin(); !begun) return begun;
        const std::int64_t ms = (d + Duration::nanoseconds(999'999)).milliseconds();
        turn(d == Duration::unlimited() ? -1 : ms < 0 ? 0 : ms > INT32_MAX ? INT32_MAX : static_cast<int>(ms));
        end();
        return {};
    }
    /// Makes the `run` under way return when the present turn is done. From another thread: `post` a call of this.
    void stop() { stopped_ = true; }

    /// Has `f` called on the loop's thread, in the next turn. From any thread. Calls that the loop did not come to are dropped with it.
    [[gnu::cold]] Result<void> post(Function<void()> f) {
        if (!f) return Errc::invalid_argument;
        Lock lock(mutex_);
        const bool first = posted_.empty();
        if (!posted_.push(std::move(f))) return Errc::out_of_memory;
        if (first) poller_.ring();
        return {};
    }

    /// Calls `f` once, `d` from now. 0 when memory is out or `f` is empty.
    [[gnu::cold]] TimerId after(Duration d, Function<void()> f) {
        if (!f) return 0;
        std::uint32_t slot = free_shots_.empty() ? static_cast<std::uint32_t>(shots_.size()) : free_shots_.back();
        auto* shot = new (std::nothrow) OneShot(*this, ++generation_ << 32 | slot, std::move(f));
        // Room for the slot's return is reserved with the slot, so that giving it back cannot fail.
        if (shot == nullptr || (slot == shots_.size() && (!free_shots_.reserve(shots_.size() + 1) || !shots_.push(nullptr))) ||
            !shot->timer.after(d)) {
            delete shot;
            return 0;
        }
        if (!free_shots_.empty() && free_shots_.back() == slot) free_shots_.pop();
        shots_[slot] = shot;
        return shot->id;
    }
    /// Calls off what `after` set; false when it has run already.
    bool cancel(TimerId id) {
        const auto slot = static_cast<std::uint32_t>(id);
        if (slot >= shots_.size() || shots_[slot] == nullptr || shots_[slot]->id != id) return false;
        OneShot* shot = take_shot(slot);
        delete shot;
        return true;
    }

    /// One descriptor that is readable whenever `run_once(Duration())` has something to do, timers and posted calls included: add it to
    /// an epoll, poll, libuv, asio or Qt loop, and call `run_once(Duration())` when it is. Not where poll(2) is all there is: on Windows
    /// and with REJOIN_POLL there is no such descriptor, and the other loop calls `run_once(Duration())` from time to time.
    template <class P = Poller>
    typename P::Handle fd() {
        static_assert(P::has_fd, "here no descriptor stands for the loop: call run_once(Duration()) from time to time");
        embedded_ = true;
        if (!deferred_.empty()) poller_.ring();
        return static_cast<P&>(poller_).fd();
    }

    /// The time of the present turn: read from the clock once, when first asked for.
    TimePoint now() {
        if (!inside_) return monotonic_now();
        if (now_ == TimePoint()) now_ = monotonic_now();
        return now_;
    }

    /// The one `S` of this loop, made as `S(loop)` when first asked for and destroyed with the loop, the last first. What many pipes
    /// share (the event source, the resolver) lives here. Ends the program when memory is out: there is nothing to go on with.
    template <class S>
    [[gnu::cold]] S& service() {
        for (Service* s = services_; s != nullptr; s = s->next)
            if (s->key == &key<S>) return *static_cast<S*>(s->object);
        services_ = new Service{&key<S>, new S(*this), &destroy<S>, services_};
        return *static_cast<S*>(services_->object);
    }

    /// Room for one read, shared by all that read in this loop: valid until the handler returns. Empty when memory is out.
    MutableBytes scratch() {
        if (scratch_ == nullptr) scratch_ = static_cast<std::byte*>(::operator new(scratch_size, std::nothrow));
        return {scratch_, scratch_ == nullptr ? 0 : scratch_size};
    }
    static constexpr std::size_t scratch_size = 256 * 1024;  // larger reads gain nothing: it is half of a core's second-level cache

    /// Watches one descriptor and calls its delegate when it is ready. Stops when destroyed, which must come before the descriptor is
    /// closed.
    class Watch {
    public:
        Watch(Loop& loop, Delegate<void(Ready)> on_ready) : loop_(loop), on_ready_(on_ready) {}
        Watch(const Watch&) = delete;
        ~Watch() { stop(); }

        Result<void> start(Poller::Handle fd, Ready ready) {
            stop();
            auto added = loop_.poller_.add(fd, ready, this);
            if (added) fd_ = fd, ready_ = ready;
            return added;
        }
        /// Watches for something else from now on; no system call when it is the same.
        void change(Ready ready) {
            if (fd_ == Poller::no_handle || ready == ready_) return;
            ready_ = ready;
            loop_.poller_.modify(fd_, ready, this);
        }
        void stop() {
            if (fd_ == Poller::no_handle) return;
            loop_.poller_.remove(fd_);
            loop_.poller_.forget(this);
            fd_ = Poller::no_handle;
        }
        Loop& loop() const { return loop_; }

    private:
        friend class Loop;
        Loop& loop_;
        Delegate<void(Ready)> on_ready_;
        Poller::Handle fd_ = Poller::no_handle;
        Ready ready_ = Ready::none;
    };

    /// Calls its delegate once at a time, if it is not cancelled, moved or destroyed before.
    class Timer {
    public:
        Timer(Loop& loop, Delegate<void()> due) : loop_(loop), entry_(due) {}
        ~Timer() { cancel(); }

        /// Arms it for `when`, or moves it there; false when memory is out.
        bool at(TimePoint when) {
            if (when == TimePoint::never()) {
                cancel();
                return true;
            }
            // What a timer's handler sets for now waits for the next turn.
            if (when <= loop_.timers_due_) when = loop_.timers_due_ + Duration::nanoseconds(1);
            const bool set = loop_.timers_.set(entry_, when);
            if (set && when < loop_.alarm_) loop_.set_alarm(when);
            return set;
        }
        bool after(Duration d) { return at(loop_.now() + d); }
        void cancel() { loop_.timers_.cancel(entry_); }
        bool armed() const { return entry_.armed(); }
        TimePoint when() const { return loop_.timers_.when(entry_); }

    private:
        Loop& loop_;
        TimerHeap::Entry entry_;
    };

    /// Work to be done once, when the handlers of the present turn are through and before the loop waits again: what gathers many small
    /// sends into one system call.
    class Deferred : private ListNode {
    public:
        Deferred(Loop& loop, Delegate<void()> call) : loop_(loop), call_(call) {}
        void schedule() {
            if (linked()) return;
            loop_.deferred_.push(*this);
            if (loop_.embedded_ && !loop_.inside_) loop_.poller_.ring();
        }
        void cancel() { unlink(); }
        bool scheduled() const { return linked(); }

    private:
        friend class Loop;
        Loop& loop_;
        Delegate<void()> call_;
    };

private:
    struct Service {
        const void* key;
        void* object;
        void (*destroy)(void*);
        Service* next;
    };
    template <class S>
    static inline char key = 0;  // its address is the key; not const, so that no linker folds two into one

    struct OneShot {
        OneShot(Loop& l, TimerId i, Function<void()> f)
            : loop(l), id(i), timer(l, Delegate<void()>::to<&OneShot::due>(this)), call(std::move(f)) {}
        void due() {
            loop.take_shot(static_cast<std::uint32_t>(id));
            call();
            delete this;
        }
        Loop& loop;
        TimerId id;
        Timer timer;
        Function<void()> call;
    };

    OneShot* take_shot(std::uint32_t slot) {
        OneShot* shot = shots_[slot];
        shots_[slot] = nullptr;
        free_shots_.push(slot);
        return shot;
    }

    Result<void> begin() {
        if (const Error error = poller_.error()) return error;
        if (inside_) return Errc::invalid_state;
        inside_ = true;
        stopped_ = false;
        now_ = TimePoint();
        if (!deferred_.empty()) run_deferred();
        return {};
    }
    void turn(int timeout) {
        poller_.wait(deferred_.empty() && !stopped_ ? timeout : 0);
        now_ = TimePoint();
        for (int i = 0; i < poller_.ready_count(); ++i)
            if (auto* watch = static_cast<Watch*>(poller_.take(i))) watch->on_ready_(poller_.ready(i));
        if (poller_.alarmed()) run_timers();
        if (poller_.rung()) run_posted();
        if (!deferred_.empty()) run_deferred();
    }
    void end() {
        inside_ = false;
        if (embedded_ && !deferred_.empty()) poller_.ring();
    }

    void run_deferred() {
        List round;  // what is scheduled meanwhile waits for the next turn
        round.take(deferred_);
        while (ListNode* node = round.front()) {
            node->unlink();
            static_cast<Deferred*>(node)->call_();
        }
    }

    void run_timers() {
        alarm_ = TimePoint::never();
        timers_due_ = now();
        while (TimerHeap::Entry* entry = timers_.take_due(timers_due_)) entry->due();
        timers_due_ = TimePoint();
        if (timers_.first() < alarm_) set_alarm(timers_.first());
    }

    void run_posted() {
        Array<Function<void()>> calls;
        {
            Lock lock(mutex_);
            calls = std::move(posted_);
        }
        for (auto& call : calls) call();
    }

    void set_alarm(TimePoint when) {
        alarm_ = when;
        poller_.set_alarm(when);
    }

    template <class S>
    static void destroy(void* service) {
        delete static_cast<S*>(service);
    }

    Poller poller_;
    TimerHeap timers_;
    TimePoint alarm_ = TimePoint::never();  // what the system's timer is set to; it may go off early, never late
    TimePoint now_;
    TimePoint timers_due_;  // while the timers due by then are handled, else zero
    List deferred_;
    Service* services_ = nullptr;
    Array<OneShot*> shots_;
    Array<std::uint32_t> free_shots_;
    std::uint64_t generation_ = 0;
    std::byte* scratch_ = nullptr;
    bool stopped_ = false;
    bool inside_ = false;
    bool embedded_ = false;

    Mutex mutex_;
    Array<Function<void()>> posted_;  // guarded by mutex_
};

}  // namespace rejoin::inline v0_1
