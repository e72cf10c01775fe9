#!/usr/bin/env bash
# Sources on other file systems: the bytes are right, edits arrive, and what goes wrong there is EIO here.
#
# A file system that cannot be had is left out, and said so.
. "$(dirname "$0")/../lib_edit.sh"

tried=0
leave_out() {
    echo "SKIP: $*"
    return 1
}

# needs TOOL...: for one place, what `need` is for a test.
needs() {
    local tool
    for tool; do
        type -P "$tool" >/dev/null || leave_out "$place: no $tool" || return
    done
}

needs_root() {
    [ "$(id -u)" -eq 0 ] || leave_out "$place: needs root"
}

has_numpy=true
"$PYTHON" -c 'import numpy' 2>/dev/null || has_numpy=false
$has_numpy || echo "SKIP: no numpy, so arrays are not tried"

# What lies in each place: the tensors' sizes and offsets are no multiples of anything.
mkdir "$T/sources"
make_checkpoint "$T/sources/one.safetensors" --odd --metadata k=v --tensor 'first:F32:[50003]' \
    --tensor 'half:BF16:[700,301]' --tensor 'last:U8:[2000003]'
make_checkpoint "$T/sources/shards" --shards 3 --tensors 9 --bytes 3M --dtype BF16,F32
expect_content "$T/sources/one.safetensors" "$T/one.sums"
expect_content "$T/sources/shards" "$T/shards.sums"
shard_tensor=$(sed -n '1s/^[^ ]*  //p' "$T/shards.sums")

# ---- what is tried in a place ----

# Forget what the page cache has of the files, so that they are read from where they lie.
cold() {
    local file
    find "$1" -name '*.safetensors' | while read -r file; do
        sync "$file" 2>/dev/null # a read-only file system may have no fsync
        dd if="$file" iflag=nocache count=0 status=none
    done
}

