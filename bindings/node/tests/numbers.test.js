'use strict';
// Logits, tokens, classes and features.

const assert = require('node:assert/strict');
const { readFileSync } = require('node:fs');
const { join } = require('node:path');
const { test } = require('node:test');
const { pathToFileURL } = require('node:url');
const peregrine = require('peregrine');
const { DIGITS, FIXTURES, tinyChat } = require('./support.js');

/** The tensors of a safetensors file: values and shapes. */
function tensors(path) {
  const data = readFileSync(path);
  const start = 8 + Number(data.readBigUInt64LE(0));
  const header = JSON.parse(data.subarray(8, start).toString());
  delete header.__metadata__;
  const kinds = { F32: Float32Array, F64: Float64Array, I32: Int32Array, I64: BigInt64Array };
  const tensor = ({ dtype, shape, data_offsets: [first, end] }) => ({
    values: new kinds[dtype](new Uint8Array(data.subarray(start + first, start + end)).buffer),
    shape,
  });
  return Object.fromEntries(Object.entries(header).map(([name, about]) => [name, tensor(about)]));
}

test('logits are those of transformers', async () => {
  for (const name of ['falcon-tiny', 'mamba-tiny']) {
    const expected = tensors(join(FIXTURES, name, 'expected.safetensors'));
    const lengths = Object.keys(expected).filter((key) => key.startsWith('logits.')).map((key) => key.slice(7));
    assert.ok(lengths.length > 1);
    const model = await peregrine.load(join(FIXTURES, name));
    for (const length of lengths) {
      const logits = await model.logits(Array.from(expected[`ids.${length}`].values, Number));
      const reference = expected[`logits.${length}`];
      assert.ok(logits instanceof Float32Array);
      assert.deepEqual(logits.shape, reference.shape);
      const worst = logits.reduce((most, value, i) => Math.max(most, Math.abs(value - reference.values[i])), 0);
      // The tolerance of tests/model.rs.
      assert.ok(worst < 3e-4, `${name} ${length}: ${worst}`);
    }
    await model.close();
  }
});

test('logits stay when others are made', async () => {
  const model = await tinyChat();
  const logits = await model.logits([5, 6, 7]);
  assert.deepEqual([logits.shape, logits.length], [[3, model.vocab], 3 * model.vocab]);
  const copy = logits.slice();
  for (let i = 0; i < 5; i++) await model.logits(new Uint32Array([1, 2, 3]));
  global.gc();
  assert.deepEqual(logits, Object.defineProperty(copy, 'shape', { value: logits.shape }));
  assert.deepEqual((await model.logits([])).shape, [0, model.vocab]);
});

test('the next token is the most probable one', async () => {
  const model = await tinyChat();
  const ids = await model.tokenize('Once upon a time', { addSpecial: true });
  for (let i = 0; i < 3; i++) {
    const last = (await model.logits(ids)).slice(-model.vocab);
    ids.push(last.indexOf(Math.max(...last)));
  }
  const text = await model.generate('Once upon a time', { temperature: 0, maxTokens: 3 }).text();
  assert.equal(await model.detokenize(ids.slice(-3)), text);
});

test('ids and text are one', async () => {
  const model = await tinyChat();
  for (const text of ['A fox!', 'täglich 🦊', '', '<|im_end|>']) {
    assert.equal(await model.detokenize(await model.tokenize(text)), text);
  }
  const plain = await model.tokenize('<|im_end|>');
  const parsed = await model.tokenize('<|im_end|>', { parseSpecial: true });
  assert.ok(plain.length > 1 && parsed.length < plain.length);
});

test('classes are those of the reference', async () => {
  const reference = JSON.parse(readFileSync(join(DIGITS, 'reference.json'), 'utf8'));
  const paths = reference.map((entry) => join(DIGITS, entry.file));
  const model = await peregrine.loadVision(DIGITS, { batch: 4 });
  assert.deepEqual(model.classes, [...'0123456789']);
  const found = await model.classify(paths, { top: 10 });
  assert.equal(found.length, reference.length);
  for (const [i, classes] of found.entries()) {
    assert.equal(classes[0].index, reference[i].argmax);
    for (const { index, logit } of classes) assert.ok(Math.abs(logit - reference[i].logits[index]) < 1e-3);
    const sum = classes.reduce((sum, { probability }) => sum + probability, 0);
    assert.ok(Math.abs(sum - 1) < 1e-5);
  }
  const again = await model.classify(paths.slice(0, 5).map((path) => readFileSync(path)), { top: 1 });
  assert.deepEqual(again.map(([one]) => one.index), reference.slice(0, 5).map((entry) => entry.argmax));
  const [one] = await model.classify(pathToFileURL(paths[0]), { top: 1 });
  assert.deepEqual([one.name, one.index], [`${reference[0].argmax}`, reference[0].argmax]);
  model.close();
});

test('features have the shapes of the patches', async () => {
  const path = join(DIGITS, 'samples', '04-2.png');
  const model = await peregrine.loadVision();
  const { classToken, map, layers } = await model.features(path, { map: true, layers: [0, 1] });
  const width = classToken.length;
  assert.deepEqual([classToken.shape, map.shape.length, map.shape[0]], [[width], 3, width]);
  assert.deepEqual(layers.map((layer) => layer.shape), [map.shape, map.shape]);
  assert.ok(map.every(Number.isFinite) && classToken.some((value) => value !== 0));
  const plain = await model.features([path, path]);
  assert.deepEqual([plain.length, plain[0].map, plain[0].layers], [2, null, []]);
  assert.deepEqual([...plain[1].classToken], [...classToken]);
  const larger = await model.features(path, { map: true, image: [56, 56] });
  assert.ok(larger.map.shape[1] > map.shape[1]);
  model.close();
});
