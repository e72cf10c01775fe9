/* file.h - what the library alone asks of an open file; private */
#ifndef SFT_FILE_H
#define SFT_FILE_H

#include "sft.h"

/* sft_file_open() of a descriptor, which is handed over, also on failure. The path is what messages
 * and sft_file_path() say. */
int sft_file_open_fd(int fd, const char *path, uint32_t shard, struct sft_file **out,
		     struct sft_error *err);
/* hash_bytes() over the 8 bytes of length and the JSON, one seeded with the other. */
uint64_t sft_file_header_hash(const struct sft_file *file);

#endif
