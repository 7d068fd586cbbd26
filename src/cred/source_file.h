/*
 * source_file: a credential in a file, or in the files of a directory, that is watched and polled.
 *
 *	watch, poll --> changed --debounce--> still the same? --read--> source_says()
 *	                           ^---------------no
 *
 * It is read when its stamp has not changed for debounce_us, when nobody is known to be writing to it (WRITING_US of silence at most),
 * and if it was the same before and after reading. So a JSON document in two halves is never taken for a credential, because half of
 * one does not parse; the other forms are safe when they are replaced by rename, or written by one program that closes the
 * file at the end. Empty, invalid, unreadable or missing: said once, and looked at again with the next change or poll.
 */
#ifndef LEASED_CRED_SOURCE_FILE_H
#define LEASED_CRED_SOURCE_FILE_H

#include "cred/credential_private.h"

/* The path is copied. ERR_PERMISSION: what strict_permissions does not allow. */
enum err source_file_start(struct source **out, struct credential *c, const char *path, bool directory,
			   const char **why);
void source_file_ask(struct source *s, enum cred_reason why);
void source_file_stop(struct source **s);

#endif
