"""A small language model of Shakespeare's characters, trained three ways on the same network and data, in turns:
llmops' engine, a plain PyTorch loop on transformers' network, and transformers' Trainer.

    python benchmarks/language_model.py ../shared/data/tinyshakespeare/input.txt [--quick] [--turns 3] [--only engine]

nanoGPT's setting for a CPU: 4 layers, width 128, 4 heads, context 64, batch 12, 2,000 steps; the last 10 % of the text
is held out. Times hold evaluation (the whole held-out part, twice) and checkpoints. Each is trained once, or --turns
times in turns, each turn in another order. --quick times 50 steps of each, six times, without evaluation; on a machine
that does other work the fastest turns tell more than the medians. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.quiet import Quiet
from llmops.engine.device import seed_everything
from llmops.engine.fit import Loop, fit
from llmops.nets.causal import CausalReader, fresh_llama
from llmops.tasks.text_generation.config import GenerationTrainSection
from llmops.tasks.text_generation.packing import Encoded
from llmops.tasks.text_generation.problem import Reading, WritingProblem, raw_answers

CONTEXT, BATCH, STEPS = 64, 12, 2000
SETTINGS: dict[str, Any] = {
    "batch_size": BATCH,
    "learning_rate": 4e-3,
    "schedule": "cosine",
    "warmup": 0.05,
    "weight_decay": 0.1,
    "precision": "float32",
}
SEED = 1
SHORT, SHORT_TURNS = 50, 6
SCORED = 64
"""Windows that the loops of others evaluate at once."""


class Text:
    """The characters as tokens, in two parts."""

    def __init__(self, path: Path) -> None:
        text = path.read_text()
        letters = {letter: number for number, letter in enumerate(sorted(set(text)))}
        tokens = np.array([letters[letter] for letter in text], np.int32)
        cut = int(0.9 * len(tokens))
        self.vocabulary = len(letters)
        self.train, self.valid = encoded(tokens[:cut]), encoded(tokens[cut:])
        self.reading = Reading(CONTEXT, documents=True, vocabulary=self.vocabulary)

    def windows(self, part: Encoded) -> torch.Tensor:
        """Windows of CONTEXT + 1 tokens, int64; each begins with the last token of the one before."""
        whole = torch.from_numpy(part.tokens.astype(np.int64))
        return whole.unfold(0, CONTEXT + 1, CONTEXT)


def encoded(tokens: np.ndarray) -> Encoded:
    """One document."""
    trained = np.ones(len(tokens), bool)
    trained[0] = False
    return Encoded(tokens, trained, np.array([0, len(tokens)]), np.zeros(1, np.int64))


def network(text: Text) -> Any:
    """The network that all three train, with the same weights."""
    torch.manual_seed(SEED)
    return fresh_llama(text.vocabulary, 128, 4, 4, None, CONTEXT, [0], 0, None)


def engine(text: Text, steps: int, whole: bool, folder: Path) -> tuple[float, Any]:
    """llmops: (seconds, the trained network)."""
    settings = GenerationTrainSection.model_validate({**SETTINGS, "steps": steps, "width": 128, "layers": 4})
    net = network(text)

    def figures(found: Any) -> dict[str, float]:
        return {"loss": -float(found["logp"].mean(dtype=np.float64))}

    device = torch.device("cpu")
    problem = WritingProblem(net, text.train, text.valid, text.reading, settings, "loss", device, figures)
    seed_everything(SEED)
    began = time.perf_counter()
    if whole:
        state = fit(problem, settings, SEED, folder, Quiet(folder))
        assert len(state.history) == 2, "the held-out part must be read twice"
    else:
        loop = Loop(problem, settings, SEED, folder, Quiet(folder))
        net.train()
        for rows in problem.plan(BATCH, SEED, 1)[:steps]:
            loop.note_point(rows, loop.step(rows))
    return time.perf_counter() - began, net


def plain_loop(text: Text, steps: int, whole: bool, folder: Path) -> tuple[float, Any]:
    """A loop as one writes it by hand: (seconds, the trained network)."""
    net = network(text)
    net.train()
    windows = text.windows(text.train)
    optimiser = torch.optim.AdamW(
        net.parameters(), SETTINGS["learning_rate"], weight_decay=SETTINGS["weight_decay"], fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: share(step, steps))
    began = time.perf_counter()
    for step in range(1, steps + 1):
        rows = windows[torch.randint(len(windows), (BATCH,))]
        logits = net(input_ids=rows[:, :-1], use_cache=False).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        schedule.step()
        if whole and step % (steps // 2) == 0:
            plain_evaluation(net, text)
            torch.save({"network": net.state_dict(), "optimiser": optimiser.state_dict()}, folder / f"{step}.pt")
    return time.perf_counter() - began, net


def plain_evaluation(net: Any, text: Text) -> float:
    """Loss on the held-out windows, in the plain way."""
    net.eval()
    total, windows = 0.0, text.windows(text.valid)
    with torch.no_grad():
        for rows in windows.split(SCORED):
            logits = net(input_ids=rows[:, :-1], use_cache=False).logits
            total += float(functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum"))
    net.train()
    return total / (len(windows) * CONTEXT)


def share(step: int, steps: int) -> float:
    """The learning rate's course, as the engine's."""
    rise = math.ceil(SETTINGS["warmup"] * steps)
    return (step + 1) / rise if step < rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))


def trainer(text: Text, steps: int, whole: bool, folder: Path) -> tuple[float, Any]:
    """transformers' Trainer: (seconds, the trained network)."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    class Rows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
        def __init__(self, part: Encoded) -> None:
            self.windows = text.windows(part)

        def __len__(self) -> int:
            return len(self.windows)

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            row = self.windows[index]
            return {"input_ids": row[:-1], "labels": row[1:], "shift_labels": row[1:]}

    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=SCORED,
        learning_rate=SETTINGS["learning_rate"],
        weight_decay=SETTINGS["weight_decay"],
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(SETTINGS["warmup"] * steps),
        optim="adamw_torch_fused",
        eval_strategy="steps" if whole else "no",
        save_strategy="steps" if whole else "no",
        eval_steps=steps // 2,
        save_steps=steps // 2,
        prediction_loss_only=True,
        logging_steps=steps // 2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        seed=SEED,
    )
    net = network(text)
    made = Trainer(net, arguments, train_dataset=Rows(text.train), eval_dataset=Rows(text.valid))
    made.remove_callback(PrinterCallback)
    began = time.perf_counter()
    made.train()
    return time.perf_counter() - began, net


