"""Tiny projects of text generation for tests: rows that a small model learns in seconds, and a config beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COLOURS = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black", "blood": "red", "lemon": "yellow"}
SOUNDS = {"dog": "barks", "cat": "purrs", "cow": "moos", "duck": "quacks", "bee": "hums", "wolf": "howls"}
ASKED = ("What colour is {}?", "Tell me the colour of {}.", "{} has which colour?", "Which colour has {}?")
HEARD = ("What does a {} do?", "Tell me what a {} does.", "A {} does what?", "How does a {} sound?")

CONFIG = """\
version: 1
project: {project}
task: {{name: text-generation, objective: {objective}, context: 64, answer: {{max_tokens: 16}}}}
need: {{probe_s: 0.2, accept: {{parity: {{at_least: 0.9}}, above_baseline: null}}}}
prepare:
  sources: [{source}]
  steps: [clean: {{}}, dedup: {{near: null}}, split: {{valid: 0.15, test: 0.15, by: {by}}}]
train: {{epochs: 3, learning_rate: 3e-3, batch_size: 8, vocabulary: 300, width: 32, layers: 2, heads: 2}}
compress: {{candidates: [float32]}}
deploy: {{port: 0}}
"""


def exchanges() -> list[tuple[str, str]]:
    """48 questions, each with its answer."""
    coloured = [(way.format(thing), f"The {thing} is {colour}.") for thing, colour in COLOURS.items() for way in ASKED]
    heard = [(way.format(animal), f"A {animal} {sound}.") for animal, sound in SOUNDS.items() for way in HEARD]
    return coloured + heard


def instruction_rows() -> list[dict[str, Any]]:
    """Alpaca's shape."""
    return [{"instruction": asked, "input": "", "output": answer} for asked, answer in exchanges()]


def preference_rows() -> list[dict[str, Any]]:
    """Pairs in which the chosen answer is the polite one, and the shorter."""
    return [
        {"prompt": asked, "chosen": f"Gladly: {answer}", "rejected": f"{answer} Now go away."}
        for asked, answer in exchanges()
    ]


def document_text() -> str:
    """Paragraphs of running text."""
    told = [f"{asked} {answer}" for asked, answer in exchanges()]
    return "\n\n".join(" ".join(told[place : place + 3]) for place in range(0, len(told), 3)) + "\n"


def project(folder: Path) -> Path:
    """A project that learns instructions, written into `folder`; returns the config's path."""
    return _json_project(folder, "tiny-chat", "instructions", instruction_rows())


def preference_project(folder: Path) -> Path:
    """A project that learns preferences."""
    return _json_project(folder, "tiny-preferences", "preferences", preference_rows())


def document_project(folder: Path) -> Path:
    """A project that learns the language of a text file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text(document_text(), encoding="utf-8")
    return _config(folder, "tiny-text", "language-model", "text.txt")


def _json_project(folder: Path, name: str, objective: str, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    return _config(folder, name, objective, "rows.jsonl")


def _config(folder: Path, name: str, objective: str, source: str) -> Path:
    config = folder / "tiny.yaml"
    by = "order" if objective == "language-model" else "row"
    config.write_text(CONFIG.format(project=name, objective=objective, source=source, by=by), encoding="utf-8")
    return config
