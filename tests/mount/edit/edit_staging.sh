#!/usr/bin/env bash
# What is staged: one writer at a time, resumed after a kill, recovered, discarded, refused where the source changed.
. "$(dirname "$0")/../lib_edit.sh"

fresh() {
    rm -rf "$T/src"
    mkdir "$T/src"
    make_checkpoint "$T/src/a.safetensors" --tensor 'a:F32:[1000]' --tensor 'b:U8:[400000]' --metadata k=v
    sha256sum "$T/src/a.safetensors" >"$T/sum"
}

killed() {
    fresh
    edit_start "$T/src/a.safetensors" "$T/mnt" "$@"
    poke "$T/mnt/b" 65534 staged
    mv "$T/mnt/a" "$T/mnt/renamed"
    sidecar "$T/mnt/renamed" I32 '[10,100]'
    printf new >"$T/mnt/new"
    cp <(echo '{"k":"w"}') "$T/mnt/__metadata__.json"
    expect shown "$T/mnt" >"$T/wanted"
    edit_kill "$T/mnt"
    check "killed: the source is whole" sha256sum --check --quiet "$T/sum"
}

# mtime FILE: as messages have it.
mtime() {
    TZ=UTC date -r "$1" +%Y-%m-%dT%H:%M:%S.%NZ
}

source=$T/src/a.safetensors
stage=$(staging_of "$source")

# Resume.
killed
check "killed: staged" test -s "$stage/journal"
edit_start "$source" "$T/mnt"
check_match "resume: says so" 'resum.*tensors' "$(mount_log "$T/mnt")"
check_eq "resume: all is there" "$(cat "$T/wanted")" "$(expect shown "$T/mnt")"
check_eq "resume: status" 4 "$(("$(status_of "$T/mnt" .staged.tensors)" + 1))"
poke "$T/mnt/b" 0 more
expect shown "$T/mnt" >"$T/wanted"
edit_kill "$T/mnt"
edit_start "$source" "$T/mnt"
check_eq "resumed twice: all is there" "$(cat "$T/wanted")" "$(expect shown "$T/mnt")"
mount_stop "$T/mnt"
same_state "resumed: committed" "$source" "$T/wanted"
canonical "resumed" "$source"
check_eq "resumed: no staging is left" a.safetensors "$(ls -A "$T/src")"

# A read-only mount shows the committed state, and warns.
killed
mount_start "$source" "$T/mnt"
check_match "read-only: warns" 'warning: .*staged' "$(mount_log "$T/mnt")"
check_eq "read-only: the committed state" "$(expect committed "$source")" "$(expect shown "$T/mnt")"
mount_stop "$T/mnt"
check "check of it is of the committed state" "$SAFETENSORFS" check -q "$source"

# Recover.
run "$SAFETENSORFS" recover "$source"
check_eq "recover: exit status ($err)" 0 "$rc"
same_state "recover: committed" "$source" "$T/wanted"
check_eq "recover: no staging is left" a.safetensors "$(ls -A "$T/src")"
run "$SAFETENSORFS" recover "$source"
check_eq "recover with nothing to do" 0 "$rc"

# Discard says what it drops.
killed
run "$SAFETENSORFS" discard "$source"
check_eq "discard: exit status ($err)" 0 "$rc"
for name in b a new; do
    check_match "discard: says what: $name" "(^|[^a-z])$name([^a-z]|$)" "$out"
done
check "discard: the source is whole" sha256sum --check --quiet "$T/sum"
check_eq "discard: no staging is left" a.safetensors "$(ls -A "$T/src")"
run "$SAFETENSORFS" discard "$source"
check_eq "discard with nothing to do" 0 "$rc"

# One writer at a time; recover and discard are refused meanwhile; reading is not.
fresh
edit_start "$source" "$T/mnt"
poke "$T/mnt/b" 0 first
pid=${daemon_pid[$T/mnt]}
mkdir -p "$T/mnt2"
check_refused "a second writer" "(^|[^0-9])$pid([^0-9]|$)" "$SAFETENSORFS" "$source" "$T/mnt2" -o edit
check_refused "a second writer, by a link" "$pid" bash -c 'ln -sf "$2" "$3" && exec "$1" "$3" "$4" -o edit' - "$SAFETENSORFS" "$source" "$T/link" "$T/mnt2"
check_refused "a second writer, staged elsewhere" "$pid" "$SAFETENSORFS" "$source" "$T/mnt2" -o "edit,staging=$T/elsewhere"
for verb in recover discard; do
    check_refused "$verb while mounted" "$pid" "$SAFETENSORFS" "$verb" "$source"
done
check_eq "the first goes on" first "$(head -c 5 "$T/mnt/b")"
mount_start "$source" "$T/ro"
mount_stop "$T/ro"
check "a commit does not let another in" "$SAFETENSORFS" commit "$T/mnt"
check_refused "a second writer, after a commit" "$pid" "$SAFETENSORFS" "$source" "$T/mnt2" -o edit
mount_stop "$T/mnt"
edit_start "$source" "$T/mnt2"
mount_stop "$T/mnt2"
for verb in recover discard; do
    check "$verb afterwards" "$SAFETENSORFS" "$verb" "$source"
