// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <new>
#include <rejoin/core/version.hpp>
#include <type_traits>
#include <utility>

namespace rejoin::inline v0_1 {

namespace detail {

/// What a `Function` holds. To move and to destroy it does not depend on the signature, so that a program has that code once.
class Callable {
public:
    Callable() = default;
    Callable(Callable&& other) noexcept { take(other); }
    Callable& operator=(Callable&& other) noexcept {
        if (this != &other) {
            reset();
            take(other);
        }
        return *this;
    }
    ~Callable() { reset(); }

    explicit operator bool() const { return call_ != nullptr; }

    /// Calls what was held as one that takes and returns these very types.
    template <class R, class... Args>
    R call(Args... args) {
        return reinterpret_cast<R (*)(Callable&, Args...)>(call_)(*this, std::forward<Args>(args)...);
    }

protected:
    template <class R, class... Args, class F>
    void hold(F&& f) {
        using Stored = std::decay_t<F>;
        constexpr bool fits =
            sizeof(Stored) <= sizeof storage_ && alignof(Stored) <= alignof(void*) && std::is_nothrow_move_constructible_v<Stored>;
        if constexpr (fits) {
            ::new (inside()) Stored(std::forward<F>(f));
            if constexpr (!std::is_trivially_copyable_v<Stored>) manage_ = &manage<Stored>;
        } else {
            auto* stored = new (std::nothrow) Stored(std::forward<F>(f));
            if (stored == nullptr) return;  // stays empty, as its owner can see
            ::new (inside()) Stored*(stored);
            manage_ = &manage_pointer<Stored>;
        }
        call_ = reinterpret_cast<void (*)()>(&invoke<fits, Stored, R, Args...>);
    }

private:
    void* inside() { return storage_; }
    void reset() {
        if (manage_ != nullptr) manage_(*this, nullptr);
        call_ = nullptr;
        manage_ = nullptr;
    }
    void take(Callable& other) {
        call_ = std::exchange(other.call_, nullptr);
        manage_ = std::exchange(other.manage_, nullptr);
        if (manage_ != nullptr)
            manage_(other, this);
        else
            __builtin_memcpy(storage_, other.storage_, sizeof storage_);
    }

    template <bool fits, class Stored, class R, class... Args>
    static R invoke(Callable& self, Args... args) {
        if constexpr (fits)
            return static_cast<R>((*static_cast<Stored*>(self.inside()))(std::forward<Args>(args)...));
        else
            return static_cast<R>((**static_cast<Stored**>(self.inside()))(std::forward<Args>(args)...));
    }
    template <class Stored>
    static void manage(Callable& self, Callable* to) {
        auto& stored = *static_cast<Stored*>(self.inside());
        if (to != nullptr) ::new (to->inside()) Stored(std::move(stored));
        stored.~Stored();
    }
    template <class Stored>
    static void manage_pointer(Callable& self, Callable* to) {
        auto* held = *static_cast<Stored**>(self.inside());
        if (to != nullptr)
            ::new (to->inside()) Stored*(held);
        else
            delete held;
    }

    void (*call_)() = nullptr;
    void (*manage_)(Callable&, Callable*) = nullptr;  // moves to the other, or destroys; null where copying the bytes is enough
    alignas(void*) std::byte storage_[3 * sizeof(void*)] = {};
};

}  // namespace detail

template <class... Args>
class Handlers;

template <class Signature>
class Function;

/// A move-only callable. What it captures lives inside while it fits into three pointers, else on the heap; empty (made from nothing
/// or from a null function pointer), it is false and must not be called.
template <class R, class... Args>
class Function<R(Args...)> : detail::Callable {
public:
    Function() = default;

    template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, Function> && std::is_invocable_r_v<R, std::remove_cvref_t<F>&, Args...>)
        Function(F&& f) {
        if constexpr (std::is_pointer_v<std::remove_cvref_t<F>>)
            if (f == nullptr) return;
        hold<R, Args...>(std::forward<F>(f));
    }

    using Callable::operator bool;
    R operator()(Args... args) { return call<R, Args...>(std::forward<Args>(args)...); }

private:
    template <class...>
    friend class Handlers;  // takes what is held, and calls it by the same types
};

template <class Signature>
class Delegate;

/// A member function and the object to call it on: two pointers, copyable, owns nothing.
template <class... Args>
class Delegate<void(Args...)> {
public:
    constexpr Delegate() = default;

    /// `Delegate<void(int)>::to<&Thing::changed>(thing)`
    template <auto Member, class T>
    static Delegate to(T* object) {
        Delegate d;
        d.object_ = object;
        d.call_ = &invoke<Member, T>;
        return d;
    }

    explicit operator bool() const { return call_ != nullptr; }
    void operator()(Args... args) const { call_(object_, std::forward<Args>(args)...); }

private:
    template <auto Member, class T>
    static void invoke(void* self, Args... args) {
        (static_cast<T*>(self)->*Member)(std::forward<Args>(args)...);
    }

    void* object_ = nullptr;
    void (*call_)(void*, Args...) = nullptr;
};

}  // namespace rejoin::inline v0_1
