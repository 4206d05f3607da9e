"""scheduler: many answers at once, each as if it were alone; stops, lengths, hang-ups, a full queue, the end."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from llmops.bundle.sampling import Sampler, nucleus
from llmops.serving.batcher import Closing, QueueFull
from llmops.serving.logprobs import named
from llmops.serving.metrics import WritingMetrics
from llmops.serving.scheduler import Scheduler
from llmops.serving.stops import StopText
from llmops.serving.stream import Ask, Piece, Stream
from tests.standin_writer import ACCENTED, END, Parrot, ParrotCodec, Writer, alone

CODEC = ParrotCodec()


@asynccontextmanager
async def scheduling(stepper: Parrot, queue: int = 100) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(stepper, CODEC, queue, WritingMetrics())
    try:
        yield scheduler
    finally:
        stepper.gate.set()
        await asyncio.wait_for(scheduler.close(), 30)


def play(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


def ask(words: str, count: int = 20, **more: Any) -> Ask:
    return Ask(CODEC.prompt(words), count, **{"temperature": 0.0, **more})


async def read(stream: Stream) -> tuple[str, Piece]:
    """The whole text and the last piece."""
    pieces = [piece async for piece in stream]
    assert all(piece.finish is None for piece in pieces[:-1])
    return "".join(piece.text for piece in pieces), pieces[-1]


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.001)


def test_each_of_many_answers_is_what_it_would_be_alone() -> None:
    async def story() -> None:
        stepper = Parrot(slots=3)
        prompts = ["hello", "how are", "the parcel", "xyz", "what is well, thank", "a", "card 17", "you"]
        asks = [ask(words, 5 + 9 * place) for place, words in enumerate(prompts)]
        async with scheduling(stepper) as scheduler:
            got = await asyncio.gather(*(read(scheduler.submit(one)) for one in asks))
            for one, (text, last) in zip(asks, got, strict=True):
                expected = alone(one.prompt, one.max_tokens)
                assert text == CODEC.text(expected)
                assert last.written == len(expected)
                assert last.finish == ("stop" if expected[-1] == END else "length")
            assert scheduler.active() == scheduler.waiting() == 0
        assert not stepper.held
        assert max(stepper.batches) == 3

    play(story)


def test_one_prompt_is_read_between_two_steps() -> None:
    async def story() -> None:
        stepper = Parrot(slots=4)
        stepper.gate.clear()
        async with scheduling(stepper) as scheduler:
            streams = [scheduler.submit(ask("hello", 10)) for _ in range(4)]
            stepper.gate.set()
            await asyncio.gather(*map(read, streams))
        assert stepper.batches[:4] == [1, 2, 3, 4]

    play(story)


def test_stop_strings_end_the_answer_and_are_never_shown() -> None:
    async def story() -> None:
        async with scheduling(Parrot()) as scheduler:
            text, last = await read(scheduler.submit(ask("hello", 80, stop=("today", "are you"))))
            assert (text, last.finish) == (" there, how ", "stop")
            assert last.written == len(" there, how are you")
            text, last = await read(scheduler.submit(ask("hello", 12, stop=("w are you",))))
            assert (text, last.finish) == (" there, how ", "length")  # held back, and then no stop after all
            text, last = await read(scheduler.submit(ask("the par", 80, top=0)))
            assert (text, last.finish) == ("cel is on its way to you.\n", "stop")

    play(story)


@pytest.mark.parametrize("stops", [("are you",), ("e", "zz"), ("xyz", "aab"), ("aaab",), (f"n{ACCENTED}", "aa aa")])
def test_stop_text_releases_all_before_the_first_stop_however_it_is_cut(stops: tuple[str, ...]) -> None:
    for words in ("how are you", "aaaab", "aa aab", f"n{ACCENTED} aa aab aaa", "are yo", "n"):
        places = [words.find(stop) for stop in stops if stop in words]
        whole = words[: min(places)] if places else words
        text, shown = StopText(Writer(), stops), ""
        for token in CODEC._tokens(words):
            shown += text.push(token)
            assert whole.startswith(shown)
        assert shown + text.end() == whole
        assert text.stopped == bool(places)


def test_half_a_character_is_told_at_the_end_only() -> None:
    text = StopText(Writer())
    first, second = CODEC._tokens(ACCENTED)
    assert text.push(first) == ""
    assert text.push(second) == ACCENTED
    text.push(first)
    assert text.end() == "�"


def test_probabilities_go_with_the_text_they_belong_to() -> None:
    async def story() -> None:
        async with scheduling(Parrot()) as scheduler:
            pieces = [piece async for piece in scheduler.submit(ask("hello", 80, stop=("are you",), top=3))]
            tokens = [token for piece in pieces for token in piece.tokens]
            assert CODEC.text([token.token for token in tokens]) == " there, how "
            for piece in pieces:
                assert CODEC.text([token.token for token in piece.tokens]) == piece.text
            for token in tokens:
                assert token.token == token.top[0][0]
                assert token.logprob == token.top[0][1]
                assert len(token.top) == 3

    play(story)


def test_the_same_seed_gives_the_same_answer_among_other_neighbours() -> None:
    async def story() -> None:
        async with scheduling(Parrot(slots=4)) as scheduler:
            said = []
            for others in range(4):
                streams = [scheduler.submit(ask("xyz", 40, temperature=3.0, seed=7))]
                streams += [scheduler.submit(ask("abc", 40, temperature=3.0)) for _ in range(others)]
                said.append((await asyncio.gather(*map(read, streams)))[0][0])
            other = await read(scheduler.submit(ask("xyz", 40, temperature=3.0, seed=8)))
        assert len(set(said)) == 1
        assert other[0] != said[0]

    play(story)


def test_who_hangs_up_frees_the_slot_for_the_next() -> None:
    async def story() -> None:
        stepper = Parrot(slots=1, pause_s=0.001)
        async with scheduling(stepper) as scheduler:
            first = scheduler.submit(ask("hello", 190, ignore_end=True))
            second = scheduler.submit(ask("how", 5))
            async for _ in first:
                break
            assert (scheduler.active(), scheduler.waiting()) == (1, 1)
            scheduler.cancel(first)
            assert (await read(second))[0] == " are "
            assert first.box.qsize() < 180  # it was not written to its end

    play(story)


def test_who_hangs_up_in_the_queue_frees_his_place() -> None:
    async def story() -> None:
        stepper = Parrot(slots=1)
        stepper.gate.clear()
        async with scheduling(stepper, queue=2) as scheduler:
            running = scheduler.submit(ask("hello"))
            await until(lambda: scheduler.waiting() == 0)
            waiting = [scheduler.submit(ask("hello")) for _ in range(2)]
            with pytest.raises(QueueFull):
                scheduler.submit(ask("hello"))
            with pytest.raises(QueueFull):
                await scheduler.score([1, 2], 1)
            scheduler.cancel(waiting[0])
            late = scheduler.submit(ask("hello"))
            stepper.gate.set()
            for stream in (running, waiting[1], late):
                assert (await read(stream))[1].finish == "length"

    play(story)


def test_score_names_every_token_but_the_first_and_takes_no_slot() -> None:
    async def story() -> None:
        stepper = Parrot(slots=1, pause_s=0.001)
        async with scheduling(stepper) as scheduler:
            stream = scheduler.submit(ask("hello", 100, ignore_end=True))
            tokens = CODEC.prompt("hello there")
            said = await scheduler.score(tokens, 2)
            assert scheduler.active() == 1
            scheduler.cancel(stream)
        assert [one.token for one in said] == tokens[1:]
        for length, one in enumerate(said, start=1):
            assert one == named(stepper.logits(tokens[:length]), tokens[length], 2)

    play(story)


def test_a_mistake_of_the_model_ends_what_it_struck_and_nothing_else() -> None:
    async def story() -> None:
        stepper = Parrot(slots=2)
        async with scheduling(stepper) as scheduler:
            stepper.gate.clear()
            struck = [scheduler.submit(ask("hello")) for _ in range(2)]
            stepper.fails = True
            stepper.gate.set()
            for stream in struck:
                with pytest.raises(ArithmeticError, match="the model broke"):
                    await read(stream)
            with pytest.raises(ArithmeticError):
                await scheduler.score([1, 2], 1)
            stepper.fails = False
            assert (await read(scheduler.submit(ask("hello", 6))))[0] == " there"
            assert scheduler.alive()
        assert not stepper.held

    play(story)


def test_closing_finishes_what_runs_and_what_waits() -> None:
    async def story() -> None:
        stepper = Parrot(slots=1, pause_s=0.001)
        scheduler = Scheduler(stepper, CODEC, 10, WritingMetrics())
        streams = [scheduler.submit(ask("hello", 30)) for _ in range(3)]
        closing = asyncio.create_task(scheduler.close())
        await asyncio.sleep(0)
        with pytest.raises(Closing):
            scheduler.submit(ask("late"))
        assert not scheduler.alive()
        assert [(await read(stream))[1].finish for stream in streams] == ["length"] * 3
        await closing

    play(story)


def test_a_stepper_that_cannot_free_a_slot_leaves_nobody_waiting() -> None:
    class Broken(Parrot):
        def free(self, slot: int) -> None:
            raise OSError("no more")

    async def story() -> None:
        scheduler = Scheduler(Broken(slots=1), CODEC, 10, WritingMetrics())
        streams = [scheduler.submit(ask("hello", 3)) for _ in range(2)]
        for stream in streams:
            with pytest.raises((OSError, RuntimeError)):
                await read(stream)
        await until(lambda: not scheduler.alive())

    play(story)


def test_two_hundred_answers_with_hang_ups_leave_no_slot_taken() -> None:
    async def story() -> None:
        dice, stepper = random.Random(3), Parrot(slots=3)

        async def one(scheduler: Scheduler, place: int) -> None:
            asked = ask(f"hello {place}", dice.randint(1, 40))
            stream, patience = scheduler.submit(asked), dice.choice([0, 1, 3, 1000])
            async for _ in stream:
                patience -= 1
                if patience <= 0:
                    scheduler.cancel(stream)
                    return

        async with scheduling(stepper, queue=200) as scheduler:
            await asyncio.gather(*(one(scheduler, place) for place in range(200)))
            await until(lambda: scheduler.active() == scheduler.waiting() == 0)
            assert (await read(scheduler.submit(ask("hello", 6))))[0] == " there"
        assert not stepper.held

    play(story)


def test_sampler_draws_as_likely_as_the_logits_say() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    for temperature, top_p, expected in (
        (1.0, 1.0, [0.5, 0.3, 0.15, 0.05]),
        (1.0, 0.8, [0.625, 0.375, 0, 0]),
        (0.5, 1.0, [0.685, 0.247, 0.062, 0.007]),
        (0.0, 1.0, [1, 0, 0, 0]),
    ):
        sampler = Sampler(temperature, top_p, 1)
        counts = np.bincount([sampler.choose(logits) for _ in range(4000)], minlength=4) / 4000
        assert np.abs(counts - expected).max() < 0.03


@pytest.mark.parametrize("size", [3, 511, 512, 513, 5000])
@pytest.mark.parametrize("top_p", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_drawing_by_blocks_is_drawing_from_the_whole(size: int, top_p: float, spread: float) -> None:
    dice = np.random.default_rng(size)
    logits = (dice.normal(size=size) * spread).astype(np.float32)
    shares = np.exp(logits.astype(np.float64) - logits.max())
    if top_p < 1:
        kept = nucleus(np.exp(logits - logits.max()), top_p)
        order = np.argsort(-shares, kind="stable")
        count = int(np.searchsorted(shares[order].cumsum(), top_p * shares.sum() * (1 - 1e-6))) + 1
        assert set(order[:count]) <= set(kept.tolist())
        assert shares[kept].sum() - shares[kept].min() <= top_p * shares.sum() * (1 + 1e-5) or spread == 0
        shares = np.where(np.isin(np.arange(size), kept), shares, 0.0)
    sums, points = shares.cumsum(), np.random.default_rng(1)
    sampler = Sampler(1.0, top_p, 1)
    for _ in range(50):
        token, point = sampler.choose(logits), points.random() * sums[-1]
        assert shares[token] > 0
        assert sums[token] - shares[token] - 1e-3 * sums[-1] <= point <= sums[token] + 1e-3 * sums[-1]


def test_named_puts_the_argmax_first_also_among_equals() -> None:
    logits = np.array([1.0, 3.0, 3.0, 3.0, 0.0], np.float32)
    for top, token in itertools.product((1, 2, 3, 5, 9), (0, 3)):
        said = named(logits, token, top)
        assert [one for one, _ in said.top] == [1, 2, 3, 0, 4][:top]
        assert said.token == token
    assert abs(np.exp([share for _, share in named(logits, 0, 5).top]).sum() - 1) < 1e-9
