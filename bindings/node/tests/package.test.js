'use strict';
// The package: how it is loaded and packed, what its pages say, and the example.

const assert = require('node:assert/strict');
const { EventEmitter } = require('node:events');
const { readFileSync, rmSync } = require('node:fs');
const { dirname, join } = require('node:path');
const { test } = require('node:test');
const peregrine = require('peregrine');
const { ANSWER, QUESTION, ROOT, STORY, TINY_CHAT } = require('./support.js');
const { failure, run, withFolder } = require('./support.js');

const HERE = dirname(__dirname);
const PACKAGE = join(HERE, 'node_modules', 'peregrine');
const { platform } = require(join(PACKAGE, 'lib', 'native.js'));
const ADDON = join(PACKAGE, `peregrine.${platform()}.node`);

test('modules of both kinds load it', async () => {
  const code = "import all, { load, version } from 'peregrine'; console.log(all.load === load && all.version === version);";
  const ended = await run(process.execPath, ['--input-type=module', '-e', code], { cwd: HERE });
  assert.equal(ended.out, 'true\n', ended.err);
  const namespace = await import('peregrine');
  const names = Object.keys(namespace).filter((name) => !['default', 'module.exports'].includes(name));
  assert.deepEqual(names.sort(), Object.keys(peregrine).sort());
});

test('the types name what there is', () => {
  const types = readFileSync(join(PACKAGE, 'index.d.ts'), 'utf8');
  const named = [...types.matchAll(/^export (?:const|function|class) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual([...new Set(named)].sort(), Object.keys(peregrine).sort());
  for (const [, name, body] of types.matchAll(/^export class (\w+)[^{]*\{\n([\s\S]*?)^\}/gm)) {
    const said = [...body.matchAll(/^ {2}(?:readonly )?(\w+)[(:<]/gm)].map(([, member]) => member);
    const has = Object.getOwnPropertyNames(peregrine[name].prototype);
    if (name !== 'PeregrineError') assert.deepEqual([...new Set(said)].sort(), has.filter((it) => it !== 'constructor').sort(), name);
  }
});

test('the packages for a registry find each other', async () => {
  await withFolder(async (folder) => {
    const target = platform();
    const modules = join(folder, 'node_modules');
    const packed = await run(process.execPath, [join(ROOT, 'bindings/node/pack.js'), ADDON, modules, target]);
    assert.equal(packed.code, 0, packed.err);
    const about = (name) => JSON.parse(readFileSync(join(modules, name, 'package.json'), 'utf8'));
    const own = about(`peregrine-${target}`);
    assert.equal(about('peregrine').optionalDependencies[own.name], own.version);
    assert.deepEqual([own.os, own.cpu], [[process.platform], [process.arch]]);
    const say = "console.log(require('peregrine').version)";
    const load = () => run(process.execPath, ['-e', say], { cwd: folder });
    assert.equal((await load()).out, `${peregrine.version}\n`);
    // Without an addon the error names the platform, and what is missing.
    rmSync(join(modules, own.name), { recursive: true });
    const { code, err } = await load();
    assert.notEqual(code, 0);
    assert.match(err, new RegExp(`PeregrineError: there is no peregrine for ${target}: .*peregrine-${target}`));
  });
});

test('the page does what it says', async () => {
  const page = readFileSync(join(HERE, 'README.md'), 'utf8');
  const blocks = [...page.matchAll(/^```js\n([\s\S]*?)^```/gm)].map(([, code]) => code);
  assert.ok(blocks.length > 3);
  const code = blocks.join('').replace("'models/", `'${ROOT}/models/`);
  const expected = [...code.matchAll(/^\/\/ (.*)$/gm)].map(([, line]) => line);
  // A piece of text ends without a line.
  const wrapped = `(async () => { ${code.replace(/^\/\/ .*$/m, "console.log('');")} })();`;
  const ended = await run(process.execPath, ['-e', wrapped], { cwd: HERE });
  assert.deepEqual(ended.out.trimEnd().split('\n'), expected, ended.err);
});

/** Electron's channels, between a main process and one window. */
function electron() {
  const handlers = new Map();
  const ipcRenderer = new EventEmitter();
  let [open, last] = [true, 0];
  const sender = Object.assign(new EventEmitter(), {
    id: ++last,
    isDestroyed: () => !open,
    send: (channel, ...given) => ipcRenderer.emit(channel, {}, ...structuredClone(given)),
  });
  ipcRenderer.invoke = async (channel, ...given) => structuredClone(await handlers.get(channel)({ sender }, ...structuredClone(given)));
  const close = () => {
    open = false;
    sender.emit('destroyed');
  };
  return { ipcMain: { handle: (channel, handler) => handlers.set(channel, handler) }, ipcRenderer, close };
}

test('the example of Electron chats, stops, saves and opens', async () => {
  const { serve } = require(join(HERE, 'electron', 'main.js'));
  const { bridge } = require(join(HERE, 'electron', 'preload.js'));
  await withFolder(async (folder) => {
    const model = await peregrine.load(TINY_CHAT, { slots: 1 });
    const { ipcMain, ipcRenderer, close } = electron();
    serve(ipcMain, model, join(folder, 'chat.state'));
    const chat = bridge(ipcRenderer);
    const given = [];
    await chat.send(QUESTION, (piece) => given.push(piece));
    assert.ok(given.length > 3);
    assert.equal((await chat.messages()).length, 2);
    await chat.save();
    const finish = await chat.send(STORY, () => chat.cancel());
    assert.equal(finish, 'cancelled');
    assert.equal((await chat.undo()).content, STORY);
    await chat.undo();
    const error = await failure(() => chat.undo());
    assert.deepEqual([error.code, error.message], ['NothingToUndo', 'nothing to undo: the conversation has no messages']);
    assert.equal((await chat.open()).length, 2);
    assert.equal(ipcRenderer.listenerCount('chat:piece'), 0);
    // A window that is closed in the middle of an answer frees its slot.
    await chat.send(STORY, close);
    for (let tries = 0; tries < 100; tries++) {
      try {
        (await model.chat()).close();
        break;
      } catch (error) {
        assert.equal(error.code, 'NoFreeSlot');
        assert.ok(tries < 99);
      }
    }
    await model.close();
  });
});
