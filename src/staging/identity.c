/*
 * identity.c - what a file of a checkpoint is known again by: size, modification time, and a hash
 * of its header; of an index.json, of all of it
 *
 * Inode numbers are other ones after the next mount on some file systems, and anywhere after a
 * `cp -p`; the device's number may be after the next boot. So they only help where nothing else can
 * tell two files apart: within one commit, and where it is written in place.
 */
#include "file.h"
#include "hash.h"
#include "io.h"
#include "journal_summary.h"
#include "num.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define TEXT_MAX 100000000u /* bytes of a header, or of an index, that are looked at */

/* ---- one file ---- */

/* Of those that are known for it; on all others inode numbers count for nothing. */
bool identity_inodes_last(int fd)
{
	static const unsigned long types[] = { EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC,
					       TMPFS_MAGIC, F2FS_SUPER_MAGIC };
	struct statfs st;

	for (size_t i = 0; i < sizeof(types) / sizeof(*types) && fstatfs(fd, &st) == 0; i++) {
		if ((unsigned long)st.f_type == types[i])
			return true;
	}
	return false;
}

static struct file_id of_stat(int fd, const struct stat *st, uint64_t hash)
{
	return (struct file_id){
		.there = true,
		.ino = identity_inodes_last(fd) ? st->st_ino : 0,
		.size = (uint64_t)st->st_size,
		.sec = (uint64_t)st->st_mtim.tv_sec,
		.nsec = (uint64_t)st->st_mtim.tv_nsec,
		.hash = hash,
	};
}

struct file_id identity_of_file(const struct sft_file *file)
{
	return of_stat(sft_file_fd(file), sft_file_stat(file), sft_file_header_hash(file));
}

/* The hash of the n bytes from `offset` on; what is longer than a header can be has none, 0. */
static int hash_text(int fd, uint64_t offset, uint64_t n, uint64_t seed, uint64_t *hash)
{
	char *text;
	int r;

	*hash = 0;
	if (n > TEXT_MAX)
		return 0;
	text = malloc((size_t)n + 1);
	r = text ? io_pread(fd, text, (size_t)n, offset) : -ENOMEM;
	if (r == 0)
		*hash = hash_bytes(text, (size_t)n, seed);
	free(text);
	return r;
}

/* As sft_file_header_hash(), of a file that need not be valid. */
static int hash_header(int fd, uint64_t size, uint64_t *hash)
{
	unsigned char length[8];
	int r = size < 8 ? 0 : io_pread(fd, length, sizeof(length), 0);

	*hash = 0;
	if (r < 0 || size < 8 || sft_le64(length) > size - 8)
		return r;
	return hash_text(fd, 8, sft_le64(length), hash_bytes(length, sizeof(length), 0), hash);
}

int identity_of_fd(int fd, bool text, struct file_id *id)
{
	struct stat st;
	int r = 0;

	*id = (struct file_id){ 0 };
	if (fstat(fd, &st) < 0)
		return -errno;
	*id = of_stat(fd, &st, 0);
	if (S_ISREG(st.st_mode))
		r = text ? hash_text(fd, 0, id->size, 0, &id->hash)
			 : hash_header(fd, id->size, &id->hash);
	return r;
}

int identity_of_path(const char *path, bool text, struct file_id *id)
{
	int fd = io_openat(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0), r;
	struct stat st;

	*id = (struct file_id){ 0 };
	if (fd == -ENOENT)
		return 0;
	/* A link is what it is, not what it leads to; and what cannot be read, or opened at all,
	 * still has a size and a time. */
	if (fd == -ELOOP || fd == -EACCES || fd == -ENXIO) {
		fd = io_openat(AT_FDCWD, path, O_PATH | O_NOFOLLOW, 0);
		if (fd < 0)
			return fd;
		r = fstat(fd, &st) < 0 ? -errno : 0;
		if (r == 0)
			*id = of_stat(fd, &st, 0);
	} else if (fd < 0) {
		return fd;
	} else {
		r = identity_of_fd(fd, text, id);
	}
	close(fd);
	return r;
}

bool identity_same(const struct file_id *a, const struct file_id *b)
{
	return a->there == b->there && a->size == b->size && a->sec == b->sec &&
	       a->nsec == b->nsec && a->hash == b->hash;
}

/* ---- in the journal ---- */

