#!/usr/bin/env bash
# status says what is mounted, by the verb and by the control file.
. "$(dirname "$0")/../lib.sh"

make_checkpoint "$T/shards" --shards 3 --tensors 20 --tensor-bytes 5000
make_checkpoint "$T/one.safetensors" --tensors 4 --tensor-bytes 1000
ln -s one.safetensors "$T/link.safetensors"

# The kernel's read-ahead is raised right after the mount has answered.
same_read_ahead() {
    [ "$(cat "/sys/class/bdi/$(mountpoint -d "$T/mnt")/read_ahead_kb")" = \
        "$("$SAFETENSORFS" status --json "$T/mnt" | jq .read_ahead_kb)" ]
}

# source, shards
while read -r source shards; do
    mount_start "$T/$source" "$T/mnt"
    "$SAFETENSORFS" status --json "$T/mnt" >"$T/status" || fail "$source: status --json fails"
    check_eq "$source: keys" \
        '["bytes","last_commit","layout","mode","mountpoint","pid","problems","read_ahead_kb","shards","source","staged","tensors"]' \
        "$(jq -c 'keys' "$T/status")"
    for pair in "source=$T/$source" "mountpoint=$T/mnt" mode=ro layout=flat \
        "pid=${daemon_pid[$T/mnt]}" "tensors=$(reader names "$T/$source" | wc -l)" "shards=$shards" \
        "bytes=$(reader list "$T/$source" | jq 'map(.nbytes) | add')" last_commit=null; do
        check_eq "$source: ${pair%%=*}" "${pair#*=}" "$(jq -r ".${pair%%=*}" "$T/status")"
    done
    check_eq "$source: nothing is staged" '{"bytes":0,"tensors":0}' "$(jq -cS .staged "$T/status")"
    check_eq "$source: no problems" '[]' "$(jq -c .problems "$T/status")"
    check "$source: read-ahead is the kernel's" wait_until same_read_ahead
    check "$source: the control file says the same" diff <(jq -S 'del(.read_ahead_kb)' "$T/status") \
        <(jq -S 'del(.read_ahead_kb)' "$T/mnt/.safetensorfs/status")
    run "$SAFETENSORFS" status "$T/mnt"
    check_eq "$source: status for people" 0 "$rc"
    check_match "$source: it names the source" "$T/$source" "$out"
    check_eq "$source: control files are not listed" "" "$(ls -a "$T/mnt" | grep safetensorfs)"
    mount_stop "$T/mnt"
done <<'END'
one.safetensors 1
link.safetensors 1
shards 3
shards/model.safetensors.index.json 3
END

# The verb works from anywhere, with a relative path and with a slash behind it.
mount_start "$T/one.safetensors" "$T/mnt"
check_eq "relative" "$T/mnt" "$(cd "$T" && "$SAFETENSORFS" status --json mnt/ | jq -r .mountpoint)"
mkdir "$T/plain"
for verb in status commit umount; do
    check_refused "$verb on a plain directory" "$T/plain.*not" "$SAFETENSORFS" "$verb" "$T/plain"
    check_refused "$verb on a directory that is not there" "$T/none" "$SAFETENSORFS" "$verb" "$T/none"
    check_refused "$verb on another file system" '/proc.*not' "$SAFETENSORFS" "$verb" /proc
done
check_refused "commit on a read-only mount" 'read-only' "$SAFETENSORFS" commit "$T/mnt"
finish
