"""Threads that compute side by side, instead of torch's threads inside every operation."""

import threading
from concurrent.futures import ThreadPoolExecutor

import torch

from model.util.cpus import available_cpus

_starting = threading.Lock()


def single_operation_pool(threads: int, name: str = "creps-render") -> ThreadPoolExecutor:
    """A pool whose threads run torch's operations on one core each; other threads are not affected.

    Small operations are faster side by side than spread over several cores, and on one core the result of an operation
    does not depend on the number of cores.
    """
    return ThreadPoolExecutor(threads, thread_name_prefix=name, initializer=_use_one_core)


def default_threads() -> int:
    """Number of cores that torch would use: those of the machine or container, or OMP_NUM_THREADS."""
    return min(torch.get_num_threads(), available_cpus())


def _use_one_core() -> None:
    # torch.set_num_threads sets the number of OpenMP and MKL threads of the calling thread, and also the default for
    # threads that are started later. A short-lived thread restores that default.
    with _starting:
        default = torch.get_num_threads()
        torch.set_num_threads(1)
        restore = threading.Thread(target=torch.set_num_threads, args=(default,))
        restore.start()
        restore.join()
