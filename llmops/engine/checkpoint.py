"""Checkpoints: safetensors + JSON with digests. A torn or corrupt one is recognised, the one before is taken."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from llmops.core.artifact import file_digest, fsync_folder, json_digest, write_json

FORMAT = 1
KEPT = 2


class Checkpoints:
    """The checkpoints in one folder. `fingerprint` says what training they belong to; others are not taken.

    A checkpoint is step-N.safetensors, and step-N.json written after it with the digests of both: without a
    right JSON there is no checkpoint. The best epoch's weights lie in a file of their own that JSONs point to.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder, self.fingerprint = folder, fingerprint
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, step: int, state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Write the checkpoint of `step`, then forget all but the newest `KEPT`."""
        path = self.folder / f"step-{step:09d}.safetensors"
        body = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "sha256": write_tensors(path, tensors),
            "state": state,
        }
        write_json(path.with_suffix(".json"), {**body, "digest": json_digest(body)})
        self.forget()

    def write_best(self, epoch: int, tensors: dict[str, Tensor]) -> dict[str, str]:
        """Write an epoch's weights; returns what a state must hold as "best_file" for them to be kept and found."""
        path = self.folder / f"best-{epoch:06d}.safetensors"
        return {"name": path.name, "sha256": write_tensors(path, tensors)}

    def read_best(self, entry: dict[str, str]) -> dict[str, Tensor]:
        """The weights that `write_best` wrote."""
        from safetensors.torch import load_file

        tensors: dict[str, Tensor] = load_file(self.folder / entry["name"])
        return tensors

    def latest(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """State and tensors of the newest checkpoint that is whole, or None."""
        from safetensors.torch import load_file

        for path in self.newest_first():
            body = self.read(path)
            if body is not None and self.whole(path, body):
                return body["state"], load_file(path.with_suffix(".safetensors"))
        return None

    def newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.json"), reverse=True)

    def read(self, path: Path) -> dict[str, Any] | None:
        """A checkpoint's JSON, or None when it is torn, changed, or of another training."""
        try:
            body = json.loads(path.read_bytes())
            digest = body.pop("digest")
        except (OSError, ValueError, KeyError, AttributeError):
            return None
        mine = body.get("format") == FORMAT and body.get("fingerprint") == self.fingerprint
        return body if mine and digest == json_digest(body) else None

    def whole(self, path: Path, body: dict[str, Any]) -> bool:
        """Whether the files that a checkpoint's JSON names are there, byte for byte."""
        named = [(path.with_suffix(".safetensors"), body["sha256"])]
        best = body["state"].get("best_file")
        if best:
            named.append((self.folder / best["name"], best["sha256"]))
        return all(file.is_file() and file_digest(file) == digest for file, digest in named)

    def forget(self) -> None:
        """Delete old checkpoints, and weights that no kept one points to."""
        for path in self.newest_first()[KEPT:]:
            path.unlink()
        bodies = {path: self.read(path) for path in self.newest_first()}
        named = {path.with_suffix(".safetensors").name for path in bodies}
        named |= {
            body["state"]["best_file"]["name"] for body in bodies.values() if body and body["state"].get("best_file")
        }
        for path in self.folder.glob("*.safetensors"):
            if path.name not in named:
                path.unlink()


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write tensors whole or not at all; returns the file's sha256."""
    from safetensors.torch import save_file

    temporary = path.with_suffix(".tmp")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, temporary)
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    digest = file_digest(temporary)
    os.replace(temporary, path)
    fsync_folder(path.parent)
    return digest
