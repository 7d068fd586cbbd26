#!/bin/sh
# Breaks the code on purpose, one patch of mutants/ at a time, and wants the simulator to see each within SEEDS seeds.
# usage: mutants.sh BUILD     (run by `make mutants`, which passes CC, CFLAGS and LDFLAGS; the program must be built)
set -u
build=${1:?usage: mutants.sh BUILD}
here=$(dirname "$0")
seeds=${SEEDS:-1000}
work=$build/mutants
survived=0 n=0

# Only the patched files are compiled again; linked first, they keep their originals in the archive out.
build_mutant() {
	rm -rf "$work/$1"
	objects=
	for f in $(sed -n 's,^+++ b/,,p' "$here/mutants/$1.patch"); do
		mkdir -p "$work/$1/$(dirname "$f")"
		cp "$f" "$work/$1/$f"
		objects="$objects $work/$1/$f"
	done
	patch -s -p1 -F3 --no-backup-if-mismatch -d "$work/$1" <"$here/mutants/$1.patch" || return 1
	# shellcheck disable=SC2086
	${CC:-cc} $CFLAGS $LDFLAGS -o "$work/$1/sim" "$build"/obj/tests/sim/*.o $objects "$build/libsim.a" ${LIBS:-} -lm
}

# A patch may name, above itself, the scenario that is to see it.
how_seen() {
	scenario=$(sed -n '/^---/q; s/^scenario: //p' "$here/mutants/$1.patch")
	if [ -n "$scenario" ]; then echo "--scenario $scenario"; else echo "--generated --seeds $seeds"; fi
}

for patch in "$here"/mutants/*.patch; do
	name=$(basename "$patch" .patch)
	n=$((n + 1))
	if ! build_mutant "$name"; then
		echo "mutants: $name: the patch no longer applies or does not compile" >&2
		exit 2
	fi
	# shellcheck disable=SC2046
	if "$work/$name/sim" $(how_seen "$name") >"$work/$name/out" 2>&1; then
		echo "mutants: $name: SURVIVED $seeds seeds"
		survived=$((survived + 1))
	else
		echo "mutants: $name: $(grep -oE 'seed [0-9]+ (scenario [-a-z]+ )?(breaks [A-Z]+[-0-9A-Za-z]*|aborts)' "$work/$name/out" | head -n1)"
	fi
done
echo "mutants: $((n - survived)) of $n caught"
[ "$survived" -eq 0 ]
