// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/lookup.hpp>
#include <rejoin/os/loop.hpp>

namespace rejoin::inline v0_1 {

/// Turns names into addresses without making the loop wait. One a loop: `Resolver::of(loop)`. At most four look-ups run at once, each on
/// a thread of its own, because the system offers nothing else; the rest queue. Cancelling, and destroying the loop, leave a look-up
/// under way to finish by itself, unheard: neither waits.
class Resolver {
public:
    using Answer = Result<Array<IpAddress>>;
    /// Stands in for the system's resolver: called on the loop's thread, answers now or later, once, by calling `done` there.
    using LookUp = Function<void(const char* name, Function<void(Answer)> done)>;

    explicit Resolver(Loop& loop) : mailbox_(new Mailbox) { mailbox_->loop = &loop; }
    Resolver(const Resolver&) = delete;
    ~Resolver() {
        for (Job* job : waiting_) delete job;
        {
            Lock lock(mailbox_->mutex);
            mailbox_->loop = nullptr;
        }
        mailbox_->release();
    }
    static Resolver& of(Loop& loop) { return loop.service<Resolver>(); }

    /// Has names looked up by `look_up` from now on; an empty one brings the system's back.
    void replace(LookUp look_up) { replacement_ = std::move(look_up); }

    /// One name being looked up. Cancelled when destroyed; the answer comes at most once, never inside `start`.
    class Query : private ListNode {
    public:
        explicit Query(Delegate<void(Answer&&)> answered) : answered_(answered) {}
        ~Query() { cancel(); }
        /// Looks `name` up (copied); a look-up under way is cancelled.
        Result<void> start(Resolver& resolver, const char* name) {
            cancel();
            return resolver.start(*this, name);
        }
        void cancel() { unlink(); }
        bool busy() const { return linked(); }

    private:
        friend class Resolver;
        Delegate<void(Answer&&)> answered_;
        std::uint64_t id_ = 0;
    };

private:
    // Shared by the loop's thread and the helpers; the last to leave frees it.
    struct Mailbox {
        Mutex mutex;
        Loop* loop = nullptr;  // null once the loop is gone
        int holders = 1;
        void release() {
            mutex.lock();
            const bool last = --holders == 0;
            mutex.unlock();
            if (last) delete this;
        }
    };
    // One look-up of the system's. The helper fills in the answer and sends the job back, or frees it where nobody waits any more.
    struct Job {
        Mailbox* mailbox;
        Resolver* resolver;  // used on the loop's thread only, and only while mailbox->loop is set
        std::uint64_t id;
        char* name;
        Answer answer{Errc::cancelled};
        ~Job() { std::free(name); }
    };

    [[gnu::cold]] Result<void> start(Query& query, const char* name) {
        query.id_ = ++last_id_;
        if (replacement_) {
            queries_.push(query);
            replacement_(name, [this, id = query.id_](Answer answer) {
                if (answer && answer->empty()) answer = no_address;
                Owned<Answer> kept(new (std::nothrow) Answer(std::move(answer)));
                if (kept.object != nullptr)
                    static_cast<void>(mailbox_->loop->post([this, id, kept = std::move(kept)] { deliver(id, std::move(*kept.object)); }));
            });
            return {};
        }
        const std::size_t size = std::strlen(name) + 1;
        auto* copy = static_cast<char*>(std::malloc(size));
        if (copy == nullptr) return Errc::out_of_memory;
        std::memcpy(copy, name, size);
        auto* job = new (std::nothrow) Job{mailbox_, this, query.id_, copy, Errc::cancelled};
        if (job == nullptr || !waiting_.push(job)) {
            job == nullptr ? std::free(copy) : delete job;
            return Errc::out_of_memory;
        }
        queries_.push(query);
        auto started = start_next();
        if (started || running_ > 0) return {};
        query.cancel();
        delete waiting_.back();
        waiting_.pop();
        return started;
    }

    Result<void> start_next() {
        if (running_ == 4) return {};
        while (!waiting_.empty() && find(waiting_[0]->id) == nullptr) {  // called off meanwhile
            delete waiting_[0];
            waiting_.erase(0);
        }
        if (waiting_.empty()) return {};
        Job* job = waiting_[0];
        {
            Lock lock(mailbox_->mutex);
            ++mailbox_->holders;
        }
        auto started = start_thread(&Resolver::help, job);
        if (!started) {
            mailbox_->release();
            return started;
        }
        waiting_.erase(0);
        ++running_;
        return {};
    }

    // The helper thread.
    static void* help(void* argument) {
        Owned<Job> job{static_cast<Job*>(argument)};
        Mailbox* mailbox = job.object->mailbox;
        job.object->answer = look_up(job.object->name);
        {
            Lock lock(mailbox->mutex);
            if (mailbox->loop != nullptr)
                static_cast<void>(mailbox->loop->post([job = std::move(job)] { job.object->resolver->finish(*job.object); }));
        }
        mailbox->release();
        return nullptr;
    }
    template <class T>
    struct Owned {
        T* object;
        explicit Owned(T* o) : object(o) {}
        Owned(Owned&& other) noexcept : object(std::exchange(other.object, nullptr)) {}
        ~Owned() { delete object; }
    };

    void finish(Job& job) {
        --running_;
        auto started = start_next();
        while (!started && running_ == 0 && !waiting_.empty()) {  // nothing would start the rest
            Owned<Job> next{waiting_[0]};
            waiting_.erase(0);
            deliver(next.object->id, started.error());
        }
        deliver(job.id, std::move(job.answer));
    }
    [[gnu::cold]] Query* find(std::uint64_t id) {
        Query* found = nullptr;
        queries_.for_each([&](ListNode& node) {
            if (static_cast<Query&>(node).id_ == id) found = &static_cast<Query&>(node);
        });
        return found;
    }
    void deliver(std::uint64_t id, Answer&& answer) {
        Query* asked = find(id);
        if (asked == nullptr) return;
        asked->unlink();
        asked->answered_(std::move(answer));
    }

    Mailbox* mailbox_;
    List queries_;
    Array<Job*> waiting_;
    int running_ = 0;
    std::uint64_t last_id_ = 0;
    LookUp replacement_;
};

}  // namespace rejoin::inline v0_1
