#!/bin/sh
# Manual pages are clean, and the generated ones are up to date.
cd "$(dirname "$0")/../.." || exit 1
fail=0
if command -v mandoc >/dev/null; then
	mandoc -Tlint -Wwarning man/*.[1-8] || fail=1
else
	echo 'mandoc is missing; not checked'
fi
tests/lint/metrics_man.py | cmp -s - man/leased-metrics.7 || { echo 'man/leased-metrics.7 is out of date: make docs'; fail=1; }
# Every option is described.
for o in $(sed -n 's/.*OPTION("\([a-z-]*\)", .*/\1/p' src/daemon/options.c); do
	grep -qE "Fl -$o( |$)" man/leased.8 || { echo "man/leased.8 does not describe --$o"; fail=1; }
done
for o in $(grep -oE '"[a-z-]+", (required|no)_argument' src/ctl/leasectl.c | cut -d'"' -f2); do
	grep -qE "Fl -$o( |$)" man/leasectl.1 || { echo "man/leasectl.1 does not describe --$o"; fail=1; }
done
for w in $(sed -n 's/^\t{ "\([a-z]*\)", SHOW_.*/\1/p' src/ctl/show.c); do
	grep -q "Ic show $w\$" man/leasectl.1 || { echo "man/leasectl.1 does not describe show $w"; fail=1; }
	grep -q "words=.*\b$w\b" contrib/leasectl.bash || { echo "contrib/leasectl.bash does not know $w"; fail=1; }
done
exit $fail
