#!/usr/bin/env bash
# diff: what differs between two checkpoints, by tensor name.
. "$(dirname "$0")/../lib_edit.sh"

oracle() {
    "$PYTHON" "$ROOT/tests/mount/commands/diff.py" "$@"
}

# compared WHAT A B: diff and diff --json say what the independent calculation says. Sets out to the text.
compared() {
    local what=$1 status=0
    oracle expect "$2" "$3" >"$T/want" || die "$what: diff.py failed"
    [ "$(jq '.differences | length' "$T/want")" -eq 0 ] || status=1
    run "$SAFETENSORFS" diff --json "$2" "$3"
    check_eq "$what: --json: exit status ($err)" "$status" "$rc"
    cp "$T/out" "$T/got"
    check "$what: --json is valid" jq -e 'keys == ["a", "b", "differences", "same"]' "$T/got"
    check "$what: --json" oracle same "$T/got" "$T/want"
    run "$SAFETENSORFS" diff "$2" "$3"
    check_eq "$what: exit status, and nothing on stderr" "$status " "$rc $err"
    check_eq "$what: lines" "$(jq '.differences | length | if . > 0 then . + 1 else 0 end' "$T/want")" "$(wc -l <"$T/out")"
}

# trouble WHAT REGEX ARGUMENT...: exit status 2, one line on stderr, nothing on stdout.
trouble() {
    local what=$1 regex=$2
    shift 2
    run "$SAFETENSORFS" diff "$@"
    check_eq "$what: exit status ($err)" 2 "$rc"
    check_eq "$what: stdout" "" "$out"
    check_eq "$what: lines on stderr ($err)" 1 "$(wc -l <"$T/err")"
    check_match "$what: message" "^safetensorfs: $regex" "$err"
}

# ---- bytes ----

mkdir "$T/pairs"
oracle make "$T/pairs"
for pair in "$T/pairs"/*.a; do
    compared "${pair##*/}" "$pair" "${pair%.a}.b"
done
compared "the same file" "$T/pairs/dtypes.a" "$T/pairs/dtypes.a"
check_eq "the same file: how many" 88 "$(jq .same "$T/got")"
# The other order of a file's tensors is no difference.
make_checkpoint "$T/given.safetensors" --tensors 40 --dtype all --order given
make_checkpoint "$T/random.safetensors" --tensors 40 --dtype all --order random --odd
compared "another order" "$T/given.safetensors" "$T/random.safetensors"

# ---- names and declarations ----

a=$T/pairs/kinds.a b=$T/pairs/kinds.b
compared "kinds" "$a" "$b"
check_eq "kinds: the text" "\
dtype   declared   I32 [2] in A, F32 [2] in B
empty   declared   U8 [0,1] in A, U8 [1,0] in B
gone    only in A  U8 [5]
new     only in B  U8 [5]
scalar  bytes      1 of 1 elements, first 0 [], max abs 0.5, max rel 0.333333
shape   declared   U8 [2,3] in A, U8 [3,2] in B
sign    bytes      1 of 1 elements, first 0 [0], max abs 0
w       bytes      2 of 4 elements, first 2 [1,0], max abs 6, max rel 2, 1 not finite
8 of 10 tensors differ: 1 only in A, 1 only in B, 3 in dtype or shape, 3 in bytes" "$out"
# Metadata is no tensor.
make_checkpoint "$T/plain.safetensors" --tensors 3
make_checkpoint "$T/told.safetensors" --tensors 3 --metadata only=here
compared "metadata" "$T/plain.safetensors" "$T/told.safetensors"
check_eq "metadata: same" 3 "$(jq .same "$T/got")"
printf '\x02\0\0\0\0\0\0\0{}' >"$T/empty.safetensors"
compared "nothing at all" "$T/empty.safetensors" "$T/empty.safetensors"
compared "all of it is new" "$T/empty.safetensors" "$a"

# Names that would break a line are JSON strings, those that are long stand out of their column.
"$PYTHON" - >"$T/names" <<'PY'
import json
for name in ("", "plain", "ümläut", "new\nline", "nul\0byte", 'quo"te', "\x1b[31m", "a" * 300, " ", "tab\t"):
    print(json.dumps(name))
PY
for seed in 1 2; do
    make_checkpoint "$T/names$seed.safetensors" --names "$T/names" --tensor-bytes 64 --seed "$seed"
done
compared "names" "$T/names1.safetensors" "$T/names2.safetensors"
check_eq "names: one line each" 11 "$(wc -l <"$T/out")"
for name in '""  ' '"new\nline"  ' '"nul\u0000byte"  ' '"quo\"te"  ' 'ümläut  ' 'plain  '; do
    check "names: $name" grep -qF -e "$name" "$T/out"
done
check_not "names: no escapes" grep -q $'\x1b' "$T/out"

# ---- shards ----

make_checkpoint "$T/one.safetensors" --tensors 40 --tensor-bytes 50000 --dtype BF16,F32,U8
make_checkpoint "$T/shards" --shards 3 --tensors 40 --tensor-bytes 50000 --dtype BF16,F32,U8
mount_start "$T/shards" "$T/mnt"
cp "$T/mnt/.safetensorfs/model.safetensors" "$T/joined.safetensors"
mount_stop "$T/mnt"
compared "shards and one file" "$T/shards" "$T/joined.safetensors"
check_eq "shards and one file: same" 40 "$(jq .same "$T/got")"
compared "one file and the index" "$T/joined.safetensors" "$T/shards/model.safetensors.index.json"

# ---- mounts ----

