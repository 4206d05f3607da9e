"""Chats of a support desk as people write them, through `llmops init` and `prepare`: what is kept, mended and dropped.

    python benchmarks/support_chats.py [--chats 10000] [--seed 0]

Writes chats by seed, with words of its own: customers and agents who write several times in a row, greetings, thanks
at the end, empty turns, images (beside words, and alone), system messages further on, chats longer than any context,
speakers that nobody knows, chats without an answer, and chats that were exported twice. Both commands run unchanged in
a scratch folder. Fails when a chat is lost without a reason, or when a reason is given for more or fewer chats than
were written to have it. The last line is JSON: rows read, kept, dropped with the reasons, chats mended in each way,
seconds.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.command import llmops

Message = dict[str, Any]

IMAGE = {"type": "image_url", "image_url": {"url": "https://desk.example/upload.jpg"}}

THINGS = (
    "blue kettle, desk lamp, walking boots, garden hose, bread maker, rain jacket, office chair, bicycle pump, tent, "
    "water filter, record player, cutting board, pressure cooker, ladder, heated blanket, violin case, wall clock"
).split(", ")
WRONG = (
    "has a crack along the side, came in the wrong colour, stopped after two days, is missing a screw, has no manual, "
    "smells of smoke, will not switch on, is smaller than on the page, was left in the rain, makes a grinding noise"
).split(", ")
ASKED = (
    "Where is my parcel with the {thing}? The number is {number}.", "The {thing} that came today {wrong}.",
    "I ordered a {thing} under {number} and would like my money back.", "Can I still change {number} to {street}?",
    "My {thing} {wrong}; what can be done about it?", "Does the warranty for the {thing} hold until {month}?",
    "Order {number} was charged twice in {month}.", "Please send the {thing} to {street} instead.",
)  # fmt: skip
MORE = (
    "I need it before {month}.", "It is order {number} by the way.", "I live at {street}.", "My neighbour has one too.",
    "The {thing} was a present.", "I already wrote on the {day}th.", "Nobody picked up the phone on the {day}th.",
)  # fmt: skip
ANSWERS = (
    "I have found {number}; the {thing} leaves us on the {day}th.", "We send you another {thing} free of charge.",
    "The money is back on your card by the {day}th of {month}.", "I have changed the address of {number} to {street}.",
    "Please put the {thing} into its box; the driver comes on the {day}th.", "The warranty for a {thing} is two years.",
)  # fmt: skip
WAITING = ("One moment, please.", "I am looking at it now.", "Thank you for waiting.", "Let me ask the warehouse.")
GREETINGS = ("Welcome to Hill & Sons, this is Ada.", "Good morning, how can I help you?", "Hello, you write with Omar.")
THANKS = ("thanks!", "Great, thank you.", "ok bye", "Perfect.", "You too, have a nice day.")
MONTHS = "January March April June August September November December".split()
STREETS = "Mill Lane, Station Road, Abbey Close, Harbour Street, Fox Hill, Queen's Walk".split(", ")
STRANGERS = ("Anna from nights", "router-7", "queue", "supervisor")
LOST = {
    "image": "the user's turn is an image or file without words",
    "stranger": "a role is unknown",
    "unanswered": "no answer follows the user's words",
}
"""Why a chat that was written so cannot be learnt from."""


@dataclass(frozen=True)
class Written:
    """A chat, and for which of `LOST` it must go; empty when it can be learnt from."""

    messages: list[Message]
    lost: str = ""


class Desk:
    """Writes chats by seed."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def chats(self, count: int) -> list[Written]:
        """So many chats; two in a hundred are there a second time."""
        found: list[Written] = []
        while len(found) < count:
            again = bool(found) and self.chance(0.02)
            found.append(self.dice.choice(found) if again else self.chat())
        return found

    def chat(self) -> Written:
        """A chat of one to four exchanges (of thirty, one in a hundred) with what people do to them."""
        messages = [system("You answer for Hill & Sons.")] if self.chance(0.5) else []
        if self.chance(0.4):
            messages.append(agent(self.words(*GREETINGS)))
        for _ in range(30 if self.chance(0.01) else self.dice.choice((1, 1, 2, 2, 3, 4))):
            messages += [*self.asked(), *self.answered()]
        if self.chance(0.05):
            messages.insert(self.dice.randrange(1, len(messages)), system("The warehouse is closed today."))
        if self.chance(0.5):
            messages.append(user(self.dice.choice(THANKS)))
        return self.spoilt(messages)

    def asked(self) -> list[Message]:
        """What a customer writes: one message or several, maybe an image, maybe an empty one."""
        told = [user(self.words(*ASKED)), *(user(self.words(*MORE)) for _ in range(self.dice.choice((0, 0, 1, 1, 2))))]
        if self.chance(0.1):
            told[0] = user([{"type": "text", "text": told[0]["content"]}, IMAGE])
        if self.chance(0.05):
            told.append(user([IMAGE]))
        return [*told, user("")] if self.chance(0.05) else told

    def answered(self) -> list[Message]:
        """What an agent writes."""
        waiting = [agent(self.dice.choice(WAITING))] if self.chance(0.35) else []
        told = [*waiting, agent(self.words(*ANSWERS))]
        return [agent(None), *told] if self.chance(0.04) else told

    def spoilt(self, messages: list[Message]) -> Written:
        """The chat, or (one in ten) what cannot be learnt from."""
        lost = self.dice.choice(sorted(LOST)) if self.chance(0.1) else ""
        places = [place for place, one in enumerate(messages) if one["role"] == "user"]
        if lost == "stranger":
            place = self.dice.randrange(len(messages))
            messages[place] = {**messages[place], "role": self.dice.choice(STRANGERS)}
        elif lost == "unanswered":
            messages = [one for one in messages[: places[0]] if one["role"] != "assistant"] + self.asked()
        elif lost == "image":
            messages = [*messages[: places[0]], user([IMAGE]), *self.answered(), *self.asked(), *self.answered()]
        return Written(messages, lost)

    def chance(self, share: float) -> bool:
        return self.dice.random() < share

    def words(self, *ways: str) -> str:
        """One of these sentences with its gaps filled."""
        dice = self.dice
        return dice.choice(ways).format(
            thing=dice.choice(THINGS),
            wrong=dice.choice(WRONG),
            number=f"{dice.choice('ABKX')}-{dice.randrange(10**6)}",
            month=dice.choice(MONTHS),
            day=dice.randrange(4, 21),
            street=f"{dice.randrange(200)} {dice.choice(STREETS)}",
        )


