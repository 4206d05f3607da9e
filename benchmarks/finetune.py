"""Fine-tuning a classifier: llmops' train stage beside transformers' Trainer, on the same rows, in alternating runs.

    python benchmarks/finetune.py banking77 ../shared/data/banking77 [--turns 3] [--rows 2000] [--epochs 1]
    python benchmarks/finetune.py chn_sentiment ../shared/data/chn_sentiment ...
    python benchmarks/finetune.py imdb_sample ../shared/data/imdb_sample ...

Each run is a process of its own: tokenising, training with an evaluation and a checkpoint every epoch, the best epoch's
weights at the end; seconds count from rows in memory to the trained model. Ways:

    engine           llmops, the settings that Trainer has too (batch of 32, learning rate, epochs, float32)
    engine-own       llmops with a batch of its own choice (64 for MiniLM), the learning rate scaled with it
    trainer          Trainer with its defaults: a batch is padded to its longest row
    trainer-grouped  Trainer with train_sampling_strategy="group_by_length"

MiniLM for banking77 and imdb_sample (cut at 256 tokens); for chn_sentiment the same small Transformer from scratch, for
Trainer with torch's own dropout (LLMOPS_KERNELS=0).
--rows takes so many training rows, for rates; all rows give accuracies. --seeds 1 2 3 repeats with each. The median
of rows per second, of ratios within a turn, of peak memory, and accuracies are printed; the last line is JSON.

--time-to 0.925 asks how long each way takes to that accuracy: it trains with every learning rate and number of epochs
of a grid, chooses by validation alone, and reads the test set once for each seed of the choice. --jobs runs some at
once, for machines where only the epochs count (a GPU; seconds of an epoch come from the rates above).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.quiet import Quiet
from llmops.core.threads import WAITING
from llmops.nets import kernels

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SEED = 1
Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Setting:
    """What is trained on a data set: files of train, validation and test (None: every tenth row), columns, settings."""

    files: tuple[str, str | None, str | None]
    text: str
    label: str
    max_tokens: int
    train: dict[str, Any]
    own: dict[str, Any]


SETTINGS = {
    "banking77": Setting(
        ("train.csv", None, "test.csv"), "text", "category", 128,
        {"model": MINILM, "epochs": 4, "learning_rate": 3e-4, "batch_size": 32},
        {"batch_size": 64, "learning_rate": 4.2e-4},
    ),
    "imdb_sample": Setting(
        ("train.csv", "val.csv", "test.csv"), "text", "label", 256,
        {"model": MINILM, "epochs": 2, "learning_rate": 1e-4, "batch_size": 32},
        {"batch_size": 16, "learning_rate": 7e-5},
    ),
    "chn_sentiment": Setting(
        ("ChnSentiCorp_htl_all.csv", None, None), "review", "label", 256,
        {"model": "transformer", "epochs": 4, "learning_rate": 1e-3, "batch_size": 32, "width": 128, "layers": 2},
        {"batch_size": 64, "learning_rate": 1.4e-3},
    ),
}  # fmt: skip
WAYS = ("engine", "engine-own", "trainer", "trainer-grouped")


def read(setting: Setting, folder: Path, rows: int | None) -> dict[str, Rows]:
    """The splits, shuffled once and for all; without a file of its own one is every tenth row of the first. With `rows`
    the others shrink alike."""
    import numpy as np

    found: dict[str, Rows] = {}
    for split, name in zip(("train", "valid", "test"), setting.files, strict=True):
        if name is not None:
            with (folder / name).open(encoding="utf-8", newline="") as stream:
                read = [{"text": row[setting.text], "label": row[setting.label]} for row in csv.DictReader(stream)]
            order = np.random.default_rng(0).permutation(len(read))
            found[split] = [read[index] for index in order if read[index]["text"].strip()]
    for split in ("valid", "test"):
        if split not in found:
            found[split] = found["train"][::10]
            found["train"] = [row for index, row in enumerate(found["train"]) if index % 10]
    if rows is None:
        return found
    share = rows / len(found["train"])
    train = found["train"][:rows]
    known = {row["label"] for row in train}
    others = {
        split: [row for row in found[split] if row["label"] in known][: max(64, round(share * len(found[split])))]
        for split in ("valid", "test")
    }
    return {"train": train, **others}


def engine(setting: Setting, splits: dict[str, Rows], train: dict[str, Any], folder: Path, seed: int) -> dict[str, Any]:
    """One training by llmops."""
    from llmops.tasks.text_classification.config import TextClassificationSection, TextTrainSection
    from llmops.tasks.text_classification.encoder import TextEncoder
    from llmops.tasks.text_classification.learner import TextClassifier

    section = TextClassificationSection(max_tokens=setting.max_tokens)
    settings = TextTrainSection.model_validate({"precision": "float32", **train})
    began = time.perf_counter()
    TextEncoder(section, settings).prepare(splits, folder / "dataset")
    learner = TextClassifier(section, settings, seed)
    found = learner.train(folder / "dataset", folder, Quiet(folder))
    seconds = time.perf_counter() - began
    labels = {label: number for number, label in enumerate(learner.labels)}
    told = {"spent": found["spent"], "machine": found["machine"], "padding": found["padding"]}
    by_epoch = [{"valid": row["accuracy"], "seconds": row["seconds"]} for row in found["history"]]
    right = learner.predict(folder / "dataset", "test").argmax(1) == [labels[row["label"]] for row in splits["test"]]
    return {"seconds": seconds, "epochs": by_epoch, "test": float(right.mean()), **told}


def trainer(
    setting: Setting, splits: dict[str, Rows], train: dict[str, Any], folder: Path, seed: int, grouped: bool
) -> dict[str, Any]:
    """One training by Trainer, as its documentation has it."""
    import datasets
    import numpy as np
    import torch
    from transformers import DataCollatorWithPadding, PreTrainedTokenizerFast, Trainer, TrainingArguments

    datasets.disable_progress_bars()
    began = time.perf_counter()
    torch.manual_seed(seed)
    labels = sorted({row["label"] for row in splits["train"]})
    network, raw = theirs(setting, splits, train, len(labels))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token=padding_of(raw))
    index = {label: number for number, label in enumerate(labels)}

    def encoded(rows: dict[str, list[str]]) -> dict[str, Any]:
        found = tokenizer(rows["text"], truncation=True, max_length=setting.max_tokens, return_token_type_ids=False)
        return {**found, "labels": [index[label] for label in rows["label"]]}

    data = {
        split: datasets.Dataset.from_list(rows).map(encoded, batched=True, remove_columns=["text", "label"])
        for split, rows in splits.items()
    }
    steps = -(-len(splits["train"]) // train["batch_size"]) * train["epochs"]
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=train["epochs"],
        per_device_train_batch_size=train["batch_size"],
        per_device_eval_batch_size=64,
        learning_rate=train["learning_rate"],
        weight_decay=0.01,
        warmup_steps=round(0.06 * steps),
        train_sampling_strategy="group_by_length" if grouped else "random",
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        seed=seed,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
    )

    def accuracy(found: Any) -> dict[str, float]:
        return {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())}

    made = Trainer(
        network,
        arguments,
        train_dataset=data["train"],
        eval_dataset=data["valid"],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy,
    )
    started = time.perf_counter()
    made.train()
    seconds = time.perf_counter() - began
    by_epoch = [
        {"valid": row["eval_accuracy"], "seconds": (time.perf_counter() - started) * row["epoch"] / train["epochs"]}
        for row in made.state.log_history
        if "eval_accuracy" in row
    ]
    told = made.predict(data["test"])
    right = np.asarray(told.predictions).argmax(1) == told.label_ids
    return {"seconds": seconds, "epochs": by_epoch, "test": float(right.mean())}


def theirs(setting: Setting, splits: dict[str, Rows], train: dict[str, Any], classes: int) -> tuple[Any, Any]:
    """(network, tokenizer): a pretrained model with transformers' own head, or the engine's small Transformer."""
    import torch

    from llmops.nets.pretrained import find
    from llmops.tasks.text_classification.config import TextTrainSection

    if train["model"] != "transformer":
        from tokenizers import Tokenizer
        from transformers import AutoModelForSequenceClassification

        place = find(train["model"])
        raw = Tokenizer.from_file(str(place / "tokenizer.json"))
        raw.no_padding()
        return AutoModelForSequenceClassification.from_pretrained(place, num_labels=classes, dtype=torch.float32), raw
    from torch.nn import functional

    from llmops.tasks.text_classification.networks import architecture, fresh_network
    from llmops.tasks.text_classification.tokenizer import train_tokenizer

    settings = TextTrainSection.model_validate(train)
    raw = train_tokenizer([row["text"] for row in splits["train"]], settings.vocabulary)

    class WithLoss(torch.nn.Module):
        """The network as Trainer calls it."""

        def __init__(self) -> None:
            super().__init__()
            plan = architecture(settings, raw.get_vocab_size(), classes, setting.max_tokens)
            self.inner = fresh_network(settings, plan)

        def forward(self, input_ids: Any, attention_mask: Any, labels: Any) -> dict[str, Any]:
            logits = self.inner(input_ids, attention_mask)
            return {"loss": functional.cross_entropy(logits, labels), "logits": logits}

    return WithLoss(), raw


def padding_of(raw: Any) -> str:
    from llmops.nets.tokenizer import pad_id

    return str(raw.id_to_token(pad_id(raw)))


def one(asked: argparse.Namespace) -> dict[str, Any]:
    """A single run, in this process."""
    from llmops.engine.memory import resident_peak_mb

    setting = SETTINGS[asked.data]
    splits = read(setting, asked.folder, asked.rows)
    train = setting.train | (setting.own if asked.one == "engine-own" else {})
    given = {"epochs": asked.epochs, "learning_rate": asked.rate, "model": asked.model}
    train |= {name: value for name, value in given.items() if value is not None}
    train |= json.loads(asked.more) if asked.one.startswith("engine") else {}
    with tempfile.TemporaryDirectory(prefix="llmops-finetune-") as folder:
        if asked.one.startswith("engine"):
            found = engine(setting, splits, train, Path(folder), asked.seed)
        else:
            found = trainer(setting, splits, train, Path(folder), asked.seed, asked.one == "trainer-grouped")
    rows = len(splits["train"]) * train["epochs"]
    return {"way": asked.one, "rows_per_s": rows / found["seconds"], "peak_memory_mb": resident_peak_mb(), **found}


def run(way: str, asked: argparse.Namespace, seed: int) -> dict[str, Any]:
    """A single run, in a process of its own."""
    command = [sys.executable, __file__, asked.data, str(asked.folder), "--one", way, "--seed", str(seed)]
    command += ["--more", asked.more]
    for name in ("rows", "epochs", "rate", "model"):
        value = getattr(asked, name)
        command += [f"--{name}", str(value)] if value is not None else []
    # as the command line does before torch is loaded; Trainer's users have what torch does by itself
    return last_line(way, command, WAITING if way.startswith("engine") else {kernels.OFF: "0"})


def last_line(what: str, command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """The JSON that a benchmark's process, with this added to its environment, prints last."""
    place = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | place | environment)
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def time_to(asked: argparse.Namespace) -> dict[str, Any]:
    """For each way the fewest epochs with which it reaches the target: by validation accuracy of the first seed at the
    best of the learning rates, and then by the mean test accuracy of all seeds."""
    first, *others = asked.seeds or [SEED]

    def do(one: tuple[str, int, float, int]) -> dict[str, Any]:
        way, epochs, rate, seed = one
        found = run(way, argparse.Namespace(**(vars(asked) | {"epochs": epochs, "rate": rate})), seed)
        say(f"{epochs} epochs at {rate:g}, seed {seed}  {line(found)}")
        return found

    def all_of(plan: list[tuple[str, int, float, int]]) -> dict[tuple[str, int, float, int], dict[str, Any]]:
        with ThreadPoolExecutor(asked.jobs) as pool:
            return dict(zip(plan, pool.map(do, plan), strict=True))

    pairs = list(product(asked.ways, asked.grid_epochs))
    runs = all_of([(way, epochs, rate, first) for way, epochs in reversed(pairs) for rate in asked.rates])

    def valid(way: str, epochs: int, rate: float) -> float:
        return float(max(epoch["valid"] for epoch in runs[way, epochs, rate, first]["epochs"]))

    best = {(way, e): max(asked.rates, key=lambda rate, w=way, e=e: valid(w, e, rate)) for way, e in pairs}  # type: ignore[misc]
    runs |= all_of([(way, e, best[way, e], seed) for way, e in reversed(pairs) for seed in others])
    table: dict[str, list[dict[str, Any]]] = {way: [] for way in asked.ways}
    for way, epochs in pairs:
        rate = best[way, epochs]
        chosen = [runs[way, epochs, rate, seed] for seed in (first, *others)]
        figures = {"epochs": epochs, "rate": rate, "valid": round(valid(way, epochs, rate), 4)}
        tests = [one["test"] for one in chosen]
        figures |= {"test": [round(test, 4) for test in tests], "test_mean": round(statistics.mean(tests), 4)}
        table[way].append(figures | {"seconds": round(statistics.median(one["seconds"] for one in chosen), 1)})
    goal = asked.time_to
    reached = {
        way: next((row for row in rows if row["valid"] >= goal and row["test_mean"] >= goal), None)
        for way, rows in table.items()
    }
    return {"data": asked.data, "target": goal, "seeds": [first, *others], "reached": reached, "grid": table}


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def line(found: dict[str, Any]) -> str:
    valid = " ".join(f"{epoch['valid']:.4f}" for epoch in found["epochs"])
    share = f", {found['machine']['utilisation']:.0%} of the machine" if "machine" in found else ""
    return (
        f"{found['way']:16} {found['rows_per_s']:7.1f} rows/s  {found['peak_memory_mb']:6,.0f} MB  "
        f"valid {valid}  test {found['test']:.4f}{share}"
    )


