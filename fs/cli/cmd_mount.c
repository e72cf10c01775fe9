/* cmd_mount.c - mount, by itself and as mount(8) calls it */
#include "cmd.h"
#include "mount.h"
#include "options.h"

#include <string.h>

int cmd_mount(int argc, char **argv)
{
	struct options o;
	int code = options_parse(&o, OPTIONS_MOUNT, argc, argv);
	if (code == 0)
		code = mount_run(&o);
	options_free(&o);
	return code;
}

/* Drop what mount(8) says to every helper and means nothing here. */
int cmd_mount_helper(int argc, char **argv)
{
	struct options o;
	bool fake = false;
	int kept = 0;
	for (int i = 0; i < argc; i++) {
		const char *a = argv[i];
		bool flags = a[0] == '-' && a[1] && strspn(a + 1, "sfnv") == strlen(a + 1);
		if (flags)
			fake = fake || strchr(a, 'f');
		else if (strcmp(a, "-t") == 0 || strcmp(a, "-N") == 0)
			i++;
		else
			argv[kept++] = argv[i];
	}
	int code = options_parse(&o, OPTIONS_MOUNT, kept, argv);
	o.fake = fake;
	o.from_mount = true;
	if (code == 0)
		code = mount_run(&o);
	options_free(&o);
	return code;
}
