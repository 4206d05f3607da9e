"""DualEncoder: a pretrained encoder whose vectors of questions and entries can be compared."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmops.nets.adapters import add_lora
from llmops.nets.dropout import Dropout
from llmops.nets.encoder import blank_encoder, load_encoder
from llmops.nets.pooling import pool
from llmops.nets.pretrained import find
from llmops.tasks.answering.config import AnsweringTrainSection


class DualEncoder(nn.Module):
    """One encoder for both sides (Reimers and Gurevych 2019), and a linear step after it that starts as nothing: the
    untrained network's vectors are the encoder's own."""

    def __init__(self, encoder: nn.Module, pooling: str, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder, self.pooling = encoder, pooling
        width = encoder.config.hidden_size
        self.head = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.head.weight)
        self.dropout = Dropout(dropout)

    def pooled(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """The encoder's own vectors of length 1: int64 [batch, length] -> float [batch, width]."""
        states = self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        return functional.normalize(pool(states, mask, self.pooling), dim=-1)

    def project(self, pooled: Tensor) -> Tensor:
        """Vectors of length 1 after the linear step, float [batch, width]."""
        kept = self.dropout(pooled)
        return functional.normalize(kept + self.head(kept), dim=-1)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens, mask: int64 [batch, length] -> vectors of length 1, float [batch, width]."""
        return self.project(self.pooled(tokens, mask))


def fresh_network(train: AnsweringTrainSection) -> DualEncoder:
    """The pretrained encoder with what `method` asks for. Raises DataError or MachineError when it cannot be had."""
    encoder = load_encoder(find(train.model), train.encoder_dropout)
    if train.method == "lora":
        encoder = add_lora(encoder, train.lora.rank, train.lora.alpha, train.lora.dropout)
    elif train.method == "frozen":
        encoder.requires_grad_(False)
    return DualEncoder(encoder, train.pooling, train.dropout)


def blank_network(config: dict[str, Any], pooling: str) -> DualEncoder:
    """The network of an encoder's config.json, weights still to be filled in."""
    with torch.no_grad():
        return DualEncoder(blank_encoder(config), pooling)
