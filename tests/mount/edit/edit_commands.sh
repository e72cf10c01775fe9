#!/usr/bin/env bash
# status, commit and umount on edit mounts: what they say, what they return, and what stays mounted.
. "$(dirname "$0")/../lib_edit.sh"

make_checkpoint "$T/a.safetensors" --tensor 'a:F32:[2,3]' --tensor 'b:U8:[100]' --tensor 'c:I64:[]'
sha256sum "$T/a.safetensors" >"$T/sum"

# refused WHAT COMMAND...: 1, no stdout, every line is one of ours.
refused() {
    local what=$1
    shift
    run "$@"
    check_eq "$what: exit status" 1 "$rc"
    check_eq "$what: stdout" "" "$out"
    check_eq "$what: every line is an error line" "" "$(grep -v '^safetensorfs: [^:]*: ' "$T/err")"
}

edit_start "$T/a.safetensors" "$T/mnt"
check_eq "status: mode and layout" '["edit","flat"]' "$(status_of "$T/mnt" '[.mode,.layout]')"
check_eq "status: nothing yet" '[{"tensors":0,"bytes":0},[],null]' "$(status_of "$T/mnt" '[.staged,.problems,.last_commit]')"
run "$SAFETENSORFS" commit "$T/mnt"
check_eq "nothing to commit: exit status" 0 "$rc"
check_eq "nothing to commit: stderr" "" "$err"
check_eq "nothing to commit: no last commit" null "$(status_of "$T/mnt" .last_commit)"

printf more >>"$T/mnt/a"
check_match "status as text: one tensor" $'\nstaged +1 tensor, [0-9]+ bytes\n' "$("$SAFETENSORFS" status "$T/mnt")"
truncate -s 4 "$T/mnt/c"
poke "$T/mnt/b" 0 x
check_eq "status: staged" 3 "$(status_of "$T/mnt" .staged.tensors)"
check "status: staged bytes" test "$(status_of "$T/mnt" .staged.bytes)" -gt 0
check_eq "status: problems" '["a","c"]' "$(status_of "$T/mnt" '[.problems[].tensor]')"
check_match "status: reasons name expected and actual" '28.*24|24.*28' "$(status_of "$T/mnt" '.problems[0].reason')"
run "$SAFETENSORFS" status "$T/mnt"
check_eq "status as text: exit status" 0 "$rc"
check_match "status as text: several tensors" $'\nstaged +3 tensors, [0-9]+ bytes\n' "$out"
check_eq "status as text: a line for each problem" 2 "$(grep -ciE '(problem|tensor) +[ac]|[ac]: ' <<<"$out")"

for verb in commit umount; do
    refused "$verb with problems" "$SAFETENSORFS" "$verb" "$T/mnt"
    check_eq "$verb with problems: a line for each tensor" 1-1 "$(grep -cE '^[^ ]+ [^ ]+ tensor "a": ' "$T/err")-$(grep -cE '^[^ ]+ [^ ]+ tensor "c": ' "$T/err")"
    check_eq "$verb with problems: none for the others" 0 "$(grep -c 'tensor "b": ' "$T/err")"
    check "$verb with problems: still mounted" is_mounted "$T/mnt"
    check "$verb with problems: the source is whole" sha256sum --check --quiet "$T/sum"
    check_eq "$verb with problems: the edits are there" x "$(head -c 1 "$T/mnt/b")"
    check_eq "$verb with problems: the last commit" '["failed",true]' "$(status_of "$T/mnt" '[.last_commit.result, (.last_commit.error | length > 0)]')"
    check "$verb with problems: result" test -s "$(staging_of "$T/a.safetensors")/result"
    check_match "$verb with problems: the log" 'tensor "a": ' "$(mount_log "$T/mnt")"
done
check_errno "a write to .safetensorfs/commit is EINVAL" EINVAL bash -c 'echo >"$1"' - "$T/mnt/.safetensorfs/commit"
truncate -s 24 "$T/mnt/a"
sidecar "$T/mnt/c" I32 '[]'
check "mended: umount" "$SAFETENSORFS" umount "$T/mnt"
mount_ended "$T/mnt"
check_eq "mended: committed" '"c" I32 []' "$(reader list "$T/a.safetensors" | jq -r '.[2] | "\"\(.name)\" \(.dtype) \(.shape)"')"

