/* SPDX-License-Identifier: MIT */
/*
 * OEM code pages over the tables of contrib/gen_codepages.py. They are built in,
 * as a daemon in its sandbox can load nothing. Below 0x80 all are ASCII. Only
 * code page 932 has characters of two bytes; their second byte may be an ASCII
 * letter or a backslash, so bytes of a name have a meaning only when read from
 * its start. Stateless.
 */
#include "codepage.h"
#include "berth/base.h"
#include "codepage_tables.h"

#define TRAILS 188u /* 0x40 to 0x7e and 0x80 to 0xfc */
#define USER_LEAD 0xf0u
#define USER_ROWS 10u
#define USER_FIRST 0xe000u /* their characters: Unicode's private use area */

static const FatCodepage pages[] = {
    {"437", codepage_437, NULL},   {"737", codepage_737, NULL},
    {"775", codepage_775, NULL},   {"850", codepage_850, NULL},
    {"852", codepage_852, NULL},   {"855", codepage_855, NULL},
    {"857", codepage_857, NULL},   {"858", codepage_858, NULL},
    {"860", codepage_860, NULL},   {"861", codepage_861, NULL},
    {"862", codepage_862, NULL},   {"863", codepage_863, NULL},
    {"865", codepage_865, NULL},   {"866", codepage_866, NULL},
    {"1250", codepage_1250, NULL}, {"1251", codepage_1251, NULL},
    {"1252", codepage_1252, NULL}, {"932", codepage_932, codepage_932_rows},
};

const FatCodepage *fat_codepage_default(void) {
    return &pages[0];
}

const FatCodepage *fat_codepage_find(const char *name) {
    if (strncmp(name, "cp", 2) == 0) {
        name += 2;
    }
    for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
        if (strcmp(pages[i].name, name) == 0) {
            return &pages[i];
        }
    }
    return NULL;
}

static bool is_user_lead(unsigned lead) {
    return lead >= USER_LEAD && lead < USER_LEAD + USER_ROWS;
}

/* 0: no such pair. */
static uint16_t pair_decode(const FatCodepage *page, uint8_t lead, uint8_t trail) {
    const uint16_t *row = page->rows[lead - 0x80];
    unsigned index;

    if (trail < 0x40 || trail == 0x7f || trail > 0xfc) {
        return 0;
    }
    index = trail - 0x40u - (trail > 0x7f);
    if (is_user_lead(lead)) {
        return (uint16_t)(USER_FIRST + (lead - USER_LEAD) * TRAILS + index);
    }
    return row == NULL ? 0 : row[index];
}

unsigned fat_codepage_decode(const FatCodepage *page, const uint8_t *bytes, unsigned length,
                             uint16_t *ret) {
    if (bytes[0] < 0x80) {
        *ret = bytes[0];
        return 1;
    }
    if (page->rows != NULL && length > 1) {
        uint16_t unit = pair_decode(page, bytes[0], bytes[1]);
        if (unit != 0) {
            *ret = unit;
            return 2;
        }
    }
    *ret = page->high[bytes[0] - 0x80];
    return 1;
}

static unsigned pair_make(unsigned lead, unsigned index, uint8_t ret[2]) {
    ret[0] = (uint8_t)lead;
    ret[1] = (uint8_t)(0x40 + index + (index >= 0x3f));
    return 2;
}

/* The rows 0xed and 0xee repeat what others have: Windows writes those others. */
static unsigned pair_encode(const FatCodepage *page, uint16_t unit, uint8_t ret[2]) {
    if (unit >= USER_FIRST && unit < USER_FIRST + USER_ROWS * TRAILS) {
        unsigned at = unit - USER_FIRST;
        return pair_make(USER_LEAD + at / TRAILS, at % TRAILS, ret);
    }
    for (unsigned repeated = 0; repeated < 2; repeated++) {
        for (unsigned lead = 0x80; lead < 0x100; lead++) {
            const uint16_t *row = page->rows[lead - 0x80];
            if (row == NULL || (lead == 0xed || lead == 0xee) != (repeated == 1)) {
                continue;
            }
            for (unsigned i = 0; i < TRAILS; i++) {
                if (row[i] == unit) {
                    return pair_make(lead, i, ret);
                }
            }
        }
    }
    return 0;
}

unsigned fat_codepage_encode(const FatCodepage *page, uint16_t unit, uint8_t ret[2]) {
    if (unit < 0x80) {
        ret[0] = (uint8_t)unit;
        return 1;
    }
    for (unsigned i = 0; i < 128; i++) {
        if (page->high[i] == unit) {
            ret[0] = (uint8_t)(0x80 + i);
            return 1;
        }
    }
    return page->rows != NULL ? pair_encode(page, unit, ret) : 0;
}
