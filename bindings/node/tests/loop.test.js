'use strict';
// The event loop runs meanwhile; cancels, signals, and calls at once.

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { test } = require('node:test');
const { Worker } = require('node:worker_threads');
const peregrine = require('peregrine');
const { ANSWER, LONG, QUESTION, STORY, TINY_CHAT } = require('./support.js');
const { failure, fails, pieces, sleep, tinyChat, withChat } = require('./support.js');

/** How often a timer ticks while `work` runs, the longest time between two ticks, and the milliseconds in all. */
async function ticks(work) {
  const started = performance.now();
  let [count, last, longest] = [0, started, 0];
  const tick = () => {
    const now = performance.now();
    [count, longest, last] = [count + 1, Math.max(longest, now - last), now];
  };
  const timer = setInterval(tick, 2);
  await work();
  clearInterval(timer);
  tick();
  return { count, longest, took: performance.now() - started };
}

test('a timer ticks during a long prompt, a generation, logits and a load', async () => {
  const model = await tinyChat();
  const ids = (await model.tokenize(LONG)).slice(0, 128);
  for (const work of [
    () => model.generate(ids, { maxTokens: 1 }).text(),
    () => model.generate('Once', { temperature: 0, maxTokens: 12, logitBias: { 2: -Infinity } }).text(),
    () => model.logits(ids),
    async () => (await peregrine.load(TINY_CHAT)).close(),
  ]) {
    const { count, longest, took } = await ticks(work);
    // Every 2 ms, were nothing else to do. On a GPU all of it may take less than a pause of a busy machine, 30 ms.
    assert.ok(count > took / 20, `${work}: ${count} in ${took} ms`);
    assert.ok(longest < Math.max(took / 3, 30), `${work}: ${longest} of ${took} ms`);
  }
  // The negative control: work on this thread.
  const { longest, took } = await ticks(async () => {
    await sleep(5);
    for (const end = performance.now() + 100; performance.now() < end; );
    await sleep(5);
  });
  assert.ok(longest > took / 3);
});

test('answers at once are those alone', async () => {
  const model = await tinyChat();
  const ask = async () => {
    const session = await model.chat({ temperature: 0 });
    const text = await session.send(QUESTION).text();
    session.close();
    return text;
  };
  assert.deepEqual(await Promise.all(Array.from({ length: 2 }, ask)), Array(2).fill(ANSWER));
});

test('a cancel ends an answer in its middle', async () => {
  await withChat(async (session) => {
    const whole = await session.send(STORY, { maxTokens: 20 }).text();
    await session.undo();
    for (const cancel of [(answer) => answer.cancel(), () => session.cancel()]) {
      const answer = session.send(STORY);
      const given = [(await answer.next()).value, (await answer.next()).value];
      const next = answer.next();
      cancel(answer);
      cancel(answer);
      given.push((await next).value ?? '', ...(await pieces(answer)));
      const text = given.join('');
      assert.equal(answer.finish, 'cancelled');
      assert.ok(given.length < 6 && whole.startsWith(text));
      assert.equal(session.messages.at(-1).content, text);
      cancel(answer); // too late for anything
      await session.undo();
    }
    assert.equal(await session.send(QUESTION).text(), ANSWER);
  });
});

test('a cancel ends a prompt before the answer', async () => {
  await withChat(async (session) => {
    const answer = session.send(LONG);
    setTimeout(() => session.cancel(), 300);
    const started = performance.now();
    assert.deepEqual([await answer.text(), answer.finish], ['', 'cancelled']);
    assert.ok(performance.now() - started < 5000);
    assert.deepEqual([session.messages, session.position], [[], 0]);
    // Also one that comes before the first piece is asked for.
    const other = session.send(QUESTION);
    other.cancel();
    assert.deepEqual([await other.text(), other.finish, session.messages], ['', 'cancelled', []]);
    assert.equal(await session.send(QUESTION).text(), ANSWER);
  });
});

test('a signal ends an answer with its reason, and the session is free', async () => {
  await withChat(async (session) => {
    for (const text of [STORY, LONG]) {
      const controller = new AbortController();
      const reason = new Error('enough');
      const answer = session.send(text, { signal: controller.signal });
      const given = [];
      const reading = (async () => {
        for await (const piece of answer) given.push(piece);
      })();
      setTimeout(() => controller.abort(reason), 200);
      assert.equal(await failure(() => reading), reason);
      assert.equal(answer.finish, 'cancelled');
      const said = session.messages.filter(({ role }) => role === 'assistant').map(({ content }) => content);
      assert.ok(said.join('').startsWith(given.join('')));
      await session.clear();
    }
    // Between two pieces.
    const controller = new AbortController();
    const answer = session.send(STORY, { signal: controller.signal });
    const { value } = await answer.next();
    controller.abort();
    assert.equal(session.messages.at(-1).content, value);
    assert.equal((await failure(() => answer.next())).name, 'AbortError');
    assert.deepEqual(await answer.next(), { done: true, value: undefined });
    // Before it begins.
    assert.equal((await failure(() => session.send('x', { signal: AbortSignal.abort() }))).name, 'AbortError');
    assert.equal((await failure(() => session.send(LONG, { signal: AbortSignal.timeout(100) }).text())).name, 'TimeoutError');
    await session.clear();
    assert.equal(await session.send(QUESTION).text(), ANSWER);
  });
});

