# One line per figure: load and figure, measured, target, ok or MISSED.
#
# Disturbance only ever adds CPU time and takes from the rate, so of each contestant's rounds the least CPU time and the
# highest rate are compared; the same ratio of the medians is printed beside. Ratios are rounded to what is printed.
$3 ~ /^([0-9]+|idle|strace|memory)$/ {
	n = split($4, f, " ")
	for (i = 1; i <= n; i++) {
		if (split(f[i], kv, "=") != 2)
			continue
		if ($3 == "strace") {
			calls[$1, $2, kv[1]] = kv[2]
			counted[$1, $2] = 1
			continue
		}
		vals[$1, $2, kv[1]] = vals[$1, $2, kv[1]] " " kv[2]
		if ((kv[1] == "err" || kv[1] == "perr") && kv[2] > 0)
			errors[$1, $2] += kv[2]
	}
}

# The least, the median and the most of all rounds, in lo, med and hi; 0 when there are none.
function look(load, name, key,    a, cnt, i, j, t) {
	cnt = split(vals[load, name, key], a, " ")
	for (i = 2; i <= cnt; i++)
		for (j = i; j > 1 && a[j - 1] + 0 > a[j] + 0; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
	lo = a[1] + 0; hi = a[cnt] + 0
	med = cnt % 2 ? a[(cnt + 1) / 2] + 0 : (a[cnt / 2] + a[cnt / 2 + 1]) / 2
	if (cnt == 0) lo = med = hi = 0
	return cnt
}

# Whole numbers where hundredths say nothing.
function shown(v, target) { return sprintf(target < 100 ? "%.2f" : "%.0f", v) }

function verdict(what, got, rule, target, beside,    ok, g) {
	g = sprintf("%.2f", got) + 0
	ok = rule == "<=" ? g <= target : rule == "<" ? g < target : rule == ">=" ? g >= target : g > target
	if (!ok) missed++
	printf "%-52s %9s %-2s %-7s %-6s %s\n", what, shown(got, target), rule, shown(target, target), ok ? "ok" : "MISSED", beside
}

function unknown(what) {
	missed++
	printf "%-52s %9s %10s %-6s\n", what, "-", "", "MISSED not measured"
}

function bad(load, name) { return !look(load, name, "n") || errors[load, name] > 0 }

# What is named in front of a figure: the load, and which of our modes where there are several.
function about(load, name) { return load (name == "leased" ? "" : " " substr(name, length("leased-") + 1)) }

# Ratio of two contestants; `key` is cpu (least counts) or rps (most counts). `floor`, where given: what a bare relay reaches.
function ratio(load, key, name, other, rule, target, floor,    what, b, m, f) {
	what = about(load, name) " " (key == "cpu" ? "cpu" : "rate") " vs " other
	if (bad(load, name) || bad(load, other)) { unknown(what); return }
	look(load, other, key); b = key == "cpu" ? lo : hi; m = med
	if (b <= 0 || m <= 0) { unknown(what); return }
	if (floor != "" && look(load, floor, key)) f = sprintf(", %s %.2f", floor, (key == "cpu" ? lo : hi) / b)
	look(load, name, key)
	verdict(what, (key == "cpu" ? lo : hi) / b, rule, target, sprintf("median %.2f", med / m) f)
}

# The best of haproxy and nginx, copying or not.
function best(load, key,    i, k, names, v, b, top) {
	k = split("haproxy haproxy-splice nginx", names, " ")
	for (i = 1; i <= k; i++) {
		if (bad(load, names[i])) continue
		look(load, names[i], key)
		v = key == "cpu" ? -lo : hi
		if (top == "" || v > b) { b = v; top = names[i] }
	}
	return top
}

function best_peer(load, key, rule, target,    p) {
	p = best(load, key)
	if (p == "") unknown(load " " key " vs best peer")
	else ratio(load, key, "leased", p, rule, target)
}

# All system calls of a request but epoll_wait, which serves many. 0.1: the few that open and close the connections.
function syscalls(load,    w) {
	if (!counted[load, "leased"]) return
	w = calls[load, "leased", "epoll_wait"]
	verdict(load " system calls per request, epoll_wait aside", calls[load, "leased", "sysc"] - w, "<=", 4.1,
		sprintf("epoll_wait %.2f", w))
}

function size(load, name, key, target,    what) {
	what = about(load, name) " B/conn" (key == "bconn" ? ", silent" : ", used once")
	if (!look(load, name, key)) unknown(what)
	else verdict(what, med, "<=", target, "")
}

# The same contestant beside other clients and alone. A p99 is judged by the median: the least one is a round in which
# the generator happened to ask in step.
function beside(load, key, name, other, target,    what, b, m) {
	what = about(load, name) " " key " vs alone"
	if (bad(load, name) || bad(load, name other)) { unknown(what); return }
	look(load, name, key); b = lo; m = med
	if (b <= 0 || m <= 0) { unknown(what); return }
	look(load, name other, key)
	if (key == "p99") verdict(what, med / m, "<=", target, sprintf("least %.2f", lo / b))
	else verdict(what, lo / b, "<=", target, sprintf("median %.2f", med / m))
}

function relay(    ping, bulk, p, l) {
	split("ping-c1 ping-c50 ping-c500", ping, " ")
	for (p = 1; p <= 3; p++) {
		l = ping[p]
		ratio(l, "cpu", "leased", "floor-ev", "<=", 1.10)
		ratio(l, "cpu", "leased", "haproxy", "<", 1)
		ratio(l, "cpu", "leased", "nginx", "<", 1)
		best_peer(l, "rps", ">=", 1)
		syscalls(l)
	}
	ratio("churn-c20", "rps", "leased", "direct", ">", 1, "floor-ev-pool")
	ratio("churn-c20", "cpu", "leased", "floor-ev-pool", "<=", 1.15)
	ratio("churn-c20", "cpu", "leased", "haproxy", "<=", 0.65)
	split("bulk-1 bulk-8 upload-8", bulk, " ")
	for (p = 1; p <= 3; p++) {
		best_peer(bulk[p], "rps", ">=", 1)
		best_peer(bulk[p], "cpu", "<=", 1)
	}
	size("idle-opaque-8000", "leased", "bconn", 2048)
	size("idle-opaque-8000", "leased", "bconn_used", 2048)
	beside("ping-c50-idle8000", "cpu", "leased", "+idle", 1.10)
}

# The multiplexer is compared with multiplexers, the lender of connections with relays.
function redis(    loads, modes, n, i, l) {
	n = split("get-c50-p1 set-c50-p1 get-c500-p1 set-c500-p1 get-c50-p16 set-c50-p16", loads, " ")
	for (i = 1; i <= n; i++) {
		l = "redis-" loads[i]
		ratio(l, "cpu", "leased-transaction", "haproxy", "<", 1, "floor-ev")
		ratio(l, "cpu", "leased-request", "nutcracker", "<", 1)
		ratio(l, "cpu", "leased-request", "mux-ev", "<=", 1.25)
		if (l ~ /c500-p1$/)
			ratio(l, "rps", "leased-request", "direct", ">=", 1, "mux-ev")
	}
	beside("lredis-get-c200-p1-slow", "p99", "leased-request", "+slow", 1.2)
	split("leased-transaction leased-request", modes, " ")
	for (i = 1; i <= 2; i++) {
		ratio("redis-churn-c20", "rps", modes[i], "haproxy", ">=", 1.5, "direct")
		ratio("redis-churn-c20", "cpu", modes[i], "haproxy", "<", 1, "floor-ev-pool")
		l = "redis-bulk-1"
		if (bad(l, modes[i]) || !look(l, modes[i], "grown")) unknown(about(l, modes[i]) " KiB more memory")
		else verdict(about(l, modes[i]) " KiB more memory", hi, "<=", 256, "")
		size("idle-redis-8000", modes[i], "bconn", 1024)
		size("idle-redis-8000", modes[i], "bconn_used", 1024)
	}
}

END {
	print "figure                                                measured    target"
	if (groups ~ /relay/) relay()
	if (groups ~ /redis/) redis()
	print missed ? missed " missed" : "all reached"
	exit strict != "" && missed ? 1 : 0
}
