// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/function.hpp>
#include <rejoin/core/list.hpp>
#include <rejoin/network/change.hpp>
#include <rejoin/os/loop.hpp>

namespace rejoin::inline v0_1 {

/// Somebody who wants to know of changes: give it to an event source's `observe`. `unlink` (or its destruction) ends that. Neither
/// copied nor moved; costs no memory beyond itself. Hears of each difference twice, `early` and `settled`: `ChangeFeed` says when.
class NetworkObserver : public ListNode {
public:
    explicit NetworkObserver(Delegate<void(const NetworkChange&)> on_change) : on_change_(on_change) {}

private:
    friend class ObserverList;
    Delegate<void(const NetworkChange&)> on_change_;
};

/// Observers, called in the order in which they came. While they are called, an observer may unlink or destroy any (itself too), and add
/// some, who hear of the next change on. It may not publish.
class ObserverList {
public:
    /// Adds an observer; one that listens already goes on as before.
    void add(NetworkObserver& observer) { observers_.push(observer); }
    [[gnu::cold]] void publish(const NetworkChange& change) {
        observers_.for_each([&](ListNode& node) { static_cast<NetworkObserver&>(node).on_change_(change); });
    }

private:
    List observers_;
};

/// The state of an event source, and what tells of its changes. Each difference is told twice: as it is noticed (`early`), for those who
/// must start something at once; and when what changed has stayed as it is for `settle_time` (`settled`). What is undone before, such as
/// an address that is removed and added again or a link that flaps, is never told as settled. Belongs to the loop's thread.
class ChangeFeed {
public:
    /// As long as one waits before one takes a loss for real: by then what a driver or a network manager does in several steps is through.
    static constexpr Duration settle_time = Duration::seconds(1);

    explicit ChangeFeed(Loop& loop) : loop_(loop), timer_(loop, Delegate<void()>::to<&ChangeFeed::settle>(this)) {}

    /// As it is now.
    const NetworkState& state() const { return state_; }
    void observe(NetworkObserver& observer) { observers_.add(observer); }

    /// Remembers the state as it is, and gives it to be changed until `publish`. Null when memory is out.
    NetworkState* edit() { return before_.copy_from(state_) ? &state_ : nullptr; }
    /// Tells of every difference that the editing has made; false when there is none. The first state that is `known` counts as settled.
    bool publish() {
        bool any = false;
        publishing_ = true;
        diff(before_, state_, [&](NetworkChange change) {
            any = true;
            if (before_.known && !unsettled(change)) cannot_remember_ = true;
            change.early = true;
            observers_.publish(change);
        });
        publishing_ = false;
        if (!before_.known)
            settle_all();
        else if (any && !timer_.armed())
            timer_.after(settle_time);
        return any;
    }
    /// The whole state is another one: `edit` and `publish` in one. Without memory nothing is told, and the state is the old one.
    bool replace(NetworkState&& fresh) {
        NetworkState* now = edit();
        if (now == nullptr) return false;
        *now = std::move(fresh);
        return publish();
    }
    /// Tells of something that is not a difference between states and cannot be undone: once, as early and settled.
    void publish(NetworkChange change) {
        change.early = change.settled = true;
        change.before = change.after = &state_;
        publishing_ = true;
        observers_.publish(change);
        publishing_ = false;
    }
    /// Whether observers are being told.
    bool publishing() const { return publishing_; }

private:
    // What a change was about, and when it last changed.
    struct Unsettled {
        enum class What : std::uint8_t { interface_, address, route, dns } what;
        std::uint32_t index;
        IpAddress ip;
        TimePoint since;
    };

    [[gnu::cold]] bool unsettled(const NetworkChange& change) {
        using Kind = NetworkChange::Kind;
        Unsettled entry{Unsettled::What::interface_, change.interface_index, {}, loop_.now()};
        switch (change.kind) {
            case Kind::address_removed:
            case Kind::address_unusable:
            case Kind::address_added:
            case Kind::address_usable:
                entry.what = Unsettled::What::address;
                entry.ip = change.address;
                break;
            case Kind::route_added:
            case Kind::route_changed:
            case Kind::route_removed:
                entry.what = Unsettled::What::route;
                entry.index = change.family == Family::v6;
                break;
            case Kind::dns_changed:
                entry.what = Unsettled::What::dns;
                break;
            case Kind::active_interface_changed:  // what follows from the routes
            case Kind::connectivity_lost:
            case Kind::connectivity_regained:
                return true;
            default:
                break;
        }
        for (Unsettled& known : unsettled_)
            if (known.what == entry.what && known.index == entry.index && known.ip == entry.ip) {
                known.since = entry.since;
                return true;
            }
        return unsettled_.push(entry);
    }

    // What has held long enough is told.
    [[gnu::cold]] void settle() {
        const TimePoint now = loop_.now();
        NetworkState was;
        if (!was.copy_from(settled_)) return static_cast<void>(timer_.after(settle_time));
        if (cannot_remember_) unsettled_.clear();
        TimePoint next = TimePoint::never();
        for (std::size_t i = unsettled_.size(); i-- > 0;) {
            const Unsettled& entry = unsettled_[i];
            // One happening makes several changes, a little apart: they settle together.
            const TimePoint due = entry.since + settle_time;
            if (due > now + together) {
                if (due < next) next = due;
                continue;
            }
            cannot_remember_ = cannot_remember_ || !take_over(entry);
            unsettled_.erase(i);
        }
        if (unsettled_.empty()) settle_all();
        if (next != TimePoint::never()) timer_.at(next);
        publishing_ = true;
        diff(was, settled_, [&](NetworkChange change) {
            change.settled = true;
            observers_.publish(change);
        });
        publishing_ = false;
    }
    // The settled state takes over what is known of one thing now.
    [[gnu::cold]] bool take_over(const Unsettled& entry) {
        bool stored = true;
        switch (entry.what) {
            case Unsettled::What::interface_:
                if (const Interface* is = state_.find_interface(entry.index))
                    stored = settled_.put(*is);
                else
                    settled_.remove_interface(entry.index);
                break;
            case Unsettled::What::address:
                for (std::size_t i = settled_.addresses.size(); i-- > 0;)
                    if (same(settled_.addresses[i], entry)) settled_.addresses.erase(i);
                for (const InterfaceAddress& a : state_.addresses)
                    if (same(a, entry)) stored = settled_.put(a) && stored;
                break;
            case Unsettled::What::route:
                settled_.route[entry.index] = state_.route[entry.index];
                break;
            case Unsettled::What::dns:
                stored = settled_.dns_servers.copy_from(state_.dns_servers);
                break;
        }
        return stored;
    }
    static bool same(const InterfaceAddress& a, const Unsettled& entry) { return a.interface_index == entry.index && a.ip == entry.ip; }
    void settle_all() {
        unsettled_.clear();
        cannot_remember_ = !settled_.copy_from(state_);
        if (cannot_remember_) timer_.after(settle_time);
    }

    static constexpr Duration together = Duration::milliseconds(50);

    Loop& loop_;
    Loop::Timer timer_;
    NetworkState state_;
    NetworkState before_;   // kept, so that comparing needs no new memory
    NetworkState settled_;  // as it was last told
    Array<Unsettled> unsettled_;
    ObserverList observers_;
    bool cannot_remember_ = false;  // memory was out: everything counts as settled next time
    bool publishing_ = false;
};

}  // namespace rejoin::inline v0_1
