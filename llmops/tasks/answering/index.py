"""The index of a bundle: entries, their vectors as the bundle's own runtime computes them, and BM25 over texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.artifact import write_whole
from llmops.core.errors import DataError
from llmops.tasks.answering import entries as entry_file
from llmops.tasks.answering.entries import Entry, read_entries, write_entries
from llmops.tasks.answering.lexical import Lexical
from llmops.tasks.answering.ranking import blend

VECTORS = "vectors.safetensors"


@dataclass(frozen=True)
class Index:
    """`vectors` float32 [entries, width], each of length 1; `lexical` is None where BM25 has no say."""

    entries: list[Entry]
    vectors: np.ndarray[Any, Any]
    lexical: Lexical | None

    def similarity(self, asked: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Cosines float32 [questions, entries] of questions' vectors."""
        found: np.ndarray[Any, Any] = asked.astype(np.float32) @ self.vectors.T
        return found

    def scores(self, asked: np.ndarray[Any, Any], questions: Sequence[str], weight: float) -> np.ndarray[Any, Any]:
        """What entries are ranked by, float32 [questions, entries]; `weight` is BM25's share."""
        similarity = self.similarity(asked)
        return similarity if self.lexical is None else blend(similarity, self.lexical.shares(questions), weight)


def there(folder: Path) -> bool:
    """Whether the folder has an index."""
    return (folder / VECTORS).exists()


def write_index(folder: Path, entries: Sequence[Entry], vectors: np.ndarray[Any, Any]) -> None:
    """Write entries.jsonl and vectors.safetensors into `folder`."""
    from safetensors.numpy import save

    write_entries(folder / entry_file.FILE, entries)
    write_whole(folder / VECTORS, save({"vectors": np.ascontiguousarray(vectors, np.float32)}))


def read_index(folder: Path, weight: float) -> Index:
    """The index in `folder`; BM25 is built when its `weight` is above 0. Raises DataError when it is damaged."""
    from safetensors.numpy import load

    entries = read_entries(folder / entry_file.FILE)
    try:
        vectors = load((folder / VECTORS).read_bytes())["vectors"]
    except Exception as problem:  # safetensors' errors share no base class with the others
        do = "make the bundle again: llmops compress CONFIG"
        raise DataError(f"the index cannot be read: {problem!r}", str(folder), do) from problem
    if len(vectors) != len(entries):
        what = f"the index has {len(entries):,} entries and {len(vectors):,} vectors"
        raise DataError(what, str(folder), "make the bundle again: llmops compress CONFIG")
    return Index(entries, vectors, Lexical([one.text for one in entries]) if weight else None)
