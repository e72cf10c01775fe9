#!/usr/bin/env bash
# Programs as people use them, on tensors, sidecars and metadata: dtype and shape are kept, nothing is left behind.
. "$(dirname "$0")/../lib_edit.sh"

export TMPDIR=$T # for what the programs make
make_checkpoint "$T/a.safetensors" --tensor 'x:F32:[6,5]' --tensor 'y:BF16:[3]' --metadata format=pt
# Text without a newline at its end, so that sed and vim have something to do.
edit_start "$T/a.safetensors" "$T/mnt"
head -c 120 < <(yes 'weight0') | tr '\n' ' ' >"$T/text"
cp "$T/text" "$T/mnt/x"
mount_stop "$T/mnt"
cp "$T/a.safetensors" "$T/before"
sed 's/weight0/tensor1/' "$T/text" >"$T/new"
truncate -s 120 "$T/new"
# To rsync a file of the same size and the same second is the same file.
touch -d '2001-02-03 04:05:06.7' "$T/new"
expect committed "$T/before" >"$T/state.before"

# have COMMAND: whether the programs that it uses are here; not all of them are everywhere.
have() {
    local program
    for program in perl rsync sponge vim; do
        if [[ " $1" == *" $program "* ]] && ! type -P "$program" >/dev/null; then
            echo "not here: $program"
            return 1
        fi
    done
}

# fresh: the mount, as it is at first; the shell is in it.
fresh() {
    cp "$T/before" "$T/a.safetensors"
    edit_start "$T/a.safetensors" "$T/mnt"
    cd "$T/mnt" || exit
    ls -A >"$T/list"
}

# over: nothing else than before is listed, and the commit is done.
over() {
    check_eq "$1: no other files" "$(cat "$T/list")" "$(ls -A | grep -v '~$')"
    check_eq "$1: no problem" '[]' "$(status_of "$T/mnt" .problems)"
    cd "$T" || exit
    mount_stop "$T/mnt"
}

vim_ex() {
    vim -es -N -u NONE -i NONE -c 'set directory=. nofixeol' "$@" </dev/null
}

# Ways to give tensor x the bytes of $T/new: a name for the report, and what a user types.
while IFS=: read -r program command <&3; do
    have "$command" || continue
    fresh
    check "x by $program" bash -c "new=$T/new; $command"
    check "x by $program: bytes" cmp "$T/new" x
    check_eq "x by $program: dtype and shape are kept" '["F32",[6,5]]' "$(declared x)"
    over "x by $program"
    cmp -l "$T/before" "$T/a.safetensors" >"$T/differs"
    check_eq "x by $program: only those bytes differ" "$(cmp -l "$T/text" "$T/new" | wc -l)" "$(wc -l <"$T/differs")"
done 3<<'END'
cp: cp "$new" x
cp-f: cp -f "$new" x
cp--remove: cp --remove-destination "$new" x
cp-b: cp -b "$new" x
mv: cp "$new" "$new.1" && mv "$new.1" x
install: install -m 644 "$new" x
install-C: install -C -b "$new" x
sed-i: sed -i s/weight0/tensor1/ x
sed-ibackup: sed -i~ s/weight0/tensor1/ x
perl-i: perl -pi -e s/weight0/tensor1/ x
rsync: rsync -a "$new" x
rsync-whole: rsync -aW --checksum "$new" x
rsync--inplace: rsync -a --inplace --no-whole-file "$new" x
dd: dd if="$new" of=x status=none
dd-notrunc: dd if="$new" of=x bs=7 conv=notrunc,fsync status=none
cat: cat "$new" >x
tee: tee x <"$new" >/dev/null
truncate: truncate -s 0 x && cat "$new" >>x
sponge: sed s/weight0/tensor1/ x | sponge x
tar: tar -C "$(dirname "$new")" --transform=s/new/x/ -cf - new | tar xf -
tar-over: tar -C "$(dirname "$new")" --transform=s/new/x/ -cf - new | tar xf - --overwrite
python: /usr/bin/env python3 -c 'import sys; open("x", "wb").write(open(sys.argv[1], "rb").read())' "$new"
atomic: cp "$new" .x.tmp && sync .x.tmp && mv .x.tmp x
tmp-and-mv: cp "$new" x.tmp && mv x.tmp x
backup: mv x x~ && cp "$new" x
rm-and-cp: rm x && cp "$new" x
END

