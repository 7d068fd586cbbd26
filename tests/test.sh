#!/bin/sh
# `make test`: everything, in under ten minutes on two processors. Root may be needed to install packages, and is for the
# tests that make network namespaces or lower limits.
#
#	TEST_SANITIZERS=0    leaves the sanitizer builds out
#	FUZZ_SECS=5          for each fuzz target
cd "$(dirname "$0")/.." || exit 1
start=$(date +%s)
sh tests/packages.sh build test || exit 1
# A tree configured before Check was installed (make quickstart does not need it) looks again, with the same options.
if [ -f config.status ] && ! grep -q '^CHECK_LIBS = *-' config.mk; then
	./config.status --recheck && ./config.status -q || exit 1
fi

jobs=-j$(nproc)
mkdir -p build
results=$PWD/build/results
: > "$results"
bad() { awk '$2 > 0 { n++ } END { print n + 0 }' "$results"; }
# step NAME MAKE-ARGUMENTS...: goes on after a failure, so that the summary is whole; what could not even be built counts.
step() {
	name=$1
	shift
	echo "== $name"
	before=$(bad)
	make -s --no-print-directory "$jobs" RESULTS="$results" "$@"
	rc=$?
	if [ $rc != 0 ] && [ "$(bad)" = "$before" ]; then
		echo "0 1 $name" >> "$results"
	fi
	return $rc
}
# Under sanitizers a part of the end-to-end tests has to do here; make check-asan and make check-tsan run all.
san_real=${SAN_REAL-tests/real/test_basics.py tests/real/test_admin.py}
step check check
step check-real check-real
if [ "${TEST_SANITIZERS:-1}" = 1 ]; then
	step check-asan SAN_SEEDS="${SAN_SEEDS:-100}" REAL="$san_real" check-asan
	step check-tsan SAN_SEEDS="${SAN_SEEDS:-50}" REAL="$san_real" check-tsan
fi
step fuzz-smoke FUZZ_SECS="${FUZZ_SECS:-5}" fuzz-smoke
step check-warnings check-warnings && echo "1 0 check-warnings" >> "$results"
if [ -n "$SUDO_UID" ]; then
	chown -R "$SUDO_UID:$SUDO_GID" build build-* config.mk config.log config.status configure autom4te.cache 2>/dev/null
fi
echo "== $(($(date +%s) - start)) s"
exec /usr/bin/python3 tests/run.py --sum "$results"
