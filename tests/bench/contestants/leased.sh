# leased itself, opaque: the program is $LEASED, build/leased of this tree unless set.
# POOL_EXTRA: more lines for the pool. LEND: upstream connections where they are lent by the batch; else as many as clients.
# leased-transaction and leased-request set `mode`.
c_kind=self
c_protos='opaque redis'
mode=
pool_lines() {
	local reuse='reuse = "never";'
	if [ -n "$mode" ]; then
		echo "protocol = \"redis\"; mode = \"$mode\";"
		echo "servers = ( { address = \"127.0.0.1:$UP\"; max_size = ${LEND:-$L_CONNS}; } );"
		return
	fi
	case $LOAD in
	*churn*) reuse='reuse = "on_idle"; quiet_time = "0";' ;;
	esac
	echo "protocol = \"tcp\"; $reuse"
	echo "servers = ( { address = \"127.0.0.1:$UP\"; unbounded = true; } );"
}
c_start() {
	local bin=${LEASED:-$HERE/../../build/leased}
	[ -x "$bin" ] || { say "no $bin: run make, or set LEASED"; return 1; }
	if [ -n "$mode" ] && ! "$bin" -V | grep -q '^protocols:.* redis\b'; then
		say "$bin does not speak redis"
		return 1
	fi
	cat >"$DIR/leased.conf" <<-C
	workers = 1;
	admin = { listen = "unix:$DIR/admin.sock"; };
	log = { connections = false; };
	limits = { max_clients = 9000; };
	pools = ( {
	  name = "bench"; listen = ( "127.0.0.1:$PORT" );
	  $(pool_lines)
	  ${POOL_EXTRA:-}
	} );
	C
	spawn "$bin" -c "$DIR/leased.conf"
}
