#!/bin/sh
# nested.sh [BUILD]: boots a systemd of its own over a throw-away copy of this system, with leased installed as packaged, and
# lets inside.py watch the service start, serve, reopen its logs and drain. Needs root; nothing of it survives.
#
#	this system (read only) + tmpfs --overlay--> root --pivot_root--> systemd as process 1 --> leased.service, inside.service
set -e
cd "$(dirname "$0")/../.."
build=$(realpath "${1:-build}")
if [ "${NESTED:-}" = "" ]; then
	test "$(id -u)" = 0 || { echo 'root is needed'; exit 1; }
	dir=$(mktemp -d)
	mkdir "$dir.out"
	# own control group, so that the inner systemd sees an empty tree
	for h in /sys/fs/cgroup/unified /sys/fs/cgroup/systemd /sys/fs/cgroup; do
		if test -w $h/cgroup.procs; then
			mkdir -p "$h/leased-nested.$$"
			echo $$ > "$h/leased-nested.$$/cgroup.procs" && made="$made $h/leased-nested.$$"
		fi
	done
	NESTED=$dir timeout -k 5 120 unshare --pid --mount --uts --ipc --net --cgroup --fork --kill-child sh "$0" "$build" || true
	for g in $made; do
		echo $$ > "${g%/*}/cgroup.procs"
		find "$g" -depth -type d -exec rmdir {} + 2>/dev/null || true
	done
	cat "$dir.out/output" 2>/dev/null || echo 'the inner systemd came to nothing'
	status=$(cat "$dir.out/status" 2>/dev/null || echo 1)
	rm -rf "$dir.out"
	rmdir "$dir" 2>/dev/null || true
	exit "$status"
fi

dir=$NESTED
mount --make-rprivate /
mount -t tmpfs -o mode=755 nested "$dir"	# beside $dir.out, which stays visible outside
mkdir "$dir/upper" "$dir/work" "$dir/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
root=$dir/root

make -s --no-print-directory install BUILD="$build" DESTDIR="$root" prefix=/usr sbindir=/usr/sbin bindir=/usr/bin \
	systemdsystemunitdir=/usr/lib/systemd/system > "$dir/install.log" 2>&1 || { cat "$dir/install.log"; exit 1; }
# Only what is looked at here starts.
rm -rf "$root/etc/systemd/system"
mkdir -p "$root/etc/systemd/system" "$root/nested/out" "$root/etc/systemd/system/leased.service.d" \
	"$root/usr/local/lib/leased" "$root/usr/local/bin"
cp tests/systemd/inside.py tests/systemd/probe.py "$root/nested/"
# A credential that a program prints, as the drop-in and the recipe have it. The tool it calls reads a file.
cp systemd/leased.service.d-examples/command-source.conf "$root/etc/systemd/system/leased.service.d/"
cp conf/examples/credential-vault.py "$root/usr/local/lib/leased/"
cat > "$root/usr/local/bin/vault" <<'END'
#!/usr/bin/python3
import json
with open("/nested/secret") as f:
    print(json.dumps({"lease_id": "", "data": {"username": "cache", "password": f.read(), "ttl": 3600}}))
END
chmod 755 "$root/usr/local/bin/vault"
: > "$root/etc/machine-id"
: > "$root/etc/fstab"
cat > "$root/etc/leased/leased.conf" <<'EOF'
admin = { listen = "unix:/run/leased/admin.sock"; };
log = { target = "file"; file = "/var/log/leased/leased.log"; };
shutdown_timeout = "20s";
credentials = ( { name = "vault"; source = "command"; argv = ( "/usr/local/lib/leased/credential-vault.py", "x" ); pass_env = "HOME"; } );
pools = (
  { name = "cache"; listen = ( "127.0.0.1:6380", "systemd:cache" ); servers = ( "127.0.0.1:6379" );
    reuse = "script"; ready_check = ( { send = "PING\r\n"; expect = "+PONG"; } ); },
  { name = "login"; protocol = "redis"; mode = "transaction"; credentials = "vault"; listen = "127.0.0.1:6381"; servers = "127.0.0.1:6379"; }
);
EOF
# The same sandbox around a program that tries to get out.
sed -e '/^ExecStartPre=/d; /^ExecReload=/d; /^Restart/d; /^WatchdogSec=/d; s,^Type=.*,Type=oneshot,' \
	-e 's,^ExecStart=.*,ExecStart=/usr/bin/python3 /nested/probe.py,' -e "s,^ExecPaths=.*,& $(realpath /usr/bin/python3)," \
	-e 's,^RuntimeDirectory=.*,StandardOutput=file:/nested/out/probe,' systemd/leased.service > "$root/etc/systemd/system/probe.service"
cat > "$root/etc/systemd/system/redis-nested.service" <<'EOF'
[Service]
ExecStart=/usr/bin/redis-server --bind 127.0.0.1 --port 6379 --save "" --appendonly no --daemonize no --supervised no --logfile "" --dir /tmp
EOF
cat > "$root/etc/systemd/system/inside.service" <<'EOF'
[Unit]
Wants=redis-nested.service
After=redis-nested.service basic.target
[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /nested/inside.py
StandardOutput=file:/nested/out/output
StandardError=inherit
ExecStopPost=/bin/sh -c "echo $EXIT_STATUS > /nested/out/status; systemctl --no-block exit 0 || kill -37 1"
EOF
cat > "$root/etc/systemd/system/nested.target" <<'EOF'
[Unit]
Requires=basic.target
Wants=inside.service
After=basic.target
EOF

mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755 cgroup "$root/sys/fs/cgroup"
if mkdir "$root/sys/fs/cgroup/unified" && mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified" 2>/dev/null &&
   mkdir "$root/sys/fs/cgroup/systemd" && mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd" 2>/dev/null; then
	:
else
	umount -R "$root/sys/fs/cgroup"
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
fi
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 run "$root/run"
mount -t tmpfs tmp "$root/tmp"
mkdir -p "$root/nested/old"
mount --bind "$dir.out" "$root/nested/out"
hostname nested
cd "$root"
pivot_root . nested/old
exec chroot . env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=nested.target \
	--show-status=no --log-target=null </dev/null
