"""Proves a bundle that writes through the real server: token by token beside the trained model, and in free answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.errors import DataError
from llmops.core.protocols import Proof, Room, Server
from llmops.core.report import Number, Passage
from llmops.tasks.text_generation.asking import Asked, Reply, ask_all, questions, read_forced
from llmops.tasks.text_generation.assess import Answers, agreement
from llmops.tasks.text_generation.codec import GenerationCodec
from llmops.tasks.text_generation.config import TextGenerationSection
from llmops.tasks.text_generation.measure import figures_of
from llmops.tasks.text_generation.windows import Window, windows

FORCED_TOKENS = 40_000
"""Held-out tokens that are replayed through the server; more tell nothing new."""
COMPARED = 20
"""Answers that the trained model writes too."""
SHOWN = 3


def prove(
    section: TextGenerationSection, dataset: Path, bundle: Path, server: Server, learner: Any, room: Room
) -> Proof:
    """Replay held-out rows through the server and let it answer; raises DataError when there is no row.

    Numbers: the metrics on the replayed tokens; parity, the share of them on which the server's likeliest token is the
    trained model's; logp_difference, the largest difference of a log-probability; not_asked, the questions that leave
    no room for an answer; what `writing` gives; for preferences what `Learner.divergence` gives.
    """
    split = next((name for name in ("test", "valid") if windows(dataset, name)), None)
    if split is None:
        raise DataError("there is no test row and no validation row", str(dataset), "run prepare again")
    every = windows(dataset, split)
    places = sampled(every, FORCED_TOKENS, pairs=section.objective == "preferences")
    seen = [every[place] for place in places]
    trained = taken(every, places, learner.predict(dataset, split))
    with room.progress("replaying through the server", len(seen)) as bar:
        forced = read_forced(server, seen, bar.update)
    if "reference_logp" in trained:
        forced |= {name: trained[name] for name in ("reference_logp", "beta") if name in trained}
    numbers: dict[str, Number] = {"rows": len(seen), "tokens": len(forced["logp"])}
    numbers |= figures_of(section, dataset, split, seen, forced)
    numbers["loss_trained"] = float(-trained["logp"].mean(dtype=np.float64))
    numbers["parity"] = agreement(forced, trained)
    numbers["logp_difference"] = float(np.abs(forced["logp"] - trained["logp"]).max())
    codec, every_question = GenerationCodec(bundle), questions(section, dataset, split)
    asked = answerable(codec, every_question, dataset)
    numbers["not_asked"] = len(every_question) - len(asked)
    with room.progress("asking the server", len(asked)) as bar:
        replies = ask_all(server, section, asked, bar.update)
    numbers |= writing(section, asked, replies)
    numbers |= beside_trained(learner, codec, section, asked, replies)
    numbers |= judged(section, asked, replies, room)
    if section.objective == "preferences":
        numbers |= learner.divergence(dataset, split)
    return Proof(
        headline=headline(section, numbers),
        numbers=numbers,
        passages=[passage(one, reply) for one, reply in list(zip(asked, replies, strict=True))[:SHOWN]],
        warnings=warnings(numbers),
        lines=[line(one, reply) for one, reply in zip(asked, replies, strict=True)],
        split=split,
    )


def sampled(every: Sequence[Window], most: int, pairs: bool) -> list[int]:
    """Places of evenly spread windows with about `most` counted tokens in all; both windows of a pair or none."""
    group = 2 if pairs else 1
    total = sum(len(window.counted) for window in every)
    units = len(every) // group
    kept = units if total <= most else max(1, units * most // total)
    return [index * units // kept * group + part for index in range(kept) for part in range(group)]


def taken(every: Sequence[Window], places: Sequence[int], answers: Answers) -> dict[str, Any]:
    """The part of the trained model's raw answers that belongs to these windows."""
    counts = np.array([len(window.counted) for window in every])
    ends = np.cumsum(counts)
    flat = np.concatenate([np.arange(ends[place] - counts[place], ends[place]) for place in places])
    found: dict[str, Any] = {"argmax": answers["argmax"][flat], "logp": answers["logp"][flat]}
    if "reference_logp" in answers:
        found["reference_logp"] = answers["reference_logp"][np.asarray(places)]
    if "beta" in answers:
        found["beta"] = answers["beta"]
    return found


def prompt_of(codec: GenerationCodec, one: Asked) -> list[int]:
    """The tokens of a question, as the server reads it."""
    return codec.chat(one.messages) if one.messages else codec.prompt(one.prompt)


def answerable(codec: GenerationCodec, asked: Sequence[Asked], dataset: Path) -> list[Asked]:
    """The questions that leave room for an answer: the server refuses the others, which prepare cut. Raises DataError
    when there is none."""
    found = [one for one in asked if len(prompt_of(codec, one)) < codec.context]
    if not found:
        raise DataError("no held-out question leaves room for an answer", str(dataset), "raise `task.context`")
    return found


