'use strict';
// Conversations: answers, copies, moments, snapshots.

const assert = require('node:assert/strict');
const { readFileSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');
const { test } = require('node:test');
const peregrine = require('peregrine');
const { ANSWER, FIXTURES, QUESTION, STORY, TINY_CHAT } = require('./support.js');
const { fails, node, pieces, program, tinyChat, withChat, withFolder } = require('./support.js');

test('an answer comes in pieces, and the conversation has it', async () => {
  await withChat(async (session) => {
    const answer = session.send(QUESTION);
    assert.equal(answer.finish, null);
    const all = await pieces(answer);
    assert.ok(all.length > 3);
    assert.deepEqual([all.join(''), answer.finish, await answer.text()], [ANSWER, 'eos', ANSWER]);
    assert.deepEqual(session.messages, [
      { role: 'user', content: QUESTION },
      { role: 'assistant', content: ANSWER },
    ]);
    assert.ok(session.position > 10);
  });
});

test('forks, undo, marks and retry go where they say', async () => {
  await withChat(async (session) => {
    const before = session.position;
    const whole = await session.send(STORY, { maxTokens: 12 }).text();
    const fork = await session.fork();
    assert.equal(await fork.retry({ maxTokens: 12 }).text(), whole);
    await fork.send(QUESTION).text();
    assert.deepEqual([session.messages.length, fork.messages.length], [2, 4]);
    fork.close();
    assert.deepEqual(await session.undo(), { role: 'user', content: STORY });
    assert.deepEqual([session.messages, session.position], [[], before]);
    const mark = await session.mark();
    await session.send(QUESTION).text();
    await session.backTo(mark);
    assert.deepEqual([session.messages, mark.messages, mark.position], [[], [], before]);
    assert.equal(await session.send(STORY, { maxTokens: 12 }).text(), whole);
    await session.clear();
    assert.equal(session.position, 0);
  });
});

test('an answer whose loop is left ends where it was', async () => {
  await withChat(async (session) => {
    let first;
    for await (const piece of session.send(STORY)) {
      first = piece;
      break;
    }
    assert.deepEqual(session.messages.at(-1), { role: 'assistant', content: first });
    const rest = await session.resume({ maxTokens: 5 }).text();
    assert.equal(await session.retry({ maxTokens: 6 }).text(), first + rest);
    const answer = session.send(QUESTION);
    await answer.next();
    await answer.close();
    assert.equal(answer.finish, 'cancelled');
    assert.deepEqual(await answer.next(), { done: true, value: undefined });
    // One that was never begun leaves nothing.
    const count = session.messages.length;
    await session.send(QUESTION).close();
    assert.equal(session.messages.length, count);
  });
});

test('calls of next at once get each piece once, in order', async () => {
  await withChat(async (session) => {
    const answer = session.send(QUESTION);
    const results = await Promise.all(Array.from({ length: 12 }, () => answer.next()));
    assert.equal(results.map((result) => result.value ?? '').join(''), ANSWER);
    assert.ok(results.at(-1).done);
  });
});

test('sampling, limits and constraints are those of the library', async () => {
  const model = await tinyChat();
  const seeds = [1, 1n, 2, 3].map((seed) => model.generate('Once upon', { temperature: 1, seed, maxTokens: 8 }).text());
  const texts = await Promise.all(seeds);
  assert.equal(texts[0], texts[1]);
  assert.ok(new Set(texts).size > 1);
  await withChat(async (session) => {
    const ended = async (options) => {
      const answer = session.send(QUESTION, options);
      const text = await answer.text();
      await session.clear();
      return [text, answer.finish];
    };
    assert.deepEqual(await ended({ stop: 'is' }), ['3 plus 4 ', 'stop']);
    assert.deepEqual(await ended({ stop: ['no', 'is'] }), ['3 plus 4 ', 'stop']);
    assert.deepEqual(await ended({ maxTokens: 2 }), ['3 plus', 'length']);
    assert.equal((await ended({ grammar: 'start: "seven"' }))[0], 'seven');
    assert.match((await ended({ regex: '[0-9]{2}' }))[0], /^[0-9]{2}$/);
    assert.ok(['yes', 'no'].includes((await ended({ choice: ['yes', 'no'] }))[0]));
    const properties = { n: { type: 'integer', maximum: 99 } };
    const schema = { type: 'object', properties, required: ['n'], additionalProperties: false };
    assert.ok(JSON.parse((await ended({ jsonSchema: schema, maxTokens: 40 }))[0]).n <= 99);
    const [three] = await model.tokenize('3');
    await session.setSampling({ logitBias: { [three]: -Infinity } });
    assert.ok(!(await session.send(QUESTION).text()).startsWith('3'));
    await session.setSampling({ logitBias: new Map() });
    assert.equal(await session.retry().text(), ANSWER);
  });
  const session = await model.chat({ temperature: 0, system: 'You count.' });
  assert.deepEqual(session.messages, [{ role: 'system', content: 'You count.' }]);
  session.close();
});

test('messages and ids are taken as they are', async () => {
  const model = await tinyChat();
  await withChat(async (session) => {
    const earlier = [
      { role: 'user', content: QUESTION },
      { role: 'assistant', content: ANSWER },
    ];
    const question = { role: 'user', content: 'What is 2 plus 2?', note: { a: [1, null] } };
    const text = await session.converse([...earlier, question]).text();
    assert.deepEqual(session.messages, [...earlier, question, { role: 'assistant', content: text }]);
  });
  const ids = await model.tokenize('Once upon a time', { addSpecial: true });
  const text = await model.generate(ids, { temperature: 0, maxTokens: 6 }).text();
  assert.equal(await model.generate('Once upon a time', { temperature: 0, maxTokens: 6 }).text(), text);
  await withChat(async (session) => {
    await session.feed(ids.slice(0, -1));
    assert.equal(await session.complete(Uint32Array.from(ids.slice(-1)), { maxTokens: 6 }).text(), text);
  });
});

test('a snapshot continues in another process', async () => {
  await withFolder(async (folder) => {
    const path = join(folder, 'fox.state');
    const rest = await withChat(async (session) => {
      await session.send(STORY, { maxTokens: 10 }).text();
      const snapshot = await session.snapshot();
      assert.ok(Buffer.isBuffer(snapshot));
      writeFileSync(path, snapshot);
      const rest = await session.resume({ maxTokens: 10 }).text();
      assert.deepEqual(await session.restore(snapshot), []);
      assert.equal(await session.resume({ maxTokens: 10 }).text(), rest);
      return rest;
    });
    const other = await node(`
      (async () => {
        const session = await (await require('peregrine').load(${JSON.stringify(TINY_CHAT)})).chat();
        const warnings = await session.restore(require('fs').readFileSync(${JSON.stringify(path)}));
        console.log(JSON.stringify([warnings, session.messages.length, await session.resume({ maxTokens: 10 }).text()]));
      })();`);
    assert.deepEqual(JSON.parse(other.out || '0'), [[], 2, rest], other.err);
  });
});

test('states are those of the command line', async () => {
  const session = await (await tinyChat()).chat({ temperature: 0, seed: 0 });
  await withFolder(async (folder) => {
    const [theirs, ours] = [join(folder, 'theirs.state'), join(folder, 'ours.state')];
    const cli = async (...args) => {
      const ended = await program('run', '-m', TINY_CHAT, '--temp', '0', '--seed', '0', '-n', '5', ...args);
      assert.equal(ended.code, 0, ended.err);
      return ended.out;
    };
    await cli('-p', 'Once upon a time', '--save-state', theirs);
    await session.complete('Once upon a time', { maxTokens: 5 }).text();
    writeFileSync(ours, await session.snapshot());
    const rest = await session.resume({ maxTokens: 5 }).text();
    await session.restore(readFileSync(theirs));
    assert.equal(await session.resume({ maxTokens: 5 }).text(), rest);
    assert.equal((await cli('--load-state', ours)).trim(), rest.trim());
  });
  session.close();
});

test('two models work at once', async () => {
  const other = await peregrine.load(join(FIXTURES, 'falcon-tiny'));
  const generate = () => other.generate([5, 6, 7], { temperature: 0, maxTokens: 6 }).text();
  const alone = await generate();
  const both = await withChat((session) => Promise.all([session.send(QUESTION).text(), generate()]));
  assert.deepEqual(both, [ANSWER, alone]);
  await other.close();
});

test('a thousand sessions leave no slot and no memory', async () => {
  const model = await peregrine.load(join(FIXTURES, 'falcon-tiny'), { slots: 2 });
  let before;
  for (let i = 0; i < 1100; i++) {
    if (i === 100) {
      global.gc();
      before = process.memoryUsage().rss;
    }
    const session = await model.chat();
    const answer = session.complete([5, 6, 7], { maxTokens: 2 });
    if (i % 32 === 0) await answer.text();
    if (i % 32 === 1) await answer.next(); // left in the middle
    if (i % 32 === 2) session.close(); // the answer ends after it
    await answer.close();
    if (i % 32 === 3) (await session.fork()).close();
    session.close();
  }
  global.gc();
  const growth = process.memoryUsage().rss - before;
  console.log(`# 1,000 sessions: ${(growth / 1e6).toFixed(1)} MB more`);
  assert.ok(growth < 8e6, `${growth}`);
  // Both slots are free.
  const sessions = [await model.chat(), await model.chat()];
  await fails(() => model.chat(), 'NoFreeSlot');
  for (const session of sessions) session.close();
  await model.close();
});

test('what is dropped frees its slot when it is collected', async () => {
  const model = await peregrine.load(join(FIXTURES, 'falcon-tiny'), { slots: 1 });
  // A function of its own, so that nothing on the stack refers to it.
  await (async () => {
    const answer = (await model.chat()).complete([5, 6, 7], { maxTokens: 9 });
    await answer.next();
  })();
  await fails(() => model.chat(), 'NoFreeSlot');
  for (let i = 0; i < 20; i++) {
    global.gc();
    await new Promise(setImmediate);
  }
  (await model.chat()).close();
  await model.close();
});

test('what is closed says so', async () => {
  const model = await peregrine.load(join(FIXTURES, 'falcon-tiny'));
  const session = await model.chat();
  await model.close();
  await model.close();
  await fails(() => model.chat(), 'Closed', 'the model is closed');
  await fails(() => model.name, 'Closed');
  await fails(() => model.generate('x'), 'Closed');
  await fails(() => model.tokenize('x'), 'Closed');
  assert.equal((await session.complete([5], { maxTokens: 1 }).text()).length > 0, true); // a session keeps what it needs
  session.close();
  session.close();
  await fails(() => session.undo(), 'Closed', 'the session is closed');
  await fails(() => session.messages, 'Closed');
  session.cancel();
});

test('a model tells about itself', async () => {
  const model = await tinyChat();
  assert.deepEqual([model.slots, model.canChat, model.name], [8, true, TINY_CHAT]);
  assert.ok(model.memory > 1e6 && model.eos.length > 0);
  const adapters = await peregrine.adapters();
  assert.ok(adapters.some((adapter) => adapter.name === model.adapter.name));
  assert.equal(peregrine.version, require('peregrine/package.json').version);
});
