"""An answer that a model keeps back because it is not sure enough: what it would have been, and why it is not given."""

from __future__ import annotations

from pydantic import Field

from llmops.core.section import Section

MOST_DIGITS = 6


class Withheld(Section):
    """What stands in place of an answer when a model abstains; the same for all tasks whose models do."""

    answer: str
    """What the answer would have been: the likeliest label, the words of the entry that fits best."""
    probability: float = Field(ge=0, le=1)
    """How likely that is right."""
    why: str
    """Why it is not given, in words."""


def less_sure(sure: float, threshold: float, measure: str = "") -> str:
    """Why an answer is withheld: `sure` lies below the `threshold` that validation chose. `measure` names what both
    are where it is no probability."""
    # As few digits as tell the two apart.
    digits = next((few for few in range(2, MOST_DIGITS) if f"{sure:.{few}f}" != f"{threshold:.{few}f}"), MOST_DIGITS)
    named = f"{measure} " if measure else ""
    return f"less sure ({named}{sure:.{digits}f}) than the threshold ({threshold:.{digits}f})"
