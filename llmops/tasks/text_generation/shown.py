"""What prepare shows of encoded rows: figures, lengths, three rows with the trained tokens marked, and what deserves an
eye."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from llmops.core.protocols import Row
from llmops.core.report import Number, Passage, Table
from llmops.tasks.text_generation.mending import WAYS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from llmops.tasks.text_generation.arrays import Split

SHOWN = 3
TOKENS_SHOWN = 160
PERCENTILES = (5, 50, 95, 99, 100)


def numbers(found: Mapping[str, Split], facts: Mapping[str, Any]) -> dict[str, Number]:
    """Figures for prepare's report."""
    train = found["train"]
    return {
        **{f"tokens_{name}": len(arrays.tokens) for name, arrays in found.items()},
        "trained_share": round(float(train.trained.mean()), 4),
        "vocabulary": facts["vocabulary"],
        "context": facts["context"],
        "bytes_per_token": round(facts["bytes_per_token"]["train"], 3),
        "unigram_loss_valid": _rounded(facts["unigram_loss"].get("valid")),
        **{f"cut_{name}": arrays.cut for name, arrays in found.items()},
        "cut_within": sum(arrays.cut_within for arrays in found.values()),
    }


def tables(found: Mapping[str, Split]) -> list[Table]:
    """How long rows are, and how much of them is learnt."""
    rows: list[list[Number]] = []
    for name, arrays in found.items():
        lengths = np.diff(arrays.offsets)
        if len(lengths):
            spread = np.percentile(lengths, PERCENTILES, method="lower").astype(int).tolist()
            rows.append([name, len(arrays.tokens), len(arrays.learnt), *spread])
    heads = [f"{p} %" if p < 100 else "longest" for p in PERCENTILES]
    return [Table("Tokens, and how many a row has", ["split", "tokens", "trained", *heads], rows)]


def passages(train: Split, tokenizer: Tokenizer, objective: str) -> list[Passage]:
    """Three training rows, those that fit on a screen first, with the trained tokens marked; of a preference, the
    chosen answer."""
    step = 2 if objective == "preferences" else 1
    rows = list(range(0, len(train.documents), step))
    short = [row for row in rows if train.offsets[row + 1] - train.offsets[row] <= TOKENS_SHOWN]
    chosen = [*short, *(row for row in rows if row not in set(short[:SHOWN]))][:SHOWN]
    return [_passage(train, row, step, tokenizer) for row in chosen]


def mendings(rows: Iterable[Row]) -> tuple[dict[str, int], list[Table]]:
    """What was done to the conversations of these rows, as figures (chats, by mending.WAYS) and as a table; nothing
    where nothing was."""
    done = [row["mended"] for row in rows if row.get("mended")]
    if not done:
        return {}, []
    chats = {way: sum(way in one for one in done) for way in WAYS}
    turns = {way: sum(one.get(way, 0) for one in done) for way in WAYS}
    lines: list[list[Number]] = [[words, chats[way], turns[way]] for way, words in WAYS.items() if chats[way]]
    figures = {f"mended_{way}": n for way, n in chats.items() if n}
    title = f"Chats as people write them: {len(done):,} of those kept were mended"
    return {"mended": len(done), **figures}, [Table(title, ["what was done", "chats", "turns"], lines)]


def notes(found: Mapping[str, Split], unfilled: Mapping[str, int], moved: int) -> list[str]:
    """Warnings, besides that of rows that were cut, which prepare gives for every task. `moved`: greetings that the
    chat template does not write where they stood."""
    unlike = sum(arrays.unlike for arrays in found.values())
    within = sum(arrays.cut_within for arrays in found.values())
    said = []
    if moved:
        said.append(
            f"the chat template lets no assistant begin: {moved:,} greetings stand at the head of the user's first "
            "words, in training and at the server"
        )
    if within:
        said.append(
            f"in {within:,} rows the last exchange alone is longer than the context, and words of it were left out; "
            "raise `task.context`, or leave such rows out"
        )
    if unfilled:
        named = ", ".join(f"{{{{{name}}}}} in {rows:,}" for name, rows in unfilled.items())
        said.append(f"placeholders that `task.fill` does not fill: {named} rows; the model learns to write them")
    if unlike:
        said.append(
            f"in {unlike:,} rows the chat template writes an answer in another way than it asks for one; "
            "served answers may begin unlike the trained ones"
        )
    return said


def _passage(train: Split, row: int, step: int, tokenizer: Tokenizer) -> Passage:
    first, last = int(train.offsets[row]), int(train.offsets[row + 1])
    shown = slice(first, min(last, first + TOKENS_SHOWN))
    marks = train.trained[shown].astype(bool).tolist()
    pieces = []
    for marked, run in groupby(zip(train.tokens[shown].tolist(), marks, strict=True), key=lambda pair: pair[1]):
        pieces.append((tokenizer.decode([token for token, _ in run], skip_special_tokens=False), marked))
    if last > shown.stop:
        pieces.append((f" … ({last - shown.stop:,} tokens more)", False))
    return Passage(f"Training row {row // step + 1}: marked is what the model learns to write", pieces)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
