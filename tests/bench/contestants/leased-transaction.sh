# leased, speaking Redis: a connection is lent for each batch of requests
. "$HERE/contestants/leased.sh"
c_protos=redis
mode=transaction
