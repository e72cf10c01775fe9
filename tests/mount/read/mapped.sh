#!/usr/bin/env bash
# What programs write through mappings is committed, or its loss is told: by signals, by a full staging.
. "$(dirname "$0")/../lib_edit.sh"

# mapped FILE BYTE: hold a mapping whose every byte was set to BYTE, and never synced, until `release`.
mapped() {
    rm -f "$T/ready"
    "$PYTHON" - "$1" "$2" "$T/ready" <<'PY' &
import mmap, os, sys, time
f = os.open(sys.argv[1], os.O_RDWR)
m = mmap.mmap(f, 0)
m[:] = bytes([int(sys.argv[2])]) * len(m)
open(sys.argv[3], "w").close()
time.sleep(600)
PY
    holder=$!
    wait_until test -e "$T/ready" || die "the mapping was not made"
}

release() {
    kill -KILL "$holder" 2>/dev/null
    wait "$holder" 2>/dev/null
}

# bytes_of SOURCE TENSOR: its different bytes, as numbers.
bytes_of() {
    reader cut "$1" "$2" | od -An -v -tu1 -w1 | sort -nu | tr -d ' \n'
}

source=$T/a.safetensors
for options in "" -s; do
    make_checkpoint "$source" --tensor 'x:U8:[300000]'
    mount_start "$source" "$T/mnt" -o edit $options
    mapped "$T/mnt/x" 7
    kill -TERM "${daemon_pid[$T/mnt]}"
    mount_ended "$T/mnt" 0
    release
    check_eq "SIGTERM $options: what was mapped is committed" 7 "$(bytes_of "$source" x)"
done

if [ "$(id -u)" -eq 0 ]; then
    mkdir "$T/stage"
    mount -t tmpfs -o size=2m,mode=700 none "$T/stage" || die "no tmpfs"
    make_checkpoint "$source" --tensor 'x:U8:[8000000]'
    sum=$(sha256sum "$source")
    edit_start "$source" "$T/mnt" staging="$T/stage"
    mapped "$T/mnt/x" 7
    check_refused "a full staging: commit" "mappings.*No space left" "$SAFETENSORFS" commit "$T/mnt"
    check_eq "a full staging: the source is not touched" "$sum" "$(sha256sum "$source")"
    check_match "a full staging: the log" "could not be staged: No space left" "$(cat "${daemon_log[$T/mnt]}")"
    release
    truncate -s 0 "$T/mnt/x"
    truncate -s 8000000 "$T/mnt/x"
    # What was lost is told once, or twice where the kernel tried once more meanwhile.
    "$SAFETENSORFS" commit "$T/mnt" 2>/dev/null || true
    check "a full staging: mended" "$SAFETENSORFS" commit "$T/mnt"
    check_eq "a full staging: mended: the bytes" 0 "$(bytes_of "$source" x)"
    mount_stop "$T/mnt"

    # Nobody asked before the unmount: the daemon knows all the same.
    edit_start "$source" "$T/mnt" staging="$T/stage"
    sum=$(sha256sum "$source")
    mapped "$T/mnt/x" 9
    release
    wait_until umount "$T/mnt" || die "cannot unmount"
    mount_ended "$T/mnt" 1
    check_eq "a full staging: umount: the source is not touched" "$sum" "$(sha256sum "$source")"
    check_match "a full staging: umount: the result" "written through mappings is not all staged" \
        "$(cat "$T/stage/result")"
fi

# A view cannot be mapped for writing; where direct_io allows it all the same, what is stored counts.
make_checkpoint "$T/view.safetensors" --tensor 'x:U8:[300000]'
store='
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
mapping = mmap.mmap(fd, 0)
os.close(fd)
mapping[-1] = 7
mapping.close()'
edit_start "$T/view.safetensors" "$T/mnt"
check_errno "a view, mapped for writing" "ENODEV" "$PYTHON" -c "$store" "$T/mnt/x.npy"
mount_stop "$T/mnt"
edit_start "$T/view.safetensors" "$T/mnt" direct_io
if run "$PYTHON" -c "$store" "$T/mnt/x.npy" && [ "$rc" -eq 0 ]; then
    check_eq "a view, mapped with direct_io" 07 "$(tail -c 1 "$T/mnt/x" | od -An -tx1 | tr -d ' ')"
else
    check_match "a view, mapped with direct_io" "No such device" "$err"
fi
mount_stop "$T/mnt"
finish
