/* npy_widen.h - small floats to float32 */
#ifndef NPY_WIDEN_H
#define NPY_WIDEN_H

#include "sft.h"

/* Whether NAME.f32.npy exists: F16, BF16, the F8 types and F4. */
bool npy_has_f32(enum sft_dtype dtype);
/* Widen `count` elements (of F4 an even number), exactly; NaNs keep sign and payload where float32
 * holds them. `in` holds count elements of the dtype, little-endian, of F4 the first of each two in
 * the low bits; `out` is little-endian float32. */
void npy_widen(enum sft_dtype dtype, const void *in, float *out, size_t count);

#endif
