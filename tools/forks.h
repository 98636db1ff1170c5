/* SPDX-License-Identifier: MIT */
/*
 * What a Mac's file has beside its data: the Finder's information and the
 * resource fork, over a session. Private to tools/.
 */
#ifndef BERTH_TOOLS_FORKS_H
#define BERTH_TOOLS_FORKS_H

#include "session.h"

#define FORKS_INFO_SIZE 32u

/* Does the volume's filesystem have such things at all? */
bool forks_known(const Session *session);
/* All zero when the file has none. -EOPNOTSUPP: the filesystem knows nothing of the kind. */
int forks_info(Session *session, uint64_t file, uint8_t ret[FORKS_INFO_SIZE]);
int forks_set_info(Session *session, uint64_t file, const uint8_t info[FORKS_INFO_SIZE]);
int forks_resource_size(Session *session, uint64_t file, uint64_t *ret);
/* The whole of it, malloc'ed. */
int forks_read_resource(Session *session, uint64_t file, uint8_t **ret, uint64_t *ret_size);
int forks_write_resource(Session *session, uint64_t file, const uint8_t *data, uint64_t size);

#endif
