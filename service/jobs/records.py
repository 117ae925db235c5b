"""Records and files of jobs in the object store. Every function raises STORE_ERRORS where the store fails."""

import asyncio
import contextlib
from pathlib import Path

import obstore
from obstore.store import LocalStore

from service.imaging.object_store import Store, delete_folder
from service.jobs.job import FOLDER, RECORD, Job


async def put_record(store: Store, job: Job) -> None:
    await obstore.put_async(store, job.path(RECORD), job.to_json().encode())


async def read_record(store: Store, job_id: str) -> Job:
    """Reads a job's record. Raises FileNotFoundError, and ValueError, KeyError or TypeError if it cannot be parsed."""
    record = await obstore.get_async(store, f"{FOLDER}/{job_id}/{RECORD}")
    return Job.from_json(bytes(await record.bytes_async()))


async def remove_record(store: Store, job_id: str) -> None:
    """Removes a job's record: what remains of the job's files is removed later."""
    with contextlib.suppress(FileNotFoundError):
        await obstore.delete_async(store, f"{FOLDER}/{job_id}/{RECORD}")


async def remove(store: Store, job_id: str) -> None:
    """Removes a job's record, then its files. Where it is interrupted, the reconciler removes the rest."""
    await remove_record(store, job_id)
    await delete_folder(store, f"{FOLDER}/{job_id}")


async def remove_half_written(store: Store, path: str) -> None:
    """Removes temporary files that killed processes left beside a local file; buckets have lifecycle rules for them.

    A process that still writes one, because it hung and counted as dead, fails and tries again.
    """
    if isinstance(store, LocalStore):
        assert store.prefix is not None  # noqa: S101 - open_store sets it
        await asyncio.to_thread(_remove_staged, Path(store.prefix) / path)


def _remove_staged(file: Path) -> None:
    for staged in file.parent.glob(f"{file.name}#*"):  # LocalStore's names for them
        staged.unlink(missing_ok=True)
