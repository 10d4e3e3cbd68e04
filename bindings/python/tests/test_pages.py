"""What the pages say: the examples in the README, in the package and in its stubs, and the names in the stubs."""

import ast
import doctest
import subprocess
import sys
import unittest
from pathlib import Path

import peregrine
from peregrine import _native

from .support import ROOT

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PACKAGE = Path(__file__).parents[1] / "python" / "peregrine"


def docstrings(page: Path) -> list[str]:
    """The docstrings of a file, in their order."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(page.read_text())) if isinstance(node, kinds)]
    nodes.sort(key=lambda node: getattr(node, "lineno", 0))
    return [text for node in nodes if (text := ast.get_docstring(node))]


class Pages(unittest.TestCase):
    def test_examples_print_what_they_say(self) -> None:
        readme = (PACKAGE.parents[1] / "README.md").read_text()
        for page, texts in {
            "README.md": [readme],
            "_native.pyi": docstrings(PACKAGE / "_native.pyi"),
            "__init__.py": docstrings(PACKAGE / "__init__.py"),
        }.items():
            test = doctest.DocTestParser().get_doctest("\n\n".join(texts), {}, page, page, 0)
            self.assertGreater(len(test.examples), 0, page)
            outcome = doctest.DocTestRunner(verbose=False, optionflags=FLAGS).run(test)
            self.assertEqual(outcome.failed, 0, page)

    def test_the_tour_runs(self) -> None:
        tour = ROOT / "examples" / "python" / "tour.py"
        done = subprocess.run([sys.executable, str(tour)], capture_output=True, text=True, cwd=ROOT)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("7", done.stdout)

    def test_the_stubs_name_what_there_is(self) -> None:
        tree = ast.parse((PACKAGE / "_native.pyi").read_text())
        stubs = {node.name: node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
        there = {name for name in vars(_native) if not name.startswith("_")}
        self.assertEqual(set(stubs), there)
        for name, stub in stubs.items():
            if isinstance(stub, ast.ClassDef):
                said = {node.name for node in stub.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
                has = {key for key in vars(getattr(_native, name)) if not key.startswith("_")}
                self.assertEqual({key for key in said if not key.startswith("_")}, has, name)
                self.assertTrue(all(hasattr(getattr(_native, name), key) for key in said - {"__buffer__"}), name)
        self.assertEqual(set(peregrine.__all__), set(peregrine.__all__) & set(vars(peregrine)))