# Editors, with their swap files, the two ways to save and a backup.
if have 'vim '; then
    for options in 'backupcopy=no nobackup' 'backupcopy=yes nobackup' 'backupcopy=no backup' 'backupcopy=yes backup' 'backupcopy=auto writebackup'; do
        fresh
        check "vim, $options" vim_ex -b -c "set $options" -c 's/weight0/tensor1/' -c wq x
        check "vim, $options: bytes" cmp "$T/new" x
        check_eq "vim, $options: dtype and shape are kept" '["F32",[6,5]]' "$(declared x)"
        check "vim, $options: a sidecar" vim_ex -c "set $options" -c '%s/F32/I32/' -c wq x.json
        check_eq "vim, $options: a sidecar: it counts" '["I32",[6,5]]' "$(declared x)"
        check "vim, $options: metadata" vim_ex -c "set $options" -c '%s/pt/tf/' -c wq __metadata__.json
        check_eq "vim, $options: metadata: it counts" tf "$(jq -r .format __metadata__.json)"
        check_not "vim, $options: a bad sidecar" vim_ex -c "set $options" -c '%s/shape/shade/' -c w -c cquit x.json
        over "vim, $options"
        check_eq "vim, $options: committed" '"x" I32 [6,5] '"$(sha256sum <"$T/new" | head -c 16)" \
            "$(expect committed "$T/a.safetensors" | sed -n 1p)"
    done
fi

# Ways to make a sidecar say I32 [30], and the metadata {"format":"tf"}.
while IFS=: read -r program file command <&3; do
    file=${file# }
    have "$command" || continue
    fresh
    check "$file by $program" bash -c "f=$file; e='if .dtype then .dtype=\"I32\"|.shape=[30] else .format=\"tf\" end'; $command"
    if [ "$file" = x.json ]; then
        check_eq "$file by $program: it counts" '["I32",[30]]' "$(declared x)"
    else
        check_eq "$file by $program: it counts" '{"format":"tf"}' "$(jq -c . __metadata__.json)"
    fi
    over "$file by $program"
done 3<<'END'
sponge: x.json: jq "$e" $f | sponge $f
sponge: __metadata__.json: jq "$e" $f | sponge $f
tmp-outside: x.json: jq "$e" $f >"$TMPDIR/t" && mv "$TMPDIR/t" $f
tmp-outside: __metadata__.json: jq "$e" $f >"$TMPDIR/t" && mv "$TMPDIR/t" $f
tmp: x.json: jq "$e" $f >tmp && mv tmp $f
tmp: __metadata__.json: jq "$e" $f >tmp && mv tmp $f
tmp.json: x.json: jq "$e" $f >.tmp.json && mv .tmp.json $f
sed-i: x.json: sed -i -e s/F32/I32/ -e 's/\[6, *5\]/[30]/' $f && jq -e '.shape==[30]' $f || { jq "$e" $f >.t; mv .t $f; }
sed-i: __metadata__.json: sed -i s/pt/tf/ $f
python: x.json: /usr/bin/env python3 -c 'import json, sys; d = json.load(open("x.json")); d.update(dtype="I32", shape=[30]); json.dump(d, open("x.json", "w"), indent=4)'
rsync: x.json: jq "$e" $f >"$TMPDIR/x.json" && rsync -a "$TMPDIR/x.json" .
rsync--inplace: x.json: jq "$e" $f >"$TMPDIR/x.json" && rsync -a --inplace "$TMPDIR/x.json" .
install: x.json: jq "$e" $f >"$TMPDIR/x.json" && install "$TMPDIR/x.json" .
rm-first: x.json: jq "$e" $f >"$TMPDIR/t" && rm $f && cp "$TMPDIR/t" $f
rm-first: __metadata__.json: jq "$e" $f >"$TMPDIR/t" && rm $f && cp "$TMPDIR/t" $f
END

# Whole trees: a copy of a mount is put back into another one, with its sidecars.
fresh
mkdir "$T/copy"
check "cp -r out" cp -r . "$T/copy"
check "tar out" tar cf "$T/tar" .
rm -rf ./*
check "tar in" tar xf "$T/tar" --no-overwrite-dir
cd "$T" || exit
expect shown "$T/mnt" >"$T/shown"
check_eq "tar out and in: the same" "$(cat "$T/state.before")" "$(cat "$T/shown")"
cd "$T/mnt" || exit
rm -rf ./*
check "rsync in" rsync -a "$T/copy/" .
cd "$T" || exit
check_eq "rsync in: the same" "$(cat "$T/state.before")" "$(expect shown "$T/mnt")"
check "rsync --delete" rsync -a --checksum --delete "$T/copy/" "$T/mnt/"
check_eq "rsync --delete: the same" "$(cat "$T/state.before")" "$(expect shown "$T/mnt")"
mount_stop "$T/mnt"
check "out and in: the file is as it was" same_state "again" "$T/a.safetensors" "$T/state.before"
finish
