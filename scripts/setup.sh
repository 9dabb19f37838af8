#!/bin/sh
# Which Python makes the virtual environment, and whether there is anything to do at all.
#
#   sh scripts/setup.sh run     what `make demo` needs
#   sh scripts/setup.sh dev     what `make test` and `make verify` need as well
#
# Plain sh, because this part must also speak clearly where there is no Python, or only an old one. PYTHON names another one.
set -u
cd "$(dirname "$0")/.." || exit 1
level="${1:-run}"

runs_from_3_11() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

makes_environments() {
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1
}

# The first Python that is new enough and can make environments; else the first that is new enough.
find_python() {
    second_best=""
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
        runs_from_3_11 "$candidate" || continue
        if makes_environments "$candidate"; then
            echo "$candidate"
            return
        fi
        second_best="${second_best:-$candidate}"
    done
    echo "$second_best"
}

# Nothing to do is the usual case, and must cost nothing: the environment's own Python can tell.
if [ -z "${PYTHON:-}" ] && .venv/bin/python scripts/set_up.py --check "$level" >/dev/null 2>&1; then
    exit 0
fi

python="$(find_python)"
if [ -z "$python" ]; then
    if [ -n "${PYTHON:-}" ]; then
        echo "error: PYTHON=$PYTHON is no Python of version 3.11 or later" >&2
    else
        echo "error: no Python of version 3.11 or later was found (looked for python3.13, 3.12, 3.11, python3, python)" >&2
    fi
    echo "hint: install one (Debian, Ubuntu: apt-get install python3 python3-venv), or name it: make demo PYTHON=/path/to/python3" >&2
    exit 1
fi
exec "$python" scripts/set_up.py "$level"
