"""Tool calls of a small model that was trained from scratch: how often the right one comes, through the real server.

    python benchmarks/tool_calls.py ../shared/data/sft_demo/glaive_toolcall_en_demo.json [--quick] [--keep FOLDER]

All is done by the commands that a user types, in a folder of its own. `run` trains a network of the shipped chat's size
(configs/chat.yaml) on the given file and on chats that shop_calls.py makes; `serve` is asked held-out questions of our
own, each with two to four tools and `tool_choice: auto`, by OpenAI's client; and small talk, where nothing is to be
called. Told are the share of questions with a parsable call of the right name,
those with the right arguments too, and those of small talk without a call. One JSON line last. --quick runs all of it
with a tiny model on few rows: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from openai import APIConnectionError, OpenAI

from benchmarks import shop_calls
from benchmarks.command import reported, served
from benchmarks.shop_words import LOOKUPS

WANTED = 0.9
"""Share of held-out questions with a parsable call of the right name."""
EACH = 4
SEED = 7
CONFIG = """\
version: 1
project: tool-calls
task: {{name: text-generation, objective: instructions, context: {context}, answer: {{max_tokens: 96}}}}
need: {{probe_s: 1, accept: {{parity: {{at_least: 0.97}}}}}}
prepare:
  sources: {sources}
  steps: [clean: {{}}, dedup: {{near: null}}, split: {{valid: 0.05, test: 0.02}}]
train:
  model: llama
  vocabulary: 1024
  width: {width}
  layers: {layers}
  heads: 4
  dropout: 0.2
  epochs: {epochs}
  batch_size: 8
  learning_rate: 1.5e-3
  schedule: cosine
  weight_decay: 0.1
compress: {{candidates: [float32]}}
deploy: {{port: 0}}
"""
FULL = {"rows": 3600, "context": 512, "width": 256, "layers": 4, "epochs": 6}
QUICK = {"rows": 60, "context": 512, "width": 32, "layers": 1, "epochs": 1}


def write(folder: Path, data: Path, sizes: dict[str, int]) -> None:
    """The config and the rows."""
    made = "".join(json.dumps(row) + "\n" for row in shop_calls.rows(sizes["rows"], SEED))
    (folder / "shop.jsonl").write_text(made, encoding="utf-8")
    sources = json.dumps(["shop.jsonl", str(data)])
    (folder / "calls.yaml").write_text(CONFIG.format(**sizes, sources=sources), encoding="utf-8")


def trained(folder: Path) -> dict[str, Any]:
    """What `llmops run` reports; ends this script with the command's last words when it fails."""
    found = reported(folder, "run", "calls.yaml")
    for stage in found["stages"]:
        say(f"{stage['name']} {stage['took_s']:.0f} s")
    return found


@contextmanager
def client_of(folder: Path, run: list[str]) -> Iterator[OpenAI]:
    """A client of the server."""
    with (
        served(folder, "calls.yaml", *run) as address,
        OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=5) as client,
    ):
        yield client


def asked(client: OpenAI) -> dict[str, Any]:
    """Shares of the held-out questions, over all and by function, and what went wrong."""
    name_right: dict[str, list[bool]] = {}
    all_right: list[bool] = []
    for words, lookup, given, tools in shop_calls.questions(EACH, SEED + 1):
        message = answer(client, words, tools)
        calls = [(one.function.name, parsed(one.function.arguments)) for one in message.tool_calls or []]
        right = len(calls) > 0 and calls[0][0] == lookup.name and calls[0][1] is not None
        name_right.setdefault(lookup.name, []).append(right)
        all_right.append(right and calls[0][1] == given)
        if not right:
            say(f"  - {words} -> {calls or message.content!r}")
    flat = [right for each in name_right.values() for right in each]
    return {
        "questions": len(flat),
        "right_name": share(flat),
        "right_name_and_arguments": share(all_right),
        "by_function": {name: share(each) for name, each in name_right.items()},
        "small_talk_without_call": share([not answer(client, words, tools).tool_calls for words, tools in talk()]),
    }


def talk() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Small talk of other words than the training's."""
    for words in ("Hello", "Good evening!", "Thank you!", "Who am I talking to?", "Tell me another joke."):
        yield words, [lookup.tool() for lookup in LOOKUPS[:4]]


def answer(client: OpenAI, words: str, tools: list[dict[str, Any]]) -> Any:
    """The greedy answer; the first waits until the server listens."""
    messages: Any = [{"role": "user", "content": words}]
    for _ in range(100):
        try:
            said = client.chat.completions.create(model="m", messages=messages, tools=tools, temperature=0)  # type: ignore[arg-type]
            return said.choices[0].message
        except APIConnectionError:
            time.sleep(0.1)
    raise SystemExit("nobody listens")


def parsed(text: str) -> Any:
    """JSON, or None."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def share(held: list[bool]) -> float:
    return round(sum(held) / len(held), 3)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tiny model on few rows")
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it there")
    given = parser.parse_args()
    sizes, began = QUICK if given.quick else FULL, time.monotonic()
    with nullcontext(given.keep) if given.keep else tempfile.TemporaryDirectory(prefix="llmops-calls-") as place:
        folder = Path(place).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        write(folder, given.data.resolve(), sizes)
        outcome = trained(folder)
        stages = {stage["name"]: stage for stage in outcome["stages"]}
        with client_of(folder, [] if outcome["champion"] else ["--run", "latest"]) as client:
            found = asked(client)
    numbers = stages["train"]["numbers"]
    result = {
        **found, "wanted": WANTED, "holds": found["right_name"] >= WANTED, "train_s": stages["train"]["took_s"],
        "parameters": numbers["parameters"], "valid_loss": numbers["valid_loss"], "sizes": sizes,
        "took_s": round(time.monotonic() - began),
    }  # fmt: skip
    say(json.dumps(result))


if __name__ == "__main__":
    main()
