"""serving: a real bundle that writes (ONNX, exported from a small Llama) behind the real server, in its own process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import BadRequestError, OpenAI

from llmops.core.errors import DataError
from llmops.registry import store
from llmops.tasks.text_generation.asking import Asked
from llmops.tasks.text_generation.codec import GenerationCodec
from llmops.tasks.text_generation.proof import answerable
from tests import standin
from tests.standin import Caller
from tests.standin_writer import make_bundle
from tests.storm import idle, storm

QUESTIONS = [
    f"{words} number {place}?" for place in range(2) for words in ("hello", "where is my parcel", "é", "a b c")
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("writer") / "bundle")


@pytest.fixture(scope="module")
def port(bundle: Path) -> Iterator[int]:
    with standin.serve_bundle(bundle, bundle.parent / "traffic.db", slots=4) as (_, port):
        yield port


def connected(port: int) -> OpenAI:
    return OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=60)


@pytest.fixture
def client(port: int) -> Iterator[OpenAI]:
    with connected(port) as client:
        yield client


def prompt_of(words: str) -> list[int]:
    """The tokens of a chat with one message, worked out by hand: specials are 0 to 4, then the sorted byte letters."""
    from tokenizers import pre_tokenizers

    from llmops.tasks.text_generation.pieces import byte_letters

    order = {letter: 5 + place for place, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    letter = {byte: name for name, byte in byte_letters().items()}
    return [3, *(order[letter[byte]] for byte in words.encode()), 1, 4]


@pytest.fixture(scope="module")
def network(bundle: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(bundle / "merged").eval()


def test_greedy_answers_are_those_of_transformers(client: OpenAI, network: Any) -> None:
    import torch

    for words in QUESTIONS[:4]:
        prompt = prompt_of(words)
        said = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": words}], logprobs=True, max_tokens=20
        )
        assert said.usage is not None
        assert said.usage.prompt_tokens == len(prompt)
        told = client.completions.create(model="m", prompt=prompt, max_tokens=20, logprobs=1).choices[0].logprobs
        with torch.no_grad():
            right = network.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False)[0, len(prompt) :]
        expected = [token for token in right.tolist() if token != 1]
        assert told.model_dump()["token_ids"] == expected


def test_a_prompt_is_scored_as_transformers_scores_it(client: OpenAI, network: Any) -> None:
    import torch

    prompt = prompt_of("where is my parcel, and where is yours?")
    said = client.completions.create(model="m", prompt=prompt, max_tokens=0, echo=True, logprobs=1)
    told = said.choices[0].logprobs.model_dump()
    with torch.no_grad():
        shares = network(torch.tensor([prompt])).logits[0].log_softmax(-1)
    assert [top[0] for top in told["top_token_ids"][1:]] == shares[:-1].argmax(-1).tolist()
    for place in range(1, len(prompt)):
        assert abs(told["token_logprobs"][place] - float(shares[place - 1, prompt[place]])) < 1e-3


def test_the_proof_asks_what_leaves_room_for_an_answer(client: OpenAI, bundle: Path) -> None:
    """Held-out prompts that fill the context: the server refuses them, and the proof leaves out just these."""
    codec = GenerationCodec(bundle)
    spare = codec.context - len(prompt_of(""))
    asked = [
        Asked(str(letters), "", [{"role": "user", "content": "x" * letters}], "", None)
        for letters in range(spare - 2, spare + 2)
    ]
    kept = answerable(codec, asked, bundle)
    assert kept == asked[:2]
    assert [len(prompt_of(one.messages[0]["content"])) for one in kept] == [codec.context - 2, codec.context - 1]
    for one in asked:
        body: Any = {"model": "any", "messages": one.messages, "temperature": 0, "max_tokens": 5}
        if one in kept:
            assert client.chat.completions.create(**body).usage.completion_tokens >= 1  # type: ignore[union-attr]
        else:
            with pytest.raises(BadRequestError, match="context"):
                client.chat.completions.create(**body)
    with pytest.raises(DataError, match="leaves room"):
        answerable(codec, asked[2:], bundle)


def test_answers_at_once_are_the_answers_one_by_one(port: int, client: OpenAI) -> None:
    def ask(words: str) -> str:
        events = client.chat.completions.create(model="m", messages=[{"role": "user", "content": words}], stream=True)
        return "".join(event.choices[0].delta.content or "" for event in events)

    alone = [ask(words) for words in QUESTIONS]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, QUESTIONS)) == alone
    assert len(set(alone)) > 3
    raw = Caller(port).raw("GET", "/metrics")[2].decode()
    sizes = {line.split()[0]: float(line.split()[1]) for line in raw.splitlines() if "llmops_batch_size" in line[:20]}
    assert sizes['llmops_batch_size_bucket{le="1.0"}'] < sizes['llmops_batch_size_bucket{le="4.0"}']


def test_a_new_champion_takes_over_while_an_answer_is_written(tmp_path: Path, bundle: Path) -> None:
    registry = standin.places(tmp_path).registry
    other = make_bundle(tmp_path / "other", seed=2)
    store.promote(registry, bundle)
    body = {"prompt": "hello", "max_tokens": 100, "ignore_eos": True, "temperature": 0}
    with standin.serve_champion(tmp_path, slots=2) as (_, port):
        call = Caller(port)
        first = call("POST", "/v1/completions", body)[1]
        assert (first["system_fingerprint"], first["model"]) == ("version-1", "demo")
        with ThreadPoolExecutor(2) as pool:

            def ask_on() -> list[Any]:
                caller, said = Caller(port), []
                while not said or said[-1][1].get("system_fingerprint") != "version-2":
                    said.append(caller("POST", "/v1/completions", body))
                return said

            asking = [pool.submit(ask_on) for _ in range(2)]
            store.promote(registry, other)
            said = [one for done in asking for one in done.result(60)]
        assert {status for status, _ in said} == {200}
        texts = {(one["system_fingerprint"], one["choices"][0]["text"]) for _, one in said}
        assert ("version-1", first["choices"][0]["text"]) in texts
        assert len(texts) == 2
        store.promote(registry, standin.make_bundle(tmp_path / "classifier"))
        standin.wait_until(lambda: b'llmops_swaps_total{result="failed"} 1.0' in call.raw("GET", "/metrics")[2], 20)
        assert call("POST", "/v1/completions", body)[1]["system_fingerprint"] == "version-2"


def test_a_settings_block_travels_to_the_server(bundle: Path) -> None:
    with standin.serve_bundle(bundle, slots=3, max_text_chars=50) as (_, port):
        model = Caller(port)("GET", "/v1/model")[1]
        assert (model["slots"], model["context"], model["name"]) == (3, 128, "text-generation")
        assert model["keeps_log"] is False
        said = Caller(port)("POST", "/v1/feedback", {"id": "x", "rating": 1})
        assert (said[0], said[1]["error"]["code"]) == (503, "no-log")


@pytest.mark.prove
def test_a_thousand_requests_leave_no_slot_taken_and_memory_as_it_was(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", context=256, layers=4, width=128)
    with standin.serve_bundle(bundle, tmp_path / "traffic.db", slots=4) as (process, port):
        sizes = []
        for first in range(0, 1000, 200):
            storm(port, range(first, first + 200))
            standin.wait_until(lambda: idle(port), 30, process)
            sizes.append(psutil.Process(process.pid).memory_info().rss / 1e6)
        body = json.dumps({"prompt": "hello", "max_tokens": 5}).encode()
        assert Caller(port).raw("POST", "/v1/completions", body)[0] == 200
    assert sizes[-1] < 1.05 * sizes[0], sizes


@pytest.mark.prove
def test_a_dozen_swaps_do_not_leak(tmp_path: Path) -> None:
    registry = standin.places(tmp_path).registry
    for seed in (1, 2):
        store.promote(registry, make_bundle(tmp_path / f"bundle-{seed}", layers=4, width=256, seed=seed))
    sizes = []
    with standin.serve_champion(tmp_path, slots=4) as (process, port):
        call = Caller(port)
        for turn in range(14):
            target = 1 + turn % 2
            store.rollback(registry, target)
            standin.wait_until(lambda target=target: call("GET", "/v1/model")[1]["version"] == target, 60)
            assert call("POST", "/v1/completions", {"prompt": "hello", "max_tokens": 20})[0] == 200
            time.sleep(0.5)
            sizes.append(psutil.Process(process.pid).memory_info().rss / 1e6)
    early, late = sorted(sizes[1:4])[1], sorted(sizes[-3:])[1]
    assert late < 1.15 * early, sizes
