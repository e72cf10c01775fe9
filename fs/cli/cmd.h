/*
 * cmd.h - the verbs of the command line
 *
 * Each takes the arguments behind the verb and returns the exit code: 0, 1 after a line that says
 * why, 2 for wrong usage after a line that names the wrong word. (diff, as diff(1) and cmp(1): 1
 * where there are differences, 2 after any line that says why.)
 */
#ifndef CMD_H
#define CMD_H

#include "sft.h"

int cmd_mount(int argc, char **argv);
/* As mount(8) calls a helper: SOURCE MOUNTPOINT [-sfnv] [-o ...] [-t TYPE] [-N NAMESPACE]. */
int cmd_mount_helper(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_diff(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_commit(int argc, char **argv); /* cmd_umount.c */
int cmd_umount(int argc, char **argv);
/* As umount(8) calls a helper: MOUNTPOINT [-nlfvr] [-t TYPE] [-N NAMESPACE]. The exit codes are
 * umount(8)'s: 1 for wrong usage, 32 where it is still mounted or not all was committed. */
int cmd_umount_helper(int argc, char **argv); /* cmd_umount_helper.c */
int cmd_recover(int argc, char **argv);
int cmd_discard(int argc, char **argv); /* cmd_recover.c */

/* ---- what several verbs need (cmd.c) ---- */

/*
 * Options that are single words, such as --json: sets found[i] for names[i] (NULL ends them) and
 * moves the other arguments to the front. Returns how many those are, or -1 after a usage line.
 */
int cmd_words(int argc, char **argv, const char *const *names, bool *found);
/* The same for a verb that takes exactly one more argument, a `what` such as "source"; it is then
 * argv[0]. Returns 0, or the exit code 2 after a usage line. */
int cmd_one(int argc, char **argv, const char *const *names, bool *found, const char *what);
/* Log the usage error "SUBJECT: reason" and return 2. */
int cmd_usage(const char *word, const char *reason);
/* Flush stdout. Returns 0, or 1 after a line that says why not all of it could be written. */
int cmd_flush(void);
/* Write what has gathered to stdout and empty it, once it is more than `above` bytes. False where
 * that fails, and where memory has run out. */
bool cmd_write(struct sft_buf *out, size_t above);

#endif
