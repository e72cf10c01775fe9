#!/usr/bin/env bash
# ls: columns that line up and split at white space, sizes for people, natural order, globs.
. "$(dirname "$0")/../lib.sh"
export LC_ALL=C.UTF-8 # widths are counted in characters

# tensors FILE NAME BYTES...: a checkpoint of U8 tensors; the names are JSON without its quotes.
tensors() {
    "$PYTHON" - "$@" <<'PY' || die "making $1 failed"
import json, sys
header, at = {}, 0
for name, size in zip(sys.argv[2::2], map(int, sys.argv[3::2])):
    header[json.loads(f'"{name}"')] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
    at += size
text = json.dumps(header).encode()
with open(sys.argv[1], "wb") as f:
    f.write(len(text).to_bytes(8, "little") + text)
    f.truncate(8 + len(text) + at)
PY
}

# ls_is WHAT ARGUMENT...: what ls prints is what stdin says.
ls_is() {
    local what=$1
    shift
    run "$SAFETENSORFS" ls "$@"
    check_eq "$what: exit status and stderr" "0 " "$rc $err"
    check_eq "$what: stdout" "$(cat)" "$out"
}

# names_are WHAT NAMES ARGUMENT...: the names that ls prints, in its order; others are listed by --json.
names_are() {
    local what=$1 want=$2
    shift 2
    run "$SAFETENSORFS" ls "$@"
    check_eq "$what" "$want" "$(sed '$d' <<<"$out" | awk '{ print $1 }' | tr '\n' ' ' | sed 's/ $//')"
    check_eq "$what, --json" "$want" "$("$SAFETENSORFS" ls --json "$@" 2>/dev/null | jq -r '.[].name' | tr '\n' ' ' | sed 's/ $//')"
}

# ---- words ----

make_checkpoint "$T/one.safetensors" --tensors 22 --dtype all --tensor 'scalar:F32:[]'
make_checkpoint "$T/shards" --shards 3 --tensors 20 --tensor-bytes 100
printf '\x02\0\0\0\0\0\0\0{}' >"$T/empty.safetensors"
for source in "$T/one.safetensors" "$T/shards" "$T/shards/model.safetensors.index.json" "$T/empty.safetensors"; do
    reader list "$source" >"$T/list"
    run "$SAFETENSORFS" ls "$source"
    check_eq "ls $source: exit status and stderr" "0 " "$rc $err"
    check_eq "ls $source: words" "$(jq -r '.[] | [.name, .dtype, (.shape | tojson), .nbytes, .file] | join(" ")' "$T/list")" \
        "$(sed '$d' <<<"$out" | tr -s ' ')"
    check_eq "ls $source: totals" "$(jq -r '"\(length) tensors, \(map(.nbytes) | add // 0) bytes"' "$T/list")" "${out##*$'\n'}"
    check_eq "ls $source: no trailing blanks, no tabs" "" "$(grep -nE ' $|'$'\t' <<<"$out")"
    check "ls --json $source" diff <(jq -S . "$T/list") <("$SAFETENSORFS" ls --json "$source" | jq -S .)
done

make_checkpoint "$T/few.safetensors" --tensor 'b:F32:[10,20]' --tensor 'é:U8:[1]' --tensor 'longer.name:BF16:[]'
ls_is "columns" "$T/few.safetensors" <<'END'
b            F32   [10,20]  800  few.safetensors
longer.name  BF16  []         2  few.safetensors
é            U8    [1]        1  few.safetensors
3 tensors, 803 bytes
END
tensors "$T/single.safetensors" x 1
ls_is "one of each" "$T/single.safetensors" <<'END'
x  U8  [1]  1  single.safetensors
1 tensor, 1 byte
END
ls_is "nothing" "$T/empty.safetensors" <<<"0 tensors, 0 bytes"
ls_is "nothing, -h" -h "$T/empty.safetensors" <<<"0 tensors, 0 bytes"

# What would break a word or a terminal is escaped, so that five words are five words; the order is that of bytes.
tensors "$T/odd.safetensors" '' 0 'a b' 1 'tab\t' 1 'nul\u0000' 1 'new\nline' 1 'quote\"' 1 'back\\slash' 1 'del\u007f' 1 \
    'csi\u009b' 1 'nbsp\u00a0' 1 'wide\u3000' 1 'line\u2028' 1 '漢字' 1 '😀' 1 '\u001b[31m' 1
cp "$T/odd.safetensors" "$T/a file.safetensors"
"$SAFETENSORFS" ls "$T/a file.safetensors" | sed '$d' >"$T/lines"
check_eq "odd names: words" 15 "$(awk 'NF == 5' "$T/lines" | wc -l)"
check_eq "odd names: Python agrees on what white space is" 15 \
    "$("$PYTHON" -c 'import sys; print(sum(len(line.split()) == 5 for line in open(sys.argv[1], encoding="utf-8", newline="\n")))' "$T/lines")"
check_eq "odd names: as they are listed" "$(
    cat <<'END'
""
"\u001b[31m"
"a\u0020b"
back\slash
"csi\u009b"
"del\u007f"
"line\u2028"
"nbsp\u00a0"
"new\nline"
"nul\u0000"
"quote\""
"tab\t"
"wide\u3000"
漢字
😀
END
)" "$(awk '{ print $1 }' "$T/lines")"
check_eq "odd names: JSON gives them back" "$("$SAFETENSORFS" ls --json "$T/odd.safetensors" | jq -c '.[].name')" \
    "$(awk '{ print $1 }' "$T/lines" | jq -cR 'if startswith("\"") then fromjson else . end')"
