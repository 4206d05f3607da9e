"""Chats as people write them: turns in any order are mended alike for rows and server, counted, cut at whole turns."""

from __future__ import annotations

import csv
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import OpenAI
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from llmops.core.errors import DataError
from llmops.core.protocols import Judged
from llmops.core.run import RunStore
from llmops.fields.cleaning import clean
from llmops.fields.config import CleanStep
from llmops.project import open_project
from llmops.starter import draft
from llmops.starter.recognise import Kind, recognise
from llmops.tasks.text_generation import TextGeneration
from llmops.tasks.text_generation.chat import Chat
from llmops.tasks.text_generation.codec import GenerationCodec
from llmops.tasks.text_generation.encoder import GenerationEncoder
from llmops.tasks.text_generation.guard import GuardedTokenizer
from llmops.tasks.text_generation.template import OWN, ChatTemplate
from llmops.tasks.text_generation.turns import greeting, in_turns
from tests import standin, tiny_chat
from tests.test_generation_data import (
    CHATML,
    LLAMA3,
    MISTRAL,
    NAMES,
    examples,
    known,
    model_folder,
    prepared,
    row_tokens,
    scratch,
    section,
)
from tests.test_loop import llmops
from tests.test_starter_tasks import prepared as drafted
from tests.test_starter_tasks import put

TASK = TextGeneration()
IMAGE = {"type": "image_url", "image_url": {"url": "https://shop.example/crack.png"}}


def user(words: Any) -> dict[str, Any]:
    return {"role": "user", "content": words}


def agent(words: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": words}


def system(words: Any) -> dict[str, Any]:
    return {"role": "system", "content": words}


def part(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


MENDED: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, int]]] = {
    "in order": ([system("be kind"), user("a"), agent("b")], [system("be kind"), user("a"), agent("b")], {}),
    "the customer twice": ([user("a"), user("b"), agent("c")], [user("a\nb"), agent("c")], {"joined": 1}),
    "the agent thrice": ([user("a"), agent("b"), agent("c"), agent("d")], [user("a"), agent("b\nc\nd")], {"joined": 2}),
    "thanks at the end": (
        [user("a"), agent("b"), user("thanks"), user("bye")], [user("a"), agent("b")], {"trailing": 2},
    ),
    "a greeting": ([agent("hello"), user("a"), agent("b")], [agent("hello"), user("a"), agent("b")], {"greeting": 1}),
    "empty turns": (
        [user("a"), agent(" "), user("b"), agent("c"), user(""), agent(None)], [user("a\nb"), agent("c")],
        {"joined": 1, "empty": 3},
    ),
    "an image beside words": (
        [user([part("it is broken"), IMAGE]), agent("b")], [user("it is broken"), agent("b")], {"parts": 1},
    ),
    "an image beside a turn with words": (
        [user([IMAGE]), user("it is broken"), agent("b")], [user("it is broken"), agent("b")], {"parts": 1},
    ),
    "an image at the end": ([user("a"), agent("b"), agent([IMAGE])], [user("a"), agent("b")], {"parts": 1}),
    "a system message further on": (
        [system("be kind"), user("a"), system("be brief"), agent("b")],
        [system("be kind\n\nbe brief"), user("a"), agent("b")], {"system": 1},
    ),
    "a system message behind the first": (
        [user("a"), system("be brief"), agent("b")], [system("be brief"), user("a"), agent("b")], {"system": 1},
    ),
    "results of tools": (
        [user("a"), agent("b"), {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}, agent("c")],
        [user("a"), agent("b"), user("\n".join(f"<tool_response>\n{n}\n</tool_response>" for n in (1, 2))), agent("c")],
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MENDED)
def test_each_mending_by_hand(name: str) -> None:
    messages, want, done = MENDED[name]
    made = TASK.example(section(), {"messages": messages})
    assert isinstance(made, dict), made
    assert (made["messages"], made.get("mended", {})) == (want, done)
    assert made["text"] == "\n".join(one["content"] for one in want if one["role"] == "user")
    again = TASK.example(section(), {"messages": want})
    assert isinstance(again, dict) and (again["messages"], again["twin"]) == (want, made["twin"])


def test_a_setting_says_what_joins_and_null_keeps_turns_as_written() -> None:
    messages = [system("s"), user("a"), user("b"), agent("c"), system("t"), agent("d"), user("thanks")]
    made = TASK.example(section(join=" / "), {"messages": messages})
    assert isinstance(made, dict)
    assert made["messages"] == [system("s\n\nt"), user("a / b"), agent("c / d")]
    kept = TASK.example(section(join=None, system="default"), {"messages": messages})
    assert isinstance(kept, dict)
    assert kept["messages"] == messages[:-1] and kept["mended"] == {"trailing": 1}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([user("a"), user("b")], "no answer follows the user's words"),
        ([agent("hello"), user("a"), agent("")], "no answer follows the user's words"),
        ([user([IMAGE]), agent("a nice cat")], "the user's turn is an image or file without words"),
        ([user("a"), agent([IMAGE]), user("b"), agent("c")], "the assistant's turn is an image or file"),
        ([user("a"), {"role": "Anna", "content": "b"}], "a role is unknown; messages[1].role is 'Anna'"),
    ],
)
def test_what_cannot_be_mended_is_said(messages: list[dict[str, Any]], reason: str) -> None:
    made = TASK.example(section(), {"messages": messages})
    assert isinstance(made, str) and made.startswith(reason)


