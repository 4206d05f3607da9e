"""What a shop's assistant may look up, in words of our own: functions, how customers ask for them, chats made by seed.

Held-out questions have other phrasings and other arguments than the training's: no city, product or country of theirs,
and no number, stands in a training row.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]


@dataclass(frozen=True)
class Lookup:
    """A function, what it is for, its arguments, and how it is asked for: in training and held out."""

    name: str
    description: str
    arguments: tuple[str, ...]
    gave: str
    told: str
    asked: tuple[str, ...]
    held_out: tuple[str, ...]

    def tool(self) -> dict[str, Any]:
        """As OpenAI's clients send it."""
        parameters = {
            "type": "object", "properties": {name: {"type": "string"} for name in self.arguments},
            "required": list(self.arguments), "additionalProperties": False,
        }  # fmt: skip
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


LOOKUPS = (
    Lookup("order_status", "Tells where an order is.", ("order",), '{"status": "on its way"}', "Order {order} is on its way.", (
        "Where is my order {order}?", "Can you track order {order}?", "Has order {order} been sent yet?",
        "When will {order} arrive?", "What is the status of order {order}?", "Is my parcel {order} on its way?",
        "I'm still waiting for order {order}.", "My delivery {order} has not arrived.", "Where has my parcel got to? It is {order}.",
        "Please check the status of {order}.", "Did you ship {order}?", "How far is my delivery {order}?",
        "I want to know when order {order} gets here.", "Tracking for {order} please.", "Order {order}: has it left you?",
        "Any news on my parcel {order}?", "Is {order} still in the warehouse?", "{order} should have arrived by now, where is it?",
    ), (
        "Could you find out where {order} is at the moment?", "I ordered last week, number {order}, when will it arrive?",
        "Status of my parcel {order}?", "Has my delivery {order} been sent?", "I would like to track {order}.",
        "Tell me where order {order} is, it has not arrived yet.",
    )),
    Lookup("cancel_order", "Stops an order before it is sent.", ("order",), '{"cancelled": true}', "Order {order} is cancelled.", (
        "Please cancel order {order}.", "I want to cancel {order}.", "Can I still cancel my order {order}?",
        "Stop order {order}, I don't need it any more.", "Cancel {order} before you send it.", "I changed my mind about {order}, cancel it.",
        "Call off order {order} please.", "Do not send {order}, I ordered it by mistake.", "Could you stop {order}?",
        "{order} was a mistake, please cancel.", "I'd like order {order} cancelled.", "Don't ship {order}, cancel it instead.",
        "How do I cancel {order}? Do it for me.", "I no longer want order {order}.", "My order {order} must be stopped.",
        "Please call off {order}, I ordered twice.",
    ), (
        "Would you cancel {order} for me?", "I ordered {order} by mistake, stop it please.", "Is it too late to cancel order {order}?",
        "I don't want {order} any more, please cancel it.", "Cancel my order, the number is {order}.", "Stop {order}, I changed my mind.",
    )),
    Lookup("refund", "Gives the money for an order back.", ("order", "reason"), '{"refunded": true}', "The money for order {order} is on its way back.", (
        "I want my money back for order {order}, it came {reason}.", "Please refund {order}, it is {reason}.",
        "Order {order} arrived {reason}. I'd like a refund.", "Refund for {order}: it was {reason}.",
        "Can I get a refund on {order}? It came {reason}.", "{order} is {reason}, give me my money back.",
        "My order {order} came {reason}, please pay it back.", "I'd like the money for {order} back because it is {reason}.",
        "How do I get a refund? {order} was {reason}.", "It is {reason}! Refund order {order}.",
        "Return the money for {order}, it came {reason}.", "Money back for {order} please, it arrived {reason}.",
        "Since {order} was {reason} I want a refund.", "You sent me {order} {reason}, I want my money back.",
    ), (
        "Please give me a refund for order {order}, it arrived {reason}.", "My money back please: {order} came {reason}.",
        "I would like a refund because {order} is {reason}.", "Order {order} was {reason} and I want the money back.",
        "Could you refund {order}? It was {reason}.", "Pay me back for {order}, it is {reason}.",
    )),
    Lookup("opening_hours", "Tells when a store is open.", ("city",), '{"open": "9 to 18"}', "The store in {city} is open from 9 to 18.", (
        "When are you open in {city}?", "What are the opening hours of the {city} store?", "Is the shop in {city} open on Sunday?",
        "When does the store in {city} close?", "Until when is {city} open today?", "Opening times in {city}?",
        "How late is your {city} shop open?", "What time do you open in {city}?", "Are you open in {city} tonight?",
        "Hours of the store in {city} please.", "Do you close early in {city}?", "When can I come by your store in {city}?",
        "Tell me the hours for {city}.", "Is {city} closed on holidays?", "From when is the {city} branch open?",
        "I want to visit the {city} store, when is it open?",
    ), (
        "What are your hours in {city}?", "Until what time is the store in {city} open?", "Could you tell me when {city} opens?",
        "Is your shop in {city} closed on Monday?", "Opening hours for {city}, please.", "When do you close in {city}?",
    )),
    Lookup("store_stock", "Tells whether a store has a product.", ("product", "city"), '{"in_stock": 3}', "Yes, {city} has the {product}.", (
        "Do you have the {product} in {city}?", "Is the {product} in stock in {city}?", "Can I buy a {product} at the {city} store?",
        "Does {city} have a {product} left?", "How many of the {product} are left in {city}?", "Is there a {product} in your {city} shop?",
        "I'm looking for a {product} in {city}.", "Check the stock of the {product} in {city}.", "Has the {city} store got the {product}?",
        "Would I find a {product} in {city}?", "Is the {product} sold out in {city}?", "{product} in {city}, in stock?",
        "Are there any more of the {product} in {city}?", "I'd like to pick up a {product} in {city}, have you got one?",
        "Is a {product} available in {city}?", "Stock of {product} at {city} please.",
    ), (
        "Have you got a {product} left in {city}?", "Could you check whether the {product} is in stock at your {city} store?",
        "Is a {product} still available in the {city} shop?", "Does the store in {city} have the {product}?",
        "I want a {product}, is it in stock in {city}?", "Are you sold out of the {product} in {city}?",
    )),
    Lookup("shipping_price", "Tells what shipping to a country costs.", ("country",), '{"price": "12.50"}', "Shipping to {country} is 12.50.", (
        "How much is shipping to {country}?", "What does delivery to {country} cost?", "What do you charge to ship to {country}?",
        "Shipping costs for {country}?", "How expensive is it to send a parcel to {country}?", "Do you ship to {country}, and for how much?",
        "Price of postage to {country} please.", "What would it cost to send this to {country}?", "Is delivery to {country} free?",
        "How much is postage to {country}?", "I live in {country}, what is the shipping fee?", "Tell me the shipping price to {country}.",
        "What are the delivery charges for {country}?", "Can you send to {country}, and what is the price?",
        "I need the cost of shipping to {country}.", "Delivery fee to {country}?",
    ), (
        "What is the price of shipping to {country}?", "How much do you charge for delivery to {country}?",
        "I would like to know what postage to {country} costs.", "What is the shipping cost if I live in {country}?",
        "How much does it cost to ship to {country}?", "Could you tell me the delivery fee for {country}?",
    )),
    Lookup("gift_card_balance", "Tells what is left on a gift card.", ("card",), '{"balance": "25.00"}', "There is 25.00 left on card {card}.", (
        "How much is left on my gift card {card}?", "What is the balance of gift card {card}?", "Check gift card {card} please.",
        "Is there any money on gift card {card}?", "I have a voucher {card}, what is it worth?", "Balance of voucher {card}?",
        "Tell me the balance on card {card}.", "How much can I spend with gift card {card}?", "What is still on my voucher {card}?",
        "Is my gift card {card} empty?", "Gift card {card}: how much money is left?", "My voucher is {card}, how much is on it?",
        "Can you look up the balance of {card}, a gift card?", "What remains on the gift card {card}?",
        "I got a gift card, number {card}, what is the balance?",
    ), (
        "Could you tell me the balance of my gift card {card}?", "How much money is on voucher {card}?",
        "Is something left on gift card {card}?", "I would like to know what is left on my gift card, {card}.",
        "What is my voucher {card} worth?", "Please check the balance on gift card {card}.",
    )),
)  # fmt: skip

