"""A job's record and files in the object store."""

import contextlib

import obstore

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
