#!/usr/bin/env bash
# Two shards that are one file, by a hard link: in place an edit of one would be the other's too.
. "$(dirname "$0")/../lib_edit.sh"

mkdir "$T/src"
make_checkpoint "$T/src/p.safetensors" --tensor 'x:U8:[1000]'
ln "$T/src/p.safetensors" "$T/src/q.safetensors"
edit_start "$T/src" "$T/mnt" layout=files commit=inplace
poke "$T/mnt/p.safetensors/x" 0 first
poke "$T/mnt/q.safetensors/x" 0 other
check "commit" "$SAFETENSORFS" commit "$T/mnt"
check_eq "one shard" first "$(head -c 5 "$T/mnt/p.safetensors/x")"
check_eq "the other" other "$(head -c 5 "$T/mnt/q.safetensors/x")"
check_match "the log says why" "two shards are one file: writing a new file" "$(cat "${daemon_log[$T/mnt]}")"
mount_stop "$T/mnt"
check_eq "committed" first "$(reader cut "$T/src/p.safetensors" x | head -c 5)"
check_eq "committed, the other" other "$(reader cut "$T/src/q.safetensors" x | head -c 5)"
finish
