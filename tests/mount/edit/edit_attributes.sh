#!/usr/bin/env bash
# chmod, chown and times hold for the life of the mount; a commit keeps mode, owner and attributes of the source.
. "$(dirname "$0")/../lib_edit.sh"
need setfattr getfattr

make_checkpoint "$T/a.safetensors" --tensor 'a:F32:[2]' --tensor 'b:U8:[10]'
chmod 640 "$T/a.safetensors"
[ "$(id -u)" -ne 0 ] || chown 12:34 "$T/a.safetensors"
setfattr -n user.mine -v kept "$T/a.safetensors" 2>/dev/null || skip "no extended attributes in $T"
setfattr -n user.other -v 0x0001ff "$T/a.safetensors"
touch -d '2001-02-03 04:05:06' "$T/a.safetensors"

attributes() {
    stat -c '%a %u %g' "$1"
    getfattr -d -m - -e hex --absolute-names "$1" | tail -n +2
}

attributes "$T/a.safetensors" >"$T/attributes"
for options in edit edit,commit=inplace; do
    mount_start "$T/a.safetensors" "$T/mnt" -o "$options"
    cd "$T/mnt" || exit
    check_eq "$options: mode, with w" 640 "$(stat -c %a a)"
    check_eq "$options: a sidecar's too" 640 "$(stat -c %a a.json)"
    check "$options: chmod" chmod 711 a
    check_eq "$options: chmod: it is so" 711 "$(stat -c %a a)"
    check_eq "$options: chmod: not of others" 640 "$(stat -c %a b)"
    check "$options: chmod of a sidecar" chmod 600 b.json
    check_eq "$options: chmod of a sidecar: it is so" 600 "$(stat -c %a b.json)"
    check "$options: chmod of the root" chmod 701 .
    check_eq "$options: chmod of the root: it is so" 701 "$(stat -c %a .)"
    check "$options: chown" chown "$(id -u):$(id -g)" a
    check_eq "$options: chown: it is so" "$(id -u) $(id -g)" "$(stat -c '%u %g' a)"
    check "$options: times" touch -d '2020-01-02 03:04:05.123456789' a
    check_eq "$options: times: they are so" "1577934245.123456789" "$(TZ=UTC stat -c %.9Y a)"
    check "$options: touch" touch b
    check "$options: touch: it is now" test "$(($(date +%s) - $(stat -c %Y b)))" -lt $((60 * SLOW))
    check "$options: utimensat of one only" touch -a -d '2011-01-01' a
    check_eq "$options: utimensat of one only: the other stays" 1577934245 "$(stat -c %Y a)"
    check "$options: they go along with a rename" mv a c
    check_eq "$options: they go along with a rename: mode" 711 "$(stat -c %a c)"
    check "$options: a new one" install -m 604 b new
    check_eq "$options: a new one: its mode" 604 "$(stat -c %a new)"
    check "$options: cp -p" cp -p b new2
    check "$options: cp -p: the time" test "$(stat -c %Y b)" = "$(stat -c %Y new2)"
    check_eq "$options: nothing of that is an edit" 3 "$(status_of "$T/mnt" .staged.tensors)"
    # A write moves the time on, and the next stat shows it.
    touch -d '2020-01-02' b
    poke b 1 x
    check "$options: a write moves the time on" test "$(stat -c %Y b)" -gt 1577934245
    rm new new2
    mv c a
    sidecar b I8 '[10]'
    check "$options: commit" "$SAFETENSORFS" commit "$T/mnt"
    check_eq "$options: they hold over a commit" 711 "$(stat -c %a a)"
    cd "$T" || exit
    mount_stop "$T/mnt"
    check_eq "$options: the source keeps mode, owner and extended attributes" "$(cat "$T/attributes")" \
        "$(attributes "$T/a.safetensors")"
    check "$options: but its time is now" test "$(stat -c %Y "$T/a.safetensors")" -gt 1577934245
    mount_start "$T/a.safetensors" "$T/mnt" -o edit
    check_eq "$options: the next mount has the file's again" 640 "$(stat -c %a "$T/mnt/a")"
    sidecar "$T/mnt/b" U8 '[10]'
    mount_stop "$T/mnt"
done
finish
