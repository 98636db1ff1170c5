/* SPDX-License-Identifier: MIT */
/*
 * The options that every volume understands, parsed from a mount-style string
 * into FsMountOptions. What is not known here is passed on to the filesystem in
 * `extra`, escaped again, so that it can be parsed by the same rules. The string
 * may come from an untrusted peer: it is bounded, and nothing is half applied
 * (the result is written only when all of it was good).
 */
#include "berth/options.h"
#include "berth/fs.h"
#include <stdio.h>

typedef struct OptionsParse {
    FsMountOptions options;
    size_t extra_length;
    char *text; /* 128 bytes: what is wrong */
} OptionsParse;

static int option_bad(OptionsParse *parse, const char *name, const char *value) {
    (void)snprintf(parse->text, 128, "bad value \"%.60s\" for option %.40s",
                   value != NULL ? value : "", name);
    return -EINVAL;
}

/* One byte of `extra`; false when full. */
static bool extra_put(OptionsParse *parse, char byte) {
    if (parse->extra_length + 1 >= sizeof(parse->options.extra)) {
        return false;
    }
    parse->options.extra[parse->extra_length++] = byte;
    return true;
}

static int extra_add(OptionsParse *parse, const char *name, const char *value) {
    const char *parts[] = {name, value};
    bool fits = parse->extra_length == 0 || extra_put(parse, ',');

    for (size_t i = 0; i < ARRAY_SIZE(parts) && parts[i] != NULL; i++) {
        fits = fits && (i == 0 || extra_put(parse, '='));
        for (const char *c = parts[i]; *c != '\0' && fits; c++) {
            fits = (*c != ',' && *c != '\\') || extra_put(parse, '\\');
            fits = fits && extra_put(parse, *c);
        }
    }
    if (!fits) {
        (void)snprintf(parse->text, 128, "too many options, from %.60s on", name);
        return -EINVAL;
    }
    return 0;
}

static int parse_errors(const char *value, ErrorsPolicy *ret) {
    static const struct {
        const char *word;
        ErrorsPolicy policy;
    } words[] = {
        {"remount-ro", ERRORS_REMOUNT_RO},
        {"continue", ERRORS_CONTINUE},
        {"panic", ERRORS_PANIC},
    };

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcmp(value, words[i].word) == 0) {
            *ret = words[i].policy;
            return 0;
        }
    }
    return -EINVAL;
}

static int parse_commit(const char *value, uint64_t *ret_ns) {
    double seconds;
    int r = parse_seconds(value, &seconds);

    if (r == 0) {
        *ret_ns = (uint64_t)(seconds * 1e9);
    }
    return r;
}

static int parse_bytes(const char *value, size_t *ret) {
    uint64_t bytes;
    int r = parse_size(value, &bytes);

    if (r == 0 && bytes > UINT64_C(1) << 34) {
        r = -ERANGE; /* nobody wants more memory than 16 GiB for one volume */
    }
    if (r == 0) {
        *ret = (size_t)bytes;
    }
    return r;
}

static int parse_case(const char *value, bool *ret_exact) {
    if (strcmp(value, "exact") != 0 && strcmp(value, "fold") != 0) {
        return -EINVAL;
    }
    *ret_exact = strcmp(value, "exact") == 0;
    return 0;
}

/* Options with a value. 0, 1: not one of these, or an error of the conversion. */
static int option_value(FsMountOptions *options, const char *name, const char *value) {
    if (strcmp(name, "uid") == 0) {
        return parse_u32(value, &options->uid);
    }
    if (strcmp(name, "gid") == 0) {
        return parse_u32(value, &options->gid);
    }
    if (strcmp(name, "umask") == 0) {
        uint32_t mask;
        int r = parse_octal(value, 07777, &mask);

        if (r == 0) {
            options->fmask = options->dmask = mask;
        }
        return r;
    }
    if (strcmp(name, "fmask") == 0) {
        return parse_octal(value, 07777, &options->fmask);
    }
    if (strcmp(name, "dmask") == 0) {
        return parse_octal(value, 07777, &options->dmask);
    }
    if (strcmp(name, "errors") == 0) {
        return parse_errors(value, &options->errors);
    }
    if (strcmp(name, "commit") == 0) {
        return parse_commit(value, &options->commit_ns);
    }
    if (strcmp(name, "cache") == 0) {
        return parse_bytes(value, &options->cache_bytes);
    }
    if (strcmp(name, "log") == 0) {
        return parse_bytes(value, &options->log_bytes);
    }
    if (strcmp(name, "case") == 0) {
        return parse_case(value, &options->case_exact);
    }
    return 1;
}

static int option_one(void *arg, const char *name, const char *value) {
    OptionsParse *parse = arg;
    int r;

    if (strcmp(name, "ro") == 0 || strcmp(name, "rw") == 0) {
        if (value != NULL) {
            return option_bad(parse, name, value);
        }
        parse->options.readonly = strcmp(name, "ro") == 0;
        return 0;
    }
    r = option_value(&parse->options, name, value != NULL ? value : "");
    if (r == 1) {
        return extra_add(parse, name, value);
    }
    return r < 0 ? option_bad(parse, name, value) : 0;
}

int fs_options_parse(const char *options, FsMountOptions *ret, char text[128]) {
    OptionsParse parse = {
        .options = {.fmask = 022, .dmask = 022, .errors = ERRORS_REMOUNT_RO},
        .text = text,
    };
    int r;

    text[0] = '\0';
    r = options_parse(options, option_one, &parse);
    if (r < 0) {
        if (text[0] == '\0') {
            (void)snprintf(text, 128, "cannot read the options: %s", strerror(-r));
        }
        return r;
    }
    *ret = parse.options;
    return 0;
}