WAYS: dict[str, Callable[[Text, int, bool, Path], tuple[float, Any]]] = {
    "engine": engine,
    "plain": plain_loop,
    "trainer": trainer,
}


def held_out_loss(net: Any, text: Text) -> float:
    """Mean loss in nats over the whole held-out part, windows of CONTEXT."""
    found = raw_answers(CausalReader(net.eval()), text.valid, text.reading, torch.device("cpu"))
    return -float(found["logp"].mean(dtype=np.float64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--quick", action="store_true", help="50 steps each, six times, no evaluation")
    parser.add_argument("--steps", type=int, help="instead of 2,000 (50 with --quick)")
    parser.add_argument("--turns", type=int, help="instead of 1 (6 with --quick)")
    parser.add_argument("--only", choices=WAYS, help="one way instead of three")
    options = parser.parse_args()
    text = Text(options.text)
    steps = options.steps or (SHORT if options.quick else STEPS)
    names = [options.only] if options.only else list(WAYS)
    took: dict[str, list[float]] = {name: [] for name in names}
    losses: dict[str, float] = {}
    for turn in range(options.turns or (SHORT_TURNS if options.quick else 1)):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            with tempfile.TemporaryDirectory(prefix="llmops-lm-") as folder:
                seconds, net = WAYS[name](text, steps, not options.quick, Path(folder))
            took[name].append(seconds)
            said = ""
            if not options.quick:
                losses[name] = held_out_loss(net, text)
                said = f", held-out loss {losses[name]:.4f}"
            say(f"turn {turn + 1}  {name:8} {steps * BATCH * CONTEXT / seconds:9,.0f} tokens/s{said}")
    say(json.dumps(summary(took, losses, steps, text)))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def summary(took: dict[str, list[float]], losses: dict[str, float], steps: int, text: Text) -> dict[str, Any]:
    """Tokens a second, the ratio to the better of the others, both by medians and by the fastest turns; held-out
    losses."""
    tokens = steps * BATCH * CONTEXT
    rates = {name: tokens / statistics.median(seconds) for name, seconds in took.items()}
    fastest = {name: tokens / min(seconds) for name, seconds in took.items()}
    return {
        "steps": steps,
        "threads": torch.get_num_threads(),
        "parameters": sum(value.numel() for value in network(text).parameters()),
        "tokens_per_s": {name: round(rate) for name, rate in rates.items()},
        "ratio_to_better": ratio(rates),
        "fastest_tokens_per_s": {name: round(rate) for name, rate in fastest.items()},
        "fastest_ratio_to_better": ratio(fastest),
        "held_out_loss": {name: round(loss, 4) for name, loss in losses.items()},
    }


def ratio(rates: dict[str, float]) -> float | None:
    """The engine's rate over the better of the others."""
    others = [rate for name, rate in rates.items() if name != "engine"]
    return round(rates["engine"] / max(others), 3) if others and "engine" in rates else None


if __name__ == "__main__":
    main()
