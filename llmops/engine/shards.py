"""Checkpoints of weights that are spread over processes: each writes its part, any number of them reads it again.

torch.distributed.checkpoint in its safetensors form: nothing is pickled.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as checkpoint
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter

from llmops.core.artifact import fsync_folder, tree_digest, tree_files
from llmops.engine.parallel import World


def write_shards(folder: Path, tensors: Mapping[str, Tensor], world: World) -> str:
    """Write `folder`, all processes together; its digest, on the first process."""
    if world.first:
        shutil.rmtree(folder, ignore_errors=True)  # a write that a kill cut short
        folder.mkdir(parents=True)
    world.wait()
    writer: Any = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    checkpoint.save(dict(tensors), storage_writer=writer)
    world.wait()
    if not world.first:
        return ""
    for path in tree_files(folder):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    fsync_folder(folder)
    fsync_folder(folder.parent)
    return tree_digest(folder)


def read_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill the tensors, wherever their parts lie, in place."""
    reader: Any = HuggingFaceStorageReader(str(folder))
    checkpoint.load(dict(tensors), storage_reader=reader)
