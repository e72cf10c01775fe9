#!/usr/bin/env bash
# Any name that JSON can express has a file name of its own; listings come in byte order.
. "$(dirname "$0")/../lib.sh"

long=$(printf 'é%.0s' {1..150}) # 300 bytes

# The tensor's name in JSON, and its file name.
cat >"$T/table" <<EOT
"plain.weight"|plain.weight
""|%
"."|%2E
".."|%2E.
".hidden"|%2Ehidden
"a/b"|a%2Fb
"/"|%2F
"../../etc/passwd"|%2E.%2F..%2Fetc%2Fpasswd
"100%"|100%25
"%41"|%2541
"%"|%25
"nul\u0000byte"|nul%00byte
"new\nline"|new%0Aline
"\u007f"|%7F
"tab\tx\u001f"|tab%09x%1F
"backup~"|backup%7E
"~x"|~x
"x.json"|x%2Ejson
"x"|x
"x.json.json"|x.json%2Ejson
"x.npy"|x%2Enpy
"x.f32.npy"|x.f32%2Enpy
".json"|%2Ejson
"__metadata__.json"|__metadata__%2Ejson
".safetensorfs"|%2Esafetensorfs
"status"|status
"quote\"back\\\\slash"|quote"back\\slash
"-rf"|-rf
" "| 
"*"|*
"é"|é
"e\u0301"|$(printf 'e\314\201')
"\ud83d\ude00"|😀
"$long"|$(printf 'é%.0s' {1..114})%~$(printf '"%s"' "$long" | "$PYTHON" "$ROOT/tests/oracles/names.py" encode | tail -c 18 | head -c 16)
EOT

cut -d'|' -f1 "$T/table" >"$T/names"
make_checkpoint "$T/hostile.safetensors" --names "$T/names" --tensor-bytes 40
mount_start "$T/hostile.safetensors" "$T/mnt"
while IFS='|' read -r name file; do
    check_eq "sidecar of $name has its name" "$(jq . <<<"$name")" "$(jq .name "$T/mnt/$file.json" 2>&1)"
    check_eq "size of $name" 40 "$(stat -c %s -- "$T/mnt/$file" 2>&1)"
done <"$T/table"
reader sha256 "$T/hostile.safetensors" | jq -r '.[]' | sort >"$T/want"
check "each tensor is there once" diff "$T/want" \
    <(find "$T/mnt" -type f ! -name '*.json' -exec sha256sum -z {} + | tr '\0' '\n' | cut -c1-64 | sort)
for unneeded in %70lain.weight a%2fb plain%2Eweight %78 x%2Ejson%2Ejson; do
    check_errno "$unneeded is no name that anything has" ENOENT stat "$T/mnt/$unneeded"
done
mount_stop "$T/mnt"

# Random names, against the independent implementation, flat and as a tree.
"$PYTHON" - >"$T/names" <<'PY'
import json, random
random.seed(1)
alphabet = ["a", "b", ".", ".", "~", "%", "/", "é", "日", "0", "json", ".npy", "\n", "\0", "%2E", "x" * 60]
names = {"".join(random.choices(alphabet, k=random.randrange(12))) for _ in range(1500)}
for name in names:
    print(json.dumps(name, ensure_ascii=False))
PY
make_checkpoint "$T/random.safetensors" --names "$T/names" --tensor-bytes 2
reader names "$T/random.safetensors" >"$T/names"
for layout in flat tree; do
    mount_start "$T/random.safetensors" "$T/mnt" -o "layout=$layout"
    "$PYTHON" "$ROOT/tests/oracles/names.py" encode --layout "$layout" <"$T/names" | jq -r . | sort >"$T/want"
    check "file names in layout=$layout" diff "$T/want" \
        <(cd "$T/mnt" && find . -type f ! -name '*.json' -printf '%P\n' | sort)
    check "sidecars in layout=$layout" diff <(sed 's/$/.json/' "$T/want" | sort) \
        <(cd "$T/mnt" && find . -type f -name '*.json' -printf '%P\n' | sort)
    find "$T/mnt" -name '*.json' -exec jq -c .name {} + | sort >"$T/got"
    check "names in the sidecars of layout=$layout" diff <(jq -c . "$T/names" | sort) "$T/got"
    # As the directory gives them; ls would sort.
    check "listings of layout=$layout are in byte order" "$PYTHON" - "$T/mnt" <<'PY'
import os, sys
for path, _, _ in os.walk(os.fsencode(sys.argv[1])):
    names = os.listdir(path)
    assert names == sorted(names), path
PY
    mount_stop "$T/mnt"
done
finish
