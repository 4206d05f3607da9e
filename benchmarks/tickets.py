"""Support tickets with one to four topics, made by seed: many writers, each with some words of their own."""

from __future__ import annotations

import random
from typing import Any

OWN = range(20)
"""Ways to say each thing that one writer has and no other, so a split by writer asks in words that were not learnt."""
COMMON = range(20, 24)
"""Ways that everybody has."""
COMMONLY = 0.5
"""How often a writer says a thing as everybody does."""
NOISE = 0.02
"""Share of tickets whose labels a tired person got wrong: one left out, or one too many."""
HOW_MANY = (1, 2, 3, 4)
HOW_OFTEN = (0.3, 0.38, 0.22, 0.1)

TOPICS: dict[str, str] = {
    "late delivery": """
        my parcel was promised for {day} and still has not turned up
        it has been {weeks} weeks and nothing has reached my doorstep
        the tracking page has said out for delivery since {day}
        the courier keeps missing the date you gave me
        I am still waiting for the {thing} I bought ages ago
        when will the {thing} finally get here
        the shipment seems to be stuck in some depot
        you said two days and it is now the {weeks}th week
        nobody has brought me the {thing} yet
        the package is overdue and I need it by {day}
        the van never came on {day} although I stayed in
        how much longer do I have to be patient until the {thing} arrives
        the estimated arrival has been moved back three times
        there is no sign of what I paid you to send
        my order has not left your warehouse after {weeks} weeks
        the birthday is over and the present was not here in time
        expected on {day}, nowhere to be seen
        the status has not changed since it was dispatched
        everything takes far too long with your carrier
        the mailbox is empty once again
        your driver is way behind schedule
        it should have been with me last {day}
        the box is lost somewhere between you and me
        I check the window every day and no one rings with my {thing}""",
    "damaged item": """
        the {thing} came with a crack right across it
        one corner is smashed
        it is scratched all over
        when I opened the box there were broken pieces in it
        the {thing} has a big dent
        glass fell out as soon as I unpacked it
        the housing is split open
        something must have crushed it on the way
        the surface is chipped and stained
        it arrived in bits
        the {thing} is bent out of shape
        there is a hole in the side
        the seam is torn
        the screen shows nothing but shards
        it looks as if somebody stepped on it
        the lid does not close any more because the hinge has snapped
        the packaging was soaked and so is the {thing}
        the handle came off in my hand
        it leaks everywhere because the bottom is fractured
        the paint has flaked off in transport
        it was ruined before I could use it once
        two of the legs are shattered
        the {thing} rattles, a part inside is loose and broken
        what you sent me is a wreck""",
    "wrong item": """
        I ordered a {thing} and got something else
        this is not the colour I chose
        you have sent me the wrong size
        instead of the {thing} there were socks in the parcel
        the model in the box is a different one
        somebody mixed up my order with a neighbour's
        I wanted the blue one and this is green
        the number on the label does not match what I bought
        what is in here belongs to another customer
        it is two sizes too small although I picked large
        the {thing} I unpacked is not the one from the picture
        you swapped my {thing} for an older version
        this was never in my basket
        I received an article that I did not ask for
        the left-handed one was requested, the right-handed one is here
        I now own a product I have no use for, yours by mistake
        the description said leather and this is plastic
        half of the set is from another series
        there was a mistake when you packed this, it is for someone called Miller
        it is the edition for children, not for adults
        the plug is for a different country than the one I selected
        you confused two articles
        not at all what I clicked on
        the contents are somebody else's shopping""",
    "refund": """
        I want my money back
        please return what I paid
        when will the amount be on my account again
        I sent it back {weeks} weeks ago and have not been reimbursed
        kindly credit the full sum to me
        I am still waiting for the repayment
        you owe me {amount} euros
        give me back the {amount} I spent
        how do I get reimbursed for this
        the sum was to be transferred to me by {day}
        I would like a full refund
        pay it back to the same card please
        I expect compensation in cash, not a voucher
        reverse the purchase and let me have my {amount}
        so far nothing has been paid out to me
        my returned goods are with you but the cash is not with me
        undo the sale and wire me what it cost
        the return was accepted, where is the payment to me
        let me know how I can claim the price again
        I no longer want it, send the funds home
        only part of what I spent came back
        I demand restitution of {amount} euros
        you kept my deposit
        the credit note you promised has not been settled""",
    "payment failed": """
        my card was declined at the checkout
        I can not complete the purchase because the bank says no
        the transaction was rejected twice
        at the last step it says that the charge did not go through
        I am not able to pay
        the checkout does not accept my credit card
        the page turns red when I type in my card details
        an error comes up whenever I confirm the amount
        your till refuses my money
        PayPal sends me back with a failure
        the direct debit bounced
        it will not take my card although there is enough on it
        the security code step never finishes
        I tried three cards and each was turned down
        the order is not going through, it stops at the bank
        authorisation unsuccessful, says the message
        the button for paying is dead
        I entered my IBAN and was told it was invalid
        money can not be taken from my account, says your system
        how can I settle up when every attempt is refused
        the instalment could not be collected
        my wallet app does not connect to your cash desk
        it hangs on the last screen, before the sum is booked
        buying was impossible since the processor timed out""",
    "invoice": """
        I need a receipt for my tax office
        please send me the bill as a PDF
        the VAT number is missing on the paper you enclosed
        our bookkeeping wants a proof of purchase
        the address on the invoice is not that of our company
        can you write the bill out to my employer
        where do I download the statement for {month}
        there was no invoice in the parcel
        the sums on the bill do not add up
        my accountant asks for a document with the tax shown
        the receipt of {month} has not come by mail
        I would like a copy of the billing document
        our purchase order number must stand on it
        the name of the firm is misspelt on the bill
        could you reissue the statement with another date
        the line for shipping is listed twice on the receipt
        I can not hand in my expenses without a slip from you
        the financial department is waiting for the papers
        is there an official voucher of what I spent
        the document shows net prices, we need gross
        a corrected invoice would be welcome
        email me the proof of payment please
        the bill for {month} can not be opened
        for the warranty I need the paper that says what I bought""",
    "login": """
        I can not log in any more
        my password is not accepted
        the link to reset the password never arrives
        I am locked out of my account
        it says that my user name is unknown
        the code you text me does not come
        signing in takes me back to the start page
        I have forgotten my credentials
        somebody changed my access data
        my profile is blocked after three attempts
        I do not get into the customer area
        the two factor step fails
        your site does not recognise my e-mail address
        every time I try to sign on it throws me out
        I can not remember the secret word
        the confirmation mail for my new account is missing
        access denied, that is all I see
        my old address is tied to the account and I have no more access to it
        authentication error whenever I enter my details
        how do I open my personal page again
        I want to get back into my account
        the captcha does not let me through
        my registration can not be finished
        I typed everything right and still was not let in""",
    "app crash": """
        the app closes by itself
        since the update your app freezes
        the screen stays white after I start it
        the program on my phone hangs all the time
        it crashes when I open the basket
        nothing happens when I tap on the icon
        your software is full of bugs
        the mobile version stops working every few minutes
        the site does not load in my browser
        the search returns an exception
        on my tablet it quits without a word
        the menu is frozen
        after installing the new version nothing works
        pictures do not show up on the phone
        the application is so slow that I have to kill it
        a message about an unexpected problem pops up and then it is gone
        I have to restart my phone because of your tool
        the scanner function shuts down
        scrolling makes the whole thing collapse
        there is a technical fault on your website
        it does not run on Android
        the page breaks off halfway
        your programme has stopped responding
        the buttons do not react""",
    "cancel subscription": """
        please end my membership
        I want to cancel my subscription
        stop the monthly plan
        I do not wish to renew
        take me out of the contract
        how can I terminate this
        please unsubscribe me from premium
        I hereby give notice as of {month}
        the trial is to end without becoming a plan
        do not prolong it for another year
        I would like to quit the club
        I am leaving, close my plan
        discontinue the service at the end of {month}
        no more boxes every month please
        I would like to opt out of the yearly deal
        let my abonnement run out
        my plan is no longer needed
        withdraw me from the programme
        I tried to find the button to leave, there is none
        the recurring order has to stop
        consider this my resignation from the scheme
        from {month} on I want nothing that repeats
        I have not been using premium, so finish it
        revoke my enrolment""",
    "warranty": """
        it broke after {weeks} weeks, is this covered
        the guarantee should still be valid
        I would like to have it repaired free of charge
        the {thing} stopped working within the first year
        does the manufacturer pay for the repair
        how long am I insured against faults
        it died although it is not even a year old
        who mends it
        can a technician look at it under the guarantee
        I bought two years of protection for it
        the motor gave up, it is still in the covered period
        is wear part of what you vouch for
        it wore out much too early and you have to stand for that
        please send me the form for a warranty claim
        the statutory period is not over
        the battery does not hold any more after {weeks} weeks and I have cover
        I want it fixed without paying for it
        my extended protection runs until {month}
        a fault appeared in normal use, what does your promise say
        where do I hand it in for servicing
        the replacement part should be for free
        it has quit its service long before it should
        you promised five years of carefree use
        the seller has to remedy defects, so please do""",
    "discount": """
        my voucher code does not work
        the coupon was not taken off
        you advertised ten percent off and I paid the full price
        where do I enter the promotion code
        the sale price vanished in the basket
        I was to get a rebate as a new customer
        my gift card shows no balance
        is there a reduction for students
        the loyalty points were not counted
        the special offer of {day} was not applied
        the price went down right after I bought it
        your newsletter promised me five euros less
        can you do something about the price
        the bonus for recommending a friend is missing
        I found it cheaper somewhere else, will you match that
        the campaign said buy two pay one
        no deduction was shown although I typed the code
        the voucher is said to have expired
        do seniors pay less
        I would like the reduced rate
        the Black Friday deal did not show up
        you charged the old price instead of the lowered one
        I have a certificate worth {amount} and can not redeem it
        the cashback never materialised""",
    "rude staff": """
        your agent on the phone was very rude
        the lady at the hotline hung up on me
        I was treated like a nuisance
        the man in your shop laughed at me
        nobody was willing to listen
        the tone of your reply was insulting
        your colleague shouted at me
        I have been passed on from one person to the next without a kind word
        the driver swore at my mother
        the chat person was sarcastic
        I felt not taken seriously at all
        the clerk rolled his eyes
        whoever answered was impolite and short
        your employee called me a liar
        I will not be spoken to in this way
        how can one be so unfriendly to customers
        the supervisor was arrogant
        the service was condescending from start to end
        the representative lost his temper
        they talked down to me
        there was not a hint of courtesy
        somebody of your team was offensive
        the person I spoke to did not even say goodbye
        manners seem to be unknown in your call centre""",
}
FINE: dict[str, str] = {
    "late delivery": "the delivery itself was quick; it did get here on time, that was not the problem",
    "damaged item": "nothing was broken; the goods were in perfect shape",
    "wrong item": "it is exactly the article I chose; size and colour are right",
    "refund": "I do not want any money back; keep the payment, that is fine",
    "payment failed": "paying went through without trouble; my card was accepted at once",
    "invoice": "the bill is all right; I have the receipt already",
    "login": "I can get into my account without trouble; signing in works",
    "app crash": "your app runs very well; the website works fine for me",
    "cancel subscription": "I will stay a member; no, I am not going to cancel",
    "warranty": "this is not about the guarantee; I do not need a repair",
    "discount": "the voucher was taken off as it should be; the price is fine with me",
    "rude staff": "your people were friendly; the agent on the phone was very kind",
}
"""What is well: it names a topic that the ticket is not about, so the words alone mislead."""
TALK = """hello there; good morning; dear team; hi; thanks in advance; please help; I have been a customer for years;
my number is {amount}{weeks}; I wrote to you on {day}; best regards; this is my second message; I hope you can sort this
out; have a nice day; I live in the countryside; my neighbour says the same; my children are disappointed; I only wanted
to have a quiet {day}; let me know what to do next; we moved in {month}"""
JOINS = (". ", ", and ", ". Also, ", ", besides ", ". On top of that ", "; ", ". And ")
SLOTS = {
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(),
    "month": "January March April June August October December".split(),
    "weeks": "two three four five six".split(),
    "amount": "19 25 40 59 75 120 310".split(),
    "thing": "lamp; kettle; jacket; chair; phone; backpack; clock; drill; vase; headset; blender; desk".split("; "),
}


