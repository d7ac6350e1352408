// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/text.hpp>
#include <rejoin/os/loop.hpp>

#if defined(__linux__)
#include <limits.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

namespace rejoin::inline v0_1 {

/// Hears that files may have been changed, by inotify(7): written to, replaced, removed, created, or led elsewhere by a symbolic link. Not
/// everything makes itself heard (a link among the directories of a path, a file on a network, more users of inotify than allowed), so
/// who needs to be certain also looks from time to time. Belongs to the loop's thread.
class FileWatch {
public:
    /// What is done to a file comes in several steps: `touched` is called when this has passed since the first. Never inside `watch`.
    static constexpr Duration gather_time = Duration::milliseconds(50);

    FileWatch(Loop& loop, Delegate<void()> touched)
        : watch_(loop, Delegate<void(Ready)>::to<&FileWatch::hear>(this)), timer_(loop, touched) {
        fd_ = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (fd_ >= 0 && !watch_.start(fd_, Ready::readable)) ::close(std::exchange(fd_, -1));
    }
    FileWatch(const FileWatch&) = delete;
    ~FileWatch() {
        watch_.stop();
        if (fd_ >= 0) ::close(fd_);
    }

    /// Watches these files from now on, and none else. They need not exist, nor their directories. To be called again before they are
    /// read after `touched`: the way to them may be another one now.
    void watch(std::span<const char* const> paths) {
        if (fd_ < 0) return;
        Place old[places_max];
        const std::size_t old_count = std::exchange(count_, 0);
        for (std::size_t i = 0; i < old_count; ++i) old[i] = places_[i];
        for (const char* path : paths) follow(path);
        for (std::size_t i = 0; i < old_count; ++i)
            if (!watched(old[i].descriptor)) ::inotify_rm_watch(fd_, old[i].descriptor);
    }

private:
    // A directory and the name in it that matters, or a file itself, which has no name.
    struct Place {
        int descriptor;
        Text<31> name;  // names that differ only after it cost a superfluous look
    };
    static constexpr std::size_t places_max = 32;
    static constexpr int links_max = 8;

    // Watches every directory entry through which `path` leads to a file, and that file.
    [[gnu::cold]] void follow(const char* path) {
        char now[PATH_MAX];
        if (::strlen(path) >= sizeof now || path[0] != '/') return;
        ::strcpy(now, path);
        for (int links = 0; links <= links_max; ++links) {
            if (!add_entry(now)) return;
            add(now, {});  // written to by another name, a file under a mount is heard of only so
            char target[PATH_MAX];
            const ssize_t n = ::readlink(now, target, sizeof target - 1);
            if (n <= 0) return;
            target[n] = 0;
            char* slash = ::strrchr(now, '/') + 1;
            if (target[0] == '/') slash = now;
            if (static_cast<std::size_t>(slash - now) + static_cast<std::size_t>(n) >= sizeof now) return;
            ::strcpy(slash, target);
        }
    }
    // Watches the directory of `path` for the entry; where there is no such directory, the next above it that there is, and false.
    bool add_entry(const char* path) {
        char directory[PATH_MAX];
        ::strcpy(directory, path);
        for (bool whole = true;; whole = false) {
            char* slash = ::strrchr(directory, '/');
            const Text<31> name{TextView(slash + 1)};
            slash[slash == directory ? 1 : 0] = 0;
            if (add(directory, name)) return whole;
            if (slash == directory) return false;
        }
    }
    bool add(const char* path, const Text<31>& name) {
        if (count_ == places_max) return false;
        const int descriptor = ::inotify_add_watch(
            fd_, path, IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF);
        if (descriptor < 0) return false;
        places_[count_++] = {descriptor, name};
        return true;
    }
    bool watched(int descriptor) const {
        for (std::size_t i = 0; i < count_; ++i)
            if (places_[i].descriptor == descriptor) return true;
        return false;
    }

    [[gnu::cold]] void hear(Ready) {
        alignas(inotify_event) char events[4096];
        for (ssize_t size; (size = ::read(fd_, events, sizeof events)) > 0;)
            for (const char* at = events; at < events + size;) {
                inotify_event event;
                ::memcpy(&event, at, sizeof event);
                const TextView name(event.len != 0 ? at + sizeof event : "");
                if (concerns(event, Text<31>(name)) && !timer_.armed()) timer_.after(gather_time);
                at += sizeof event + event.len;
            }
    }
    bool concerns(const inotify_event& event, const Text<31>& name) const {
        if ((event.mask & IN_IGNORED) != 0) return false;  // it is not watched any more, which was said before or is our own doing
        if ((event.mask & (IN_Q_OVERFLOW | IN_DELETE_SELF | IN_MOVE_SELF)) != 0) return true;
        for (std::size_t i = 0; i < count_; ++i)
            if (places_[i].descriptor == event.wd && places_[i].name == name) return true;
        return false;
    }

    int fd_ = -1;
    Loop::Watch watch_;
    Loop::Timer timer_;
    Place places_[places_max];
    std::size_t count_ = 0;
};

}  // namespace rejoin::inline v0_1
#endif
