"""Other threads, cancels from them, and Ctrl-C."""

import random
import signal
import threading
import time
import unittest
from collections.abc import Callable

import peregrine

from .support import ANSWER, QUESTION, STORY, TINY_CHAT, chat, other_process, raised, tiny_chat

LONG = "On and on. " * 1500


class Threads(unittest.TestCase):
    def ticks_during(self, work: Callable[[], object]) -> tuple[int, float]:
        """How often another thread runs meanwhile, and the seconds that it takes."""
        stop, ticks = threading.Event(), 0

        def count() -> None:
            nonlocal ticks
            while not stop.wait(0.002):
                ticks += 1

        other = threading.Thread(target=count)
        other.start()
        started = time.monotonic()
        try:
            work()
        finally:
            took = time.monotonic() - started
            stop.set()
            other.join()
        return ticks, took

    def test_other_threads_run_while_the_device_works(self) -> None:
        model = tiny_chat()
        ids = (model.tokenize(LONG) * 2)[:600]
        self.assertGreater(len(ids), 500)
        for work in (lambda: model.logits(ids), lambda: model.generate(ids, max_tokens=5).text()):
            ticks, took = self.ticks_during(work)
            self.assertGreater(took, 0.1)
            self.assertGreater(ticks, took * 50, f"{ticks} in {took:.2f} s")
            # The same where the call is not made on the main thread.
            done = threading.Thread(target=work)

            def join() -> None:
                done.start()
                while done.is_alive():
                    time.sleep(0.005)

            ticks, took = self.ticks_during(join)
            self.assertGreater(ticks, took * 50, f"{ticks} in {took:.2f} s")
        # The negative control: a call that keeps the lock stops the other thread.
        ticks, took = self.ticks_during(lambda: sum(range(30_000_000)))
        self.assertLess(ticks, took * 250)

    def test_sessions_of_several_threads_answer_as_alone(self) -> None:
        answers: list[str] = []

        def ask() -> None:
            with chat() as session:
                answers.append(session.send(QUESTION).text())

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(answers, [ANSWER] * 6)

    def test_a_cancel_from_another_thread_ends_the_answer_in_its_middle(self) -> None:
        with chat() as session:
            whole = session.send(STORY, max_tokens=60).text()
            session.undo()
            for cancel in (lambda answer: answer.cancel(), lambda _: session.cancel()):
                answer = session.send(STORY)
                pieces = [next(answer), next(answer)]
                canceller = threading.Thread(target=lambda: [cancel(answer), cancel(answer)])
                canceller.start()
                pieces += answer
                canceller.join()
                self.assertEqual(answer.finish, "cancelled")
                self.assertTrue(whole.startswith("".join(pieces)) or "".join(pieces).startswith(whole))
                self.assertEqual(session.messages[-1]["content"], "".join(pieces))
                cancel(answer)  # too late for anything
                session.undo()
            self.assertEqual(session.send(QUESTION).text(), ANSWER)

    def test_a_cancel_ends_a_prompt_before_the_answer(self) -> None:
        with chat() as session:
            answer = session.send(LONG)
            threading.Timer(0.3, session.cancel).start()
            started = time.monotonic()
            self.assertEqual((answer.text(), answer.finish), ("", "cancelled"))
            self.assertLess(time.monotonic() - started, 5)
            self.assertEqual((session.messages, session.position), ([], 0))
            # Also one that comes before the first piece is asked for.
            answer = session.send(QUESTION)
            answer.cancel()
            self.assertEqual((answer.text(), answer.finish, session.messages), ("", "cancelled", []))
            self.assertEqual(session.send(QUESTION).text(), ANSWER)

    def test_a_second_call_on_a_busy_session_is_an_error(self) -> None:
        with chat() as session:
            answer = session.send(STORY)
            text = str(raised(lambda: session.send(QUESTION)))
            self.assertIn("busy", text)
            calls = [session.undo, session.fork, session.snapshot, session.clear, session.mark, lambda: session.messages]
            for call in calls:
                self.assertIsInstance(raised(call), peregrine.Busy)
            next(answer)
            self.assertIsInstance(raised(session.undo), peregrine.Busy)
            answer.close()
            session.clear()
            # A second thread in one answer.
            answer = session.send(LONG)
            first = threading.Thread(target=answer.text)
            first.start()
            time.sleep(0.1)
            self.assertIsInstance(raised(lambda: next(answer)), peregrine.Busy)
            answer.close()
            first.join()
            self.assertEqual(answer.finish, "cancelled")

    def test_threads_that_share_an_answer_get_each_piece_once(self) -> None:
        with chat() as session:
            answer = session.send(STORY, max_tokens=40)
            pieces: list[str] = []

            def read() -> None:
                while True:
                    try:
                        pieces.append(next(answer))
                    except peregrine.Busy:
                        time.sleep(0.001)
                    except StopIteration:
                        return

            threads = [threading.Thread(target=read) for _ in range(3)]
            for thread in threads:
                thread.start()
            read()
            for thread in threads:
                thread.join()
            self.assertEqual(sum(map(len, pieces)), len(answer.text()))
            self.assertEqual(answer.finish, "length")

    def test_threads_that_do_anything_do_no_harm(self) -> None:
        session = chat()
        allowed = (peregrine.Busy, peregrine.NothingThere, peregrine.NoFreeSlot, StopIteration)
        answers, unexpected = [session.send(QUESTION)], []
        until = time.monotonic() + 3

        def work(seed: int) -> None:
            choose = random.Random(seed)

            def keep() -> None:
                answers[0] = session.send(QUESTION, max_tokens=choose.randrange(5))

            calls: list[Callable[[], object]] = [
                keep,
                lambda: next(answers[0]),
                lambda: answers[0].close(),
                lambda: answers[0].cancel(),
                session.cancel,
                session.undo,
                lambda: session.fork().close(),
                lambda: session.restore(session.snapshot()),
                lambda: repr((session, answers[0], session.messages)),
                lambda: answers[0].text(),
            ]
            while time.monotonic() < until:
                try:
                    choose.choice(calls)()
                except allowed:
                    pass
                except BaseException as error:
                    unexpected.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(unexpected, [])
        answers[0].close()
        session.clear()
        self.assertEqual(session.send(QUESTION).text(), ANSWER)
        session.close()