void identity_put_id(struct journal_batch *b, const struct file_id *id)
{
	journal_u32(b, id->there);
	if (!id->there)
		return;
	journal_u64(b, id->ino);
	journal_u64(b, id->size);
	journal_u64(b, id->sec);
	journal_u64(b, id->nsec);
	journal_u64(b, id->hash);
}

struct file_id identity_get_id(struct journal_record *rec)
{
	struct file_id id = { .there = journal_get_u32(rec) };

	if (!id.there)
		return id;
	id.ino = journal_get_u64(rec);
	id.size = journal_get_u64(rec);
	id.sec = journal_get_u64(rec);
	id.nsec = journal_get_u64(rec);
	id.hash = journal_get_u64(rec);
	return id;
}

/* The index, which may be a link; as if it were not there where there is none. */
static struct file_id of_index(const struct sft_checkpoint *ck)
{
	const char *path = sft_checkpoint_index_path(ck);
	char *real = path ? realpath(path, NULL) : NULL;
	struct file_id id = { 0 };

	if (real && identity_of_path(real, true, &id) < 0)
		id = (struct file_id){ 0 };
	free(real);
	return id;
}

void identity_put(struct journal_batch *b, const struct sft_checkpoint *ck)
{
	const size_t count = sft_checkpoint_shards(ck);
	struct file_id id;

	journal_u32(b, (uint32_t)count);
	for (size_t i = 0; i < count; i++) {
		const struct sft_shard *s = sft_checkpoint_shard(ck, i);

		journal_string(b, s->name, strlen(s->name));
		id = s->file ? identity_of_file(s->file) : (struct file_id){ 0 };
		identity_put_id(b, &id);
	}
	id = of_index(ck);
	identity_put_id(b, &id);
}

struct identity_names identity_names(const struct journal_summary *sum)
{
	struct identity_names n = { .rec = { .p = sum->identity, .left = sum->identity_len } };

	n.left = journal_get_u32(&n.rec);
	return n;
}

const char *identity_next_name(struct identity_names *n, uint32_t *len)
{
	const char *name;

	if (n->left == 0)
		return NULL;
	n->left--;
	name = journal_get_string(&n->rec, len);
	n->id = identity_get_id(&n->rec);
	return n->rec.bad ? NULL : name;
}

/* ---- differences ---- */

/* A time as touch(1) takes it. */
static const char *format_time(char out[48], const struct timespec *t)
{
	char date[32];
	struct tm tm;

	if (gmtime_r(&t->tv_sec, &tm) && strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm) > 0)
		snprintf(out, 48, "%s.%09ldZ", date, t->tv_nsec);
	else
		snprintf(out, 48, "@%lld.%09ld", (long long)t->tv_sec, t->tv_nsec);
	return out;
}

bool identity_differs(const struct stat *was, const struct stat *is, bool device,
		      char text[IDENTITY_TEXT])
{
	char part[96], times[2][48];

	text[0] = '\0';
	if (device && was->st_dev != is->st_dev) {
		snprintf(part, sizeof(part), ", device %u:%u instead of %u:%u", major(is->st_dev),
			 minor(is->st_dev), major(was->st_dev), minor(was->st_dev));
		strcat(text, part);
	}
	if (was->st_ino != is->st_ino) {
		snprintf(part, sizeof(part), ", inode %" PRIu64 " instead of %" PRIu64,
			 (uint64_t)is->st_ino, (uint64_t)was->st_ino);
		strcat(text, part);
	}
	if (was->st_size != is->st_size) {
		snprintf(part, sizeof(part), ", size %" PRIu64 " instead of %" PRIu64,
			 (uint64_t)is->st_size, (uint64_t)was->st_size);
		strcat(text, part);
	}
	if (was->st_mtim.tv_sec != is->st_mtim.tv_sec ||
	    was->st_mtim.tv_nsec != is->st_mtim.tv_nsec) {
		snprintf(text + strlen(text), IDENTITY_TEXT - strlen(text),
			 ", modification time %s instead of %s",
			 format_time(times[0], &is->st_mtim), format_time(times[1], &was->st_mtim));
	}
	if (!text[0])
		return false;
	memmove(text, text + 2, strlen(text + 2) + 1);
	return true;
}

