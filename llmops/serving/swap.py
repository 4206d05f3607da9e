"""The model that answers, and the watcher that exchanges it when the champion pointer moves."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops.bundle.predictor import Predictor
from llmops.bundle.samples import SLOW, TURNS, Checked, check
from llmops.core.errors import DataError, LlmopsError
from llmops.core.machine import signature
from llmops.core.protocols import Stepper, WritingCodec
from llmops.registry import store
from llmops.serving.config import ServeSection

POLL_S = 0.5
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A predictor with its version in the registry; 0 when it does not come from there."""

    version: int
    predictor: Predictor

    def answer(self, requests: Sequence[Any], alone: bool = True) -> list[tuple[Any, int]]:
        """Each request's response, with the version that gave it; `alone`: no other batch is computed meanwhile."""
        answer = self.predictor.answer if alone else self.predictor.answer_beside
        return [(response, self.version) for response in answer(requests)]

    @property
    def lanes(self) -> int:
        """Batches that it computes at once."""
        return int(self.predictor.runtime.lanes)

    @property
    def writes(self) -> bool:
        """Whether it writes its answers token by token."""
        return self.predictor.manifest.runtime == "stepper"


def load(version: int, bundle: Path, settings: ServeSection) -> Loaded:
    """Open a bundle and answer once, so that the first client does not pay for lazy set-up; warn where it computes
    something else than where it was made, or much slower. Raises DataError."""
    model = opened(version, bundle, settings)
    if (checked := proven(model, bundle)) is not None and not checked.right:
        logger.warning(
            "the model computes something else here than where it was made: outputs of its parity samples are %.0f %% "
            "apart; make the bundle on such a machine", 100 * checked.apart,
        )  # fmt: skip
    return model


def proven(model: Loaded, bundle: Path) -> Checked | None:
    """What the bundle's parity samples say here; on another kind of processor also how long they take, with a word
    where that is long."""
    if model.writes:
        return None
    there = model.predictor.manifest.lineage.get("processor")
    elsewhere = there is not None and there != signature()
    checked = check(bundle, model.predictor.runtime, TURNS if elsewhere else 1)
    if checked is not None and elsewhere and checked.slower > SLOW:
        logger.warning(
            "answers take %.1f times as long as where the bundle was made, on another kind of processor; "
            "let `compress` choose on this one: llmops compress CONFIG", checked.slower,
        )  # fmt: skip
    return checked


def opened(version: int, bundle: Path, settings: ServeSection) -> Loaded:
    """A bundle that has answered once."""
    model = Loaded(version, Predictor.open(bundle, settings.threads, settings.slots))
    predictor = model.predictor
    if model.writes:
        warm_up(predictor.runtime, predictor.codec)
    else:
        predictor.answer([predictor.codec.sample])
    return model


def warm_up(stepper: Stepper, codec: WritingCodec) -> None:
    """Read a prompt, write one token, forget them."""
    logits = stepper.prefill(0, codec.prompt("Hello")[: stepper.context - 1] or [0])
    stepper.step({0: int(logits.argmax())})
    stepper.free(0)


class Holder:
    """Holds the model that answers new requests. Set only in the event loop."""

    def __init__(self, model: Loaded) -> None:
        self.model = model


class Watcher:
    """Follows the champion pointer of a registry: loads the new champion beside the old one, then exchanges them."""

    def __init__(
        self, registry_dir: Path, holder: Holder, settings: ServeSection, swapped: Callable[[int, bool], None]
    ) -> None:
        """`swapped` hears the version and whether it could be loaded."""
        self.registry_dir, self.holder, self.settings, self.swapped = registry_dir, holder, settings, swapped
        self._seen = holder.model.version

    async def run(self) -> None:
        """Poll until cancelled. A champion that cannot be loaded is reported once; the old one goes on answering."""
        while True:
            await asyncio.sleep(POLL_S)
            number = store.champion_number(self.registry_dir)
            if number is not None and number != self._seen:
                self._seen = number
                if number != self.holder.model.version:
                    await self._follow(number)

    async def _follow(self, number: int) -> None:
        try:
            model = await asyncio.to_thread(self._load)
        except Exception as error:
            why = "; ".join(error.mistakes[0].lines()) if isinstance(error, LlmopsError) else repr(error)
            logger.error("version %s cannot be served, version %s stays: %s", number, self.holder.model.version, why)
            self.swapped(number, False)
            return
        self._seen, self.holder.model = model.version, model
        self.swapped(model.version, True)
        await asyncio.to_thread(give_back_memory)

    def _load(self) -> Loaded:
        found = store.champion(self.registry_dir)
        assert found is not None, "the pointer was there a moment ago"
        model = opened(*found, self.settings)
        if (checked := proven(model, found[1])) is not None and not checked.right:
            what = f"it computes something else here: its parity samples are {100 * checked.apart:.0f} % apart"
            raise DataError(what, str(found[1]), "make it again on such a machine: llmops compress CONFIG")
        if model.writes != self.holder.model.writes:
            raise DataError(
                "the new champion answers in another way, at other addresses", str(found[1]), "start the server again"
            )
        return model


def give_back_memory() -> None:
    """Return what the old model held to the system; glibc keeps freed heap for itself unless told."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
