"""Conversations: answers, what they leave, states that go elsewhere."""

import json
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import peregrine

from .support import ANSWER, FIXTURES, QUESTION, STORY, TINY_CHAT, chat, other_process, program, resident, tiny_chat


class Sessions(unittest.TestCase):
    def test_an_answer_is_streamed_and_becomes_part_of_the_conversation(self) -> None:
        with chat() as session:
            answer = session.send(QUESTION)
            self.assertEqual((answer.finish, session.__class__), (None, peregrine.Session))
            pieces = list(answer)
            self.assertGreater(len(pieces), 3)
            self.assertEqual("".join(pieces), ANSWER)
            self.assertEqual((answer.finish, answer.text(), list(answer)), ("eos", ANSWER, []))
            expected = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
            self.assertEqual(session.messages, expected)

    def test_undo_retry_fork_mark_and_resume_keep_the_text(self) -> None:
        with chat() as session:
            before = session.position
            whole = session.send(STORY, max_tokens=12).text()
            with session.fork() as other:
                rest = other.resume(max_tokens=12).text()
            self.assertEqual(session.retry(max_tokens=24).text(), whole + rest)
            self.assertEqual(session.undo(), {"role": "user", "content": STORY})
            self.assertEqual((session.messages, session.position), ([], before))
            mark = session.mark()
            session.send(QUESTION).text()
            session.back_to(mark)
            self.assertEqual((session.messages, mark.messages, mark.position), ([], [], before))
            self.assertEqual(session.send(STORY, max_tokens=12).text(), whole)
            session.clear()
            self.assertEqual(session.position, 0)

    def test_an_answer_that_is_left_ends_where_it_was(self) -> None:
        with chat() as session:
            for piece in session.send(STORY):
                break
            self.assertEqual(session.messages[-1], {"role": "assistant", "content": piece})
            rest = session.resume(max_tokens=5).text()
            self.assertEqual(session.retry(max_tokens=6).text(), piece + rest)
            with session.send(QUESTION) as answer:
                next(answer)
            self.assertEqual(answer.finish, "cancelled")
            # One that was never begun leaves nothing.
            count = len(session.messages)
            session.send(QUESTION).close()
            self.assertEqual(len(session.messages), count)

    def test_sampling_and_limits_are_those_of_the_library(self) -> None:
        model = tiny_chat()
        texts = [model.generate("Once upon", temperature=1.0, seed=seed, max_tokens=8).text() for seed in (1, 1, 2, 3)]
        self.assertEqual(texts[0], texts[1])
        self.assertGreater(len(set(texts)), 1)
        with chat() as session:
            answer = session.send(QUESTION, stop=["is"])
            self.assertEqual((answer.text(), answer.finish), ("3 plus 4 ", "stop"))
            session.clear()
            answer = session.send(QUESTION, max_tokens=2)
            self.assertEqual((answer.text(), answer.finish), ("3 plus", "length"))
            session.clear()
            session.set_sampling(logit_bias={model.tokenize("3")[0]: float("-inf")})
            self.assertFalse(session.send(QUESTION).text().startswith("3"))
            session.set_sampling(logit_bias={})
            self.assertEqual(session.retry().text(), ANSWER)
        with model.chat(temperature=0, system="You count.") as session:
            self.assertEqual(session.messages, [{"role": "system", "content": "You count."}])

    def test_constraints_hold(self) -> None:
        schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 99}}, "required": ["n"]}
        schema["additionalProperties"] = False
        with chat() as session:
            for given in (schema, json.dumps(schema)):
                answer = json.loads(session.send(QUESTION, json_schema=given, max_tokens=60).text())
                self.assertLessEqual(answer["n"], 99)
            self.assertTrue(re.fullmatch("[0-9]{2}", session.send(QUESTION, regex="[0-9]{2}").text()))
            self.assertIn(session.send(QUESTION, choice=["yes", "no"]).text(), ["yes", "no"])
            self.assertEqual(session.send(QUESTION, grammar='start: "seven"').text(), "seven")

    def test_messages_and_ids_are_taken_as_they_are(self) -> None:
        with chat() as session:
            messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
            question = {"role": "user", "content": "What is 2 plus 2?", "note": {"a": [1, None]}}
            text = session.converse([*messages, question]).text()
            self.assertEqual(session.messages[:3], [*messages, question])
            self.assertEqual(session.messages[3]["content"], text)
        model = tiny_chat()
        ids = model.tokenize("Once upon a time", add_special=True)
        text = model.generate(ids, temperature=0, max_tokens=6).text()
        self.assertEqual(model.generate("Once upon a time", temperature=0, max_tokens=6).text(), text)
        with chat() as session:
            session.feed(ids[:-1])
            self.assertEqual(session.complete(ids[-1:], max_tokens=6).text(), text)

    def test_a_snapshot_continues_in_another_process(self) -> None:
        with chat() as session:
            session.send(STORY, max_tokens=10).text()
            snapshot = session.snapshot()
            rest = session.resume(max_tokens=10).text()
            session.restore(snapshot)
            self.assertEqual(session.resume(max_tokens=10).text(), rest)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fox.state"
            path.write_bytes(snapshot)
            code = f"""
                import pathlib, peregrine
                session = peregrine.load({str(TINY_CHAT)!r}).chat()
                assert session.restore(pathlib.Path({str(path)!r}).read_bytes()) == []
                print(len(session.messages), session.resume(max_tokens=10).text(), end="")
            """
            out, err = other_process(code).communicate()
        self.assertEqual(out, f"2 {rest}", err)

    def test_states_are_those_of_the_command_line(self) -> None:
        with tempfile.TemporaryDirectory() as folder, tiny_chat().chat(temperature=0, seed=0) as session:
            saved, ours = Path(folder) / "theirs.state", Path(folder) / "ours.state"
            run = [program(), "run", "-m", str(TINY_CHAT), "--temp", "0", "--seed", "0"]
            options = dict(check=True, capture_output=True, text=True)
            subprocess.run([*run, "-p", "Once upon a time", "-n", "5", "--save-state", str(saved)], **options)
            session.complete("Once upon a time", max_tokens=5).text()
            ours.write_bytes(session.snapshot())
            rest = session.resume(max_tokens=5).text()
            session.restore(saved.read_bytes())
            self.assertEqual(session.resume(max_tokens=5).text(), rest)
            theirs = subprocess.run([*run, "--load-state", str(ours), "-n", "5"], **options).stdout
            self.assertEqual(theirs.strip(), rest.strip())

    def test_two_models_work_at_once(self) -> None:
        with peregrine.load(FIXTURES / "falcon-tiny") as other, chat() as session:
            alone = other.generate([5, 6, 7], temperature=0, max_tokens=6).text()
            answer, beside = session.send(QUESTION), other.generate([5, 6, 7], temperature=0, max_tokens=6)
            pieces = [(a, b) for a, b in zip(answer, beside)]
            self.assertGreater(len(pieces), 2)
            self.assertEqual((answer.text(), beside.text()), (ANSWER, alone))

    def test_a_thousand_sessions_leave_no_slot_and_no_memory(self) -> None:
        with peregrine.load(FIXTURES / "falcon-tiny", slots=2) as model:
            for i in range(1200):
                if i == 200:
                    before = resident()
                session = model.chat()
                answer = session.complete([5, 6, 7], max_tokens=2)
                match i % 4:
                    case 0:
                        answer.text()
                    case 1:
                        next(answer)  # left in the middle
                    case 2:
                        session.close()  # the answer is dropped after it
                    case _:
                        del answer
                        session.fork().close()
                del session
            growth = resident() - before
            print(f"\n1,000 sessions: {growth / 1e6:.1f} MB more", end=" ")
            self.assertLess(growth, 8e6)
            # Both slots are free.
            with model.chat(), model.chat():
                self.assertRaises(peregrine.NoFreeSlot, model.chat)

    def test_what_is_closed_says_so(self) -> None:
        model = peregrine.load(FIXTURES / "falcon-tiny")
        session = model.chat()
        with model:
            self.assertIn("falcon-tiny", repr(model))
        self.assertEqual(repr(model), "<peregrine.Model, closed>")
        self.assertRaises(peregrine.Closed, model.chat)
        self.assertEqual(session.complete([5], max_tokens=1).finish, None)  # a session keeps what it needs
        session.close()
        session.close()
        self.assertIn("closed", repr(session))
        self.assertRaises(peregrine.Closed, session.undo)
        session.cancel()

    def test_reprs_say_what_matters(self) -> None:
        model = tiny_chat()
        self.assertRegex(repr(model), r"<peregrine.Model .*tiny-chat on .*\): [0-9.]+ MB, 8 slots>")
        self.assertGreater(model.memory, 1_000_000)
        self.assertEqual((model.slots, model.can_chat, model.name), (8, True, str(TINY_CHAT)))
        self.assertIn(model.adapter.name, [adapter.name for adapter in peregrine.adapters()])
        self.assertIn(str(model.adapter), repr(model.adapter))
        with chat() as session:
            answer = session.send(QUESTION)
            self.assertRegex(repr(answer), "unfinished, 0 characters")
            self.assertRegex(repr(session), "busy")
            answer.text()
            self.assertRegex(repr(answer), f"eos, {len(ANSWER)} characters")
            self.assertRegex(repr(session), "2 messages, [0-9]+ tokens")
            self.assertRegex(repr(session.mark()), "2 messages, [0-9]+ tokens")
