/* SPDX-License-Identifier: MIT */
/*
 * What the subcommands of berth share: exit codes, finding a mount by what the
 * user typed, and reading the JSON that a mount's control socket answers with.
 * Private to tools/.
 */
#ifndef BERTH_TOOLS_BERTH_H
#define BERTH_TOOLS_BERTH_H

#include "berth/base.h"
#include "berth/control.h"

/* mount(8)'s codes; subcommands that do not mount use the first three. */
typedef enum ExitCode {
    EXIT_OK = 0,
    EXIT_USAGE = 1, /* usage or permission */
    EXIT_SYSTEM = 2,
    EXIT_MOUNT = 32, /* the mount or unmount failed */
} ExitCode;

/* argv[0] is the subcommand's name; returns the process's exit code. */
int cmd_fsck(int argc, char **argv);
int cmd_get(int argc, char **argv);
int cmd_put(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_mkfs(int argc, char **argv);
int cmd_mount(int argc, char **argv);
int cmd_umount(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_probe(int argc, char **argv);
int cmd_stats(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_restart(int argc, char **argv);
int cmd_sync(int argc, char **argv);
int cmd_top(int argc, char **argv);

/* Prints text to stdout; EXIT_OK, or EXIT_SYSTEM when it could not be written. */
int tool_print(const char *text, size_t length);
/* The same for an answer that is one document, with a newline at its end. */
int tool_print_document(const Text *document);
/* Prints and frees a table, unless making it failed (error: 0, or -errno). The exit code. */
struct libscols_table;
int tool_table_finish(struct libscols_table *table, int error);

/* Our mounts, and the one the user means: a mount point, else a source that is mounted once. */
typedef struct ToolMounts {
    MountEntry *entries;
    size_t count;
} ToolMounts;
void tool_mounts_done(ToolMounts *mounts);
/* Exit code; *ret is NULL when there is no such mount (said on stderr). */
int tool_mount_find(ToolMounts *mounts, const char *name, const MountEntry **ret);
/* The answer of the mount that the user means. The exit code; what is wrong has been said. */
int tool_ask(const char *name, const char *command, Text *reply);
/* What a mount is whose control socket does not answer: "dead", "stalled" …; error:
 * control_call()'s. */
const char *tool_silence(int error);

/* ---- reading JSON ---- */

typedef enum JsonKind { JSON_STRING, JSON_NUMBER, JSON_BOOL, JSON_NULL } JsonKind;

/* Called for each scalar: path is "a.b.0.c", value its text (strings decoded). */
typedef void JsonVisitor(void *arg, const char *path, JsonKind kind, const char *value);

/* Whole documents only. 0, -EBADMSG (not JSON, too deep, too long a path), -ENOMEM. */
int json_read(const char *text, size_t length, JsonVisitor *visit, void *arg);

#endif