def summary(asked: argparse.Namespace, runs: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Medians of rates and memory, median ratios of the engine's rate to the others' within a turn, mean accuracies."""
    ways = list(runs[0])
    rate = {way: statistics.median(turn[way]["rows_per_s"] for turn in runs) for way in ways}
    ratios = {
        f"{ours} / {other}": statistics.median(turn[ours]["rows_per_s"] / turn[other]["rows_per_s"] for turn in runs)
        for ours in ways
        for other in ways
        if ours.startswith("engine") and other.startswith("trainer")
    }
    used = [turn[way]["machine"]["utilisation"] for turn in runs for way in ways if "machine" in turn[way]]
    return {
        "data": asked.data,
        "rows": asked.rows,
        "epochs": asked.epochs,
        "turns": len(runs),
        "rows_per_s": {way: round(value, 1) for way, value in rate.items()},
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
        "utilisation": round(statistics.median(used), 3) if used else None,
        "peak_memory_mb": {way: round(max(turn[way]["peak_memory_mb"] for turn in runs)) for way in ways},
        "test_accuracy": {way: [round(turn[way]["test"], 4) for turn in runs] for way in ways},
        "valid_by_epoch": {way: [[e["valid"] for e in turn[way]["epochs"]] for turn in runs] for way in ways},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=SETTINGS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--model", help="a folder or name instead of the setting's model")
    parser.add_argument("--more", default="{}", help="more settings of the engine, JSON")
    parser.add_argument("--time-to", type=float)
    parser.add_argument("--rates", type=float, nargs="*", default=[1.5e-4, 3e-4, 6e-4])
    parser.add_argument("--grid-epochs", type=int, nargs="*", default=[2, 3, 4])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=SEED, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        say(json.dumps(one(asked)))
        return
    if asked.time_to:
        say(json.dumps(time_to(asked)))
        return
    runs = []
    for seed in asked.seeds or [SEED] * asked.turns:
        runs.append({})
        for way in asked.ways:
            runs[-1][way] = run(way, asked, seed)
            say(f"turn {len(runs)}  {line(runs[-1][way])}")
    say(json.dumps(summary(asked, runs)))


if __name__ == "__main__":
    main()
