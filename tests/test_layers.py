"""The checks of the layers can fail: each rule is shown a tree, or a line of Rust, that breaks it."""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "check_layers.py"

specification = importlib.util.spec_from_file_location("check_layers", SCRIPT)
assert specification is not None
assert specification.loader is not None
check_layers = importlib.util.module_from_spec(specification)
specification.loader.exec_module(check_layers)

LINTS = "[lints]\nworkspace = true\n"
GOOD = {
    "Cargo.toml": '[workspace.dependencies]\nbinding = { package = "pyo3", version = "1" }\nslab = "0.4"\n',
    "crates/kernel/Cargo.toml": f"""
        [package]
        name = "thistledown-kernel"
        [dependencies]
        slab.workspace = true
        [dev-dependencies]
        proptest = "1"
        thistledown-testkit.workspace = true
        {LINTS}""",
    "crates/runtime/Cargo.toml": f"""
        [package]
        name = "thistledown-runtime"
        [dependencies]
        rustix-futex-sync = "0.4"
        thistledown-kernel.workspace = true
        {LINTS}""",
    "crates/python/Cargo.toml": f"""
        [package]
        name = "thistledown-python"
        [dependencies]
        binding.workspace = true
        thistledown-runtime.workspace = true
        {LINTS}""",
    "crates/workers/src/policy/mod.rs": "use std::cmp::Reverse; // not std::time::Instant\n",
    "python/thistledown/__init__.py": "from thistledown._core import Task\n",
    "python/thistledown/_face.py": "from . import _core\n",
    "python/thistledown/testing.py": "from thistledown._face import run\n",
    "examples/first.py": "import thistledown as td\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in GOOD.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line.strip() for line in text.splitlines()))
    return tmp_path


def breaches(root: Path) -> list[str]:
    return list(check_layers.find_breaches(root))


def the_breach(root: Path) -> str:
    (breach,) = breaches(root)
    assert isinstance(breach, str)
    return breach


def add_dependency(root: Path, crate: str, line: str, kind: str = "dependencies") -> None:
    path = root / "crates" / crate / "Cargo.toml"
    text = path.read_text()
    header = f"[{kind}]"
    if header not in text:
        text += f"\n{header}\n"
    path.write_text(text.replace(header, f"{header}\n{line}"))


def test_a_good_tree_has_no_breach(tree: Path) -> None:
    assert breaches(tree) == []


def test_this_tree_has_no_breach() -> None:
    assert breaches(ROOT) == []


def test_space_imports_no_sibling(tree: Path) -> None:
    manifest = tree / "crates/space/Cargo.toml"
    manifest.parent.mkdir()
    manifest.write_text(f'[package]\nname = "thistledown-space"\n{LINTS}')
    add_dependency(tree, "space", "thistledown-kernel.workspace = true")
    assert "space depends on kernel, but may import no sibling" in the_breach(tree)


def test_kernel_imports_no_sibling(tree: Path) -> None:
    add_dependency(tree, "kernel", "thistledown-runtime.workspace = true")
    assert "kernel depends on runtime, but may import no sibling" in the_breach(tree)


def test_imports_do_not_run_upwards(tree: Path) -> None:
    add_dependency(tree, "runtime", 'thistledown-python = { path = "../python" }')
    assert "runtime depends on python, but may import exchange, kernel" in the_breach(tree)


def test_a_dependency_of_one_target_only_counts(tree: Path) -> None:
    add_dependency(tree, "kernel", 'thistledown-reactor = "1"', "target.'cfg(unix)'.dependencies")
    assert "kernel depends on reactor" in the_breach(tree)


@pytest.mark.parametrize("kind", ["dependencies", "dev-dependencies", "build-dependencies"])
def test_only_the_python_crate_depends_on_pyo3(tree: Path, kind: str) -> None:
    add_dependency(tree, "runtime", 'pyo3 = "1"', kind)
    assert "runtime depends on pyo3, but only crates/python" in the_breach(tree)


def test_a_name_of_the_workspace_s_own_hides_no_package(tree: Path) -> None:
    add_dependency(tree, "runtime", "binding = { workspace = true }")
    assert "runtime depends on pyo3" in the_breach(tree)


def test_a_name_of_the_crate_s_own_hides_no_package(tree: Path) -> None:
    add_dependency(tree, "kernel", 'table = { package = "rustix-futex-sync", version = "1" }')
    assert "kernel depends on rustix-futex-sync, which has no place in it" in the_breach(tree)


def test_no_lock_is_bound_to_the_process_that_took_it(tree: Path) -> None:
    add_dependency(tree, "runtime", 'parking_lot = "0.12"')
    assert "runtime depends on parking_lot, whose locks are not for forked children" in the_breach(tree)


def test_the_test_kit_is_for_tests_only(tree: Path) -> None:
    add_dependency(tree, "runtime", "thistledown-testkit.workspace = true")
    assert "dev-dependencies only" in the_breach(tree)


def test_a_crate_without_a_row_is_a_breach(tree: Path) -> None:
    shutil.copytree(tree / "crates/kernel", tree / "crates/extra")
    manifest = tree / "crates/extra/Cargo.toml"
    manifest.write_text(manifest.read_text().replace("thistledown-kernel", "thistledown-extra"))
    assert "'thistledown-extra' has no row in LAYERS" in the_breach(tree)


def test_a_crate_takes_the_lints_of_the_workspace(tree: Path) -> None:
    manifest = tree / "crates/kernel/Cargo.toml"
    manifest.write_text(manifest.read_text().replace("workspace = true", "workspace = false"))
    assert any("does not take the workspace's lints" in breach for breach in breaches(tree))


IMPURE = {
    "clock": "let now = std::time::Instant::now();",
    "clock by a short name": "use std::time;",
    "clock in a group": "use std::{time::Duration, cmp::Reverse};",
    "clock at the end of a group": "use std::{cmp::Reverse, time::Duration};",
    "thread": "std::thread::yield_now();",
    "lock": "lock: rustix_futex_sync::Mutex<u8>,",
    "process": "use std::process::Command;",
    "file": "let text = fs::read(path);",
    "socket": "use std::net::UdpSocket;",
    "system call": "rustix::io::close(number);",
    "descriptor": "use std::os::fd::OwnedFd;",
    "chance": "let map: HashMap<u8, u8> = HashMap::new();",
    "memory of others": "unsafe { *place }",
    "a module that is not pure": "use crate::engine::Lane;",
    "a module that is not pure, from here": "use super::super::engine::Lane;",
}


@pytest.mark.parametrize("line", [pytest.param(line, id=what) for what, line in IMPURE.items()])
def test_the_policy_of_the_workers_is_pure(tree: Path, line: str) -> None:
    (tree / "crates/workers/src/policy/deep").mkdir()
    (tree / "crates/workers/src/policy/deep/queue.rs").write_text(f"//! A module.\n{line}\n")
    assert "crates/workers/src/policy/deep/queue.rs:2: names" in the_breach(tree)


def test_what_is_beside_the_policy_need_not_be_pure(tree: Path) -> None:
    (tree / "crates/workers/src/engine.rs").write_text("use std::time::Instant;\n")
    assert breaches(tree) == []


IMPORTS = [
    "import thistledown._core",
    "import thistledown._core as engine",
    "from thistledown import _core",
    "from thistledown._core import Task",
    "import thistledown as td\ntask = td._core.Task",
    "import importlib\nengine = importlib.import_module('thistledown._core')",
]


@pytest.mark.parametrize("statement", [*IMPORTS, "from . import _core", "from ._core import Task"])
def test_few_files_of_the_package_import_the_engine(tree: Path, statement: str) -> None:
    (tree / "python/thistledown/public.py").write_text(statement + "\n")
    assert "python/thistledown/public.py" in the_breach(tree)


@pytest.mark.parametrize("statement", IMPORTS)
def test_no_example_imports_the_engine(tree: Path, statement: str) -> None:
    (tree / "examples/second.py").write_text(statement + "\n")
    assert "examples/second.py" in the_breach(tree)


def test_a_file_deeper_in_the_package_counts(tree: Path) -> None:
    (tree / "python/thistledown/net").mkdir()
    (tree / "python/thistledown/net/sockets.py").write_text("from .._core import Socket\n")
    assert "net/sockets.py:1: imports thistledown._core" in the_breach(tree)


@pytest.mark.parametrize("emptied", ["crates/*/Cargo.toml", "crates/workers/src/policy/*", "python/thistledown/*"])
def test_a_tree_with_nothing_to_check_is_a_breach(tree: Path, emptied: str) -> None:
    for path in tree.glob(emptied):
        path.unlink()
    assert "nothing to check" in the_breach(tree)


def test_the_script_says_what_is_wrong_and_fails(tree: Path) -> None:
    add_dependency(tree, "kernel", "thistledown-runtime.workspace = true")
    ended = subprocess.run([sys.executable, SCRIPT, tree], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "crates/kernel/Cargo.toml: kernel depends on runtime" in ended.stderr


# --- the lints of each crate: what it may use of the standard library ---------------------------------

FORBIDDEN = {
    "kernel": {
        "clock": "pub fn f() -> std::time::Instant { std::time::Instant::now() }",
        "wall clock": "pub fn f() -> std::time::SystemTime { std::time::SystemTime::now() }",
        "thread": "pub fn f() { std::thread::spawn(|| ()); }",
        "lock": "pub fn f() -> std::sync::Mutex<u8> { std::sync::Mutex::new(1) }",
        "socket": "pub fn f(_: &std::net::TcpStream) {}",
        "file": 'pub fn f() -> bool { std::fs::read("x").is_ok() }',
        "descriptor": "pub fn f(_: std::os::fd::RawFd) {}",
    },
    "reactor": {
        "clock": "pub fn f() -> std::time::Instant { std::time::Instant::now() }",
        "thread": "pub fn f() { std::thread::spawn(|| ()); }",
        "sleep": "pub fn f() { std::thread::sleep(std::time::Duration::ZERO) }",
    },
    "space": {
        "clock": "pub fn f() -> std::time::Instant { std::time::Instant::now() }",
        "thread": "pub fn f() { std::thread::spawn(|| ()); }",
        "lock": "pub fn f() -> std::sync::Mutex<u8> { std::sync::Mutex::new(1) }",
        "file": 'pub fn f() -> bool { std::fs::read("x").is_ok() }',
    },
    "wire": {
        "clock": "pub fn f() -> std::time::Instant { std::time::Instant::now() }",
        "lock": "pub fn f() -> std::sync::Mutex<u8> { std::sync::Mutex::new(1) }",
        "descriptor": "pub fn f(_: std::os::fd::RawFd) {}",
    },
    "parcel": {
        "clock": "pub fn f() -> std::time::Instant { std::time::Instant::now() }",
        "thread": "pub fn f() { std::thread::spawn(|| ()); }",
        "sleep": "pub fn f() { std::thread::sleep(std::time::Duration::ZERO) }",
        "process": 'pub fn f() { std::process::Command::new("x"); }',
        "setting": 'pub fn f() -> bool { std::env::var("x").is_ok() }',
    },
    "ledger": {
        "wall clock": "pub fn f() -> std::time::SystemTime { std::time::SystemTime::now() }",
        "clock": "pub fn f() -> std::time::Instant { std::time::Instant::now() }",
        "sleep": "pub fn f() { std::thread::sleep(std::time::Duration::ZERO) }",
        "socket": "pub fn f(_: &std::os::unix::net::UnixStream) {}",
        "setting": 'pub fn f() -> bool { std::env::var("x").is_ok() }',
    },
    "exchange": {
        "wall clock": "pub fn f() -> std::time::SystemTime { std::time::SystemTime::now() }",
        "sleep": "pub fn f() { std::thread::sleep(std::time::Duration::ZERO) }",
        "socket": "pub fn f(_: &std::net::TcpStream) {}",
        "process": 'pub fn f() { std::process::Command::new("x"); }',
        "setting": 'pub fn f() -> bool { std::env::var("x").is_ok() }',
    },
    "workers": {
        "wall clock": "pub fn f() -> std::time::SystemTime { std::time::SystemTime::now() }",
        "sleep": "pub fn f() { std::thread::sleep(std::time::Duration::ZERO) }",
        "socket": "pub fn f(_: &std::net::TcpStream) {}",
        "setting": 'pub fn f() -> bool { std::env::var("x").is_ok() }',
    },
    "runtime": {
        "wall clock": "pub fn f() -> std::time::SystemTime { std::time::SystemTime::now() }",
        "sleep": "pub fn f() { std::thread::sleep(std::time::Duration::ZERO) }",
    },
    "python": {
        "clock": "pub fn f() -> std::time::Instant { std::time::Instant::now() }",
        "thread": "pub fn f() { std::thread::spawn(|| ()); }",
    },
    "testkit": {
        "clock": "pub fn f() -> std::time::Instant { std::time::Instant::now() }",
    },
}
HARMLESS = "pub fn f(limit: std::time::Duration) -> bool { limit.is_zero() }"


@pytest.fixture(scope="module")
def lint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], str]]:
    """Lint some Rust under the rules of a crate; returns what clippy says of it, empty when nothing."""
    if subprocess.run(["cargo", "clippy", "--version"], capture_output=True, check=False).returncode:
        pytest.skip("clippy is not installed")
    crate = tmp_path_factory.mktemp("linted")
    (crate / "src").mkdir()
    (crate / "Cargo.toml").write_text('[package]\nname = "linted"\nversion = "0.1.0"\nedition = "2024"\n[workspace]\n')

    def lint(rules_of: str, source: str) -> str:
        # As a line of its own in the source: a change of the rules alone might be taken from the cache.
        shutil.copy(ROOT / "crates" / rules_of / "clippy.toml", crate)
        (crate / "src/lib.rs").write_text(f"//! Under the rules of {rules_of}.\n{source}\n")
        ended = subprocess.run(
            ["cargo", "clippy", "--quiet", "--offline", "--", "-D", "warnings"],
            cwd=crate,
            capture_output=True,
            text=True,
            check=False,
        )
        assert bool(ended.stderr) == bool(ended.returncode), ended.stderr
        return ended.stderr

    yield lint
    shutil.rmtree(crate)


def test_every_crate_has_its_rules() -> None:
    crates = {path.parent.name for path in ROOT.glob("crates/*/Cargo.toml")}
    assert {path.parent.name for path in ROOT.glob("crates/*/clippy.toml")} == crates
    assert set(FORBIDDEN) == crates


@pytest.mark.parametrize("crate", FORBIDDEN)
def test_rules_let_through_what_is_allowed(lint: Callable[[str, str], str], crate: str) -> None:
    assert lint(crate, HARMLESS) == ""


@pytest.mark.parametrize(
    ("crate", "source"),
    [
        pytest.param(crate, source, id=f"{crate}-{what}")
        for crate in FORBIDDEN
        for what, source in FORBIDDEN[crate].items()
    ],
)
def test_rules_stop_what_does_not_belong(lint: Callable[[str, str], str], crate: str, source: str) -> None:
    assert "use of a disallowed" in lint(crate, source)
