/* staging_fixture.h - what tests of the staging directory ask of an opening */
#ifndef STAGING_FIXTURE_H
#define STAGING_FIXTURE_H

#include "overlay_fixture.h"

/* Open, and say what happened. */
static inline int try_open(const char *source, const struct sft_overlay_options *options,
			   struct sft_error *err)
{
	const struct sft_overlay_options none = { 0 };
	struct sft_overlay *ov;
	int r = sft_overlay_open(source, options ? options : &none, &ov, err);

	/* A success says nothing. */
	assert_true(!err || err->errnum == -r);
	if (r == 0)
		sft_overlay_free(ov);
	return r;
}

static inline void expect_refused(const char *source, const struct sft_overlay_options *options,
				  int error, const char *message)
{
	struct sft_error err = { 0 };

	assert_int_equal(try_open(source, options, &err), -error);
	if (!strstr(err.msg, message))
		fail_msg("\"%s\" lacks \"%s\"", err.msg, message);
}

static inline bool is_there(const char *dir, const char *name)
{
	char *path = fixture_join(dir, name);
	bool there = access(path, F_OK) == 0;

	free(path);
	return there;
}

#endif
