// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <rejoin/core/function.hpp>

namespace rejoin::inline v0_1 {

/// Names one added handler of one object. 0 is never given out: it says that memory was out and nothing was added.
using HandlerId = std::uint32_t;

namespace detail {

/// What `Handlers` is, the same code for every kind of event.
class HandlerList {
public:
    HandlerList() = default;
    HandlerList(HandlerList&&) = delete;
    ~HandlerList() {
        Node* const left = std::exchange(head_, nullptr);
        if (frame_ == nullptr) free_list(left);
        for (Frame* f = frame_; f != nullptr; f = f->outer) {
            f->destroyed = true;
            if (f->outer == nullptr) f->orphans = left;
        }
    }

    bool empty() const { return head_ == nullptr; }

    /// Takes the handler away; false when there is none of that id. It is not called again, not even for the event under way.
    bool remove(HandlerId id) {
        Node* before = nullptr;
        for (Node* node = head_; node != nullptr; before = node, node = node->next) {
            if (node->id != id || id == 0) continue;
            node->id = 0;
            if (frame_ == nullptr)
                delete unlink(before, node);
            else
                frame_->removed = true;
            return true;
        }
        return false;
    }

protected:
    struct Node {
        Node* next;
        HandlerId id;  // 0: removed while running, to be freed after
        Callable call;
    };
    // One call under way. The outermost one frees what a destroyed list leaves behind.
    struct Frame {
        Frame* outer;
        Node* orphans;
        bool destroyed;
        bool removed;  // a handler was: the outermost call frees it
    };

    [[gnu::cold]] bool insert(HandlerId id, Callable&& call) {
        if (!call) return false;
        auto* node = new (std::nothrow) Node{nullptr, id, std::move(call)};
        if (node == nullptr) return false;
        (head_ == nullptr ? head_ : last()->next) = node;
        return true;
    }
    // Looked for each time: handlers are few, and a pipe has many lists.
    Node* last() const {
        Node* node = head_;
        while (node->next != nullptr) node = node->next;
        return node;
    }
    void enter(Frame& frame) {
        frame.outer = frame_;
        frame_ = std::launder(&frame);  // which GCC 12 does not take for a pointer that outlives the frame: it never does
    }
    bool leave(Frame& frame) {
        if (frame.destroyed || frame.removed) return settle(frame);
        frame_ = frame.outer;
        return true;
    }

    Node* head_ = nullptr;

private:
    // A handler was removed, or the list destroyed, while it was called.
    [[gnu::cold]] bool settle(Frame& frame) {
        // What a removed handler captured may own the list, or change it once more, as it goes.
        while (!frame.destroyed && frame.outer == nullptr && std::exchange(frame.removed, false)) free_list(take_removed());
        if (frame.destroyed) {
            free_list(frame.orphans);
            return false;
        }
        frame_ = frame.outer;
        if (frame_ != nullptr) frame_->removed |= frame.removed;
        return true;
    }
    static void free_list(Node* node) {
        while (node != nullptr) delete std::exchange(node, node->next);
    }
    Node* unlink(Node* before, Node* node) {
        (before == nullptr ? head_ : before->next) = node->next;
        return node;
    }
    Node* take_removed() {
        Node* taken = nullptr;
        Node* before = nullptr;
        for (Node *node = head_, *next; node != nullptr; node = next) {
            next = node->next;
            if (node->id == 0)
                unlink(before, node)->next = std::exchange(taken, node);
            else
                before = node;
        }
        return taken;
    }

    Frame* frame_ = nullptr;
};

}  // namespace detail

/// The handlers of one kind of event, called in the order in which they were added. While they are called, a handler may add
/// handlers (called from the next event on), remove any (itself too), and destroy the list's owner: what a running handler
/// captured lives until it returns.
template <class... Args>
class Handlers : public detail::HandlerList {
public:
    /// Adds `call` under `id`, which the owner makes unique. False when `call` is empty or memory is out.
    bool add(HandlerId id, Function<void(Args...)> call) { return insert(id, std::move(call)); }

    /// Calls every handler. Returns false when one of them destroyed the list: the owner is gone, touch nothing of it.
    bool operator()(Args... args) {
        if (head_ == nullptr) return true;
        Frame frame{};
        enter(frame);
        Node* const end = last();
        for (Node* node = head_;; node = node->next) {
            if (node->id != 0) node->call.template call<void, Args...>(args...);
            if (frame.destroyed || node == end) return leave(frame);
        }
    }
};

}  // namespace rejoin::inline v0_1
