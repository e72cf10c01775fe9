#!/usr/bin/env bash
# A source that changes under the mount: missing bytes are EIO, the rest and the daemon live on.
. "$(dirname "$0")/../lib.sh"

# fresh: eight tensors of 1 MiB, from a page's begin on, mounted; and a copy of what they hold.
fresh() {
    make_checkpoint "$T/a.safetensors" --align 4096 --dtype U8 $(for i in 0 1 2 3 4 5 6 7; do
        echo "--tensor t$i:U8:[1048576]"
    done) --tensor 'u0:BF16:[1000]' --tensor 'u1:U8:[5]'
    rm -rf "$T/copy"
    mkdir "$T/copy"
    for name in t0 t1 t2 t3 t4 t5 t6 t7 u0 u1; do
        reader cut "$T/a.safetensors" "$name" >"$T/copy/$name"
    done
    mount_start "$T/a.safetensors" "$T/mnt" "$@"
}

offset_of() {
    reader list "$T/copy.safetensors" | jq --arg name "$1" '.[] | select(.name == $name).offset'
}

all_as_before() {
    for name in t0 t1 t2 t3 t4 t5 t6 t7 u0 u1; do
        check "$1: $name" cmp "$T/copy/$name" "$T/mnt/$name"
    done
}

for options in ro direct_io; do
    # Cut in the middle of t5, at a page's begin. The order in the file: BF16 before U8.
    fresh -o "$options"
    cp "$T/a.safetensors" "$T/copy.safetensors"
    offset=$(offset_of t5)
    page=$(((offset + 524288) / 4096 * 4096))
    truncate -s "$page" "$T/a.safetensors"
    for name in u0 t0 t1 t2 t3 t4; do
        check "cut ($options): $name is whole" cmp "$T/copy/$name" "$T/mnt/$name"
    done
    for how in "" iflag=direct; do
        for name in t6 t7 u1; do
            check_errno "cut ($options): $name $how" EIO dd if="$T/mnt/$name" of=/dev/null bs=64K $how
        done
        check_errno "cut ($options): the end of t5 $how" EIO \
            dd if="$T/mnt/t5" of=/dev/null bs=4096 skip=130 count=1 $how
        check "cut ($options): the begin of t5 $how" cmp <(head -c 520192 "$T/copy/t5") \
            <(dd if="$T/mnt/t5" bs=4096 count=127 status=none $how)
    done
    check_eq "cut ($options): sizes are as before" 1048576 "$(stat -c %s "$T/mnt/t6")"
    for name in t6 u1; do
        check_errno "cut ($options): view of $name" EIO cat "$T/mnt/$name.npy"
    done
    check "cut ($options): status" "$SAFETENSORFS" status "$T/mnt"
    check "cut ($options): a sidecar" jq . "$T/mnt/t6.json"
    mount_stop "$T/mnt"

    # Cut inside a page: what lay behind in that page is missing too, not zero.
    fresh -o "$options"
    offset=$(offset_of u1)
    truncate -s "$offset" "$T/a.safetensors"
    check_errno "cut inside a page ($options): u1" EIO cat "$T/mnt/u1"
    check_errno "cut inside a page ($options): u1, direct" EIO dd if="$T/mnt/u1" iflag=direct
    check "cut inside a page ($options): t0" cmp "$T/copy/t0" "$T/mnt/t0"
    mount_stop "$T/mnt"

    # Nothing left at all; the widened view, which our own code computes.
    fresh -o "$options"
    truncate -s 0 "$T/a.safetensors"
    for name in t0 t7 u0 u1 u0.npy u0.f32.npy; do
        check_errno "empty ($options): $name" EIO cat "$T/mnt/$name"
    done
    check "empty ($options): the listing" ls -l "$T/mnt"
    check "empty ($options): status" "$SAFETENSORFS" status "$T/mnt"
    mount_stop "$T/mnt"
done

fresh
make_checkpoint "$T/new.safetensors" --tensor 't0:U8:[3]' --seed 5
mv "$T/new.safetensors" "$T/a.safetensors"
all_as_before "replaced"
mount_stop "$T/mnt"

fresh
mv "$T/a.safetensors" "$T/b.safetensors"
all_as_before "renamed"
check "renamed: status" "$SAFETENSORFS" status "$T/mnt"
mount_stop "$T/mnt"

fresh
rm "$T/a.safetensors"
all_as_before "deleted"
check "deleted: status" "$SAFETENSORFS" status "$T/mnt"
check "deleted: umount" "$SAFETENSORFS" umount "$T/mnt"
mount_ended "$T/mnt"

# A reader under way when the source is cut gets EIO or the bytes, never others.
fresh
for i in 1 2 3 4; do
    (while :; do
        for name in t0 t3 t7; do
            # 1: bytes differ; 2: EIO.
            cmp -s "$T/copy/$name" "$T/mnt/$name"
            [ $? -ne 1 ] || touch "$T/differ"
        done
        [ ! -e "$T/done" ] || exit 0
    done) &
done
truncate -s 3M "$T/a.safetensors"
[ "$(id -u)" -ne 0 ] || echo 1 >/proc/sys/vm/drop_caches
check_errno "cut while reading" EIO dd if="$T/mnt/t7" of=/dev/null bs=1M iflag=direct
touch "$T/done"
wait $(jobs -p | grep -vx "${daemon_pid[$T/mnt]}")
check_not "cut while reading: other bytes" test -e "$T/differ"
mount_stop "$T/mnt"
finish
