"""What processes count and time for Prometheus. A gateway shows it at ``/metrics``, a worker at its metrics port.

What all gateways share is read where it is asked for: ``gateway/shared_metrics.py``. So is ``gpu_memory.py``.
"""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Buckets from a tile on a GPU to a large picture on a CPU."""

HTTP_REQUESTS = Counter("creps_http_requests", "HTTP requests answered.", ["route", "method", "status"])
HTTP_DURATION = Histogram(
    "creps_http_request_duration_seconds",
    "From an HTTP request to the beginning of its answer.",
    ["route"],
    buckets=_SECONDS,
)

QUEUE_WAIT = Histogram("creps_queue_wait_seconds", "From a request's submission to its rendering.", buckets=_SECONDS)
TILES = Counter(
    "creps_tiles",
    "Tiles of jobs: drawn, found in the store, failed (to be tried again) or dropped with their job.",
    ["result"],
)

WEBHOOKS = Counter(
    "creps_webhooks",
    "Attempts to tell a webhook of a job's end: sent, retried (later) or failed (given up).",
    ["result"],
)

CACHE_REQUESTS = Counter(
    "creps_cache_requests",
    "Requests to a cache: hit (it was kept), miss (it is made) or shared (it was being made for another request).",
    ["cache", "result"],
)

RENDER_BATCH_SIZE = Histogram(
    "creps_render_batch_size", "Requests rendered together.", buckets=(1, 2, 4, 8, 16, 32, 64)
)
RENDER_DURATION = Histogram(
    "creps_render_duration_seconds", "Rendering of one batch.", ["model", "backend"], buckets=_SECONDS
)
RENDERED_PIXELS = Counter("creps_rendered_pixels", "Pixels rendered.", ["model"])
ENCODE_DURATION = Histogram("creps_encode_duration_seconds", "Encoding of one picture.", ["format"], buckets=_SECONDS)

DROPPED_REQUESTS = Counter(
    "creps_dropped_requests", "Requests dropped because nobody waits for them any more.", ["reason"]
)
REDELIVERIES = Counter("creps_redeliveries", "Requests taken over from a worker that died.")
DEAD_LETTERS = Counter("creps_dead_letters", "Requests given up because they kept killing their workers.")

MODEL_LOADED = Gauge("creps_model_loaded", "1 for each model that this worker holds.", ["model", "digest"])
MODEL_MEMORY = Gauge(
    "creps_model_memory_bytes",
    "Memory that each loaded model takes at most, its weights and kept lines, as it counts against CREPS_MODEL_BYTES.",
    ["model", "digest"],
)
MODEL_PRECISION = Gauge(
    "creps_model_precision_psnr_db",
    "Agreement of a GPU's arithmetic with fp64, measured when the model was loaded.",
    ["model", "digest", "arithmetic", "used"],
)
MODEL_LEVELS = Gauge(
    "creps_model_precision_levels",
    "Largest difference in that measurement, in levels of 255.",
    ["model", "digest", "arithmetic", "used"],
)
MODEL_LOAD_DURATION = Histogram("creps_model_load_duration_seconds", "Loading of a model.", buckets=_SECONDS)
