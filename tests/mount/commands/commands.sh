#!/usr/bin/env bash
# check and umount.
. "$(dirname "$0")/../lib.sh"

make_checkpoint "$T/one.safetensors" --tensors 22 --dtype all --tensor 'scalar:F32:[]'
make_checkpoint "$T/shards" --shards 3 --tensors 20 --tensor-bytes 100
echo broken >"$T/bad.safetensors"
printf '\x02\0\0\0\0\0\0\0{}' >"$T/empty.safetensors"

# options | sources | exit status | lines of stdout, without their directory
while IFS='|' read -r options sources status want; do
    read -r -a words <<<"$options"
    for source in $sources; do
        words+=("$T/$source")
    done
    run "$SAFETENSORFS" check "${words[@]}"
    check_eq "check $options $sources: exit status" "$status" "$rc"
    check_eq "check $options $sources: stdout" "$want" "$(sed "s,^$T/,," <<<"$out" | tr '\n' ';')"
    errors=$(grep -o bad <<<"$sources" | wc -l)
    check_eq "check $options $sources: lines on stderr" "$errors" "$(wc -l <"$T/err")"
done <<'END'
|one.safetensors|0|one.safetensors: ok;
|shards|0|shards: ok;
|shards/model.safetensors.index.json|0|shards/model.safetensors.index.json: ok;
|empty.safetensors|0|empty.safetensors: ok;
-q|one.safetensors|0|;
|bad.safetensors|1|;
-q|bad.safetensors|1|;
|one.safetensors shards empty.safetensors|0|one.safetensors: ok;shards: ok;empty.safetensors: ok;
|one.safetensors bad.safetensors shards|1|one.safetensors: ok;shards: ok;
-q|bad.safetensors one.safetensors bad.safetensors|1|;
END
for source in $(real_checkpoints); do
    check "check $source" "$SAFETENSORFS" check "$source"
done

# Warnings leave the exit status alone, and -q does not hide them.
jq '.weight_map.extra = "model-00001-of-00003.safetensors"' "$T/shards/model.safetensors.index.json" >"$T/index"
cp "$T/index" "$T/shards/model.safetensors.index.json"
for quiet in "" -q; do
    run "$SAFETENSORFS" check $quiet "$T/shards"
    check_eq "check $quiet, a warning: exit status" 0 "$rc"
    check_match "check $quiet, a warning: stderr" "^safetensorfs: warning: .*extra" "$err"
done
run "$SAFETENSORFS" ls "$T/shards"
check_eq "ls, a warning: exit status" 0 "$rc"

# More shards than the soft limit of descriptors: that one is for programs that use select(2).
make_checkpoint "$T/many" --shards 60 --tensors 60 --tensor-bytes 4
for verb in ls "check -q" recover discard; do
    run bash -c "ulimit -Sn 40; exec \"\$1\" $verb \"\$2\"" - "$SAFETENSORFS" "$T/many"
    check_eq "$verb of many shards ($err)" 0 "$rc"
done

# umount ends a foreground mount too, and its exit status says that the daemon is gone.
mount_start "$T/one.safetensors" "$T/mnt"
pid=${daemon_pid[$T/mnt]}
run "$SAFETENSORFS" umount "$T/mnt/"
check_eq "umount: exit status ($err)" 0 "$rc"
check "umount: unmounted" is_unmounted "$T/mnt"
check "umount: the daemon is gone" is_gone "$pid"
mount_ended "$T/mnt"
check_refused "umount again" "$T/mnt.*not" "$SAFETENSORFS" umount "$T/mnt"

# A mount that is in use stays, and the line says so.
mount_start "$T/one.safetensors" "$T/mnt"
# Mountpoints are completed as they are typed.
while read -r typed want; do
    check_eq "completion of $typed" "${want/T/$T}" "$(
        cd "$T" && . "$ROOT/docs/safetensorfs.bash"
        compopt() { :; }
        COMPREPLY=()
        _safetensorfs_mounted "${typed/T/$T}"
        echo "${COMPREPLY[*]}"
    )"
done <<'END'
mn mnt
./m ./mnt
T/m T/mnt
sha shards
END
exec {open}<"$T/mnt/scalar"
check_refused "umount while a file is open" "$T/mnt.*in use" "$SAFETENSORFS" umount "$T/mnt"
check "it is still mounted" cat "$T/mnt/scalar"
exec {open}<&-
check "umount afterwards" "$SAFETENSORFS" umount "$T/mnt"
mount_ended "$T/mnt"
finish
