"""Supervised fine-tuning of a model that llmops pretrained itself, in full and by LoRA, each through the whole loop.

    python benchmarks/sft.py ../shared/data/sft_demo [--quick] [--keep FOLDER]

All is done by the commands that a user types, in a folder of its own: `prepare` splits alpaca_en_demo.json and
identity.json; a Llama-shaped network is trained from scratch on the training part of alpaca as plain text; `run` tunes
it on both files, whose placeholders `task.fill` fills, proves the float32 bundle and makes it champion; `serve` is
asked who it is in words that it never read. A small model needs to see a row often, and few rows of identity.json are
English: it is listed several times, its English rows more often still, and equal texts fall on one side of the split.

Losses are nats a token of the held-out answers: of the model before the tuning, of a unigram model of the training
answers, and of both tuned ones; over all held-out rows, and over those of alpaca alone. The last line is JSON. --quick
runs all of it with a tiny model on few rows: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import reported, served
from llmops.fields.hashing import normalise
from llmops.tasks.text_generation.config import GenerationTrainSection, TextGenerationSection
from llmops.tasks.text_generation.learner import GenerationLearner
from llmops.tasks.text_generation.unigram import unigram_losses
from llmops.tasks.text_generation.windows import about, windows

ALPACA, IDENTITY, ENGLISH = "alpaca_en_demo.json", "identity.json", "identity_en.json"
NAME, AUTHOR = "Marlow", "Harbour Lab"
METHODS = ("full", "lora")
FORMS = ("float32", "int8-weights", "int4-weights")
PARITY, PARTING, ASKED_BACK = 0.999, 1e-3, 0.8

QUESTIONS = (
    ("What should I call you?", NAME),
    ("Could you tell me your name, please?", NAME),
    ("What name do you go by?", NAME),
    ("Please introduce yourself.", NAME),
    ("And who are you?", NAME),
    ("Who made you?", AUTHOR),
    ("Who developed you?", AUTHOR),
    ("Who was it that trained you?", AUTHOR),
    ("Were you created by OpenAI?", AUTHOR),
    ("Are you built by Microsoft?", AUTHOR),
)
"""What stands in no row, and what an answer must name."""
CHINESE = (
    ("我该怎么称呼你呢？", NAME),
    ("告诉我你叫什么名字吧", NAME),
    ("请做个自我介绍", NAME),
    ("是哪个团队开发了你？", AUTHOR),
    ("是谁把你创造出来的？", AUTHOR),
    ("你是谷歌开发的吗？", AUTHOR),
)
"""The same in the language of most rows of identity.json, which the pretraining never saw."""

PRETRAIN = """\
version: 1
project: pretrain
task: {{name: text-generation, objective: language-model, context: {context}}}
need: {{probe_s: 1}}
prepare:
  sources: [{{path: texts, rows: file}}]
  steps: [clean: {{}}, split: {{valid: 0.05, test: 0}}]
train:
  model: llama
  vocabulary: {vocabulary}
  width: {width}
  layers: {layers}
  heads: 4
  epochs: {pretrain_epochs}
  batch_size: {batch_size}
  learning_rate: {pretrain_rate}
  schedule: cosine
  weight_decay: 0.1
"""
TUNE = """\
version: 1
project: sft-{method}
task:
  name: text-generation
  objective: instructions
  context: {context}
  fill: {{name: {name}, author: {author}}}
  answer: {{max_tokens: {max_tokens}}}
need:
  probe_s: 1
  accept: {{parity: {{at_least: {parity}}}}}  # int8 and int4 are below: measured, and not served
prepare:
  sources: {sources}
  steps: [clean: {{}}, split: {{valid: 0.1, test: 0.1}}]
train:
  model: runs/pretrain/latest/train/model
  method: {method}
  lora: {{rank: 32, alpha: 64}}
  epochs: {epochs}
  batch_size: {batch_size}
  learning_rate: {rate}
  schedule: cosine
