/*
 * faults.h - system calls that change something, wrapped: the k-th one can be made to fail
 *
 * Link with faults.c and --wrap for each (tests/unit/meson.build). Without faults_arm() they do
 * what they always do.
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdbool.h>

enum fault {
	FAULT_DIE,    /* the process ends before the call: _exit(FAULT_DIED) */
	FAULT_ENOSPC, /* it fails, once */
	FAULT_EIO,
	FAULT_EIO_EVER, /* it and all later ones fail */
	FAULT_EINTR,	/* it is interrupted, once */
	FAULT_NOMEM,	/* it gets no memory, once; counts requests for memory only */
	FAULT_SHORT,	/* it transfers half of what was asked for, once; counts transfers only */
	FAULT_COUNT
};
#define FAULT_DIED 77

/* From now on count calls, and let the k-th (from 1) fail. ENOSPC and EIO strike opening for
 * reading too. */
void faults_arm(enum fault fault, unsigned k);
void faults_disarm(void);
/* Whether the k-th call was reached. */
bool faults_reached(void);

/* From now on note each call: its name, and for a rename or removal the last part of the path. */
void faults_trace_start(void);
/* The notes, malloced, at most `max`; how many. */
unsigned faults_trace_stop(char **calls, unsigned max);

#endif
