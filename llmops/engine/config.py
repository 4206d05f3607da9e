"""FitSection: the settings of the training loop that every trained task shares. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmops.core.section import Section


class FitSection(Section):
    """How the engine trains: length, optimiser, schedule, stopping, checkpoints, and on what it computes."""

    epochs: int = Field(4, ge=1, le=10_000)
    """Passes over the training rows, at most; early stopping may end sooner."""
    steps: int | None = Field(None, ge=1)
    """Stop after this many steps, whatever `epochs` says; the last pass may then be a part of one."""
    learning_rate: float = Field(3e-4, gt=0, le=10)
    """Peak learning rate of AdamW (Loshchilov and Hutter 2019)."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] | Literal["auto"] = 32
    """Rows in one step, on average: batches hold about equally many tokens, so a step has many short rows or few long
    ones, hardly any padding, and every row counts the same. `auto` tries sizes on this machine and takes the smallest
    that is nearly as fast as the fastest and fits into memory; the learning rate, meant for 32 rows, then grows with
    the square root of the size (Malladi et al. 2022)."""
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
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What matrix products are computed in; weights are float32 always. `auto` takes bfloat16 where
    real steps have been measured to be faster in it, and lets a GPU use TF32 for the rest; `float32` is exact."""
    compile: bool = False
    """Compile the network with torch.compile: needs a C++ compiler and some minutes at the start; pays on a GPU."""
    processes: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = 1
    """Processes that train together on this machine, each a part of every batch; `auto` takes one for each GPU. One
    process and several give the same training, up to rounding and dropout. `tune` trains in one."""
    shard: bool = False
    """Spread weights, gradients and optimiser over the processes (FSDP, Zhao et al. 2023) for a model that doesn't fit
    on one device; otherwise each process holds them whole (DDP, Li et al. 2020)."""
