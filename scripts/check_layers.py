"""Check that imports run one way: `check_layers.py [ROOT]` names each that does not, and exits with status 1.

Invariants of the house, each a rule below:

- the crates form layers, python -> runtime -> {kernel, ledger, reactor, space, workers, exchange}, workers -> wire and
  {workers, exchange} -> parcel; kernel, ledger, parcel, reactor, space and wire import no sibling;
- the test kit is a dependency of tests only, so nothing of it is in a release;
- one crate names pyo3, so that no Python object lives below it;
- the policy of the workers names no clock, thread, lock, descriptor, file, process or chance;
- the pure crates take from outside only what brings no clock, thread, lock or descriptor with it;
- no crate takes locks whose sleepers stand in a table of the process, which a forked child inherits;
- every crate takes the workspace's lints;
- `thistledown._core` is imported in few files, the face of the engine; the rest is built on that face.

What a crate may use of the standard library is another check: the `clippy.toml` beside its `Cargo.toml`. A pure
module of a crate that is not pure is read here, word by word.
It reads manifests and syntax trees and runs nothing, so that a test can feed it a bad tree.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PREFIX = "thistledown-"

# Which siblings the code of a crate may depend on. A new crate gets its row with its first test.
LAYERS: dict[str, frozenset[str]] = {
    "kernel": frozenset(),
    "ledger": frozenset(),
    "reactor": frozenset(),
    "space": frozenset(),
    "wire": frozenset(),
    "parcel": frozenset(),
    "workers": frozenset({"wire", "parcel"}),
    "exchange": frozenset({"parcel"}),
    "runtime": frozenset({"kernel", "ledger", "reactor", "space", "workers", "wire", "parcel", "exchange"}),
    "python": frozenset({"runtime", "kernel", "ledger", "reactor", "space", "workers", "wire", "parcel", "exchange"}),
    "testkit": frozenset({"kernel", "reactor"}),
}
TEST_ONLY = "testkit"

# What the code of the pure crates may take from outside. Tests of theirs may take more.
OUTSIDE: dict[str, frozenset[str]] = {
    "kernel": frozenset({"slab", "slotmap", "smallvec", "thiserror"}),
    "ledger": frozenset({"crc32fast", "rusqlite", "rustix", "rustix-futex-sync", "thiserror"}),
    "reactor": frozenset({"mio", "rustix", "slab", "smallvec", "thiserror"}),
    "space": frozenset({"smallvec", "thiserror"}),
    "parcel": frozenset({"rustix"}),
    "wire": frozenset({"postcard", "serde", "thiserror", "loom"}),  # loom: under --cfg loom, for its models
}

# Folders of pure modules, and what their code does not name. Their crates have it, so no lint of a crate can say so.
PURE_FOLDERS = ("crates/workers/src/policy",)
IMPURE = re.compile(
    r"\bstd::(?:env|fs|io|net|os|process|sync|thread|time)\b"
    r"|\b(?:env|fs|io|libc|lock_api|net|os|process|rand|rustix|rustix_futex_sync|sync|thread|time)::"
    r"|\b(?:Instant|RandomState|SystemTime|unsafe)\b|\bHash(?:Map|Set)::new\b"
    r"|\bcrate::(?!policy\b)|\bsuper::super\b"
)

# Locks that keep their sleepers in a table of the process. In a forked child it has threads that are not there, in
# memory that new threads get; then a queue there has no end.
BOUND_TO_A_PROCESS = frozenset({"parking_lot", "parking_lot_core"})

# The one crate that may depend on pyo3, in any kind of dependency.
PYTHON_CRATE = "python"
PYTHON_BINDING = "pyo3"

# The Python files that may import the engine: the package's two front doors, and modules private by name.
ENGINE = "thistledown._core"
ENGINE_IMPORTERS = ("__init__.py", "testing.py", "_*.py")

Manifest = dict[str, Any]


def main(root: Path) -> int:
    """Print each breach below `root`; the exit status."""
    breaches = list(find_breaches(root))
    for breach in breaches:
        print(breach, file=sys.stderr)
    if not breaches:
        print("layers: every import runs one way")
    return 1 if breaches else 0


def find_breaches(root: Path) -> Iterator[str]:
    """Yield one sentence for each breach of the layers in the tree at `root`."""
    workspace = tomllib.loads((root / "Cargo.toml").read_text())["workspace"]
    manifests = sorted(root.glob("crates/*/Cargo.toml"))
    if not manifests:
        yield f"{root}: has no crates/*/Cargo.toml, so there was nothing to check"
    for path in manifests:
        yield from crate_breaches(path.relative_to(root), tomllib.loads(path.read_text()), workspace)
    for folder in PURE_FOLDERS:
        modules = sorted((root / folder).rglob("*.rs"))
        if not modules:
            yield f"{root}: has no {folder}/**/*.rs, so there was nothing to check"
        for path in modules:
            yield from impure_names(path.relative_to(root), path.read_text())
    sources = sorted((root / "python" / "thistledown").rglob("*.py"))
    if not sources:
        yield f"{root}: has no python/thistledown/**/*.py, so there was nothing to check"
    for path in [*sources, *sorted(root.glob("examples/**/*.py"))]:
        yield from python_breaches(path.relative_to(root), path.read_text())


def crate_breaches(path: Path, manifest: Manifest, workspace: Manifest) -> Iterator[str]:
    """Yield the breaches of one crate's manifest."""
    package = manifest["package"]["name"]
    crate = package.removeprefix(PREFIX)
    if crate not in LAYERS or package == crate:
        yield f"{path}: the crate {package!r} has no row in LAYERS: say there what it may import"
        return
    if manifest.get("lints", {}).get("workspace") is not True:
        yield f"{path}: does not take the workspace's lints ([lints] workspace = true)"
    for kind, name in dependencies(manifest, workspace):
        if name.startswith(PYTHON_BINDING) and crate != PYTHON_CRATE:
            yield f"{path}: {crate} depends on {name}, but only crates/{PYTHON_CRATE} may know of Python"
        if kind == "dev-dependencies":
            continue
        if name in BOUND_TO_A_PROCESS:
            yield f"{path}: {crate} depends on {name}, whose locks are not for forked children: take rustix-futex-sync"
            continue
        if not name.startswith(PREFIX):
            if crate in OUTSIDE and name not in OUTSIDE[crate]:
                yield f"{path}: {crate} depends on {name}, which has no place in it (see OUTSIDE)"
            continue
        sibling = name.removeprefix(PREFIX)
        if sibling == TEST_ONLY:
            yield f"{path}: {crate} depends on {sibling} in {kind}, but it is for dev-dependencies only"
        elif sibling not in LAYERS[crate]:
            allowed = ", ".join(sorted(LAYERS[crate])) or "no sibling"
            yield f"{path}: {crate} depends on {sibling}, but may import {allowed}"


