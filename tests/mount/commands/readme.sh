#!/usr/bin/env bash
# The sessions of README.md print what is printed there.
. "$(dirname "$0")/../lib.sh"
"$PYTHON" -c 'import numpy' 2>/dev/null || skip "$PYTHON has no numpy"

mkdir "$T/bin" "$T/session"
ln -s "$SAFETENSORFS" "$T/bin/safetensorfs"
ln -s "$(type -P "$PYTHON")" "$T/bin/python3"
check "the sessions of README.md" env PATH="$T/bin:$PATH" "$PYTHON" "$ROOT/tests/mount/commands/readme.py" "$ROOT/README.md" "$T/session"
check "nothing is left mounted" is_unmounted "$T/session/mnt"
finish
