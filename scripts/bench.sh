#!/usr/bin/env bash
# Measure reads, mounting, listing and memory, and hold them against the targets.
# usage: scripts/bench.sh [OPTION...]          (--help lists them)
#
# Makes an optimised build of its own (build-bench) unless SAFETENSORFS names a binary. As root the
# driver may raise the read-ahead, and drop_caches works: the targets are for root.
set -eu -o pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

if [ -z "${SAFETENSORFS:-}" ]; then
    install_packages "${packages_build[@]}" python3-numpy >&2
    build "$ROOT/build-bench" --buildtype=release || die "the build failed"
    SAFETENSORFS=$ROOT/build-bench/fs/safetensorfs
fi
# Where numpy is Debian's, python3 has to be, too.
python=python3
"$python" -c 'import numpy' 2>/dev/null || [ ! -x /usr/bin/python3 ] || python=/usr/bin/python3
exec "$python" "$ROOT/scripts/bench.py" --binary "$SAFETENSORFS" "$@"
