"""Answers in an event loop."""

import asyncio
import time
import unittest

from .support import ANSWER, QUESTION, STORY, chat, tiny_chat

LONG = "On and on. " * 1500


class Loop(unittest.IsolatedAsyncioTestCase):
    async def test_pieces_are_those_of_a_plain_loop(self) -> None:
        with chat() as session:
            pieces = [piece async for piece in session.send(QUESTION)]
            session.undo()
            self.assertEqual(pieces, list(session.send(QUESTION)))
            session.undo()
            self.assertEqual(await session.send(QUESTION), ANSWER)

    async def test_answers_at_once_are_those_alone(self) -> None:
        sessions = [chat() for _ in range(4)]
        answers = await asyncio.gather(*(self.ask(session.send(QUESTION)) for session in sessions))
        self.assertEqual(answers, [ANSWER] * 4)
        for session in sessions:
            session.close()

    async def ask(self, answer) -> str:
        return "".join([piece async for piece in answer])

    async def test_the_loop_runs_meanwhile(self) -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticking = asyncio.create_task(tick())
        started = time.monotonic()
        await tiny_chat().generate(LONG[:4000], max_tokens=2)
        took = time.monotonic() - started
        ticking.cancel()
        self.assertGreater(took, 0.2)
        self.assertGreater(ticks, took * 50)

    async def test_a_cancelled_task_cancels_its_answer_and_frees_the_session(self) -> None:
        with chat() as session:
            for text in (STORY, LONG):
                pieces: list[str] = []
                answer = session.send(text)

                async def read() -> None:
                    async for piece in answer:
                        pieces.append(piece)

                task = asyncio.create_task(read())
                await asyncio.sleep(0.3)
                started = time.monotonic()
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                self.assertLess(time.monotonic() - started, 2)
                self.assertEqual(answer.finish, "cancelled")
                said = [message["content"] for message in session.messages if message["role"] == "assistant"]
                self.assertTrue("".join(said).startswith("".join(pieces)))
                session.clear()
            self.assertEqual(await session.send(QUESTION), ANSWER)

    async def test_a_timeout_ends_the_answer(self) -> None:
        with chat() as session:
            with self.assertRaises(TimeoutError):
                await asyncio.wait_for(session.send(LONG), 0.3)
            self.assertEqual(session.messages, [])

    async def test_an_error_is_raised_where_the_piece_is_awaited(self) -> None:
        with chat() as session:
            with self.assertRaisesRegex(Exception, "nothing to continue"):
                await session.resume()
            self.assertEqual(await session.send(QUESTION), ANSWER)
