"""Logits, classes and features, and how NumPy takes them."""

import ctypes
import gc
import json
import struct
import unittest

import numpy

import peregrine

from .support import DIGITS, FIXTURES, tiny_chat


def tensors(path) -> dict[str, numpy.ndarray]:
    """The tensors of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    kinds = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}

    def tensor(about) -> numpy.ndarray:
        first, end = (8 + length + at for at in about["data_offsets"])
        return numpy.frombuffer(data[first:end], kinds[about["dtype"]]).reshape(about["shape"])

    return {name: tensor(about) for name, about in header.items()}


class Logits(unittest.TestCase):
    def test_logits_are_those_of_transformers(self) -> None:
        for name in ("falcon-tiny", "mamba-tiny"):
            expected = tensors(FIXTURES / name / "expected.safetensors")
            lengths = [key.removeprefix("logits.") for key in expected if key.startswith("logits.")]
            self.assertGreater(len(lengths), 1)
            with peregrine.load(FIXTURES / name) as model:
                for length in lengths:
                    logits = numpy.asarray(model.logits(expected[f"ids.{length}"].tolist()))
                    reference = expected[f"logits.{length}"]
                    self.assertEqual((logits.shape, logits.dtype), (reference.shape, numpy.float32))
                    # The tolerance of tests/model.rs.
                    self.assertLess(numpy.abs(logits - reference).max(), 3e-4)

    def test_numpy_and_memoryview_read_them_in_place(self) -> None:
        model = tiny_chat()
        array = model.logits([5, 6, 7])
        one, two = numpy.asarray(array), numpy.asarray(array)
        self.assertTrue(numpy.shares_memory(one, two))
        self.assertEqual((array.shape, len(array), one.shape), ((3, model.vocab), 3, (3, model.vocab)))
        view = memoryview(array)
        self.assertEqual((view.format, view.shape, view.readonly, view.c_contiguous), ("f", array.shape, True, True))
        self.assertEqual(view[2, 1], one[2, 1])
        self.assertEqual(array.tolist(), one.tolist())
        self.assertEqual(bytes(view), one.tobytes())
        # They stay as long as a view needs them.
        row = one[1].copy()
        del array, two, view
        gc.collect()
        model.logits([1, 2, 3])
        self.assertTrue((one[1] == row).all())
        self.assertFalse(one.flags.writeable)
        with self.assertRaises((BufferError, TypeError)):
            (ctypes.c_char * 4).from_buffer(model.logits([5]))
        self.assertEqual(numpy.asarray(model.logits([])).shape, (0, model.vocab))

    def test_the_next_token_is_the_most_probable_one(self) -> None:
        model = tiny_chat()
        ids = model.tokenize("Once upon a time", add_special=True)
        for _ in range(3):
            ids.append(int(numpy.asarray(model.logits(ids))[-1].argmax()))
        text = model.generate("Once upon a time", temperature=0, max_tokens=3).text()
        self.assertEqual(model.detokenize(ids[-3:]), text)

    def test_ids_and_text_are_one(self) -> None:
        model = tiny_chat()
        for text in ("A fox!", "täglich 🦊", "", "<|im_end|>"):
            self.assertEqual(model.detokenize(model.tokenize(text)), text)
        self.assertGreater(len(model.tokenize("<|im_end|>")), 1)
        parsed = model.tokenize("<|im_end|>", parse_special=True)
        self.assertLessEqual(len(parsed), len(model.tokenize("<|im_end|>")))


class Pictures(unittest.TestCase):
    def test_classes_are_those_of_the_reference(self) -> None:
        reference = json.loads((DIGITS / "reference.json").read_text())
        paths = [DIGITS / entry["file"] for entry in reference]
        with peregrine.load_vision() as model, peregrine.load_vision(DIGITS, batch=4) as other:
            self.assertEqual(model.classes, [str(digit) for digit in range(10)])
            found = model.classify(paths, top=10)
            for classes, entry in zip(found, reference, strict=True):
                self.assertEqual(classes[0].index, entry["argmax"])
                for each in classes:
                    self.assertAlmostEqual(each.logit, entry["logits"][each.index], delta=1e-3)
                self.assertAlmostEqual(sum(each.probability for each in classes), 1, delta=1e-5)
            again = other.classify([path.read_bytes() for path in paths], top=1)
            self.assertEqual([classes[0].index for classes in again], [entry["argmax"] for entry in reference])
            (one,) = model.classify(str(paths[0]), top=1)
            self.assertEqual((one.name, one.index), (str(reference[0]["argmax"]), reference[0]["argmax"]))
            self.assertIn(f"{one.name!r}".replace("'", '"'), repr(one))
            self.assertIn("10 classes", repr(model))

    def test_features_have_the_shapes_of_the_patches(self) -> None:
        path = DIGITS / "samples" / "04-2.png"
        with peregrine.load_vision() as model:
            features = model.features(path, map=True, layers=[0, 1])
            token, final = numpy.asarray(features.class_token), numpy.asarray(features.map)
            self.assertEqual((token.ndim, final.ndim, final.shape[0]), (1, 3, len(token)))
            self.assertEqual([layer.shape for layer in features.layers], [final.shape] * 2)
            self.assertTrue(numpy.isfinite(final).all() and numpy.abs(token).max() > 0)
            plain = model.features([path, path])
            self.assertEqual((len(plain), plain[0].map, plain[0].layers), (2, None, []))
            self.assertTrue((numpy.asarray(plain[1].class_token) == token).all())
            larger = model.features(path, map=True, image=(56, 56))
            self.assertGreater(larger.map.shape[1], final.shape[1])
