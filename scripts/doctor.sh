#!/bin/sh
# Checks that this machine has what the project is built with, and says in words what is missing.
#
#   scripts/doctor.sh            check everything; exit status 1 when something is missing
#   scripts/doctor.sh --python   print the path of the interpreter that is used, nothing else
#
# PYTHON names the interpreter to use; without it the first good one on the PATH is taken.
set -u

root=$(cd "$(dirname "$0")/.." && pwd)
missing=0

say_missing() {
    missing=1
    printf 'missing: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '         %s\n' "$line" >&2; done
}

# "1.85" when the workspace says rust-version = "1.85": one home for the number.
required_rust() {
    sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' "$root/Cargo.toml" | head -n 1
}

# A python that runs, is CPython >= 3.11 and can make virtual environments: prints its own path.
# (A name on the PATH may be only a stand-in for a version that is not installed: so each is run.)
python_path() {
    "$1" - 2>/dev/null <<'PROBE'
import platform, sys
if platform.python_implementation() != "CPython" or sys.version_info < (3, 11):
    sys.exit(1)
import ensurepip, venv
# Inside an activated environment: the interpreter that it was made from.
print(getattr(sys, "_base_executable", None) or sys.executable)
PROBE
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        python_path "$PYTHON"
        return
    fi
    for name in python3 python3.13 python3.12 python3.11 python3.14 python; do
        python_path "$name" && return
    done
    return 1
}

if [ "${1:-}" = --python ]; then
    find_python
    exit
fi

# --- Rust -------------------------------------------------------------------------------------
rust=$(required_rust)
rustup_hint="Install the current stable toolchain with rustup, the Rust project's own installer."
if ! command -v cargo >/dev/null 2>&1; then
    say_missing "a Rust toolchain (the command 'cargo' is not on the PATH)" \
        "$rustup_hint" \
        "If it is installed already, add ~/.cargo/bin to the PATH or open a new shell."
elif ! version=$(rustc --version 2>/dev/null); then
    say_missing "a Rust compiler ('cargo' is there, 'rustc' does not run)" \
        "Choose a toolchain with 'rustup default stable'."
else
    have=$(printf '%s\n' "$version" | sed 's/^rustc \([0-9]*\.[0-9]*\).*/\1/')
    oldest=$(printf '%s\n%s\n' "$rust" "$have" | sort -t . -k 1,1n -k 2,2n | head -n 1)
    if [ "$oldest" != "$rust" ]; then
        say_missing "Rust $rust or later (this one is $have)" "Run 'rustup update stable'. $rustup_hint"
    fi
fi

# --- C compiler -------------------------------------------------------------------------------
if ! command -v cc >/dev/null 2>&1 && ! command -v gcc >/dev/null 2>&1 && ! command -v clang >/dev/null 2>&1; then
    say_missing "a C compiler (Rust links with it; none of cc, gcc, clang is on the PATH)" \
        "Debian, Ubuntu: apt-get install build-essential      Fedora: dnf install gcc" \
        "Alpine: apk add build-base                           macOS: xcode-select --install"
fi

# --- Python -----------------------------------------------------------------------------------
if ! find_python >/dev/null; then
    if [ -n "${PYTHON:-}" ]; then
        say_missing "CPython 3.11 or later with the modules 'venv' and 'ensurepip' (PYTHON=$PYTHON is not one)" \
            "Give another interpreter, PYTHON=/path/to/python3.12, or leave PYTHON out."
    else
        say_missing "CPython 3.11 or later with the modules 'venv' and 'ensurepip'" \
            "Debian, Ubuntu: apt-get install python3 python3-venv   Fedora: dnf install python3" \
            "macOS: brew install python@3.12                        any: pyenv install 3.12" \
            "If one is installed elsewhere, name it: make test PYTHON=/path/to/python3.12"
    fi
fi

# --- make -------------------------------------------------------------------------------------
if ! command -v make >/dev/null 2>&1; then
    say_missing "make" \
        "Debian, Ubuntu: apt-get install make                 Fedora: dnf install make" \
        "Alpine: apk add make                                 macOS: xcode-select --install"
fi

if [ "$missing" -ne 0 ]; then
    printf 'Install what is missing, then give the same command again.\n' >&2
    exit 1
fi
