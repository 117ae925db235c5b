"""Prometheus metrics of a worker process, which serves them at its metrics port.

Those of ``service/worker/gpu_metrics.py`` are read at each scrape. Gateways have gateway_metrics.py.
"""

from prometheus_client import Counter, Gauge, Histogram

from service.runtime.metrics import SECONDS

QUEUE_WAIT = Histogram("creps_queue_wait_seconds", "From a request's submission to its rendering.", buckets=SECONDS)
TILES = Counter(
    "creps_tiles",
    "Tiles of jobs: drawn (rendered), found in the store, failed (to be retried) or dropped with their job.",
    ["result"],
)

RENDER_BATCH_SIZE = Histogram(
    "creps_render_batch_size", "Requests rendered together.", buckets=(1, 2, 4, 8, 16, 32, 64)
)
RENDER_DURATION = Histogram(
    "creps_render_duration_seconds", "Rendering of one batch.", ["model", "backend"], buckets=SECONDS
)
RENDERED_PIXELS = Counter("creps_rendered_pixels", "Pixels rendered.", ["model"])
ENCODE_DURATION = Histogram("creps_encode_duration_seconds", "Encoding of one image.", ["format"], buckets=SECONDS)

DROPPED_REQUESTS = Counter("creps_dropped_requests", "Requests dropped because no client waits for them.", ["reason"])
REDELIVERIES = Counter("creps_redeliveries", "Requests claimed from a worker that died.")
DEAD_LETTERS = Counter("creps_dead_letters", "Requests given up after repeated loss of their worker.")

MODEL_LOADED = Gauge("creps_model_loaded", "1 for each model that this worker holds.", ["model", "digest"])
MODEL_MEMORY = Gauge(
    "creps_model_memory_bytes",
    "Memory that each loaded model takes at most, its weights and kept lines, as it counts against CREPS_MODEL_BYTES.",
    ["model", "digest"],
)
MODEL_PRECISION = Gauge(
    "creps_model_precision_psnr_db",
    "Agreement of the device's arithmetic with fp64, measured when the model was loaded.",
    ["model", "digest", "arithmetic", "used"],
)
MODEL_LEVELS = Gauge(
    "creps_model_precision_levels",
    "Largest difference in that measurement, in levels of 255.",
    ["model", "digest", "arithmetic", "used"],
)
MODEL_LOAD_DURATION = Histogram("creps_model_load_duration_seconds", "Loading of a model.", buckets=SECONDS)
