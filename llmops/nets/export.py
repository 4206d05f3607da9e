"""Writes a network as one ONNX file with dynamic batch and length."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

OPSET = 20


class WithMask(nn.Module):
    """The form that is exported: the mask is always given."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.network(tokens, mask)


@contextmanager
def quiet() -> Iterator[None]:
    """The exporter warns about its own library's ways; a person can do nothing about it."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(before)


def export_onnx(network: nn.Module, path: Path, output: str = "logits") -> None:
    """float32 ONNX: int64 `tokens` and `mask` [batch, length] -> `output` [batch, classes or width]."""
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    shapes = {"tokens": {0: batch, 1: length}, "mask": {0: batch, 1: length}}
    tokens = torch.ones(3, 7, dtype=torch.int64)
    mask = torch.ones_like(tokens)
    mask[1, 5:] = 0
    # the shapes above are examples only; 2 or more, because the exporter takes 0 and 1 for constants
    with quiet(), torch.no_grad():
        torch.onnx.export(
            WithMask(network).eval().cpu(),
            (tokens, mask),
            path,
            input_names=["tokens", "mask"],
            output_names=[output],
            dynamic_shapes=shapes,
            opset_version=OPSET,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