# The last commit, and a commit by a write, with any text or none.
edit_start "$T/a.safetensors" "$T/mnt"
begin=$(date +%s)
for text in '' 1 'anything at all'; do
    poke "$T/mnt/b" 5 "t$text"
    check "commit by a write of '$text'" bash -c 'echo "$2" >"$1"' - "$T/mnt/.safetensorfs/commit" "$text"
    check_eq "commit by a write of '$text': done" "t$text" "$(reader cut "$T/a.safetensors" b | tail -c +6 | head -c $((1 + ${#text})))"
done
check_eq "the last commit" '["committed",null]' "$(status_of "$T/mnt" '[.last_commit.result,.last_commit.error]')"
check "the last commit: its time" test "$(date -d "$(status_of "$T/mnt" .last_commit.time)" +%s)" -ge "$begin"
check_eq "status by the control file" "$("$SAFETENSORFS" status --json "$T/mnt" | jq -S .)" "$(jq -S . "$T/mnt/.safetensorfs/status")"

# While files are open: what has been written so far.
exec {open}<>"$T/mnt/b"
printf 'one' >&"$open"
check "commit while a file is open" "$SAFETENSORFS" commit "$T/mnt"
check_eq "commit while a file is open: committed" one "$(reader cut "$T/a.safetensors" b | head -c 3)"
printf 'two' >&"$open"
check_eq "the open file goes on" onetwo "$(head -c 6 "$T/mnt/b")"
check "a second commit" "$SAFETENSORFS" commit "$T/mnt"
check_eq "a second commit: committed" onetwo "$(reader cut "$T/a.safetensors" b | head -c 6)"
exec {open}>&-

# With readers under way, who see the bytes as they are, before, meanwhile and afterwards.
cp "$T/mnt/b" "$T/wanted"
: >"$T/differs"
for i in 1 2; do
    (
        trap 'exit 0' TERM
        while :; do
            cmp -s "$T/mnt/b" "$T/wanted" || echo differs >>"$T/differs"
            jq -e .nbytes "$T/mnt/b.json" >/dev/null || echo sidecar >>"$T/differs"
        done
    ) &
    readers+=($!)
done
for i in 1 2 3 4 5; do
    sidecar "$T/mnt/a" I32 "$([ $((i % 2)) = 0 ] && echo '[6]' || echo '[3,2]')"
    check "commit beside readers, $i" "$SAFETENSORFS" commit "$T/mnt"
done
kill "${readers[@]}"
wait "${readers[@]}"
check_eq "commit beside readers: they saw the same all along" "" "$(cat "$T/differs")"
mount_stop "$T/mnt"

# Read-only mounts, and what is no mount.
mount_start "$T/a.safetensors" "$T/mnt"
check_refused "commit on a read-only mount" read-only "$SAFETENSORFS" commit "$T/mnt"
check_errno "a write to the commit file of a read-only mount" EROFS bash -c 'echo >"$1"' - "$T/mnt/.safetensorfs/commit"
mount_stop "$T/mnt"
for verb in commit status umount; do
    check_refused "$verb on what is no mount" "$T" "$SAFETENSORFS" "$verb" "$T"
done

# An ordinary unmount with problems: nobody is told but the log, the exit status and the result file.
edit_start "$T/a.safetensors" "$T/mnt"
printf more >>"$T/mnt/b"
check "umount(8) with problems" unmount "$T/mnt"
mount_ended "$T/mnt" 1
check_match "umount(8) with problems: the log" 'tensor "b": ' "$(mount_log "$T/mnt")"
check_match "umount(8) with problems: result" 'b' "$(cat "$(staging_of "$T/a.safetensors")/result")"
check_match "umount(8) with problems: the staging is kept" journal "$(ls "$(staging_of "$T/a.safetensors")")"
refused "recover with problems" "$SAFETENSORFS" recover "$T/a.safetensors"
check_match "recover with problems: the tensor" 'tensor "b": ' "$err"
edit_start "$T/a.safetensors" "$T/mnt"
check_match "the next mount resumes and says so" 'resum' "$(mount_log "$T/mnt")"
check_match "the next mount says why the last commit failed" 'b' "$(mount_log "$T/mnt")"
truncate -s 100 "$T/mnt/b"
mount_stop "$T/mnt"
check_eq "no staging is left" "" "$(ls -A "$T" | grep '^\.')"
finish
