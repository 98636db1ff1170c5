/* SPDX-License-Identifier: MIT */
/* The checker's last pass: writing. */
#ifndef HFS_CHECK_STORE_H
#define HFS_CHECK_STORE_H

#include "check.h"

/* Where the alternate MDB lies. */
uint64_t check_alternate_place(const Check *check);
/* Writes all that was changed; sound: every problem has been repaired. */
MAY_YIELD int check_store(Check *check, bool sound, bool was_clean);
/* Problems stay: whoever mounts the volume next shall know. Nothing else is changed. */
MAY_YIELD int check_mark_unsound(Check *check);

#endif