@pytest.mark.parametrize(
    ("row", "done"),
    [
        ({"prompt": [agent("hello"), user("a"), user("b")], "chosen": "yes", "rejected": "no"},
         {"joined": 1, "greeting": 1}),
        ({"chosen": [agent("hello"), user("a"), user("b"), agent("y"), agent("es"), user("thanks")],
          "rejected": [agent("hello"), user("a\nb"), agent("no")]},
         {"joined": 2, "greeting": 1, "trailing": 1}),
    ],
)  # fmt: skip
def test_preferences_are_mended_alike(row: dict[str, Any], done: dict[str, int]) -> None:
    made = TASK.example(section("preferences"), row)
    assert isinstance(made, dict), made
    assert made["messages"] == [agent("hello"), user("a\nb")]
    assert (made["chosen"].replace("\n", ""), made["rejected"], made["mended"]) == ("yes", "no", done)


TURNS = st.lists(
    st.builds(
        lambda role, words: {"role": role, "content": words},
        st.sampled_from(["system", "user", "assistant"]),
        st.sampled_from(["", " ", "a", "b\nc", "<tool_response>\n1\n</tool_response>"]),
    ),
    max_size=12,
)


def letters(messages: list[dict[str, str]]) -> Counter[str]:
    """How often each letter is said; what may join turns is none."""
    return Counter(letter for one in messages for letter in one["content"] if letter not in " \n|")


@settings(max_examples=200, deadline=None)
@given(TURNS, st.sampled_from([None, "", "\n", " | "]))
def test_order_is_settled_once_and_no_word_is_lost(messages: list[dict[str, str]], join: str | None) -> None:
    told, _ = in_turns(messages, join)
    assert in_turns(told, join) == (told, Counter())
    assert all(one["content"].strip() for one in told)
    assert letters(told) == letters(messages)
    if join is not None:
        roles = [one["role"] for one in told]
        assert all(one != other for one, other in pairwise(roles))
        assert "system" not in roles[1:]


GREETED = [system("be kind"), agent("hello, this is Ada"), user("a parcel"), user("is late"), agent("it comes today")]
SILENT = OWN.replace(
    "{{ '<|' +", "{% if not (loop.first and message['role'] == 'assistant') %}{{ '<|' +"
).replace("{% endfor %}", "{% endif %}{% endfor %}")  # fmt: skip


@pytest.mark.parametrize(
    ("template", "greets"), [(OWN, True), (CHATML, True), (LLAMA3, True), (MISTRAL, False), (SILENT, False)]
)
def test_a_greeting_stands_first_or_with_the_users_words(template: str, greets: bool) -> None:
    """Some templates refuse an assistant that begins, and one here leaves its words out."""
    chat = Chat(GuardedTokenizer(known()), ChatTemplate(template, NAMES), "\n")
    talk = GREETED[1:]
    marked = chat.marked(talk)
    text = chat.tokenizer.tokenizer.decode(marked.tokens, skip_special_tokens=False)
    learnt = [token for token, trained in zip(marked.tokens, marked.trained, strict=True) if trained]
    assert chat.greets == greets
    assert ("hello, this is Ada\na parcel\nis late" in text) != greets
    assert text.count("hello, this is Ada") == 1
    assert "hello" not in chat.tokenizer.tokenizer.decode(learnt)
    assert "it comes today" in chat.tokenizer.tokenizer.decode(learnt)
    assert marked.alike and chat.tokens(talk[:-1]) == marked.tokens[: marked.answer]


