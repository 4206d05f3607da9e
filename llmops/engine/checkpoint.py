"""Checkpoints: safetensors + JSON with digests. A torn or corrupt one is recognised, the one before is taken."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor

from llmops.core.artifact import file_digest, fsync_folder, json_digest, tree_digest, write_json

FORMAT = 2
KEPT = 2


class Checkpoints:
    """The checkpoints in one folder. `fingerprint` says what training they belong to; others are not taken.

    A checkpoint is step-N.safetensors, and step-N.json written after it with the digests of both: without a
    right JSON there is no checkpoint. The best epoch's weights lie in a file of their own that JSONs point to.
    Where weights are spread over processes, a folder step-N.shards stands for the file (shards.py).
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder, self.fingerprint = folder, fingerprint
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, step: int, state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Write the checkpoint of `step`, then forget all but the newest `KEPT`."""
        path = self.folder / f"step-{step:09d}.safetensors"
        self.seal(step, state, path.name, write_tensors(path, tensors))

    def seal(self, step: int, state: dict[str, Any], name: str, digest: str) -> None:
        """Write the JSON that makes the file or folder `name` a checkpoint."""
        body = {"format": FORMAT, "fingerprint": self.fingerprint, "name": name, "sha256": digest, "state": state}
        write_json(self.folder / f"step-{step:09d}.json", {**body, "digest": json_digest(body)})
        self.forget()

    def write_best(self, epoch: int, tensors: dict[str, Tensor]) -> dict[str, str]:
        """Write an epoch's weights; returns what a state must hold as "best_file" for them to be kept and found."""
        path = self.folder / f"best-{epoch:06d}.safetensors"
        return {"name": path.name, "sha256": write_tensors(path, tensors)}

    def latest(self) -> tuple[dict[str, Any], Path] | None:
        """State, and file or folder of tensors, of the newest checkpoint that is whole, or None."""
        for path in self.newest_first():
            body = self.read(path)
            if body is not None and self.whole(body):
                return body["state"], self.folder / body["name"]
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

    def whole(self, body: dict[str, Any]) -> bool:
        """Whether what a checkpoint's JSON names is there, byte for byte."""
        best = body["state"].get("best_file")
        named = [(body["name"], body["sha256"]), *([(best["name"], best["sha256"])] if best else [])]
        paths = [(self.folder / name, digest) for name, digest in named]
        return all(path.exists() and tree_digest(path) == digest for path, digest in paths)

    def forget(self) -> None:
        """Delete old checkpoints, torn ones and those of another training, and weights that no kept one points to."""
        found = [(path, self.read(path)) for path in self.newest_first()]
        kept = [(path, body) for path, body in found if body is not None][:KEPT]
        for path in {path for path, _ in found} - {path for path, _ in kept}:
            path.unlink()
        named = {body["name"] for _, body in kept}
        named |= {body["state"]["best_file"]["name"] for _, body in kept if body["state"].get("best_file")}
        for path in [*self.folder.glob("*.safetensors"), *self.folder.glob("*.shards")]:
            if path.name not in named:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


class Background:
    """Writes in a thread of its own, one thing after the other, while the training goes on.

    What is given must not change afterwards. An error of a write is raised by the next call.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._going: Future[Any] | None = None
        self.took_s = 0.0
        """Seconds that the last write took."""

    def submit(self, write: Callable[..., Any], *arguments: Any) -> None:
        """Wait for the write before, then let `write(*arguments)` begin."""
        self.wait()
        self._going = self._pool.submit(self._timed, write, *arguments)

    def wait(self) -> None:
        """Until all is written."""
        going, self._going = self._going, None
        if going is not None:
            going.result()

    def close(self) -> None:
        """Wait, and end the thread."""
        try:
            self.wait()
        finally:
            self._pool.shutdown()

    def _timed(self, write: Callable[..., Any], *arguments: Any) -> None:
        began = time.monotonic()
        write(*arguments)
        self.took_s = time.monotonic() - began


def snapshot(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, which training does not change."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors that `write_tensors` wrote."""
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = load_file(path)
    return tensors


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
