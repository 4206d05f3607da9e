"""The config block `need:`. No torch here."""

from __future__ import annotations

from pydantic import Field, model_validator

from llmops.core.section import Section


class Gate(Section):
    """One condition on one figure. At least one bound."""

    at_least: float | None = None
    """The figure must be this or more."""
    at_most: float | None = None
    """The figure must be this or less."""

    @model_validator(mode="after")
    def _bounded(self) -> Gate:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a gate needs `at_least` or `at_most`")
        return self


class ChampionGate(Section):
    """How the candidate must stand against the model that serves now, on the same test rows."""

    no_worse_by: float = Field(0.005, ge=0)
    """The task's metric may be at most this much below the champion's."""


class AcceptSection(Section):
    """Gates, checked on the artifact that will serve, through the real server."""

    accuracy: Gate | None = None
    """Share of in-scope test rows answered right (plain argmax, abstention aside)."""
    f1_macro: Gate | None = None
    """Mean F1 over classes."""
    balanced_accuracy: Gate | None = None
    """Mean recall over classes."""
    latency_p95_ms: Gate | None = None
    """95th percentile of one request's time through HTTP on this machine, in milliseconds."""
    size_mb: Gate | None = None
    """Size of the bundle's weights and tokenizer, 1 MB = 1e6 bytes."""
    parity: Gate | None = Gate(at_least=0.98)
    """Share of in-scope test rows on which server and trained model give the same label. A distilled student, which
    is another model, needs a lower bound."""
    above_baseline: Gate | None = Gate(at_least=0.0)
    """How much the metric lies above the linear baseline's."""
    champion: ChampionGate | None = ChampionGate()
    """Against the model that serves now."""


class NeedSection(Section):
    """`need:` what the model is for, and what must hold before it may go live."""

    goal: str = ""
    """In words: who uses the model for what."""
    accept: AcceptSection = AcceptSection()
    """The gates."""
    probe_s: float = Field(6.0, gt=0, le=600)
    """Seconds of probing the real model on real rows to foresee time and memory."""
    max_memory_mb: float | None = Field(None, gt=0)
    """Refuse a plan whose foreseen peak memory is above this; default: what this machine has."""
    max_hours: float | None = Field(None, gt=0)
    """Refuse a plan whose foreseen time is above this."""
