#!/usr/bin/env bash
# Editing with layout=tree, where directories are made, moved and removed, and with layout=files.
. "$(dirname "$0")/../lib_edit.sh"

fresh() {
    make_checkpoint "$T/a.safetensors" --tensor 'm.0.w:F32:[2]' --tensor 'm.0.b:U8:[5]' --tensor 'm.1.w:F32:[3]' \
        --tensor 'm:U8:[3]' --tensor 'top:BF16:[4]' --metadata k=v
    expect committed "$T/a.safetensors" >"$T/before"
    edit_start "$T/a.safetensors" "$T/mnt" layout=tree
    cd "$T/mnt" || exit
}

# ends WHAT NAMES: commit by unmounting; these are then the tensors.
ends() {
    expect shown "$T/mnt" >"$T/shown"
    cd "$T" || exit
    mount_stop "$T/mnt"
    same_state "$1: committed" "$T/a.safetensors" "$T/shown"
    canonical "$1" "$T/a.safetensors"
    check_eq "$1: names" "$2" "$(reader names "$T/a.safetensors" | jq -r . | tr '\n' ' ' | sed 's/ $//')"
}

fresh
check "mkdir" mkdir n
check "mkdir -p" mkdir -p x/y/z
check_errno "mkdir of what is there" EEXIST mkdir m
check_errno "mkdir of a tensor's name" EEXIST mkdir top
check_errno "mkdir with a dot" EINVAL mkdir m/a.b
check_errno "mkdir of no encoding" EINVAL mkdir m/%2x%
check "a new tensor in a new directory" cp top n/w
check_eq "a new tensor: its name" n.w "$(jq -r .name n/w.json)"
check "mv into a directory" mv m/0/b x/y/z/b
check "mv between directories" mv m/1/w m/0/v
check "rmdir of an emptied one" rmdir m/1
check_errno "rmdir of a full one" ENOTEMPTY rmdir m/0
check_errno "rmdir of a tensor" ENOTDIR rmdir top
check_errno "rmdir of none" ENOENT rmdir none
check_errno "rmdir of the control directory" EPERM rmdir .safetensorfs
check_errno "rm of a directory" EISDIR rm n
check "empty ones vanish at unmount" mkdir empty
check_errno "a name with a dot" EINVAL touch m/0/a.b
check "a new sidecar in a directory" sidecar n/s I32 '[2,2]'
ends "mkdir" "m m.0.v m.0.w n.s n.w top x.y.z.b"
edit_start "$T/a.safetensors" "$T/mnt" layout=tree
check_not "an empty one has vanished" test -e "$T/mnt/empty"
mount_stop "$T/mnt"

fresh
poke m/0/w 0 edit
sidecar m/0/b I8 '[5,1]'
check "mv of a directory" mv m/0 m/layer
check_eq "mv of a directory: the names" m.layer.b "$(jq -r .name m/layer/b.json)"
check_eq "mv of a directory: declared as before" '["I8",[5,1]]' "$(declared m/layer/b)"
check "mv of a directory into another" mkdir deep
check "mv of a directory into another" mv m/layer deep/
check_errno "mv of a directory into itself" EINVAL "${rename[@]}" deep deep/layer/deep
check_errno "mv of a directory onto a tensor" ENOTDIR "${rename[@]}" deep top
check_errno "mv of a tensor onto a directory" EISDIR "${rename[@]}" top deep
check_errno "mv of a directory onto a full one" ENOTEMPTY "${rename[@]}" deep m
check "mv of a directory onto an empty one" mkdir hollow
check "mv of a directory onto an empty one" "${rename[@]}" deep hollow
check_errno "mv of a directory to a name with a dot" EINVAL "${rename[@]}" hollow a.b
check_not "mv of a directory: the old is gone" test -e deep
ends "mv of directories" "hollow.layer.b hollow.layer.w m m.1.w top"

