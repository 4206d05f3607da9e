"""GenerationLearner: the Learner of text generation: it also foresees its training, and says how far it led."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from llmops.core.errors import LlmopsError
from llmops.core.protocols import Room, Row
from llmops.core.report import Number
from llmops.engine.device import seed_everything
from llmops.nets.causal import CausalReader
from llmops.tasks.text_generation.assess import per_window
from llmops.tasks.text_generation.divergence import divergence
from llmops.tasks.text_generation.model import GenerationModel
from llmops.tasks.text_generation.packing import Encoded
from llmops.tasks.text_generation.probe import probe
from llmops.tasks.text_generation.problem import raw_answers
from llmops.tasks.text_generation.windows import windows

PROMPTS = 64
"""Held-out prompts, at most, after which answers are drawn."""
SAME = 1e-3
"""Share by which an answer's log-probability before the training may differ when it is computed on another machine."""


class GenerationLearner(GenerationModel):
    """What `need`, `train`, `tune`, `compress` and `deploy` use."""

    def probe(self, source: Path | list[Row], seconds: float, room: Room) -> dict[str, float]:
        """What the training would take here, from a few real steps; see probe.py."""
        return probe(self, source, seconds, room)

    def divergence(self, dataset: Path, split: str) -> dict[str, Number]:
        """Preferences: kl_per_answer and kl_standard_error, see divergence.py, over the split's prompts that leave room
        for an answer; None when there are fewer than two, or when `before` is."""
        context, prompts = self.reading().context, self.prompts(dataset, split)
        prompts = [prompt for prompt in prompts if len(prompt) < context]
        kept = [prompts[place * len(prompts) // PROMPTS] for place in range(PROMPTS)] if prompts[PROMPTS:] else prompts
        network = self.before(dataset, split) if len(kept) > 1 else None
        if network is None:
            return {"kl_per_answer": None, "kl_standard_error": None}
        trained, reference = (CausalReader(one.to(self.device()).eval()) for one in (self.trained(), network))
        most, ends = self.section.answer.max_tokens, self.known().end_tokens
        return {**divergence(trained, reference, kept, most, ends, self.reading(), self.seed)}

    def prompts(self, dataset: Path, split: str) -> list[list[int]]:
        """What stands before the answers of a split's pairs."""
        chosen = windows(dataset, split)[0::2]
        return [one.tokens[: one.counted[0]].tolist() for one in chosen if len(one.counted)]

    def before(self, dataset: Path, split: str) -> Any:
        """The network as it was before the training, or None when it cannot be had any more: the model that
        `train.model` names is gone, or no longer gives the split's rows what it gave them then."""
        try:
            seed_everything(self.seed)  # a fresh one is drawn
            network = self.fresh().to(self.device()).eval()
        except LlmopsError:
            return None
        found = raw_answers(CausalReader(network), Encoded.read(dataset, split), self.reading(), self.device())
        now, then = per_window(windows(dataset, split), found["logp"]), self.known().reference.get(split)
        same = then is not None and len(then) == len(now) and np.allclose(now, then, rtol=SAME, atol=SAME)
        return network if same else None
