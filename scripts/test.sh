#!/usr/bin/env bash
# Install what is needed, build, and run every test.
# usage: scripts/test.sh [BUILD_DIR [MESON_OPTION...]]
#
# Needs root or sudo where packages are missing or /dev/fuse is root's. The last line counts:
# `N passed, M failed, K skipped`; exit status 0 only where nothing failed.
set -eu -o pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

case ${1:-} in
-h | --help)
    sed -n 's/^# \{0,1\}//; 2,6p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac
dir=$(realpath -m "${1:-$ROOT/build}")
shift || true

install_packages "${packages_build[@]}" "${packages_test[@]}"
say "building in $dir"
build "$dir" -Dtests=enabled "$@" || die "the build failed"

say "unit and corpus tests"
run_tests "$dir" testlog-unit --no-suite mount
say "mount tests"
if [ -r /dev/fuse ] && [ -w /dev/fuse ]; then
    run_tests "$dir" testlog-mount --suite mount
elif [ -c /dev/fuse ] && type -P sudo >/dev/null; then
    as_root "$(command -v bash)" -c '. "$1/scripts/setup.sh"; run_tests "$2" testlog-mount --suite mount' \
        - "$ROOT" "$dir"
    as_root chown -R "$(id -u):$(id -g)" "$dir/meson-logs"
else
    # They skip themselves, and say why.
    run_tests "$dir" testlog-mount --suite mount
fi

read -r passed failed skipped < <(count_results "$dir"/meson-logs/testlog-{unit,mount}.json)
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
