"""The one rule for relative paths in a config."""

from __future__ import annotations

from pathlib import Path


def default_root(folder: Path) -> Path:
    """What relative paths of a config in `folder` are relative to: the folder, or the one above it if it is called
    `configs`. Absolute, links resolved."""
    here = folder.resolve()
    return here.parent if here.name == "configs" else here
