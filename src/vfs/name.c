/* SPDX-License-Identifier: MIT */
/*
 * What a name is to the framework, the same for every format: checked once,
 * when a request comes in, so that no filesystem has to. Formats add their own
 * rules (characters, length in their encoding) below it. No state, no locks.
 */
#include "berth/fs.h"
#include "berth/text.h"

int fs_name_check(const FsName *name) {
    if (name->length > FS_NAME_MAX) {
        return -ENAMETOOLONG;
    }
    if (name->length == 0 || name->text == NULL) {
        return -EINVAL;
    }
    if (memchr(name->text, '/', name->length) != NULL ||
        memchr(name->text, '\0', name->length) != NULL) {
        return -EINVAL;
    }
    if (name->text[0] == '.' &&
        (name->length == 1 || (name->length == 2 && name->text[1] == '.'))) {
        return -EINVAL;
    }
    if (!utf8_valid(name->text, name->length)) {
        return -EILSEQ;
    }
    return 0;
}
