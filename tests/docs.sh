#!/usr/bin/env bash
# What the documentation says is there, is there; what is installed is where a distribution looks;
# and the rules of docs/hacking.md about the source hold.
#
# From the environment, which meson sets: BUILD (the build directory), SAFETENSORFS (the binary),
# LIBSFT (the static library), PYTHON, SANITIZE (the value of b_sanitize).
# shellcheck disable=SC2016 # backquotes are what is looked for
set -u -o pipefail
export LC_ALL=C.UTF-8
shopt -s nullglob globstar

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=${PYTHON:-python3}
SAFETENSORFS=${SAFETENSORFS:-$ROOT/build/fs/safetensorfs}
T=$(mktemp -d "${TMPDIR:-/tmp}/safetensorfs-docs.XXXXXX")
trap 'rm -rf "$T"' EXIT
cd "$ROOT" || exit 1
failures=0 checks=0

# looked COUNT: at so many files or words a rule has looked; one that looked at none proves nothing.
looked() {
    echo "$1" >>"$T/looked"
}

# check WHAT COMMAND...: the command succeeds, prints nothing, and has looked at something.
check() {
    local what=$1 output status=0 count
    shift
    checks=$((checks + 1))
    : >"$T/looked"
    output=$("$@" 2>&1) || status=$?
    count=$(awk '{ n += $1 } END { print n + 0 }' "$T/looked")
    [ "$count" -gt 0 ] || output+="${output:+$'\n'}it looked at nothing"
    if [ "$status" -eq 0 ] && [ -z "$output" ]; then
        echo "ok: $what ($count looked at)"
    else
        failures=$((failures + 1))
        printf 'FAIL: %s (exit status %s)\n' "$what" "$status"
        [ -z "$output" ] || head -n 40 <<<"    ${output//$'\n'/$'\n'    }"
    fi
}

# ---- man page and completion ----

man_page=docs/safetensorfs.1
# What it prints in bold where commands and options are described; fonts and escaped hyphens away.
sed -n '/^\.SH COMMANDS/,/^\.SH FILES/ { /^\.B/ { s/\\-/-/g; s/\\f[BIR]//g; s/^\.B[RI]*//; p } }' \
    "$man_page" >"$T/man"
verbs() {
    sed -n 's/{ "\([a-z-]*\)", cmd_/\n\1\n/gp' fs/main.c | grep -xE '[a-z]+|--[a-z]+'
}
options() {
    sed -n 's/^\t{ "\([^"]*\)", [A-Z_]* },.*/\1/p' fs/cli/options.c
}

# Each line of stdin is a word of the man page.
in_man_page() {
    local word
    while read -r word; do
        looked 1
        grep -qE -- "[ \"]${word}([ ,;\"A-Z]|flat|replace|\$)" "$T/man" || echo "$word"
    done
}

