"""A job's record and files in the object store."""

import contextlib

import obstore

from service.jobs.job import FOLDER, RECORD, Job
from service.outputs.store import Store, delete_folder, put_once


async def put_record(store: Store, job: Job) -> Job:
    """Writes a job's record; the record that is there already goes before it. Raises STORE_ERRORS."""
    if await put_once(store, job.record, job.to_json().encode()):
        return job
    return await read_record(store, job.id)


async def read_record(store: Store, job_id: str) -> Job:
    """A job as the store has it.

    Raises:
        FileNotFoundError: there is none. STORE_ERRORS: it cannot be read.
        ValueError, KeyError, TypeError: it is none.
    """
    record = await obstore.get_async(store, f"{FOLDER}/{job_id}/{RECORD}")
    return Job.from_json(bytes(await record.bytes_async()))


async def remove_record(store: Store, job: Job) -> None:
    """Without its record, nobody takes what else there is of it for a job. Raises STORE_ERRORS."""
    with contextlib.suppress(FileNotFoundError):
        await obstore.delete_async(store, job.record)


async def remove(store: Store, job: Job) -> None:
    """Removes a job's record, then its files, so that what is interrupted is done again. Raises STORE_ERRORS."""
    await remove_record(store, job)
    await delete_folder(store, job.folder)
