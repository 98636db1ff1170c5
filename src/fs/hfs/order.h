/* SPDX-License-Identifier: MIT */
/* How the Mac orders names, which is how the catalog's keys lie. */
#ifndef HFS_ORDER_H
#define HFS_ORDER_H

#include <stdbool.h>
#include <stdint.h>

/* Below, at or above 0. Names that give 0 are one name: letters' case does not count. */
int hfs_name_compare(const uint8_t *a, unsigned a_length, const uint8_t *b, unsigned b_length);
/* The byte's place in that order, for hashing: equal bytes have equal places. */
uint8_t hfs_name_place(uint8_t byte);

#endif