def phrases(text: str, separator: str) -> list[str]:
    """The phrases of a block, on one line each."""
    return [" ".join(part.split()) for part in text.strip().split(separator)]


SAID = {topic: phrases(text, "\n") for topic, text in TOPICS.items()}
WELL = {topic: phrases(text, ";") for topic, text in FINE.items()}
CHATTER = phrases(TALK, ";")
assert all(len(said) == COMMON.stop for said in SAID.values())


def tickets(rows: int, seed: int, writers: range) -> list[dict[str, Any]]:
    """Different tickets {"text", "topics" (a sorted list), "truth" (without the noise), "writer"}; all of `writers`
    (numbers of `OWN`) write equally many."""
    dice = random.Random(seed)
    made: dict[str, dict[str, Any]] = {}
    while len(made) < rows:
        writer = writers[len(made) % len(writers)]
        truth = sorted(dice.sample(sorted(SAID), dice.choices(HOW_MANY, HOW_OFTEN)[0]))
        text = written(truth, writer, dice)
        made.setdefault(text, {"text": text, "topics": noisy(truth, dice), "truth": truth, "writer": f"w{writer:02}"})
    return list(made.values())


def written(topics: list[str], writer: int, dice: random.Random) -> str:
    """One ticket: each topic in the writer's own way or in a common one, in any order, among what does not matter."""
    said = [SAID[topic][dice.choice(COMMON) if dice.random() < COMMONLY else writer] for topic in topics]
    if dice.random() < 0.4:
        other = dice.choice(sorted(set(SAID) - set(topics)))
        said.append(dice.choice(WELL[other]))
    dice.shuffle(said)
    said = [*dice.sample(CHATTER, dice.randint(0, 1)), *said, *dice.sample(CHATTER, dice.randint(0, 2))]
    text = said[0]
    for part in said[1:]:
        text += dice.choice(JOINS) + part
    filled = text.format_map({name: dice.choice(words) for name, words in SLOTS.items()})
    return filled[0].upper() + filled[1:] + "."


def noisy(truth: list[str], dice: random.Random) -> list[str]:
    """The labels that a person noted."""
    if dice.random() >= NOISE:
        return truth
    if len(truth) > 1 and dice.random() < 0.5:
        return sorted(dice.sample(truth, len(truth) - 1))
    return sorted({*truth, dice.choice(sorted(SAID))})
