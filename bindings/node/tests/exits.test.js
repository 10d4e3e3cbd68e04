'use strict';
// Processes end, whatever goes on in them.

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { LONG, STORY, TINY_CHAT, node } = require('./support.js');

const BEGIN = `
  const peregrine = require('peregrine');
  const long = ${JSON.stringify(LONG)}, story = ${JSON.stringify(STORY)}, path = ${JSON.stringify(TINY_CHAT)};
  const begin = async () => (await peregrine.load(path, { chunk: 32 })).chat({ temperature: 0 });
`;

/** How a process ends in which this runs. */
async function end(code) {
  const started = performance.now();
  const ended = await node(`${BEGIN}(async () => { ${code} })();`);
  return { ...ended, took: performance.now() - started };
}

test('process.exit in the middle of any call ends the process', async () => {
  const cases = {
    prompt: `(await begin()).send(long).text(); setTimeout(() => process.exit(7), 200);`,
    answer: `for await (const piece of (await begin()).send(story)) process.exit(7);`,
    making: `const answer = (await begin()).send(story); await answer.next(); answer.next(); process.exit(7);`,
    load: `peregrine.load(path); process.exit(7);`,
  };
  await Promise.all(
    Object.entries(cases).map(async ([name, code]) => {
      const { took, ...ended } = await end(code);
      assert.equal(ended.signal, null, `${name}: ${ended.signal} ${ended.err}`);
      assert.equal(ended.code, 7, `${name}: ${ended.err}`);
      assert.ok(took < 20_000, `${name}: ${took} ms`);
    }),
  );
});

test('a process ends by itself when nothing waits, and not before', async () => {
  const cases = {
    left: [`const answer = (await begin()).send(story); await answer.next(); console.log('end');`, 'end\n'],
    waits: [`(await begin()).send(story, { maxTokens: 3 }).text().then((text) => console.log(text.length > 3));`, 'true\n'],
    aborted: [
      `const controller = new AbortController();
       peregrine.load(path, { signal: controller.signal }).catch((error) => console.log(error.name));
       controller.abort();
       process.on('unhandledRejection', (error) => console.log(error.code));
       peregrine.load('nowhere');`,
      'AbortError\nModelNotFound\n',
    ],
  };
  await Promise.all(
    Object.entries(cases).map(async ([name, [code, out]]) => {
      const ended = await end(code);
      assert.deepEqual([ended.out, ended.code, ended.signal], [out, 0, null], `${name}: ${ended.err}`);
    }),
  );
});
