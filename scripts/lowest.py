"""Print the oldest libraries that pyproject.toml allows, for pip: a requirement each."""

import re
import sys
import tomllib
from pathlib import Path

_AT_LEAST = re.compile(r"([A-Za-z0-9_-]+)>=([0-9.]+)")


def main() -> None:
    """Print those that are installed with the library, whatever extras are asked for."""
    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    found = {match.groups() for line in wanted if (match := _AT_LEAST.fullmatch(line))}
    sys.stdout.writelines(sorted(f"{name}=={version}\n" for name, version in found))


if __name__ == "__main__":
    main()
