"""LoRA: puts adapters into an encoder and melts them in again."""

from __future__ import annotations

import warnings

from torch import nn


def add_lora(encoder: nn.Module, rank: int, alpha: float, dropout: float) -> nn.Module:
    """The encoder with adapters on all its linear layers (Hu et al. 2021); only they are trained."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear", bias="none")
    with warnings.catch_warnings():
        # peft still calls what transformers has renamed
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(encoder, config)


def merge_lora(encoder: nn.Module) -> nn.Module:
    """The plain encoder with the adapters added into its weights; an encoder without adapters comes back as it is."""
    merge = getattr(encoder, "merge_and_unload", None)
    return merge() if merge is not None else encoder
