/* SPDX-License-Identifier: MIT */
/*
 * IMAGE[@PART]:/PATH, as berth ls, get and put take it, and the options that
 * say how the image is opened. Private to tools/.
 */
#ifndef BERTH_TOOLS_PLACE_H
#define BERTH_TOOLS_PLACE_H

#include "session.h"

typedef struct Place {
    char *image;
    char *part; /* NULL: none given */
    char *path; /* from the first '/' on */
} Place;

/* Is there a ":/" in it? */
bool place_is(const char *text);
/* 0, or -errno, said on stderr. A file whose whole name has an '@' in it is taken as that. */
int place_parse(const char *text, Place *ret);
void place_done(Place *place);

/* The last part of a path, "" for the root. */
const char *place_name(const char *path);

typedef struct PlaceOptions {
    const char *type, *options; /* as for berth mount; NULL: not given */
} PlaceOptions;
/* Handles -t TYPE and --options LIST; true when the option was one of them. */
#define PLACE_SHORT_OPTIONS "t:"
#define PLACE_OPTION_OPTIONS 300
#define PLACE_LONG_OPTIONS                      \
    {"types", required_argument, NULL, 't'}, {  \
        "options", required_argument, NULL, 300 \
    }
bool place_option(PlaceOptions *options, int option, const char *argument);
/* The text about these options, for --help. */
void place_help(void);

/* 0 or -errno, said on stderr. */
int place_open(const Place *place, const PlaceOptions *options, bool readonly, Session **ret);

#endif