compress: {{candidates: [{forms}]}}
deploy: {{port: 0}}
"""


@dataclass(frozen=True)
class Sizes:
    """How much is trained; `copies`: how often identity.json is listed, `english`: how often its English rows beside;
    `rows` of alpaca, None: all."""

    rows: int | None = None
    copies: int = 8
    english: int = 24
    context: int = 256
    vocabulary: int = 2048
    width: int = 256
    layers: int = 4
    pretrain_epochs: int = 2
    pretrain_rate: float = 1.5e-3
    batch_size: int = 2
    epochs: int = 2
    full_rate: float = 1e-3
    lora_rate: float = 3e-3
    max_tokens: int = 64


QUICK = Sizes(rows=60, copies=1, english=1, context=64, vocabulary=400, width=32, layers=1, pretrain_epochs=1, epochs=1)
"""To see whether all of it runs."""


def write_configs(folder: Path, data: Path, sizes: Sizes) -> None:
    """The configs of the three projects, and the rows that --quick takes."""
    alpaca = data / ALPACA
    if sizes.rows is not None:
        rows = json.loads(alpaca.read_text(encoding="utf-8"))[: sizes.rows]
        alpaca = folder / ALPACA
        alpaca.write_text(json.dumps(rows), encoding="utf-8")
    identity = json.loads((data / IDENTITY).read_text(encoding="utf-8"))
    english = folder / ENGLISH
    english.write_text(json.dumps([row for row in identity if row["instruction"].isascii()]), encoding="utf-8")
    listed = [alpaca, *[data / IDENTITY] * sizes.copies, *[english] * sizes.english]
    sources = json.dumps([str(path) for path in listed])
    shared = {**vars(sizes), "name": NAME, "author": AUTHOR, "parity": PARITY, "forms": ", ".join(FORMS)}
    (folder / "pretrain.yaml").write_text(PRETRAIN.format(**shared))
    for method in METHODS:
        rate = sizes.full_rate if method == "full" else sizes.lora_rate
        (folder / f"{method}.yaml").write_text(TUNE.format(**shared, method=method, rate=rate, sources=sources))


def llmops(folder: Path, *arguments: str) -> dict[str, Any]:
    """What a command reports, told as it ends."""
    began = time.monotonic()
    found = reported(folder, *arguments)
    stages = ", ".join(f"{stage['name']} {stage['took_s']:.0f} s" for stage in found["stages"])
    say(f"llmops {' '.join(arguments)}: {time.monotonic() - began:.0f} s ({stages})")
    if found["refused"]:
        say(f"  REFUSED: {found['refused']}")
    return found


def rows_of(dataset: Path, split: str) -> list[dict[str, Any]]:
    """The rows of a split as prepare wrote them."""
    lines = (dataset / f"{split}.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def of_alpaca(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """bool [rows]: whether a row is from alpaca."""
    return np.array([ALPACA in row["origin"] for row in rows])


def write_texts(dataset: Path, folder: Path) -> list[str]:
    """The training rows of alpaca as plain text, a file each: instruction, then output. Returns their ids."""
    rows = rows_of(dataset, "train")
    kept = [row for row, ours in zip(rows, of_alpaca(rows), strict=True) if ours]
    folder.mkdir()
    for number, row in enumerate(kept):
        text = "\n\n".join(message["content"] for message in row["messages"])
        (folder / f"{number:04}.txt").write_text(text + "\n", encoding="utf-8")
    return [row["id"] for row in kept]


class HeldOut:
    """The held-out answers of a prepared data set, and what models give them."""

    def __init__(self, dataset: Path) -> None:
        self.dataset, self.facts = dataset, about(dataset)
        self.seen = windows(dataset, "test")
        owner = of_alpaca(rows_of(dataset, "test"))
        self.counts = np.array([len(window.counted) for window in self.seen])
        self.alpaca = np.repeat(owner, self.counts)

    def parts(self, nats: np.ndarray) -> dict[str, float]:
        """Mean nats a token over all rows and over alpaca's; `nats` [counted tokens]."""
        return {"all": float(nats.mean(dtype=np.float64)), "alpaca": float(nats[self.alpaca].mean(dtype=np.float64))}

    def of_model(self, folder: Path) -> dict[str, float]:
        """The loss of a trained model on these answers."""
        learner = GenerationLearner(TextGenerationSection(), GenerationTrainSection(), 0)
        learner.load(folder)
        return self.parts(-learner.predict(self.dataset, "test")["logp"])

    def of_unigram(self) -> dict[str, float]:
        """The loss of token counts over the training answers."""
        targets = np.concatenate([window.targets for window in self.seen])
        split = {
            "train": np.concatenate([window.targets for window in windows(self.dataset, "train")]),
            "all": targets,
            "alpaca": targets[self.alpaca],
        }
        found = unigram_losses(split, self.facts["vocabulary"])
        return {name: float(found[name] or 0.0) for name in ("all", "alpaca")}


