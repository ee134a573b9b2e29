#!/bin/sh
# Runs the Rust tests under a sanitizer of the nightly compiler: `scripts/sanitize.sh address`, or `thread`.
#
# The standard library is built with it too (-Zbuild-std), or the thread sanitizer would not see its locks and threads.
# Left out:
# - the extension crate, which is a library for Python to load and has no Rust tests;
# - documentation's examples: they are programs of a few lines, and each would be linked anew;
# - SQLite, which is C, and compiled as it always is: its own tests do this, and one thread uses each connection;
# - most cases of the property tests, which take many times as long here: PROPTEST_CASES brings them back;
# - leaks: what is kept until a process ends, and what forked workers leave behind by `_exit`, is no finding here. Tests
#   with counted values, and the soak, look for leaks.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
sanitizer=${1:?which sanitizer: address or thread}
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
if [ ! -e "$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ]; then
    echo "missing: the sources of the standard library: rustup component add rust-src --toolchain nightly" >&2
    exit 1
fi

export RUSTFLAGS="-Zsanitizer=$sanitizer -Cunsafe-allow-abi-mismatch=sanitizer"
export CARGO_TARGET_DIR="$root/target/$sanitizer"
export PROPTEST_CASES="${PROPTEST_CASES:-16}"
export ASAN_OPTIONS="detect_leaks=0:${ASAN_OPTIONS:-}"
# Workers are forked by a zygote, and start threads.
export TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1:die_after_fork=0:${TSAN_OPTIONS:-}"

cd "$root"
set -- --workspace --exclude thistledown-python --lib --bins --tests -Zbuild-std --target "$host"
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo +nightly nextest run --profile sanitizer "$@"
fi
exec cargo +nightly test "$@"
