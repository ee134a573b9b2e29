#!/bin/sh
# Sees to it that there is a browser for the tests of the page of `thistledown top --web`: Debian's Chromium.
#
# Where none is there and none can be installed, it says so, and the tests of the page are skipped; with
# THISTLEDOWN_NEEDS_BROWSER=1, as continuous integration has it, that is an error.
set -u

for name in chromium chromium-browser google-chrome chrome; do
    command -v "$name" >/dev/null 2>&1 && exit 0
done

why="apt-get is not on the PATH"
if command -v apt-get >/dev/null 2>&1; then
    why="only root can install packages: sudo apt-get install chromium"
    if [ "$(id -u)" -eq 0 ]; then
        echo "installing chromium, for the tests of the page"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q chromium >/dev/null 2>&1 ||
            { apt-get update -q >/dev/null 2>&1 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q chromium >/dev/null; }
        command -v chromium >/dev/null 2>&1 && exit 0
        why="apt-get could not install chromium"
    fi
fi
printf 'no browser: %s. The tests of the page are skipped.\n' "$why" >&2
[ "${THISTLEDOWN_NEEDS_BROWSER:-}" != 1 ]
