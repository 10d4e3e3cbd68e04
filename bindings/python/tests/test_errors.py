"""Errors: their classes, and the library's text unchanged."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import peregrine
from peregrine import _errors

from .support import DIGITS, FIXTURES, TINY_CHAT, chat, program, raised, tiny_chat


class Errors(unittest.TestCase):
    def test_the_text_is_that_of_the_command_line(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            damaged = Path(folder) / "damaged"
            shutil.copytree(TINY_CHAT, damaged)
            (damaged / "model.safetensors").write_bytes(b"\0" * 100)
            unknown = Path(folder) / "unknown"
            unknown.mkdir()
            (unknown / "config.json").write_text(json.dumps({"model_type": "llama"}))
            empty = Path(folder) / "empty"
            empty.mkdir()
            page = Path(folder) / "page.gguf"
            page.write_text("<!doctype html><html></html>")
            cases = {
                folder + "/nowhere": peregrine.ModelNotFound,
                str(empty): peregrine.ModelNotFound,
                str(damaged): peregrine.ModelError,
                str(unknown): peregrine.ModelError,
                str(page): peregrine.ModelError,
                str(DIGITS): peregrine.ModelError,
            }
            for path, kind in cases.items():
                error = raised(lambda: peregrine.load(path))
                self.assertIsInstance(error, kind, path)
                said = subprocess.run([program(), "run", "-m", path, "-p", "x"], capture_output=True, text=True)
                self.assertIn(str(error), said.stderr)
                self.assertNotEqual(error.kind, "Error")
            self.assertIsInstance(raised(lambda: peregrine.load(folder + "/nowhere")), FileNotFoundError)

    def test_hostile_models_are_refused_and_do_no_harm(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, change in {
                "template": {"chat_template": "{% for i in range(9999) %}{% for j in range(9999) %}{{ i }}{% endfor %}{% endfor %}"},
                "nested": {"chat_template": "{{ " + "(" * 50_000},
                "type": {"chat_template": 7},
            }.items():
                model = Path(folder) / name
                shutil.copytree(TINY_CHAT, model)
                path = model / "tokenizer_config.json"
                path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
                with peregrine.load(model) as loaded, loaded.chat() as session:
                    error = raised(lambda: session.send("hello").text())
                    self.assertIsInstance(error, peregrine.ModelError)
                    self.assertEqual(session.messages, [])
                    self.assertEqual(len(loaded.generate("Once", max_tokens=1).text()) > 0, True)
            # Bytes of a good file changed anywhere: an error of peregrine, or a model that loads.
            good = (FIXTURES / "falcon-tiny" / "config.json").read_bytes()
            model = Path(folder) / "changed"
            shutil.copytree(FIXTURES / "falcon-tiny", model)
            for at in range(0, len(good), 41):
                (model / "config.json").write_bytes(good[:at] + b"\xff9" + good[at + 2 :])
                try:
                    peregrine.load(model, memory=1 << 28).close()
                except peregrine.Error:
                    pass

    def test_each_error_has_its_class(self) -> None:
        model, session = tiny_chat(), chat()
        bad = peregrine.BadSetting
        cases = [
            (lambda: model.chat(temperature=-1), bad, "temperature is -1"),
            (lambda: model.chat(top_p=2), bad, "top_p is 2"),
            (lambda: model.chat(top_k=-1), ValueError, "top_k: "),
            (lambda: model.chat(top_k="many"), TypeError, "top_k: "),
            (lambda: model.chat(temprature=1), TypeError, "temprature"),
            (lambda: session.send("x", temperature=1), TypeError, "temperature"),
            (lambda: session.send("x", stop=7), TypeError, "stop: "),
            (lambda: session.send("x", regex="("), bad, "regular expression"),
            (lambda: session.send("x", json_schema={"type": "nothing"}), bad, "JSON schema"),
            (lambda: session.send("x", json_schema="{"), ValueError, "json_schema: "),
            (lambda: session.send("x", regex="a", choice=["b"]), TypeError, "do not go together"),
            (lambda: session.send("\ud800"), UnicodeEncodeError, "surrogates"),
            (lambda: session.send(b"x"), TypeError, ""),
            (lambda: session.converse([{"role": "user"}]), TypeError, "content"),
            (lambda: model.logits([1 << 20]), bad, "token id 1048576 at position 0"),
            (lambda: model.logits([-1]), (OverflowError, ValueError), ""),
            (lambda: model.detokenize([5, 1 << 20]), bad, "at position 1"),
            (lambda: model.generate("").text(), bad, "no tokens"),
            (session.undo, peregrine.NothingThere, "nothing to undo"),
            (lambda: session.resume().text(), peregrine.NothingThere, "nothing to continue"),
            (lambda: session.restore(b"junk " * 99), peregrine.StateError, "the snapshot"),
            (lambda: session.restore(b""), peregrine.StateError, ""),
            (lambda: session.restore(session.snapshot()[:-9]), peregrine.StateError, ""),
            (lambda: peregrine.load(gpu="no such thing"), peregrine.NoDevice, "available: "),
            (lambda: peregrine.load(gpu=99), peregrine.NoDevice, "available: "),
            (lambda: peregrine.load(gpu=1.5), TypeError, "gpu: "),
            (lambda: peregrine.load(slots=0), bad, "slots is 0"),
            (lambda: peregrine.load(memory=1000), peregrine.OutOfMemory, "the model needs"),
            (lambda: peregrine.load(memory=1000), MemoryError, "the model needs"),
            (lambda: peregrine.load(weights="q9"), ValueError, "q4_K"),
            (lambda: peregrine.load(math="wrong"), ValueError, "exact"),
            (lambda: peregrine.load_vision(TINY_CHAT), peregrine.ModelError, ""),
        ]
        for number, (call, kind, text) in enumerate(cases):
            error = raised(call)
            self.assertIsInstance(error, kind, f"case {number}: {error!r}")
            self.assertIn(text, str(error), f"case {number}")
        self.assertEqual((session.messages, session.position), ([], 0))
        with peregrine.load(FIXTURES / "falcon-tiny") as other, other.chat() as foreign:
            self.assertIn("another model", str(raised(lambda: session.restore(foreign.snapshot()))))
        session.close()

    def test_pictures_that_are_none_are_errors(self) -> None:
        with peregrine.load_vision() as model:
            missing = raised(lambda: model.classify("nowhere.png"))
            self.assertIsInstance(missing, peregrine.FileMissing)
            self.assertIsInstance(missing, FileNotFoundError)
            self.assertIn("nowhere.png", str(missing))
            for bad in (b"junk", b"", (DIGITS / "samples" / "04-2.png").read_bytes()[:60]):
                self.assertIsInstance(raised(lambda: model.classify([bad])), peregrine.BadPicture)
            self.assertIsInstance(raised(lambda: model.classify(7)), TypeError)
            self.assertIsInstance(raised(lambda: model.features(b"", layers=[999])), peregrine.Error)

    def test_a_name_is_looked_for_on_the_hub_and_a_path_is_not(self) -> None:
        with tempfile.TemporaryDirectory() as cache:
            os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": cache}
            try:
                for name in ("nobody/nothing", "falcon-mamba-7b", "nobody/nothing:Q4_K_M", "nobody/nothing@main"):
                    self.assertIsInstance(raised(lambda: peregrine.load(name)), peregrine.HubError, name)
                for path in ("./nobody/nothing", "nobody", "tests/nothing", "nobody/x.gguf", "~/model", "a/b/c"):
                    self.assertIsInstance(raised(lambda: peregrine.load(path)), peregrine.ModelNotFound, path)
            finally:
                del os.environ["HF_HUB_OFFLINE"], os.environ["HF_HUB_CACHE"]

    def test_each_class_that_the_extension_names_exists_and_is_used(self) -> None:
        source = (Path(__file__).parents[1] / "src" / "errors.rs").read_text()
        named = set(re.findall(r'"([A-Z][A-Za-z]+)"', source)) - {"Panic"}
        classes = {name for name, it in vars(_errors).items() if isinstance(it, type)}
        self.assertEqual(named, classes - {name for name in classes if name not in named})
        self.assertEqual(classes, named)
        self.assertTrue(classes <= set(peregrine.__all__))
