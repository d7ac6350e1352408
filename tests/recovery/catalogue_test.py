# SPDX-License-Identifier: BSL-1.0
# The catalogue of failures that users read: every FailureKind has a row, every row has a test, and every test is there.
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])
catalogue = (root / "include/rejoin/recovery/README.md").read_text()
kinds_header = (root / "include/rejoin/core/failure_kind.hpp").read_text()
enumeration = re.search(r"enum class FailureKind.*?\{(.*?)\};", kinds_header, re.S)[1]
kinds = set(re.findall(r"^\s*(\w+),", enumeration, re.M)) - {"none"}
tests = set()
for file in (root / "tests").glob("*/*_test.cpp"):
    tests |= set(re.findall(r'TEST_CASE\(\s*"((?:[^"\\]|\\.)*)"', file.read_text()))

wrong = []
named = set()
rows = [line.split(" | ") for line in catalogue.splitlines() if line.startswith("| ") and line.count(" | ") == 3]
rows = [row for row in rows if row[0] not in ("| what happens", "| ---")]
for what, shows, _, proof in rows:
    named |= set(re.findall(r"`(\w+)`", shows))
    cited = re.findall(r'"([^"]+)"', proof)
    wrong += [] if cited else [f"{what[2:]}: no test"]
    wrong += [f'{what[2:]}: there is no test "{name}"' for name in cited if name not in tests]
wrong += [f"no row for FailureKind::{kind}" for kind in sorted(kinds - named)]
print("\n".join(wrong) or f"{len(rows)} rows, {len(kinds)} kinds, {len(tests)} tests")
sys.exit(bool(wrong) or len(rows) < 30 or len(kinds) < 20)
