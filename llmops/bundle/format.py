"""The bundle's folder format: bundle.json names every file with its digest, and all that answering needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from llmops.core.artifact import file_digest, tree_files, write_json
from llmops.core.errors import DataError
from llmops.core.section import Section

FORMAT = 2
MANIFEST = "bundle.json"
CARD = "MODEL_CARD.md"
TWIN = "twin"
"""Folder beside the bundle of a student: the same in float32."""
MERGED = "merged"
"""Folder of a bundle with the same model for other tools (plain Hugging Face layout); the server does not read it."""
REMAKE = "make it again: llmops compress CONFIG"


class OldFormat(DataError):
    """The bundle was made by an older llmops, in a format that is no longer read."""


class FileMark(Section):
    """What a file of the bundle must be."""

    sha256: str
    """Digest of its bytes, in hex."""
    size: int = Field(ge=0)
    """Its length in bytes."""


class Manifest(Section):
    """bundle.json."""

    format: Literal[2] = 2
    """Number of this format; any other one is refused."""
    task: str
    """Name of the task in the table of tasks; its codec reads requests and writes answers."""
    task_version: int = Field(ge=1)
    """Version of that task's code when the bundle was made."""
    runtime: Literal["oneshot", "stepper"] = "oneshot"
    """How it computes: one run of the network for each batch, or token by token with a cache."""
    files: dict[str, FileMark]
    """Every other file of the folder, by its path in it."""
    settings: dict[str, Any] = {}
    """What the task's codec and the runtime need to know; the codec checks them."""
    cleaning: dict[str, Any]
    """The settings of prepare's `clean`; the same code runs on every request."""
    metrics: dict[str, Any] = {}
    """Figures measured when the bundle was made."""
    lineage: dict[str, Any] = {}
    """Where it comes from: run, candidate, base model, digests, versions."""


def write(folder: Path, fields: Mapping[str, Any]) -> Manifest:
    """Digest every file below `folder` and write bundle.json there, last.

    `fields` are those of `Manifest` except `format` and `files`. Raises pydantic's ValidationError when a field
    is missing or wrong: that is the caller's bug.
    """
    paths = [path for path in tree_files(folder) if path != folder / MANIFEST]
    files = {
        path.relative_to(folder).as_posix(): FileMark(sha256=file_digest(path), size=path.stat().st_size)
        for path in paths
    }
    manifest = Manifest(**fields, files=files)
    write_json(folder / MANIFEST, manifest.plain())
    return manifest


def size_mb(folder: Path) -> float:
    """Megabytes (1e6 bytes) of what the server reads: all files but bundle.json, the card and `merged/`."""
    left_out = {MANIFEST, CARD, MERGED}
    kept = [path for path in tree_files(folder) if path.relative_to(folder).parts[0] not in left_out]
    return sum(path.stat().st_size for path in kept) / 1e6


def read(folder: Path) -> Manifest:
    """The manifest of the bundle in `folder`, after its format number and every digest were checked.

    Raises DataError, which says what is wrong.
    """
    path = folder / MANIFEST
    manifest = _parse(path)
    for name, mark in manifest.files.items():
        _check(folder, name, mark)
    return manifest


def _parse(path: Path) -> Manifest:
    try:
        plain = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError("there is no bundle here: bundle.json is missing", str(path.parent), REMAKE) from None
    except (OSError, ValueError) as error:
        raise DataError(f"bundle.json cannot be read: {error}", str(path), REMAKE) from error
    number = plain.get("format") if isinstance(plain, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise DataError(
            f"the bundle has format {number}; this llmops reads up to {FORMAT}",
            str(path),
            "upgrade llmops and try again",
        )
    if isinstance(number, int) and number < FORMAT:
        raise OldFormat(
            f"the bundle has format {number}, of an older llmops; this one reads format {FORMAT}",
            str(path),
            "make it again: llmops run CONFIG",
        )
    try:
        return Manifest.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise DataError(f"bundle.json is not a bundle's: {place}: {first['msg']}", str(path), REMAKE) from error


def _check(folder: Path, name: str, mark: FileMark) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"bundle.json names a file outside the bundle: {name}", str(folder / MANIFEST), REMAKE)
    if not path.is_file():
        raise DataError(f"the bundle lacks its file {name}", str(folder), REMAKE)
    size = path.stat().st_size
    if size != mark.size:
        raise DataError(f"{name} has {size:,} bytes; bundle.json says {mark.size:,}", str(path), REMAKE)
    if file_digest(path) != mark.sha256:
        raise DataError(f"{name} was changed after the bundle was made: its sha256 differs", str(path), REMAKE)