# Each prints what sha256sum would, of the tensors listed in the file $2.
sums_plain() { (cd "$1" && cut -c 67- "$2" | xargs -d '\n' sha256sum); }
sums_direct() {
    local name
    cut -c 67- "$2" | while read -r name; do
        dd if="$1/$name" iflag=direct bs=1M status=none | sha256sum | sed "s/-\$/$name/"
    done
}
sums_mapped() {
    "$PYTHON" - "$1" "$2" <<'PY'
import hashlib, mmap, os, sys
for line in open(sys.argv[2]):
    name = line[66:].rstrip("\n")
    with open(os.path.join(sys.argv[1], name), "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
        print(hashlib.sha256(m).hexdigest() + "  " + name)
PY
}

# reads_right WHAT SOURCE SUMS
reads_right() {
    local how
    for how in plain direct mapped; do
        cold "$2"
        mount_start "$2" "$T/mnt"
        check_eq "$place: $1, $how" "$(cat "$3")" "$("sums_$how" "$T/mnt" "$3" 2>&1)"
        mount_stop "$T/mnt"
    done
    $has_numpy || return
    cold "$2"
    mount_start "$2" "$T/mnt"
    check "$place: $1, arrays" "$PYTHON" "$ROOT/tests/mount/read/arrays.py" "$2" "$T/mnt"
    mount_stop "$T/mnt"
}

# lives WHAT: whatever has become of the source, the daemon answers.
lives() {
    check "$place: $1: status" "$SAFETENSORFS" status "$T/mnt"
    check "$place: $1: a sidecar" jq . "$T/mnt/last.json"
    check "$place: $1: the listing" ls -l "$T/mnt"
}

# source_changes DIR: cut short, removed, replaced.
source_changes() {
    local file=$1/changes.safetensors
    cp "$T/sources/one.safetensors" "$file"
    mount_start "$file" "$T/mnt"
    truncate -s -1000000 "$file"
    check_errno "$place: cut short" EIO dd if="$T/mnt/last" of=/dev/null bs=64K
    check_errno "$place: cut short, direct" EIO dd if="$T/mnt/last" of=/dev/null bs=16M iflag=direct
    head -n 2 "$T/one.sums" >"$T/two.sums"
    check_eq "$place: cut short: what is there" "$(cat "$T/two.sums")" "$(sums_plain "$T/mnt" "$T/two.sums")"
    lives "cut short"
    mount_stop "$T/mnt"

    cp "$T/sources/one.safetensors" "$file"
    cold "$file"
    mount_start "$file" "$T/mnt"
    cp "$T/sources/shards"/*1-of-*.safetensors "$file.new"
    mv "$file.new" "$file"
    check "$place: replaced: the old file" same_content "$T/mnt" "$T/one.sums"
    lives "replaced"
    mount_stop "$T/mnt"

    cp "$T/sources/one.safetensors" "$file"
    cold "$file"
    mount_start "$file" "$T/mnt"
    rm "$file"
    check "$place: removed: the old file" same_content "$T/mnt" "$T/one.sums"
    lives "removed"
    mount_stop "$T/mnt"
}

# edits TENSORS WANTED: two bytes, in two of the staging's blocks, through the mount and in a copy of the source.
edits() {
    local offset
    for offset in 65535 1999999; do
        poke "$T/mnt/last" "$offset" "$1"
        poke "$2" $(($(jq .offset "$T/mnt/last.json") + offset)) "$1"
    done
}

# round_trip WHAT DIR INODE [OPTION...]: INODE: whether the file is the `same` afterwards, or a `new` one.
round_trip() {
    local what=$1 file=$2/edited.safetensors inode=$3
    shift 3
    cp "$T/sources/one.safetensors" "$file"
    cp "$file" "$T/wanted"
    chmod 640 "$file"
    edit_start "$file" "$T/mnt" "$@"
    # What identifies the file is asked of the one that is open.
    exec {held}<"$file"
    edits A "$T/wanted"
    check "$place: $what: shown" cmp <(reader cut "$T/wanted" last) "$T/mnt/last"
    check "$place: $what: commit" "$SAFETENSORFS" commit "$T/mnt"
    check "$place: $what: committed" cmp "$T/wanted" "$file"
    check "$place: $what: shown afterwards" cmp <(reader cut "$T/wanted" last) "$T/mnt/last"
    check "$place: $what: shown afterwards, direct" cmp <(reader cut "$T/wanted" last) \
        <(dd if="$T/mnt/last" iflag=direct bs=1M status=none)
    if [ "$inode" = new ]; then
        check_not "$place: $what: a new file" test "$file" -ef "/proc/$$/fd/$held"
    else
        check "$place: $what: the same file" test "$file" -ef "/proc/$$/fd/$held"
    fi
    exec {held}<&-
    edits B "$T/wanted"
    check "$place: $what: umount" "$SAFETENSORFS" umount "$T/mnt"
    mount_ended "$T/mnt"
    check "$place: $what: committed by umount" cmp "$T/wanted" "$file"
    check_eq "$place: $what: mode" 640 "$(stat -c %a "$file")"

    # The daemon dies: the edits are there still.
    edit_start "$file" "$T/mnt" "$@"
    edits C "$T/wanted"
    edit_kill "$T/mnt"
    check "$place: $what: recover" "$SAFETENSORFS" recover "$file"
    check "$place: $what: recovered" cmp "$T/wanted" "$file"
    edit_start "$file" "$T/mnt" "$@"
    edits D "$T/wanted"
    edit_kill "$T/mnt"
    edit_start "$file" "$T/mnt" "$@"
    check "$place: $what: resumed" cmp <(reader cut "$T/wanted" last) "$T/mnt/last"
    check_refused "$place: $what: one writer" 'is being edited by process' \
        "$SAFETENSORFS" "$file" "$T/roots" -o edit
    mount_stop "$T/mnt"
    check "$place: $what: committed after it was resumed" cmp "$T/wanted" "$file"
    check_eq "$place: $what: no staging is left" "" "$(find "$(dirname "$file")" -name '.*')"
    rm "$file"
}

# shards_round_trip DIR: an edit, a name and a new tensor.
shards_round_trip() {
    cp -r "$T/sources/shards" "$1/edited"
    edit_start "$1/edited" "$T/mnt"
    poke "$T/mnt/$shard_tensor" 3 edited
    mv "$T/mnt/$shard_tensor" "$T/mnt/renamed"
    printf new >"$T/mnt/added"
    expect shown "$T/mnt" >"$T/shown"
    check "$place: shards: umount" "$SAFETENSORFS" umount "$T/mnt"
    mount_ended "$T/mnt"
    same_state "$place: shards: committed" "$1/edited" "$T/shown"
    check "$place: shards: valid" "$SAFETENSORFS" check -q "$1/edited"
    rm -r "$1/edited"
}

# elsewhere DIR: a source that stays as it is, committed to another place.
elsewhere() {
    rm -rf "$T/else"
    mkdir "$T/else"
    cp "$1/one.safetensors" "$T/wanted"
    edit_start "$1/one.safetensors" "$T/mnt" staging="$T/else/stage" output="$T/else/out.safetensors"
    edits E "$T/wanted"
    check "$place: elsewhere: umount" "$SAFETENSORFS" umount "$T/mnt"
    mount_ended "$T/mnt"
    check "$place: elsewhere: committed" cmp "$T/wanted" "$T/else/out.safetensors"
    check "$place: elsewhere: the source" cmp "$T/sources/one.safetensors" "$1/one.safetensors"
}

# can_be_read DIR, can_be_written DIR: all of that.
can_be_read() {
    tried=$((tried + 1))
    reads_right "a file" "$1/one.safetensors" "$T/one.sums"
    reads_right "shards" "$1/shards" "$T/shards.sums"
    elsewhere "$1"
}

can_be_written() {
    can_be_read "$1"
    source_changes "$1"
    round_trip "edit" "$1" new
    round_trip "in place" "$1" same commit=inplace
    shards_round_trip "$1"
}

# refuses_edits DIR: a read-only place: the line says what would do.
refuses_edits() {
    check_refused "$place: edit" 'one.safetensors: .*staging=' \
        "$SAFETENSORFS" "$1/one.safetensors" "$T/mnt" -o edit
    check_refused "$place: edit, staging elsewhere" 'one.safetensors: .*output=' \
        "$SAFETENSORFS" "$1/one.safetensors" "$T/mnt" -o edit,staging="$T/else/stage"
    check_refused "$place: edit shards" 'shards: .*staging=' \
        "$SAFETENSORFS" "$1/shards" "$T/mnt" -o edit
}

# ---- the places ----

fill() {
    cp -r "$T/sources/." "$1"
}

# on_image TYPE MKFS...: a file system of that type in a file, at $T/at.
on_image() {
    place=$1
    needs_root && needs "$2" || return
    truncate -s 400M "$T/image"
    "${@:2}" "$T/image" >"$T/mkfs" 2>&1 || leave_out "$place: $(tail -n 1 "$T/mkfs")" || return
    mount -t "$1" -o loop "$T/image" "$T/at" 2>"$T/mkfs" || leave_out "$(cat "$T/mkfs")" || return
    fill "$T/at"
}

leave() {
    check "$place: unmount" unmount "$T/at"
    rm -f "$T/image"
}

# shares_blocks: what a commit leaves as it was is stored once.
shares_blocks() {
    local file=$T/at/shared.safetensors
    needs filefrag || return
    cp "$T/sources/one.safetensors" "$file"
    sync "$file"
    ln "$file" "$T/at/old"
    edit_start "$file" "$T/mnt"
    poke "$T/mnt/last" 65535 S
    mount_stop "$T/mnt"
    sync "$file"
    check_not "$place: shared blocks: a new file" test "$file" -ef "$T/at/old"
    check_match "$place: shared blocks" 'shared' "$(filefrag -v "$file")"
}

# goes_down: the file system gives up under the mount.
goes_down() {
    needs xfs_io || return
    cold "$T/at/one.safetensors"
    mount_start "$T/at/one.safetensors" "$T/mnt"
    if xfs_io -x -c shutdown "$T/at" >/dev/null 2>&1; then
        check_errno "$place: down" EIO dd if="$T/mnt/last" of=/dev/null bs=64K
        check_errno "$place: down, direct" EIO dd if="$T/mnt/half" of=/dev/null bs=1M iflag=direct
        lives "down"
    else
        leave_out "$place: cannot be shut down"
    fi
    mount_stop "$T/mnt"
}

mkdir "$T/at" "$T/roots"

if on_image xfs mkfs.xfs -q; then
    can_be_written "$T/at"
    shares_blocks
    goes_down
    leave
fi
if on_image btrfs mkfs.btrfs -q; then
    can_be_written "$T/at"
    shares_blocks
    leave
fi
if on_image ext4 mkfs.ext4 -q; then
    can_be_written "$T/at"
    check "ext4: read-only" mount -o remount,ro "$T/at"
    refuses_edits "$T/at"
    check "ext4: writable" mount -o remount,rw "$T/at"
    leave
fi

place=tmpfs
if needs_root && { mount -t tmpfs -o size=200m none "$T/at" || leave_out "no tmpfs"; }; then
    fill "$T/at"
    can_be_written "$T/at"
    leave
fi

place=squashfs
if needs_root && needs mksquashfs; then
    mksquashfs "$T/sources" "$T/image" -quiet -no-progress >"$T/mkfs" 2>&1
    if mount -o loop,ro "$T/image" "$T/at" 2>"$T/mkfs" || leave_out "$(cat "$T/mkfs")"; then
        can_be_read "$T/at"
        refuses_edits "$T/at"
        leave
    fi
fi

# Layers: what is edited lies in the lower one at first.
place=overlayfs
mkdir "$T/layers"
if needs_root && mount -t tmpfs -o size=300m none "$T/layers" && mkdir "$T/layers/"{lower,upper,work}; then
    fill "$T/layers/lower"
    for name in changes edited; do
        cp "$T/sources/one.safetensors" "$T/layers/lower/$name.safetensors"
    done
    if mount -t overlay -o "lowerdir=$T/layers/lower,upperdir=$T/layers/upper,workdir=$T/layers/work" \
        none "$T/at" 2>"$T/mkfs" || leave_out "$(cat "$T/mkfs")"; then
        can_be_written "$T/at"
        leave
    fi
fi

# fuse_place COMMAND...: another FUSE file system over a copy of the sources, in the foreground, at $T/at.
fuse_place() {
    rm -rf "$T/far"
    mkdir "$T/far"
    fill "$T/far"
    "$@" >"$T/mkfs" 2>&1 </dev/null &
    server=$!
    wait_until fuse_place_settled
    is_mounted "$T/at" || leave_out "$place: $(tail -n 1 "$T/mkfs")"
}

fuse_place_settled() {
    is_gone "$server" || is_mounted "$T/at"
}

# Its server dies under the mount.
dies() {
    cold "$T/at/one.safetensors"
    mount_start "$T/at/one.safetensors" "$T/mnt"
    kill -KILL "$server"
    wait "$server" 2>/dev/null
    check_errno "$place: dead" EIO dd if="$T/mnt/last" of=/dev/null bs=64K
    check_errno "$place: dead, direct" EIO dd if="$T/mnt/half" of=/dev/null bs=1M iflag=direct
    lives "dead"
    check "$place: dead: umount" "$SAFETENSORFS" umount "$T/mnt"
    mount_ended "$T/mnt"
    check "$place: dead: clear" unmount -l "$T/at"
}

place=bindfs
if needs bindfs && fuse_place bindfs -f --no-allow-other "$T/far" "$T/at"; then
    can_be_written "$T/at"
    dies
fi

# The far end of sshfs is a process here, without a network in between.
for sftp_server in /usr/lib/openssh /usr/libexec/openssh /usr/libexec /usr/lib/ssh none; do
    [ ! -x "$sftp_server/sftp-server" ] || break
done
printf '#!/bin/sh\nexec "%s"\n' "$sftp_server/sftp-server" >"$T/ssh"
chmod 755 "$T/ssh"
for options in "" ,direct_io; do
    place=sshfs$options
    needs sshfs || continue
    [ "$sftp_server" != none ] || leave_out "$place: no sftp-server" || continue
    if fuse_place sshfs -f -o "ssh_command=$T/ssh$options" "here:$T/far" "$T/at"; then
        can_be_written "$T/at"
        dies
    fi
done

[ "$tried" -gt 0 ] || skip "no other file system to be had"
finish
