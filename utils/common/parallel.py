"""Jobs side by side: in processes of this machine or on a Dask cluster, each as soon as what it needs is there.

Processes are used again for the next job, so that torch is imported once in each. Both kinds of worker are reached
through the same interface, `concurrent.futures.Executor`.
"""

import contextlib
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import dataclass
from typing import Any, TypeVar

from tqdm import tqdm

from utils.common.cli import UserError, fold

GLANCE = 0.5  # seconds between two looks at the jobs that run
_one_job = threading.Lock()


@dataclass(frozen=True)
class Job:
    """A call, without arguments, that another process can make, and the names of the jobs that come before it."""

    name: str
    call: Callable[[], Any]
    needs: tuple[str, ...] = ()


def finish(
    jobs: Iterable[Job],
    executor: Executor,
    at_once: float = math.inf,
    on_result: Callable[[Job, Any], Iterable[Job]] = lambda job, result: (),
    on_glance: Callable[[list[str]], None] = lambda running: None,
    on_refusal: Callable[[Job, UserError], Iterable[Job]] | None = None,
) -> None:
    """Run all jobs, at most `at_once` side by side, earlier ones first among those whose needs are met.

    `on_result` sees each job's result and returns the jobs that follow from it; `on_glance` sees, twice a second, the
    names of the jobs that run. Raises UserError, naming the job, as soon as one fails for a reason the user can mend;
    or `on_refusal` sees the job and this error, and returns all jobs that are to be done in spite of it.
    """
    waiting, running, done = {job.name: job for job in jobs}, {}, set()
    while waiting or running:
        for job in [job for job in waiting.values() if done.issuperset(job.needs)]:
            if len(running) < at_once:
                with _uninterrupted():
                    running[executor.submit(_run_alone, job.call)] = waiting.pop(job.name)
        if not running:
            raise ValueError(f"{next(iter(waiting))} waits for what is no job")
        on_glance([job.name for job in running.values()])
        for future in wait(running, GLANCE, FIRST_COMPLETED).done:
            try:
                result = _result(future, running)
            except UserError as error:
                if on_refusal is None or not isinstance(future.exception(), UserError):
                    raise
                wanted = on_refusal(running.pop(future), error)
                under_way = {job.name for job in running.values()}
                waiting = {job.name: job for job in wanted if job.name not in done | under_way}
                continue
            job = running.pop(future)
            done.add(job.name)
            waiting |= {new.name: new for new in on_result(job, result)}


def finish_here(jobs: Iterable[Job], on_result: Callable[[Job, Any], Iterable[Job]] = lambda job, result: ()) -> None:
    """Run all jobs in this process, one after the other; `on_result` and errors are those of `finish`."""
    waiting, done = list(jobs), set()
    while waiting:
        job = next(job for job in waiting if done.issuperset(job.needs))
        waiting.remove(job)
        try:
            result = job.call()
        except UserError as error:
            raise _name_job(error, job) from error
        done.add(job.name)
        waiting += on_result(job, result)


def _name_job(error: UserError, job: Job) -> UserError:
    return UserError(f"{job.name}: {fold(error)}")


def _result(future: Future, running: dict[Future, Job]) -> Any:
    """What a job returned, or one sentence for why it did not."""
    try:
        return future.result()
    except UserError as error:
        raise _name_job(error, running[future]) from error
    except Exception as error:
        if not isinstance(error, BrokenExecutor) and type(error).__name__ != "KilledWorker":  # the latter is Dask's
            raise
        names = " or ".join(sorted(job.name for job in running.values()))
        raise UserError(
            f"The process of {names} was ended from outside, perhaps for want of memory; try fewer --jobs or --workers."
        ) from error


def select_with_needs(jobs: Iterable[Job], names: Iterable[str]) -> list[Job]:
    """The jobs of these names and all they need, in their order; KeyError for a name that is no job's."""
    known = {job.name: job for job in jobs}
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        job = known[waiting.pop()]
        wanted.add(job.name)
        waiting += [need for need in job.needs if need not in wanted]
    return [job for name, job in known.items() if name in wanted]


# --------------------------------------------------------------------------------------------------------- workers


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def processes(number: int) -> Iterator[Executor]:
    """A pool of this `number` of processes, which share the cores of the machine.

    They end when the block ends, and also when this process is killed. If an error or Ctrl-C leaves the block, jobs
    that still run are ended at once.
    """
    threads = max(1, cores() // number)
    with contextlib.suppress(KeyError, ValueError):
        threads = max(1, min(threads, int(os.environ["OMP_NUM_THREADS"])))
    os.environ["OMP_NUM_THREADS"] = str(threads)  # a process reads it before its torch starts
    pool = ProcessPoolExecutor(number, multiprocessing.get_context("spawn"), _end_with_parent)
    try:
        yield pool
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def cluster(address: str) -> Iterator[Executor]:
    """The workers of a Dask scheduler. Jobs that run when the block is left by an error come to their end there."""
    from distributed import Client  # a second to import, for those who ask for it

    try:
        client = Client(address, timeout=20, set_as_default=False)  # nothing but these jobs is meant for it
    except (OSError, TimeoutError, ValueError) as error:
        raise UserError(f"No Dask scheduler answers at {address}: {fold(error)[:150]}.") from error
    with client:
        executor = client.get_executor(pure=False)
        try:
            yield executor
        finally:
            executor.shutdown(wait=False)


def _end_with_parent() -> None:
    """Have this process end when its parent does, even by a signal that nobody can catch."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    tqdm.set_lock(threading.RLock())  # its own lock would outlive a process that is ended


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """A process started in the block never hears Ctrl-C: its parent, which hears it after the block, ends it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_alone(call: Callable[[], Any]) -> Any:
    """One job at a time in a process: a Dask worker may have several threads, but torch's random state is one."""
    with _one_job:
        return call()


T = TypeVar("T")


def prefetch(items: Iterable[T]) -> Iterator[T]:
    """The same items; the next one is made in a thread while the last is used."""
    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, source, end)
        while (item := following.result()) is not end:
            following = pool.submit(next, source, end)
            yield item
            del item
