// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/function.hpp>
#include <rejoin/core/list.hpp>
#include <rejoin/network/change.hpp>

namespace rejoin::inline v0_1 {

/// Somebody who wants to know of changes: give it to an event source's `observe`. `unlink` (or its destruction) ends that. Neither
/// copied nor moved; costs no memory beyond itself.
class NetworkObserver : public ListNode {
public:
    explicit NetworkObserver(Delegate<void(const NetworkChange&)> on_change) : on_change_(on_change) {}

private:
    friend class ChangeFeed;
    Delegate<void(const NetworkChange&)> on_change_;
};

/// The observers of one event source, called in the order in which they came. While they are called, an observer may unlink or destroy
/// any (itself too), and add some, who hear of the next change on. It may not publish.
class ChangeFeed {
public:
    /// Adds an observer; one that listens already goes on as before.
    void add(NetworkObserver& observer) { observers_.push(observer); }
    void publish(const NetworkChange& change) {
        observers_.for_each([&](ListNode& node) { static_cast<NetworkObserver&>(node).on_change_(change); });
    }
    /// Publishes every difference between the two states, which stay as they are meanwhile; false when there is none.
    bool publish(const NetworkState& before, const NetworkState& after) {
        bool any = false;
        diff(before, after, [&](const NetworkChange& change) {
            any = true;
            publish(change);
        });
        return any;
    }

private:
    List observers_;
};

}  // namespace rejoin::inline v0_1
