#!/bin/sh
# packages.sh GROUP...: installs what is missing of these groups of packages.txt. Says what it does before it does it.
cd "$(dirname "$0")/.." || exit 1
want=
for g in "$@"; do
	want="$want $(sed -n "s/^$g: //p" packages.txt)"
done
missing=
for p in $(printf '%s\n' $want | sort -u); do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $p"
done
test -n "$missing" || exit 0
if ! command -v apt-get >/dev/null; then
	echo "This needs the Debian 12 packages:$missing" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "These packages are missing, and only root can install them:$missing" >&2
	echo "Run this with sudo, or first: sudo apt-get install$missing" >&2
	exit 1
fi
echo "Installing with apt-get:$missing"
export DEBIAN_FRONTEND=noninteractive
# Server packages come along: apt-get must not start them on their usual ports. Tests start their own, on private ones.
policy=/usr/sbin/policy-rc.d
if ! test -e $policy; then
	echo "(their services are not started: $policy says so while apt-get runs)"
	trap 'rm -f $policy' EXIT
	trap 'exit 1' INT TERM
	printf '#!/bin/sh\nexit 101\n' > $policy
	chmod 755 $policy
fi
log=$(mktemp)
apt() { apt-get -q -y -o Dpkg::Use-Pty=0 -o APT::Install-Recommends=false "$@" >"$log" 2>&1; }
# The package lists may be missing or old.
apt install $missing || { apt update && apt install $missing; } || { tail -n 30 "$log"; rm -f "$log"; exit 1; }
rm -f "$log"