CITIES = (
    "Leeds York Bath Oxford Dover Exeter Truro Derby Lincoln Chester Durham Norwich Ipswich Luton Preston Hull".split()
)
NEW_CITIES = "Bristol Reading Cardiff Glasgow Perth Dundee".split()
PRODUCTS = (
    "blue lamp", "oak shelf", "tea pot", "desk chair", "wool rug", "red kettle", "bread knife", "bath mat", "wall clock",
    "garden bench", "rain coat", "coffee mug", "paper basket", "bed side table", "silver tray", "glass jug",
)  # fmt: skip
NEW_PRODUCTS = ("green sofa", "soup bowl", "picture frame", "steel pan", "door mat", "reading lamp")
COUNTRIES = "France Spain Italy Norway Sweden Poland Austria Belgium Portugal Greece Canada Japan Ireland Malta".split()
NEW_COUNTRIES = "Germany Denmark Finland Iceland Croatia Cyprus".split()
REASONS = "broken dirty scratched torn incomplete late".split()
NEW_REASONS = "damaged bent wet".split()
OPENERS = (
    "",
    "",
    "",
    "Hello, ",
    "Hi, ",
    "Good morning. ",
    "Excuse me, ",
    "Hey! ",
    "Quick question: ",
    "Sorry to bother you. ",
)
NEW_OPENERS = ("", "Good evening. ", "Hello there. ", "One more thing: ")
CLOSERS = ("", "", "", " Thanks.", " Thank you!", " Please be quick.", " Cheers")
SMALL_TALK = {
    "Hello!": "Hello, how can I help you?", "Good evening": "Good evening, how can I help you?",
    "Thank you, that was all.": "You are welcome. Have a good day.", "Thanks a lot": "You are welcome. Have a good day.",
    "Who are you?": "I am the shop's assistant.", "Are you a person?": "No, I am the shop's assistant.",
    "Tell me a joke.": "I can only help with the shop.", "What is the weather like?": "I can only help with the shop.",
}  # fmt: skip
OFFERED = (3, 5)
"""Tools in one request: at least, at most."""


