"""Print the requirements of the named extras in pyproject.toml, one a line: `requirements.py dev docs`.

So that the tools can be installed before, and without, a build of the package itself.
"""

import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def main(extras: list[str]) -> None:
    """Print each requirement of `extras`; an extra that does not exist is a KeyError."""
    declared = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    for extra in extras:
        print("\n".join(declared[extra]))


if __name__ == "__main__":
    main(sys.argv[1:])
