/* SPDX-License-Identifier: MIT */
/*
 * Option strings and the numbers in them. Everything here is typed by users
 * or passed along by mount(8): whole strings are checked, nothing is guessed,
 * and no conversion depends on the locale.
 */
#include "berth/options.h"

#define OPTIONS_TEXT_MAX 65536
#define OPTIONS_OPTION_MAX 4095
#define OFFSET_MINUTES_MAX (24u * 60)

/* Copies one option, unescaped, to out; returns where the next one starts, or NULL when the option
 * is too long. */
static const char *options_next(const char *at, char out[OPTIONS_OPTION_MAX + 1]) {
    size_t length = 0;

    while (*at != '\0' && *at != ',') {
        if (*at == '\\' && (at[1] == ',' || at[1] == '\\')) {
            at++;
        }
        if (length == OPTIONS_OPTION_MAX) {
            return NULL;
        }
        out[length++] = *at++;
    }
    out[length] = '\0';
    return *at == ',' ? at + 1 : at;
}

int options_parse(const char *text, int (*fn)(void *arg, const char *name, const char *value),
                  void *arg) {
    _cleanup_free_ char *option = NULL;
    const char *at = text;

    if (strnlen(text, OPTIONS_TEXT_MAX + 1) > OPTIONS_TEXT_MAX) {
        return -EINVAL;
    }
    option = malloc(OPTIONS_OPTION_MAX + 1);
    if (option == NULL) {
        return -ENOMEM;
    }
    while (*at != '\0') {
        char *value;
        int r;

        at = options_next(at, option);
        if (at == NULL) {
            return -EINVAL;
        }
        if (option[0] == '\0') {
            continue;
        }
        value = strchr(option, '=');
        if (value != NULL) {
            *value++ = '\0';
        }
        r = fn(arg, option, value);
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

static int parse_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return 99;
}

/* Digits of the base from text on; *ret_end is the first other character. At least one digit. */
static int parse_digits(const char *text, unsigned base, uint64_t *ret, const char **ret_end) {
    bool overflow = false;
    uint64_t value = 0;
    const char *at = text;

    for (; parse_digit(*at) < (int)base; at++) {
        overflow = overflow || !u64_mul(value, base, &value) ||
                   !u64_add(value, (uint64_t)parse_digit(*at), &value);
    }
    if (at == text) {
        return -EINVAL;
    }
    *ret_end = at;
    if (overflow) {
        return -ERANGE;
    }
    *ret = value;
    return 0;
}

/* The whole text in one base: trailing text is -EINVAL even when the digits overflow. */
static int parse_whole(const char *text, unsigned base, uint64_t *ret) {
    const char *end = text;
    uint64_t value = 0;
    int r = parse_digits(text, base, &value, &end);

    if (r == -EINVAL || *end != '\0') {
        return -EINVAL;
    }
    if (r < 0) {
        return r;
    }
    *ret = value;
    return 0;
}

static bool parse_is_hex(const char *text) {
    return text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
}

int parse_u64(const char *text, uint64_t *ret) {
    return parse_is_hex(text) ? parse_whole(text + 2, 16, ret) : parse_whole(text, 10, ret);
}

int parse_u32(const char *text, uint32_t *ret) {
    uint64_t value;
    int r = parse_u64(text, &value);

    if (r < 0) {
        return r;
    }
    if (value > UINT32_MAX) {
        return -ERANGE;
    }
    *ret = (uint32_t)value;
    return 0;
}

int parse_octal(const char *text, uint32_t max, uint32_t *ret) {
    uint64_t value;
    int r = parse_whole(text, 8, &value);

    if (r < 0) {
        return r;
    }
    if (value > max) {
        return -ERANGE;
    }
    *ret = (uint32_t)value;
    return 0;
}

int parse_size(const char *text, uint64_t *ret) {
    static const char suffixes[] = "KMGT";
    bool hex = parse_is_hex(text);
    const char *end = text;
    uint64_t value = 0;
    int r = parse_digits(hex ? text + 2 : text, hex ? 16 : 10, &value, &end);

    if (r == -EINVAL) {
        return r;
    }
    if (*end != '\0') {
        const char *suffix = strchr(suffixes, *end & ~0x20);

        if (suffix == NULL || *suffix == '\0' || end[1] != '\0') {
            return -EINVAL;
        }
        if (r == 0 && !u64_mul(value, UINT64_C(1) << (10 * (suffix - suffixes + 1)), &value)) {
            r = -ERANGE;
        }
    }
    if (r < 0) {
        return r;
    }
    *ret = value;
    return 0;
}

int parse_seconds(const char *text, double *ret) {
    const char *end = text;
    uint64_t whole = 0;
    double value, step = 1;
    int r = parse_digits(text, 10, &whole, &end);

    if (r == -EINVAL) {
        return r;
    }
    value = (double)whole;
    if (*end == '.') {
        const char *digit = end + 1;

        for (; parse_digit(*digit) < 10; digit++) {
            step /= 10;
            value += parse_digit(*digit) * step;
        }
        if (digit == end + 1) {
            return -EINVAL;
        }
        end = digit;
    }
    if (*end != '\0') {
        return -EINVAL;
    }
    if (r < 0 || value > 86400) {
        return -ERANGE;
    }
    *ret = value;
    return 0;
}

/* The hours and minutes behind a sign: "3", "03:30". */
static int parse_hours(const char *text, uint32_t *ret) {
    const char *colon = strchrnul(text, ':');
    uint32_t hours, minutes = 0;
    char part[3] = "";

    if (colon == text || colon - text > 2) {
        return -EINVAL;
    }
    memcpy(part, text, (size_t)(colon - text));
    if (parse_u32(part, &hours) < 0 || hours > 23 ||
        (*colon == ':' && (parse_u32(colon + 1, &minutes) < 0 || minutes > 59))) {
        return -EINVAL;
    }
    *ret = hours * 60 + minutes;
    return 0;
}

int option_time_offset(const char *name, const char *value, int *ret_minutes) {
    bool zone = strcmp(name, "tz") == 0, sign;
    uint32_t minutes = 0;
    int r = 0;

    if (!zone && strcmp(name, "time_offset") != 0) {
        return -ENOENT;
    }
    if (value == NULL) {
        return -EINVAL;
    }
    sign = *value == '-' || *value == '+';
    if (!zone) {
        r = parse_u32(value + sign, &minutes);
    } else if (sign) {
        r = parse_hours(value + 1, &minutes);
    } else if (strcmp(value, "UTC") != 0) {
        r = -EINVAL;
    }
    if (r < 0 || minutes > OFFSET_MINUTES_MAX) {
        return -EINVAL;
    }
    *ret_minutes = *value == '-' ? -(int)minutes : (int)minutes;
    return 0;
}
