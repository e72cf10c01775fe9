#!/usr/bin/env bash
# A read-only mount answers every change with EROFS.
. "$(dirname "$0")/../lib.sh"
need script

make_checkpoint "$T/one.safetensors" --tensor 'x:U8:[100]' --tensor 'd.y:U8:[3]' --metadata a=b
sha256sum "$T/one.safetensors" >"$T/sum"

cat >"$T/change.py" <<'PY'
"""Make one change after the other; print those that are answered with anything but EROFS."""
import errno, os, sys

changes = [
    ("open for writing", lambda: os.open("x", os.O_WRONLY)),
    ("open for reading and writing", lambda: os.open("x", os.O_RDWR)),
    ("open to append", lambda: os.open("x", os.O_WRONLY | os.O_APPEND)),
    ("open and truncate", lambda: os.open("x", os.O_RDONLY | os.O_TRUNC)),
    ("create", lambda: os.open("new", os.O_WRONLY | os.O_CREAT, 0o644)),
    ("create scratch", lambda: os.open(".new", os.O_WRONLY | os.O_CREAT, 0o644)),
    ("create a view", lambda: os.open("new.npy", os.O_WRONLY | os.O_CREAT, 0o644)),
    ("open the sidecar", lambda: os.open("x.json", os.O_RDWR)),
    ("open the view", lambda: os.open("x.npy", os.O_RDWR)),
    ("open the metadata", lambda: os.open("__metadata__.json", os.O_RDWR)),
    ("open the commit file", lambda: os.open(".safetensorfs/commit", os.O_WRONLY)),
    ("truncate", lambda: os.truncate("x", 3)),
    ("unlink", lambda: os.unlink("x")),
    ("unlink the sidecar", lambda: os.unlink("x.json")),
    ("unlink the metadata", lambda: os.unlink("__metadata__.json")),
    ("rename", lambda: os.rename("x", "z")),
    ("rename over", lambda: os.rename("x", "x.json")),
    ("mkdir", lambda: os.mkdir("dir")),
    ("rmdir", lambda: os.rmdir(".safetensorfs")),
    ("mknod", lambda: os.mknod("node")),
    ("symlink", lambda: os.symlink("x", "symlink")),
    ("link", lambda: os.link("x", "link")),
    ("chmod", lambda: os.chmod("x", 0o777)),
    ("chmod the root", lambda: os.chmod(".", 0o777)),
    ("chown", lambda: os.chown("x", os.getuid(), os.getgid())),
    ("utime", lambda: os.utime("x")),
    ("setxattr", lambda: os.setxattr("x", "user.mine", b"1")),
    ("setxattr of ours", lambda: os.setxattr("x", "user.safetensors.dtype", b"F32")),
    ("removexattr", lambda: os.removexattr("x", "user.safetensors.dtype")),
]
os.chdir(sys.argv[1])
failed = 0
for what, change in changes:
    try:
        change()
        print(f"{what}: succeeded")
        failed += 1
    except OSError as error:
        if error.errno != errno.EROFS:
            print(f"{what}: {error}")
            failed += 1
sys.exit(failed > 0)
PY

for options in ro layout=tree; do
    mount_start "$T/one.safetensors" "$T/mnt" -o "$options"
    if [ "$options" = layout=tree ]; then
        check_errno "rmdir of a directory" EROFS rmdir "$T/mnt/d"
        check_errno "unlink in a directory" EROFS rm -f "$T/mnt/d/y"
    fi
    check "every change ($options)" "$PYTHON" "$T/change.py" "$T/mnt"
    check_errno "the shell sees it too" EROFS bash -c 'echo >"$1"' - "$T/mnt/x"
    check "the tensor is as it was" cmp <(reader cut "$T/one.safetensors" x) "$T/mnt/x"
    mount_stop "$T/mnt"
done
check "the source is as it was" sha256sum --check --quiet "$T/sum"

# The words that mount(8) passes of its own accord change nothing.
mount_start "$T/one.safetensors" "$T/mnt" -o rw,dev,suid
check "every change (rw,dev,suid)" "$PYTHON" "$T/change.py" "$T/mnt"
mount_stop "$T/mnt"
for word in rw rw,dev,suid; do
    told=0
    [ "$word" != rw ] || told=1
    run script -qec "'$SAFETENSORFS' '$T/one.safetensors' '$T/mnt' -o $word" /dev/null
    check_eq "at a terminal, $word: exit status" 0 "$rc"
    check_eq "at a terminal, $word: a line that tells of edit ($out)" "$told" "$(grep -c edit <<<"$out")"
    check "at a terminal, $word: every change" "$PYTHON" "$T/change.py" "$T/mnt"
    check "umount" "$SAFETENSORFS" umount "$T/mnt"
done
finish