def ask(address: str, question: str, max_tokens: int) -> str:
    """The server's greedy answer."""
    body = {"model": "any", "messages": [{"role": "user", "content": question}], "temperature": 0}
    data = json.dumps({**body, "max_tokens": max_tokens}).encode()
    request = urllib.request.Request(f"{address}/v1/chat/completions", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return str(json.load(response)["choices"][0]["message"]["content"])


def identity(folder: Path, method: str, outcome: dict[str, Any], max_tokens: int) -> dict[str, float]:
    """Shares of answers that name what they must, through the running server: English and Chinese questions."""
    run = [] if outcome["champion"] else ["--run", "latest"]
    found = {}
    with served(folder, f"{method}.yaml", *run) as address:
        for language, questions in (("english", QUESTIONS), ("chinese", CHINESE)):
            answers = [ask(address, question, max_tokens) for question, _ in questions]
            right = [wanted in answer for (_, wanted), answer in zip(questions, answers, strict=True)]
            either = [NAME in answer or AUTHOR in answer for answer in answers]
            found |= {language: float(np.mean(right)), f"{language}_either": float(np.mean(either))}
            for (question, _), answer, good in zip(questions, answers, right, strict=True):
                say(f"  {'+' if good else '-'} {question}  ->  {' '.join(answer.split())[:100]}")
    return found


def named_unasked(run: Path) -> float:
    """Share of the proof's free answers to held-out rows of alpaca that name the assistant: it should not."""
    rows = rows_of(run / "prepare" / "dataset", "test")
    ids = {row["id"] for row, ours in zip(rows, of_alpaca(rows), strict=True) if ours}
    lines = (run / "deploy" / "proof" / "answers.jsonl").read_text(encoding="utf-8").split("\n")
    answers = [found["answer"] for found in map(json.loads, filter(None, lines)) if found["id"] in ids]
    return float(np.mean([NAME in answer for answer in answers])) if answers else 0.0


def forms_of(run: Path) -> dict[str, dict[str, float]]:
    """Perplexity on validation, size and speed of each candidate, from the tables of compress; the change of the
    perplexity against float32's, as a share."""
    candidates, quality = json.loads((run / "compress" / "report.json").read_text(encoding="utf-8"))["tables"][:2]
    found: dict[str, dict[str, float]] = {}
    for table, columns in ((quality, ("perplexity",)), (candidates, ("size MB", "tokens/s", "agreement"))):
        for row in table["rows"]:
            named = dict(zip(table["columns"], row, strict=True))
            kept = {name: named[name] for name in columns if named.get(name) is not None}
            found.setdefault(named["candidate"], {}).update(kept)
    plain = found["float32"]["perplexity"]
    return {name: {**one, "perplexity_change": one["perplexity"] / plain - 1} for name, one in found.items()}


def numbers_of(outcome: dict[str, Any]) -> dict[str, Any]:
    """The figures that this script reports of a run."""
    by_stage = {stage["name"]: stage["numbers"] for stage in outcome["stages"]}
    proof = (
        "rows", "tokens", "loss", "loss_trained", "parity", "logp_difference", "greedy_same", "parting_gap", "chrf",
        "tokens_per_s", "first_token_p95_ms",
    )  # fmt: skip
    proven = {name: by_stage["deploy"].get(name) for name in proof}
    return {"served": by_stage["compress"]["candidate"], "refused": outcome["refused"], "proof": proven}


def tune(folder: Path, method: str, sizes: Sizes, pretrained: Path, read: Sequence[str]) -> dict[str, Any]:
    """One way of tuning, through the whole loop, and all of its figures. `read`: ids of the rows that the pretraining
    read."""
    outcome = llmops(folder, "run", f"{method}.yaml")
    run = Path(outcome["path"])
    dataset = run / "prepare" / "dataset"
    rows = {split: rows_of(dataset, split) for split in ("train", "valid", "test")}
    assert not set(read) & {row["id"] for split in ("valid", "test") for row in rows[split]}, "held-out rows were read"
    learnt = {normalise(row["text"]) for split in rows.values() for row in split}
    assert not learnt & {normalise(question) for question, _ in (*QUESTIONS, *CHINESE)}, "a question stands in the data"
    held_out = HeldOut(dataset)
    losses = {
        "pretrained": held_out.of_model(pretrained),
        "unigram": held_out.of_unigram(),
        "tuned": held_out.of_model(run / "train" / "model"),
    }
    told = ", ".join(f"{name} {one['all']:.3f}/{one['alpaca']:.3f}" for name, one in losses.items())
    say(f"  held-out loss (all/alpaca)  {told}")
    found = {**numbers_of(outcome), "loss": losses, "forms": forms_of(run), "named_unasked": named_unasked(run)}
    say("  " + json.dumps(found["proof"]))
    for form, one in found["forms"].items():
        say(f"  {form:>14}  " + "  ".join(f"{name} {value:.4g}" for name, value in one.items()))
    return {**found, "identity": identity(folder, method, outcome, sizes.max_tokens)}


def checks(found: dict[str, Any]) -> dict[str, bool]:
    """What must hold for one way of tuning."""
    losses, proof, gap = found["loss"], found["proof"], found["proof"]["parting_gap"]
    below = {
        f"below_{other}": all(losses["tuned"][part] < losses[other][part] for part in ("all", "alpaca"))
        for other in ("pretrained", "unigram")
    }
    return {
        **below,
        "float32_served": found["served"] == "float32",
        "parity": proof["parity"] >= PARITY,
        "parting_gap": gap is None or gap <= PARTING,
        "identity": found["identity"]["english"] >= ASKED_BACK,
    }


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def rounded(value: Any) -> Any:
    """Figures to five digits, for reading."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tiny model on few rows")
    parser.add_argument("--keep", type=Path, help="work in this new folder, and leave it there")
    asked = parser.parse_args()
    sizes, began = QUICK if asked.quick else Sizes(), time.monotonic()
    with nullcontext(asked.keep) if asked.keep else tempfile.TemporaryDirectory(prefix="llmops-sft-") as place:
        folder = Path(place).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        write_configs(folder, asked.data.resolve(), sizes)
        any_model = [f"--set=train.{setting}" for setting in ("model=llama", "width=32", "layers=1")]
        split = llmops(folder, "prepare", "full.yaml", *any_model)
        read = write_texts(Path(split["path"]) / "prepare" / "dataset", folder / "texts")
        made = Path(llmops(folder, "train", "pretrain.yaml")["path"])
        report = json.loads((made / "train" / "report.json").read_text(encoding="utf-8"))
        say(f"  {report['headline']}")
        found = {method: tune(folder, method, sizes, made / "train" / "model", read) for method in METHODS}
    held = {method: checks(one) for method, one in found.items()}
    for method, name, good in ((method, *one) for method, every in held.items() for one in every.items()):
        say(f"{method:>5}  {name:18} {'holds' if good else 'FAILS'}")
    result = {"took_s": time.monotonic() - began, "sizes": vars(sizes), "pretrain": report["numbers"], **found}
    say(json.dumps(rounded({**result, "checks": held})))


if __name__ == "__main__":
    main()
