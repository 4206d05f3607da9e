"""A tiny project whose model learns to call two tools of a shop, and to say what they gave back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def tool(name: str, description: str, **properties: Any) -> dict[str, Any]:
    """A function as OpenAI's clients send it."""
    parameters = {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False
    }  # fmt: skip
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    tool("order_status", "Order", order={"type": "string"}),
    tool("opening_hours", "Hours", city={"type": "string"}),
]
ASKED = {
    "order_status": ("Where is order {}?", "Has {} been sent?", "Track {} please.", "Is {} on its way?"),
    "opening_hours": ("When do you open in {}?", "Hours in {}?", "Is {} open on Sunday?", "Open late in {}?"),
}
FIELD = {"order_status": "order", "opening_hours": "city"}
VALUES = {"order_status": ["A1", "B2", "C3", "D4", "E5", "F6"], "opening_hours": ["Bonn", "Kiel", "Ulm", "Jena"]}
BEFORE = ("", "Hi, ", "One question: ")
GAVE = {"order_status": '{"status": "on its way"}', "opening_hours": '{"open": "9 to 18"}'}
TOLD = {"order_status": "Your order is on its way.", "opening_hours": "The store is open from 9 to 18."}
SMALL_TALK, ANSWER = ("Hello!", "Good morning", "Anybody there?", "Thanks a lot!"), "How can I help?"

CONFIG = """\
version: 1
project: tiny-calls
task: {name: text-generation, context: 512, answer: {max_tokens: 60}}
need: {probe_s: 0.2, accept: {parity: {at_least: 0.9}, above_baseline: null}}
prepare:
  sources: [rows.jsonl]
  steps: [clean: {}, dedup: {near: null}, split: {valid: 0.1, test: 0.1}]
train: {epochs: 40, learning_rate: 4e-3, batch_size: 8, vocabulary: 400, width: 64, layers: 2, heads: 4}
compress: {candidates: [float32]}
deploy: {port: 0}
"""


def called(name: str, value: str, key: str = "call_1") -> dict[str, Any]:
    """The assistant's message with a call."""
    function = {"name": name, "arguments": json.dumps({FIELD[name]: value})}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": key, "type": "function", "function": function}]}


def rows() -> list[dict[str, Any]]:
    """A question with its call, what that gave and what is said then; and small talk without any."""
    made = []
    asked = [
        (name, before, way, value)
        for name in ASKED
        for before in BEFORE
        for way in ASKED[name]
        for value in VALUES[name]
    ]
    for name, before, way, value in asked:
        result = {"role": "tool", "tool_call_id": "call_1", "content": GAVE[name]}
        question, answer = {"role": "user", "content": before + way.format(value)}, TOLD[name]
        messages = [question, called(name, value), result, {"role": "assistant", "content": answer}]
        made.append({"messages": messages, "tools": TOOLS})
    for said in SMALL_TALK:
        for before in BEFORE:
            told = [{"role": "user", "content": before + said}, {"role": "assistant", "content": ANSWER}]
            made.append({"messages": told, "tools": TOOLS})
    return made


def project(folder: Path) -> Path:
    """The project, written into `folder`; returns the config's path."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows())
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    config = folder / "tiny.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    return config
