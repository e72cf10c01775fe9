#!/usr/bin/env bash
# Tensors are added, deleted, renamed, swapped and replaced; the file is rebuilt as the reference writes it.
. "$(dirname "$0")/../lib_edit.sh"

fresh() {
    make_checkpoint "$T/a.safetensors" --metadata z=1 --metadata a=2 --order random --odd --tensor 'a:F32:[2,3]' \
        --tensor 'b:BF16:[5]' --tensor 'c:I64:[]' --tensor 'd:U8:[70000]' --tensor 'e:F8_E4M3:[3,0]' \
        --tensor 'f:F4:[4,3]' --tensor 'é"\:F16:[2]'
    expect committed "$T/a.safetensors" >"$T/before"
    edit_start "$T/a.safetensors" "$T/mnt"
}

# names: those that the mount lists, without sidecars.
names() {
    ls "$T/mnt" | grep -v '\.json$' | tr '\n' ' '
}

# line OF FILE NAME...: the tensors' lines of a state, without their names.
bytes_of() {
    local file=$1 name
    shift
    for name; do
        grep -F "\"$name\" " "$file" | cut -d' ' -f2-
    done
}

# done_with WHAT [OPTION]: commit, compare, unmount.
done_with() {
    commits "$1" "$T/mnt" "$T/a.safetensors" ${2:+"$2"}
    canonical "$1" "$T/a.safetensors"
    mount_stop "$T/mnt"
    same_state "$1: after the unmount" "$T/a.safetensors" "$T/shown"
}

# Delete.
fresh
check "rm" rm "$T/mnt/b"
check "rm -f" rm -f "$T/mnt/c" "$T/mnt/c.json"
check_eq "rm: the names" 'a d e f é"\ ' "$(names)"
check_not "rm takes the sidecar along" test -e "$T/mnt/b.json"
check_errno "rm: it is gone" ENOENT cat "$T/mnt/b"
check_errno "rm: so are its views" ENOENT cat "$T/mnt/b.npy"
check_errno "rm: twice" ENOENT rm "$T/mnt/b"
check_eq "rm: status counts them" 2 "$(status_of "$T/mnt" .staged.tensors)"
done_with "rm"

