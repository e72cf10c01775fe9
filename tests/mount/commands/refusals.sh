#!/usr/bin/env bash
# Every broken file of the corpus is refused with one line and leaves nothing mounted; every valid one mounts.
. "$(dirname "$0")/../lib.sh"
corpus=$ROOT/tests/corpus
mkdir "$T/mnt"

count=0
for file in "$corpus"/invalid/*.safetensors; do
    name=${file##*/}
    check_refused "$name: check" "^safetensorfs: .*$name" "$SAFETENSORFS" check "$file"
    message=$err
    # A slow build, whose reader the unit tests have put before all of them, mounts some.
    if [ $((count % SLOW)) -eq 0 ]; then
        check_refused "$name: mount -f" "^safetensorfs: .*$name" "$SAFETENSORFS" "$file" "$T/mnt" -f
        check "$name: nothing is mounted" is_unmounted "$T/mnt"
        check_eq "$name: mount says the same" "$message" "$err"
    fi
    if [ $((count % 8)) -eq 0 ]; then
        check_refused "$name: daemonized" "$name" "$SAFETENSORFS" "$file" "$T/mnt"
        check_refused "$name: ls" "$name" "$SAFETENSORFS" ls "$file"
        check_refused "$name: ls --json" "$name" "$SAFETENSORFS" ls --json "$file"
    fi
    count=$((count + 1))
done
[ "$count" -ge 50 ] || fail "only $count invalid files in $corpus"

count=0
for file in "$corpus"/valid/*.safetensors; do
    name=${file##*/}
    run "$SAFETENSORFS" check "$file"
    check_eq "$name: check" "0 $file: ok" "$rc $out$err"
    check "$name: ls --json is what the reader finds" diff <(reader list "$file" | jq -S .) \
        <("$SAFETENSORFS" ls --json "$file" | jq -S .)
    mount_start "$file" "$T/mnt"
    check "$name: content" diff <(reader sha256 "$file" | jq -r '.[]' | sort) \
        <(find "$T/mnt" -type f ! -name '*.json' -exec sha256sum -z {} + | tr '\0' '\n' | cut -c1-64 | sort)
    check "$name: sidecars" diff <(reader list "$file" | jq -cS '.[]' | sort) \
        <(find "$T/mnt" -name '*.json' ! -name __metadata__.json -exec jq -cS . {} + | sort)
    mount_stop "$T/mnt"
    count=$((count + 1))
done
[ "$count" -ge 10 ] || fail "only $count valid files in $corpus"

# A control character in a name from a file does not reach the terminal.
printf '\x36\0\0\0\0\0\0\0%-54s' '{"a\n\u001b[31mb":{"dtype":"U8","shape":[1]}}' >"$T/bad.safetensors"
check_refused "control characters are escaped" 'data_offsets' "$SAFETENSORFS" check "$T/bad.safetensors"
check_not "no escape in the message" grep -q $'\x1b' "$T/err"
finish
