"""OnnxStepper: many conversations at once, a token at a time, over one cache of keys and values.

The cache is allocated once. ONNX Runtime reads it and writes new keys and values into it in place: inputs and outputs
of the graph are bound to the same memory. A run covers neighbouring rows of the cache, so the slots that step together
are moved to the first rows; that copies only when the set changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmops.bundle.session import MODEL, cores, open_session
from llmops.core.errors import DataError, MachineError

REMAKE = "make the bundle again"
SLOTS = 8
PIECE = 256
"""A longer prompt is read in pieces of so many tokens: the memory of attention grows with piece times context."""


class OnnxStepper:
    """`protocols.Stepper` over ONNX Runtime on the CPU."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], threads: int = 0, slots: int = SLOTS) -> None:
        """Open model.onnx in `folder`. Of bundle.json's `settings` it reads `context` (tokens that a slot holds) and
        `cache` (names of inputs and outputs); sizes it reads off the graph.

        `threads` compute (0: one for each core). Memory for `slots` conversations is claimed as it is first written.
        Raises DataError when the model cannot be loaded or the settings are not those of a model that steps, and
        MachineError when the machine refuses the memory.
        """
        if not {"cache", "context"} <= settings.keys():
            raise DataError("bundle.json does not say how the model steps", str(folder), REMAKE)
        self._names: Mapping[str, str] = settings["cache"]
        self._session = open_session(folder / MODEL, threads or cores())
        self.slots = slots
        self.context = int(settings["context"])
        shapes = {value.name: value.shape for value in (*self._session.get_inputs(), *self._session.get_outputs())}
        self.vocabulary = int(shapes[self._names["logits"]][1])
        layers = sum(self._names["keys"].format(layer=layer) in shapes for layer in range(len(shapes)))
        _, heads, _, size = shapes[self._names["keys"].format(layer=0)]
        # one row more than slots: `score` computes there
        self._cache = _claimed((2 * layers, slots + 1, heads, self.context, size))
        self._row = list(range(slots))
        """Row of the cache of each slot."""
        self._length = [0] * slots
        self._tokens = np.zeros((slots, 1), np.int64)
        self._last = np.zeros(slots, np.int32)
        self._total = np.zeros((), np.int32)
        self._wanted = np.arange(slots, dtype=np.int64)
        self._logits = np.zeros((slots, self.vocabulary), np.float32)
        self._bindings: dict[int, Any] = {}
        """What a step of so many rows reads and writes: always the same memory."""

    def prefill(self, slot: int, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Forget what the slot held, read `tokens` (1 to context) into it; the next token's logits [vocabulary]."""
        row = self._row[slot]
        self._length[slot] = 0
        logits = np.empty((1, self.vocabulary), np.float32)
        for start, piece in self._pieces(tokens):
            ends = start + len(piece) == len(tokens)
            wanted = [len(piece) - 1] if ends else []
            self._read(row, start, piece, wanted, logits[: len(wanted)])
        self._length[slot] = len(tokens)
        return logits.reshape(-1)

    def score(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits after every token, [len(tokens), vocabulary]; no slot is touched."""
        logits = np.empty((len(tokens), self.vocabulary), np.float32)
        for start, piece in self._pieces(tokens):
            self._read(self.slots, start, piece, range(len(piece)), logits[start : start + len(piece)])
        return logits

    def step(self, tokens: Mapping[int, int]) -> NDArray[np.float32]:
        """One token for each of these slots, in the order of the mapping; logits [len(tokens), vocabulary]."""
        for slot in tokens:
            if not 0 < self._length[slot] < self.context:
                raise ValueError(f"slot {slot} holds {self._length[slot]} of {self.context} tokens: it cannot step")
        if not tokens:
            return np.empty((0, self.vocabulary), np.float32)
        self._to_front(tokens)
        for slot, token in tokens.items():
            self._tokens[self._row[slot], 0] = token
            self._last[self._row[slot]] = self._length[slot]
        count = len(tokens)
        self._total[...] = self._last[:count].max() + 1
        self._session.run_with_iobinding(self._bindings.get(count) or self._bind_step(count))
        for slot in tokens:
            self._length[slot] += 1
        return self._logits[[self._row[slot] for slot in tokens]]

    def free(self, slot: int) -> None:
        """Forget what the slot held."""
        self._length[slot] = 0

    def length(self, slot: int) -> int:
        """Tokens that the slot holds."""
        return self._length[slot]

    def _pieces(self, tokens: Sequence[int]) -> Iterator[tuple[int, Sequence[int]]]:
        if not 1 <= len(tokens) <= self.context:
            raise ValueError(f"{len(tokens)} tokens: a slot reads 1 to {self.context}")
        for start in range(0, len(tokens), PIECE):
            yield start, tokens[start : start + PIECE]

    def _read(
        self, row: int, start: int, tokens: Sequence[int], wanted: Sequence[int], logits: NDArray[np.float32]
    ) -> None:
        """Read `tokens` into `row` from position `start`; logits of the `wanted` ones among them."""
        total = start + len(tokens)
        arrays: dict[str, NDArray[Any]] = {
            "tokens": np.array([tokens], np.int64),
            "last": np.array([total - 1], np.int32),
            "total": np.array(total, np.int32),
            "wanted": np.array(wanted, np.int64),
        }
        self._session.run_with_iobinding(self._bind(arrays, row, 1, logits))

    def _to_front(self, tokens: Mapping[int, int]) -> None:
        """Give the slots of a step the first rows, by swaps with slots that do not step."""
        count = len(tokens)
        strangers = [slot for slot, row in enumerate(self._row) if row < count and slot not in tokens]
        for slot in tokens:
            if self._row[slot] >= count:
                self._swap(slot, strangers.pop())

    def _swap(self, first: int, second: int) -> None:
        here, there = self._row[first], self._row[second]
        used = max(self._length[first], self._length[second])
        kept = self._cache[:, here, :, :used].copy()
        self._cache[:, here, :, :used] = self._cache[:, there, :, :used]
        self._cache[:, there, :, :used] = kept
        self._row[first], self._row[second] = there, here

    def _bind_step(self, count: int) -> Any:
        arrays: dict[str, NDArray[Any]] = {
            "tokens": self._tokens[:count],
            "last": self._last[:count],
            "total": self._total,
            "wanted": self._wanted[:count],
        }
        self._bindings[count] = self._bind(arrays, 0, count, self._logits[:count])
        return self._bindings[count]

    def _bind(self, arrays: Mapping[str, NDArray[Any]], row: int, count: int, logits: NDArray[np.float32]) -> Any:
        """Inputs and outputs at the addresses of these arrays, and of rows `row` to `row + count` of the cache."""
        binding = self._session.io_binding()
        for name, array in arrays.items():
            binding.bind_input(self._names[name], "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for index, part in enumerate(self._cache[:, row : row + count]):
            place = (np.float32, part.shape, part.ctypes.data)
            side, layer = ("keys", "values")[index % 2], index // 2
            binding.bind_input(self._names[side].format(layer=layer), "cpu", 0, *place)
            binding.bind_output(self._names[f"new_{side}"].format(layer=layer), "cpu", 0, *place)
        binding.bind_output(self._names["logits"], "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        return binding


def _claimed(shape: tuple[int, ...]) -> NDArray[np.float32]:
    try:
        return np.zeros(shape, np.float32)
    except MemoryError as error:
        raise MachineError(
            f"no memory for a cache of {4 * prod(shape) / 1e9:.1f} GB ({shape[1] - 1} slots of {shape[3]:,} tokens)",
            do="serve with fewer slots, or train with a shorter context",
        ) from error
