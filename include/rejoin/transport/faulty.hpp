// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/core/random.hpp>
#include <rejoin/os/loop.hpp>
#include <rejoin/transport/connection.hpp>

namespace rejoin::inline v0_1 {

/// Something that goes wrong on a `Faulty` connection.
struct Fault {
    enum class At : std::uint8_t {
        open,    ///< when it is told to open
        opened,  ///< when it has opened
        write,
        read,
    };
    enum class Kind : std::uint8_t {
        error,    ///< fails with `error`
        delay,    ///< takes `delay` longer: the opening; a write says `would_block` meanwhile; what was read comes later
        shorten,  ///< a write takes, and a read brings, `size` bytes at most in one piece
        silence,  ///< from now on nothing passes either way, and nobody is told
        corrupt,  ///< one bit of the first byte is another one
    };
    At at = At::open;
    Kind kind = Kind::error;
    Error error = {};
    Duration delay = {};
    std::size_t size = 1;
    /// So many of these calls pass unharmed before, on whatever connection of the loop; then so many are met.
    std::uint32_t after = 0;
    std::uint32_t times = 1;
};

/// What goes wrong on the `Faulty` connections of one loop: the faults of a script, in the order in which they were added, and others by
/// chance. Belongs to the loop's thread.
class Faults {
public:
    explicit Faults(Loop&) {}
    /// The one of this loop, made when first asked for. Lives as long as the loop.
    static Faults& of(Loop& loop) { return loop.service<Faults>(); }

    /// Adds a fault to the script. `out_of_memory`; `invalid_argument` for an error that is none, and for one that makes no sense where it
    /// is
    /// (`opened` can only fail, `open` neither be shortened nor corrupted), or a size of 0.
    Result<void> add(const Fault& fault) {
        using enum Fault::Kind;
        const bool opens = fault.at == Fault::At::open || fault.at == Fault::At::opened;
        if ((fault.kind == error && !fault.error) || fault.size == 0 || (opens && (fault.kind == shorten || fault.kind == corrupt)) ||
            (fault.at == Fault::At::opened && fault.kind != error))
            return Errc::invalid_argument;
        if (!script_.push(fault)) return Errc::out_of_memory;
        return {};
    }
    /// From now on one call of write and read in `one_in` is met by a fault drawn with `seed`: an error (of those that mean a lost
    /// connection: `error`), a delay of up to 50 ms, a short piece, silence. 0: none.
    void by_chance(std::uint64_t seed, std::uint32_t one_in, Error error) {
        random_ = Random(seed);
        one_in_ = one_in;
        error_ = error;
    }
    /// Nothing goes wrong any more.
    void clear() {
        script_.clear();
        one_in_ = 0;
    }
    /// How many faults there were.
    std::uint64_t count() const { return count_; }

    /// Used by `Faulty`: what is to go wrong with this call, or null. It holds until the next call.
    const Fault* next(Fault::At at) {
        for (std::size_t i = 0; i < script_.size(); ++i) {
            Fault& fault = script_[i];
            if (fault.at != at) continue;
            if (fault.after > 0) {
                --fault.after;
                continue;
            }
            now_ = fault;
            if (--fault.times == 0) script_.erase(i);
            ++count_;
            return &now_;
        }
        if (one_in_ == 0 || (at != Fault::At::read && at != Fault::At::write) || random_.below(one_in_) != 0) return nullptr;
        static constexpr Fault::Kind kinds[] = {Fault::Kind::error, Fault::Kind::delay, Fault::Kind::shorten, Fault::Kind::silence};
        now_ = {at, kinds[random_.below(4u)], error_, random_.between({}, Duration::milliseconds(50)), random_.below(20u) + 1u};
        ++count_;
        return &now_;
    }

private:
    Array<Fault> script_;
    Random random_{0};
    Error error_;
    Fault now_;
    std::uint64_t count_ = 0;
    std::uint32_t one_in_ = 0;
};

/// A connection of another kind on which things go wrong.
template <class C>
class FaultyConnection final : private ConnectionObserver {
public:
    FaultyConnection(Loop& loop, ConnectionObserver& observer)
        : observer_(&observer),
          faults_(Faults::of(loop)),
          inner_(loop, static_cast<ConnectionObserver&>(*this)),
          timer_(loop, Delegate<void()>::template to<&FaultyConnection::due>(this)) {}

    void set_observer(ConnectionObserver& observer) { observer_ = &observer; }
    Result<void> open(const Endpoint& to, const Way& way) {
        if (const Fault* fault = faults_.next(Fault::At::open)) {
            if (fault->kind == Fault::Kind::error) return fault->error;
            silent_ = fault->kind == Fault::Kind::silence;
            if (silent_) return {};
            to_ = to;
            way_ = way;
            timer_.after(fault->delay);
            return {};
        }
        return inner_.open(to, way);
    }
    template <class S>
    Result<void> adopt(S socket) requires requires(C& c) {
        c.adopt(std::move(socket));
    }
    { return inner_.adopt(std::move(socket)); }
    auto release() requires requires(C& c) { c.release(); }
    { return inner_.release(); }

