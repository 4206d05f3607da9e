"""FitSection: the settings of the training loop that every trained task shares. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmops.core.section import Section


class FitSection(Section):
    """How the engine trains: length, optimiser, schedule, stopping, checkpoints."""

    epochs: int = Field(4, ge=1, le=10_000)
    """Passes over the training rows, at most; early stopping may end sooner."""
    steps: int | None = Field(None, ge=1)
    """Stop after this many steps, whatever `epochs` says; the last pass may then be a part of one."""
    learning_rate: float = Field(3e-4, gt=0, le=10)
    """Peak learning rate of AdamW (Loshchilov and Hutter 2019)."""
    batch_size: int = Field(32, ge=1, le=65_536)
    """Rows in one step. Rows of nearly the same length go together, so that padding is rare."""
    warmup: float = Field(0.06, ge=0, lt=1)
    """Share of all steps over which the learning rate rises from 0."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up: to 0 in a line, to 0 in a half cosine, or not at all."""
    weight_decay: float = Field(0.01, ge=0, le=1)
    """AdamW's decoupled weight decay; biases and norms have none."""
    clip: float = Field(1.0, ge=0)
    """Largest norm of the gradient; 0 switches clipping off."""
    patience: int = Field(0, ge=0)
    """Stop after this many epochs without a better validation metric; 0 never stops early. The best epoch is kept."""
    checkpoint_every_s: float = Field(20.0, ge=0)
    """Seconds between checkpoints; 0 writes one after every step (for tests)."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train; `auto` takes a GPU when there is one."""
