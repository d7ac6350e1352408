// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/core/function.hpp>
#include <rejoin/core/time.hpp>

namespace rejoin::inline v0_1 {

/// The armed timers of a loop: a binary heap whose entries know their places, so that arming, moving and cancelling one of `n` costs log n.
class TimerHeap {
public:
    /// One timer's place in the heap. Neither copied nor moved while armed.
    class Entry {
    public:
        explicit Entry(Delegate<void()> when_due) : due(when_due) {}
        Entry(const Entry&) = delete;
        bool armed() const { return index_ != none; }
        const Delegate<void()> due;

    private:
        friend class TimerHeap;
        static constexpr std::uint32_t none = UINT32_MAX;
        std::uint32_t index_ = none;
    };

    std::size_t size() const { return heap_.size(); }
    /// When the first one is due, or never.
    TimePoint first() const { return heap_.empty() ? TimePoint::never() : heap_[0].when; }
    TimePoint when(const Entry& entry) const { return entry.armed() ? heap_[entry.index_].when : TimePoint::never(); }

    /// Arms `entry` for `when`, or moves it there. False when memory is out; it is then not armed.
    bool set(Entry& entry, TimePoint when) {
        if (!entry.armed()) {
            if (!heap_.push({when, &entry})) return false;
            entry.index_ = static_cast<std::uint32_t>(heap_.size() - 1);
        } else {
            heap_[entry.index_].when = when;
        }
        sift_down(sift_up(entry.index_));
        return true;
    }

    void cancel(Entry& entry) {
        if (!entry.armed()) return;
        const std::uint32_t at = entry.index_;
        entry.index_ = Entry::none;
        const Slot last = heap_.back();
        heap_.pop();
        if (at == heap_.size()) return;
        place(at, last);
        sift_down(sift_up(at));
    }

    /// Takes out the first entry that is due by `now`, or returns null.
    Entry* take_due(TimePoint now) {
        if (heap_.empty() || heap_[0].when > now) return nullptr;
        Entry* entry = heap_[0].entry;
        cancel(*entry);
        return entry;
    }

private:
    struct Slot {
        TimePoint when;
        Entry* entry;
    };

    void place(std::uint32_t at, Slot slot) {
        heap_[at] = slot;
        slot.entry->index_ = at;
    }
    std::uint32_t sift_up(std::uint32_t at) {
        const Slot slot = heap_[at];
        for (; at > 0 && slot.when < heap_[(at - 1) / 2].when; at = (at - 1) / 2) place(at, heap_[(at - 1) / 2]);
        place(at, slot);
        return at;
    }
    void sift_down(std::uint32_t at) {
        const Slot slot = heap_[at];
        const auto size = static_cast<std::uint32_t>(heap_.size());
        for (std::uint32_t child; (child = 2 * at + 1) < size; at = child) {
            if (child + 1 < size && heap_[child + 1].when < heap_[child].when) ++child;
            if (slot.when <= heap_[child].when) break;
            place(at, heap_[child]);
        }
        place(at, slot);
    }

    Array<Slot> heap_;
};

}  // namespace rejoin::inline v0_1
