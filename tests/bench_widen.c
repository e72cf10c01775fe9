/* bench_widen.c - how fast small floats become float32 on one core: "DTYPE RATE" lines, in GB/s of
 * output. For scripts/bench.sh. */
#include "npy_widen.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define COUNT (1u << 18) /* elements: the 1 MiB of output that one request of the kernel takes */
#define ROUNDS 21
#define REPEAT 64

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(void)
{
	unsigned char *in = malloc(COUNT * 2);
	float *out = malloc(COUNT * sizeof(*out));

	if (!in || !out)
		return 1;
	for (size_t i = 0; i < COUNT * 2; i++)
		in[i] = (unsigned char)(i * 2654435761u >> 11);
	for (int dtype = 0; dtype < SFT_DTYPE_COUNT; dtype++) {
		double took[ROUNDS];

		if (!npy_has_f32((enum sft_dtype)dtype))
			continue;
		for (int i = 0; i < ROUNDS; i++) {
			const double begin = seconds();

			for (int k = 0; k < REPEAT; k++)
				npy_widen((enum sft_dtype)dtype, in, out, COUNT);
			took[i] = (seconds() - begin) / REPEAT;
		}
		qsort(took, ROUNDS, sizeof(*took), compare);
		printf("%s %.2f\n", sft_dtype_name((enum sft_dtype)dtype),
		       COUNT * sizeof(*out) / took[ROUNDS / 2] / 1e9);
	}
	free(out);
	free(in);
	return 0;
}
