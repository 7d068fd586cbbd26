#!/bin/sh
# `make quickstart`: from a clean clone to traffic through leased, with nothing left behind but the build and packages.
cd "$(dirname "$0")/.." || exit 1
echo "leased quickstart: this will
  1. install the Debian packages that are missing (packages.txt: build, quickstart), if you are root
  2. build leased into build/
  3. start a private redis-server, memcached and leased on free loopback ports, in a temporary directory
  4. send traffic through leased, print what happened, and stop all of them"
sh tests/packages.sh build quickstart || exit 1
make -s "-j$(nproc)" all || exit 1
/usr/bin/python3 tests/quickstart.py "$@"
rc=$?
if [ -n "$SUDO_UID" ]; then
	chown -R "$SUDO_UID:$SUDO_GID" build config.mk config.log config.status configure autom4te.cache 2>/dev/null
fi
exit $rc
