"""The words of a shop: functions of its assistant, and how customers ask for each, in training rows and held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Lookup:
    """A function, what it is for, its arguments, what it gives and what is said then; and how it is asked for: in whole
    sentences, in clauses that follow "Do you know", in deeds that follow "Please", in matters that follow "I need"; and
    in the held-out sentences."""

    name: str
    description: str
    arguments: tuple[str, ...]
    gave: str
    told: str
    asked: tuple[str, ...]
    clauses: tuple[str, ...]
    deeds: tuple[str, ...]
    matters: tuple[str, ...]
    held_out: tuple[str, ...]

    def sentences(self) -> list[str]:
        """All ways of asking in training rows."""
        parts = ((CLAUSES, self.clauses), (DEEDS, self.deeds), (MATTERS, self.matters))
        return [*self.asked, *(frame.format(part) for frames, each in parts for frame in frames for part in each)]

    def tool(self) -> dict[str, Any]:
        """As OpenAI's clients send it."""
        parameters = {
            "type": "object", "properties": {name: {"type": "string"} for name in self.arguments},
            "required": list(self.arguments),
        }  # fmt: skip
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


CLAUSES = (
    "Do you know {}?", "Can you say {}?", "I wonder {}.", "Please find out {}.", "I want to know {}.", "Any idea {}?",
    "Can you let me know {}?", "I have to know {}, it is urgent.", "My question is {}.", "Would you look up {}?",
)  # fmt: skip
DEEDS = (
    "Please {}.", "Can you {}?", "Could you {} please?", "I want you to {}.", "I need you to {} today.", "Will you {}?",
    "I'm writing to ask you to {}.", "Kindly {}.", "Is it possible to {}?",
)  # fmt: skip
MATTERS = (
    "I need {}.", "Give me {}.", "{}, please.", "I'm asking about {}.", "It is about {}.", "Can you check {}?",
    "I have a question on {}.", "Let me know {}.", "I cannot find {} on your page.",
)  # fmt: skip
LOOKUPS = (
    Lookup("order_status", "Tells where an order is.", ("order",), '{"status": "on its way"}', "Order {order} is on its way.", (
        "Where is my order {order}?", "Can you track order {order}?", "Has order {order} been sent yet?",
        "When will {order} arrive?", "What is the status of order {order}?", "Is my parcel {order} on its way?",
        "I'm still waiting for order {order}.", "My delivery {order} has not arrived.", "Where has my parcel got to? It is {order}.",
        "Please check the status of {order}.", "Did you ship {order}?", "How far is my delivery {order}?",
        "I want to know when order {order} gets here.", "Tracking for {order} please.", "Order {order}: has it left you?",
        "Any news on my parcel {order}?", "Is {order} still in the warehouse?", "{order} should have arrived by now, where is it?",
    ), (
        "where order {order} is", "when order {order} will arrive", "whether you sent {order}", "if my parcel {order} is on its way", "how far my delivery {order} has come", "why {order} has not arrived yet",
    ), (
        "track order {order}", "find my parcel {order}", "check where {order} is", "look for my delivery {order}", "tell me the status of {order}",
    ), (
        "the status of order {order}", "the tracking of my parcel {order}", "the arrival of {order}", "news of my order {order}", "the place where parcel {order} is",
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
        "how I can cancel {order}", "whether I can still stop order {order}", "if {order} can be cancelled", "whether it is too late to call off {order}",
    ), (
        "cancel order {order}", "stop order {order}", "call off my order {order}", "cancel {order}, I don't want it any more", "stop {order}, I ordered the wrong one", "not send {order}, cancel it",
    ), (
        "the cancellation of {order}", "an end to order {order}, it was a mistake", "order {order} cancelled", "my order {order} stopped",
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
        "how I get my money back for {order}, it came {reason}", "whether you refund {order}, which is {reason}", "if I can have a refund for {order}, it was {reason}",
    ), (
        "refund order {order}, it arrived {reason}", "give me my money back for {order}, it is {reason}", "pay back order {order} because it came {reason}", "return my money, {order} was {reason}", "refund me, order {order} is {reason}",
    ), (
        "a refund for order {order}, it is {reason}", "my money back, because {order} came {reason}", "the money for {order}, it was {reason}", "a refund: {order} arrived {reason}",
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
        "when you open in {city}", "until when the store in {city} is open", "if the {city} shop is open on Sunday", "when the {city} store closes", "whether you are closed in {city} on Monday", "from what time the shop in {city} is open",
    ), (
        "tell me when {city} opens", "say when the {city} store closes", "tell me the hours of the shop in {city}", "look up when {city} is open",
    ), (
        "the opening hours in {city}", "the hours of the {city} store", "the closing time in {city}", "your opening times in {city}", "the time you close in {city}",
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
        "whether {city} has the {product}", "if the {product} is in stock in {city}", "whether a {product} is left in {city}", "how many of the {product} there are in {city}", "if the {product} is sold out in {city}", "whether I can get a {product} in {city}",
    ), (
        "check if {city} has a {product}", "see whether the {product} is in stock in {city}", "look for a {product} in the {city} store", "check the stock of {product} in {city}",
    ), (
        "the stock of the {product} in {city}", "a {product}, is there one left in {city}", "a {product} from the {city} store, if it is available", "the number of the {product} in {city}",
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
        "how much shipping to {country} is", "what delivery to {country} costs", "what you charge for postage to {country}", "if shipping to {country} is expensive", "what the fee is for sending to {country}",
    ), (
        "tell me the price of shipping to {country}", "say what delivery to {country} costs", "work out the postage to {country}", "look up the shipping fee for {country}",
    ), (
        "the price of delivery to {country}", "the shipping costs to {country}", "the postage for a parcel to {country}", "the delivery fee, I live in {country}", "the shipping charges for {country}",
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
        "how much is on gift card {card}", "what my voucher {card} is worth", "if there is money left on card {card}", "what the balance of gift card {card} is", "how much money remains on voucher {card}",
    ), (
        "check my gift card {card}", "tell me the balance of voucher {card}", "look up what is left on gift card {card}", "see how much is on my card {card}",
    ), (
        "the balance of gift card {card}", "the money on my voucher {card}", "the value of gift card {card}", "what is left on voucher {card}",
    ), (
        "Could you tell me the balance of my gift card {card}?", "How much money is on voucher {card}?",
        "Is something left on gift card {card}?", "I would like to know what is left on my gift card, {card}.",
        "What is my voucher {card} worth?", "Please check the balance on gift card {card}.",
    )),
)  # fmt: skip

