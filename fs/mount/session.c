/* session.c - one mount from the opened source to the end of the daemon */
#include "session.h"

#include "advice.h"
#include "commit_edits.h"
#include "handles.h"
#include "log.h"
#include "mount_tree.h"
#include "mountpoint.h"
#include "operations.h"
#include "signals.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_log.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void warn_of_staged(const struct fs *fs)
{
	struct sft_error where = { 0 };
	if (sft_staging_check(fs->opt->source, fs->opt->staging, &where) == -EPERM)
		log_warning(fs->opt->given_source, "%s", where.msg);
	else if (sft_staging_exists(fs->opt->source, fs->opt->staging))
		log_warning(fs->opt->given_source,
			    "edits are staged and not committed%s%s; this mount shows the last "
			    "committed state (safetensorfs recover commits them, discard drops "
			    "them)",
			    where.errnum ? ": " : "", where.msg);
}

static void say_warnings(const struct fs *fs)
{
	const char *line;
	for (size_t i = 0; (line = sft_checkpoint_warning(fs_checkpoint(fs), i)); i++)
		log_warning(fs->opt->given_source, "%s", line);
	for (size_t i = 0; fs->overlay && (line = sft_overlay_note(fs->overlay, i)); i++)
		log_info(fs->opt->given_source, "%s", line);
	if (!fs->overlay)
		warn_of_staged(fs);
	if (fs->opt->given_rw && !fs->opt->edit && !fs->opt->from_mount && isatty(STDERR_FILENO))
		log_info(fs->opt->given_mountpoint, "mounted read-only; -o edit allows editing");
}

static int open_source(struct fs *fs, struct sft_error *err)
{
	const struct options *o = fs->opt;
	struct sft_overlay_options edit = {
		.staging = o->staging,
		.output = o->output,
		.inplace = o->inplace,
		.flags = options_flags(o),
	};
	if (o->edit)
		return sft_overlay_open(o->source, &edit, &fs->overlay, err);
	return sft_checkpoint_open(o->source, options_flags(o), &fs->own_checkpoint, err);
}

/* What we write to ourselves must not lead back to us: we would wait for our own answer. */
static int check_places(const struct fs *fs, struct sft_error *err)
{
	const char *output = fs->opt->output;
	int r = 0;
	if (fs->overlay)
		r = mountpoint_check_outside(fs->mountpoint, "the staging directory",
					     sft_overlay_staging(fs->overlay), err);
	if (r == 0 && output)
		r = mountpoint_check_outside(fs->mountpoint, "the output", output, err);
	return r;
}

/* What directories and control files show comes from the source as well. */
static int read_source_attr(struct fs *fs, struct sft_error *err)
{
	const struct sft_checkpoint *ck = fs_checkpoint(fs);
	struct stat st;
	if (stat(sft_checkpoint_path(ck), &st) < 0)
		return sft_fail(err, errno, "%s", strerror(errno));
	for (size_t i = 0; S_ISDIR(st.st_mode) && i < sft_checkpoint_shards(ck); i++) {
		if (sft_checkpoint_shard(ck, i)->file)
			st = *sft_file_stat(sft_checkpoint_shard(ck, i)->file);
	}
	fs->uid = st.st_uid;
	fs->gid = st.st_gid;
	fs->dir_time = st.st_mtim;
	/* Who may read the file may enter the directory. */
	mode_t read_bits = st.st_mode & 0444;
	fs->dir_mode = read_bits | read_bits >> 2 | (fs->overlay ? st.st_mode & 0222 : 0);
	return 0;
}

/* ---- the FUSE session ---- */

/* libfuse's own messages. */
static void from_fuse(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char text[256];
	vsnprintf(text, sizeof(text), fmt, ap);
	if (log_is_capturing()) {
		fputs(text, stderr);
		return;
	}
	text[strcspn(text, "\n")] = '\0';
	/* The end of a connection, as one thread may see it (session.c); nothing to tell of. */
	if (strstr(text, "reading device") && strstr(text, strerror(ECONNABORTED)))
		return;
	if (level == FUSE_LOG_DEBUG)
		fprintf(stderr, "%s\n", text);
	else if (text[0])
		log_error(NULL, "%s", text);
}

static int add_option(struct fuse_args *args, const char *option)
{
	return fuse_opt_add_arg(args, "-o") < 0 || fuse_opt_add_arg(args, option) < 0 ? -ENOMEM : 0;
}

/* fsname= is what mount and df show as the source. */
static int add_fsname(struct fuse_args *args, const char *source)
{
	char *words = NULL, *option = NULL;
	int r = -ENOMEM;
	if (asprintf(&option, "fsname=%s", source) < 0)
		return r;
	if (fuse_opt_add_opt_escaped(&words, option) == 0)
		r = add_option(args, words);
	free(words);
	free(option);
	return r;
}

static struct fuse_session *new_session(struct fs *fs)
{
	const struct options *o = fs->opt;
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_session *se = NULL;
	const struct fuse_lowlevel_ops *ops = fs->overlay ? &fs_ops_edit : &fs_ops_read_only;
	int r = fuse_opt_add_arg(&args, "safetensorfs");
	if (r == 0)
		r = add_option(&args,
			       fs->overlay ? "subtype=safetensorfs" : "ro,subtype=safetensorfs");
	if (r == 0)
		r = add_fsname(&args, sft_checkpoint_path(fs_checkpoint(fs)));
	if (r == 0 && o->allow_other)
		r = add_option(&args, "allow_other,default_permissions");
	if (r == 0 && o->fuse.len)
		r = add_option(&args, o->fuse.data);
	if (r == 0 && o->debug)
		r = add_option(&args, "debug");
	if (r == 0)
		se = fuse_session_new(&args, ops, sizeof(*ops), fs);
	fuse_opt_free_args(&args);
	return se;
}

