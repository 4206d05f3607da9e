"""Every way llmops can say no: what is wrong, where, what to do, and the exit code for it.

LlmopsError            1  a bug in llmops (also any exception that is not one of these)
+- UsageError          2  wrong usage of the command line
+- ConfigError         3  the config is wrong; carries every mistake found
+- DataError           4  the data, a model or an artifact is missing or unusable
+- MachineError        5  this machine cannot: missing extra, memory, disk, port taken
+- GateRefused         6  a gate refused the candidate
+- LockHeld            7  another run holds the lock
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong, told so that a person can mend it.

    `where` is "file:line:column" or a place in words; `snippet` the offending line(s), already
    formatted; `do` what to do about it.
    """

    what: str
    where: str = ""
    snippet: str = ""
    do: str = ""

    def lines(self) -> list[str]:
        """The mistake as lines of text, in the shape that every error of llmops has."""
        said = [self.what]
        if self.where:
            said.append(f"  where  {self.where}")
        if self.snippet:
            said.extend(f"  {line}" for line in self.snippet.splitlines())
        if self.do:
            said.append(f"  do     {self.do}")
        return said


class LlmopsError(Exception):
    """The root. `exit_code` is what the process ends with when nobody catches it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, where: str = "", do: str = "", snippet: str = "") -> None:
        self.mistakes: tuple[Mistake, ...] = (Mistake(what, where, snippet, do),)
        super().__init__(what)

    def headline(self) -> str:
        """The line printed after `error:`; empty when the first mistake says it all."""
        return ""


class UsageError(LlmopsError):
    """The command line asks for something that does not exist or does not go together."""

    exit_code = 2


class ConfigError(LlmopsError):
    """The config is wrong. All mistakes are reported at once, in the order of the file."""

    exit_code = 3

    def __init__(self, path: str, mistakes: list[Mistake]) -> None:
        super().__init__(f"{path} is wrong")
        self.path = path
        self.mistakes = tuple(mistakes)

    def headline(self) -> str:
        n = len(self.mistakes)
        return f"{self.path} has {n} mistake{'s' if n > 1 else ''}; nothing was run."


class DataError(LlmopsError):
    """Data, a model or an artifact is missing or unusable."""

    exit_code = 4


class MachineError(LlmopsError):
    """This machine cannot do it: a missing extra, too little memory or disk, a port that is taken."""

    exit_code = 5


class GateRefused(LlmopsError):
    """A gate of `need.accept` refused the candidate; the champion stays."""

    exit_code = 6


class LockHeld(LlmopsError):
    """Another run holds the lock."""

    exit_code = 7