FIRSTS = "Nor Ash Wil Had Brad Thorn Kings Mar Stan Whit Hol Lang East West Cam Red Al Bur Ox Pen".split()
LASTS = "ton bury ford ley ham stead by field wick mouth port dale worth ness chester".split()
NEW_CITIES = "Bristol Reading Cardiff Glasgow Perth Dundee".split()
LOOKS = (
    "blue red oak tea wool big small old round black white cheap glass paper silver summer kitchen garden tall wide thin "
    "heavy light pine cotton silk brass copper marble plain striped folding hanging office winter baby travel yellow "
    "brown pink modern double single large square"
).split()
THINGS = (
    "lamp shelf pot chair rug kettle knife clock bench coat mug basket table tray jug bed box hat stool bag plate towel "
    "pillow blanket curtain mirror bottle spoon drawer cabinet ladder bucket brush candle vase cup toaster heater fan "
    "grill bin rack tent scarf wallet"
).split()
NEW_PRODUCTS = ("green sofa", "soup bowl", "picture frame", "steel pan", "door mat", "reading desk")
COUNTRIES = "France Spain Italy Norway Sweden Poland Austria Belgium Portugal Greece Canada Japan Ireland Malta".split()
LANDS = "land ia stan any ica ora".split()
NEW_COUNTRIES = "Germany Denmark Finland Iceland Croatia Cyprus".split()
REASONS = (
    "broken dirty scratched torn incomplete late faulty cracked empty stained unusable leaking smashed dented burnt "
    "rusty mouldy loose crooked chipped ripped open used wrong missing cold melted noisy dead smelly sticky rotten "
    "defective ruined squashed faded spoiled worn dusty mixed"
).split()
NEW_REASONS = "damaged bent wet".split()
OPENERS = (
    "", "", "", "", "Hello, ", "Hi, ", "Good morning. ", "Excuse me, ", "Hey! ", "Quick question: ", "Dear team, ",
    "Sorry to bother you. ", "Good evening, ", "Hello there! ", "Thanks for the last answer. ", "And now: ", "Also, ",
)  # fmt: skip
NEW_OPENERS = ("", "Good day. ", "Hello again. ", "One more thing: ")
CLOSERS = ("", "", "", " Thanks.", " Thank you!", " Please be quick.", " Cheers")
SMALL_TALK = {
    "Hello, how can I help you?": (
        "Hello!", "Hi", "Hi there", "Hello, is anybody there?", "Hey", "Good morning", "Good evening", "Good afternoon to you", "I have a question", "Can you help me?",
    ),
    "You are welcome. Have a good day.": (
        "Thank you, that was all.", "Thanks a lot", "Thanks!", "Great, thank you", "That helped, cheers", "Many thanks, bye", "Perfect, that is all", "Thank you so much",
    ),
    "I am the shop's assistant.": (
        "Who are you?", "Are you a person?", "Am I talking to a robot?", "What are you?", "What is your name?", "Who is this?",
    ),
    "I can only help with the shop.": (
        "What is the weather like?", "Tell me a joke.", "Sing a song for me", "Do you know a good film?", "What is two and two?", "Write me a poem.", "Who won the match?", "Do you like music?", "What is the capital of Peru?", "Tell me something funny",
    ),
}  # fmt: skip
