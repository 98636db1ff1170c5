/* SPDX-License-Identifier: MIT */
/*
 * Where daemons are. No state, no locks; the environment is trusted as far as
 * secure_getenv(3) has it.
 */
#include "berth/registry.h"

#include <stdio.h>

/* dir/more/name if it can be run; NULL. */
static char *runnable(const char *dir, const char *more, const char *name) {
    char *path;

    if (asprintf(&path, "%s/%s%s", dir, more, name) < 0) {
        return NULL;
    }
    if (access(path, X_OK) == 0) {
        return path;
    }
    free(path);
    return NULL;
}

char *registry_find_daemon(const char *name, const char **ret_where) {
    const char *dir = secure_getenv("BERTH_DAEMON_DIR"), *where = "environment";
    _cleanup_free_ char *self = NULL;
    char *slash, *path = NULL;

    if (dir != NULL) {
        path = runnable(dir, "", name);
    } else {
        self = realpath("/proc/self/exe", NULL);
        slash = self != NULL ? strrchr(self, '/') : NULL;
        if (slash != NULL) {
            *slash = '\0';
            where = "build";
            path = runnable(self, "../daemons/", name);
        }
        if (path == NULL) {
            where = "installed";
            path = runnable(BERTH_LIBEXECDIR, "", name);
        }
    }
    if (path != NULL && ret_where != NULL) {
        *ret_where = where;
    }
    return path;
}

const char *registry_installed_directory(void) {
    return BERTH_LIBEXECDIR;
}

int registry_socket_path(const char *name, char *ret, size_t size) {
    int length = snprintf(ret, size, REGISTRY_SOCKET_DIRECTORY "/%s.socket", name);

    return length < 0 || (size_t)length >= size ? -ENAMETOOLONG : 0;
}
