# bash completion for safetensorfs(1)

_safetensorfs_verbs='mount ls check diff status commit umount recover discard --help --version'

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

# Mountpoints, from here where they are below; else directories.
_safetensorfs_mounted() {
    local target here=${PWD%/}/
    while IFS= read -r target; do
        case $1 in
        /*) ;;
        ./*) target=./${target#"$here"} ;;
        *) target=${target#"$here"} ;;
        esac
        [[ $target != "$1"* ]] || COMPREPLY+=("$target")
    done < <(findmnt -rno TARGET -t fuse.safetensorfs 2>/dev/null)
    [[ ${#COMPREPLY[@]} -gt 0 ]] || mapfile -t COMPREPLY < <(compgen -d -- "$1")
    compopt -o filenames 2>/dev/null
}

# Split a line into `words`, without their quotes; the last is the one at the cursor, maybe empty.
# COMP_WORDS has them cut at each `=` or `:`. Of the last, readline keeps the first `kept` characters,
# and `quote` is the quote that is open there.
_safetensorfs_split() {
    local text=$1 c word='' begun='' i
    words=() kept=0 quote=''
    for ((i = 0; i < ${#text}; i++)); do
        c=${text:i:1}
        if [[ $c == "${quote:-none}" ]]; then
            quote=''
        elif [[ $c == \\ && $quote != \' && (-z $quote || ${text:i+1:1} == [\\\"\$\`]) ]]; then
            word+=${text:i+1:1} i=$((i + 1))
        elif [[ -n $quote ]]; then
            word+=$c
        elif [[ $c == [\'\"] ]]; then
            quote=$c begun=1 kept=${#word}
        elif [[ $c == [[:space:]] ]]; then
            [[ -z $word$begun ]] || words+=("$word")
            word='' begun='' kept=0
        else
            word+=$c
            [[ $COMP_WORDBREAKS != *"$c"* ]] || kept=${#word}
        fi
    done
    words+=("$word")
}

# The words that `ls` prints for names that begin with $3. A huge checkpoint must not hang the shell:
# after two seconds nothing is offered (the line of totals is missing), and of many names the first
# thousand and the last, so that what all begin with is still right.
_safetensorfs_list_names() {
    local glob=${3//\\/\\\\}
    glob=${glob//\*/\\*}
    glob=${glob//\?/\\?}
    glob=${glob//\[/\\[}
    timeout 2 "$1" ls -- "$2" "$glob*" 2>/dev/null | LC_ALL=C awk '
        NR > 1 && length(word) < 1000 { names[n < 1000 ? ++n : 1001] = word }
        { word = $1; whole = NF == 4 && $2 ~ /^tensors?,$/ }
        END { for (i = 1; whole && i <= 1001; i++) if (i in names) print names[i] }'
}

# Offer names of tensors of the source $2; $1 is the program, $3 what was typed. They are quoted
# here, since readline leaves `$` and backquotes as they are, and a name could hold any command.
_safetensorfs_names() {
    local name
    while IFS= read -r name; do
        if [[ $name == \"* ]]; then
            # JSON; what holds control characters cannot be typed.
            [[ $name != *\\[bfnrt]* && $name != *\\u00[01789]* ]] || continue
            name=${name:1:-1}
            printf -v name %b "${name//\\\"/\"}"
        fi
        [[ -n $name && $name != -* ]] || continue
        name=${name:kept}
        case $quote in
        \') [[ $name != *\'* ]] || continue ;; # there is no way to write it
        \")
            # readline adds no quote behind one, and `!` is the shell's history.
            [[ $name != *[\"!]* ]] || continue
            name=${name//\\/'\\'} name=${name//\$/'\$'} name=${name//\`/'\`'}
            ;;
        *) printf -v name %q "$name" ;;
        esac
        COMPREPLY+=("$name")
    done < <(_safetensorfs_list_names "$@")
}

_safetensorfs() {
    local cur=${COMP_WORDS[COMP_CWORD]} verb=mount typed offer sources=0 source='' i words=() kept=0 quote=''
    COMPREPLY=()
    _safetensorfs_split "${COMP_LINE:0:COMP_POINT}"
    typed=${words[-1]}
    case ${words[1]-} in
    mount | ls | check | diff | status | commit | umount | recover | discard)
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
    diff:-* | status:-*) mapfile -t COMPREPLY < <(compgen -W '--json' -- "$cur") ;;
    check:-*) mapfile -t COMPREPLY < <(compgen -W '-q' -- "$cur") ;;
    recover:-*) mapfile -t COMPREPLY < <(compgen -W '--allow-empty -o' -- "$cur") ;;
    discard:-*) mapfile -t COMPREPLY < <(compgen -W '-o' -- "$cur") ;;
    commit:-* | umount:-*) mapfile -t COMPREPLY < <(compgen -W '--allow-empty' -- "$cur") ;;
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
    ls:*)
        for ((i = ${#words[@]} - 2; i > 1; i--)); do
            [[ ${words[i]} == -* ]] || source=${words[i]}
        done
        if [[ -n $source ]]; then
            # The shell has not expanded these.
            _safetensorfs_names "${words[0]/#~\//$HOME/}" "${source/#~\//$HOME/}" "$typed"
        else
            _safetensorfs_source "$cur"
        fi
        ;;
    *) _safetensorfs_source "$cur" ;;
    esac
}

complete -F _safetensorfs safetensorfs