    Result<std::size_t> write(std::span<const Bytes> pieces) {
        std::size_t all = 0;
        for (Bytes piece : pieces) all += piece.size();
        if (silent_) return all;
        const Fault* fault = faults_.next(Fault::At::write);
        if (fault == nullptr) return inner_.write(pieces);
        const Bytes first = pieces[0].first(pieces[0].size() < fault->size ? pieces[0].size() : fault->size);
        switch (fault->kind) {
            case Fault::Kind::error:
                return fault->error;
            case Fault::Kind::delay:
                writable_due_ = true;
                timer_.after(fault->delay);
                return Errc::would_block;
            case Fault::Kind::silence:
                silent_ = true;
                return all;
            case Fault::Kind::shorten:
                return inner_.write({&first, 1});
            case Fault::Kind::corrupt:
                break;
        }
        if (first.empty()) return inner_.write(pieces);
        const std::byte wrong[] = {first[0] ^ std::byte{1}};
        const Bytes one(wrong);
        return inner_.write({&one, 1});
    }
    void want_writable() {
        if (!writable_due_) inner_.want_writable();
    }
    void pause(bool paused) {
        paused_ = paused;
        inner_.pause(paused || !held_.empty());
        if (!paused && !held_.empty()) timer_.after({});
    }
    bool paused() const { return paused_; }
    void set_read_limit(std::uint32_t n) { inner_.set_read_limit(n); }
    void end() { inner_.end(); }
    void abort() { inner_.abort(); }
    Endpoint local_endpoint() const { return inner_.local_endpoint(); }
    Endpoint peer_endpoint() const { return inner_.peer_endpoint(); }
    auto path_info() const requires requires(const C& c) { c.path_info(); }
    { return inner_.path_info(); }

private:
    void on_open() override {
        if (const Fault* fault = faults_.next(Fault::At::opened)) return observer_->on_error(fault->error);
        observer_->on_open();
    }
    bool on_bytes(Bytes bytes) override {
        if (silent_) return true;
        const Fault* fault = faults_.next(Fault::At::read);
        if (fault == nullptr) return observer_->on_bytes(bytes);
        switch (fault->kind) {
            case Fault::Kind::error:
                observer_->on_error(fault->error);
                return false;
            case Fault::Kind::silence:
                silent_ = true;
                return true;
            case Fault::Kind::shorten:
            case Fault::Kind::delay:
            case Fault::Kind::corrupt:
                break;
        }
        Array<std::byte> copy;
        if (!copy.reserve(bytes.size())) return observer_->on_bytes(bytes);
        for (std::byte b : bytes) copy.push(b);
        if (fault->kind == Fault::Kind::corrupt && !bytes.empty()) copy[0] ^= std::byte{1};
        if (fault->kind == Fault::Kind::corrupt) return observer_->on_bytes({copy.data(), copy.size()});
        // The rest comes in the loop's next turns, or later.
        held_ = std::move(copy);
        taken_ = 0;
        piece_ = fault->kind == Fault::Kind::shorten ? fault->size : held_.size() + 1;
        inner_.pause(true);
        timer_.after(fault->kind == Fault::Kind::delay ? fault->delay : Duration());
        return true;
    }
    bool on_writable() override { return silent_ || observer_->on_writable(); }
    void on_end() override {
        if (!silent_) observer_->on_end();
    }
    void on_error(Error error) override {
        if (!silent_) observer_->on_error(error);
    }

    void due() {
        if (to_.valid()) {
            const Endpoint to = std::exchange(to_, {});
            if (auto opened = inner_.open(to, way_); !opened) observer_->on_error(opened.error());
            return;
        }
        if (!held_.empty() && !paused_) {
            const Array<std::byte> all = std::move(held_);
            held_ = {};
            const std::size_t left = all.size() - taken_, n = left < piece_ ? left : piece_;
            const Bytes piece(all.data() + taken_, n);
            if (n < left) {  // kept again, before the handlers may destroy this
                for (std::size_t i = taken_ + n; i < all.size(); ++i)
                    if (!held_.push(all[i])) break;
                taken_ = 0;
                timer_.after({});
            } else {
                inner_.pause(false);
            }
            if (!observer_->on_bytes(piece)) return;
        }
        if (std::exchange(writable_due_, false)) observer_->on_writable();
    }

    ConnectionObserver* observer_;
    Faults& faults_;
    C inner_;
    Loop::Timer timer_;
    Endpoint to_;  // of a delayed opening
    Way way_;
    Array<std::byte> held_;  // read, and not told yet
    std::size_t taken_ = 0;
    std::size_t piece_ = 0;
    bool silent_ = false;
    bool paused_ = false;
    bool writable_due_ = false;
};

/// The transport policy `T` with faults: by the script, or by chance, that `Faults::of(loop)` has. For tests of what a program does when
/// the network, or the system, does what it can be made to do in no laboratory: `Resumable<Faulty<Tcp>>` is a resumable pipe over it.
template <class T>
struct Faulty : T {
    using Connection = FaultyConnection<typename T::Connection>;
};

}  // namespace rejoin::inline v0_1
