"""What `scripts/wheels.py` does to the folder that it is given."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "wheels.py"

specification = importlib.util.spec_from_file_location("wheels", SCRIPT)
assert specification is not None
assert specification.loader is not None
wheels = importlib.util.module_from_spec(specification)
specification.loader.exec_module(wheels)


def test_what_was_built_before_is_removed(tmp_path):
    for name in ("thistledown-0.1.0-cp311-cp311-linux_x86_64.whl", "thistledown-0.1.0.tar.gz"):
        (tmp_path / name).touch()
    wheels.empty(tmp_path)
    assert list(tmp_path.iterdir()) == []
    wheels.empty(tmp_path)
    wheels.empty(tmp_path / "not there")


@pytest.mark.parametrize("other", ["pyproject.toml", ".git/", "further.whl/"])
def test_a_folder_with_anything_else_in_it_is_left_as_it_is(tmp_path, monkeypatch, other):
    """As the repository itself, with `--out .`."""
    built = tmp_path / "thistledown-0.1.0.tar.gz"
    built.touch()
    mine = tmp_path / other.rstrip("/")
    if other.endswith("/"):
        mine.mkdir()
    else:
        mine.touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["wheels.py", "--python", "python3", "--out", "."])
    monkeypatch.setattr(wheels, "maturin", lambda *_, **__: pytest.fail("nothing is to be built"))
    with pytest.raises(SystemExit, match=f"more than wheels and sdists in it, as {mine.name}: give --out a folder"):
        wheels.main()
    assert built.exists()
    assert mine.exists()
