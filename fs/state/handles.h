/* handles.h - which files are open; for edit mounts */
#ifndef HANDLES_H
#define HANDLES_H

#include "state.h"

/* An open file. */
struct fs_handle {
	uint64_t ino;
	struct fs_inode *node;
	bool writable;
	bool fits; /* of NAME.npy: fs_handle_fits() has said so */
	/* Written since the last flush: if the connection ends now, edits may be torn. */
	bool unflushed;
	/* What a reader of a sidecar, metadata or control file sees: as at open. */
	struct sft_buf text;
	/* Scratch id that holds what was written to a sidecar, metadata or .npy; SFT_NO_ID: none.
	 */
	uint32_t draft;
	bool pending;	     /* its own entry stands for a view of no tensor yet */
	enum tree_kind kind; /* of the file; of a pending one: of what it stands for */
	uint32_t entry;	     /* whose view it is; tree_now() says what that has become */
	bool changed;	     /* the draft was written since it was last applied */
	/* -errno of the first write to the draft that failed, since it was last empty. */
	int failed;
	bool failure_logged;
	struct fs_handle *next, *previous;
};

/* NULL where memory runs out. */
struct fs_handle *fs_handle_new(struct fs *fs, uint64_t ino, bool writable);
/* Returns whether it was the last one of its tensor's file and all views beside it. */
bool fs_handle_free(struct fs *fs, struct fs_handle *h);
/*
 * Whether the file can be opened by the inode number that the handle has, or the name has to be
 * looked up once more. Who writes NAME.npy and who reads it have different ones: the kernel keeps
 * one size and one set of pages a number, so what is done to a draft would be seen by readers.
 */
bool fs_handle_fits(struct fs *fs, struct fs_handle *h);
/* Whether anybody has the file of an entry open, or one of the views beside it. */
bool fs_is_open(struct fs *fs, uint32_t entry);

/*
 * The files that are open for writing, by path below the mountpoint, each with a NUL behind it.
 * What programs write through mappings the kernel keeps until somebody syncs that very file:
 * syncfs(2) does not wait for FUSE. Under `lock`.
 */
void fs_writers(struct fs *fs, struct sft_buf *paths);

/*
 * Whether edits may be torn, since the connection was killed under an open writer. For the end of
 * the mount; `still_mounted`: nobody has unmounted it.
 */
bool fs_may_be_torn(const struct fs *fs, bool still_mounted);
void fs_handles_free(struct fs_edits *ed);

#endif
