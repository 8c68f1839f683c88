"""`GET /metrics`: what Prometheus asks a server for.

Names begin with `koboshi_`. Labels have few values: paths are those of the application's table, never a request's own.
"""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ..conversation.turn import Answer

_SECONDS = (0.05, 0.2, 1, 5, 20, 60, 300)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The counts of one server."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    requests: Counter = field(init=False)
    seconds: Histogram = field(init=False)
    under_way: Gauge = field(init=False)
    tokens: Counter = field(init=False)
    swaps: Counter = field(init=False)
    model: Gauge = field(init=False)

    def __post_init__(self) -> None:
        made = {
            "requests": Counter("koboshi_requests", "Requests answered.", ["path", "status"], registry=self.registry),
            "seconds": Histogram(
                "koboshi_request_seconds",
                "Until the response began.",
                ["path"],
                buckets=_SECONDS,
                registry=self.registry,
            ),
            "under_way": Gauge("koboshi_requests_under_way", "Requests being answered.", registry=self.registry),
            "tokens": Counter("koboshi_tokens", "Tokens of chat replies.", ["kind"], registry=self.registry),
            "swaps": Counter("koboshi_swaps", "Changes of the live model.", ["result"], registry=self.registry),
            "model": Gauge("koboshi_model_info", "The live model: 1.", ["name", "hash"], registry=self.registry),
        }
        for name, metric in made.items():
            object.__setattr__(self, name, metric)

    def count_reply(self, answer: Answer) -> None:
        """Count the tokens of one reply."""
        self.tokens.labels("written").inc(len(answer.reply.ids))
        self.tokens.labels("prompt").inc(answer.prompt_tokens)
        self.tokens.labels("reused").inc(answer.reply.reused_tokens)

    def live(self, name: str, model_hash: str) -> None:
        """Say which model is live."""
        self.model.clear()
        self.model.labels(name, model_hash).set(1)

    def page(self) -> tuple[bytes, str]:
        """Return all of it as text, and the type of that text."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
