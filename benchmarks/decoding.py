"""Tokens a second of greedy writing: this project's stepper against transformers' generate and generate_batch.

    OMP_NUM_THREADS=2 python benchmarks/decoding.py [ROUNDS]

A Llama-shaped network with 23 million random weights, eight prompts of 32 tokens, 64 new tokens each; the time holds
reading the prompts and writing. OMP_NUM_THREADS holds for all; on a busy machine 1 compares more fairly. Every
contender has a process of its own, which is stopped while another works; each round runs all of them in turn. Ratios
are taken within a round; medians are told. One JSON line last.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS = 5
STREAMS, PROMPT, WRITTEN = 8, 32, 64
VOCABULARY, CONTEXT = 8192, 512
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.05,
    "tie_word_embeddings": True,
}
FORMS = {"float32": 32, "int8-weights": 8, "int4-weights": 4}
CONTENDERS = [*((form, streams) for form in FORMS for streams in (1, STREAMS)), ("generate", 1), ("generate_batch", 8)]
Write = Callable[[list[list[int]]], list[list[int]]]


def prompts() -> list[list[int]]:
    """The same for everybody."""
    drawn: list[list[int]] = np.random.default_rng(0).integers(0, VOCABULARY, (STREAMS, PROMPT)).tolist()
    return drawn


def make(folder: Path) -> float:
    """Write the network and its forms below `folder`; millions of weights."""
    import torch
    import transformers

    from llmops.nets.export_causal import export_causal
    from llmops.stages.compress.quantise import quantise_weights

    torch.manual_seed(0)
    network = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE))
    network.save_pretrained(folder / "model")
    export_causal(folder / "model", folder / "float32")
    for form, bits in FORMS.items():
        if bits < 32:
            (folder / form).mkdir()
            quantise_weights(folder / "float32" / "model.onnx", folder / form / "model.onnx", bits)
    count: int = sum(weight.numel() for weight in network.parameters())
    return round(count / 1e6, 1)


def stepper(folder: Path, form: str, threads: int) -> Write:
    """The stepper on one form."""
    from llmops.bundle.stepper import OnnxStepper

    settings = json.loads((folder / "float32" / "settings.json").read_bytes())
    opened = OnnxStepper(folder / form, settings, threads, STREAMS)

    def write(asked: list[list[int]]) -> list[list[int]]:
        answers = [[int(opened.prefill(slot, prompt).argmax())] for slot, prompt in enumerate(asked)]
        for _ in range(WRITTEN - 1):
            logits = opened.step({slot: answer[-1] for slot, answer in enumerate(answers)})
            for answer, token in zip(answers, logits.argmax(axis=1).tolist(), strict=True):
                answer.append(token)
        return answers

    return write


def generate(folder: Path, form: str, threads: int) -> Write:
    """transformers: `generate` one by one, or `generate_batch`."""
    import torch
    import transformers
    from transformers.generation import ContinuousBatchingConfig, GenerationConfig

    torch.set_num_threads(threads)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    asks = GenerationConfig(max_new_tokens=WRITTEN, min_new_tokens=WRITTEN, do_sample=False, pad_token_id=0)
    # of the settings tried, the fastest on a CPU: nothing shared, nothing asynchronous, small pages
    pages = ContinuousBatchingConfig(
        page_size=32, num_blocks=8 * STREAMS, max_batch_tokens=CONTEXT,
        allow_block_sharing=False, use_async_batching=False,
    )  # fmt: skip

    def one_by_one(asked: list[list[int]]) -> list[list[int]]:
        return [
            network.generate(torch.tensor([prompt]), generation_config=asks)[0, PROMPT:].tolist() for prompt in asked
        ]

    def together(asked: list[list[int]]) -> list[list[int]]:
        done = network.generate_batch(
            asked,
            generation_config=GenerationConfig(
                max_new_tokens=WRITTEN, do_sample=False, eos_token_id=-1, pad_token_id=0
            ),
            continuous_batching_config=pages,
            persistent_manager=True,
        )
        return [list(answer.generated_tokens) for answer in done.values()]

    return one_by_one if form == "generate" else together


def work(folder: Path, form: str) -> None:
    """A contender's process: for each line with a number of streams, a line with seconds and the answers."""
    threads = int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0))))
    write = (stepper if form in FORMS else generate)(folder, form, threads)
    lines, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        asked = prompts()[: int(line)]
        began = time.perf_counter()
        answers = write(asked)
        lines.write(json.dumps({"seconds": time.perf_counter() - began, "answers": answers}) + "\n")
        lines.flush()


class Contender:
    """A process that writes when it is asked and is stopped in between."""

    def __init__(self, folder: Path, form: str, streams: int) -> None:
        """`streams`: as many as it will ever write at once; generate_batch sizes itself by its first call."""
        command = [sys.executable, __file__, "work", str(folder), form]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.ask(streams)

    def ask(self, streams: int) -> tuple[float, list[list[int]]]:
        """Tokens a second, and the answers."""
        assert self.process.stdin and self.process.stdout
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(f"{streams}\n")
        self.process.stdin.flush()
        told: Any = json.loads(self.process.stdout.readline())
        self.process.send_signal(signal.SIGSTOP)
        return sum(map(len, told["answers"])) / told["seconds"], told["answers"]

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


def measure(folder: Path, rounds: int) -> tuple[dict[str, list[float]], dict[str, list[list[int]]]]:
    """Tokens a second of each contender in each round, and its answers."""
    forms = {form: Contender(folder, form, streams) for form, streams in dict(CONTENDERS).items()}
    speeds: dict[str, list[float]] = {}
    answers: dict[str, list[list[int]]] = {}
    try:
        for _ in range(rounds):
            for form, streams in CONTENDERS:
                speed, answers[f"{form} x{streams}"] = forms[form].ask(streams)
                speeds.setdefault(f"{form} x{streams}", []).append(speed)
    finally:
        for contender in forms.values():
            contender.end()
    return speeds, answers


def main(rounds: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        weights = make(folder)
        speeds, answers = measure(folder, rounds)
        sizes = {form: sum(path.stat().st_size for path in (folder / form).glob("model.onnx*")) for form in FORMS}

    def ratio(first: str, second: str) -> float:
        return round(statistics.median(a / b for a, b in zip(speeds[first], speeds[second], strict=True)), 2)

    ours = f"float32 x{STREAMS}"
    figures = {
        "weights_m": weights,
        "tokens_per_s": {name: round(statistics.median(values), 1) for name, values in speeds.items()},
        "size_mb": {form: round(size / 1e6, 1) for form, size in sizes.items()},
        "eight_streams_over_one": ratio(ours, "float32 x1"),
        "over_generate": ratio(ours, "generate x1"),
        "over_generate_batch": ratio(ours, f"generate_batch x{STREAMS}"),
        "int8_over_float32": ratio(f"int8-weights x{STREAMS}", ours),
        "int4_over_float32": ratio(f"int4-weights x{STREAMS}", ours),
        "same_tokens": answers[ours] == answers[f"generate_batch x{STREAMS}"]
        and answers[ours][:1] == answers["generate x1"] == answers["float32 x1"],
        "rounds": rounds,
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(Path(sys.argv[2]), sys.argv[3])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