def writing(section: TextGenerationSection, asked: Sequence[Asked], replies: Sequence[Reply]) -> dict[str, Number]:
    """What the free answers are worth, and how fast they came: chrf, exact_match, rouge_l where there are written
    answers; trait_share; first_token_p50_ms, first_token_p95_ms, tokens_per_s, latency_p95_ms of single streams;
    finished, the share of answers that came to an end by themselves."""
    import re

    from llmops.tasks.text_generation.textmetrics import chrf, exact_match, rouge_l

    single = [reply for reply in replies if reply.first_token_ms is not None]
    numbers: dict[str, Number] = {
        "answers": len(replies),
        "finished": float(np.mean([reply.finished for reply in replies])),
        "first_token_p50_ms": float(np.percentile([reply.first_token_ms or 0.0 for reply in single], 50)),
        "first_token_p95_ms": float(np.percentile([reply.first_token_ms or 0.0 for reply in single], 95)),
        "latency_p95_ms": float(np.percentile([reply.took_ms for reply in single], 95)),
        "tokens_per_s": 1000.0 * sum(r.tokens for r in single) / max(1e-9, sum(r.took_ms for r in single)),
    }
    texts, written = [reply.text for reply in replies], [one.answer for one in asked]
    if all(answer is not None for answer in written):
        wanted = [answer or "" for answer in written]
        numbers |= {
            "chrf": chrf(texts, wanted),
            "exact_match": exact_match(texts, wanted),
            "rouge_l": rouge_l(texts, wanted),
        }
    if section.trait is not None:
        numbers["trait_share"] = float(np.mean([re.search(section.trait, text) is not None for text in texts]))
    return numbers


def beside_trained(
    learner: Any,
    codec: GenerationCodec,
    section: TextGenerationSection,
    asked: Sequence[Asked],
    replies: Sequence[Reply],
) -> dict[str, Number]:
    """greedy_same: share of answers that the trained model, asked the same, writes too; parting_gap: where the others
    part from it, the largest difference of its two best logits (None when none parts)."""
    same, gaps = 0, []
    compared = list(zip(asked, replies, strict=True))[:COMPARED]
    for one, reply in compared:
        prompt = prompt_of(codec, one)
        most = min(section.answer.max_tokens, codec.context - len(prompt))  # the server stops there too
        tokens, best = learner.write(prompt, most, codec.end_tokens)
        if codec.text(tokens) == reply.text:
            same += 1
        else:
            gaps.append(gap_at_parting(codec, tokens, best, reply.text))
    return {"greedy_same": same / len(compared), "parting_gap": max(gaps, default=None)}


def gap_at_parting(codec: GenerationCodec, tokens: Sequence[int], best: Sequence[Sequence[float]], said: str) -> float:
    """The difference of the trained model's two best logits at the first token that the other text does not share."""
    for place in range(len(tokens)):
        if not said.startswith(codec.text(tokens[: place + 1]).rstrip("\ufffd")):
            return float(best[place][0] - best[place][1])
    return float(best[-1][0] - best[-1][1]) if len(best) else 0.0


def judged(
    section: TextGenerationSection, asked: Sequence[Asked], replies: Sequence[Reply], room: Room
) -> dict[str, Number]:
    """judge_score: the mean grade, 1 to 10, that the judge of the config gives; nothing without one."""
    if section.judge is None:
        return {}
    from llmops.tasks.text_generation.judge import grade

    room.say(f"asking the judge {section.judge.model}")
    rows = list(zip(asked, replies, strict=True))[: section.judge.rows]
    return {"judge_score": float(np.mean([grade(section.judge, one.shown, reply.text) for one, reply in rows]))}


def headline(section: TextGenerationSection, numbers: Mapping[str, Any]) -> str:
    """One sentence without its end: the stage adds the size."""
    metric, kl = section.metric_name, numbers.get("kl_per_answer")
    apart = "" if kl is None else f", {kl:.1f} nats an answer from the model before the training (KL)"
    return (
        f"Through the real server: {metric} {numbers[metric]:.3f} on {numbers['tokens']:,} held-out tokens, "
        f"the trained model's likeliest token on {100 * numbers['parity']:.2f} %, "
        f"{numbers['tokens_per_s']:.0f} tokens/s a stream, "
        f"first token p95 {numbers['first_token_p95_ms']:.0f} ms{apart}"
    )


def warnings(numbers: Mapping[str, Any]) -> list[str]:
    """What deserves a person's eye."""
    said = []
    if numbers["not_asked"]:
        said.append(f"{numbers['not_asked']} questions fill task.context alone, and could not be asked")
    if numbers["finished"] < 0.5:
        said.append(f"{1 - numbers['finished']:.0%} of the answers were cut at task.answer.max_tokens")
    if "kl_per_answer" in numbers and numbers["kl_per_answer"] is None:
        said.append("no KL divergence: too few prompts, or the model before the training is gone")
    return said


def passage(one: Asked, reply: Reply) -> Passage:
    """A question, and the server's answer marked."""
    written = [(f"\n(written: {one.answer})", False)] if one.answer is not None else []
    return Passage("An answer of the server", [(one.shown + "\n", False), (reply.text, True), *written])


def line(one: Asked, reply: Reply) -> dict[str, Any]:
    """A row of proof/answers.jsonl."""
    return {
        "id": one.id,
        "asked": one.shown,
        "answer": reply.text,
        "written": one.answer,
        "tokens": reply.tokens,
        "took_ms": round(reply.took_ms, 2),
    }
