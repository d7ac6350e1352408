// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/version.hpp>

namespace rejoin::inline v0_1 {

/// A place in one intrusive list. Leaves the list when destroyed. The address is the identity: neither copied nor moved.
class ListNode {
public:
    ListNode() = default;
    ListNode(const ListNode&) = delete;
    ~ListNode() { unlink(); }

    bool linked() const { return next_ != nullptr; }
    void unlink() {
        if (next_ == nullptr) return;
        previous_->next_ = next_;
        next_->previous_ = previous_;
        previous_ = next_ = nullptr;
    }

protected:
    friend class List;
    void link_before(ListNode& at) {
        previous_ = at.previous_;
        next_ = &at;
        previous_->next_ = this;
        at.previous_ = this;
    }
    ListNode* previous_ = nullptr;
    ListNode* next_ = nullptr;
};

/// A doubly linked list of `ListNode`s that it does not own; adding and removing cost a few stores and no memory.
class List {
public:
    List() { head_.previous_ = head_.next_ = &head_; }
    ~List() {
        while (ListNode* node = front()) node->unlink();
        head_.next_ = head_.previous_ = nullptr;
    }

    bool empty() const { return head_.next_ == &head_; }
    ListNode* front() { return empty() ? nullptr : head_.next_; }
    /// The one behind `node`, which is in this list; null for the last.
    ListNode* next(ListNode& node) { return node.next_ == &head_ ? nullptr : node.next_; }
    /// Adds at the end; a node that stands in a list already stays where it is.
    void push(ListNode& node) {
        if (!node.linked()) node.link_before(head_);
    }
    /// Takes over every node of `other`, which is then empty; only for an empty list.
    void take(List& other) {
        if (other.empty()) return;
        head_.next_ = other.head_.next_;
        head_.previous_ = other.head_.previous_;
        head_.next_->previous_ = head_.previous_->next_ = &head_;
        other.head_.previous_ = other.head_.next_ = &other.head_;
    }
    /// Calls `f(node)` for each node that is in the list now. `f` may unlink or destroy any node, and add some, which are left for the
    /// next time.
    template <class F>
    void for_each(F f) {
        List round;
        round.take(*this);
        while (ListNode* node = round.front()) {
            node->unlink();
            push(*node);
            f(*node);
        }
    }

private:
    ListNode head_;
};

}  // namespace rejoin::inline v0_1
