/* progress.h - how far a commit is */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* A progress bar on stderr, shown only on a terminal and once a second has gone by. */
struct progress {
	const char *what;
	struct timespec start, last;
	bool shown;
};
void progress_start(struct progress *p, const char *what);
void progress_step(struct progress *p, uint64_t done, uint64_t total); /* bytes */
void progress_end(struct progress *p);				       /* wipes the line */

#endif
