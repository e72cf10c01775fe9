#!/usr/bin/env bash
# Who has a tensor or one of its views open keeps the bytes, whatever becomes of the name; who comes later gets the new ones.
. "$(dirname "$0")/../lib_edit.sh"
"$PYTHON" -c 'import numpy' 2>/dev/null || skip "$PYTHON has no numpy"

# With one thread nobody can answer the kernel while a request waits.
for options in '' -s; do
    make_checkpoint "$T/a.safetensors" --tensor 'rename:F16:[100000]' --tensor 'npy:F16:[100000]' \
        --tensor 'npyrename:F16:[100000]' --tensor 'unlink:F16:[100000]' --tensor 'with:F16:[3]' \
        --tensor 'both:F16:[100000]' --tensor 'saved:F32:[100000]' $(printf -- '--tensor many.%s:U8:[1] ' {1..300})
    mount_start "$T/a.safetensors" "$T/mnt" -o edit $options
    head -c 6 /dev/zero >"$T/mnt/with"
    timeout "$DEADLINE" "$PYTHON" "$ROOT/tests/mount/edit/edit_views.py" "$T/mnt" >"$T/report" 2>&1 || fail "$(tail -n 3 "$T/report")"
    while read -r word what; do
        check_eq "${options:-threads}: $what" ok "$word"
    done <"$T/report"
    check_eq "${options:-threads}: every part ran" 66 "$(wc -l <"$T/report")"

    # What is kept is not kept for longer, and is no part of a commit.
    commits "${options:-threads}" "$T/mnt" "$T/a.safetensors"
    mount_stop "$T/mnt"
    check_not "${options:-threads}: no staging is left" test -e "$(staging_of "$T/a.safetensors")"
done

finish
