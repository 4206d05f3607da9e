"""The gates that every task has: blocks of `need.accept`. A task adds those of its own figures."""

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
    """The task's metric may be at most this much worse than the champion's."""


class AcceptSection(Section):
    """Gates, checked on the artifact that will serve, through the real server."""

    latency_p95_ms: Gate | None = None
    """95th percentile of one request's time through HTTP on this machine, in milliseconds."""
    size_mb: Gate | None = None
    """Size of the bundle's weights and tokenizer, 1 MB = 1e6 bytes."""
    parity: Gate | None = Gate(at_least=0.98)
    """Share of test rows (of tokens, where the model writes) on which the server says what the trained model says; of
    a student, which is another model, what the student itself says in float32."""
    above_baseline: Gate | None = Gate(at_least=0.0)
    """How much better the task's metric is than the simple baseline's."""
    champion: ChampionGate | None = ChampionGate()
    """Against the model that serves now."""


class CostsSection(Section):
    """What mistakes about an event cost, in any unit; a right decision costs nothing. They set the threshold."""

    missed: float = Field(1.0, ge=0)
    """An event that is not acted on: a loan that defaults, an illness that is overlooked."""
    alarm: float = Field(1.0, ge=0)
    """An alarm about a row that is no event."""

    @model_validator(mode="after")
    def _costs_something(self) -> CostsSection:
        if self.missed + self.alarm <= 0:
            raise ValueError("at least one of `missed` and `alarm` must cost something")
        return self
