#!/bin/sh
# binary.sh PROGRAM...: hardening, banned functions and libraries of the linked programs.
export LC_ALL=C
fail=0
no() { echo "$b: $1"; fail=1; }
for b in "$@"; do
	h=$(readelf -W -h -l -d -n "$b")
	undefined=$(nm -D -u "$b" | sed 's/.* U //; s/@.*//')
	has() { printf '%s\n' "$h" | grep -qE "$1"; }
	has 'Type: *DYN' || no 'not position independent'
	has 'BIND_NOW|FLAGS.*NOW' || no 'no BIND_NOW'
	has 'GNU_RELRO' || no 'no RELRO'
	has 'IBT, SHSTK' || no 'no IBT+SHSTK note'
	has 'RPATH|RUNPATH' && no 'has a run path'
	has 'GNU_STACK.*RWE' && no 'executable stack'
	printf '%s\n' "$undefined" | grep -qx __stack_chk_fail || no 'no stack protector'
	n=$(printf '%s\n' "$undefined" | grep -c '_chk$')
	case $b in
	*leased) test "$n" -ge 6 || no "only $n fortified functions" ;;
	esac
	for f in strcpy strcat sprintf vsprintf gets strtok system popen rand srand alloca; do
		printf '%s\n' "$undefined" | grep -qxE "$f|__${f}_chk" && no "uses $f"
	done
	odd=$(printf '%s\n' "$h" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
		grep -vE '^(libc|libm|libevent_(core|extra)-2\.1|libssl|libcrypto|libconfig|libjansson|libsystemd|ld-linux-x86-64)\.so')
	test -z "$odd" || no "unexpected library $odd"
done
exit $fail
