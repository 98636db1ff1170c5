/* SPDX-License-Identifier: MIT */
/*
 * berth probe --udev: what udev's rules import, in the variables that its own blkid
 * sets. Labels are the image's: in ID_FS_LABEL what is not safe becomes "_", in
 * ID_FS_LABEL_ENC "\xNN", as everybody who reads these variables expects.
 */
#include "probe_udev.h"

#include "berth.h"

#include <blkid/blkid.h>
#include <stdio.h>

#define ENCODED_MAX 2048 /* four bytes for each of the longest label */

/* A value on a line of its own, once made safe and once encoded. */
static void put_both(Text *out, const char *name, const char *value) {
    char encoded[ENCODED_MAX];

    if (value[0] == '\0') {
        return;
    }
    if (blkid_safe_string(value, encoded, sizeof(encoded)) == 0) {
        text_printf(out, "%s=%s\n", name, encoded);
    }
    if (blkid_encode_string(value, encoded, sizeof(encoded)) == 0) {
        text_printf(out, "%s_ENC=%s\n", name, encoded);
    }
}

int probe_print_udev(const ImageProbe *probe) {
    const VolumeProbe *volume = &probe->whole;
    Text out = {0};
    int code;

    if (probe->table.kind != PARTITION_NONE || volume->type[0] == '\0') {
        return EXIT_SYSTEM; /* as blkid: nothing found, nothing said */
    }
    text_printf(&out, "ID_FS_TYPE=%s\nID_FS_USAGE=filesystem\n", volume->type);
    if (volume->subtype[0] != '\0') {
        text_printf(&out, "ID_FS_VERSION=%s\n", volume->subtype);
    }
    put_both(&out, "ID_FS_LABEL", volume->label);
    put_both(&out, "ID_FS_UUID", volume->uuid);
    code = out.failed ? EXIT_SYSTEM : tool_print(text_string(&out), out.length);
    text_done(&out);
    return code;
}
