"""The config block `compress:`. No torch here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from llmops.core.section import Section

Form = Literal["float32", "int8", "int8-weights", "int4-weights"]


class DistilSection(Section):
    """A smaller student learns the model's answers (Hinton et al. 2015)."""

    layers: int = Field(3, ge=1, le=48)
    """Layers of the student; it starts from evenly spaced layers of the model."""
    epochs: int = Field(4, ge=1, le=1000)
    """Passes over the training rows."""
    temperature: float = Field(2.0, gt=0)
    """Softens the teacher's answers."""
    int8: bool = True
    """Quantise the student as well."""


class Candidate(Section):
    """One candidate in long form: exactly one key."""

    distil: DistilSection | None = None
    """A distilled student."""

    @model_validator(mode="before")
    @classmethod
    def _some(cls, value: Any) -> Any:
        if value == {}:
            raise ValueError("name a candidate: `distil`")
        return value


class CompressSection(Section):
    """`compress:` candidates are made, measured here, and the best within the need's limits becomes the bundle."""

    candidates: list[Form | Candidate] | None = Field(None, min_length=1)
    """What to try; default: what suits the task. `float32` (plain ONNX), `int8` (dynamic quantisation: the fastest, but
    an answer depends a little on the batch it came in), `int8-weights` (only the weights are stored in 8 bits: nearer
    to the trained model), `int4-weights` (in 4 bits), `distil: {layers: 3}`. Not every task has all of them."""
    max_quality_loss: float = Field(0.01, ge=0)
    """How much worse than the trained model's a candidate's metric may be on validation."""
    prefer: Literal["size", "latency", "quality"] = "size"
    """Among the allowed candidates, the smallest, the fastest or the best."""
