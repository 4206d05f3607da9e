"""Which network a `train:` block asks for, freshly initialised."""

from __future__ import annotations

from typing import Any

from torch import nn

from llmops.nets.adapters import add_lora
from llmops.nets.build import PRETRAINED, build
from llmops.nets.encoder import PretrainedClassifier, load_encoder
from llmops.nets.pretrained import find
from llmops.tasks.text_classification.config import TextTrainSection

PAIRS = 4
"""Buckets for word pairs (bag-of-words), as a multiple of the vocabulary."""
FILTERS = 2
"""Filters of each width (text-cnn), as a multiple of the embeddings' size."""


def architecture(train: TextTrainSection, vocabulary: int, classes: int, max_tokens: int) -> dict[str, Any]:
    """The dict that nets.build.build takes, and that model.json keeps."""
    if train.pretrained:
        plan = {"kind": PRETRAINED, "classes": classes, "pooling": train.pooling, "dropout": train.dropout}
        return {**plan, "unit": True} if train.few else plan
    shared = {"vocabulary": vocabulary, "classes": classes, "width": train.width, "dropout": train.dropout}
    own: dict[str, dict[str, Any]] = {
        "bag-of-words": {"pairs": PAIRS * vocabulary, "word_dropout": train.word_dropout},
        "text-cnn": {"filters": FILTERS * train.width, "word_dropout": train.word_dropout},
        "bilstm": {"layers": train.layers},
        "transformer": {"layers": train.layers, "pooling": train.pooling, "max_tokens": max_tokens},
    }
    return {"kind": train.model, **shared, **own[train.model]}


def fresh_network(train: TextTrainSection, plan: dict[str, Any], like: nn.Module | None = None) -> nn.Module:
    """The network of the architecture `plan`: random, or with the pretrained weights and what `method` asks for;
    `like` is an encoder of the same kind whose weights are taken instead of the pretrained ones."""
    if not train.pretrained:
        return build(plan)
    encoder = load_encoder(find(train.model), train.encoder_dropout)
    if like is not None:
        encoder.load_state_dict(like.state_dict())
    if train.method == "lora":
        encoder = add_lora(encoder, train.lora.rank, train.lora.alpha, train.lora.dropout)
    elif train.method == "frozen":
        encoder.requires_grad_(False)
    return PretrainedClassifier(encoder, plan["classes"], plan["pooling"], plan["dropout"], plan.get("unit", False))
