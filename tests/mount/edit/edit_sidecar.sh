#!/usr/bin/env bash
# Sidecars: they change dtype and shape, are validated when closed, and may go away for a while.
. "$(dirname "$0")/../lib_edit.sh"

make_checkpoint "$T/a.safetensors" --tensor 'a:F32:[2,3]' --tensor 'b:U8:[24]' --tensor 'c:F4:[6]' \
    --tensor 'n:F32:[2]'
edit_start "$T/a.safetensors" "$T/mnt"
cd "$T/mnt"

# What fits the bytes is accepted, and shown at once in sidecar, attributes and views.
while read -r dtype shape; do
    check "$dtype $shape" sidecar b "$dtype" "$shape"
    check_eq "$dtype $shape: the sidecar" "[\"$dtype\",$shape]" "$(declared b)"
    check_eq "$dtype $shape: no problem" null "$(jq .problem b.json)"
    check_eq "$dtype $shape: attributes" "$dtype $shape" \
        "$("$PYTHON" -c 'import os
print(*(os.getxattr("b", f"user.safetensors.{k}").decode() for k in ("dtype", "shape")))')"
done <<'END'
F32 [2,3]
F32 [6,1,1]
I64 [3]
F4 [48]
F6_E2M3 [4,8]
C64 [3]
BOOL [24]
F8_E8M0 [2,2,2,3]
U8 [24]
END
check_eq "as committed: nothing is staged" 0 "$(status_of "$T/mnt" .staged.tensors)"

# Valid, but not for these bytes: accepted, a problem until either changes.
while read -r dtype shape nbytes; do
    check "$dtype $shape" sidecar b "$dtype" "$shape"
    check_match "$dtype $shape: the problem" "$nbytes" "$(jq -r .problem b.json)"
    check_match "$dtype $shape: the bytes that there are" 24 "$(jq -r .problem b.json)"
    check_eq "$dtype $shape: status" 1 "$(status_of "$T/mnt" '.problems | length')"
done <<'END'
F32 [7] 28
F32 [] 4
U8 [0] 0
U8 [1000000000000] 1000000000000
END
truncate -s 28 b
check "the bytes follow" sidecar b F32 '[7]'
check_eq "the bytes follow: no problem" null "$(jq .problem b.json)"
truncate -s 24 b
sidecar b U8 '[24]'

# Bad content is EINVAL at close, and the old stays. So it is when a file is renamed onto it.
cp b.json "$T/good"
bad=0
while IFS= read -r text; do
    bad=$((bad + 1))
    printf '%b' "$text" >"$T/bad"
    check_errno "EINVAL at close: $text" EINVAL "$PYTHON" -c 'import os, sys
fd = os.open("b.json", os.O_WRONLY | os.O_TRUNC)
os.write(fd, open(sys.argv[1], "rb").read() or b" ")
os.close(fd)' "$T/bad"
    check "old content stays: $text" cmp "$T/good" b.json
    check "written elsewhere: $text" cp "$T/bad" .new
    check_errno "EINVAL at rename: $text" EINVAL "${rename[@]}" .new b.json
    check "old content stays after the rename: $text" cmp "$T/good" b.json
    check "the file that could not be renamed is there still: $text" cmp "$T/bad" .new
    rm .new