test('a signal ends other calls', async () => {
  const model = await tinyChat();
  const ids = await model.tokenize(LONG);
  await withChat(async (session) => {
    for (const work of [(options) => model.logits(ids, options), (options) => session.feed(ids, options)]) {
      for (const delay of [0, 100]) {
        const controller = new AbortController();
        const started = performance.now();
        const working = work({ signal: controller.signal });
        setTimeout(() => controller.abort(), delay);
        assert.equal((await failure(() => working)).name, 'AbortError');
        assert.ok(performance.now() - started < 3000);
      }
      assert.equal((await failure(() => work({ signal: AbortSignal.abort() }))).name, 'AbortError');
    }
    await session.clear();
    assert.equal(await session.send(QUESTION).text(), ANSWER);
  });
});

test('a load tells how far it is, and ends when it is told to', async () => {
  const seen = [];
  const model = await peregrine.load(TINY_CHAT, { onProgress: (...progress) => seen.push(progress) });
  assert.ok(seen.every(([stage, done, total]) => stage === 'load' && done <= total));
  assert.equal(seen.at(-1)[1], seen.at(-1)[2]);
  await model.close();
  const controller = new AbortController();
  const loading = peregrine.load(TINY_CHAT, { signal: controller.signal });
  controller.abort();
  assert.equal((await failure(() => loading)).name, 'AbortError');
  const reason = new Error('of the callback');
  const onProgress = () => {
    throw reason;
  };
  assert.equal(await failure(() => peregrine.load(TINY_CHAT, { onProgress })), reason);
});

test('a second call on a busy session is an error', async () => {
  await withChat(async (session) => {
    const answer = session.send(STORY);
    for (const call of [
      () => session.send(QUESTION),
      () => session.undo(),
      () => session.fork(),
      () => session.snapshot(),
      () => session.mark(),
      () => session.messages,
      () => session.position,
    ]) {
      await fails(call, 'Busy', 'busy');
    }
    await answer.next();
    await fails(() => session.undo(), 'Busy');
    await answer.close();
    const clearing = session.clear();
    await fails(() => session.clear(), 'Busy');
    await clearing;
    assert.equal(await session.send(QUESTION).text(), ANSWER);
  });
});

test('whatever is called at once does no harm', async () => {
  const model = await tinyChat();
  const session = await model.chat({ temperature: 0 });
  let answer = session.send(QUESTION);
  const calls = [
    () => (answer = session.send(QUESTION, { maxTokens: 3 })),
    () => answer.next(),
    () => answer.close(),
    () => answer.cancel(),
    () => session.cancel(),
    () => session.undo(),
    async () => (await session.fork()).close(),
    async () => session.restore(await session.snapshot()),
    () => session.messages,
    () => answer.text(),
  ];
  const allowed = ['Busy', 'NothingToUndo', 'NoFreeSlot'];
  let seed = 7;
  const choose = () => calls[(seed = (seed * 48271) % 2147483647) % calls.length];
  const until = performance.now() + 800;
  const work = async () => {
    while (performance.now() < until) {
      try {
        await choose()();
      } catch (error) {
        if (!allowed.includes(error.code)) throw error;
        await sleep(0);
      }
    }
  };
  await Promise.all(Array.from({ length: 6 }, work));
  await answer.close();
  await session.clear();
  assert.equal(await session.send(QUESTION).text(), ANSWER);
  session.close();
});

test('workers load the package too, and end in the middle of an answer', async () => {
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    (async () => {
      const peregrine = require('peregrine');
      const session = await (await peregrine.load(workerData.model, { slots: 1, chunk: 32 })).chat({ temperature: 0 });
      parentPort.postMessage(await session.send(workerData.question).text());
      const answer = session.send(workerData.long);
      parentPort.postMessage('reads');
      await answer.text();
    })();`;
  const workerData = { model: TINY_CHAT, question: QUESTION, long: LONG };
  const worker = new Worker(code, { eval: true, workerData });
  assert.deepEqual(await once(worker, 'message'), [ANSWER]);
  assert.deepEqual(await once(worker, 'message'), ['reads']);
  await sleep(100);
  const started = performance.now();
  await worker.terminate();
  assert.ok(performance.now() - started < 4000);
  await withChat(async (session) => assert.equal(await session.send(QUESTION).text(), ANSWER));
});
