"""PretrainedClassifier: a pretrained encoder of the transformers library with a new head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmops.core.errors import DataError
from llmops.nets.dropout import Dropout
from llmops.nets.pooling import pool


class PretrainedClassifier(nn.Module):
    """An encoder, pooling, dropout, one linear layer; with `unit`, vectors have the length one before it."""

    def __init__(self, encoder: nn.Module, classes: int, pooling: str, dropout: float, unit: bool = False) -> None:
        super().__init__()
        self.encoder, self.pooling, self.unit = encoder, pooling, unit
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(encoder.config.hidden_size, classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def pooled(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """One vector for each text: int64 [batch, length] -> float [batch, hidden]."""
        states = self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        return pool(states, mask, self.pooling)

    def stated(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[tuple[Tensor, ...], Tensor]:
        """The states before the first layer and after each, float [batch, length, hidden], and `pooled`."""
        states = self.encoder(input_ids=tokens, attention_mask=mask, output_hidden_states=True).hidden_states
        return states, pool(states[-1], mask, self.pooling)

    def classify(self, pooled: Tensor) -> Tensor:
        """float [batch, hidden] -> logits [batch, classes]."""
        return self.head(self.dropout(functional.normalize(pooled, dim=-1) if self.unit else pooled))

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens, mask: int64 [batch, length] -> logits [batch, classes]."""
        return self.classify(self.pooled(tokens, mask))


def load_encoder(folder: Path, dropout: float) -> nn.Module:
    """The encoder in `folder` with its weights, float32, without a pooler; code from the hub is never run.

    `dropout` replaces every dropout rate of the encoder's config.
    """
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        for name, value in config.to_dict().items():
            if "dropout" in name and isinstance(value, float):
                setattr(config, name, dropout)
        encoder: nn.Module = AutoModel.from_pretrained(
            folder, config=config, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    except Exception as problem:
        do = "use an encoder such as BERT or RoBERTa."
        raise DataError(f"The model in {folder} cannot be loaded: {problem}", str(folder), do) from problem
    return without_pooler(encoder)


def blank_encoder(config: dict[str, Any]) -> nn.Module:
    """The encoder that a config.json describes, weights still to be filled in."""
    from transformers import AutoConfig, AutoModel

    return without_pooler(AutoModel.from_config(AutoConfig.for_model(**config), trust_remote_code=False))


def without_pooler(encoder: nn.Module) -> nn.Module:
    """Texts are pooled here; the library's own pooler would only be dead weight."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder
