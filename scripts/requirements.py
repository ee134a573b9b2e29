"""Print what the package requires, and with it the named extras, one a line: `requirements.py dev docs`.

So that the tools can be installed before, and without, a build of the package itself.
"""

import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def main(extras: list[str]) -> None:
    """Print each requirement of the package and of `extras`; an extra that does not exist is a KeyError."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    for requirements in (project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)):
        print("\n".join(requirements))


if __name__ == "__main__":
    main(sys.argv[1:])
