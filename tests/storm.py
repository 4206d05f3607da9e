"""A storm of requests to a server that writes chats: random lengths, clients that hang up, bodies that are wrong."""

from __future__ import annotations

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.standin import Caller

CHAT = "/v1/chat/completions"


def storm(port: int, requests: range, workers: int = 8) -> dict[str, int]:
    """Chats of random lengths, hang-ups and bad bodies; how many of each."""
    counts = {"answered": 0, "hung up": 0, "refused": 0}
    lock, places = threading.Lock(), iter(requests)

    def one(place: int, dice: random.Random) -> str:
        words = "".join(dice.choice("helo thrparcis ") for _ in range(dice.randint(1, 120)))
        body = {"messages": [{"role": "user", "content": words}], "max_tokens": dice.randint(1, 80), "ignore_eos": True}
        body |= {"stream": dice.random() < 0.6, "temperature": dice.choice([0, 1])}
        kind = dice.random()
        if kind < 0.2:
            data = dice.choice(
                [b"", b"{", json.dumps({**body, "n": 30}).encode(), json.dumps({**body, "stop": 5}).encode()]
            )
            status = Caller(port).raw("POST", CHAT, data)[0]
            assert status == 400
            return "refused"
        caller = Caller(port)
        caller.connection.request("POST", CHAT, json.dumps(body).encode(), {"Content-Type": "application/json"})
        if kind < 0.5:
            if dice.random() < 0.7:
                time.sleep(dice.random() * 0.01)
            if body["stream"] and dice.random() < 0.5:
                caller.connection.getresponse().read(dice.randint(1, 500))
            caller.connection.close()
            return "hung up"
        response = caller.connection.getresponse()
        raw = response.read()
        assert response.status == 200, raw
        assert b"[DONE]" in raw or b"finish_reason" in raw
        return "answered"

    def work() -> None:
        while True:
            with lock:
                place = next(places, None)
            if place is None:
                return
            how = one(place, random.Random(place))
            with lock:
                counts[how] += 1

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work) for _ in range(workers)]:
            done.result()
    assert sum(counts.values()) == len(requests)
    return counts


def idle(port: int) -> bool:
    raw = Caller(port).raw("GET", "/metrics")[2].decode()
    return "llmops_slots_active 0.0" in raw and "llmops_queue_depth 0.0" in raw