/* The same of identities. With `inplace` the time may differ, and the inode may not. */
static bool id_differs(const struct file_id *was, const struct file_id *is, bool inplace,
		       char text[IDENTITY_TEXT])
{
	struct stat a = { .st_size = (off_t)was->size }, b = { .st_size = (off_t)is->size };
	bool differs;

	if (inplace && was->ino && is->ino) {
		a.st_ino = (ino_t)was->ino;
		b.st_ino = (ino_t)is->ino;
	} else if (!inplace) {
		a.st_mtim = (struct timespec){ (time_t)was->sec, (long)was->nsec };
		b.st_mtim = (struct timespec){ (time_t)is->sec, (long)is->nsec };
	}
	differs = identity_differs(&a, &b, false, text);
	if (was->hash != is->hash)
		snprintf(text + strlen(text), IDENTITY_TEXT - strlen(text), "%sanother header",
			 differs ? ", " : "");
	return differs || was->hash != is->hash;
}

static int changed(struct sft_error *err, const char *what, const char *how)
{
	return sft_fail(err, ESTALE,
			"%s has changed since the edits were staged: %s; `safetensorfs discard` "
			"drops them",
			what, how);
}

static int check_file(const char *what, const struct file_id *was, const struct file_id *is,
		      bool inplace, struct sft_error *err)
{
	char how[IDENTITY_TEXT];

	if (was->there != is->there)
		return changed(err, what, was->there ? "it is missing" : "it was missing");
	if (was->there && id_differs(was, is, inplace, how))
		return changed(err, what, how);
	return 0;
}

int identity_check(const struct journal_summary *sum, const struct sft_checkpoint *ck, bool inplace,
		   struct sft_error *err)
{
	struct identity_names names = identity_names(sum);
	const size_t count = sft_checkpoint_shards(ck);
	const bool is_directory = sft_checkpoint_is_directory(ck);
	struct file_id was, is;
	char how[IDENTITY_TEXT];
	int r = 0;

	if (names.left != count) {
		snprintf(how, sizeof(how), "%zu instead of %" PRIu32, count, names.left);
		return changed(err, "the number of shards", how);
	}
	for (size_t i = 0; r == 0 && i < count; i++) {
		const struct sft_shard *s = sft_checkpoint_shard(ck, i);
		uint32_t len = 0;
		const char *name = identity_next_name(&names, &len);

		/* A file may be moved with its staging, and what was beside it then is not searched
		 * for. */
		if (name && is_directory && (len != strlen(s->name) || memcmp(name, s->name, len)))
			return changed(err, "the list of shards", s->name);
		is = s->file ? identity_of_file(s->file) : (struct file_id){ 0 };
		if (name)
			r = check_file(is_directory ? s->name
				       : sum->base  ? sum->base
						    : "the source",
				       &names.id, &is, inplace, err);
	}
	if (r < 0)
		return r;
	was = identity_get_id(&names.rec);
	if (names.rec.bad || names.rec.left)
		return sft_fail(err, EBADMSG, "the journal's header is damaged");
	is = of_index(ck);
	return check_file("the index", &was, &is, false, err);
}

/* ---- whose ---- */

static bool has_path(const struct journal_summary *sum, const char *source_path)
{
	char *real = realpath(sum->source, NULL);
	bool same =
		strcmp(sum->source, source_path) == 0 || (real && strcmp(real, source_path) == 0);

	free(real);
	return same;
}

/* Whether the shard of that name, in the source where that is a directory, is that file. */
static bool has_file(const char *source_path, const char *name, uint32_t len,
		     const struct file_id *was)
{
	char *path = NULL, *real;
	struct file_id is = { 0 };
	struct stat st;

	if (stat(source_path, &st) < 0)
		return false;
	if (!S_ISDIR(st.st_mode))
		path = strdup(source_path);
	else if (memchr(name, '/', len) ||
		 asprintf(&path, "%s/%.*s", source_path, (int)len, name) < 0)
		path = NULL;
	real = path ? realpath(path, NULL) : NULL;
	if (real && identity_of_path(real, false, &is) < 0)
		is.there = false;
	free(real);
	free(path);
	if (was->ino && is.ino)
		return was->ino == is.ino;
	return is.there && identity_same(was, &is);
}

bool identity_is_of(const struct journal_summary *sum, const char *source_path)
{
	struct identity_names names = identity_names(sum);
	bool same = has_path(sum, source_path);
	const char *name;
	uint32_t len;

	/* After a commit with output= these are the files of that. */
	while (!same && !sum->base && (name = identity_next_name(&names, &len)))
		same = names.id.there && has_file(source_path, name, len, &names.id);
	return same;
}
