"""Redis keys of queue, jobs and image cache, in one place. The Lua scripts in ``*/lua`` spell the same names."""

IMAGES = "creps:queue:pictures"
BATCH = "creps:queue:batch"
TILES = "creps:queue:tiles"
STREAMS = (IMAGES, BATCH, TILES)
"""Streams of requests, the most urgent first."""

GROUP = "workers"
"""The consumer group of all workers, in each of the streams."""

DEAD = "creps:dead"
"""Stream of dead letters: requests and tiles that were given up."""

DEVICES_LOST = "creps:devices:lost"
"""Number of workers that ended because their device had failed."""

WORKERS = "creps:workers"
"""Set of worker ids, dead ones among them until they are swept."""

JOBS = "creps:jobs"
"""Sorted set of all job ids by time of creation. With ``:STATE`` appended: of the jobs in that state."""

JOBS_OWNER = "creps:jobs:owner"
"""With ``:OWNER`` appended, as JOBS, of the jobs that API keys of this owner have ordered."""

JOBS_ENDED = "creps:jobs:ended"
"""Sorted set of the ids of ended jobs, by time of their end."""

JOBS_UNTIDY = "creps:jobs:untidy"
"""Set of the ids of failed and cancelled jobs whose files are still to be removed."""

JOBS_WAITING = "creps:jobs:waiting"
"""Sorted set of the ids of jobs with tiles that no worker has taken, by the pixels that each has had."""

JOBS_COMPARED = "creps:jobs:compared"
"""``run_id`` of the Redis process that was last compared with the object store."""

DIRECTIONS_WANTED = "creps:directions:wanted"
"""Hash of the digests of models whose directions some worker must find, with the number of attempts."""

PROJECTIONS = "creps:projections"
"""Sorted set of the ids of unfinished projections, by time of creation."""

RECONCILER_LOCK = "creps:keeper"


def worker_key(worker_id: str) -> str:
    """WorkerInfo of a live worker as JSON. Expires with its heartbeat."""
    return f"creps:worker:{worker_id}"


def directions_lock_key(digest: str) -> str:
    """Held by the worker that finds the directions of a model."""
    return f"creps:directions:lock:{digest}"


def directions_failed_key(digest: str) -> str:
    """Exists for a while after the directions of a model could not be found."""
    return f"creps:directions:failed:{digest}"


def projection_key(projection_id: str) -> str:
    """Hash with everything about one projection."""
    return f"creps:projection:{projection_id}"


def projection_lock_key(projection_id: str) -> str:
    """Held by the worker that works on a projection."""
    return f"creps:projection:{projection_id}:lock"


def cancelled_key(request_id: str) -> str:
    """Exists once the client of a request has gone."""
    return f"creps:cancelled:{request_id}"


def replies_key(client_id: str) -> str:
    """Stream of replies to one gateway."""
    return f"creps:replies:{client_id}"


def job_key(job_id: str) -> str:
    """Hash with everything about one job."""
    return f"creps:job:{job_id}"


def job_events_key(job_id: str) -> str:
    """Stream of what happened to a job."""
    return f"creps:job:{job_id}:events"


def job_tiles_key(job_id: str) -> str:
    """Bitmap of a job's finished tiles."""
    return f"creps:job:{job_id}:tiles"


def image_key(key: str) -> str:
    """An encoded image, in the image cache's server."""
    return f"creps:cache:picture:{key}"
