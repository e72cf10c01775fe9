#!/usr/bin/env bash
# Where one can mount, and where it is refused.
. "$(dirname "$0")/../lib.sh"

mkdir -p "$T/up/dir/mnt" "$T/mnt"
make_checkpoint "$T/up/dir/" --tensor 'x:U8:[5]'
source=$T/up/dir/model.safetensors
ln -s up "$T/link"
echo >"$T/file"

# what | source | mountpoint | the message
while IFS='|' read -r what from to regex; do
    check_refused "$what" "$regex" "$SAFETENSORFS" "$T/$from" "$T/$to"
    check_refused "$what, -f" "$regex" "$SAFETENSORFS" "$T/$from" "$T/$to" -f
    check "$what: nothing is mounted" test -z "$(findmnt -rno TARGET | grep "^$T")"
done <<'END'
the source directory itself|up/dir|up/dir|up/dir.*source
the directory that holds the source file|up/dir/model.safetensors|up/dir|up/dir.*source
a directory further up|up/dir|up|up.*source
a directory further up, of a file|up/dir/model.safetensors|up|up.*source
a directory further up, by a link|up/dir|link|link.*source
the source itself, where it is a file|up/dir/model.safetensors|up/dir/model.safetensors|[Nn]ot a directory|source
inside the source directory|up/dir|up/dir/mnt|inside the source
a file|up/dir|file|[Nn]ot a directory
a directory that is not there|up/dir|none|No such file
a source that is not there|none|mnt|none.*No such file
END

# A mountpoint that still has a dead mount on it.
mount_start "$source" "$T/mnt"
kill -KILL "${daemon_pid[$T/mnt]}"
mount_ended "$T/mnt" 137
check_refused "a dead mount" "$T/mnt.*(fusermount3 -u|umount)" "$SAFETENSORFS" "$source" "$T/mnt"
unmount "$T/mnt"

# What the daemon itself writes must not lead back into its own mount.
ln -s mnt "$T/into"
for option in staging="$T/mnt/stage" staging="$T/into/stage" staging="$T/mnt" output="$T/mnt/new.safetensors" \
    output="$T/into/new.safetensors"; do
    check_refused "$option" "${option%%=*}.*lies inside the mountpoint" \
        "$SAFETENSORFS" "$source" "$T/mnt" -o "edit,$option"
    unmount -l "$T/mnt" 2>/dev/null || true
done
check_eq "nothing is left in the mountpoint" "" "$(ls -A "$T/mnt")"

# Over a mount of ours, the second hides the first.
mount_start "$source" "$T/mnt"
make_checkpoint "$T/other.safetensors" --tensor 'y:U8:[5]'
"$SAFETENSORFS" "$T/other.safetensors" "$T/mnt" || fail "mounting over a mount"
check_eq "the second mount is on top" "y y.json" "$(ls "$T/mnt" | tr '\n' ' ' | sed 's/ $//')"
unmount "$T/mnt"
check_eq "the first is there again" "x x.json" "$(ls "$T/mnt" | tr '\n' ' ' | sed 's/ $//')"
mount_stop "$T/mnt"

# From inside the mountpoint: the way to the source does not lead through the mount.
for up in "../${source#"$T/"}" "$T/mnt/../${source#"$T/"}" "../mnt/.././${source#"$T/"}"; do
    (cd "$T/mnt" && "$SAFETENSORFS" "$up" .) || fail "$up: mount"
    check_eq "$up: status" "$source" "$("$SAFETENSORFS" status --json "$T/mnt" | jq -r .source)"
    check "$up: umount" "$SAFETENSORFS" umount "$T/mnt"
done

# By a link.
ln -s mnt "$T/mnt.link"
"$SAFETENSORFS" "$source" "$T/mnt.link" || fail "mounting by a link"
check "umount by a link" "$SAFETENSORFS" umount "$T/mnt.link"
check "umount by a link: unmounted" is_unmounted "$T/mnt"

# Names that the options of libfuse or mountinfo could trip over.
for name in 'with space' 'comma,comma' 'back\slash' $'new\nline' 'é' '-dash'; do
    mkdir -p "$T/names/$name"
    cp "$source" "$T/names/$name.safetensors"
    (cd "$T/names" && "$SAFETENSORFS" -- "$name.safetensors" "$name") || fail "$name: mount"
    check "$name: reads" cmp <(reader cut "$source" x) "$T/names/$name/x"
    check_eq "$name: status" "$T/names/$name" \
        "$("$SAFETENSORFS" status --json "$T/names/$name" | jq -r .mountpoint)"
    check "$name: umount" "$SAFETENSORFS" umount "$T/names/$name"
    check_not "$name: it is gone" test -e "$T/names/$name/x"
done

# JSON has no way to say bytes that are not UTF-8; the status is JSON, and the verbs work, all the same.
name=$'not\xffutf-8'
mkdir "$T/names/$name"
cp "$source" "$T/names/$name.safetensors"
for options in ro edit; do
    "$SAFETENSORFS" "$T/names/$name.safetensors" "$T/names/$name" -o "$options" || fail "not UTF-8, $options: mount"
    check_eq "not UTF-8, $options: status" "$T/names/not"$'\xef\xbf\xbd'utf-8 \
        "$("$SAFETENSORFS" status --json "$T/names/$name" | jq -r .mountpoint)"
    check "not UTF-8, $options: sidecar" jq -e .file "$T/names/$name/x.json"
    check "not UTF-8, $options: umount" "$SAFETENSORFS" umount "$T/names/$name"
    check_not "not UTF-8, $options: it is gone" test -e "$T/names/$name/x"
done
finish
