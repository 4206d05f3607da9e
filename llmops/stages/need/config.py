"""The config block `need:`. No torch here."""

from __future__ import annotations

from functools import cache

from pydantic import Field, create_model

from llmops.core.accept import AcceptSection, CostsSection
from llmops.core.section import Section


class NeedSection(Section):
    """`need:` what the model is for, and what must hold before it may go live."""

    goal: str = ""
    """In words: who uses the model for what."""
    accept: AcceptSection = AcceptSection()
    """The gates."""
    costs: CostsSection | None = None
    """What mistakes cost, for tasks that decide about events; validation chooses the threshold by it."""
    slices: list[str] = []
    """Fields by whose values every figure is told apart (sex, age): is the model as good for all?"""
    probe_s: float = Field(6.0, gt=0, le=600)
    """Seconds of probing the real model on real rows to foresee time and memory."""
    max_memory_mb: float | None = Field(None, gt=0)
    """Refuse a plan whose foreseen peak memory is above this; default: what this machine has."""
    max_hours: float | None = Field(None, gt=0)
    """Refuse a plan whose foreseen time is above this."""


@cache
def need_section(accept: type[AcceptSection]) -> type[NeedSection]:
    """The class of `need:` for a task whose gates are of the class `accept` (`Task.accept_section`)."""
    gates = Field(accept(), description=NeedSection.model_fields["accept"].description)
    return create_model(
        "NeedSection", __base__=NeedSection, __doc__=NeedSection.__doc__, __module__=__name__, accept=(accept, gates)
    )
