# leased itself: the program is $LEASED, build/leased of this tree unless set.
# POOL_EXTRA: more lines for the pool.
c_kind=self
c_protos='opaque redis'
c_start() {
	local bin=${LEASED:-$HERE/../../build/leased} reuse='reuse = "never";'
	[ -x "$bin" ] || { say "no $bin: run make, or set LEASED"; return 1; }
	case $LOAD in
	*churn*) reuse='reuse = "on_idle"; quiet_time = "0";' ;;
	esac
	cat >"$DIR/leased.conf" <<-C
	workers = 1;
	admin = { listen = "unix:$DIR/admin.sock"; };
	log = { connections = false; };
	limits = { max_clients = 9000; };
	pools = ( {
	  name = "bench"; protocol = "tcp"; listen = ( "127.0.0.1:$PORT" );
	  servers = ( { address = "127.0.0.1:$UP"; unbounded = true; } );
	  $reuse ${POOL_EXTRA:-}
	} );
	C
	spawn "$bin" -c "$DIR/leased.conf"
}
