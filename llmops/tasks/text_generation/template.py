"""ChatTemplate: renders a model's chat template as transformers does, without transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as LoopControls
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

OWN = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""The template of models trained from scratch: ChatML with one token where ChatML writes a role and a line break."""
PLAIN = (
    "{% for message in messages %}{{ message['role'] | capitalize + ':\\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\\n' }}{% endif %}"
)
"""The template for pretrained models that come without one: needs no token but the end of text."""
PREPARED = datetime(2024, 7, 26)
"""The day that templates which write the date are told while rows are prepared: equal rows give equal tokens on every
day."""


class _Transparent(Extension):
    """`{% generation %} ... {% endgeneration %}` marks what the assistant says; here it only opens a scope."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Names(Namespace):
    """Jinja's namespace without names that begin with an underscore: the way out of a sandbox."""

    def __init__(*given: Any, **names: Any) -> None:
        self, rest = given[0], given[1:]
        names = dict(*rest, **names)
        for name in names:
            _allowed(name)
        Namespace.__init__(self, names)

    def __setitem__(self, name: str, value: Any) -> None:
        _allowed(name)
        Namespace.__setitem__(self, name, value)


class _Dict:
    """`dict(...)` for templates, without the attributes of the type."""

    def __call__(self, *given: Any, **names: Any) -> dict[Any, Any]:
        return dict(*given, **names)


class ChatTemplate:
    """A compiled template with the special tokens that it may name (bos_token, eos_token ...)."""

    def __init__(self, source: str, special: Mapping[str, str], today: datetime | None = None) -> None:
        """`today` is what `strftime_now` says; None: the time of rendering. Raises ValueError when the template cannot
        be read."""
        self.source, self.special = source, dict(special)
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Transparent, LoopControls]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = partial(_now, today)
        environment.globals["namespace"] = _Names
        environment.globals["dict"] = _Dict()
        try:
            self._compiled = environment.from_string(source)
        except TemplateError as error:
            raise ValueError(f"the chat template cannot be read: {error}") from error

    def render(self, messages: Sequence[Mapping[str, str]], generate: bool) -> str:
        """The conversation as one text; with `generate`, up to where the assistant's answer begins. Raises ValueError
        with the template's words when it refuses the conversation."""
        plain = [{str(key): value for key, value in message.items() if value is not None} for message in messages]
        try:
            return self._compiled.render(
                messages=plain, tools=None, documents=None, add_generation_prompt=generate, **self.special
            )
        except (TemplateError, TypeError, AttributeError, KeyError, IndexError, ValueError, OverflowError) as error:
            raise ValueError(f"the chat template refuses the conversation: {error}") from error


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is; Jinja's own filter would escape it for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _now(today: datetime | None, format: str) -> str:
    return (today or datetime.now()).strftime(format)


def _allowed(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a chat template may not store the name {name!r}")
