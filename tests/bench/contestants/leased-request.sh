# leased, speaking Redis: all clients' requests in pipelines over one connection
. "$HERE/contestants/leased.sh"
c_protos=redis
mode=request
POOL_EXTRA="multiplex_connections = 1; ${POOL_EXTRA:-}"