def rows(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Training chats; of ten, seven are a question with its call, two go on to its result, one is small talk."""
    dice = random.Random(seed)
    for number in range(count):
        if number % 10 == 9:
            said, answer = dice.choice(list(SMALL_TALK.items()))
            messages = [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]
            yield {"messages": messages, "tools": offered(dice.choice(LOOKUPS), dice)}
            continue
        lookup = LOOKUPS[number % len(LOOKUPS)]
        given = arguments(lookup, dice, held_out=False)
        said = dice.choice(OPENERS) + dice.choice(lookup.asked).format(**given) + dice.choice(CLOSERS)
        messages = [{"role": "user", "content": said}, called(lookup.name, given)]
        if number % 10 > 6:
            messages.append({"role": "tool", "tool_call_id": "call_1", "content": lookup.gave})
            messages.append({"role": "assistant", "content": lookup.told.format(**given)})
        yield {"messages": messages, "tools": offered(lookup, dice)}


def questions(each: int, seed: int) -> Iterator[tuple[str, Lookup, dict[str, str], list[dict[str, Any]]]]:
    """Held-out questions: its words, what must be called with which arguments, and the tools that are offered; every
    phrasing `each` times."""
    dice = random.Random(seed)
    for lookup in LOOKUPS:
        for phrasing in lookup.held_out * each:
            given = arguments(lookup, dice, held_out=True)
            yield dice.choice(NEW_OPENERS) + phrasing.format(**given), lookup, given, offered(lookup, dice)


def offered(lookup: Lookup, dice: random.Random) -> list[dict[str, Any]]:
    """Some tools in any order, the one that is needed among them."""
    others = dice.sample([one for one in LOOKUPS if one is not lookup], dice.randint(*OFFERED) - 1)
    return [one.tool() for one in dice.sample([lookup, *others], len(others) + 1)]


def called(name: str, given: dict[str, str]) -> Message:
    """The assistant's message with a call."""
    function = {"name": name, "arguments": json.dumps(given)}
    call = {"id": "call_1", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def arguments(lookup: Lookup, dice: random.Random, held_out: bool) -> dict[str, str]:
    """Arguments drawn by chance; numbers are odd in training and even when they are held out."""
    number = 2 * dice.randint(10_000, 49_999) + (0 if held_out else 1)
    drawn = {
        "order": f"{number}",
        "card": f"{dice.choice('GV')}{number}",
        "city": dice.choice(NEW_CITIES if held_out else CITIES),
        "product": dice.choice(NEW_PRODUCTS if held_out else PRODUCTS),
        "country": dice.choice(NEW_COUNTRIES if held_out else COUNTRIES),
        "reason": dice.choice(NEW_REASONS if held_out else REASONS),
    }
    return {name: drawn[name] for name in lookup.arguments}