/*
 * A thread that has just taken a request when the connection ends is told ECONNABORTED where others
 * are told ENODEV (fuse_dev_do_read in the kernel); both are the end, not an error.
 */
static int loop_result(int r)
{
	return r == -ECONNABORTED ? 0 : r;
}

static int loop(const struct fs *fs)
{
	if (fs->opt->single_thread)
		return loop_result(fuse_session_loop(fs->se));
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	if (!config)
		return -ENOMEM;
	fuse_loop_cfg_set_clone_fd(config, 1); /* libfuse falls back by itself */
	if (fs->opt->max_threads)
		fuse_loop_cfg_set_max_threads(config, fs->opt->max_threads);
	int r = fuse_session_loop_mt(fs->se, config);
	fuse_loop_cfg_destroy(config);
	return loop_result(r);
}

/* What a request allocates is kept for the next one: otherwise malloc gives a MiB back to the
 * kernel each time, which then clears it anew. */
static void keep_buffers(void)
{
#ifdef __GLIBC__
	mallopt(M_MMAP_THRESHOLD, 4 << 20);
	mallopt(M_TRIM_THRESHOLD, 4 << 20);
#endif
}

/* After the loop: commit, unless the connection was killed under an open writer. `code` is what it
 * has come to so far. */
static int finish_edits(struct fs *fs, int code, bool still_mounted)
{
	if (!atomic_load(&fs->ended_by_signal) && fs_may_be_torn(fs, still_mounted)) {
		log_error(
			fs->opt->source,
			"the connection was killed under an open writer: nothing was committed, "
			"the edits are kept in %s (safetensorfs recover commits them as they are)",
			sft_overlay_staging(fs->overlay));
		return SESSION_ABORTED;
	}
	edit_drop_scratch(fs);
	return fs_commit(fs, false, NULL) < 0 ? SESSION_FAILED : code;
}

static int serve(struct fs *fs, void (*mounted)(void *ctx), void *ctx)
{
	int code = SESSION_FAILED;
	pthread_t signals;
	char said[256];
	struct log_capture capture;
	log_capture_start(&capture, !fs->opt->debug);
	fs->se = new_session(fs);
	log_capture_end(&capture, said, sizeof(said));
	if (!fs->se) {
		log_error(fs->opt->mountpoint, "cannot start a FUSE session: %s",
			  said[0] ? said : "an option was refused");
		return code;
	}
	if (signals_watch(fs, &signals) < 0) {
		log_error(fs->opt->mountpoint, "cannot set signal handlers");
		goto out_session;
	}
	bool hides = mountpoint_is_ours(fs->opt->mountpoint);
	log_capture_start(&capture, !fs->opt->debug);
	int r = fuse_session_mount(fs->se, fs->opt->mountpoint);
	log_capture_end(&capture, said, sizeof(said));
	if (r < 0) {
		log_error(fs->opt->mountpoint, "cannot mount: %s%s",
			  said[0] ? said : "is /dev/fuse there, and fusermount3?",
			  advice_on_mounting(said));
		goto out_signals;
	}
	if (said[0])
		log_warning(fs->opt->mountpoint, "%s", said);
	if (hides)
		log_warning(
			fs->opt->given_mountpoint,
			"hides a safetensorfs mount that is there already, until it is unmounted");
	atomic_store(&fs->device_known, mountpoint_is_mounted(fs->mountpoint, fs->device));
	mounted(ctx);
	keep_buffers();
	r = loop(fs);
	/* A killed connection leaves the mount there, dead; an ordinary unmount does not. */
	bool still_mounted = signals_still_mounted(fs);
	fuse_session_unmount(fs->se);
	/* A positive result is the signal that ended the loop. */
	if (r < 0)
		log_error(fs->opt->mountpoint, "%s", strerror(-r));
	code = r < 0 ? SESSION_FAILED : SESSION_CLEAN;
	if (fs->overlay)
		code = finish_edits(fs, code, still_mounted);
out_signals:
	signals_unwatch(fs, signals);
out_session:
	fuse_session_destroy(fs->se);
	return code;
}

int session_run(const struct options *o, void (*mounted)(void *ctx), void *ctx)
{
	struct sft_error err = { 0 };
	int code = SESSION_FAILED;
	struct fs fs;
	fs_init(&fs, o);
	fuse_set_log_func(from_fuse);
	if (open_source(&fs, &err) < 0) {
		advise_source(o->given_source, o->mountpoint, &err);
		log_error(o->given_source, "%s", err.msg);
	} else if (mountpoint_check(o->mountpoint, fs_checkpoint(&fs), &err) < 0) {
		log_error(o->given_mountpoint, "%s", err.msg);
	} else if (check_places(&fs, &err) < 0) {
		log_error(o->given_mountpoint, "%s", err.msg);
	} else if (read_source_attr(&fs, &err) < 0 || fs_build_tree(&fs, &err) < 0) {
		log_error(o->given_source, "%s", err.msg);
	} else {
		say_warnings(&fs);
		code = serve(&fs, mounted, ctx);
	}
	fs_free(&fs);
	return code;
}