# Print each line of stdin that completing `safetensorfs $1` and the line does not offer.
in_completion() {
    local word
    COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
    while read -r word; do
        looked 1
        COMP_LINE="safetensorfs $1$word" COMP_POINT=${#COMP_LINE}
        read -ra COMP_WORDS <<<"${COMP_LINE//=/ = }"
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
        _safetensorfs
        # What is behind the `=` is offered where that is what can follow.
        [[ " ${COMPREPLY[*]} " == *" $word"* || ($word == *= && ${#COMPREPLY[@]} -gt 0) ]] || echo "$word"
    done
}

enough_words() {
    looked 2
    [ "$(verbs | wc -l)" -ge 8 ] || echo "verbs in fs/main.c are not found any more"
    [ "$(options | wc -l)" -ge 40 ] || echo "options in fs/cli/options.c are not found any more"
}

same_version() {
    local version
    version=$("$SAFETENSORFS" --version)
    looked "$(grep -c . <(printf '%s\n' docs/*.[18] CHANGELOG.md))"
    grep -LF "\"$version\"" docs/*.[18] | sed "s/\$/ is not of $version/"
    grep -qF "## ${version#* }" CHANGELOG.md || echo "CHANGELOG.md has no ${version#* }"
}

lint() {
    looked $#
    mandoc -T lint "$@"
}

complete_in_bash() {
    looked 1
    "$PYTHON" tests/completion.py "$SAFETENSORFS" docs/safetensorfs.bash
}

check "there are verbs and options to look for" enough_words
check "every verb is in the man page" in_man_page < <(verbs)
check "every option is in the man page" in_man_page < <(options)
check "man page and changelog are of this version" same_version
if type -P mandoc >/dev/null; then
    check "the man pages lint" lint docs/*.[18]
else
    echo "SKIP: no mandoc, so the man pages were not linted"
fi
# shellcheck source=docs/safetensorfs.bash
. docs/safetensorfs.bash
check "every verb is completed" in_completion '' < <(verbs)
# A path follows these, which is completed only where there is one.
check "every option is completed" in_completion '-o ' < <(options | grep -vxE '(staging|output)=')
check "options that take a path are offered" in_completion '-o ' < <(printf '%s\n' stag outp)
check "an interactive shell completes, names of tensors too" complete_in_bash

# ---- pages ----

pages=(README.md CHANGELOG.md docs/*.md)

# Relative links lead to files, and #fragments to headings.
links() {
    looked "${#pages[@]}"
    "$PYTHON" - "${pages[@]}" <<'PY'
import os, re, sys

def headings(path):
    text = re.sub(r"^```.*?^```", "", open(path, encoding="utf-8").read(), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}

for page in sys.argv[1:]:
    text = open(page, encoding="utf-8").read()
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = os.path.join(os.path.dirname(page), path) if path else page
        if not os.path.exists(target):
            print(f"{page}: {link}: no such file")
        elif fragment and fragment not in headings(target):
            print(f"{page}: {link}: no such heading")
PY
}

# Paths in the repository that a page names in backquotes.
named_files() {
    local path
    grep -ohE '`(src|fs|tests|scripts|docs)/[^` ]*`' "${pages[@]}" | tr -d '`' | sort -u |
        while read -r path; do
            looked 1
            compgen -G "$path" >/dev/null || echo "$path is named, and does not exist"
        done
}

# The tables of names, against the implementation that the driver is compared with.
name_tables() {
    looked "$(grep -c '^<!-- names: ' docs/names.md)"
    "$PYTHON" - <<'PY'
import json, re, subprocess, sys

text = open("docs/names.md", encoding="utf-8").read()
tables = re.findall(r"<!-- names: (\w+) -->\n((?:\|.*\n)+)", text)
if len(tables) < 3:
    print("docs/names.md: the tables are not found any more")
for layout, table in tables:
    rows = re.findall(r"^\| `(\".*?\")` \| `(.*?)` \|$", table, flags=re.M)
    if len(rows) != table.count("\n") - 2:
        print("docs/names.md: a row of a table is not understood")
    lines = "".join(json.dumps(json.loads(name)) + "\n" for name, _ in rows)
    out = subprocess.run([sys.executable, "tests/oracles/names.py", "encode", "--layout", layout],
                         input=lines, capture_output=True, text=True, check=True).stdout
    for (name, want), got in zip(rows, map(json.loads, out.splitlines())):
        if got != want:
            print(f"docs/names.md: {name} is {got}, not {want}")
PY
}

# Each rule of docs/format.md has files in the corpus, and each file there has its rule.
corpus_rules() {
    local group file
    grep -oE '`([a-z-]+-\*|overlap)`' docs/format.md | tr -d '`' | sort -u >"$T/groups"
    while read -r group; do
        looked 1
        compgen -G "tests/corpus/invalid/$group.safetensors" >/dev/null || echo "$group: no such file in the corpus"
    done <"$T/groups"
    for file in tests/corpus/invalid/*; do
        looked 1
        file=$(basename "$file" .safetensors)
        grep -qxF -e "${file%%-*}-*" -e "$file" "$T/groups" || echo "$file: no rule in docs/format.md"
    done
}

check "links lead somewhere" links
check "files that are named exist" named_files
check "the examples of names are right" name_tables
check "rules and corpus agree" corpus_rules

# ---- installation ----

build_option() {
    meson introspect "$BUILD" --buildoptions | "$PYTHON" -c \
        'import json, sys; print({o["name"]: o["value"] for o in json.load(sys.stdin)}[sys.argv[1]])' "$1"
}

installed() {
    local prefix helpers file
    DESTDIR=$T/root meson install -C "$BUILD" --no-rebuild >"$T/install" 2>&1 || {
        cat "$T/install"
        return
    }
    looked "$(find "$T/root" ! -type d | wc -l)"
    prefix=$T/root$(build_option prefix)
    helpers=$(build_option helperdir)
    [ -n "$helpers" ] || helpers=$(build_option prefix)/sbin
    for file in share/man/man1/safetensorfs.1 share/man/man8/mount.safetensorfs.8 \
        share/bash-completion/completions/safetensorfs; do
        [ -f "$prefix/$file" ] || echo "$file is not installed"
    done
    [ -x "$prefix/bin/safetensorfs" ] || echo "bin/safetensorfs is not installed"
    for file in {,u}mount.{,fuse.}safetensorfs; do
        # One that is absolute leads out of the staging directory.
        [[ $(readlink "$T/root$helpers/$file") == /* || "$T/root$helpers/$file" -ef "$prefix/bin/safetensorfs" ]] ||
            echo "$helpers/$file does not lead to the binary"
        [ "$(basename "$(readlink "$T/root$helpers/$file")")" = safetensorfs ] || echo "$helpers/$file is not installed"
    done
    [ "$prefix/share/man/man8/umount.safetensorfs.8" -ef "$prefix/share/man/man8/mount.safetensorfs.8" ] ||
        echo "man8/umount.safetensorfs.8 does not lead to the man page"
    (cd "$T/root" && find . ! -type d | wc -l | grep -qx 13) || (cd "$T/root" && find . ! -type d)
}

if [ -n "${BUILD:-}" ] && type -P meson >/dev/null; then
    check "what is installed, and nothing else" installed
else
    echo "SKIP: no meson, so nothing was installed"
fi

# ---- the source ----

# sources FOLDER...: the C files below them.
sources() {
    local files
    files=$(find "$@" -name '*.[ch]' | sort)
    looked "$(wc -l <<<"$files")"
    echo "$files"
}

includes() { # REGEX FOLDER...
    sources "${@:2}" | xargs grep -lE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]$1"
}

# What meson.build cannot hide, since the compiler finds it without: a header below /usr/include,
# and one that is named by its way from here.
fuse_where_it_belongs() {
    includes 'fuse' src fs | grep -vxE 'fs/fuse/operations\.h|fs/mount/session\.c'
    return 0
}

no_ways() {
    includes '[^>"]*/[^"]*"' src fs
    return 0
}

short_files() {
    sources src fs | xargs wc -l | awk '$2 != "total" && $1 >= 500 { print $2 ": " $1 " lines" }'
}

unfinished() {
    sources src fs | xargs grep -nE '\b(TODO|FIXME|XXX|HACK)\b'
    return 0
}

# No two files have one name, so that it says which is meant.
names_twice() {
    sources src fs | sed 's|.*/||' | sort | uniq -d
}

objects() {
    looked "$(ar t "$LIBSFT" | wc -l)"
}

# Only what is read after the start-up is mutable state: relocated constants are not.
no_mutable_globals() {
    objects
    nm -f sysv "$LIBSFT" 2>/dev/null |
        awk -F '|' '$3 ~ /[dDbBcC]/ && $7 !~ /^\.data\.rel\.ro/ { print $1, $7 }'
}

no_printing_no_exit() {
    objects
    nm -u "$LIBSFT" 2>/dev/null | awk 'NF == 2 { print $2 }' | sort -u |
        grep -xE '_?_?(v?f?printf|v?dprintf|perror|puts|fputs|putchar|fputc|fwrite)(_chk)?|stdout|stderr|_?exit|abort|__assert_fail|v?(err|warn)x?|v?syslog'
    return 0
}

check "<fuse*.h> is included only where it may be" fuse_where_it_belongs
check "an include names a header, not the way to it" no_ways
check "no two files of the source have one name" names_twice
check "no file has 500 lines" short_files
check "nothing is left unfinished" unfinished
if [ -n "${LIBSFT:-}" ] && [[ ${SANITIZE:-none} =~ ^(none|\[\])$ ]] && type -P nm >/dev/null; then
    check "the library has no mutable globals" no_mutable_globals
    check "the library does not print, and does not exit" no_printing_no_exit
else
    echo "SKIP: with sanitizers the library has symbols that are not its own"
fi

echo "$checks checks, $failures failed"
[ "$failures" -eq 0 ]
