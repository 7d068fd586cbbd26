#!/bin/bash
# suite.sh [--strict] [relay|redis]...: what `make bench` runs: the loads for which we have figures to reach, and a
# verdict on each figure. All groups of loads, unless some are named.
#
# Ends 0 whatever was measured; with --strict 1 when a figure is missed.
# ROUNDS, SECS, BULK_MIB: see lib.sh.  BENCH_QUICK=1: short and rough.  BENCH_OUT: keeps all measurements in that file.
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
STRICT= GROUPS_RUN=
for arg; do
	case $arg in
	--strict) STRICT=1 ;;
	relay|redis) GROUPS_RUN="$GROUPS_RUN $arg" ;;
	*) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
	esac
done
GROUPS_RUN=${GROUPS_RUN:-relay redis}
CALLS=-s
if [ "${BENCH_QUICK:-0}" = 1 ]; then
	export ROUNDS=${ROUNDS:-3} SECS=${SECS:-0.5} BULK_MIB=${BULK_MIB:-1024}
	CALLS=
fi

missing=
need() {	# need PACKAGE PROGRAM|FILE
	command -v "$2" >/dev/null || [ -e "$2" ] || missing="$missing $1"
}
PATH=$PATH:/usr/sbin:/sbin
need gcc "${CC:-cc}"
need libevent-dev /usr/include/event2/event.h
need libssl-dev /usr/include/openssl/ssl.h
need haproxy haproxy
need nginx nginx
need libnginx-mod-stream /usr/lib/nginx/modules/ngx_stream_module.so
need nutcracker nutcracker
need redis-server redis-server
need redis-tools redis-benchmark
need strace strace
need mawk awk
need util-linux taskset
if [ -n "$missing" ]; then
	echo "make bench needs the Debian packages:$missing (see the group bench in packages.txt)" >&2
	exit 2
fi
if [ "$(nproc)" -lt 2 ]; then
	echo 'make bench needs two processors: one for the proxy alone, one for everything else' >&2
	exit 2
fi

BENCH_TMP=${BENCH_TMP:-${TMPDIR:-/tmp}/leased-bench}
export BENCH_TMP
mkdir -p "$BENCH_TMP"
OUT=${BENCH_OUT:-$BENCH_TMP/suite.tsv}
: >"$OUT"

load() {	# load [-s] LOAD CONTESTANT...
	"$HERE/run" -o "$OUT" "$@" || echo "suite: $* failed" >&2
	echo
}

suite_relay() {
	load $CALLS ping-c1 direct floor-ev leased haproxy nginx
	load -s ping-c50 direct floor-ev leased haproxy nginx
	load ping-c500 direct floor-ev leased haproxy nginx
	load $CALLS churn-c20 direct floor-ev-pool leased haproxy
	for l in bulk-1 bulk-8 upload-8; do
		load $l floor-splice leased haproxy haproxy-splice nginx
	done
	load idle-opaque-8000 leased haproxy nginx
	load ping-c50-idle8000 leased
}

suite_redis() {
	for l in c50-p1 c500-p1 c50-p16; do
		for k in get set; do
			load $CALLS redis-$k-$l direct floor-ev mux-ev leased-transaction leased-request haproxy nutcracker
		done
	done
	load $CALLS redis-churn-c20 direct floor-ev-pool leased-transaction leased-request haproxy
	load lredis-get-c200-p1-slow leased-request leased-transaction
	load redis-bulk-1 direct floor-ev leased-transaction leased-request haproxy
	load idle-redis-8000 leased-transaction leased-request mux-ev haproxy nutcracker
}

for g in $GROUPS_RUN; do
	suite_$g
done
awk -F'\t' -v strict="$STRICT" -v groups="$GROUPS_RUN" -f "$HERE/verdict.awk" "$OUT"
