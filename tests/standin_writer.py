"""A small model that writes, made of numpy and a text it parrots, with its codec; for the tests of what serves chats.

`Parrot` is a real Stepper: it keeps what each slot read, and every token of it counts for the next one's logits.
"""

from __future__ import annotations

import argparse
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from llmops.bundle.format import Manifest
from llmops.bundle.predictor import Predictor
from llmops.serving.config import ServeSection
from llmops.serving.server import bind, configured, make_service, open_log
from llmops.serving.swap import Holder, Loaded
from llmops.serving.writing import WritingService

END, BEGIN = 0, 1
SAYING = "hello there, how are you today? i am very well, thank you. the parcel is on its way to you.\n"
ALPHABET = "".join(
    sorted(set(SAYING) | set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ,.?!:\n'-<>{}[]\"_/\\"))
)
ACCENTED = "é"
"""A character of two tokens, as byte-level tokenizers have them: its bytes are tokens of their own."""
VOCABULARY = 2 + len(ALPHABET) + 2
GENERATION = {"max_tokens": 60, "temperature": 0.0, "top_p": 1.0}


class ParrotCodec:
    """One token a character, and "é" of two; "user:" and "assistant:" as its chat template."""

    end_tokens = frozenset({END})
    vocabulary = VOCABULARY
    chats = True
    call_marks = ("<tool_call>", "</tool_call>")
    added: Mapping[str, int] = {}

    def __init__(self, context: int = 200) -> None:
        self.context = context

    def chat(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()) -> list[int]:
        if any(message["role"] == "system" for message in messages[1:]):
            raise ValueError("a system message comes first")
        lines = [f"tool: {tool['function']['name']}\n" for tool in tools]
        lines += [f"{message['role']}: {message['content']}\n" for message in messages]
        return [BEGIN, *self._tokens("".join(lines) + "assistant: ")]

    def prompt(self, text: str) -> list[int]:
        return [BEGIN, *self._tokens(text)]

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = []
        for character in text:
            if character == ACCENTED:
                tokens += [VOCABULARY - 2, VOCABULARY - 1]
            else:
                tokens.append(2 + max(0, ALPHABET.find(character)))
        return tokens

    def writer(self) -> Writer:
        return Writer()

    def text(self, tokens: Sequence[int]) -> str:
        writer = self.writer()
        return "".join([writer.push(token) for token in tokens]) + writer.end()

    def letters(self, text: str) -> list[int]:
        return self._tokens(text)

    def token_bytes(self) -> list[bytes]:
        halves = [ACCENTED.encode()[:1], ACCENTED.encode()[1:]]
        return [b"", b"", *(letter.encode() for letter in ALPHABET), *halves]

    def piece(self, token: int) -> str:
        special = {END: "<end>", BEGIN: "<begin>", VOCABULARY - 2: "\\xc3", VOCABULARY - 1: "\\xa9"}
        return special.get(token) or ALPHABET[token - 2]


class Writer:
    """Tokens to text; half a character waits for its other half."""

    def __init__(self) -> None:
        self.half = False

    def push(self, token: int) -> str:
        if token in (END, BEGIN):
            return ""
        if token == VOCABULARY - 2:
            self.half = True
            return ""
        if token == VOCABULARY - 1:
            self.half = False
            return ACCENTED
        return ALPHABET[token - 2]

    def end(self) -> str:
        return "�" if self.half else ""


class Parrot:
    """Goes on with `saying` where the longest end of what it read occurs; else with noise that all it read decides."""

    def __init__(
        self, slots: int = 3, context: int = 200, saying: str = SAYING, pause_s: float = 0.0, reach: int = 8
    ) -> None:
        """`pause_s` is how long a step takes at least, `reach` how far back it looks for its place. `gate` must be open
        for it to go on."""
        self.slots, self.context, self.pause_s, self.reach = slots, context, pause_s, reach
        self.saying = [*ParrotCodec(context)._tokens(saying), END]
        self.held: dict[int, list[int]] = {}
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.fails = False
        self._thread: int | None = None

    def prefill(self, slot: int, tokens: Sequence[int]) -> np.ndarray[Any, Any]:
        self._enter()
        assert 0 <= slot < self.slots and 0 < len(tokens) <= self.context
        self.held[slot] = list(tokens)
        return self.logits(self.held[slot])

    def score(self, tokens: Sequence[int]) -> np.ndarray[Any, Any]:
        self._enter()
        assert 0 < len(tokens) <= self.context
        return np.stack([self.logits(tokens[: length + 1]) for length in range(len(tokens))])

    def step(self, tokens: Mapping[int, int]) -> np.ndarray[Any, Any]:
        self._enter()
        self.batches.append(len(tokens))
        for slot, token in tokens.items():
            self.held[slot].append(token)
            assert len(self.held[slot]) <= self.context
        return np.stack([self.logits(self.held[slot]) for slot in tokens])

    def free(self, slot: int) -> None:
        self.held.pop(slot, None)

    def length(self, slot: int) -> int:
        return len(self.held.get(slot, ()))

    def logits(self, tokens: Sequence[int]) -> np.ndarray[Any, Any]:
        """What comes next after `tokens`."""
        noise = np.random.default_rng(zlib.crc32(bytes(token % 256 for token in tokens)))
        logits = noise.normal(0.0, 1.0, VOCABULARY).astype(np.float32)
        logits[[END, BEGIN]] = -9.0
        for size in range(min(self.reach, len(tokens)), 0, -1):
            end = list(tokens[-size:])
            places = [at for at in range(len(self.saying) - size) if self.saying[at : at + size] == end]
            if places:
                logits[self.saying[places[0] + size]] += 2.0 + 2.0 * size
                break
        return logits

    def _enter(self) -> None:
        """Wait as told, and hold that one thread alone works here."""
        assert self._thread in (None, threading.get_ident()), "two threads use one stepper"
        self._thread = threading.get_ident()
        if self.fails:
            raise ArithmeticError("the model broke")
        assert self.gate.wait(30)
        if self.pause_s:
            time.sleep(self.pause_s)


def alone(prompt: Sequence[int], count: int, saying: str = SAYING) -> list[int]:
    """The greedy answer that a plain loop over a model of its own gives: `count` tokens, or up to the end token."""
    model, answer = Parrot(1, 10_000, saying), []
    logits = model.prefill(0, prompt)
    while len(answer) < count:
        answer.append(int(logits.argmax()))
        if answer[-1] == END:
            break
        logits = model.step({0: answer[-1]})[0]
    return answer


def opened(stepper: Parrot, codec: ParrotCodec | None = None, version: int = 0) -> Loaded:
    """The model as the server holds it; what a bundle on disk would give."""
    manifest = Manifest(
        task="text-generation", task_version=1, runtime="stepper", files={}, cleaning={},
        settings={"context": stepper.context, "generation": GENERATION}, metrics={"valid": {"perplexity": 1.5}},
    )  # fmt: skip
    return Loaded(version, Predictor(manifest, codec or ParrotCodec(stepper.context), stepper))


@dataclass
class Running:
    """A running server: its port, its service, its traffic log."""

    port: int
    service: Any
    traffic: Path


@dataclass
class Served(Running):
    """A running server on a model that writes."""

    service: WritingService
    stepper: Parrot


@contextmanager
def answering(folder: Path, model: Loaded, **settings: Any) -> Iterator[Running]:
    """A real server (uvicorn, sockets, traffic log) on a model, in a thread of this process."""
    section = ServeSection(**{"port": 0, **settings})
    traffic = folder / "traffic.db"
    with bind("127.0.0.1", 0) as listener:
        service = make_service(Holder(model), section, open_log(traffic, section), name="parrot")
        server = uvicorn.Server(configured(service))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.005)
            yield Running(listener.getsockname()[1], service, traffic)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@contextmanager
