#!/usr/bin/env bash
# output=PATH commits there, and never touches the source; sources that cannot be written to.
. "$(dirname "$0")/lib_edit.sh"

# The files of the source, but not what is staged.
files_of() {
    find "$T/src" -name '.*safetensorfs' -prune -o -type f -exec stat -c '%n %i %y %Z %s' {} +
}

# untouched WHAT: the source and its directory are as they were.
untouched() {
    check_eq "$1: the source is not touched" "$(cat "$T/stat")" "$(files_of | sort)"
    check "$1: nor its bytes" sha256sum --check --quiet "$T/sum"
}

remember() {
    find "$T/src" -type f -exec sha256sum {} + >"$T/sum"
    files_of | sort >"$T/stat"
}

mkdir "$T/src"
make_checkpoint "$T/src/a.safetensors" --tensor 'a:F32:[1000]' --tensor 'b:U8:[400000]' --metadata k=v
chmod 640 "$T/src/a.safetensors"
remember
out=$T/new/out.safetensors
mkdir "$T/new"

# A file.
edit_start "$T/src/a.safetensors" "$T/mnt" output="$out"
poke "$T/mnt/b" 65534 output
check "file: commit" "$SAFETENSORFS" commit "$T/mnt"
check_eq "file: written" output "$(reader cut "$out" b | tail -c +65535 | head -c 6)"
untouched "file"
check_eq "file: its mode is the source's" 640 "$(stat -c %a "$out")"
# The mount goes on from there.
mv "$T/mnt/a" "$T/mnt/renamed"
check_eq "file: goes on" output "$(tail -c +65535 "$T/mnt/b" | head -c 6)"
expect shown "$T/mnt" >"$T/shown"
mount_stop "$T/mnt"
same_state "file: a second commit" "$out" "$T/shown"
canonical "file" "$out"
untouched "file, at the end"
check_eq "file: no staging is left" "" "$(find "$T" -name '.*safetensorfs')"

# Nothing edited: nothing written.
edit_start "$T/src/a.safetensors" "$T/mnt" output="$T/new/none.safetensors"
mount_stop "$T/mnt"
check_not "nothing edited: no file" test -e "$T/new/none.safetensors"

# Crashed: recover knows where to.
edit_start "$T/src/a.safetensors" "$T/mnt" output="$T/new/rec.safetensors" staging="$T/stage"
poke "$T/mnt/b" 7 recover
edit_kill "$T/mnt"
check_match "recover: the staging" journal "$(ls "$T/stage")"
check "recover" "$SAFETENSORFS" recover "$T/src/a.safetensors" -o staging="$T/stage"
check_eq "recover: written" recover "$(reader cut "$T/new/rec.safetensors" b | tail -c +8 | head -c 7)"
untouched "recover"
edit_start "$T/src/a.safetensors" "$T/mnt" output="$T/new/rec2.safetensors" staging="$T/stage"
poke "$T/mnt/b" 7 elsewhere
edit_kill "$T/mnt"
check "recover to another place" "$SAFETENSORFS" recover "$T/src/a.safetensors" -o staging="$T/stage,output=$T/new/rec3.safetensors"
check_eq "recover to another place: written" elsewhere "$(reader cut "$T/new/rec3.safetensors" b | tail -c +8 | head -c 9)"

# A directory where a file is wanted, and a place that is not there.
for output in "$T/new" "$T/none/out.safetensors"; do
    edit_start "$T/src/a.safetensors" "$T/mnt" output="$output"
    poke "$T/mnt/b" 0 x
    check_not "output ${output#"$T"}: commit" "$SAFETENSORFS" commit "$T/mnt"
    check_match "output ${output#"$T"}: the reason" "$output" "$(status_of "$T/mnt" .last_commit.error)"
    unmount "$T/mnt"
    mount_ended "$T/mnt" 1
    check "output ${output#"$T"}: discard" "$SAFETENSORFS" discard "$T/src/a.safetensors"
    untouched "output ${output#"$T"}"
done

# A directory for a directory, made if absent; unchanged shards get there too.
rm -rf "$T/src"
make_checkpoint "$T/src" --shards 3 --tensors 6 --tensor-bytes 70000 --metadata k=v
remember
edit_start "$T/src" "$T/mnt" output="$T/built"
name=$(ls "$T/mnt" | grep weight | sed -n 1p)
poke "$T/mnt/$name" 65534 output
expect shown "$T/mnt" >"$T/shown"
check "directory: commit" "$SAFETENSORFS" commit "$T/mnt"
same_state "directory: written" "$T/built" "$T/shown"
untouched "directory"
check_eq "directory: the same files" "$(ls "$T/src")" "$(ls -A "$T/built")"
rm "$T/mnt/$name"
expect shown "$T/mnt" >"$T/shown"
mount_stop "$T/mnt"
same_state "directory: a second commit" "$T/built" "$T/shown"
check_eq "directory: the index" "$(reader names "$T/built" | jq -sc 'sort')" "$(jq -c '.weight_map | keys' "$T/built"/*.index.json)"
untouched "directory, at the end"