check_eq "odd names: the file" '"a\u0020file.safetensors"' "$(awk 'NR == 1 { print $5 }' "$T/lines")"
check_eq "odd names: the columns line up" 1 \
    "$("$PYTHON" -c 'import sys; print(len({line.index(" U8 ") for line in open(sys.argv[1], encoding="utf-8", newline="\n")}))' "$T/lines")"

# One long name does not push the columns away from all the others.
long=$(printf 'x%.0s' {1..101})
fits=$(printf 'y%.0s' {1..100})
tensors "$T/long.safetensors" a 1 "$long" 22
ls_is "a long name" "$T/long.safetensors" <<END
a  U8  [1]    1  long.safetensors
$long  U8  [22]  22  long.safetensors
2 tensors, 23 bytes
END
tensors "$T/fits.safetensors" a 1 "$fits" 22
ls_is "a name that fits" "$T/fits.safetensors" <<END
a$(printf '%99s' '')  U8  [1]    1  fits.safetensors
$fits  U8  [22]  22  fits.safetensors
2 tensors, 23 bytes
END

# ---- options ----

sizes=(0 1 512 1023 1024 1025 1536 10188 10189 10240 10241 102400 1047552 1047553 1048576 1048577 10485760 16777216 2469606195 1099511627776)
"$PYTHON" - "$T/sizes.safetensors" "${sizes[@]}" <<'PY'
import json, sys
header, at = {}, 0
for i, size in enumerate(map(int, sys.argv[2:])):
    header[f"t{i:02}"] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
    at += size
text = json.dumps(header).encode()
with open(sys.argv[1], "wb") as f:
    f.write(len(text).to_bytes(8, "little") + text)
    f.truncate(8 + len(text) + at)
PY
run "$SAFETENSORFS" ls -h "$T/sizes.safetensors"
check_eq "-h: as coreutils print them" "$(printf '%s\n' "${sizes[@]}" | numfmt --to=iec)" "$(sed '$d' <<<"$out" | awk '{ print $4 }')"
check_eq "-h: totals" "20 tensors, 1.1T" "${out##*$'\n'}"
ls_is "-h: right-aligned" -h "$T/sizes.safetensors" 't0[25]' t06 <<'END'
t02  U8  [512]    512  sizes.safetensors
t05  U8  [1025]  1.1K  sizes.safetensors
t06  U8  [1536]  1.5K  sizes.safetensors
3 tensors, 3.1K
END
run "$SAFETENSORFS" -h
check_match "-h as the first word is help" '^usage: ' "$out"

tensors "$T/layers.safetensors" layers.10.b 1 layers.2.b 1 layers.10.a 1 layers.1.a 1 'x[0].w' 1 'mlp/up.w' 1
names_are "byte order" "layers.1.a layers.10.a layers.10.b layers.2.b mlp/up.w x[0].w" "$T/layers.safetensors"
names_are "--sort" "layers.1.a layers.2.b layers.10.a layers.10.b mlp/up.w x[0].w" --sort "$T/layers.safetensors"
names_are "--sort behind the source" "layers.2.b layers.10.a" "$T/layers.safetensors" 'layers.10.a' '*2*' --sort
tensors "$T/nuls.safetensors" 'x10\u0000' 1 'x2' 1 'x9' 1 'x10' 1 'x10\u0000a' 1
check_eq "--sort: names with NULs" '["x2","x9","x10","x10\u0000","x10\u0000a"]' \
    "$("$SAFETENSORFS" ls --json --sort "$T/nuls.safetensors" | jq -c 'map(.name)')"

