"""Answers held to a schema: are they always valid, and what does it cost? Through the real server.

    python benchmarks/structured.py [--quick] [--keep FOLDER]

All is done by the commands that a user types, in a folder of its own. `run` trains a small network on data/chat, which
holds no JSON; `serve` is asked by OpenAI's client for 500 sampled answers at temperature 1, each held to one of ten
schemas with `strict`; jsonschema, formats included, is the judge. The costs are tokens a second of eight streams at
once: written freely, held to a schema, with tools offered, and with the tools merely told in the system's words, in
turn on one server; ratios are taken within a round, medians are told; and the microseconds that it takes to know which
tokens may come next, for this model's vocabulary and for a large one of made-up words. One JSON line last. --quick asks
a tiny model for 100 answers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
from openai import OpenAI

from benchmarks.command import reported, served
from llmops.serving.forms import Forms
from llmops.serving.grammar import Wanted
from llmops.tasks.text_generation.codec import GenerationCodec
from llmops.tasks.text_generation.toolwords import tools_words

DATA = Path(__file__).resolve().parent.parent / "data" / "chat"
CONFIG = """\
version: 1
project: structured
task: {{name: text-generation, objective: instructions, context: 512, answer: {{max_tokens: 96}}}}
need: {{probe_s: 1, accept: {{parity: {{at_least: 0.9}}, above_baseline: null}}}}
prepare:
  sources: [{train}]
  steps: [clean: {{}}, split: {{valid: 0.1, test_file: {test}}}]
train: {{model: llama, vocabulary: 1024, width: {width}, layers: {layers}, heads: 4, epochs: {epochs}, batch_size: 4}}
compress: {{candidates: [float32]}}
deploy: {{port: 0, slots: 8}}
"""
FULL = {"width": 256, "layers": 4, "epochs": 3}
QUICK = {"width": 32, "layers": 1, "epochs": 1}
ANSWERS, AT_ONCE, MOST, ROUNDS, WRITTEN = 500, 10, 400, 7, 128


def closed(**properties: Any) -> dict[str, Any]:
    """An object of these properties and no other, as `strict` asks for it."""
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip


def text(most: int) -> dict[str, Any]:
    """A text of at most so many characters: nothing in this model knows when to close a quotation mark."""
    return {"type": "string", "maxLength": most}


def listed(items: dict[str, Any], most: int) -> dict[str, Any]:
    """A list of at most so many."""
    return {"type": "array", "items": items, "maxItems": most}


MOOD = {"enum": ["glad", "calm", "angry", None]}
ADDRESS = closed(street=text(30), number={"type": "integer", "minimum": 1, "maximum": 999}, city=text(20))
SCHEMAS: dict[str, dict[str, Any]] = {
    "flat": closed(topic=text(40), urgent={"type": "boolean"}),
    "choice": closed(mood=MOOD, channel={"const": "chat"}),
    "numbers": closed(
        price={"type": "number", "minimum": 0, "maximum": 100}, count={"type": "integer", "minimum": 0, "maximum": 12}
    ),
    "nested": closed(customer=closed(name=text(20), address=ADDRESS), returning={"type": "boolean"}),
    "list": closed(sizes=listed({"type": "integer", "minimum": 1, "maximum": 60}, 6), tags=listed(text(12), 3)),
    "objects": closed(items=listed(closed(name=text(15), mood=MOOD), 3)),
    "pattern": closed(
        order={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}, code={"type": "string", "pattern": "^(a|bc)+$"}
    ),
    "formats": closed(day={"type": "string", "format": "date"}, at={"type": "string", "format": "time"}),
    "either": closed(answer={"anyOf": [closed(yes=text(20)), closed(no=listed(text(10), 2)), {"type": "null"}]}),
    "recursive": {
        "$defs": {"box": closed(label=text(8), inside={"anyOf": [{"$ref": "#/$defs/box"}, {"type": "null"}]})},
        **closed(box={"$ref": "#/$defs/box"}),
    },
}
LONG = closed(story={"type": "string", "minLength": 5000})
"""What does not end before the tokens that are measured."""
JUDGE = jsonschema.Draft202012Validator
QUESTIONS = ("Where is my parcel?", "Can I send this back?", "How do I pay?", "Hello", "My lamp came broken!")
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": closed(order=text(20))}}
    for name in ("order_status", "refund", "cancel")
]


def made(folder: Path, sizes: dict[str, int]) -> dict[str, Any]:
    """What `llmops run` reports; ends this script with the command's last words when it fails."""
    config = CONFIG.format(train=DATA / "train.jsonl", test=DATA / "test.jsonl", **sizes)
    (folder / "structured.yaml").write_text(config, encoding="utf-8")
    return reported(folder, "run", "structured.yaml")


@contextmanager
def client_of(folder: Path, outcome: dict[str, Any]) -> Iterator[OpenAI]:
    """A client of the server, as soon as it listens."""
    run = [] if outcome["champion"] else ["--run", "latest"]
    with (
        served(folder, "structured.yaml", *run) as address,
        OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=600) as client,
    ):
        yield client


