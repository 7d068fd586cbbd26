/* Tests of base/buf: against a plain array, and what blocks it holds. */
#include <check.h>
#include <signal.h>
#include <string.h>

#include "base/buf.h"
#include "base/rng.h"
#include "base/secret.h"

#define REF_BYTES (1 << 16)

/* The same queue, the simple way. */
struct ref {
	uint8_t bytes[REF_BYTES];
	size_t len;
};

static void ref_append(struct ref *f, const uint8_t *p, size_t n)
{
	memcpy(f->bytes + f->len, p, n);
	f->len += n;
}

static void ref_consume(struct ref *f, size_t n)
{
	memmove(f->bytes, f->bytes + n, f->len - n);
	f->len -= n;
}

static void same(const struct buf *b, const struct ref *f, struct rng *r)
{
	static uint8_t out[REF_BYTES];
	struct iovec iov[32];
	size_t n, at = 0;
	const uint8_t *p = buf_peek(b, &n);
	int runs = buf_iov(b, iov, 32);

	ck_assert_uint_eq(buf_len(b), f->len);
	ck_assert(n <= f->len && (n > 0) == (f->len > 0));
	if (n)
		ck_assert(memcmp(p, f->bytes, n) == 0);
	for (int i = 0; i < runs; i++) {
		ck_assert_uint_gt(iov[i].iov_len, 0);
		ck_assert(memcmp(iov[i].iov_base, f->bytes + at, iov[i].iov_len) == 0);
		at += iov[i].iov_len;
	}
	ck_assert_uint_eq(at, f->len);
	if (f->len)
		ck_assert_int_eq(buf_iov(b, iov, 1), 1);
	n = rng_below(r, REF_BYTES) % (f->len + 10);
	ck_assert_uint_eq(buf_copy(b, out, n), n < f->len ? n : f->len);
	ck_assert(memcmp(out, f->bytes, n < f->len ? n : f->len) == 0);
	ck_assert_uint_le(b->from->nused, f->len / 4000 + 2);
	ck_assert(f->len > 0 || b->from->nused == 0);
}

static void run_random(struct blocks *from, uint64_t seed)
{
	static uint8_t in[20000];
	static struct ref f;
	struct rng r;
	struct buf b;

	rng_seed(&r, seed);
	f.len = 0;
	buf_init(&b, from);
	for (int turn = 0; turn < 3000; turn++) {
		size_t n = (size_t)rng_below(&r, rng_below(&r, 4) ? 300 : sizeof(in));

		if (rng_below(&r, 2) && f.len + n <= REF_BYTES) {
			for (size_t i = 0; i < n; i++)
				in[i] = (uint8_t)rng_next(&r);
			buf_append(&b, in, n);
			ref_append(&f, in, n);
		} else if (rng_below(&r, 50) == 0) {
			buf_clear(&b);
			f.len = 0;
		} else {
			n = rng_below(&r, 5) ? (n > f.len ? f.len : n) : f.len;
			buf_consume(&b, n);
			ref_consume(&f, n);
		}
		same(&b, &f, &r);
	}
	buf_clear(&b);
	ck_assert_uint_eq(from->nused, 0);
}

START_TEST(agrees_with_an_array)
{
	struct blocks blocks;

	blocks_init(&blocks, 3);
	for (uint64_t seed = 0; seed < 5; seed++) {
		run_random(&blocks, seed);
		ck_assert_uint_le(blocks.nfree, 3);
	}
	blocks_done(&blocks);
	ck_assert_uint_eq(blocks.nfree, 0);
}
END_TEST

START_TEST(agrees_with_an_array_in_the_arena)
{
	ck_assert_int_eq(secret_arena_init(NULL), ERR_OK);
	run_random(secret_blocks(), 9);
}
END_TEST

/* Proves: RES-1 */
START_TEST(an_empty_one_owns_nothing)
{
	static uint8_t bytes[BUF_BLOCK_BYTES];
	struct blocks blocks;
	struct buf a, b;
	size_t n;

	blocks_init(&blocks, 1);
	buf_init(&a, &blocks);
	buf_init(&b, &blocks);
	ck_assert_uint_eq(blocks.nused, 0);
	ck_assert_ptr_null(buf_peek(&a, &n));
	ck_assert_uint_eq(n, 0);
	buf_append(&a, bytes, 0);
	ck_assert_uint_eq(blocks.nused, 0);
	buf_append(&a, bytes, 1);
	buf_append(&b, bytes, sizeof(bytes));
	ck_assert_uint_eq(blocks.nused, 3);
	buf_consume(&a, 1);
	ck_assert_uint_eq(blocks.nused, 2);
	buf_clear(&b);
	ck_assert_uint_eq(blocks.nused, 0);
	ck_assert_uint_le(blocks.nfree, 1);
	blocks_done(&blocks);
}
END_TEST

START_TEST(consuming_too_much_aborts)
{
	struct blocks blocks;
	struct buf b;

	blocks_init(&blocks, 1);
	buf_init(&b, &blocks);
	buf_append(&b, "abc", 3);
	buf_consume(&b, 4);
}
END_TEST

START_TEST(done_with_blocks_in_use_aborts)
{
	struct blocks blocks;
	struct buf b;

	blocks_init(&blocks, 1);
	buf_init(&b, &blocks);
	buf_append(&b, "abc", 3);
	blocks_done(&blocks);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("buf");
	TCase *t = tcase_create("buf");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, agrees_with_an_array);
	tcase_add_test(t, agrees_with_an_array_in_the_arena);
	tcase_add_test(t, an_empty_one_owns_nothing);
	tcase_add_test_raise_signal(t, consuming_too_much_aborts, SIGABRT);
	tcase_add_test_raise_signal(t, done_with_blocks_in_use_aborts, SIGABRT);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
