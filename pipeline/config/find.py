"""Where the shipped configurations are: in a checkout, or under share/sidecast of the installed environment."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from pipeline.config.document import nearest
from pipeline.errors import ConfigError

__all__ = ["find", "shipped"]


def find(name_or_path: str) -> Path:
    """The file of that path, or the shipped configuration of that name. Raises ConfigError that lists those."""
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    known = shipped()
    if name_or_path in known:
        return _short(known[name_or_path])
    names = ", ".join(known) or "none found"
    hint = nearest(path.stem, known)
    raise ConfigError(f"there is no configuration {name_or_path}: it is neither a file nor one of {names}{hint}")


def shipped() -> dict[str, Path]:
    """The shipped configurations by name; those of a checkout come before those of an installation."""
    for folder in _folders():
        files = [file for file in sorted(folder.glob("*.yaml")) if _has_nodes(file)]
        if files:
            return {file.stem: file for file in files}
    return {}


def _short(path: Path) -> Path:
    """Relative where it lies below the current directory: that is how it is named in messages."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _has_nodes(file: Path) -> bool:
    """Whether it describes nodes to run; the folder also holds configurations of trainings."""
    return any(line.startswith("nodes:") for line in file.read_text().splitlines())


def _folders() -> list[Path]:
    checkout = Path(__file__).resolve().parents[2]
    found = [checkout / "configs"] if (checkout / "pyproject.toml").is_file() else []
    schemes = (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user"))
    return found + [Path(sysconfig.get_path("data", scheme)) / "share/sidecast/configs" for scheme in schemes]