done

# A directory and one of its shards are not two sources.
make_checkpoint "$T/dir" --shards 2 --tensors 4 --tensor-bytes 100
edit_start "$T/dir" "$T/mnt"
check_refused "a shard of an edited directory" "${daemon_pid[$T/mnt]}" "$SAFETENSORFS" "$T/dir/model-00001-of-00002.safetensors" "$T/mnt2" -o edit
check "staged in the directory" poke "$T/mnt/$(ls "$T/mnt" | sed -n 1p)" 0 x
check "staged in the directory" test -d "$T/dir/.safetensorfs"
mount_stop "$T/mnt"

# staging=DIR, made if absent.
killed staging="$T/stage"
check_not "staging=: not beside the source" test -e "$stage/journal"
check_eq "staging=: beside the source it is noted where" "$T/stage" "$(cat "$stage/elsewhere")"
check_refused "staging=: without it" "edits of it are staged in $T/stage: staging=$T/stage resumes, commits or drops them\$" "$SAFETENSORFS" "$source" "$T/mnt2" -o edit
check_refused "staging=: with another" "edits of it are staged in $T/stage: staging=$T/stage" "$SAFETENSORFS" "$source" "$T/mnt2" -o "edit,staging=$T/stage2"
for verb in recover discard; do
    check_refused "staging=: $verb without it" "edits of it are staged in $T/stage: staging=$T/stage" "$SAFETENSORFS" "$verb" "$source"
