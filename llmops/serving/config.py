"""ServeSection: the server's settings; the config block `deploy:` is one. No torch here."""

from __future__ import annotations

from pydantic import Field

from llmops.core.section import Section


class ServeSection(Section):
    """Where the server listens, how it groups requests, what it refuses, what it remembers."""

    host: str = "127.0.0.1"
    """Address to bind; the default is reachable from this machine only."""
    port: int = Field(8080, ge=0, le=65535)
    """Port of `llmops serve`; 0 takes a free one."""
    max_batch: int = Field(32, ge=1, le=4096)
    """Requests computed together at most; those of like length go together."""
    batch_target_ms: float = Field(50.0, gt=0, le=60_000)
    """A batch has only so many requests that it should be computed in this time, as far as earlier ones tell."""
    max_wait_ms: float = Field(0.0, ge=0, le=1000)
    """How long a request that finds the model idle waits for others to join its batch. While the model computes,
    requests gather anyway."""
    slots: int = Field(8, ge=1, le=1024)
    """Models that write: answers written at once at most; each slot holds memory for a whole conversation."""
    queue: int = Field(256, ge=1, le=1_000_000)
    """Requests waiting at most; the next is refused with 429."""
    workers: int = Field(1, ge=1, le=64)
    """Processes that serve, each with a model of its own; all write one traffic log, and /metrics tells of all."""
    threads: int = Field(0, ge=0, le=1024)
    """Threads that compute in each worker; 0: the cores, shared among the workers."""
    max_texts: int = Field(64, ge=1, le=10_000)
    """Texts in one call at most (and never more than `queue`); more are refused with 413."""
    max_text_chars: int = Field(20_000, ge=1)
    """Longer texts are refused with 413. Models that write: longest correction; their prompts may fill the context."""
    max_body_kb: int = Field(1024, ge=1, le=1_048_576)
    """Larger request bodies are refused with 413, 1 KB = 1,000 bytes."""
    max_connections: int = Field(512, ge=1, le=100_000)
    """Connections open at once at most; the next is refused with 503. Each holds a file handle (`ulimit -n`)."""
    header_timeout_s: float = Field(10.0, gt=0, le=3600)
    """How long a client may take to send a request's headers, from the connection or their first byte on."""
    body_timeout_s: float = Field(30.0, gt=0, le=3600)
    """How long a client may take to send a request's body; and how long it may take none of its answer."""
    idle_timeout_s: float = Field(30.0, gt=0, le=3600)
    """How long a connection stays open between two requests. A client that waits for its answer is not idle."""
    key_env: str | None = Field(None, min_length=1)
    """The environment variable that holds a key, which clients then must send (Authorization: Bearer KEY); /livez,
    /readyz, /metrics and the page's own files are open without. Absent: the server asks nobody who they are."""
    allow_origins: list[str] = []
    """Origins (https://shop.example) whose pages may ask this server from a browser; "*": any. None by default."""
    log_requests: bool = False
    """Whether the server notes each request on stderr, as a line of JSON: its id (the header X-Request-ID, the client's
    or a new one), method, path, status, milliseconds; no word of what was said."""
    keep_traffic_days: int = Field(30, ge=1)
    """Requests older than this leave the traffic log."""
    log_text: bool = True
    """Whether the traffic log keeps the (redacted) text; without it, drift and corrections have nothing to read."""
    redact_log: bool = True
    """Whether personal data is redacted in the traffic log."""
