/* prepared.h - what has become of the files of a prepared commit */
#ifndef SFT_PREPARED_H
#define SFT_PREPARED_H

#include "identity.h"

/* A file that a prepared commit puts in place. Where it is, is found out anew each time. */
struct prepared_target {
	bool in_output;	 /* a file of the output, not of the source */
	bool text;	 /* an index.json */
	char *name;	 /* its file name there; of a single file it only goes into messages */
	char *temporary; /* file name of the new file, in the directory that the target is in */
	struct file_id old, new;
};

/* Add what a PREPARED record says. */
void prepared_put(struct journal_batch *b, enum journal_kind kind,
		  const struct prepared_target *targets, size_t count);

struct prepared_places {
	const char *source, *output; /* as in struct sft_overlay; output may be NULL */
};
/* `.NAME.ID.safetensorfs-new`; a hash (FNV-1a) stands in for a name that leaves no room for the
 * rest. Malloced. */
char *prepared_temporary_name(const char *name, uint64_t id);
bool prepared_is_temporary(const char *name, uint64_t id);
void prepared_free(struct prepared_target *targets, size_t count);
/* How far a prepared commit has come. ESTALE: it can be neither finished nor undone. */
enum {
	PREPARED_READY, /* nothing is renamed, everything can be */
	PREPARED_BEGUN, /* something is renamed, the rest can be */
	PREPARED_VOID,	/* nothing is renamed, and not everything can be: the edits count */
};
int prepared_look(const struct prepared_places *places, const struct prepared_target *targets,
		  size_t count, struct sft_error *err);
/* The path of a target and that of its temporary, absolute and malloced; false if they cannot be
 * told. */
bool prepared_find(const struct prepared_places *places, const struct prepared_target *t,
		   char **path, char **temporary);
enum prepared_state {
	TARGET_PENDING,
	TARGET_DONE,
	TARGET_OLD,
	TARGET_EITHER,
	TARGET_BAD,
	TARGET_LOST,
	TARGET_STATES /* how many there are */
};
/* The state of one (prepared.c explains them), or -errno if it cannot be told. */
int prepared_state(const struct prepared_target *t, const char *path, const char *temporary);
/* Whether a target is the new file, or may be, whatever the others are: dropping what is needed to
 * finish the commit could leave a mixture of old and new for good. */
bool prepared_is_begun(const struct prepared_places *places, const struct prepared_target *targets,
		       size_t count);
/* Remove those that are still what the commit wrote. */
void prepared_remove_temporaries(const struct prepared_places *places,
				 const struct prepared_target *targets, size_t count);

/* Remove all temporaries of that staging from a directory. Best effort. */
void prepared_clean_directory(const char *path, uint64_t id);

#endif