def bundle(folder: Path, rows: list[dict[str, Any]], template: str | None = None, **more: Any) -> tuple[Path, Any]:
    """A folder with all that a codec reads, and the encoder's figures."""
    model = "llama"
    if template is not None:
        folder.mkdir(exist_ok=True)
        made = model_folder(folder / "model", known(), NAMES, template)
        (made / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 512}))
        model = str(made)
    wanted, out = section(context=512, **more), folder / "bundle"
    splits = {"train": rows, "valid": [], "test": []}
    figures = GenerationEncoder(wanted, scratch(model=model)).prepare(splits, out)
    manifest = {"settings": TASK.settings(wanted, out), "cleaning": CleanStep().plain()}
    (out / "bundle.json").write_text(json.dumps(manifest))
    return out, figures


HISTORY = [agent("hello"), user("\u200b"), user("a  parcel"), user("is late"), agent("which"), agent("one?"), user("7")]


@pytest.mark.parametrize("template", [None, MISTRAL])
@pytest.mark.parametrize("join", ["\n", " / "])
def test_the_server_reads_a_history_as_training_did(template: str | None, join: str, tmp_path: Path) -> None:
    """The codec gets the client's own messages. One of them has no words left once it is cleaned."""
    further = [] if template else [system("be brief")]  # the other family writes it elsewhere once it has answered
    history = [*HISTORY[:5], *further, *HISTORY[5:]]
    wanted = section(join=join, system=None if template else "be good")
    row = TASK.example(wanted, {"messages": [*history, agent("it comes today")]})
    assert isinstance(row, dict)
    row = TASK.cleaned(row, lambda text: clean(text, CleanStep()))
    out, figures = bundle(tmp_path, [row], template, join=join, system=wanted.system)
    whole, learnt = (row_tokens(load_file(out / "train.safetensors"), 0, only=only) for only in (False, True))
    codec = GenerationCodec(out)
    asked = codec.chat(history)
    assert whole[: len(asked)] == asked
    assert codec.text(whole[len(asked) :]).strip() == "it comes today"
    read = codec.text(asked)
    assert f"a parcel{join}is late" in read and f"which{join}one?" in read and "be good" not in read
    assert "hello" in read and "hello" not in codec.text(learnt)
    told = [warning for warning in figures["warnings"] if "lets no assistant begin: 1 greetings" in warning]
    assert len(told) == (template is not None)
    with pytest.raises(ValueError, match="no message has words"):
        codec.chat([user(" ")])


def test_orders_that_a_template_refuses_are_refused_when_they_are_kept(tmp_path: Path) -> None:
    messages = [user("a"), user("b"), agent("c")]
    for join in ("\n", None):
        [row] = examples("instructions", [{"messages": messages}], join=join)
        if join is None:
            with pytest.raises(DataError, match="roles must alternate") as refused:
                bundle(tmp_path / "kept", [row], MISTRAL, join=join)
            assert "task.join" in refused.value.mistakes[0].do
            continue
        bundle(tmp_path / "joined", [row], MISTRAL, join=join)
    [row] = examples("instructions", [{"messages": messages}], join=None)
    out, _ = bundle(tmp_path / "own", [row], join=None)
    codec = GenerationCodec(out)
    assert codec.chat(messages[:2]) != codec.chat([user("a\nb")])
    assert row_tokens(load_file(out / "train.safetensors"), 0)[: len(codec.chat(messages[:2]))] == codec.chat(
        messages[:2]
    )


def learnt(out: Path, number: int = 0) -> str:
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    return str(tokenizer.decode(row_tokens(load_file(out / "train.safetensors"), number, only=True)))


TALK = [agent("hello"), user("a parcel"), agent("which one?"), user("number 7"), agent("today"), user("thanks")]


def test_every_answer_or_the_last_alone_is_learnt(tmp_path: Path) -> None:
    [row] = examples("instructions", [{"messages": TALK}])
    for learn, want in (("every-answer", "which one?today"), ("last-answer", "today")):
        out, _ = bundle(tmp_path / learn, [row], learn=learn)
        assert learnt(out) == want


def long_talk(exchanges: int) -> list[dict[str, str]]:
    """Exchanges of 20 characters and three marks each."""
    return [one for n in range(exchanges) for one in (user(f"question {n}"), agent(f"answer {n}."))]


def decoded(out: Path, arrays: Any, number: int = 0) -> str:
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    return str(tokenizer.decode(row_tokens(arrays, number), skip_special_tokens=False))


