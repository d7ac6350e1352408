// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/journal.hpp>
#include <rejoin/os/posix/file.hpp>

#if !defined(_WIN32)
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

namespace rejoin::inline v0_1::firewall {

/// The journal in a file, which is replaced whole: a crash leaves the old one or the new one.
class Journal {
public:
    static constexpr std::size_t size_max = 256 * 1024;
    explicit Journal(TextView path) : path_(path) {}

    /// Calls `f(const JournalEntry&)` with all that it says; `out_of_memory`.
    template <class F>
    Error each(F f) const {
        return read(f) ? Error() : Error(Errc::out_of_memory);
    }
    /// What it says of a tag; false where it says nothing.
    bool find(TextView tag, JournalEntry& to) const {
        bool found = false;
        read([&](const JournalEntry& entry) {
            if (!(TextView(entry.tag) == tag)) return;
            to = entry;
            found = true;
        });
        return found;
    }
    /// Says that instead of what it said of that tag before; `gone`: it says nothing of it any more. The system's error; `out_of_memory`.
    Error note(const JournalEntry& entry, bool gone = false) const {
        JournalEntry there;
        if (gone && !find(entry.tag, there)) return {};
        Text<255> folder(path_);
        for (std::size_t i = path_.size(); i-- > 1;)
            if (path_.data()[i] == '/') {
                folder = TextView(path_.data(), i);
                break;
            }
        ::mkdir(folder.c_str(), 0755);
        // Nobody else writes meanwhile; that may be locked by nobody without privilege, who could keep it for ever.
        const int lock = ::open(Text<260>(path_).append(".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (lock < 0) return Error::system(errno);
        Error error = ::flock(lock, LOCK_EX) == 0 ? Error() : Error::system(errno);
        if (!error) error = replace(entry, gone);
        ::close(lock);
        return error;
    }

private:
    Error replace(const JournalEntry& entry, bool gone) const {
        Array<char> all;
        bool kept = true;
        const bool was_read = read([&](const JournalEntry& other) {
            const auto line = to_line(other);
            if (!(other.tag == entry.tag)) kept = kept && all.append(line.data(), line.size());
        });
        const auto line = to_line(entry);
        if (!gone) kept = kept && all.append(line.data(), line.size());
        if (!was_read || !kept) return Errc::out_of_memory;
        const Text<260> fresh = Text<260>(path_).append(".new");
        const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd < 0) return Error::system(errno);
        const ssize_t wrote = ::write(fd, all.data(), all.size());
        Error error = wrote < 0 ? Error::system(errno) : static_cast<std::size_t>(wrote) < all.size() ? Error::system(ENOSPC) : Error();
        if (::close(fd) != 0 && !error) error = Error::system(errno);
        if (!error && ::rename(fresh.c_str(), path_.c_str()) == 0) return {};
        if (!error) error = Error::system(errno);
        ::unlink(fresh.c_str());
        return error;
    }
    template <class F>
    bool read(F f) const {
        Array<std::byte> room;
        std::byte* const to = room.extend(size_max);
        if (to == nullptr) return false;
        if (const auto size = read_file(path_.c_str(), {to, size_max})) each_entry({reinterpret_cast<const char*>(to), *size}, f);
        return true;
    }
    Text<255> path_;
};

}  // namespace rejoin::inline v0_1::firewall
#endif
