"""Trims a vocabulary: the tokens that a domain uses stay, the rest of a tokenizer and of an embedding goes."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import torch
from torch import nn

ALPHABET = frozenset(chr(code) for code in range(33, 127))
"""Letters of which any word can be spelled, whatever else goes."""


def kept_tokens(tokenizer_json: str, used: np.ndarray, most: int) -> np.ndarray:
    """Ids that stay, sorted: special tokens, those that the data has (`used`), the alphabet, and up to `most` in all of
    the others as the tokenizer has them, where common ones come first. More than `most` when the data has more.

    Raises ValueError for a tokenizer whose pieces are made of each other (byte-pair encoding).
    """
    told = json.loads(tokenizer_json)
    kind = told["model"]["type"]
    if kind not in ("WordPiece", "Unigram"):
        raise ValueError(f"its tokenizer is of the kind {kind}, whose tokens need each other")
    pieces = _pieces(told["model"])
    special = {token["id"] for token in told["added_tokens"]} | _unknown(told["model"])
    letters = {number for number, piece in pieces.items() if _bare(piece, told["model"]) in ALPHABET}
    stay = special | set(map(int, np.unique(used))) | letters
    others = (number for number in sorted(pieces) if number not in stay)
    return np.array(sorted([*stay, *(number for number, _ in zip(others, range(most - len(stay)), strict=False))]))


def trimmed_tokenizer(tokenizer_json: str, kept: np.ndarray) -> str:
    """The tokenizer with the tokens `kept` alone, numbered anew in their order. A word that goes is spelled by those
    that stay."""
    told = json.loads(tokenizer_json)
    new = {int(number): place for place, number in enumerate(kept)}
    model = told["model"]
    if model["type"] == "WordPiece":
        model["vocab"] = {piece: new[number] for piece, number in model["vocab"].items() if number in new}
    else:
        model["vocab"] = [entry for number, entry in enumerate(model["vocab"]) if number in new]
        model["unk_id"] = None if model["unk_id"] is None else new[model["unk_id"]]
    told["added_tokens"] = [{**token, "id": new[token["id"]]} for token in told["added_tokens"]]
    _renumber(told.get("post_processor"), new)
    return json.dumps(told, ensure_ascii=False)


def trimmed_network(network: Any, kept: np.ndarray) -> nn.Module:
    """A copy of a classifier over an encoder, whose embedding holds the tokens `kept` alone."""
    copied = copy.deepcopy(network)
    full: nn.Embedding = copied.encoder.get_input_embeddings()
    padding = full.padding_idx
    place = None if padding is None else int(np.searchsorted(kept, padding))
    small = nn.Embedding(len(kept), full.embedding_dim, padding_idx=place)
    with torch.no_grad():
        small.weight.copy_(full.weight[torch.from_numpy(kept)])
    copied.encoder.set_input_embeddings(small)
    copied.encoder.config.vocab_size = len(kept)
    return copied


def _pieces(model: dict[str, Any]) -> dict[int, str]:
    if model["type"] == "WordPiece":
        return {number: piece for piece, number in model["vocab"].items()}
    return {number: piece for number, (piece, _) in enumerate(model["vocab"])}


def _unknown(model: dict[str, Any]) -> set[int]:
    if model["type"] == "WordPiece":
        return {model["vocab"][model["unk_token"]]} & set(model["vocab"].values())
    return set() if model["unk_id"] is None else {model["unk_id"]}


def _bare(piece: str, model: dict[str, Any]) -> str:
    """A piece without the mark of where in a word it stands."""
    return piece.removeprefix(model.get("continuing_subword_prefix") or "\u2581")


def _renumber(processor: dict[str, Any] | None, new: dict[int, int]) -> None:
    """Ids in what is put around a text."""
    if processor is None:
        return
    for one in processor.get("processors", ()):
        _renumber(one, new)
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [new[number] for number in token["ids"]]
    for name in ("sep", "cls"):
        if name in processor:
            processor[name][1] = new[processor[name][1]]