def impure_names(path: Path, source: str) -> Iterator[str]:
    """Yield what the code of a pure module names that is not a matter of its arguments alone."""
    for number, line in enumerate(source.splitlines(), 1):
        code = line.split("//")[0].replace("::{", "::")
        if found := IMPURE.search(code):
            yield f"{path}:{number}: names {found[0]}, but what it does depends on its arguments alone"


def dependencies(manifest: Manifest, workspace: Manifest) -> Iterator[tuple[str, str]]:
    """Yield (kind, package name) for each dependency, also those of one target only."""
    for table in (manifest, *manifest.get("target", {}).values()):
        for kind in ("dependencies", "build-dependencies", "dev-dependencies"):
            for key, value in table.get(kind, {}).items():
                yield kind, package_name(key, value, workspace)


def package_name(key: str, value: str | Manifest, workspace: Manifest) -> str:
    """The package behind a dependency's key, which may be a name of the crate's or the workspace's own."""
    if isinstance(value, str):
        return key
    if value.get("workspace") is True:
        return package_name(key, workspace.get("dependencies", {}).get(key, ""), workspace)
    name: str = value.get("package", key)
    return name


def python_breaches(path: Path, source: str) -> Iterator[str]:
    """Yield the imports of the engine by a file that is not one of its importers."""
    in_package = path.parts[:2] == ("python", "thistledown")
    if in_package and any(path.match(pattern) for pattern in ENGINE_IMPORTERS):
        return
    module = ".".join(path.with_suffix("").parts[1:]) if in_package else path.stem
    for node in ast.walk(ast.parse(source, str(path))):
        if any(name == ENGINE or name.startswith(ENGINE + ".") for name in imported_names(node, module)):
            line = getattr(node, "lineno", 0)
            yield f"{path}:{line}: imports {ENGINE}; only {', '.join(ENGINE_IMPORTERS)} may"


def imported_names(node: ast.AST, module: str) -> Iterator[str]:
    """Yield the full dotted name of everything that `node`, in `module`, imports or reaches for."""
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=origin, names=names, level=level):
            start = module.split(".")[:-level] if level else []
            base = ".".join([*start, *([origin] if origin else [])])
            yield from (f"{base}.{alias.name}" for alias in names)
        case ast.Attribute(value=ast.Name(id="thistledown" | "td"), attr=attribute):
            yield f"thistledown.{attribute}"
        case ast.Constant(value=str(text)) if text.isascii() and " " not in text:
            yield text  # for import_module("thistledown._core")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent))
