#!/bin/sh
# The systemd units parse without a word, and score what the documentation says.
cd "$(dirname "$0")/../.." || exit 1
command -v systemd-analyze >/dev/null || { echo 'systemd-analyze is missing; not checked'; exit 0; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail=0

# The programs named need not be installed here.
for u in systemd/leased.service systemd/leased.socket; do
	sed 's,/usr/sbin/leased,/bin/true,' "$u" > "$dir/${u##*/}"
done
out=$(systemd-analyze verify --man=no "$dir/leased.service" "$dir/leased.socket" 2>&1)
test -z "$out" || { echo "$out"; fail=1; }

# score THRESHOLD (in tenths) [DROP-IN]: the drop-in's settings come after the unit's, as systemd reads them.
score() {
	mkdir -p "$dir/$1"
	cat systemd/leased.service > "$dir/$1/leased.service"
	test $# = 1 || sed 's/^\[Install\]/[Unit]/' "$2" >> "$dir/$1/leased.service"
	out=$(systemd-analyze security --offline=true --no-pager --threshold="$1" "$dir/$1/leased.service" 2>&1)
	rc=$?
	echo "${2:-systemd/leased.service}: $(printf '%s\n' "$out" | sed -n 's/.*exposure level for [^:]*: \([0-9.]*\).*/\1/p') of at most $1 tenths"
	test $rc = 0 || fail=1
}
score 11
score 9 systemd/leased.service.d-examples/localhost-only.conf
score 2 systemd/leased.service.d-examples/unix-only.conf

if command -v systemd-sysusers >/dev/null; then
	out=$(systemd-sysusers --dry-run "$PWD"/systemd/sysusers.d/leased.conf 2>&1) || { echo "$out"; fail=1; }
fi
exit $fail