done <<'END'
{
{}
[]
null
"x"
{"dtype":"F32"}
{"shape":[6]}
{"dtype":"F33","shape":[6]}
{"dtype":"f32","shape":[6]}
{"dtype":7,"shape":[6]}
{"dtype":null,"shape":[6]}
{"dtype":"F32","shape":6}
{"dtype":"F32","shape":"[6]"}
{"dtype":"F32","shape":[6.0]}
{"dtype":"F32","shape":[-6]}
{"dtype":"F32","shape":[06]}
{"dtype":"F32","shape":[6],}
{"dtype":"F32","shape":[6]} x
{"dtype":"F32","shape":[18446744073709551616]}
{"dtype":"F32","shape":[4294967296,4294967296]}
{"dtype":"F4","shape":[3]}
{"dtype":"F32","dtype":"F32","shape":[6]}
{"dtype":"F32","shape":[6],"name":"\xff"}
\x00
END
check_eq "EINVAL: no case was lost" 24 "$bad"

# Whatever else is in it is ignored, white space too.
check "other fields are ignored" cp <(echo ' { "name": "other", "nbytes": 1, "offset": -1, "x": [{}],
 "shape": [ 4, 6 ], "dtype" : "I8", "staged": 7, "data_offsets": null } ') b.json
check_eq "other fields are ignored: dtype and shape" '["I8",[4,6]]' "$(declared b)"
check_eq "other fields are ignored: the name" b "$(jq -r .name b.json)"

# Removed or renamed away, it is hidden until it is written again; dtype and shape stay.
check "rm" rm b.json
check_errno "rm: hidden" ENOENT cat b.json
check_eq "rm: hidden in the listing" 0 "$(ls | grep -c '^b.json$')"
check "rm: the tensor stays" test -e b
check_eq "rm: dtype and shape stay" I8 "$("$PYTHON" -c 'import os; print(os.getxattr("b", "user.safetensors.dtype").decode())')"
check "rm: written again" cp "$T/good" b.json
check_eq "rm: written again" '["U8",[24]]' "$(declared b)"
sidecar b I8 '[4,6]'
check "renamed away, to a backup" mv b.json b.json~
check_errno "renamed away: hidden" ENOENT cat b.json
check_eq "renamed away: the backup has the text" I8 "$(jq -r .dtype b.json~)"
check "renamed back" mv b.json~ b.json
check_eq "renamed back" '["I8",[4,6]]' "$(declared b)"
check "renamed onto another's" mv b.json n.json
check_eq "renamed onto another's: it declares that" '["I8",[4,6]]' "$(declared n)"
check_errno "renamed onto another's: hidden" ENOENT cat b.json
sidecar n F32 '[2]'

# A new one makes a tensor of zeros.
check "a new sidecar" sidecar made BF16 '[3,5]'
check_eq "a new sidecar: a tensor" '["BF16",[3,5]]' "$(declared made)"
check "a new sidecar: of zeros" cmp <(head -c 30 /dev/zero) made
check "a new sidecar of a huge one" sidecar huge U8 '[10000000000]'
check_eq "a new sidecar of a huge one: its size" 10000000000 "$(stat -c %s huge)"
rm huge
check_errno "a new sidecar of no sense" EINVAL cp <(echo '{') none.json
check_not "a new sidecar of no sense: no tensor" test -e none
check_not "a new sidecar of no sense: no sidecar" test -e none.json
check "a new one by rename" cp <(echo '{"dtype":"F16","shape":[2]}') .s
check "a new one by rename" mv .s renamed.json
check "a new one by rename: of zeros" cmp <(head -c 4 /dev/zero) renamed

# Several flushes of one open file: a shell's redirection closes a copy of the descriptor first.
check "two parts" bash -c '{ printf "{\"dtype\":\"I16\","; printf "\"shape\":[12]}"; } >b.json'
check_eq "two parts: both" '["I16",[12]]' "$(declared b)"
check "sub-processes write it" bash -c '{ /bin/echo "{"; /bin/echo "\"dtype\":\"I16\","; /bin/echo "\"shape\":[3,4]}"; } >b.json'
check_eq "sub-processes write it: all" '["I16",[3,4]]' "$(declared b)"
check "in place, by bytes" "$PYTHON" -c 'import os
fd = os.open("b.json", os.O_RDWR)
text = os.read(fd, 4096).replace(b"I16", b"U16")
os.lseek(fd, 0, 0)
os.write(fd, text)
os.ftruncate(fd, len(text))
os.fsync(fd)
assert os.pread(fd, 4096, 0) == text
os.close(fd)'
check_eq "in place, by bytes" '["U16",[3,4]]' "$(declared b)"

commits "sidecars" "$T/mnt" "$T/a.safetensors"
check "a hidden sidecar is back after a commit" test -e b.json
canonical "sidecars" "$T/a.safetensors"
check_eq "committed" '"b" U16 [3,4]' "$(grep '^"b"' "$T/shown" | cut -d' ' -f1-3)"

# The tensor of a hidden sidecar is deleted with rm -rf, as any.
rm b.json
check "rm -r of a tensor with a hidden sidecar" rm b
check_not "rm of a tensor with a hidden sidecar: gone" test -e b.json
cd "$T"
mount_stop "$T/mnt"
check_eq "at last" '"a" "c" "made" "n" "renamed"' "$(reader names "$T/a.safetensors" | tr '\n' ' ' | sed 's/ $//')"
finish