mount_start "$T/shards" "$T/mnt" -o layout=tree
run "$SAFETENSORFS" diff "$T/mnt" "$T/joined.safetensors"
check_eq "a mount: the same" "0 " "$rc $out$err"
run "$SAFETENSORFS" diff "$T/shards" "$T/mnt/"
check_eq "a mount as B: the same" "0 " "$rc $out$err"
mount_stop "$T/mnt"
edit_start "$T/shards" "$T/mnt"
name=$(jq -r '.differences[0].name // "lm_head.weight"' "$T/want")
poke "$T/mnt/$name" 101 "staged"
printf 12345 >"$T/mnt/zz.new"
run "$SAFETENSORFS" diff --json "$T/shards" "$T/mnt"
check_eq "staged edits: exit status ($err)" 1 "$rc"
check_eq "staged edits" "[[\"$name\",\"bytes\"],[\"zz.new\",\"only_in_b\"]]" \
    "$(jq -c '.differences | map([.name, .kind])' <<<"$out")"
check_eq "staged edits: paths are as given" "[\"$T/shards\",\"$T/mnt\"]" "$(jq -c '[.a, .b]' <<<"$out")"
cp "$T/mnt/.safetensorfs/model.safetensors" "$T/staged.safetensors"
cp "$T/out" "$T/got"
oracle expect "$T/shards" "$T/staged.safetensors" | jq --arg b "$T/mnt" '.b = $b' >"$T/want"
check "staged edits: by how much" oracle same "$T/got" "$T/want"
# What a program has stored through a mapping and not synced is an edit as well.
coproc "$PYTHON" -c '
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
mapping = mmap.mmap(fd, 0)
mapping[0] ^= 1
print("stored", flush=True)
sys.stdin.read()' "$T/mnt/zz.new"
read -r -u "${COPROC[0]}"
run "$SAFETENSORFS" diff "$T/mnt" "$T/staged.safetensors"
check_eq "stored through a mapping ($err)" 1 "$rc"
check_match "stored through a mapping" "zz.new .*1 of 5 elements" "$out"
eval "exec ${COPROC[1]}>&-"
wait "$COPROC_PID"
truncate -s 3 "$T/mnt/$name"
trouble "staged edits that fit no shape" "$T/mnt: .*does not fit its shape" "$T/mnt" "$T/shards"
rm "$T/mnt/$name"
mount_stop "$T/mnt"
mkdir "$T/twice"
cp "$a" "$T/twice/1.safetensors"
cp "$a" "$T/twice/2.safetensors"
mount_start "$T/twice" "$T/mnt" -o layout=files
trouble "one name in two shards" "$T/mnt: .*a name is in two shards" "$T/mnt" "$a"
mount_stop "$T/mnt"
# A directory is no mount because it looks like one.
mkdir -p "$T/shards/.safetensorfs"
cp "$a" "$T/shards/.safetensorfs/model.safetensors"
echo '{}' >"$T/shards/.safetensorfs/status"
compared "a directory that looks like a mount" "$T/shards" "$T/staged.safetensors"
rm -r "$T/shards/.safetensorfs"

# ---- trouble ----

trouble "no such file" "$T/none: No such file" "$T/none" "$a"
trouble "no such file, B" "$T/none: No such file" "$a" "$T/none"
echo broken >"$T/bad.safetensors"
trouble "a broken file" "$T/bad.safetensors: " "$a" "$T/bad.safetensors"
trouble "nothing" "A: missing"
trouble "one" "B: missing" "$a"
trouble "three" "third: " "$a" "$b" third
trouble "an option that is none" "--jason: " --jason "$a" "$b"
if [ -c /dev/full ]; then
    run bash -c '"$1" diff "$2" "$3" >/dev/full' - "$SAFETENSORFS" "$a" "$b"
    check_eq "a full disk ($err)" 2 "$rc"
fi
# A source that lost its end below a mount: what is left to read of it fails.
make_checkpoint "$T/cut.safetensors" --tensor 'a:U8:[3000000]' --tensor 'b:U8:[3000000]'
cp "$T/cut.safetensors" "$T/whole.safetensors"
mount_start "$T/cut.safetensors" "$T/mnt"
truncate -s 4000000 "$T/cut.safetensors"
trouble "cut, as A" "$T/mnt: .*cannot read at byte .*Input/output error" "$T/mnt" "$T/whole.safetensors"
trouble "cut, as B" "$T/mnt: .*cannot read at byte .*Input/output error" "$T/whole.safetensors" "$T/mnt"
mount_stop "$T/mnt"
# And one that is cut while it is read.
cp "$T/whole.safetensors" "$T/cut.safetensors"
"$PYTHON" - "$SAFETENSORFS" "$T/cut.safetensors" "$T/whole.safetensors" <<'PY' || fail "cut while it is read"
import os, subprocess, sys, time

# At some moment, by and by later: before the header is read it is a broken file, after the end nothing
# has happened. In between that must be said, and no signal be died of.
binary, path, whole = sys.argv[1:]
content = open(whole, "rb").read()
for i in range(40):
    with open(path, "wb") as file:
        file.write(content)
    process = subprocess.Popen([binary, "diff", path, whole], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(i * 0.0002)
    os.truncate(path, 5000)
    out, err = process.communicate()
    if process.returncode not in (0, 2) or out or (process.returncode == 2) != err.startswith(b"safetensorfs: "):
        sys.exit(f"{process.returncode} {out} {err}")
PY
checks=$((checks + 1))
for source in $(real_checkpoints); do
    compared "$source" "$source" "$source"
done
finish