@unittest.skipUnless(hasattr(signal, "pthread_kill"), "signals are sent to a process on Unix")
class Interrupts(unittest.TestCase):
    def interrupted(self, code: str, ready: str) -> tuple[str, float]:
        """Sends SIGINT to a process once it has printed `ready`; what it prints after KeyboardInterrupt, and the seconds to there."""
        setup = f"""
import peregrine
model = peregrine.load({str(TINY_CHAT)!r}, chunk=32)
session = model.chat(temperature=0)
"""
        process = other_process(setup + code)
        assert process.stdout is not None
        line = process.stdout.readline()
        self.assertEqual(line, ready + "\n", process.stderr.read() if line == "" else "")
        time.sleep(0.4)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        interrupted = process.stdout.readline()
        took = time.monotonic() - sent
        out, err = process.communicate(timeout=60)
        self.assertEqual((interrupted, process.returncode), ("interrupted\n", 0), err)
        return out, took

    def test_ctrl_c_ends_an_answer_and_the_session_goes_on(self) -> None:
        code = f"""
session.set_sampling(logit_bias={{id: float("-inf") for id in model.eos}})
pieces = []
try:
    for piece in session.send({STORY!r}):
        if not pieces:
            print("begun")
        pieces.append(piece)
except KeyboardInterrupt:
    print("interrupted")
given, said = "".join(pieces), session.messages[-1]["content"]
# One more piece may have been made when the signal came.
assert said.startswith(given) and len(said) - len(given) < 20, (said, given)
rest = session.resume(max_tokens=20).text()
whole = session.retry(max_tokens=len(pieces) + 20).text()
assert whole.startswith(said) and (said + rest).startswith(whole), (said, rest, whole)
print("done")
"""
        out, took = self.interrupted(code, "begun")
        self.assertEqual(out, "done\n")
        self.assertLess(took, 2)

    def test_ctrl_c_ends_a_long_prompt_and_the_session_is_as_before(self) -> None:
        code = f"""
print("begun")
try:
    session.send({LONG!r} * 4).text()
except KeyboardInterrupt:
    print("interrupted")
assert (session.messages, session.position) == ([], 0), session
print(session.send({QUESTION!r}).text())
"""
        out, took = self.interrupted(code, "begun")
        self.assertEqual(out, ANSWER + "\n")
        self.assertLess(took, 2)

    def test_ctrl_c_ends_logits_and_asyncio(self) -> None:
        code = f"""
import asyncio
async def main():
    print("begun")
    async for piece in model.generate({LONG!r} * 4):
        pass
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
print(len(model.logits([5])))
"""
        out, took = self.interrupted(code, "begun")
        self.assertEqual(out, "1\n")
        self.assertLess(took, 3)


class Loads(unittest.TestCase):
    def test_an_exception_of_progress_ends_the_load_and_is_its_exception(self) -> None:
        seen: list[tuple[str, int, int]] = []

        def progress(stage: str, done: int, total: int) -> None:
            seen.append((stage, done, total))

        peregrine.load(TINY_CHAT, progress=progress).close()
        stages, dones, totals = zip(*seen)
        self.assertEqual((set(stages), dones[-1]), ({"load"}, totals[-1]))

        def fail(stage: str, done: int, total: int) -> None:
            raise RuntimeError("enough")

        error = raised(lambda: peregrine.load(TINY_CHAT, progress=fail))
        self.assertEqual((type(error), str(error)), (RuntimeError, "enough"))

    def test_ctrl_c_ends_a_load(self) -> None:
        def interrupt(stage: str, done: int, total: int) -> None:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.1)

        error = raised(lambda: peregrine.load(TINY_CHAT, progress=interrupt))
        self.assertIsInstance(error, KeyboardInterrupt)
        self.assertEqual(chat().send(QUESTION).text(), ANSWER)
