/* advice.c - what to do about a failure */
#include "advice.h"

#include "mountpoint.h"

#include <string.h>
#include <unistd.h>

static bool is_a_file(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

void advise_source(const char *source, const char *mountpoint, struct sft_error *err)
{
	if (mountpoint_is_ours(source))
		sft_hint(err,
			 "it is a safetensorfs mount: ls %s lists it, safetensorfs status %s tells "
			 "of it",
			 source, source);
	else if (mountpoint && access(source, F_OK) < 0 && !strpbrk(source, "./"))
		sft_hint(err, "nor is it a command (see safetensorfs --help)");
	else if (mountpoint && is_a_file(mountpoint))
		sft_hint(err, "the source comes first, then the mountpoint");
}

const char *advice_on_mounting(const char *said)
{
	static const struct {
		const char *said, *advice;
	} table[] = {
		{ "device not found", "; a container needs --device /dev/fuse" },
		{ "device /dev/fuse not found", "; a container needs --device /dev/fuse" },
		{ "open /dev/fuse: Permission denied",
		  "; root may, or others where its mode is 666" },
		{ "open /dev/fuse: Operation not permitted",
		  "; a container needs --device /dev/fuse --cap-add SYS_ADMIN" },
		{ "mount failed: Operation not permitted",
		  "; a container needs --cap-add SYS_ADMIN" },
		{ "exec fusermount3", "; install it (the package is fuse3)" },
		{ "user_allow_other", ": have root add that line, or leave the option out" },
		{ "no write access to mountpoint", "; mount on a directory of your own" },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (strstr(said, table[i].said))
			return table[i].advice;
	}
	return "";
}
