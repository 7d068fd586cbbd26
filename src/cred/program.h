/*
 * program: what the sources that run a program have in common: its environment, and what is said of its end.
 *
 * The environment is LEASED_CREDENTIAL, LEASED_USERNAME, LEASED_GENERATION, LEASED_REASON, PATH, LANG and the variables named by
 * pass_env; never a secret of ours. What the program writes to standard error is counted and not logged, since it may be a
 * secret: programs that should be heard redirect it themselves.
 */
#ifndef LEASED_CRED_PROGRAM_H
#define LEASED_CRED_PROGRAM_H

#include "cred/credential_private.h"
#include "io/child.h"

/* NULL-terminated; program_env_free() wipes it. */
char **program_env(const struct credential *c, enum cred_reason why);
void program_env_free(char **env);
void program_log(const struct credential *c, const struct child_end *end, size_t n_err);
/* Why a credential could not be had of it, for people. */
const char *program_why(const struct child_end *end);

#endif
