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
/* Take over libfuse's own messages. */
void log_adopt_fuse(void);

void log_error(const char *subject, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_warning(const char *subject, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_info(const char *subject, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
