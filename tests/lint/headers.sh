#!/bin/sh
# Every header compiles alone. Arguments: the compiler with its flags; headers on standard input, one a line.
one() { printf '#include "%s"\n' "${1#src/}" | $CC_ALL -fsyntax-only -x c - || echo "$1: does not compile alone"; }
CC_ALL=$*
fail=0
while read -r h; do
	out=$(one "$h" 2>&1)
	test -z "$out" || { printf '%s\n' "$out"; fail=1; }
done
exit $fail