def user(content: Any) -> Message:
    return {"role": "user", "content": content}


def agent(content: Any) -> Message:
    return {"role": "assistant", "content": content}


def system(content: str) -> Message:
    return {"role": "system", "content": content}


def dropped(folder: Path) -> Counter[str]:
    """How many rows went for each reason, as dropped.jsonl has them."""
    lines = (folder / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
    return Counter(json.loads(line)["reason"] for line in lines)


def checked(written: list[Written], numbers: dict[str, Any], reasons: Counter[str]) -> int:
    """How many chats were kept. Ends when one was lost without a reason, or for another than it was written for."""
    kept = sum(int(numbers[split]) for split in ("train", "valid", "test"))
    if kept + reasons.total() != len(written):
        raise SystemExit(f"{len(written)} written, but {kept} kept and {reasons.total()} dropped")
    for lost, reason in LOST.items():
        wanted = sum(one.lost == lost for one in written)
        if reasons[reason] != wanted:
            raise SystemExit(f"{wanted} written as {lost}, but {reasons[reason]} dropped: {reason}")
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chats", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    written = Desk(asked.seed).chats(asked.chats)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lines = "".join(json.dumps({"messages": one.messages}) + "\n" for one in written)
        (folder / "desk.jsonl").write_text(lines, encoding="utf-8")
        llmops(folder, "init", "--data", "desk.jsonl")
        llmops(folder, "prepare", "desk.yaml")
        place = folder / "runs" / "desk" / "latest" / "prepare"
        numbers, reasons = json.loads((place / "report.json").read_text())["numbers"], dropped(place)
    kept = checked(written, numbers, reasons)
    for reason, count in reasons.most_common():
        sys.stdout.write(f"{count:>7,}  {reason}\n")
    sys.stdout.write(f"{kept:>7,}  kept\n{kept + reasons.total():>7,}  in all\n")
    mended = {name: count for name, count in numbers.items() if name.startswith(("mended", "cut_"))}
    found = {"read": numbers["rows_read"], "kept": kept, "dropped": dict(reasons.most_common()), **mended}
    found["prepare_s"] = numbers["took_s"]
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
