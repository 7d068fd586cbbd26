#!/bin/sh
# Every C file looks as clang-format 14 would write it. `make format` makes it so.
cf=$(command -v clang-format-14) || { echo 'clang-format-14 is missing; not checked'; exit 0; }
cd "$(dirname "$0")/../.." || exit 1
find src tests -name '*.[ch]' -print0 | xargs -0 -P2 -n8 "$cf" --dry-run -Werror
