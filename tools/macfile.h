/* SPDX-License-Identifier: MIT */
/*
 * A Mac's file with all that belongs to it, in the forms it takes to travel
 * over disks that know only of data: MacBinary (II and III), AppleDouble
 * (version 2) and BinHex 4.0. In memory; bytes that are read are not trusted.
 * Private to tools/.
 */
#ifndef BERTH_TOOLS_MACFILE_H
#define BERTH_TOOLS_MACFILE_H

#include "berth/text.h"

#define MAC_NAME_MAX 63u /* of MacBinary and BinHex */
#define MAC_INFO_SIZE 32u
#define MAC_FORK_MAX UINT64_C(0x7fffffff)

typedef enum MacForm { MAC_PLAIN, MAC_BINARY, MAC_DOUBLE, MAC_BINHEX } MacForm;

typedef struct MacFile {
    uint8_t name_length;
    uint8_t name[MAC_NAME_MAX];  /* the Mac's bytes */
    uint8_t info[MAC_INFO_SIZE]; /* FInfo, FXInfo */
    bool has_times;
    int64_t created, modified; /* seconds since 1970, UTC */
    uint8_t *data, *resource;  /* malloc'ed */
    uint64_t data_size, resource_size;
} MacFile;

void mac_file_done(MacFile *file);

/* "macbinary", "appledouble", "binhex". False: none of them. */
bool mac_form_parse(const char *text, MacForm *ret);

/* Appended to *ret; memory failure shows there. AppleDouble: only what goes beside the data. */
void mac_binary_encode(const MacFile *file, Text *ret);
void mac_double_encode(const MacFile *file, Text *ret);
void mac_binhex_encode(const MacFile *file, Text *ret);

/* 0 or -EBADMSG with the reason in *why, -ENOMEM. AppleDouble: data is left as it is. */
int mac_binary_decode(const uint8_t *bytes, size_t size, MacFile *ret, const char **why);
int mac_double_decode(const uint8_t *bytes, size_t size, MacFile *file, const char **why);
int mac_binhex_decode(const uint8_t *bytes, size_t size, MacFile *ret, const char **why);

/* Checksum of MacBinary and BinHex. */
uint16_t mac_crc(uint16_t crc, const uint8_t *bytes, size_t size);

#endif
