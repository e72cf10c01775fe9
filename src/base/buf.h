/* buf.h - a growing buffer of bytes */
#ifndef SFT_BUF_H
#define SFT_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Zero-initialise it. `data` has a NUL after `len` bytes once anything was added. If memory
 * runs out `failed` is set and later calls do nothing, so that one check at the end will do.
 */
struct sft_buf {
	char *data;
	size_t len, cap;
	bool failed;
};
void sft_buf_add(struct sft_buf *b, const void *bytes, size_t n);
void sft_buf_text(struct sft_buf *b, const char *text);
/* In decimal; much faster than printf, where there are a million. */
void sft_buf_u64(struct sft_buf *b, uint64_t value);
/* As JSON, without spaces: [2,3]. */
void sft_buf_shape(struct sft_buf *b, const uint64_t *shape, uint32_t rank);
void sft_buf_printf(struct sft_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/*
 * Add a JSON string literal, escaped as serde_json does: \" \\ \b \f \n \r \t, \u00xx below 0x20. A
 * byte that is no UTF-8, which paths may hold and JSON may not, becomes U+FFFD.
 */
void sft_buf_json(struct sft_buf *b, const char *s, size_t len);
void sft_buf_free(struct sft_buf *b);

#endif