# ---- globs ----

# what | names expected | globs
while IFS='|' read -r what want globs; do
    read -r -a words <<<"$globs"
    names_are "$what" "$want" "$T/layers.safetensors" "${words[@]}"
    check_eq "$what: exit status ($err)" 0 "$rc"
done <<'END'
a star matches dots|layers.1.a layers.10.a|layers.*.a
a star matches slashes|layers.2.b mlp/up.w x[0].w|*p*w x* *2*
a question mark|layers.1.a layers.2.b|layers.?.*
a set|layers.1.a layers.10.a layers.10.b|*[!2-9].[ab]
several match one|layers.1.a layers.2.b|layers.[12].* layers.2.b *.1.a
a name as it is, whatever it means as a pattern|x[0].w|x[0].w
the same, escaped|x[0].w|x\[0\].w
END
tensors "$T/characters.safetensors" 'é' 1 '漢字' 1 'a\u0000b' 1 'a\u0000' 1
for locale in C C.UTF-8; do
    names_of() {
        LC_ALL=$locale "$SAFETENSORFS" ls --json "$T/characters.safetensors" "$@" | jq -c 'map(.name)'
    }
    check_eq "$locale: a question mark is a character" '["é"]' "$(names_of '?')"
    check_eq "$locale: a set of characters" '["漢字"]' "$(names_of '[漢-龍]*')"
    check_eq "$locale: a question mark is a NUL too" '["a\u0000"]' "$(names_of '[!é漢]?')"
    check_eq "$locale: a star reaches beyond a NUL" '["a\u0000b"]' "$(names_of '*b')"
done

# What matches nothing is named, and the rest is listed all the same.
run "$SAFETENSORFS" ls "$T/layers.safetensors" none '*.a' '*none*'
check_eq "two match nothing: exit status" 1 "$rc"
check_eq "two match nothing: what does is listed" "layers.1.a layers.10.a 2" "$(awk '{ print $1 }' <<<"$out" | tr '\n' ' ' | sed 's/ $//')"
check_eq "two match nothing: stderr" "$(printf "safetensorfs: %s: matches no tensor's name; the names are listed by: safetensorfs ls $T/layers.safetensors\n" none '*none*')" "$err"
check_refused "nothing matches" "none: matches no tensor's name; the names are listed by: safetensorfs ls" \
    "$SAFETENSORFS" ls "$T/layers.safetensors" none
check_refused "a second source" "one source, then names" "$SAFETENSORFS" ls "$T/layers.safetensors" "$T/few.safetensors"
run "$SAFETENSORFS" ls --json "$T/layers.safetensors" none
check_eq "nothing matches, --json" "1 []" "$rc $out"

# A hostile name takes neither the stack nor for ever: 1 MB, on a stack of 256 KB.
"$PYTHON" - "$T/huge.safetensors" <<'PY'
import json, sys
text = json.dumps({name * 2**19: {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for name in ("aa", "é", "\0a")}).encode()
open(sys.argv[1], "wb").write(len(text).to_bytes(8, "little") + text)
PY
for glob in '*' '*a*a*a*a*a*a*a*a*b' '*?a*?a*?b' '*[!b]*[!b]*[!b]b' '*[é-龍]*[a-z]b' '*é*é*é*b'; do
    run bash -c 'ulimit -s 256; exec "$@"' - "$SAFETENSORFS" ls "$T/huge.safetensors" "$glob"
    check_eq "1 MB, $glob: exit status" "$([ "$glob" = '*' ] && echo 0 || echo 1)" "$rc"
done

# ---- failures ----

echo broken >"$T/bad.safetensors"
check_refused "a broken file" 'bad.safetensors' "$SAFETENSORFS" ls "$T/bad.safetensors"
check_refused "no file" 'none.*No such file' "$SAFETENSORFS" ls "$T/none"
if [ -c /dev/full ]; then
    for option in --sort -h --json; do
        run bash -c '"$1" ls $3 "$2" >/dev/full' - "$SAFETENSORFS" "$T/one.safetensors" "$option"
        check_eq "to a full disk, $option" "1 safetensorfs: stdout: cannot write the list" "$rc $err"
    done
fi
finish
