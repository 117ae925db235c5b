"""A job's record and files in the object store."""

import asyncio
import contextlib
from pathlib import Path

import obstore
from obstore.store import LocalStore

from service.jobs.job import FOLDER, RECORD, Job
from service.outputs.store import Store, delete_folder


async def put_record(store: Store, job: Job) -> None:
    """Writes a job's record. Raises STORE_ERRORS."""
    await obstore.put_async(store, job.record, job.to_json().encode())


async def read_record(store: Store, job_id: str) -> Job:
    """A job as the store has it.

    Raises:
        FileNotFoundError: there is none. STORE_ERRORS: it cannot be read.
        ValueError, KeyError, TypeError: it is none.
    """
    record = await obstore.get_async(store, f"{FOLDER}/{job_id}/{RECORD}")
    return Job.from_json(bytes(await record.bytes_async()))


async def remove_record(store: Store, job_id: str) -> None:
    """Without its record, nobody takes what else there is of it for a job. Raises STORE_ERRORS."""
    with contextlib.suppress(FileNotFoundError):
        await obstore.delete_async(store, f"{FOLDER}/{job_id}/{RECORD}")


async def remove(store: Store, job_id: str) -> None:
    """Removes a job's record, then its files, so that what is interrupted is done again. Raises STORE_ERRORS."""
    await remove_record(store, job_id)
    await delete_folder(store, f"{FOLDER}/{job_id}")


async def remove_half_written(store: Store, path: str) -> None:
    """Removes what killed processes have left of an object, in a folder; buckets see to that by a rule of their own.

    A process that is writing it just now, because it hung and was taken for dead, fails in the end and tries again.
    """
    if isinstance(store, LocalStore):
        assert store.prefix is not None  # noqa: S101 - folder_store gives one
        await asyncio.to_thread(_remove_staged, Path(store.prefix) / path)


def _remove_staged(file: Path) -> None:
    for staged in file.parent.glob(f"{file.name}#*"):  # as LocalStore names them
        staged.unlink(missing_ok=True)
