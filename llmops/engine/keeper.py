"""Keeps a training on disk: weights and optimiser, whole or in parts, and brings them back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llmops.engine.checkpoint import Background, Checkpoints, read_tensors, snapshot, write_tensors
from llmops.engine.optim import blank_optimiser_tensors, optimiser_tensors, restore_optimiser
from llmops.engine.parallel import World, is_spread
from llmops.engine.shards import read_shards, write_shards

NETWORK = "network."


class Keeper:
    """The checkpoints of one network and its optimiser. Where they lie in parts on all processes (`spread`), these
    write and read together; otherwise the first process writes, in a thread, while training goes on."""

    def __init__(
        self, network: nn.Module, optimiser: torch.optim.AdamW, checkpoints: Checkpoints, world: World
    ) -> None:
        self.network, self.optimiser, self.checkpoints, self.world = network, optimiser, checkpoints, world
        self.spread = any(map(is_spread, network.parameters()))
        self.background = Background()

    @property
    def took_s(self) -> float:
        """Seconds that the last write took."""
        return self.background.took_s

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint; `state` is complete but for digests that are still being computed."""
        tensors = {f"{NETWORK}{name}": value for name, value in self.weights().items()}
        tensors |= optimiser_tensors(self.optimiser)
        if self.spread:
            name = f"step-{step:09d}.shards"
            digest = write_shards(self.checkpoints.folder / name, tensors, self.world)
            if self.world.first:
                self.checkpoints.seal(step, state, name, digest)
        elif self.world.first:
            # the copies are made before the next step changes the weights, and not while older ones are still held
            self.background.wait()
            self.background.submit(self.checkpoints.write, step, state, snapshot(tensors))

    def save_best(self, epoch: int) -> dict[str, str]:
        """Write an epoch's weights; what the state must hold as "best_file". Its digest comes when it is written, which
        is before any checkpoint that is saved later."""
        entry = {"name": f"best-{epoch:06d}.{'shards' if self.spread else 'safetensors'}", "sha256": ""}
        path = self.checkpoints.folder / entry["name"]
        if self.spread:
            entry["sha256"] = write_shards(path, self.weights(), self.world)
        elif self.world.first:
            self.background.wait()
            tensors = snapshot(self.weights())
            self.background.submit(lambda: entry.update(sha256=write_tensors(path, tensors)))
        return entry

    def latest(self) -> dict[str, Any] | None:
        """Take up the newest whole checkpoint; its state, or None when there is none."""
        found = self.checkpoints.latest()
        if found is None:
            return None
        state, path = found
        if self.spread:
            here = {f"{NETWORK}{name}": value.detach() for name, value in self.weights().items()}
            momenta = blank_optimiser_tensors(self.optimiser)
            read_shards(path, {**here, **momenta})
            restore_optimiser(self.optimiser, momenta)
            return state
        tensors = read_tensors(path)
        self.load({name.removeprefix(NETWORK): t for name, t in tensors.items() if name.startswith(NETWORK)})
        restore_optimiser(self.optimiser, tensors)
        return state

    def load_best(self, entry: dict[str, str]) -> None:
        """Put the best epoch's weights back into the network."""
        self.wait()
        path = self.checkpoints.folder / entry["name"]
        if self.spread:
            read_shards(path, {name: value.detach() for name, value in self.weights().items()})
        else:
            self.load(read_tensors(path))

    def weights(self) -> dict[str, Tensor]:
        """Trained parameters and buffers; what is frozen comes from its source again."""
        return {
            **{name: value for name, value in self.network.named_parameters() if value.requires_grad},
            **dict(self.network.named_buffers()),
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        here = self.weights()
        with torch.no_grad():
            for name, value in tensors.items():
                here[name].copy_(value)

    def wait(self) -> None:
        """Until all is written, on every process."""
        self.background.wait()
        self.world.wait()

    def close(self) -> None:
        """Wait for what is being written, whatever happened."""
        self.background.close()
