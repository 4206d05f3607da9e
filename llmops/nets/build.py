"""Builds a network from its architecture, the plain dict that model.json keeps."""

from __future__ import annotations

from typing import Any

from torch import nn

from llmops.nets.bag import BagOfWords
from llmops.nets.cnn import TextCnn
from llmops.nets.encoder import PretrainedClassifier, blank_encoder
from llmops.nets.lstm import BiLstm
from llmops.nets.transformer import SmallTransformer

SCRATCH: dict[str, type[nn.Module]] = {
    "bag-of-words": BagOfWords,
    "text-cnn": TextCnn,
    "bilstm": BiLstm,
    "transformer": SmallTransformer,
}
PRETRAINED = "pretrained"


def build(architecture: dict[str, Any], config: dict[str, Any] | None = None) -> nn.Module:
    """The network of `architecture` {"kind": .., and its class's arguments}, freshly initialised.

    `config` is the encoder's config.json when the kind is `pretrained`.
    """
    arguments = dict(architecture)
    kind = arguments.pop("kind")
    if kind == PRETRAINED:
        assert config is not None, "a pretrained network needs its encoder's config"
        return PretrainedClassifier(blank_encoder(config), **arguments)
    return SCRATCH[kind](**arguments)
