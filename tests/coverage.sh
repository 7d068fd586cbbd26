#!/bin/sh
# coverage.sh BUILD: lines of src executed, by file and in all.
cd "$(dirname "$0")/.." || exit 1
find "$1/obj/src" -name '*.gcno' | while read -r n; do gcov -n -o "${n%/*}" "$n" 2>/dev/null; done |
	awk -F"[':% ]+" '
	/^File/ { f = $2 }
	/^Lines executed/ && f ~ /^src\/.*\.c$/ { pct[f] = $3; n[f] = $5; hit += $3 * $5 / 100; all += $5; f = "" }
	END { for (f in pct) printf "%6.2f%% of %5d  %s\n", pct[f], n[f], f | "sort -n"; close("sort -n")
		if (all) printf "%6.2f%% of %5d  all\n", 100 * hit / all, all; else exit 1 }'
