"""The chat on the shipped help pages: what the check of faithfulness lets through, and what becomes of follow-ups.

    python benchmarks/assistant.py [BUNDLE]

Without a bundle: faithful wordings that are kept (entries after a greeting, 16 paraphrases made for this), and wrong
ones that pass: another entry's words, an entry with one number changed, an entry with a false sentence added.
With the bundle of configs/assistant.yaml (registry/assistant/versions/N/bundle): 20 questions about other things, alone
and each after 20 held-out questions, and how many are answered although nothing fits.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np

from llmops.bundle.predictor import Predictor
from llmops.tasks.answering.config import PhraseSection
from llmops.tasks.answering.faithful import DIGITS, check

ROOT = Path(__file__).parent.parent
LEAST = PhraseSection(url="http://127.0.0.1/v1", model="any").supported
FALSE = " Our team will gladly bring another present to your neighbours tomorrow afternoon for nothing."
PARAPHRASES = {
    "delivery/times": (
        "If you order before 2 pm on a working day, your parcel leaves our warehouse that same day, and "
        "delivery inside the country takes 2 to 3 working days."
    ),
    "delivery/costs": ("Standard delivery costs 4.90 euros, but it is free for orders from 60 euros."),
    "delivery/express": (
        "Yes! With express delivery your parcel comes on the next working day if you order before noon. "
        "It costs 9.90 euros, and furniture is excluded."
    ),
    "delivery/abroad": (
        "We do deliver to Switzerland: it takes four to seven working days and costs 12.90 euros. Please"
        " note that you pay the customs duties yourself."
    ),
    "delivery/tracking": (
        "You'll get an e-mail with a tracking link once the parcel has left us. The link is also in your"
        " account under My orders."
    ),
    "delivery/late": (
        "I'm sorry your parcel is late! If tracking hasn't moved for three working days, please write to"
        " us via the contact form with your order number."
    ),
    "delivery/neighbour": (
        "Don't worry: the courier leaves it with a neighbour or at a parcel shop, and the card in your "
        "letter box tells you where. They keep it for seven days."
    ),
    "delivery/address-change": (
        "Until your order is packed you can change the address yourself under My orders, with Change address."
    ),
    "delivery/pickup": ("Yes, you can pick up your order for free at our shop in Lindenstrasse 12."),
    "delivery/furniture": (
        "Large furniture is carried by two people into the room that you choose. The carrier will call "
        "you first to agree on a day."
    ),
    "delivery/partial": (
        "We'll send what is in stock right away and the missing item later; you pay no extra postage."
    ),
    "delivery/damaged-parcel": (
        "Please send us photos of the box and the damaged item within seven days through the contact "
        "form. You'll receive a replacement or your money back."
    ),
    "returns/period": (
        "You have 30 days after receiving unused items to return them, and sale items can be returned too."
    ),
    "returns/how": (
        "Just open your order under My orders, choose Return items, print the label and stick it on the "
        "parcel. Then take it to any parcel shop."
    ),
    "returns/costs": ("Returning is free inside the country; from abroad you would have to pay the postage."),
    "returns/refund-time": ("You'll get your money within five working days after we have received your return."),
}
OFF_TOPIC = (
    "what is the capital of france|tell me a joke|who won the world cup in 2014|can you write me a poem "
    "about autumn|what's 17 times 23|how do i bake sourdough bread|is it going to rain tomorrow|who is "
    "the president|translate hello to spanish|what is the meaning of life|recommend a good movie|how tall"
    " is mount everest|my cat is sick, what should i do|explain quantum computing|how do i fix a leaking "
    "tap|which stocks should i buy|what time is it in tokyo|do aliens exist|how old are you|sing me a "
    "song"
)


def rows(name: str) -> list[dict[str, str]]:
    """The rows of a shipped file."""
    with (ROOT / "data" / "faq" / name).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def share(passed: list[bool]) -> str:
    """How many of how many."""
    return f"{sum(passed)} of {len(passed)}"


def wordings() -> dict[str, str]:
    """What the check lets through."""
    questions = {row["answer"]: row["question"] for row in rows("held_out.csv")}
    by_source = {row["source"]: row["answer"] for row in rows("held_out.csv")}

    def passes(wording: str, entry: str) -> bool:
        return check(wording, entry, questions[entry], LEAST).faithful

    def changed(entry: str, found: re.Match[str]) -> str:
        return f"{entry[: found.start()]}{int(re.sub(r'[.,]', '', found[0])) + 1}{entry[found.end() :]}"

    return {
        "entries after a greeting, kept": share([passes(f"Good question! {one}", one) for one in questions]),
        "paraphrases, kept": share([passes(words, by_source[source]) for source, words in PARAPHRASES.items()]),
        "another entry, passes": share([passes(two, one) for one in questions for two in questions if one != two]),
        "a changed number, passes": share(
            [passes(changed(one, found), one) for one in questions for found in DIGITS.finditer(one)]
        ),
        "a false sentence added, passes": share([passes(one + FALSE, one) for one in questions]),
    }


def follow_ups(bundle: Path) -> dict[str, str]:
    """Questions about other things that are answered."""
    predictor = Predictor.open(bundle, 1)
    turn, rng = predictor.codec.turn, np.random.default_rng(0)
    strange, held_out = OFF_TOPIC.split("|"), [row["question"] for row in rows("held_out.csv")]
    alone = [not predictor.answer([turn([one])])[0].answer.abstained for one in strange]
    after, joined = [], []
    for one in strange:
        for place in rng.choice(len(held_out), 20, replace=False):
            asked = turn([held_out[place], one])
            said = predictor.answer([asked, *asked.readings[:2]])
            after.append(not said[0].answer.abstained)
            joined.append(not (said[1].abstained and said[2].abstained))
    return {"alone": share(alone), "as a follow-up": share(after), "were turns always joined": share(joined)}


if __name__ == "__main__":
    told = follow_ups(Path(sys.argv[1])) if len(sys.argv) > 1 else wordings()
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
