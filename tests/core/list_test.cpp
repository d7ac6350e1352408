// SPDX-License-Identifier: BSL-1.0
#include <memory>
#include <rejoin/core/list.hpp>
#include <string>
#include <vector>

#include "catch.hpp"

using rejoin::List;
using rejoin::ListNode;

namespace {

struct Named : ListNode {
    explicit Named(char n) : name(n) {}
    char name;
};

std::string names(List& list) {
    std::string all;
    list.for_each([&](ListNode& node) { all += static_cast<Named&>(node).name; });
    return all;
}

}  // namespace

TEST_CASE("List keeps the order of what was added") {
    List list;
    CHECK(list.empty());
    CHECK(list.front() == nullptr);
    Named a('a'), b('b'), c('c');
    for (Named* n : {&a, &b, &c}) list.push(*n);
    CHECK(names(list) == "abc");
    CHECK(names(list) == "abc");  // looking changes nothing
    CHECK(list.front() == &a);
    list.push(a);  // stays where it is
    CHECK(names(list) == "abc");
    b.unlink();
    CHECK_FALSE(b.linked());
    b.unlink();
    CHECK(names(list) == "ac");
    list.push(b);
    CHECK(names(list) == "acb");
    a.unlink(), b.unlink(), c.unlink();
    CHECK(list.empty());
}

TEST_CASE("A node leaves when it is destroyed, and is left when the list is") {
    Named a('a');
    {
        List list;
        list.push(a);
        {
            Named b('b');
            list.push(b);
            CHECK(names(list) == "ab");
        }
        CHECK(names(list) == "a");
        CHECK(a.linked());
    }
    CHECK_FALSE(a.linked());
    List other;
    other.push(a);
    CHECK(names(other) == "a");
}

TEST_CASE("A list takes another's nodes over") {
    Named a('a'), b('b'), c('c');
    List from, to;
    to.take(from);
    CHECK(to.empty());
    for (Named* n : {&a, &b, &c}) from.push(*n);
    to.take(from);
    CHECK(from.empty());
    CHECK(names(to) == "abc");
    b.unlink();
    CHECK(names(to) == "ac");
    from.push(b);  // both lists go on
    CHECK(names(from) == "b");
    CHECK(names(to) == "ac");
}

TEST_CASE("Nodes may go while the list is walked") {
    List list;
    std::vector<std::unique_ptr<Named>> nodes;
    for (char n = '0'; n < '6'; ++n) {
        nodes.push_back(std::make_unique<Named>(n));
        list.push(*nodes.back());
    }
    const std::size_t at = GENERATE(range(0U, 6U)), gone = GENERATE(range(0U, 6U));
    const bool destroy = GENERATE(false, true);
    std::string seen;
    Named late('+');
    list.for_each([&](ListNode& node) {
        seen += static_cast<Named&>(node).name;
        if (seen.size() != at + 1) return;
        list.push(late);  // left for the next time
        destroy ? nodes[gone].reset() : nodes[gone]->unlink();
    });
    std::string expected = "012345", left = expected;
    if (gone > at) expected.erase(gone, 1);
    left.erase(gone, 1);
    CHECK(seen == expected);
    std::string now = names(list);
    CHECK(now.find('+') != std::string::npos);
    std::erase(now, '+');
    CHECK(now == left);
}
