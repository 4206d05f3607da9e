"""What /metrics tells Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The server's figures, in a registry of their own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        disable_created_metrics()  # a line for each series that nobody reads
        own = self.registry = CollectorRegistry()
        self.requests = Counter("llmops_requests", "HTTP requests", ["path", "code"], registry=own)
        self.latency = Histogram("llmops_latency_seconds", "Time of a request", ["path"], buckets=SECONDS, registry=own)
        self.cut = Counter("llmops_connections_cut", "Connections closed on a client", ["why"], registry=own)
        self.batch = Histogram("llmops_batch_size", "Requests computed together", buckets=SIZES, registry=own)
        self.answers = Counter("llmops_answers", "Texts answered", registry=own)
        self.abstentions = Counter("llmops_abstentions", "Texts on which the model abstained", registry=own)
        self.feedback = Counter("llmops_feedback", "Ratings and corrections taken", registry=own)
        self.version = Gauge("llmops_model_version", "Version that answers (0: not from the registry)", registry=own)
        self.swaps = Counter("llmops_swaps", "Changes of the model", ["result"], registry=own)
        self.queue = Gauge("llmops_queue_depth", "Requests waiting", registry=own)
        self.unlogged = Gauge("llmops_unlogged", "Answers that the traffic log had to drop", registry=own)

    def watch(self, queue: Callable[[], float], unlogged: Callable[[], float]) -> None:
        """Where the gauges read their values."""
        self.queue.set_function(queue)
        self.unlogged.set_function(unlogged)

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self.registry)


class WritingMetrics(Metrics):
    """The figures of a server whose model writes."""

    def __init__(self) -> None:
        super().__init__()
        own = self.registry
        self.tokens = Counter(
            "llmops_tokens", "Tokens read (prompt, scored) and written (answer)", ["kind"], registry=own
        )
        self.finished = Counter("llmops_finished", "Answers by how they ended", ["reason"], registry=own)
        self.first_token = Histogram(
            "llmops_first_token_seconds", "Time from a request to its first token", buckets=SECONDS, registry=own
        )
        self.slots = Gauge("llmops_slots", "Answers that can be written at once", registry=own)
        self.active = Gauge("llmops_slots_active", "Answers being written", registry=own)


class ChatMetrics(Metrics):
    """The figures of a server whose found answers a generator may phrase."""

    def __init__(self) -> None:
        super().__init__()
        self.wordings = Counter(
            "llmops_wordings", "Answers to be phrased: given in the generator's words, refused by the check, missing",
            ["result"], registry=self.registry,
        )  # fmt: skip
