/* SPDX-License-Identifier: MIT */
/*
 * Parsing of mount-style option strings: "ro,uid=1000,label=a\,b". A comma or
 * backslash inside a value is escaped with a backslash.
 */
#ifndef BERTH_OPTIONS_H
#define BERTH_OPTIONS_H

#include "berth/base.h"

/*
 * Calls fn(arg, name, value) for each option; value is NULL without '='.
 * Empty options are skipped. fn returns 0 to go on, anything else stops and is
 * returned. -ENOMEM, -EINVAL (over 64 KiB, or an option of over 4095 bytes).
 */
int options_parse(const char *text, int (*fn)(void *arg, const char *name, const char *value),
                  void *arg);

/* Whole-string conversions: 0, -EINVAL (not a number, trailing text), -ERANGE. */
int parse_u64(const char *text, uint64_t *ret); /* decimal, 0x hex */
int parse_u32(const char *text, uint32_t *ret);
int parse_octal(const char *text, uint32_t max, uint32_t *ret);
int parse_size(const char *text, uint64_t *ret);  /* as parse_u64, with suffixes K M G T (1024) */
int parse_seconds(const char *text, double *ret); /* "5", "0.5"; not negative, at most 86400 */

/*
 * Of formats that store local time: tz=UTC|+HH[:MM]|-HH[:MM] and time_offset=[+|-]MINUTES (a day at
 * the most), as what local time is ahead of UTC, in minutes. There are no time zone files where
 * this is used. -ENOENT: another option; -EINVAL.
 */
int option_time_offset(const char *name, const char *value, int *ret_minutes);

#endif
