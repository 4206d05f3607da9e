"""The tokenizer of a pretrained encoder, and what a network must know of it. No torch here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from llmops.core.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PADDING = ("[PAD]", "<pad>", "<|pad|>")
"""Usual names of the padding token."""


def pretrained_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of the encoder in `folder`; its padding and truncation are switched off."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path)) if path.is_file() else converted_tokenizer(folder)
    except Exception as problem:
        raise DataError(
            f"The tokenizer in {folder} cannot be read: {problem}", str(folder), "the folder needs a tokenizer.json."
        ) from problem
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def converted_tokenizer(folder: Path) -> Tokenizer:
    """Older folders have only a word list; the transformers library knows how to read each kind."""
    from transformers import AutoTokenizer

    backend: Tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False).backend_tokenizer
    return backend


def pad_id(tokenizer: Tokenizer) -> int:
    """The id of the padding token, under one of its usual names; 0 when there is none."""
    found = (tokenizer.token_to_id(name) for name in PADDING)
    return next((number for number in found if number is not None), 0)


def token_limit(folder: Path, wanted: int) -> int:
    """Tokens that a text may have: `wanted`, or the positions of the encoder in `folder` where these are fewer."""
    config = json.loads((folder / "config.json").read_text())
    positions = int(config.get("max_position_embeddings") or wanted)
    # RoBERTa and its kin count positions from the padding id on
    return min(wanted, positions - (config["pad_token_id"] + 1 if "roberta" in config["model_type"] else 0))
