#!/usr/bin/env bash
# output=PATH commits there, and never touches the source; sources that cannot be written to.
. "$(dirname "$0")/../lib_edit.sh"

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

# What is not there any more, or has become something else, when a commit is made.
for what in gone directory; do
    mkdir "$T/later"
    edit_start "$T/src/a.safetensors" "$T/mnt" output="$T/later/out.safetensors"
    poke "$T/mnt/b" 0 x
    [ "$what" = gone ] && rmdir "$T/later" || mkdir "$T/later/out.safetensors"
    check_not "output $what: commit" "$SAFETENSORFS" commit "$T/mnt"
    check_match "output $what: the reason" "$T/later/out.safetensors" "$(status_of "$T/mnt" .last_commit.error)"
    unmount "$T/mnt"
    mount_ended "$T/mnt" 1
    check "output $what: discard" "$SAFETENSORFS" discard "$T/src/a.safetensors"
    untouched "output $what"
    rm -rf "$T/later"
done

# What cannot be an output is refused at once, by recover too.
echo precious >"$T/new/notes.txt"
edit_start "$T/src/a.safetensors" "$T/mnt" staging="$T/stage"
poke "$T/mnt/b" 7 kept
edit_kill "$T/mnt"
while IFS='|' read -r output reason; do
    check_refused "output $output" "output $T/$output: .*$reason" "$SAFETENSORFS" "$T/src/a.safetensors" "$T/mnt" -o "edit,staging=$T/stage,output=$T/$output"
    check_refused "output $output, recover" "output $T/$output: .*$reason" "$SAFETENSORFS" recover "$T/src/a.safetensors" -o "staging=$T/stage,output=$T/$output"
done <<'END'
new|is a directory, and the source is a file
none/out.safetensors|cannot be written in .*/none: No such file
new/notes.txt/out.safetensors|cannot be written in .*/notes.txt: Not a directory
new/notes.txt|is there and is no checkpoint: .*header
END
check_eq "what is no checkpoint is as it was" precious "$(cat "$T/new/notes.txt")"
check_refused "staged elsewhere" "edits of it are staged in $T/stage: staging=$T/stage" "$SAFETENSORFS" "$T/src/a.safetensors" "$T/mnt" -o "edit,staging=$T/stage2"
check "a checkpoint is replaced" "$SAFETENSORFS" recover "$T/src/a.safetensors" -o "staging=$T/stage,output=$T/new/rec.safetensors"
check_eq "a checkpoint is replaced: written" kept "$(reader cut "$T/new/rec.safetensors" b | tail -c +8 | head -c 4)"
: >"$T/new/empty"
edit_start "$T/src/a.safetensors" "$T/mnt2" output="$T/new/empty",staging="$T/stage2"
poke "$T/mnt2/b" 7 filled
check_refused "an output that another mount writes" "output $T/new/empty: is being edited by process ${daemon_pid[$T/mnt2]}" "$SAFETENSORFS" "$T/new/rec.safetensors" "$T/mnt" -o "edit,output=$T/new/empty"
mount_stop "$T/mnt2"
check_eq "an empty file is replaced" filled "$(reader cut "$T/new/empty" b | tail -c +8 | head -c 6)"
check_eq "refused outputs: no staging is left" "" "$(find "$T" -name '.*safetensorfs')"
untouched "refused outputs"

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
check_eq "directory: the same files" "$(ls "$T/src")" "$(ls "$T/built")"
check_eq "directory: locked against other writers" .safetensorfs "$(cd "$T/built" && echo .s*)"
rm "$T/mnt/$name"
expect shown "$T/mnt" >"$T/shown"
mount_stop "$T/mnt"
same_state "directory: a second commit" "$T/built" "$T/shown"
check_eq "directory: the index" "$(reader names "$T/built" | jq -sc 'sort')" "$(jq -c '.weight_map | keys' "$T/built"/*.index.json)"
untouched "directory, at the end"

mkdir "$T/taken" "$T/mixed"
echo precious >"$T/taken/$(ls "$T/src" | sed -n 1p)"
cp "$T/new/out.safetensors" "$T/mixed/x.safetensors"
echo '{}' >"$T/mixed/x.safetensors.index.json"
while IFS='|' read -r output reason; do
    check_refused "directory: output $output" "output $T/$output.*: $reason" "$SAFETENSORFS" "$T/src" "$T/mnt" -o "edit,output=$T/$output"
done <<'END'
new/out.safetensors|is no directory, and the source is one
none/built|cannot be written in .*/none: No such file
taken|is there and is no checkpoint
mixed|holds x.safetensors.index.json
END
edit_start "$T/src" "$T/mnt" output="$T/slash/"
poke "$T/mnt/$name" 0 slash
mount_stop "$T/mnt"
check "directory: with a slash behind it" "$SAFETENSORFS" check -q "$T/slash"

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
check_refused "read-only directory, as output=" "output $T/src/b.safetensors: cannot be written in $T/src: Permission denied" "${user[@]}" "$SAFETENSORFS" "$T/src/a.safetensors" "$T/theirs/mnt" -o "edit,staging=$T/theirs/stage,output=$T/src/b.safetensors"
check_refused "read-only file, in place" 'a.safetensors: cannot be opened for writing.*Permission denied.*output=' "${user[@]}" "$SAFETENSORFS" "$T/src/a.safetensors" "$T/theirs/mnt" -o "edit,staging=$T/theirs/stage,commit=inplace"
# Shards that lie elsewhere, behind links: each one counts.
mkdir "$T/theirs/dir" "$T/theirs/blobs"
make_checkpoint "$T/theirs/blobs/1.safetensors" --tensor 'one:U8:[10]'
make_checkpoint "$T/src/2.safetensors" --tensor 'two:U8:[10]'
chmod 644 "$T/src/2.safetensors"
ln -s ../blobs/1.safetensors "$T/theirs/dir/1.safetensors"
ln -s "$T/src/2.safetensors" "$T/theirs/dir/2.safetensors"
chown -R 65534:65534 "$T/theirs/dir" "$T/theirs/blobs"
check_refused "one shard in a read-only directory" "cannot commit to $T/src: Permission denied; output=" "${user[@]}" "$SAFETENSORFS" "$T/theirs/dir" "$T/theirs/mnt" -o edit
check_refused "one read-only shard, in place" '2.safetensors: cannot be opened for writing.*output=' "${user[@]}" "$SAFETENSORFS" "$T/theirs/dir" "$T/theirs/mnt" -o edit,commit=inplace
check_eq "one shard: no staging is left" "" "$(find "$T/theirs" -name '.*safetensorfs')"
rm "$T/src/2.safetensors"
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