# Swap two layers; then there and back, which is nothing.
fresh
mkdir s
mv m/0 s/0
mv m/1 m/0
mv s/0 m/1
rmdir s
ends "swapped layers" "m m.0.w m.1.b m.1.w top"
fresh
mv m n
mv n m
check_eq "there and back: nothing is staged" 0 "$(status_of "$T/mnt" .staged.tensors)"
rm -rf m
ends "rm -rf of a directory" "m top"

fresh
find . -mindepth 1 ! -name 'top*' -delete 2>/dev/null # the sidecars are gone before it comes to them
ends "find -delete" "top"

# A tensor whose file had to make way for a directory of its name.
fresh
check "the tensor beside its directory" test -f m%
rm -rf m
check "the tensor keeps its file's name" poke m% 0 x
check "a tensor where a directory was" cp top z
ends "a tensor beside its directory" "m top z"
fresh
check_errno "a file in a directory that is none" ENOTDIR touch top/x
check "a scratch file in a directory" touch m/.tmp
check "a scratch file in a directory, to a tensor" mv m/.tmp m/empty
ends "scratch in a directory" "m m.0.b m.0.w m.1.w m.empty top"

# Killed and resumed: names and directories are as they were.
fresh
mkdir -p n/k
mv m/0 n/k/0
cd "$T" || exit
edit_kill "$T/mnt"
edit_start "$T/a.safetensors" "$T/mnt" layout=tree
cd "$T/mnt" || exit
check_eq "resumed: the name" n.k.0.w "$(jq -r .name n/k/0/w.json)"
ends "resumed" "m m.1.w n.k.0.b n.k.0.w top"

# layout=files: each shard a directory, which decides; the same name may be in several.
mkdir "$T/dir"
make_checkpoint "$T/dir/a.safetensors" --tensor 'w:F32:[2]' --tensor 'b:U8:[5]' --metadata k=v
make_checkpoint "$T/dir/b.safetensors" --tensor 'w:F32:[3]' --tensor 'x:U8:[5]' --seed 2
edit_start "$T/dir" "$T/mnt" layout=files
cd "$T/mnt" || exit
check_errno "mkdir" EPERM mkdir c.safetensors
check_errno "rmdir" EPERM rmdir a.safetensors
check_errno "mv of a directory" EPERM "${rename[@]}" a.safetensors c.safetensors
check_errno "a file that is in no directory" EPERM touch new
poke a.safetensors/w 0 first
poke b.safetensors/w 0 other
check "a new tensor" cp a.safetensors/b b.safetensors/new
check "mv to another shard" mv b.safetensors/x a.safetensors/x
check "swap of two of one name" mv a.safetensors/w a.safetensors/.w
check "swap of two of one name" mv b.safetensors/w a.safetensors/w
check "swap of two of one name" mv a.safetensors/.w b.safetensors/w
check "np.save" cp "$T/mnt/b.safetensors/w.npy" "$T/mnt/b.safetensors/saved.npy"
check "metadata of one" cp <(echo '{"k":"w"}') b.safetensors/__metadata__.json
check "metadata of one removed" rm a.safetensors/__metadata__.json
for name in a b; do
    expect shown "$T/mnt/$name.safetensors" >"$T/shown.$name"
done
cd "$T" || exit
mount_stop "$T/mnt"
for name in a b; do
    same_state "layout=files: $name" "$T/dir/$name.safetensors" "$T/shown.$name"
    canonical "layout=files: $name" "$T/dir/$name.safetensors"
done
check_eq "layout=files: a" '"b" "w" "x"' "$(reader names "$T/dir/a.safetensors" | xargs -d '\n')"
check_eq "layout=files: b" '"new" "saved" "w"' "$(reader names "$T/dir/b.safetensors" | xargs -d '\n')"
check_eq "layout=files: swapped" first "$(reader cut "$T/dir/b.safetensors" w | head -c 5)"
finish
