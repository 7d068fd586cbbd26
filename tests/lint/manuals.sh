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
exit $fail
