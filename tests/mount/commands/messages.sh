#!/usr/bin/env bash
# What is said to somebody who makes a mistake: one line, with what to do about it.
. "$(dirname "$0")/../lib.sh"

make_checkpoint "$T/ok.safetensors" --tensors 3 --tensor-bytes 100
make_checkpoint "$T/shards" --shards 2 --tensors 6 --tensor-bytes 100
mkdir -p "$T/mnt" "$T/empty" "$T/pickles" "$T/hub/snapshots"
cd "$T" || die "cd"
printf 'PK\3\4\24\0\0\0\0\0' >pickles/pytorch_model.bin
echo '{"weight_map":{"a":"pytorch_model.bin"}}' >pickles/pytorch_model.bin.index.json
printf 'GGUF\3\0\0\0rest' >m.gguf
echo '<!DOCTYPE html><title>Sign in</title>' >page.safetensors
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n' >lfs.safetensors
head -c -50 ok.safetensors >cut.safetensors
cp -r shards lfs-shards
cp lfs.safetensors lfs-shards/model-00002-of-00002.safetensors
cp -r shards missing
rm missing/model-00001*
before=$(ls -A mnt empty hub pickles)

# the message | the arguments
while IFS='|' read -r regex arguments; do
    read -r -a words <<<"$arguments"
    check_refused "$arguments" "$regex" "$SAFETENSORFS" "${words[@]}"
done <<'END'
^safetensorfs: misspelt.safetensors: No such file or directory$|ls misspelt.safetensors
looks like a PyTorch pickle \(zip\): convert it|ls pickles/pytorch_model.bin
^safetensorfs: pickles: no \*.safetensors .*; pytorch_model.bin looks like a PyTorch pickle \(zip\)|ls pickles
pytorch_model.bin: header length .*; it looks like a PyTorch pickle|ls pickles/pytorch_model.bin.index.json
looks like a PyTorch pickle \(zip\): convert it|pickles/pytorch_model.bin mnt
looks like a PyTorch pickle \(zip\): convert it|pickles/pytorch_model.bin mnt -o edit
looks like a GGUF file|check m.gguf
looks like a web page|check page.safetensors
is a git-lfs pointer, not the file itself: run "git lfs pull"$|ls lfs.safetensors
model-00002-of-00002.safetensors: header length .*; it is a git-lfs pointer|ls lfs-shards
past the end of the file, which has 250; the file was cut short: an unfinished download|ls cut.safetensors
no \*.safetensors and no \*.safetensors.index.json in this directory$|ls empty
in a hub cache the source is a directory in snapshots/$|ls hub
1 of 2 shards missing \(-o partial mounts without them\): model-00001|ls missing
^safetensorfs: empty: no .*; the source comes first, then the mountpoint$|empty ok.safetensors
^safetensorfs: ok.safetensors: is not a directory; the source comes first|shards ok.safetensors
^safetensorfs: lst: No such file or directory; nor is it a command \(see safetensorfs --help\)$|lst ok.safetensors
^safetensorfs: unmount: No such file or directory; nor is it a command|unmount mnt
^safetensorfs: ./unmount: No such file or directory$|./unmount mnt
^safetensorfs: none: No such file or directory; make the directory first: mkdir -p none$|ok.safetensors none
is not a safetensorfs mount \(findmnt -t fuse.safetensorfs lists those\)$|umount mnt
is not a safetensorfs mount|status ok.safetensors
^safetensorfs: none: No such file or directory$|recover none
END
check_eq "nothing was made" "$before" "$(ls -A mnt empty hub pickles)"
check_not "no mountpoint was made" test -e none
run "$SAFETENSORFS" ok.safetensors
check_eq "no mountpoint" "2 safetensorfs: MOUNTPOINT: missing; safetensorfs ls lists a source without mounting (see safetensorfs --help)" "$rc $err"
run "$SAFETENSORFS" ok.safetensors mnt -o layuot=tree
check_eq "a misspelt option" "2 safetensorfs: layuot=tree: unknown mount option (see safetensorfs --help)" "$rc $err"

# A mount is no source.
mount_start "$T/ok.safetensors" "$T/mnt"
for words in "ls mnt" "check mnt" "recover mnt" "mnt empty" "mnt empty -o edit,staging=$T/stage"; do
    read -r -a arguments <<<"$words"
    check_refused "$words" '; it is a safetensorfs mount: ls mnt lists it, safetensorfs status mnt tells of it$' \
        "$SAFETENSORFS" "${arguments[@]}"
done
exec {open}<"$T/mnt/lm_head.weight"
check_refused "umount of what is in use" 'fuser -vm lists them' "$SAFETENSORFS" umount mnt
exec {open}<&-

# Mounting twice hides the first, which is allowed, and said.
run "$SAFETENSORFS" ok.safetensors mnt
check_eq "twice" "0 safetensorfs: warning: mnt: hides a safetensorfs mount that is there already, until it is unmounted" "$rc $err"
check "the second is unmounted" "$SAFETENSORFS" umount mnt
mount_stop "$T/mnt"
run "$SAFETENSORFS" ok.safetensors mnt
check_eq "once" "0 " "$rc $err"
check "unmounted" "$SAFETENSORFS" umount mnt

# Without /dev/fuse, or the right to use it: in mount namespaces of their own.
if [ "$(id -u)" -eq 0 ] && unshare --mount --propagation private true 2>/dev/null; then
    # without WHAT SETUP REGEX [PREFIX...]
    without() {
        local what=$1 setup=$2 regex=$3
        shift 3
        check_refused "$what" "$regex" unshare --mount --propagation private \
            bash -c "$setup"' && shift && exec "$@"' - - "$@" "$SAFETENSORFS" "$T/ok.safetensors" "$T/mnt"
    }
    chmod 755 "$T"
    mkdir "$T/dev"
    chown nobody "$T/mnt"
    as_user=(setpriv --reuid "$(id -u nobody)" --regid "$(id -u nobody)" --clear-groups)
    everybodys="mknod -m 666 $T/fuse c 10 229 && mount --bind $T/fuse /dev/fuse"
    without "no /dev/fuse" "mount --bind $T/dev /dev" 'device .*not found.*; a container needs --device /dev/fuse$'
    if "${as_user[@]}" test -x "$SAFETENSORFS"; then
        without "a /dev/fuse of root's" "mknod -m 600 $T/roots c 10 229 && mount --bind $T/roots /dev/fuse" \
            'Permission denied; root may, or others where its mode is 666$' "${as_user[@]}"
        if type -P fusermount3 >/dev/null; then
            without "no fusermount3" "$everybodys && mount --bind /dev/null $(realpath "$(type -P fusermount3)")" \
                'exec fusermount3.*; install it|cannot mount: ' "${as_user[@]}"
            chown root "$T/mnt"
            rm -f "$T/fuse"
            without "somebody else's mountpoint" "$everybodys" \
                'no write access.*; mount on a directory of your own$' "${as_user[@]}"
        fi
    fi
    without "no right to mount" true 'Operation not permitted; a container needs --cap-add SYS_ADMIN$' \
        setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin
fi
finish
