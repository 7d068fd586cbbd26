/* cred: fields, and counted references to a generation of them. */
#include "cred/cred.h"

#include <string.h>

#include "base/mem.h"

void cred_fields_init(struct cred_fields *f)
{
	*f = (struct cred_fields){.expires_us = INT64_MAX};
}

void cred_fields_clear(struct cred_fields *f)
{
	if (f->password)
		secret_drop(&f->password);
	mem_free(f->username);
	mem_free(f->host);
	mem_free(f->database);
	cred_fields_init(f);
}

static bool text_equal(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

bool cred_fields_same_login(const struct cred_fields *a, const struct cred_fields *b)
{
	if (!a->password != !b->password || (a->password && !secret_equal(a->password, b->password)))
		return false;
	return text_equal(a->username, b->username) && text_equal(a->host, b->host) && a->port == b->port &&
	       text_equal(a->database, b->database);
}

bool cred_fields_equal(const struct cred_fields *a, const struct cred_fields *b)
{
	return cred_fields_same_login(a, b) && a->expires_us == b->expires_us;
}

struct cred *cred_new(uint64_t number, struct cred_fields *f)
{
	struct cred *c = NEW(struct cred);

	BUG_ON(number == 0);
	c->number = number;
	c->is = *f;
	cred_fields_init(f);
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
	cred_fields_clear(&dead->is);
	mem_free(dead);
}
