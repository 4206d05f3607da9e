"""/v1/embeddings: vectors of texts in OpenAI's shape, for models that have an encoder."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, StrictInt, StrictStr
from pydantic import ValidationError as Invalid

from llmops.core.protocols import Vector
from llmops.core.section import Section
from llmops.serving.openairefusal import known_alone, misread, refused
from llmops.serving.wire import Refusal, whole

ADDRESS = "/v1/embeddings"
MOST_TEXTS = 2048
"""Texts in one call at most, as OpenAI's clients expect; they are computed a batch after the other."""


def _listed(value: Any) -> Any:
    if isinstance(value, list) and value and all(isinstance(one, int | list) for one in value):
        raise ValueError("it is a list of tokens; a model's tokens are its own, so send texts")
    return [value] if isinstance(value, str) else value


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("a text is empty")
    return whole(text)


Text = Annotated[StrictStr, AfterValidator(_not_blank)]


class EmbeddingsBody(Section):
    """POST /v1/embeddings"""

    input: Annotated[
        list[Text],
        Field(min_length=1, max_length=MOST_TEXTS),
        BeforeValidator(_listed, json_schema_input_type=StrictStr | list[StrictStr]),
    ]
    """A text, or a list of texts."""
    encoding_format: Literal["float", "base64"] | None = None
    """`float` (default): lists of numbers; `base64`: the same as little-endian float32."""
    dimensions: StrictInt | None = None
    """Numbers in a vector: as many as the model gives. Fewer are refused: the model was not trained to be cut."""


class Embedding(Section):
    """The vector of one text."""

    object: Literal["embedding"] = "embedding"
    """What this is."""
    index: int
    """The text's place in `input`."""
    embedding: list[float] | str
    """The vector, of length 1: the cosine of two texts is the sum of the products of their numbers."""


class Usage(Section):
    """What was read."""

    prompt_tokens: int
    """Tokens of all texts."""
    total_tokens: int
    """The same."""


class EmbeddingsAnswer(Section):
    """The vectors of all texts, in their order."""

    object: Literal["list"] = "list"
    """What this is."""
    data: list[Embedding]
    """A vector for each text."""
    model: str
    """What the request called the model, or what it is called."""
    usage: Usage
    """What was read."""


def no_embeddings(task: str) -> Refusal:
    """The refusal of a model that gives no vectors."""
    do = "ask the server of an `answering` model: its encoder gives vectors"
    return Refusal(404, "no-embeddings", f"this model ({task}) gives no embeddings", do)


def read_embeddings(plain: Mapping[str, Any], width: int, most_chars: int) -> EmbeddingsBody:
    """The body of a request to a model whose vectors have `width` numbers. Raises Refusal that names the field."""
    known = known_alone(plain, EmbeddingsBody.model_fields)
    try:
        body = EmbeddingsBody.model_validate(known)
    except Invalid as error:
        raise misread(error, known) from None
    if body.dimensions not in (None, width):
        what = f"`dimensions` is {body.dimensions}; this model's vectors have {width} numbers"
        raise refused(what, f"leave it out, or send {width}", "dimensions")
    for place, text in enumerate(body.input):
        if len(text) > most_chars:
            what = f"`input[{place}]` has {len(text):,} characters"
            raise refused(what, f"send at most {most_chars:,} characters", f"input[{place}]", "text_too_long")
    return body


def answer(body: EmbeddingsBody, vectors: Sequence[Vector], model: str) -> EmbeddingsAnswer:
    """The answer to a request. Raises Refusal for a text that the model could read a part of alone."""
    for place, one in enumerate(vectors):
        if one.cut:
            what = f"`input[{place}]` has more than the {one.tokens} tokens that this model reads"
            raise refused(what, "split it", f"input[{place}]", "context_length_exceeded")
    tokens = sum(one.tokens for one in vectors)
    data = [
        Embedding(index=place, embedding=_written(one.values, body.encoding_format))
        for place, one in enumerate(vectors)
    ]
    return EmbeddingsAnswer(data=data, model=model, usage=Usage(prompt_tokens=tokens, total_tokens=tokens))


def _written(values: np.ndarray[Any, Any], encoding: str | None) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(values.astype("<f4").tobytes()).decode()
    numbers: list[float] = values.tolist()
    return numbers
