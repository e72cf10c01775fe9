/*
 * log.h - one-line messages for people: stderr, or syslog once daemonized
 *
 * Every line reads `safetensorfs: SUBJECT: reason`, warnings `safetensorfs: warning: SUBJECT: ...`;
 * control characters in it are escaped. Any thread.
 */
#ifndef LOG_H
#define LOG_H

#include "sft.h"

/* From here on lines go to syslog (facility daemon). */
void log_to_syslog(void);

/*
 * From start to end, what libfuse and the fusermount3 that it runs write to stderr is kept back: a
 * refused mount is one line. End puts it into `text`, as one line, "" where there was nothing. With
 * `wanted` false, as for -d, all goes where it went. One at a time, while no other thread writes to
 * stderr.
 */
struct log_capture {
	int saved, kept; /* descriptors: stderr, and what stands in for it */
};
void log_capture_start(struct log_capture *c, bool wanted);
void log_capture_end(struct log_capture *c, char *text, size_t size);
bool log_is_capturing(void);

void log_error(const char *subject, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_warning(const char *subject, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_info(const char *subject, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
