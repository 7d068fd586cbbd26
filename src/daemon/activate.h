/*
 * activate: listening sockets passed by systemd (LISTEN_FDS), matched by name with addresses "systemd:NAME". Several sockets of
 * one name are one listener: a socket unit with several ListenStream= lines names them all alike.
 *
 * Every passed socket must be asked for and every one asked for must have been passed, be a stream socket and listen;
 * anything else refuses the start, because a socket nobody accepts from hangs its clients.
 */
#ifndef LEASED_DAEMON_ACTIVATE_H
#define LEASED_DAEMON_ACTIVATE_H

#include "daemon/setup.h"

/* Fills in the fd of each such listener. *why (out): a text for people, mem_free() it. */
enum err activate_sockets(struct setup *s, char **why) MUST_CHECK;

#endif