@pytest.mark.parametrize("exchanges", [1, 2, 3, 12, 90])
def test_a_long_chat_loses_its_oldest_turns_and_keeps_the_systems_words(exchanges: int, tmp_path: Path) -> None:
    talk = [system("be kind"), agent("hello there"), *long_talk(exchanges)]
    rows = examples("instructions", [{"messages": talk}])
    figures, arrays = prepared("instructions", rows, tmp_path, train=scratch(tokenizer="characters"))
    text = decoded(tmp_path, arrays)
    head, _, rest = text.partition("<|user|>")
    first = max(0, exchanges - 2)  # two exchanges and the system's words are what 64 tokens hold
    assert head == ("<|system|>be kind<|end|>" + ("<|assistant|>hello there<|end|>" if exchanges == 1 else ""))
    assert rest == "<|user|>".join(
        f"question {n}<|end|><|assistant|>answer {n}.<|end|>" for n in range(first, exchanges)
    )
    assert figures["cut"] == 2 * (exchanges > 1)  # the row stands in valid too
    assert figures["numbers"]["cut_within"] == 0 and not figures["warnings"]


def test_results_of_tools_are_not_torn_from_their_calls(tmp_path: Path) -> None:
    tool = {"role": "tool", "content": "9"}
    talk = [user("what is 4 and 5?"), agent("call"), tool, agent("9."), user("and 5 and 4?"), agent("call"), tool]
    rows = examples("instructions", [{"messages": [*talk, agent("9 too.")]}])
    _, arrays = prepared("instructions", rows, tmp_path, train=scratch(tokenizer="characters"), context=96)
    text = decoded(tmp_path, arrays)
    assert text.startswith("<|user|>and 5 and 4?") and text.endswith("9 too.<|end|>") and "call" in text


@pytest.mark.parametrize("objective", ["instructions", "preferences"])
def test_an_exchange_that_is_too_long_alone_keeps_the_systems_words(objective: str, tmp_path: Path) -> None:
    talk = [system("be kind"), user("old"), agent("old"), user("x" * 80 + " where is it?")]
    row: dict[str, Any] = {"messages": [*talk, agent("here")]}
    if objective == "preferences":
        row = {"messages": talk, "chosen": "here", "rejected": "away"}
    rows = examples(objective, [row])
    figures, arrays = prepared(objective, rows, tmp_path, train=scratch(tokenizer="characters"))
    text = decoded(tmp_path, arrays)
    assert text.startswith("<|system|>be kind<|end|><|user|>xxxx")
    assert text.endswith("x where is it?<|end|><|assistant|>here<|end|>") and len(row_tokens(arrays, 0)) == 64
    assert (figures["cut"], figures["numbers"]["cut_within"]) == (2, 2)
    assert any(warning.startswith("in 2 rows the last exchange alone") for warning in figures["warnings"])
    if objective == "preferences":
        prompts = [len(row_tokens(arrays, n)) - len(row_tokens(arrays, n, only=True)) for n in (0, 1)]
        assert prompts[0] == prompts[1]


def support(asked: str, answer: str, number: int) -> dict[str, Any]:
    """A chat as a support desk logs it, in one of ten shapes; three cannot be learnt from."""
    shapes = [
        [user(asked), agent(answer)],
        [user("Hello."), user(asked), agent(answer)],
        [user(asked), agent("One moment."), agent(answer)],
        [user(asked), agent(answer), user("Thanks!")],
        [agent("Welcome."), user(asked), agent(answer)],
        [user(asked), agent(""), agent(answer)],
        [user([part(asked), IMAGE]), agent(answer)],
        [user([IMAGE]), agent(answer)],
        [{"role": "customer-3", "content": asked}, agent(answer)],
        [user(asked), user("Anybody?")],
    ]
    return {"messages": shapes[number % len(shapes)]}


def chats() -> list[dict[str, Any]]:
    """Forty, four of each shape."""
    return [support(asked, answer, n) for n, (asked, answer) in enumerate(tiny_chat.exchanges()[:40])]


def test_init_and_prepare_count_every_mending_and_every_row(tmp_path: Path) -> None:
    data = put(tmp_path, "desk.jsonl", chats())
    assert recognise(data) == Kind("text-generation", "instructions")
    config, numbers = drafted(tmp_path, data)
    assert (config.task.objective, config.task.join, config.prepare.max_bad_rows > 0.3) == ("instructions", "\n", True)
    assert "of the chats were mended" in (tmp_path / "desk.yaml").read_text()
    ways = ("joined", "trailing", "greeting", "empty", "parts")
    assert [numbers[f"mended_{way}"] for way in ways] == [8, 4, 4, 4, 4]
    out = tmp_path / "rooms" / "desk" / "out"
    dropped = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    reasons = Counter(row["reason"] for row in dropped)
    assert reasons == {
        "the user's turn is an image or file without words": 4,
        "a role is unknown": 4,
        "no answer follows the user's words": 4,
    }
    assert {row["detail"].partition(",")[0] for row in dropped if row["reason"] == "a role is unknown"} == {
        "messages[0].role is 'customer-3'"
    }
    assert numbers["rows_read"] == 40 == len(dropped) + sum(numbers[split] for split in ("train", "valid", "test"))
    assert numbers["mended"] == 24


