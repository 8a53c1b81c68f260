"""Several processes that work together as under torchrun, forked from the test."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo  # the first step of an optimiser imports it: here once, or in every process
import torch.distributed

from tests.loopback import connect_here

# The first backward pass decides whether autograd starts threads of its own, which no forked process may inherit. Here,
# before an export makes torch count a device, it starts none.
torch.ones(1, requires_grad=True).sum().backward()  # type: ignore[no-untyped-call]


def run_ranks(count: int, work: Callable[[], Any], *, seconds: float = 120, restarts: int = 0) -> list[Any]:
    """Run some work in so many processes, with the environment that torchrun gives them, and return what each returned.

    An error is returned as well; None stands for a process that was killed.
    """
    context = multiprocessing.get_context("fork")
    # torchrun's agent has the store, which outlives the processes.
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    pipes, processes = [], []
    for rank in range(count):
        near, far = context.Pipe(duplex=False)
        settings = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": count}
        settings |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port, "TORCHELASTIC_RUN_ID": "a_launch"}
        settings |= {"TORCHELASTIC_RESTART_COUNT": restarts, "TORCHELASTIC_USE_AGENT_STORE": True}
        process = context.Process(target=_run, args=(far, work, settings))
        process.start()
        far.close()
        pipes.append(near)
        processes.append(process)
    try:
        results = [_received(pipe, seconds) for pipe in pipes]
        for process in processes:
            process.join(seconds)
            assert process.exitcode is not None, "a process hangs"
        return results
    finally:
        for process in processes:
            process.kill()
            process.join()


def _received(pipe: Any, seconds: float) -> Any:
    try:
        assert pipe.poll(seconds), "a process hangs"
        return pipe.recv()
    except EOFError:
        return None


def _run(pipe: Any, work: Callable[[], Any], settings: dict[str, Any]) -> None:
    os.environ.update({name: str(value) for name, value in settings.items()})
    socket.socket.connect = connect_here  # type: ignore[method-assign]
    torch.set_num_threads(1)
    try:
        result = work()
    except BaseException as error:
        if not isinstance(error, ValueError | KeyboardInterrupt):
            traceback.print_exc()
        result = error
    pipe.send(result)