# A cache of the hub: blobs are named after their content, so they cannot be edited.
hub=$T/src/models--x--y
rm -rf "$T/src"
mkdir -p "$hub/blobs" "$hub/snapshots/abc" "$hub/refs"
make_checkpoint "$hub/blobs/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" --tensor 'a:U8:[100]'
mv "$hub/blobs"/0123* "$hub/blobs/$(printf '0123456789abcdef%.0s' 1 2 3 4)" 2>/dev/null
ln -s ../../blobs/"$(ls "$hub/blobs")" "$hub/snapshots/abc/model.safetensors"
remember
for source in "$hub/snapshots/abc/model.safetensors" "$hub/snapshots/abc" "$hub/blobs/$(ls "$hub/blobs")"; do
    check_refused "hub: ${source#"$T"}" 'output=' "$SAFETENSORFS" "$source" "$T/mnt" -o edit
done
untouched "hub"
mount_start "$hub/snapshots/abc/model.safetensors" "$T/mnt"
mount_stop "$T/mnt"
edit_start "$hub/snapshots/abc/model.safetensors" "$T/mnt" output="$T/new/hub.safetensors" staging="$T/stage"
poke "$T/mnt/a" 0 hub
mount_stop "$T/mnt"
check_eq "hub: with output=" hub "$(reader cut "$T/new/hub.safetensors" a | head -c 3)"
untouched "hub, with output="

# A link: what it leads to is edited, and it stays a link; the staging is beside the target.
rm -rf "$T/src"
mkdir "$T/src" "$T/links"
make_checkpoint "$T/src/a.safetensors" --tensor 'a:U8:[100000]'
ln -s ../src/a.safetensors "$T/links/link.safetensors"
edit_start "$T/links/link.safetensors" "$T/mnt"
poke "$T/mnt/a" 0 link
check "link: the staging is beside the target" test -d "$T/src/.a.safetensors.safetensorfs"
mount_stop "$T/mnt"
check "link: it is a link still" test -L "$T/links/link.safetensors"
check_eq "link: the target is edited" link "$(reader cut "$T/src/a.safetensors" a | head -c 4)"
check_eq "link: nothing else is there" link.safetensors "$(ls -A "$T/links")"

# What an output cannot be.
mkdir "$T/odd"
mkfifo "$T/odd/pipe"
check_refused "output: the source itself" "is the source itself" "$SAFETENSORFS" "$T/src/a.safetensors" "$T/mnt" -o "edit,output=$T/links/../src/a.safetensors"
check_refused "output: a FIFO" "is no regular file" "$SAFETENSORFS" "$T/src/a.safetensors" "$T/mnt" -o "edit,output=$T/odd/pipe"
check "output: the FIFO is there" test -p "$T/odd/pipe"

# A directory for staging with files of the user's that are called like ours.
for name in blocks result journal.new; do
    mkdir -p "$T/odd/stage"
    echo mine >"$T/odd/stage/$name"
    check_refused "staging: a file $name" "holds a file $name and no journal" "$SAFETENSORFS" "$T/src/a.safetensors" "$T/mnt" -o "edit,staging=$T/odd/stage"
    check_eq "staging: $name is kept" mine "$(cat "$T/odd/stage/$name")"
    rm -r "$T/odd/stage"
done

# A directory that may not be written to, as a user without rights.
[ "$(id -u)" -eq 0 ] || finish
type -P setpriv >/dev/null || finish
user=(setpriv --reuid=65534 --regid=65534 --clear-groups env TMPDIR=/tmp)
chmod 755 "$T" "$T/src"
chmod 644 "$T/src/a.safetensors"
mkdir "$T/theirs"
chown 65534:65534 "$T/theirs"
mkdir "$T/theirs/mnt"
chown 65534:65534 "$T/theirs/mnt"
"${user[@]}" test -x "$SAFETENSORFS" -a -x "$T" && "${user[@]}" test -w /dev/fuse || finish
remember
check_refused "read-only directory" 'staging=|output=' "${user[@]}" "$SAFETENSORFS" "$T/src/a.safetensors" "$T/theirs/mnt" -o edit
check_refused "read-only directory, staging= alone" 'cannot commit to .*output=' "${user[@]}" "$SAFETENSORFS" "$T/src/a.safetensors" "$T/theirs/mnt" -o "edit,staging=$T/theirs/stage"
check_not "read-only directory: no staging is left" test -e "$T/theirs/stage"
run "${user[@]}" "$SAFETENSORFS" "$T/src/a.safetensors" "$T/theirs/mnt" -o "edit,staging=$T/theirs/stage,output=$T/theirs/out.safetensors"
if [ "$rc" -eq 0 ]; then
    check "read-only directory: edit" "${user[@]}" bash -c 'printf theirs | dd of="$1" conv=notrunc status=none' - "$T/theirs/mnt/a"
    check "read-only directory: umount" "${user[@]}" "$SAFETENSORFS" umount "$T/theirs/mnt"
    check_eq "read-only directory: written elsewhere" theirs "$(reader cut "$T/theirs/out.safetensors" a | head -c 6)"
    untouched "read-only directory"
else
    fail "read-only directory, with staging= and output=: $err"
fi
finish