def test_chats_in_the_cells_of_a_table_are_read(tmp_path: Path) -> None:
    path = tmp_path / "desk.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "messages"])
        writer.writerows([n, json.dumps([user(f"question {n}"), agent(f"answer {n}")])] for n in range(30))
    assert recognise(path) == Kind("text-generation", "instructions")
    assert TASK.example(section(), {"messages": json.dumps([user("a"), agent("b")])}) == TASK.example(
        section(), {"messages": [user("a"), agent("b")]}
    )
    assert "not the JSON of one" in str(TASK.example(section(), {"messages": "[{'role'"}))


@pytest.mark.parametrize("task", [None, "text-generation"])
def test_the_refusal_speaks_of_what_the_data_nearly_is(task: str | None, tmp_path: Path) -> None:
    rows = [{"messages": [user("a"), {"role": "Anna" if n < 7 else "agent", "content": "b"}]} for n in range(10)]
    with pytest.raises(DataError) as refused:
        draft(put(tmp_path, "desk.jsonl", rows), task=task)
    [mistake] = refused.value.mistakes
    assert "look like chats, but in 7 of 10 a role is unknown (messages[1].role is 'Anna', known are" in mistake.what
    with pytest.raises(DataError, match="look like preferences, but in 4 of 4 chosen and rejected are equal"):
        draft(put(tmp_path, "pairs.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "b"}] * 4), task=task)
    called = [{"dialog": [user("a"), agent("b")], "n": n} for n in range(4)]
    with pytest.raises(DataError, match="look like chats, in a column called dialog"):
        draft(put(tmp_path, "called.jsonl", called), task=task)
    odd = [{"messages": [user("a"), agent("b")]}] * 6 + [{"messages": [user("a")]}] * 3 + [{"messages": "?"}]
    assert recognise(put(tmp_path, "odd.jsonl", odd)) == Kind("text-generation", "instructions")
    if task is None:
        table = [{"prompt": f"some words {n}", "chosen": n % 3, "label": "ab"[n % 2]} for n in range(40)]
        assert recognise(put(tmp_path, "table.jsonl", table)).task != "text-generation"


def test_what_users_said_about_such_chats_becomes_rows() -> None:
    request = {"messages": [agent("hello"), user("a"), user("b")]}
    said = Judged("r1", 1.0, 2, None, False, "http", None, "c", 5.0, request=request, response=None)
    row = TASK.harvested(section(), said)
    assert row is not None and row["messages"] == [agent("hello"), user("a\nb"), agent("c")]
    assert greeting(row["messages"]) == ["hello"]
    assert TASK.asked(section(), request) == {"text": "a\nb"}
    assert TASK.asked(section(join=None), request) == {"text": "b"}


def test_the_loop_turns_on_such_chats_and_the_server_mends_as_training_did(tmp_path: Path) -> None:
    config = tiny_chat.project(tmp_path)
    put(tmp_path, "rows.jsonl", chats())
    plain = config.read_text().replace("steps:", "max_bad_rows: 0.5\n  steps:").replace("epochs: 3", "epochs: 1")
    config.write_text(plain.replace("context: 64", "context: 128"))
    llmops("run", config)
    folder = RunStore(open_project(config).places.runs).runs()[0].path / "compress" / "bundle"
    codec = GenerationCodec(folder)
    with (
        standin.serve_bundle(folder, tmp_path / "traffic.db", slots=2) as (_, port),
        OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=60) as client,
    ):

        def asked(*messages: dict[str, Any]) -> tuple[int, str]:
            found = client.chat.completions.create(model="m", messages=list(messages), max_tokens=8)  # type: ignore[arg-type]
            return found.usage.prompt_tokens, str(found.choices[0].message.content)  # type: ignore[union-attr]

        written = asked(agent("Welcome."), user("Hello."), user(""), user("What does a cow do?"))
        joined = asked(agent("Welcome."), user("Hello.\nWhat does a cow do?"))
        assert written == joined
        assert written[0] == len(codec.chat([agent("Welcome."), user("Hello.\nWhat does a cow do?")]))
