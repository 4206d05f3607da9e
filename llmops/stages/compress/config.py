"""The config block `compress:`. No torch here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from llmops.core.section import Section

Form = Literal["float32", "int8", "int8-static", "int8-weights", "int4-weights"]


class DistilSection(Section):
    """A student with fewer layers learns the model's answers (Hinton et al. 2015; Sanh et al. 2019, DistilBERT)."""

    layers: int = Field(3, ge=1, le=48)
    """Layers of the student; it starts from evenly spaced layers of the model."""
    epochs: int = Field(6, ge=1, le=1000)
    """Passes over the training rows."""
    temperature: float = Field(2.0, gt=0)
    """Softens the teacher's answers."""
    hidden: float = Field(1.0, ge=0, le=1000)
    """What the distance of the student's hidden states from the model's counts beside the answers (Jiao et al. 2020,
    TinyBERT); pretrained encoders only."""


class PruneSection(Section):
    """Attention heads and feed-forward neurons that matter least on training rows go, by first-order Taylor importance
    (Michel et al. 2019, Molchanov et al. 2019); the matrices shrink, and a short training recovers what was lost."""

    heads: float = Field(0.0, ge=0, lt=1)
    """Share of all attention heads that go."""
    neurons: float = Field(0.0, ge=0, lt=1)
    """Share of all feed-forward neurons that go."""
    weights: float = Field(0.0, ge=0, lt=1)
    """Share of the smallest weights that become 0, in the end. For the record: the file gets no smaller by it, and the
    server no quicker."""
    epochs: int = Field(3, ge=1, le=1000)
    """Passes over the training rows that recover, by the model's answers."""
    temperature: float = Field(2.0, gt=0)
    """Softens these answers."""


class Candidate(Section):
    """One candidate in long form; what is named is done in this order."""

    distil: DistilSection | None = None
    """Fewer layers."""
    prune: PruneSection | None = None
    """Fewer heads and neurons."""
    vocabulary: int | None = Field(None, ge=128)
    """So many tokens: those of the rows, the alphabet, and the commonest others. A word that goes is spelled by pieces
    that stay. For pretrained encoders with WordPiece or Unigram tokenizers, of which the embedding is a third or more.
    """
    form: Form = "int8"
    """In which numbers."""

    @model_validator(mode="before")
    @classmethod
    def _some(cls, value: Any) -> Any:
        if value == {}:
            raise ValueError("name what is done: `distil`, `prune`, `vocabulary`, `form`")
        return value


class CompressSection(Section):
    """`compress:` candidates are made, measured here, and the best within the need's limits becomes the bundle."""

    candidates: list[Form | Candidate] | None = Field(None, min_length=1)
    """What to try; default: what suits the task, and where none of that is within the limits of `need`, ever smaller
    students until one is. `float32` (plain ONNX), `int8` (dynamic quantisation: the fastest, but an answer depends a
    little on the batch it came in), `int8-static` (scales fixed by training rows: no such dependence), `int8-weights`
    (only the weights are stored in 8 bits: nearer to the trained model), `int4-weights` (in 4 bits), or freely combined
    such as `{distil: {layers: 3}, prune: {neurons: 0.3}, vocabulary: 8000, form: int8}`. Not every task has all of
    them."""
    max_quality_loss: float = Field(0.01, ge=0)
    """How much worse than the trained model's a candidate's metric may be on validation."""
    prefer: Literal["size", "latency", "quality"] = "size"
    """Among the allowed candidates, the smallest, the fastest or the best."""
