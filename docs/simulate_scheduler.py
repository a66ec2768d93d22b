"""Many simulated workers through Dask's own scheduler: what does it stand?

The scheduler is a process of its own, as on a cluster; all workers and the client share this
process and its one event loop, and speak to the scheduler over TCP. A task is a timer, without
pictures or models. What is measured is the scheduler's work for each task: its processor time,
which does not depend on what else the machine does, and its memory.

    python docs/simulate_scheduler.py --workers 1000 --tasks 5000 --seconds 20
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import resource
import time

import dask
import psutil
from distributed import Client, Scheduler, Worker

QUIET = {
    "distributed.scheduler.worker-ttl": None,
    "distributed.scheduler.work-stealing": True,
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.admin.system-monitor.interval": "1 hour",
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.comm.timeouts.connect": "10 minutes",
    "distributed.comm.timeouts.tcp": "10 minutes",
}
"""What a worker watches of its own process is left out: here a thousand would watch the same."""


def serve(told: multiprocessing.Queue) -> None:
    """Run a scheduler on a free port of this machine and tell its address."""

    async def run() -> None:
        async with Scheduler(host="127.0.0.1", dashboard_address="127.0.0.1:0") as scheduler:
            told.put(scheduler.address)
            await scheduler.finished()

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    dask.config.set(QUIET)
    asyncio.run(run())


async def score(batch: bytes, seconds: float, answer: int) -> bytes:
    """Stand for `fslab.evaluate.workers.score_batch`: take time, return bytes."""
    await asyncio.sleep(seconds)
    return os.urandom(answer)


async def simulate(address: str, scheduler: psutil.Process, options: argparse.Namespace) -> dict:
    """Start the workers, run the tasks, and say what the scheduler spent."""
    start = time.perf_counter()
    workers = [Worker(address, nthreads=1, memory_limit=0) for _ in range(options.workers)]
    for first in range(0, len(workers), 50):
        await asyncio.gather(*workers[first : first + 50])
    up, idle = time.perf_counter() - start, scheduler.memory_info().rss
    async with Client(address, asynchronous=True) as client:
        quiet = await processor_time(scheduler, 10.0)
        before, start = sum(scheduler.cpu_times()[:2]), time.perf_counter()
        await run_tasks(client, options)
        wall, spent = time.perf_counter() - start, sum(scheduler.cpu_times()[:2]) - before
    beside = quiet * wall
    ideal = options.tasks * options.seconds / options.workers
    return {
        "workers": options.workers, "tasks": options.tasks, "task_seconds": options.seconds,
        "workers_up_s": round(up, 1), "wall_s": round(wall, 1), "ideal_wall_s": round(ideal, 1),
        "tasks_per_s": round(options.tasks / wall, 1),
        "scheduler_cpu_ms_per_task": round(1000 * (spent - beside) / options.tasks, 2),
        "scheduler_cpu_share_without_tasks": round(quiet, 3),
        "scheduler_busy_share": round(spent / wall, 3),
        "scheduler_mb_with_workers": round(idle / 1e6),
        "scheduler_mb_at_the_end": round(scheduler.memory_info().rss / 1e6),
        "workers_process_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "load_average": os.getloadavg()[0],
    }  # fmt: skip


async def processor_time(process: psutil.Process, seconds: float) -> float:
    """Return the share of a processor that a process takes while nothing runs: heartbeats."""
    before, start = sum(process.cpu_times()[:2]), time.perf_counter()
    await asyncio.sleep(seconds)
    return (sum(process.cpu_times()[:2]) - before) / (time.perf_counter() - start)


async def run_tasks(client: Client, options: argparse.Namespace) -> None:
    """Keep two tasks a worker on their way and fetch what is ready, as `map_samples` does."""
    batch, finished, out = os.urandom(options.send), asyncio.Queue(), set()
    for _ in range(options.tasks):
        while len(out) >= 2 * options.workers:
            out -= await received(client, finished)
        future = client.submit(score, batch, options.seconds, options.answer, pure=False)
        future.add_done_callback(finished.put_nowait)
        out.add(future)
    while out:
        out -= await received(client, finished)


async def received(client: Client, finished: asyncio.Queue) -> set:
    """Fetch the results that are ready, at least one."""
    ready = [await finished.get()]
    while not finished.empty():
        ready.append(finished.get_nowait())
    await client.gather(ready)
    return set(ready)


def main() -> None:
    """Read the command line and print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=1000, help="simulated workers")
    parser.add_argument("--tasks", type=int, default=5000, help="tasks in all")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long a task sleeps")
    parser.add_argument("--send", type=int, default=70_000, help="bytes that go to a task")
    parser.add_argument("--answer", type=int, default=25_000, help="bytes that a task returns")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    dask.config.set(QUIET)
    spawn = multiprocessing.get_context("spawn")
    told = spawn.Queue()
    server = spawn.Process(target=serve, args=(told,), daemon=True)
    server.start()
    found = asyncio.run(simulate(told.get(), psutil.Process(server.pid), options))
    server.kill()
    print(json.dumps(found, indent=1), flush=True)
    os._exit(0)  # a thousand workers would take minutes to say goodbye


if __name__ == "__main__":
    main()
