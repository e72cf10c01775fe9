/*
 * merged_file.c - .safetensorfs/model.safetensors: everything that is mounted, as one file
 *
 * It is made when somebody first asks for it. In an edit mount it is another file, with an inode
 * number of its own, after each change that moves a byte in it: who has the old one open is told
 * ESTALE, and neither its pages nor its size can be taken for the new one's. Of bytes that are
 * overwritten in their place the kernel may still have old ones, until it is opened again.
 */
#include "merged_file.h"

#include "inodes.h"

#include <errno.h>

static uint64_t generation(const struct fs *fs)
{
	return fs->overlay ? sft_overlay_generation(fs->overlay) : 0;
}

uint64_t fs_current_ino(const struct fs *fs, uint64_t ino)
{
	if (tree_ino_kind(ino) == TREE_MERGED)
		return fs_numbered_ino(ino, generation(fs));
	if (tree_ino_kind(ino) == TREE_NPY && fs->overlay)
		return fs_npy_ino(fs, ino);
	return ino;
}

/*
 * The caller holds the shared lock, so nobody can still use what is dropped here: its inode numbers
 * are refused before they get here, and generations change under the exclusive lock only.
 */
int fs_merged(struct fs *fs, uint64_t ino, const struct sft_merged **out)
{
	uint64_t now = generation(fs);
	if (ino != fs_current_ino(fs, ino))
		return -ESTALE;
	pthread_mutex_lock(&fs->merged_lock);
	if (fs->merged_generation != now)
		fs_merged_drop(fs);
	int r = fs->merged_error;
	if (!fs->merged && !r) {
		r = sft_merged_make(fs_checkpoint(fs), fs->overlay, &fs->merged, NULL);
		/* Memory may be there the next time. */
		fs->merged_error = r == -ENOMEM ? 0 : r;
		fs->merged_generation = now;
	}
	*out = fs->merged;
	pthread_mutex_unlock(&fs->merged_lock);
	return r;
}

void fs_merged_drop(struct fs *fs)
{
	sft_merged_free(fs->merged);
	fs->merged = NULL;
	fs->merged_error = 0;
}
