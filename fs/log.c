/* log.c - messages for people */
#include "log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <syslog.h>
#include <unistd.h>

static atomic_bool use_syslog, capturing;

#define SUBJECT_MAX 400 /* bytes of a subject that are shown */

/* A subject, mostly a path; of a very long one the end, so that there is room for the reason. */
static void escape_subject(struct sft_error *out, const char *prefix, const char *subject)
{
	size_t len = strlen(subject);
	bool cut = len > SUBJECT_MAX;
	if (cut)
		subject += len - SUBJECT_MAX;
	while (cut && ((unsigned char)*subject & 0xc0) == 0x80)
		subject++;
	sft_fail(out, 1, "%s%s%s", prefix, cut ? "..." : "", *subject ? subject : "''");
}

/* One write(2) a line, so that lines of several threads and processes do not mix. */
static void emit(int priority, const char *prefix, const char *subject, const char *fmt, va_list ap)
{
	struct sft_error about = { 0 }, reason = { 0 };
	char text[sizeof(reason.msg)], out[sizeof(about.msg) + sizeof(reason.msg) + 32];
	vsnprintf(text, sizeof(text), fmt, ap);
	if (subject)
		escape_subject(&about, prefix, subject);
	sft_fail(&reason, 1, "%s%s", subject ? "" : prefix, text);
	int n = snprintf(out, sizeof(out), "safetensorfs: %s%s%s\n", about.msg, subject ? ": " : "",
			 reason.msg);
	if (use_syslog) {
		syslog(priority, "%s", out + strlen("safetensorfs: "));
		return;
	}
	ssize_t written = write(STDERR_FILENO, out, (size_t)n);
	(void)written; /* there is nobody left to tell */
}

void log_error(const char *subject, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	emit(LOG_ERR, "", subject, fmt, ap);
	va_end(ap);
}

void log_warning(const char *subject, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	emit(LOG_WARNING, "warning: ", subject, fmt, ap);
	va_end(ap);
}

void log_info(const char *subject, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	emit(LOG_NOTICE, "", subject, fmt, ap);
	va_end(ap);
}

void log_to_syslog(void)
{
	openlog("safetensorfs", LOG_PID, LOG_DAEMON);
	use_syslog = true;
}

bool log_is_capturing(void)
{
	return capturing;
}

void log_capture_start(struct log_capture *c, bool wanted)
{
	c->kept = wanted ? memfd_create("stderr", MFD_CLOEXEC) : -1;
	c->saved = c->kept < 0 ? -1 : fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	capturing = c->saved >= 0 && dup2(c->kept, STDERR_FILENO) >= 0;
}

void log_capture_end(struct log_capture *c, char *text, size_t size)
{
	ssize_t n = 0;
	char *line;
	if (capturing) {
		dup2(c->saved, STDERR_FILENO);
		n = pread(c->kept, text, size - 1, 0);
	}
	capturing = false;
	text[n > 0 ? n : 0] = '\0';
	if (c->saved >= 0)
		close(c->saved);
	if (c->kept >= 0)
		close(c->kept);
	for (n = (ssize_t)strlen(text); n > 0 && text[n - 1] == '\n'; n--)
		text[n - 1] = '\0';
	while ((line = strchr(text, '\n')))
		*line = ';';
}