def valid(client: OpenAI, answers: int) -> dict[str, Any]:
    """How many of the sampled answers meet their schema, by schema; what did not is said."""
    counts: dict[str, int] = {}
    asked = 0
    for name, schema in SCHEMAS.items():
        judge = JUDGE(schema, format_checker=JUDGE.FORMAT_CHECKER)
        form: Any = {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}
        for number in range(answers // len(SCHEMAS) // AT_ONCE or 1):
            messages: Any = [{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}]
            said = client.chat.completions.create(
                model="m",
                messages=messages,
                response_format=form,
                temperature=1,
                n=AT_ONCE,
                seed=number,
                max_tokens=MOST,
            )
            for choice in said.choices:
                asked += 1
                good = meets(choice.message.content or "", judge) and choice.finish_reason == "stop"
                counts[name] = counts.get(name, 0) + good
                if not good:
                    say(f"  - {name}: {choice.finish_reason}, {choice.message.content}")
    return {"asked": asked, "valid": sum(counts.values()), "valid_by_schema": counts}


def meets(answer: str, judge: Any) -> bool:
    """Whether an answer is JSON of its schema."""
    try:
        return bool(judge.is_valid(json.loads(answer)))
    except ValueError:
        return False


def speeds(client: OpenAI, rounds: int) -> dict[str, list[float]]:
    """Tokens a second of eight answers at once, in each way of writing, in each round."""
    form = {"type": "json_schema", "json_schema": {"name": "long", "schema": LONG, "strict": True}}
    asked = {"role": "user", "content": QUESTIONS[0]}
    told = {"role": "system", "content": tools_words(TOOLS)}
    ban: Any = {"1": -100}
    """The end token: a call or an answer would end too early."""
    ways: dict[str, dict[str, Any]] = {
        "free": {"messages": [asked], "logit_bias": ban}, "held": {"messages": [asked], "response_format": form},
        "told": {"messages": [told, asked], "logit_bias": ban},
        "tools": {"messages": [asked], "tools": TOOLS, "logit_bias": ban},
    }  # fmt: skip

    def write(more: dict[str, Any]) -> int:
        said = client.chat.completions.create(model="m", temperature=1, seed=1, max_tokens=WRITTEN, n=8, **more)
        assert said.usage is not None
        return said.usage.completion_tokens

    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, more in ways.items():
            began = time.perf_counter()
            tokens = write(more)
            if number:  # the first round compiles
                found[way].append(tokens / (time.perf_counter() - began))
    return found


class Many:
    """As much of a codec as forms ask for, with a large vocabulary of made-up words."""

    call_marks, added, end_tokens = ("<tool_call>", "</tool_call>"), {}, frozenset({0})

    def __init__(self, count: int) -> None:
        dice, letters = np.random.default_rng(0), np.frombuffer(b" abcdefghijklmnopqrstuvwxyz,.", np.uint8)
        words = {bytes(dice.choice(letters, dice.integers(2, 9))) for _ in range(count)}
        self.bytes = [b"", *(bytes([one]) for one in range(256)), *sorted(words)]
        self.vocabulary = len(self.bytes)

    def token_bytes(self) -> list[bytes]:
        """The tokens."""
        return self.bytes

    def letters(self, words: str) -> list[int]:
        """One token a byte."""
        return [1 + byte for byte in words.encode()]


def mask_us(codec: Any) -> float:
    """Microseconds, the mean over 300 tokens of three nested answers, to learn which tokens may come next."""
    dice, took, count = np.random.default_rng(0), 0.0, 0
    for form in Forms(codec).make(Wanted(SCHEMAS["nested"], strict=True), 3):
        whole = False
        while not whole and count < 300:
            began = time.perf_counter()
            allowed = form.allowed()
            took, count = took + time.perf_counter() - began, count + 1
            whole = form.take(int(dice.choice(np.flatnonzero(allowed))))
    return round(1e6 * took / count, 1)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model, few answers")
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it there")
    given = parser.parse_args()
    with nullcontext(given.keep) if given.keep else tempfile.TemporaryDirectory(prefix="llmops-forms-") as place:
        folder = Path(place).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        outcome = made(folder, QUICK if given.quick else FULL)
        codec = GenerationCodec(Path(outcome["path"]) / "compress" / "bundle")
        with client_of(folder, outcome) as client:
            found = valid(client, ANSWERS // 10 if given.quick else ANSWERS)
            speed = speeds(client, 2 if given.quick else ROUNDS)

    def ratio(way: str, other: str) -> float:
        return round(statistics.median(a / b for a, b in zip(speed[way], speed[other], strict=True)), 3)

    many = Many(50_000)
    result = {
        **found, "holds": found["valid"] == found["asked"],
        "tokens_per_s": {way: round(statistics.median(each), 1) for way, each in speed.items()},
        "held_over_free": ratio("held", "free"), "tools_over_told": ratio("tools", "told"),
        "mask_us": {str(codec.vocabulary): mask_us(codec), str(many.vocabulary): mask_us(many)},
    }  # fmt: skip
    say(json.dumps(result))


if __name__ == "__main__":
    main()
