// SPDX-License-Identifier: BSL-1.0
#include <rejoin/firewall/journal_file.hpp>
#include <string>
#include <vector>

#include "catch.hpp"

#if !defined(_WIN32)
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

using namespace rejoin;
using namespace rejoin::firewall;

namespace {

std::string text(TextView view) { return {view.data(), view.size()}; }
std::string entries(TextView from) {
    std::string all;
    each_entry(from, [&](const JournalEntry& entry) { all += text(to_line(entry)); });
    return all;
}

}  // namespace

TEST_CASE("a journal is read line by line, and what is no entry is passed over") {
    const std::string good = "rejoin:game:tcp/7000 0 1000\nrejoin:a.b_c-d:udp/1-2 1800000000 0\n";
    CHECK(entries(good.c_str()) == good);
    CHECK(entries("rejoin:game:tcp/7000 0 1000") == "rejoin:game:tcp/7000 0 1000\n");
    for (const char* bad :
         {"", "\n", " ", "rejoin:game:tcp/7000", "rejoin:game:tcp/7000 0", "rejoin:game:tcp/7000 0 ", "rejoin:game:tcp/7000 0 1 2",
          "rejoin:game:tcp/7000  0 1", "rejoin:game:tcp/7000 -1 0", "rejoin:game:tcp/7000 0 x", "other:game:tcp/7000 0 0",
          "rejoin:game:tcp/7000 99999999999999999999999999 0", "rejoin:012345678901234567890123456789012:tcp/7000 0 0"})
        CHECK(entries((std::string(bad) + "\n" + good).c_str()) == good);
}

TEST_CASE("the tags that stand in a text are found, each once") {
    Array<Tag> tags;
    REQUIRE(collect_tags("x rejoin:game:tcp/7000 rejoin:game:tcp/7000\nlabel \"rejoin:game:udp/7000-7010\" // rejoin:other:tcp/1", tags));
    REQUIRE(tags.size() == 3);
    CHECK(text(tags[0]) == "rejoin:game:tcp/7000");
    CHECK(text(tags[1]) == "rejoin:game:udp/7000-7010");
    CHECK(text(tags[2]) == "rejoin:other:tcp/1");
    tags.clear();
    for (const char* none : {"", "rejoin:", "rejoin:game", "rejoin:game:tcp/0", "rejoin:game:tcp/7000x", "rejoin/game.tcp.7000"})
        REQUIRE(collect_tags(none, tags));
    CHECK(tags.empty());
}

#if !defined(_WIN32)
namespace {

struct Folder {
    Folder() { REQUIRE(::mkdtemp(path) != nullptr); }
    ~Folder() { CHECK(std::system((std::string("rm -r ") + path).c_str()) == 0); }
    std::string file(const char* name) const { return std::string(path) + "/" + name; }
    char path[32] = "/tmp/rejoin-journal-XXXXXX";
};
JournalEntry entry(const char* tag, std::int64_t until = 0) { return {TextView(tag), until, 7}; }

}  // namespace

TEST_CASE("what is noted is found again, and is not when it has gone") {
    const Folder folder;
    const std::string path = folder.file("made/openings");
    const Journal journal{path.c_str()};
    JournalEntry found;
    CHECK_FALSE(journal.find("rejoin:game:tcp/7000", found));
    CHECK_FALSE(journal.note(entry("rejoin:game:tcp/7000"), true));  // it was not there
    CHECK(::access(folder.file("made").c_str(), F_OK) != 0);         // and nothing was written for that
    CHECK_FALSE(journal.note(entry("rejoin:game:tcp/7000", 5)));
    CHECK_FALSE(journal.note(entry("rejoin:game:tcp/7001")));
    CHECK_FALSE(journal.note(entry("rejoin:game:tcp/7000", 6)));
    REQUIRE(journal.find("rejoin:game:tcp/7000", found));
    CHECK(found.until == 6);
    CHECK(found.user == 7);
    int n = 0;
    CHECK_FALSE(journal.each([&](const JournalEntry&) { ++n; }));
    CHECK(n == 2);
    CHECK_FALSE(journal.note(entry("rejoin:game:tcp/7000"), true));
    CHECK_FALSE(journal.find("rejoin:game:tcp/7000", found));
    CHECK(journal.find("rejoin:game:tcp/7001", found));
}

TEST_CASE("a journal that cannot be written says so, and is as it was") {
    const Folder folder;
    // Nobody's folder; a folder where the journal should be; a link where the new one should be.
    CHECK(Journal{"/dev/null/openings"}.note(entry("rejoin:game:tcp/7000")) == Error::system(ENOTDIR));
    REQUIRE(::mkdir(folder.file("openings").c_str(), 0700) == 0);
    CHECK(Journal{folder.file("openings").c_str()}.note(entry("rejoin:game:tcp/7000")).domain() == Error::Domain::system);
    CHECK(::access(folder.file("openings.new").c_str(), F_OK) != 0);
    const Journal journal{folder.file("good").c_str()};
    CHECK_FALSE(journal.note(entry("rejoin:game:tcp/7000")));
    REQUIRE(::symlink("/tmp/elsewhere", folder.file("good.new").c_str()) == 0);
    CHECK(journal.note(entry("rejoin:game:tcp/7001")) == Error::system(ELOOP));
    JournalEntry found;
    CHECK(journal.find("rejoin:game:tcp/7000", found));
    CHECK_FALSE(journal.find("rejoin:game:tcp/7001", found));
}

TEST_CASE("programs that note at the same time lose nothing of each other's") {
    const Folder folder;
    const std::string path = folder.file("openings");
    std::vector<pid_t> children;
    for (int child = 0; child < 8; ++child) {
        const pid_t pid = ::fork();
        REQUIRE(pid >= 0);
        if (pid == 0) {
            int failed = 0;
            for (int i = 0; i < 20; ++i)
                failed += Journal{path.c_str()}.note(entry(("rejoin:game:tcp/" + std::to_string(7000 + child * 20 + i)).c_str())) ? 1 : 0;
            ::_exit(failed);
        }
        children.push_back(pid);
    }
    for (const pid_t pid : children) {
        int status = -1;
        REQUIRE(::waitpid(pid, &status, 0) == pid);
        CHECK(status == 0);
    }
    int n = 0;
    CHECK_FALSE(Journal{path.c_str()}.each([&](const JournalEntry&) { ++n; }));
    CHECK(n == 160);
}
#endif
