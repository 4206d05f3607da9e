"""Causal language models of transformers: fresh, loaded, and asked for the probabilities of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmops.core.errors import DataError
from llmops.nets.causal_functions import MeanCrossEntropy
from llmops.nets.causal_fused import Shapes, hidden_states, llama_of, prepare
from llmops.nets.dropout import drop

FEED_MULTIPLE = 32
"""Feed-forward layers are a multiple of this wide."""
HOOKED = "llmops_dropout"


def fresh_llama(
    vocabulary: int,
    width: int,
    layers: int,
    heads: int,
    feed_forward: int | None,
    context: int,
    end_tokens: Sequence[int],
    pad: int,
    begin: int | None,
) -> Any:
    """A Llama-shaped network (Touvron et al. 2023) with tied embeddings and random weights, float32.

    `feed_forward` is 8/3 of `width` when None. Anything that reads transformers' models reads it.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    feed = feed_forward or -(-8 * width // (3 * FEED_MULTIPLE)) * FEED_MULTIPLE
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=feed,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=begin,
        eos_token_id=end_tokens[0] if len(end_tokens) == 1 else list(end_tokens),
        pad_token_id=pad,
        attn_implementation="sdpa",
        dtype="float32",
    )
    return LlamaForCausalLM(config)


def save_causal(network: Any, folder: Path) -> None:
    """Write a network as transformers reads it, without a bar, and for others to read too (a server in a container)."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    network.save_pretrained(folder)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)


def load_causal(folder: Path, dropout: float = 0.0) -> Any:
    """The causal model in `folder`, float32; code that lies with a model is never run.

    A `dropout` above 0 replaces every dropout rate of its config. Raises DataError when it cannot be loaded.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if dropout and config.model_type != "llama":
            for name, value in config.to_dict().items():
                if ("dropout" in name or name.endswith("_pdrop")) and isinstance(value, float):
                    setattr(config, name, dropout)
        return AutoModelForCausalLM.from_pretrained(
            folder, config=config, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    except Exception as problem:
        do = "use a causal model such as Llama, Qwen or GPT-2, saved with safetensors."
        raise DataError(f"The model in {folder} cannot be loaded: {problem}", str(folder), do) from problem


class CausalReader:
    """Asks a network for the probabilities of tokens, by the quickest way that is exact.

    Windows come as rectangles one after the other in a flat array (`shapes`, `tokens` int64 [cells]); padding stands
    at the end of rows, where causal attention never looks. `places` int64 [n] are the cells whose next tokens count,
    `targets` int64 [n] those tokens.
    """

    def __init__(self, network: nn.Module, dropout: float = 0.0) -> None:
        self.network, self.dropout = network, dropout
        self.llama = llama_of(network)
        if self.llama is not None:
            prepare(self.llama)
        if dropout:
            hook_dropout(network, dropout, lambda: self.fused is None)

    @property
    def fused(self) -> Any | None:
        """The Llama that causal.c computes, which knows float32 and whole weights alone; else None."""
        spread = hasattr(self.network, "unshard")  # over processes, by FSDP, which gathers layer by layer
        return None if spread or torch.is_autocast_enabled("cpu") else self.llama

    def mean_loss(self, shapes: Shapes, tokens: Tensor, places: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats."""
        if not len(places):
            return next(value for value in self.network.parameters() if value.requires_grad).sum() * 0.0
        llama = self.fused
        if llama is None:
            return functional.cross_entropy(self.logits(shapes, tokens, places), targets)
        states = self.states(shapes, tokens, places)
        loss: Tensor = MeanCrossEntropy.apply(states, llama.lm_head.weight, targets)
        return loss

    def log_probabilities(
        self, shapes: Shapes, tokens: Tensor, places: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(log-probability of each target, likeliest token), float32 and int64 [n]."""
        logits = self.logits(shapes, tokens, places)
        return -functional.cross_entropy(logits, targets, reduction="none"), logits.argmax(-1)

    def logits(self, shapes: Shapes, tokens: Tensor, places: Tensor) -> Tensor:
        """float32 [n, vocabulary]."""
        llama = self.fused
        if llama is not None:
            return functional.linear(self.states(shapes, tokens, places), llama.lm_head.weight)
        parts = tokens.split([rows * length for rows, length in shapes])
        found = [
            self.network(input_ids=part.view(shape), use_cache=False).logits.flatten(0, 1)
            for part, shape in zip(parts, shapes, strict=True)
        ]
        return torch.cat(found)[places]

    def states(self, shapes: Shapes, tokens: Tensor, places: Tensor) -> Tensor:
        """States before the output layer, float32 [n, width]."""
        dropout = self.dropout if self.network.training else 0.0
        states = hidden_states(self.llama, tokens, shapes, dropout)
        return states if len(places) == len(states) else states[places]


def hook_dropout(network: Any, rate: float, wanted: Callable[[], bool]) -> None:
    """Dropout on the embeddings and on each layer's two outputs, as `hidden_states` has it, for a Llama that
    transformers computes, which `wanted` says; others have rates of their own in their config."""
    from transformers import LlamaForCausalLM

    inner = network.get_base_model() if hasattr(network, "get_base_model") else network
    if not isinstance(inner, LlamaForCausalLM) or getattr(inner, HOOKED, False):
        return

    def after(module: nn.Module, given: Any, found: Any) -> Any:
        if not (inner.training and wanted()):
            return found
        first = found[0] if isinstance(found, tuple) else found
        dropped = drop(first, rate)
        return (dropped, *found[1:]) if isinstance(found, tuple) else dropped

    setattr(inner, HOOKED, True)
    for module in [
        inner.model.embed_tokens,
        *(part for one in inner.model.layers for part in (one.self_attn, one.mlp)),
    ]:
        module.register_forward_hook(after)
