"""Builds what is published, and installs each of it in a clean environment to see whether it works: `make wheels`.

    python scripts/wheels.py                       # a wheel for each interpreter of VERSIONS, and an sdist
    python scripts/wheels.py --python python3.12   # for these interpreters only
    python scripts/wheels.py --no-sdist

Wheels are for a version of CPython each: the stable interface has no slots and calling conventions that the hot path
needs. They are for any Linux with a glibc as old as COMPATIBILITY names, whatever this machine's is: zig links, and
compiles the C of SQLite, against that one's symbols, and maturin looks at every symbol again when it packs them. The
sdist is built by pip from what is in it, out of sight of this repository.

In each environment, `smoke.py` runs, outside of the repository, without any variable that could lead back into it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.11", "3.12", "3.13")
COMPATIBILITY = "manylinux_2_17"
#: What may not come along from the environment of whoever calls.
OURS = (
    "PYTHON",
    "PIP_",
    "VIRTUAL_ENV",
    "CONDA",
    "THISTLEDOWN",
    "PYO3",
    "MAKE",
    "MFLAGS",
    "CARGO_TARGET_DIR",
    "RUSTFLAGS",
)


def main() -> None:
    words = arguments()
    interpreters = [Path(shutil.which(name) or name) for name in words.python] or [found(name) for name in VERSIONS]
    words.out = words.out.resolve()
    empty(words.out)
    for interpreter in interpreters:
        maturin("build", "--release", "--zig", "--compatibility", COMPATIBILITY, "-i", interpreter, out=words.out)
    built = list(zip(interpreters, wheels(words.out, interpreters), strict=True))
    if words.sdist:
        maturin("sdist", out=words.out)
        built.append((interpreters[0], next(words.out.glob("*.tar.gz"))))
    for interpreter, file in built:
        print(f"\n{file.name}, {file.stat().st_size / 1e6:.1f} MB", flush=True)
        try_out(interpreter, file)
    print(f"\nall of it works: {words.out}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", default=[], help="an interpreter to build for (again for more)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "dist", help="where the files go; older ones are removed first"
    )
    parser.add_argument("--sdist", action=argparse.BooleanOptionalAction, default=True, help="the sources too")
    return parser.parse_args()


def empty(folder: Path) -> None:
    """Removes what was built before; a folder with anything else in it is somebody's, and left as it is."""
    if not folder.is_dir():
        return
    there = sorted(folder.iterdir())
    others = [path.name for path in there if not (path.is_file() and path.name.endswith((".whl", ".tar.gz")))]
    if others:
        sys.exit(f"{folder} has more than wheels and sdists in it, as {others[0]}: give --out a folder of its own")
    for path in there:
        path.unlink()


def found(version: str) -> Path:
    """An interpreter of that version: on the PATH, or the latest that pyenv has."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    latest = sorted(pyenv.glob(f"{version}.*/bin/python"), key=lambda path: int(path.parts[-3].rpartition(".")[2]))
    for candidate in (shutil.which(f"python{version}"), *reversed(latest)):
        # A name on the PATH may stand for a version that is not installed.
        if candidate and said_by(candidate) == version:
            return Path(candidate)
    sys.exit(f"no CPython {version} is on the PATH or in {pyenv}: install it, or name others with --python")


def said_by(interpreter: str | Path) -> str | None:
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    asked = subprocess.run([interpreter, "-c", program], capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else None


def maturin(verb: str, *words: str | Path, out: Path) -> None:
    # It looks for zig, which is in the environment of this interpreter, on the PATH.
    bin = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}"}
    environment.pop("CONDA_PREFIX", None)
    locked = ["--locked"] if verb == "build" else []
    subprocess.run([bin / "maturin", verb, *locked, *words, "--out", out], cwd=ROOT, env=environment, check=True)


def wheels(folder: Path, interpreters: list[Path]) -> list[Path]:
    """The wheel of each interpreter, in their order."""
    found = []
    for interpreter in interpreters:
        tag = f"cp{(said_by(interpreter) or '').replace('.', '')}"
        [wheel] = folder.glob(f"*-{tag}-{tag}-*.whl")
        if COMPATIBILITY not in wheel.name:
            sys.exit(f"{wheel.name} is not for {COMPATIBILITY}")
        found.append(wheel)
    return found


def try_out(interpreter: Path, file: Path) -> None:
    """Installs the file in an environment of its own, and runs `smoke.py` there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    with tempfile.TemporaryDirectory(prefix="thistledown-") as name:
        folder = Path(name)
        shutil.copy(ROOT / "scripts" / "smoke.py", folder)
        subprocess.run([interpreter, "-m", "venv", folder / "clean"], cwd=folder, env=environment, check=True)
        python = folder / "clean" / "bin" / "python"
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", file]
        subprocess.run(install, cwd=folder, env=environment, check=True)
        subprocess.run([python, "smoke.py"], cwd=folder, env=environment, check=True, timeout=300)


if __name__ == "__main__":
    main()
