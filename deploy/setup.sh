#!/bin/sh
# Makes .venv with the project and one of its extras in it. Needs a Python of 3.11 or later and nothing else, as root or not,
# and writes nothing outside the project. Does nothing when all is there and pyproject.toml has not changed.
#
# usage: deploy/setup.sh servers|dev      PYTHON=/path/to/python chooses the interpreter
set -eu
unset CDPATH
cd -- "$(dirname -- "$0")/.."

extra=${1:?"usage: deploy/setup.sh servers|dev"}
venv=.venv
python=$venv/bin/python

# What an installation depends on: the project's metadata, and where it lies (scripts have absolute paths).
state="$(cksum pyproject.toml) $(pwd -P)"

installed() {
    [ -f "$venv/.installed-$1" ] && [ "$(cat "$venv/.installed-$1")" = "$state" ]
}

suitable() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

has_pip() {
    "$python" -m pip --version >/dev/null 2>&1
}

# An environment has its own path in its scripts; one that somebody else made says nothing of where, and is used as it is.
moved() {
    [ -f "$venv/.place" ] && [ "$(cat "$venv/.place")" != "$(pwd -P)" ]
}

# Tries every way to an environment with pip that $1 may offer: Debian ships a python3 without ensurepip.
make_venv() {
    rm -rf "$venv"
    "$1" -m venv "$venv" >/dev/null 2>&1 && has_pip && return
    rm -rf "$venv"
    "$1" -m virtualenv "$venv" >/dev/null 2>&1 && has_pip && return
    rm -rf "$venv"
    "$1" -m venv --without-pip "$venv" >/dev/null 2>&1 &&
        "$1" -m pip --python "$python" install --quiet pip >/dev/null 2>&1 && has_pip && return
    rm -rf "$venv"
    uv venv --quiet --seed --python "$1" "$venv" >/dev/null 2>&1 && has_pip && return
    rm -rf "$venv"
    return 1
}

find_python() {
    found=
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        suitable "$candidate" || continue
        found="$found $candidate"
        make_venv "$candidate" && return
    done
    if [ -z "$found" ]; then
        echo "setup: no Python of 3.11 or later was found (looked for: ${PYTHON:-python3, python3.13, python3.12, python3.11})." >&2
        echo "setup: install one, or name it: make PYTHON=/path/to/python ..." >&2
    else
        echo "setup: these Pythons cannot make a virtual environment with pip:$found." >&2
        echo "setup: on Debian and Ubuntu 'apt-get install python3-venv' mends that; virtualenv or uv will do as well." >&2
    fi
    exit 1
}

if { installed "$extra" || installed dev; } && suitable "$python"; then
    exit 0
fi
if ! suitable "$python" || ! has_pip || moved; then
    echo "setup: making $venv"
    find_python
fi
pwd -P >"$venv/.place"
rm -f "$venv"/.installed-*
echo "setup: installing cnstra[$extra] into $venv"
export PIP_DISABLE_PIP_VERSION_CHECK=1
# An older pip knows no editable installs from pyproject.toml alone.
"$python" -c 'import sys, pip; sys.exit(int(pip.__version__.split(".")[0]) < 23)' ||
    "$python" -m pip install --quiet --quiet --upgrade pip
"$python" -m pip install --quiet --quiet --editable ".[$extra]"
echo "$state" >"$venv/.installed-$extra"