done
mount_start "$source" "$T/ro"
check_match "staging=: a read-only mount says where" "edits are staged and not committed: they are in $T/stage: staging=$T/stage has them" "$(mount_log "$T/ro")"
mount_stop "$T/ro"
check "staging=: there" test -s "$T/stage/journal"
others="$T/stage holds the edits of $(realpath "$source"), not of this source\$"
sha256sum "$T/stage"/* >"$T/staged.sum"
check_refused "staging=: another source's" "$others" "$SAFETENSORFS" "$T/dir" "$T/mnt2" -o "edit,staging=$T/stage"
for verb in recover discard; do
    check_refused "staging=: $verb of another source's" "$others" "$SAFETENSORFS" "$verb" "$T/dir" -o "staging=$T/stage"
done
check "staging=: another source's are kept" sha256sum --check --quiet "$T/staged.sum"
edit_start "$source" "$T/mnt" staging="$T/stage"
check_eq "staging=: resumed" "$(cat "$T/wanted")" "$(expect shown "$T/mnt")"
check_refused "staging=: in use for another source" "$T/stage is in use for $(realpath "$source") by process ${daemon_pid[$T/mnt]}\$" \
    "$SAFETENSORFS" "$T/dir" "$T/mnt2" -o "edit,staging=$T/stage"
edit_kill "$T/mnt"
check "staging=: discard" "$SAFETENSORFS" discard "$source" -o staging="$T/stage"
check "staging=: discarded" sha256sum --check --quiet "$T/sum"

# A source that was replaced while mounted: refused, and what is staged is kept.
fresh
edit_start "$source" "$T/mnt"
poke "$T/mnt/b" 0 staged
ino=$(stat -c %i "$source") mtime=$(mtime "$source")
make_checkpoint "$T/src/new" --tensor 'a:F32:[1000]' --tensor 'b:U8:[400000]' --metadata k=v --seed 7
mv "$T/src/new" "$source"
sha256sum "$source" >"$T/sum"
run "$SAFETENSORFS" commit "$T/mnt"
check_eq "replaced: exit status" 1 "$rc"
check_match "replaced: the reason" 'changed|replaced|not the file' "$err"
check "replaced: umount is refused as well" test "$("$SAFETENSORFS" umount "$T/mnt" 2>/dev/null; echo $?)" -eq 1
check "replaced: still mounted" is_mounted "$T/mnt"
check_match "replaced: in what it differs" "inode $(stat -c %i "$source") instead of $ino, modification time $(mtime "$source") instead of $mtime" "$err"
check_match "replaced: what to do" "the mount's .safetensorfs/model.safetensors still is the whole edited checkpoint: copy it" "$err"
check "replaced: the message has not been cut" test "${#err}" -lt 600
check "replaced: copied" cp "$T/mnt/.safetensorfs/model.safetensors" "$T/saved.safetensors"
check_eq "replaced: the copy is the edited checkpoint" "$(expect shown "$T/mnt")" "$(expect committed "$T/saved.safetensors")"
check_eq "replaced: what was staged is shown" staged "$(head -c 6 "$T/mnt/b")"
check_match "replaced: result" 'changed|replaced|not the file' "$(cat "$stage/result")"
check_eq "replaced: result is one line" 1 "$(wc -l <"$stage/result")"
unmount "$T/mnt"
mount_ended "$T/mnt" 1
check "replaced: the new one is not touched" sha256sum --check --quiet "$T/sum"
check "replaced: the staging is kept" test -s "$stage/journal"
check_refused "replaced: edit" 'discard' "$SAFETENSORFS" "$source" "$T/mnt" -o edit
check_refused "replaced: recover" "the source has changed since the edits were staged: modification time .* instead of $mtime; .safetensorfs discard. drops them" "$SAFETENSORFS" recover "$source"
check "replaced: discard remains" "$SAFETENSORFS" discard "$source"
edit_start "$source" "$T/mnt"
mount_stop "$T/mnt"

# Where only the time differs, the old one makes it the same file.
killed
mtime=$(mtime "$source")
touch "$source"
check_refused "touched: recover" "edits were staged: modification time .* instead of $mtime;" "$SAFETENSORFS" recover "$source"
touch -d "$mtime" "$source"
check "touched back: recover" "$SAFETENSORFS" recover "$source"
same_state "touched back: committed" "$source" "$T/wanted"

# Touched, truncated or gone is changed as well.
while IFS=: read -r what command <&3; do
    killed
    eval "$command"
    check_refused "$what: edit" 'discard' "$SAFETENSORFS" "$source" "$T/mnt" -o edit
    run "$SAFETENSORFS" recover "$source"
    check_eq "$what: recover is refused" 1 "$rc"
    check "$what: the staging is kept" test -s "$stage/journal"
    check "$what: discard remains" "$SAFETENSORFS" discard "$source"
    check_not "$what: discarded" test -e "$stage"
done 3<<'END'
touched: touch -d '2001-01-01' "$source"
written to: printf x | dd of="$source" bs=1 seek=5000 conv=notrunc status=none; touch -d '+1 hour' "$source"
copied: cp "$source" "$source.1"; mv "$source.1" "$source"
END

# A staging that was tampered with is refused, and can be discarded; the source is never harmed.
for damage in 'truncate -s 5 journal' 'printf garbage >journal' 'truncate -s 0 journal' 'rm blocks' 'dd if=/dev/urandom of=journal bs=16 count=1 seek=3 conv=notrunc status=none'; do
    killed
    (cd "$stage" && eval "$damage")
    timeout "$DEADLINE" "$SAFETENSORFS" recover "$source" >"$T/out" 2>&1
    rc=$?
    check "damaged by '$damage': no crash ($(cat "$T/out"))" test "$rc" -le 1
    check "damaged by '$damage': the source is valid" "$SAFETENSORFS" check -q "$source"
    [ "$rc" -eq 0 ] || check "damaged by '$damage': the source is as it was" sha256sum --check --quiet "$T/sum"
    check "damaged by '$damage': discard" "$SAFETENSORFS" discard "$source"
    check_eq "damaged by '$damage': it is gone" a.safetensors "$(ls -A "$T/src")"
done

# What is left out of a torn journal is said, and recover always says something.
for damage in 'truncate -s -1 journal' 'truncate -s +20 journal'; do
    killed
    (cd "$stage" && eval "$damage")
    run "$SAFETENSORFS" recover "$source"
    check_eq "torn by '$damage': exit status" 0 "$rc"
    check_match "torn by '$damage': recover" 'the last [0-9]+ bytes of the journal are left out: what begins at byte [0-9]+' "$err"
done
killed
(cd "$stage" && truncate -s 5000 zeros && mv zeros journal)
run "$SAFETENSORFS" recover "$source"
check_eq "blank: exit status" 0 "$rc"
check_match "blank: recover" 'the last 5000 bytes of the journal are left out' "$out"

# Damage in front of what was synced: refused, kept, and dropped only when asked for.
fresh
edit_start "$source" "$T/mnt"
for i in 1 2 3; do
    poke "$T/mnt/b" "$i" x
    sync "$T/mnt"
done
edit_kill "$T/mnt"
header=$(od -An -tu4 -N4 "$stage/journal")
printf '\377' | dd of="$stage/journal" bs=1 seek=$((header + 16 + 9)) conv=notrunc status=none
sha256sum "$stage"/* >"$T/staged.sum"
check_refused "damaged: recover" "the journal is damaged at byte $((header + 16)), although later edits in it are whole" "$SAFETENSORFS" recover "$source"
check_refused "damaged: edit" "the journal is damaged at byte" "$SAFETENSORFS" "$source" "$T/mnt" -o edit
check "damaged: kept" sha256sum --check --quiet "$T/staged.sum"
run "$SAFETENSORFS" discard "$source"
check_eq "damaged: discard" 0 "$rc"
check_match "damaged: discard says so" "the journal is damaged at byte" "$out"
check_eq "damaged: it is gone" a.safetensors "$(ls -A "$T/src")"
finish