fresh
check "rm -rf of everything" rm -rf "$T"/mnt/*
check_eq "rm -rf of everything: nothing is listed" "" "$(ls -A "$T/mnt")"
check_not "rm -rf of everything: the mountpoint stays" rm -rf "$T/mnt"
done_with "rm -rf of everything" --allow-empty
check_eq "rm -rf of everything: an empty checkpoint" '[]' "$(reader list "$T/a.safetensors")"

fresh
check "rm -r wants -f, since sidecars go along" test "$(rm -r "$T"/mnt/[a-c]* 2>&1 | grep -c 'No such file')" -ge 0
check_eq "rm -r: the names" 'd e f é"\ ' "$(names)"
done_with "rm -r"

# Add.
fresh
head -c 12 /dev/urandom >"$T/12"
check "cp of a new file" cp "$T/12" "$T/mnt/new"
check_eq "a new file is U8 of its length" '["U8",[12]]' "$(declared "$T/mnt/new")"
check "its sidecar says more" sidecar "$T/mnt/new" F32 '[3,1]'
check_eq "its sidecar says more: it does" '["F32",[3,1]]' "$(declared "$T/mnt/new")"
check "an empty one" touch "$T/mnt/empty"
check_eq "an empty one: U8 of nothing" '["U8",[0]]' "$(declared "$T/mnt/empty")"
check "a scalar" cp <(printf 1234) "$T/mnt/scalar"
check "a scalar: its sidecar" sidecar "$T/mnt/scalar" F32 '[]'
check "a name of many bytes" cp "$T/12" "$T/mnt/%2Fslash%25"
check_eq "a name of many bytes: decoded" '/slash%' "$(jq -r .name "$T/mnt/%2Fslash%25.json")"
check "a hole" truncate -s 100000 "$T/mnt/hole"
check "a large one" cp /dev/stdin "$T/mnt/large" < <(head -c 3000000 /dev/urandom)
check "mkdir" test ! -e "$T/mnt/none"
done_with "new tensors"
check_eq "new tensors: committed" '"/slash%" U8 [12] '"$(sha256sum <"$T/12" | head -c 16)" "$(grep slash "$T/shown")"

# Rename, with the sidecar; what was declared goes along.
fresh
check "mv" mv "$T/mnt/a" "$T/mnt/z.weight"
check_eq "mv: the names" 'b c d e f z.weight é"\ ' "$(names)"
check_eq "mv: the sidecar goes along" '["F32",[2,3]]' "$(declared "$T/mnt/z.weight")"
check_not "mv: no sidecar stays" test -e "$T/mnt/a.json"
check "mv of an edited one" poke "$T/mnt/d" 65530 'over the block'
check "mv of an edited one" sidecar "$T/mnt/d" F32 '[17500]'
check "mv of an edited one" mv "$T/mnt/d" "$T/mnt/D"
check_eq "mv of an edited one: declared as before" '["F32",[17500]]' "$(declared "$T/mnt/D")"
check_eq "mv of an edited one: bytes as before" 'over the block' "$(tail -c +65531 "$T/mnt/D" | head -c 14)"
check_eq "mv: the bytes" "$(bytes_of "$T/before" a b)" "$(expect shown "$T/mnt" >"$T/now"; bytes_of "$T/now" z.weight b)"
check "mv onto itself" "${rename[@]}" "$T/mnt/b" "$T/mnt/b"
done_with "mv"

fresh
check "swap: out" mv "$T/mnt/a" "$T/mnt/tmp"
check "swap: over" mv "$T/mnt/f" "$T/mnt/a"
check "swap: back" mv "$T/mnt/tmp" "$T/mnt/f"
done_with "swap"
check_eq "swap: each has the other's" "$(bytes_of "$T/before" a f)" "$(bytes_of "$T/shown" f a)"

fresh
check "swap by way of a scratch name" mv "$T/mnt/a" "$T/mnt/.tmp"
check "swap by way of a scratch name" mv "$T/mnt/f" "$T/mnt/a"
check "swap by way of a scratch name" mv "$T/mnt/.tmp" "$T/mnt/f"
done_with "swap by way of a scratch name"
check_eq "swap by way of a scratch name: done" "$(bytes_of "$T/before" a f)" "$(bytes_of "$T/shown" f a)"

fresh
check "mv onto an existing one" mv "$T/mnt/b" "$T/mnt/d"
check_eq "mv onto an existing one: the names" 'a c d e f é"\ ' "$(names)"
check_eq "mv onto an existing one: its dtype and shape" '["BF16",[5]]' "$(declared "$T/mnt/d")"
check_errno "mv -n onto an existing one" EEXIST "$PYTHON" -c 'import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.renameat2(-100, sys.argv[1].encode(), -100, sys.argv[2].encode(), 1):
    sys.exit(os.strerror(ctypes.get_errno()))' "$T/mnt/c" "$T/mnt/d"
done_with "mv onto an existing one"
check_eq "mv onto an existing one: done" "$(bytes_of "$T/before" b)" "$(bytes_of "$T/shown" d)"

# All back as it was: there is nothing to commit, and the file keeps its unusual header.
fresh
cp "$T/a.safetensors" "$T/copy"
check "there" mv "$T/mnt/a" "$T/mnt/other"
check "and back" mv "$T/mnt/other" "$T/mnt/a"
check "made" touch "$T/mnt/new"
check "and removed" rm "$T/mnt/new"
check "shaped" sidecar "$T/mnt/a" F32 '[6]'
check "and back" sidecar "$T/mnt/a" F32 '[2,3]'
check_eq "all back: nothing is staged" 0 "$(status_of "$T/mnt" .staged.tensors)"
mount_stop "$T/mnt"
check "all back: the file is as it was" cmp "$T/copy" "$T/a.safetensors"

# A deleted one made anew with the same bytes is the same.
fresh
cp "$T/mnt/d" "$T/d"
check "rm and cp" rm "$T/mnt/d"
check "rm and cp" cp "$T/d" "$T/mnt/d"
check_eq "rm and cp: dtype and shape are those of the committed one" '["U8",[70000]]' "$(declared "$T/mnt/d")"
mount_stop "$T/mnt"
same_state "rm and cp: as before" "$T/a.safetensors" "$T/before"
finish
