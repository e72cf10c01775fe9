# bash completion for safetensorfs(1)

_safetensorfs_verbs='mount ls check status commit umount recover discard --help --version'

# What is offered at once, and the words of mount(8), offered where one of them was begun.
_safetensorfs_options='ro edit layout=flat layout=tree layout=files npy partial staging= output=
    commit=replace commit=inplace direct_io allow_other allow_root auto_unmount max_threads='
_safetensorfs_mount_words='rw default_permissions fsname= subtype= max_read= clone_fd nodev nosuid
    noexec noatime nodiratime nosymfollow sync dirsync context= fscontext= defcontext= rootcontext=
    dev suid exec async atime diratime relatime norelatime strictatime nostrictatime defaults auto
    noauto user nouser users group owner nofail _netdev comment= user='

# Offer `words` for the last item of a comma-separated list; `typed` is the list so far.
_safetensorfs_list() {
    local typed=$1 words=$2 before='' item word strip=''
    [[ $typed != *,* ]] || before=${typed%,*},
    item=${typed##*,}
    # readline replaces only what stands behind the last `=`.
    [[ $typed != *=* || $COMP_WORDBREAKS != *=* ]] || strip=${typed%"${typed##*=}"}
    case $item in
    staging=* | output=*)
        # A path, which readline knows how to go on with.
        [[ $COMP_WORDBREAKS != *=* ]] || mapfile -t COMPREPLY < <(compgen -f -- "${item#*=}")
        compopt -o filenames 2>/dev/null
        return
        ;;
    esac
    for word in $words; do
        [[ $word != "$item"* ]] || COMPREPLY+=("${before}${word}")
    done
    COMPREPLY=("${COMPREPLY[@]#"$strip"}")
    compopt -o nospace 2>/dev/null
}

# Checkpoints, and directories on the way to them.
_safetensorfs_source() {
    local path
    while IFS= read -r path; do
        case $path in
        *.safetensors | *.index.json) COMPREPLY+=("$path") ;;
        *) [[ ! -d $path ]] || COMPREPLY+=("$path") ;;
        esac
    done < <(compgen -f -- "$1")
    compopt -o filenames 2>/dev/null
}

_safetensorfs_mounted() {
    local IFS=$'\n'
    mapfile -t COMPREPLY < <(
        compgen -W "$(findmnt -rno TARGET -t fuse.safetensorfs 2>/dev/null)" -- "$1"
    )
    compopt -o filenames 2>/dev/null
}

_safetensorfs() {
    local cur=${COMP_WORDS[COMP_CWORD]} verb=mount typed offer sources=0 i words=()
    COMPREPLY=()
    # The word at the cursor as it was typed: COMP_WORDS has it cut at each `=`.
    typed=${COMP_LINE:0:COMP_POINT}
    read -ra words <<<"$typed"
    [[ $typed != *[[:space:]] ]] || words+=('')
    typed=${words[-1]}
    case ${words[1]-} in
    mount | ls | check | status | commit | umount | recover | discard)
        [[ ${#words[@]} -le 2 ]] || verb=${words[1]}
        ;;
    esac

    if [[ $typed == -o* || ${words[-2]} == -o ]]; then
        local prefix=''
        [[ ${words[-2]} == -o ]] || prefix=-o
        typed=${typed#"$prefix"}
        case $verb in
        recover) _safetensorfs_list "$typed" 'staging= output=' ;;
        discard) _safetensorfs_list "$typed" 'staging=' ;;
        mount)
            offer=$_safetensorfs_options
            [[ -z ${typed##*,} ]] || offer+=" $_safetensorfs_mount_words"
            _safetensorfs_list "$typed" "$offer"
            ;;
        esac
        [[ -z $prefix || $typed == *=* ]] || COMPREPLY=("${COMPREPLY[@]/#/-o}")
        return
    fi

    case $verb:$typed in
    ls:-*) mapfile -t COMPREPLY < <(compgen -W '-h --sort --json' -- "$cur") ;;
    status:-*) mapfile -t COMPREPLY < <(compgen -W '--json' -- "$cur") ;;
    check:-*) mapfile -t COMPREPLY < <(compgen -W '-q' -- "$cur") ;;
    recover:-* | discard:-*) mapfile -t COMPREPLY < <(compgen -W '-o' -- "$cur") ;;
    mount:-*) mapfile -t COMPREPLY < <(compgen -W '-f -d -s -o --help --version' -- "$cur") ;;
    status:* | commit:* | umount:*) _safetensorfs_mounted "$cur" ;;
    mount:*)
        for ((i = 1; i < ${#words[@]} - 1; i++)); do
            [[ ${words[i]} == -* || ${words[i - 1]} == -o || ${words[i]} == mount ]] ||
                sources=$((sources + 1))
        done
        if [[ $sources -gt 0 ]]; then
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            compopt -o filenames 2>/dev/null
        else
            _safetensorfs_source "$cur"
            [[ ${#words[@]} -ne 2 ]] ||
                mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "$_safetensorfs_verbs" -- "$cur")
        fi
        ;;
    *) _safetensorfs_source "$cur" ;;
    esac
}

complete -F _safetensorfs safetensorfs
