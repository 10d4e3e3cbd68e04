"""Answers in an event loop. A step of the device takes a thread for as long as it runs; these are the threads."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from ._native import Answer

# Sessions share their steps, so each answer that waits has a thread: the more of them wait, the more a step does.
_threads = ThreadPoolExecutor(max_workers=256, thread_name_prefix="peregrine")


async def next_piece(answer: Answer) -> str:
    """The next piece; StopAsyncIteration at the end. A cancelled task cancels its answer and waits for the step under way, so that the
    session is free afterwards."""
    making = asyncio.get_running_loop().run_in_executor(_threads, next, answer, None)
    try:
        piece = await asyncio.shield(making)
    except asyncio.CancelledError:
        answer.cancel()
        await asyncio.wait([making])
        if not making.cancelled():
            making.exception()  # nobody else will ask for it
        answer.close()
        raise
    if piece is None:
        raise StopAsyncIteration
    return piece


async def whole_text(answer: Answer) -> str:
    """All of the answer's text."""
    async for _ in answer:
        pass
    return answer.text()
