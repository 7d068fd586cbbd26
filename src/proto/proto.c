/* proto: the registry. A new protocol is one line in the table below. */
#include "proto/proto.h"

#include <string.h>

#include "proto/redis/redis.h"
#include "proto/tcp.h"

static const struct proto *const protos[] = {
	&proto_tcp,
	&proto_redis,
};

const struct proto *proto_find(const char *name)
{
	for (size_t i = 0; i < sizeof(protos) / sizeof(protos[0]); i++) {
		if (!strcmp(protos[i]->name, name))
			return protos[i];
	}
	return NULL;
}

const char *const *proto_names(void)
{
	static const char *names[sizeof(protos) / sizeof(protos[0]) + 1];

	for (size_t i = 0; i < sizeof(protos) / sizeof(protos[0]); i++)
		names[i] = protos[i]->name;
	return names;
}
