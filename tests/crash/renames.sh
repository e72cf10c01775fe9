#!/usr/bin/env bash
# A commit that dies between its renames, or before them: recover, discard and a mount finish it or undo it, and never
# onto somebody else's file.
. "$(dirname "$0")/../mount/lib_edit.sh"

[ "$(id -u)" -eq 0 ] || skip "needs files that cannot be replaced"

# stop_at N: shards in $T/dir, edited; the commit stops at its Nth rename, as that file is a mountpoint, and the daemon
# is killed. What was shown is in $T/shown.
stop_at() {
    local file
    rm -rf "$T/dir"
    make_checkpoint "$T/dir" --shards 2 --tensors 4 --tensor-bytes 100
    cp -r "$T/dir" "$T/old"
    edit_start "$T/dir" "$T/mnt" "${@:2}"
    for name in $(ls "$T/mnt" | grep -v json); do
        poke "$T/mnt/$name" 5 edited
    done
    expect shown "$T/mnt" >"$T/shown"
    file=$(ls -d "$T"/dir/*.safetensors | sed -n "$1p")
    mount --bind "$file" "$file" || skip "no bind mount"
    check_not "stopped at $1: commit" "$SAFETENSORFS" commit "$T/mnt"
    edit_kill "$T/mnt"
    umount "$file"
}

# Between the renames: whoever comes first finishes it.
for verb in recover discard mount; do
    stop_at 2
    case $verb in
    mount)
        edit_start "$T/dir" "$T/mnt"
        mount_stop "$T/mnt"
        ;;
    discard)
        run "$SAFETENSORFS" discard "$T/dir"
        check_eq "discard: exit status" 0 "$rc"
        check_match "discard: says so" "a commit was interrupted while it was changing files, so it was finished instead" "$out"
        ;;
    *)
        check "$verb" "$SAFETENSORFS" "$verb" "$T/dir"
        ;;
    esac
    same_state "between, $verb: finished" "$T/dir" "$T/shown"
    check_eq "between, $verb: nothing is left" "" "$(find "$T/dir" -name '.*')"
    rm -rf "$T/old"
done

# To another place it cannot go any more.
stop_at 2
check_refused "between: another output" "without this output=, .safetensorfs recover. finishes it" \
    "$SAFETENSORFS" recover "$T/dir" -o "output=$T/elsewhere"
check_not "between: another output: nothing is made" test -e "$T/elsewhere"

# Somebody has put another file there: nothing is touched.
second=$(ls -d "$T"/dir/*.safetensors | sed -n 2p)
cp "$second" "$T/second"
make_checkpoint "$T/new.safetensors" --tensor 'z:U8:[100]'
cp "$T/new.safetensors" "$second"
find "$T/dir" -type f ! -name lock -exec sha256sum {} + >"$T/sum"
for verb in recover discard; do
    run "$SAFETENSORFS" "$verb" "$T/dir"
    check_eq "between, replaced: $verb: exit status" 1 "$rc"
    check_match "between, replaced: $verb" "is neither the file that it was to replace nor the one that it wrote" "$err"
    check "between, replaced: $verb: kept" sha256sum --check --quiet "$T/sum"
done
finish
