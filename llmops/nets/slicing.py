"""Leaves out what a training does not touch: unused rows of the embedding, layers that a student does without."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn


class SlicedEmbedding:
    """Trains only the rows of an encoder's embedding that the data uses.

    The other rows have no gradient, so with no weight decay on embeddings the result is the same, while the
    optimiser, the clipping and the checkpoints leave out most of a small encoder's parameters. Ids up to the
    padding id keep their number, because some encoders count positions by it.
    """

    def __init__(self, encoder: nn.Module, used: np.ndarray) -> None:
        self.encoder = encoder
        self.full: nn.Embedding = encoder.get_input_embeddings()
        padding = self.full.padding_idx
        ids = np.union1d(used, np.arange((padding or 0) + 1)).astype(np.int64)
        self.ids = torch.from_numpy(ids)
        self.new_id = torch.zeros(self.full.num_embeddings, dtype=torch.int64)
        self.new_id[self.ids] = torch.arange(len(ids))
        small = nn.Embedding(len(ids), self.full.embedding_dim, padding_idx=padding)
        with torch.no_grad():
            small.weight.copy_(self.full.weight[self.ids])
        encoder.set_input_embeddings(small)

    def renumber(self, tokens: Tensor) -> Tensor:
        """Ids of the whole vocabulary as ids of the slice; only ids that were announced may occur."""
        return self.new_id[tokens]

    def restore(self) -> None:
        """Put the trained rows back into the whole embedding, and that back into the encoder."""
        small: nn.Embedding = self.encoder.get_input_embeddings()
        with torch.no_grad():
            self.full.weight[self.ids] = small.weight.detach().to(self.full.weight.device)
        self.encoder.set_input_embeddings(self.full)


def layer_list(network: nn.Module) -> tuple[nn.Module, str, nn.ModuleList] | None:
    """The list of equal layers in a network: (its owner, its name, the list), or None when there is none."""
    found = [
        (owner, name, child)
        for owner in network.modules()
        for name, child in owner.named_children()
        if isinstance(child, nn.ModuleList) and len(child) > 1 and len({type(layer) for layer in child}) == 1
    ]
    return max(found, key=lambda one: sum(p.numel() for p in one[2].parameters())) if found else None


def evenly_spaced(total: int, wanted: int) -> list[int]:
    """`wanted` of `total` layers, first and last included: (6, 3) -> [0, 2, 5] (Sanh et al. 2019, DistilBERT)."""
    return [0] if wanted == 1 else [int(index * (total - 1) / (wanted - 1)) for index in range(wanted)]


def shallower(network: nn.Module, layers: int) -> nn.Module:
    """A copy of the network with `layers` of its layers, evenly spaced; ValueError when it has not so many."""
    student = copy.deepcopy(network)
    found = layer_list(student)
    if found is None or len(found[2]) < layers:
        raise ValueError(f"the network has {len(found[2]) if found else 0} layers")
    owner, name, every = found
    setattr(owner, name, nn.ModuleList(every[index] for index in evenly_spaced(len(every), layers)))
    return student
