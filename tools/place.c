/* SPDX-License-Identifier: MIT */
/* Naming a file in an image: see place.h. */
#include "place.h"
#include "berth/log.h"

#include <stdio.h>
#include <sys/stat.h>

static const char *find_colon(const char *text) {
    return strstr(text, ":/");
}

bool place_is(const char *text) {
    return find_colon(text) != NULL;
}

int place_parse(const char *text, Place *ret) {
    const char *colon = find_colon(text);
    Place place = {0};
    struct stat st;
    char *at;

    if (colon == NULL || colon == text) {
        log_error("%s: not IMAGE:/PATH", text);
        return -EINVAL;
    }
    place.image = strndup(text, (size_t)(colon - text));
    place.path = strdup(colon + 1);
    if (place.image == NULL || place.path == NULL) {
        place_done(&place);
        return -ENOMEM;
    }
    at = strrchr(place.image, '@');
    if (at != NULL && at[1] != '\0' && strchr(at, '/') == NULL && stat(place.image, &st) < 0) {
        place.part = strdup(at + 1);
        *at = '\0';
        if (place.part == NULL) {
            place_done(&place);
            return -ENOMEM;
        }
    }
    *ret = place;
    return 0;
}

void place_done(Place *place) {
    free(place->image);
    free(place->part);
    free(place->path);
    *place = (Place){0};
}

const char *place_name(const char *path) {
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

bool place_option(PlaceOptions *options, int option, const char *argument) {
    switch (option) {
    case 't':
        options->type = argument;
        return true;
    case PLACE_OPTION_OPTIONS:
        options->options = argument;
        return true;
    default:
        return false;
    }
}

void place_help(void) {
    printf("  -t, --types TYPE     the filesystem; guessed from what is there otherwise\n"
           "      --options LIST   options of the filesystem, as for berth mount\n"
           "  -h, --help           show this\n"
           "\n"
           "PART is a partition's number or name; without it the image must hold one volume.\n");
}

int place_open(const Place *place, const PlaceOptions *options, bool readonly, Session **ret) {
    const SessionConfig config = {.image = place->image,
                                  .part = place->part,
                                  .type = options->type,
                                  .options = options->options,
                                  .readonly = readonly};

    return session_open(&config, ret);
}
