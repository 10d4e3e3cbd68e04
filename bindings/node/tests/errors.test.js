'use strict';
// Errors: their codes, and the library's text unchanged.

const assert = require('node:assert/strict');
const { cpSync, mkdirSync, readFileSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');
const { test } = require('node:test');
const peregrine = require('peregrine');
const { DIGITS, FIXTURES, ROOT, TINY_CHAT } = require('./support.js');
const { chat, failure, fails, program, tinyChat, withChat, withFolder } = require('./support.js');

test('the text is that of the command line', async () => {
  await withFolder(async (folder) => {
    const damaged = join(folder, 'damaged');
    cpSync(TINY_CHAT, damaged, { recursive: true });
    writeFileSync(join(damaged, 'model.safetensors'), Buffer.alloc(100));
    const unknown = join(folder, 'unknown');
    cpSync(TINY_CHAT, unknown, { recursive: true });
    writeFileSync(join(unknown, 'config.json'), '{"model_type": "llama"}');
    const empty = join(folder, 'empty');
    mkdirSync(empty);
    const page = join(folder, 'page.gguf');
    writeFileSync(page, '<!doctype html><html></html>');
    const cases = [
      [join(folder, 'nowhere'), 'ModelNotFound'],
      [empty, 'ModelNotFound'],
      [damaged, 'ModelUnusable'],
      [unknown, 'ModelUnusable'],
      [page, 'ModelUnusable'],
      [DIGITS, 'ModelUnusable'],
    ];
    for (const [path, code] of cases) {
      const error = await fails(() => peregrine.load(path), code);
      const said = await program('run', '-m', path, '-p', 'x');
      assert.ok(said.err.includes(error.message), `${error.message}\n${said.err}`);
      assert.match(error.kind, /^[A-Z][A-Za-z]+$/);
    }
  });
});

test('hostile models are refused and do no harm', async () => {
  await withFolder(async (folder) => {
    const templates = {
      loops: '{% for i in range(9999) %}{% for j in range(9999) %}{{ i }}{% endfor %}{% endfor %}',
      type: 7,
    };
    for (const [name, chat_template] of Object.entries(templates)) {
      const path = join(folder, name);
      cpSync(TINY_CHAT, path, { recursive: true });
      const config = join(path, 'tokenizer_config.json');
      writeFileSync(config, JSON.stringify({ ...JSON.parse(readFileSync(config, 'utf8')), chat_template }));
      const model = await peregrine.load(path);
      const session = await model.chat();
      await fails(() => session.send('hello').text(), 'ModelUnusable');
      assert.deepEqual(session.messages, []);
      session.close();
      assert.ok((await model.generate('Once', { maxTokens: 1 }).text()).length > 0);
      await model.close();
    }
    // Bytes of a good file changed anywhere: an error of peregrine, or a model that loads.
    const good = readFileSync(join(FIXTURES, 'falcon-tiny', 'config.json'));
    const path = join(folder, 'changed');
    cpSync(join(FIXTURES, 'falcon-tiny'), path, { recursive: true });
    for (let at = 0; at < good.length; at += 211) {
      const parts = [good.subarray(0, at), Buffer.from([0xff, 0x39]), good.subarray(at + 2)];
      writeFileSync(join(path, 'config.json'), Buffer.concat(parts));
      try {
        await (await peregrine.load(path, { memory: 1 << 28 })).close();
      } catch (error) {
        assert.ok(error instanceof peregrine.PeregrineError, error.stack);
      }
    }
  });
});

test('each error has its code', async () => {
  const [model, session] = [await tinyChat(), await chat()];
  const cases = [
    [() => model.chat({ temperature: -1 }), 'BadSetting', 'temperature is -1'],
    [() => model.chat({ temperature: NaN }), 'BadSetting', 'temperature'],
    [() => model.chat({ topP: 2 }), 'BadSetting', 'top_p is 2'],
    [() => session.send('x', { regex: '(' }).text(), 'BadSetting', 'regular expression'],
    [() => session.send('x', { jsonSchema: { type: 'nothing' } }).text(), 'BadSetting', 'JSON schema'],
    [() => session.send('x', { jsonSchema: '{' }).text(), 'BadSetting', 'jsonSchema: '],
    [() => model.logits([1 << 20]), 'BadSetting', 'token id 1048576 at position 0'],
    [() => model.detokenize([5, 1 << 20]), 'BadSetting', 'at position 1'],
    [() => model.generate('').text(), 'BadInput', 'no tokens'],
    [() => session.undo(), 'NothingToUndo', 'nothing to undo'],
    [() => session.resume().text(), 'NothingToResume', 'nothing to continue'],
    [() => session.restore(Buffer.from('junk '.repeat(99))), 'StateDamaged', 'the snapshot'],
    [() => session.restore(new Uint8Array()), 'StateDamaged', ''],
    [async () => session.restore((await session.snapshot()).subarray(0, -9)), 'StateDamaged', ''],
    [() => peregrine.load(null, { gpu: 'no such thing' }), 'NoDevice', 'available: '],
    [() => peregrine.load(null, { gpu: 99 }), 'NoDevice', 'available: '],
    [() => peregrine.load(null, { slots: 0 }), 'BadSetting', 'slots is 0'],
    [() => peregrine.load(null, { memory: 1000 }), 'OutOfMemory', 'the model needs'],
    [() => peregrine.load(null, { weights: 'q9' }), 'BadSetting', 'q4_K'],
    [() => peregrine.load(null, { math: 'wrong' }), 'BadSetting', 'exact'],
    [() => peregrine.loadVision(TINY_CHAT), 'ModelUnusable', ''],
  ];
  for (const [call, code, text] of cases) await fails(call, code, text);
  assert.deepEqual([session.messages, session.position], [[], 0]);
  const other = await peregrine.load(join(FIXTURES, 'falcon-tiny'));
  const foreign = await other.chat();
  await fails(async () => session.restore(await foreign.snapshot()), 'StateOfAnotherModel', 'another model');
  foreign.close();
  await other.close();
  session.close();
});

test('arguments of a wrong type are TypeErrors, and numbers out of range RangeErrors', async () => {
  const model = await tinyChat();
  await withChat(async (session) => {
    const types = [
      () => model.chat({ topK: 'many' }),
      () => model.chat({ temprature: 1 }),
      () => model.chat({ constructor: 1 }),
      () => model.chat(7),
      () => model.chat({ logitBias: 'x' }),
      () => model.generate(7),
      () => model.generate({ 0: 5 }),
      () => model.logits('x'),
      () => model.logits(['5']),
      () => model.tokenize(5),
      () => model.tokenize('x', { addSpecial: 1 }),
      () => session.send(),
      () => session.send(Buffer.from('x')),
      () => session.send('x', { temperature: 1 }),
      () => session.send('x', { stop: 7 }),
      () => session.send('x', { stop: [7] }),
      () => session.send('x', { regex: 'a', choice: ['b'] }),
      () => session.send('x', { signal: {} }),
      () => session.converse('x'),
      () => session.converse([{ role: 'user' }]),
      () => session.converse([null]),
      () => session.converse([{ role: 'user', content: 'x', f: () => {} }]),
      () => session.restore('x'),
      () => session.restore(new Float32Array(9)),
      () => session.backTo({}),
      () => session.system(null),
      () => peregrine.load(7),
      () => peregrine.load(null, { gpu: {} }),
      () => peregrine.load(null, { onProgress: 1 }),
      () => peregrine.load(new URL('https://example.org/')),
    ];
    for (const call of types) {
      const error = await failure(call);
      assert.ok(error instanceof TypeError, `${call}: ${error.stack}`);
    }
    const ranges = [
      () => model.chat({ topK: -1 }),
      () => model.chat({ topK: 1.5 }),
      () => model.chat({ seed: -1n }),
      () => model.chat({ seed: 1n << 64n }),
      () => model.logits([-1]),
      () => model.logits([2 ** 32]),
      () => peregrine.load(null, { gpu: 1.5 }),
      () => peregrine.load(null, { memory: Infinity }),
    ];
    for (const call of ranges) {
      const error = await failure(call);
      assert.ok(error instanceof RangeError, `${call}: ${error.stack}`);
    }
    assert.deepEqual(session.messages, []);
    // A half of a character is no text; it becomes the sign for that.
    assert.ok((await session.send('\ud800', { maxTokens: 1 }).text()).length > 0);
    assert.equal(session.messages[0].content, '\ufffd');
  });
});

test('objects that are not made by peregrine are refused', async () => {
  const { Mark, Model, Session, VisionModel } = peregrine;
  await withChat(async (session) => {
    for (const call of [
      () => new Session({}).undo(),
      () => new Model(session).tokenize('x'),
      () => new VisionModel(undefined).cancel(),
      () => session.backTo(new Mark(session)),
      () => Session.prototype.send.call(Object.create(session), 'x'),
      () => Model.prototype.close.call(session),
    ]) {
      const error = await failure(call);
      assert.ok(error instanceof TypeError || error.code === 'InvalidArg', error.stack);
    }
  });
});

test('pictures that are none are errors', async () => {
  const model = await peregrine.loadVision();
  await fails(() => model.classify('nowhere.png'), 'File', 'nowhere.png');
  const start = readFileSync(join(DIGITS, 'samples', '04-2.png')).subarray(0, 60);
  for (const bad of [Buffer.from('junk'), new Uint8Array(), start]) await fails(() => model.classify([bad]), 'BadPicture');
  assert.ok((await failure(() => model.classify(7))) instanceof TypeError);
  await fails(() => model.features(start, { layers: [999] }), 'BadPicture');
  model.close();
  await fails(() => model.classify('x.png'), 'Closed');
});

test('a name is looked for on the hub and a path is not', async () => {
  await withFolder(async (folder) => {
    Object.assign(process.env, { HF_HUB_OFFLINE: '1', HF_HUB_CACHE: folder });
    try {
      for (const name of ['nobody/nothing', 'falcon-mamba-7b']) await fails(() => peregrine.load(name), 'ModelNotOnHub');
      for (const path of ['./nobody/nothing', 'nobody/x.gguf']) await fails(() => peregrine.load(path), 'ModelNotFound');
    } finally {
      delete process.env.HF_HUB_OFFLINE;
      delete process.env.HF_HUB_CACHE;
    }
  });
});

test('the types name each code that there is', () => {
  const types = readFileSync(join(ROOT, 'bindings', 'node', 'index.d.ts'), 'utf8');
  const named = types.split('export type ErrorCode =')[1].split(';')[0].match(/\w+/g);
  const kinds = readFileSync(join(ROOT, 'src', 'error', 'kind.rs'), 'utf8');
  const listed = kinds.split('pub enum ErrorKind {')[1].split('\n}')[0].match(/^ {4}[A-Z]\w+/gm).map((name) => name.trim());
  assert.deepEqual(named, [...listed, 'Busy', 'Closed', 'Panic', 'NoAddon']);
});
