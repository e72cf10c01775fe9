/* progress.c - how far a commit is */
#include "progress.h"

#include <stdio.h>
#include <unistd.h>

static double seconds(const struct timespec *from, const struct timespec *to)
{
	return (double)(to->tv_sec - from->tv_sec) + (double)(to->tv_nsec - from->tv_nsec) / 1e9;
}

void progress_start(struct progress *p, const char *what)
{
	p->what = what;
	p->shown = false;
	clock_gettime(CLOCK_MONOTONIC, &p->start);
	p->last = p->start;
}

void progress_step(struct progress *p, uint64_t done, uint64_t total)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	double elapsed = seconds(&p->start, &now);
	if (elapsed < 1 || total == 0 || seconds(&p->last, &now) < (p->shown ? 0.2 : 0) ||
	    !isatty(STDERR_FILENO))
		return;
	double part = (double)done / (double)total, rate = (double)done / elapsed;
	int filled = (int)(part * 30);
	fprintf(stderr, "\r%s [%.*s%*s] %3d%% %.0f MB/s, %.0f s left \033[K", p->what, filled,
		"==============================", 30 - filled, "", (int)(part * 100), rate / 1e6,
		rate > 0 ? (double)(total - done) / rate : 0);
	fflush(stderr);
	p->last = now;
	p->shown = true;
}

void progress_end(struct progress *p)
{
	if (p->shown)
		fputs("\r\033[K", stderr);
	p->shown = false;
}
