/* cred: counted references to a generation. */
#include "cred/cred.h"

#include "base/mem.h"

struct cred *cred_new(uint64_t number, const char *username, struct secret *password)
{
	struct cred *c = NEW(struct cred);

	BUG_ON(number == 0);
	c->number = number;
	c->username = username ? mem_strdup(username) : NULL;
	c->password = password;
	atomic_init(&c->refs, 1);
	return c;
}

struct cred *cred_ref(struct cred *c)
{
	/* Somebody else's reference keeps it alive meanwhile, so no order is needed. */
	BUG_ON(atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed) == 0);
	return c;
}

void cred_drop(struct cred **c)
{
	struct cred *dead = *c;

	*c = NULL;
	if (!dead || atomic_fetch_sub_explicit(&dead->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (dead->password)
		secret_drop(&dead->password);
	mem_free(dead->username);
	mem_free(dead);
}