def served(folder: Path, stepper: Parrot, codec: ParrotCodec | None = None, **settings: Any) -> Iterator[Served]:
    """A real server on the stand-in model."""
    with answering(folder, opened(stepper, codec), **{"slots": stepper.slots, **settings}) as running:
        try:
            assert isinstance(running.service, WritingService)
            yield Served(running.port, running.service, running.traffic, stepper)
        finally:
            stepper.gate.set()


ROLES = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def make_bundle(folder: Path, context: int = 128, layers: int = 2, width: int = 32, seed: int = 1) -> Path:
    """A real bundle: a small Llama with random weights, exported, with a tokenizer of one token a byte."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM

    from llmops.bundle import format as bundle_format
    from llmops.nets.export_causal import export_causal

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({name: index for index, name in enumerate([*ROLES, *letters])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in ROLES])
    size = len(ROLES) + len(letters)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=size, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=context, initializer_range=0.3,
        bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "merged")
    made = export_causal(folder / "merged", folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    settings = {
        **made, "end_tokens": [1], "pad_token": 0, "begin_token": None,
        "generation": {"max_tokens": 24, "temperature": 0.0, "top_p": 1.0},
    }  # fmt: skip
    fields = {"task": "text-generation", "task_version": 1, "runtime": "stepper", "settings": settings, "cleaning": {}}
    bundle_format.write(folder, fields)
    return folder


def main() -> None:
    """A server in a process of its own, for measuring its memory; it says its address and waits to be killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    with served(parser.parse_args().folder, Parrot(slots=4, pause_s=0.0002), queue=64) as server:
        print(f"the parrot answers on http://127.0.0.1:{server.port} ", flush=True)  # noqa: T201
        threading.Event().wait()


if __name__ == "__main__":
    main()
