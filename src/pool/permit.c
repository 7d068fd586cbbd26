#include "pool/permit.h"

#include <pthread.h>

#include "base/mem.h"

struct budget {
	_Atomic int used;
	_Atomic int max;	 /* 0: none */
	_Atomic size_t n_hungry; /* copy of hungry.len, readable without the lock */
	pthread_mutex_t lock;	 /* members, hungry */
	struct list members, hungry;
};

struct budget *budget_new(int max)
{
	struct budget *b = NEW(struct budget);

	atomic_store(&b->max, max > 0 ? max : 0);
	pthread_mutex_init(&b->lock, NULL);
	list_init(&b->members);
	list_init(&b->hungry);
	return b;
}

void budget_free(struct budget **b)
{
	if (!*b)
		return;
	BUG_ON(atomic_load(&(*b)->used) != 0 || (*b)->members.len != 0);
	pthread_mutex_destroy(&(*b)->lock);
	mem_free(*b);
	*b = NULL;
}

void budget_join(struct budget *b, struct budget_member *m)
{
	atomic_store(&m->oldest_idle_us, INT64_MAX);
	pthread_mutex_lock(&b->lock);
	list_push_back(&b->members, &m->node);
	pthread_mutex_unlock(&b->lock);
}

static void budget_unwant_locked(struct budget *b, struct budget_member *m)
{
	if (!list_is_on(&m->hungry))
		return;
	list_remove(&m->hungry);
	atomic_store(&b->n_hungry, b->hungry.len);
}

void budget_leave(struct budget *b, struct budget_member *m)
{
	pthread_mutex_lock(&b->lock);
	budget_unwant_locked(b, m);
	list_remove(&m->node);
	pthread_mutex_unlock(&b->lock);
}

int budget_max(const struct budget *b)
{
	return atomic_load(&b->max);
}

int budget_used(const struct budget *b)
{
	return atomic_load(&b->used);
}

int budget_excess(const struct budget *b)
{
	int max = atomic_load(&b->max), used = atomic_load(&b->used);

	return max > 0 && used > max ? used - max : 0;
}

static bool budget_has_room(const struct budget *b)
{
	int max = atomic_load(&b->max);

	return max == 0 || atomic_load(&b->used) < max;
}

bool budget_starved(const struct budget *b)
{
	int max = atomic_load(&b->max);

	return max > 0 && atomic_load(&b->used) >= max && atomic_load(&b->n_hungry) > 0;
}

/* Asks the member whose oldest idle connection is oldest to close it. */
static void budget_evict_locked(struct budget *b)
{
	struct budget_member *victim = NULL;
	int64_t oldest = INT64_MAX;

	list_each(&b->members, n) {
		struct budget_member *m = container_of(n, struct budget_member, node);
		int64_t t = atomic_load(&m->oldest_idle_us);

		if (t < oldest) {
			oldest = t;
			victim = m;
		}
	}
	if (victim)
		victim->poke(victim->arg, BUDGET_EVICT);
}

bool budget_needs_eviction(const struct budget *b)
{
	return budget_excess(b) > 0 || budget_starved(b);
}

void budget_evict(struct budget *b)
{
	pthread_mutex_lock(&b->lock);
	if (budget_needs_eviction(b))
		budget_evict_locked(b);
	pthread_mutex_unlock(&b->lock);
}

void budget_set_max(struct budget *b, int max)
{
	pthread_mutex_lock(&b->lock);
	atomic_store(&b->max, max > 0 ? max : 0);
	if (budget_excess(b) > 0) {
		/* What each member has to spare was judged by the old limit: ask them all. */
		list_each(&b->members, n) {
			struct budget_member *m = container_of(n, struct budget_member, node);

			m->poke(m->arg, BUDGET_EVICT);
		}
	} else if (b->hungry.len > 0) {
		struct budget_member *m = container_of(list_front(&b->hungry), struct budget_member, hungry);

		m->poke(m->arg, BUDGET_RETRY);
	}
	pthread_mutex_unlock(&b->lock);
}

void budget_want(struct budget *b, struct budget_member *m)
{
	pthread_mutex_lock(&b->lock);
	if (!list_is_on(&m->hungry)) {
		list_push_back(&b->hungry, &m->hungry);
		atomic_store(&b->n_hungry, b->hungry.len);
	}
	/* A permit given back between the failed take and this lock was not announced to us. */
	if (budget_has_room(b))
		m->poke(m->arg, BUDGET_RETRY);
	else
		budget_evict_locked(b);
	pthread_mutex_unlock(&b->lock);
}

void budget_unwant(struct budget *b, struct budget_member *m)
{
	pthread_mutex_lock(&b->lock);
	budget_unwant_locked(b, m);
	/* The free permit may have been announced to us alone. Without one a poke would only send two hungry pools round. */
	if (b->hungry.len > 0 && budget_has_room(b)) {
		struct budget_member *next = container_of(list_front(&b->hungry), struct budget_member, hungry);

		next->poke(next->arg, BUDGET_RETRY);
	}
	pthread_mutex_unlock(&b->lock);
}

static bool budget_take(struct budget *b)
{
	int used = atomic_load(&b->used);

	do {
		int max = atomic_load(&b->max);

		if (max > 0 && used >= max)
			return false;
	} while (!atomic_compare_exchange_weak(&b->used, &used, used + 1));
	return true;
}

static void budget_give(struct budget *b)
{
	int before = atomic_fetch_sub(&b->used, 1);

	BUG_ON(before <= 0);
	if (atomic_load(&b->n_hungry) == 0 && budget_excess(b) == 0)
		return;
	pthread_mutex_lock(&b->lock);
	if (budget_excess(b) > 0)
		budget_evict_locked(b);
	else if (b->hungry.len > 0) {
		struct budget_member *m = container_of(list_front(&b->hungry), struct budget_member, hungry);

		m->poke(m->arg, BUDGET_RETRY);
	}
	pthread_mutex_unlock(&b->lock);
}

enum permit_result permit_take(struct permit *p, struct permit_scope *server, struct permit_scope *pool,
			       struct budget *b)
{
	BUG_ON(p->budget != NULL);
	if (server->max > 0 && server->used >= server->max)
		return PERMIT_SERVER_FULL;
	if (pool->max > 0 && pool->used >= pool->max)
		return PERMIT_POOL_FULL;
	if (!budget_take(b))
		return PERMIT_BUDGET_SPENT;
	server->used++;
	pool->used++;
	*p = (struct permit){.server = server, .pool = pool, .budget = b};
	return PERMIT_OK;
}

void permit_give(struct permit *p)
{
	struct budget *b = p->budget;

	BUG_ON(b == NULL);
	BUG_ON(p->server->used <= 0 || p->pool->used <= 0);
	p->server->used--;
	p->pool->used--;
	*p = (struct permit){0};
	budget_give(b);
}

int budget_auto(int64_t nofile, int64_t reserve)
{
	int64_t n;

	if (nofile <= 0)
		return 900;
	n = (nofile - reserve) / 100;
	if (n < 1)
		return 1;
	return n > INT32_MAX / 100 ? INT32_MAX / 100 * 100 : (int)(n * 100);
}
