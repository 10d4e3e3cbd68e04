// The JavaScript of bindings/web, called by a page without a worker. Environment: SITE, FIXTURES, CHROMIUM.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { serve } from "./site.mjs";

const { SITE, FIXTURES, CHROMIUM } = process.env;
let site;
let browser;
let page;

before(async () => {
  site = await serve(SITE, FIXTURES);
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--enable-unsafe-webgpu"] });
  page = await browser.newPage();
  await page.goto(`${site.url}blank`);
  await page.evaluate(async () => {
    globalThis.peregrine = await import("./peregrine/index.js");
    globalThis.thrown = [];
    self.addEventListener("error", ({ message }) => thrown.push(message));
    globalThis.model = await peregrine.load("models/tiny-chat");
    /** The name, code and text of the error of a call. */
    globalThis.refused = async (call) => {
      try {
        await call();
      } catch (error) {
        return `${error.name} ${error.code}: ${error.message}`;
      }
      return "no error";
    };
  });
});

after(async () => {
  await browser?.close();
  site?.close();
});

/** The tensors of a safetensors file, as numbers. */
function tensors(path) {
  const data = readFileSync(path);
  const length = Number(data.readBigUInt64LE(0));
  const header = JSON.parse(data.subarray(8, 8 + length));
  const bytes = ([first, end]) => data.buffer.slice(data.byteOffset + 8 + length + first, data.byteOffset + 8 + length + end);
  const read = { F32: (at) => new Float32Array(bytes(at)), I32: (at) => Array.from(new Int32Array(bytes(at))) };
  const known = Object.entries(header).filter(([, about]) => about.dtype in read);
  return Object.fromEntries(known.map(([name, about]) => [name, read[about.dtype](about.data_offsets)]));
}

test("logits are those of transformers", async () => {
  const expected = tensors(join(FIXTURES, "falcon-tiny/expected.safetensors"));
  const lengths = Object.keys(expected).filter((name) => name.startsWith("logits.")).map((name) => name.slice(7));
  assert.ok(lengths.length > 1);
  const ids = lengths.map((length) => expected[`ids.${length}`]);
  const made = await page.evaluate(async (ids) => {
    const tiny = await peregrine.load("fixtures/falcon-tiny");
    const made = [];
    for (const some of ids) made.push(Array.from(await tiny.logits(Uint32Array.from(some))));
    tiny.free();
    return made;
  }, ids);
  made.forEach((logits, i) => {
    const reference = expected[`logits.${lengths[i]}`];
    assert.equal(logits.length, reference.length);
    // The tolerance of tests/model.rs.
    const worst = logits.reduce((worst, value, at) => Math.max(worst, Math.abs(value - reference[at])), 0);
    assert.ok(worst < 3e-4, `${lengths[i]} tokens: off by ${worst}`);
  });
});

test("a GGUF file opens, beside another model", async () => {
  const vocab = await page.evaluate(async () => {
    const other = await peregrine.load("fixtures/gguf/tiny-Q8_0.gguf");
    const logits = await other.logits(Uint32Array.of(1));
    const session = await model.chat({ temperature: 0 });
    const text = await session.send("What is 3 plus 4?").text();
    session.close();
    return [logits.length, logits.every(Number.isFinite), text];
  });
  assert.ok(vocab[0] > 10 && vocab[1]);
  assert.equal(vocab[2], "3 plus 4 is 7.");
});

test("answers end by cancel, signal and break, and the session goes on", async () => {
  const told = await page.evaluate(async () => {
    const told = {};
    const session = await model.chat({ temperature: 0, system: "Be kind." });
    const pieces = async (answer, each) => {
      let count = 0;
      for await (const _ of answer) {
        if (++count === 3) each?.(answer);
        if (count > 20) break;
      }
      return [count, answer.finish];
    };
    told.cancel = await pieces(session.send("Tell me a story about a fox."), (answer) => answer.cancel());
    const stop = new AbortController();
    const stopped = session.retry({ signal: stop.signal });
    told.signal = await pieces(stopped, () => stop.abort()).catch(({ name }) => [name, stopped.finish]);
    // A signal outlives its answers.
    const late = new AbortController();
    const done = session.retry({ signal: late.signal, maxTokens: 1 });
    await done.text();
    done.free();
    late.abort();
    const broken = session.retry();
    for await (const _ of broken) break;
    told.broken = broken.finish;
    told.roles = session.messages.map(({ role }) => role);
    told.stop = await pieces(session.retry({ stop: [" a"], maxTokens: 30 }));
    told.length = await pieces(session.retry({ maxTokens: 2 }));
    const mark = await session.mark();
    const fork = await session.fork();
    await session.clear();
    told.fork = [fork.messages.length, session.messages.length];
    await session.backTo(mark);
    told.back = session.messages.length;
    fork.close();
    session.close();
    return told;
  });
  assert.deepEqual([told.cancel[1], told.signal, told.broken], ["cancelled", ["AbortError", "cancelled"], "cancelled"]);
  assert.ok(told.cancel[0] < 6, `${told.cancel}`);
  assert.deepEqual([told.stop[1], told.length[1]], ["stop", "length"]);
  assert.deepEqual(told.roles, ["system", "user", "assistant"]);
  assert.deepEqual([...told.fork, told.back], [3, 0, 3]);
});

test("errors have a kind and the library's text", async () => {
  const told = await page.evaluate(async () => {
    const session = await model.chat({ temperature: 0 });
    const answer = session.send("Hello!");
    const busy = await refused(() => session.snapshot());
    answer.close();
    const told = {
      busy,
      unknown: await refused(() => model.chat({ temprature: 1 })),
      range: await refused(() => model.chat({ topP: 2 })),
      id: await refused(() => model.logits(Uint32Array.of(1 << 20))),
      undo: await refused(() => session.undo()),
      junk: await refused(() => session.restore(new Uint8Array(500))),
      files: await refused(() => peregrine.load([["config.json", 5]])),
      missing: await refused(() => peregrine.load([["tokenizer.json", new Uint8Array(2)]])),
      weights: await refused(() => peregrine.load("models/tiny-chat", { weights: "q9" })),
    };
    const sessions = [];
    told.slots = await refused(async () => {
      for (let i = 0; i < 9; i++) sessions.push(await model.chat());
    });
    for (const one of [...sessions, session]) one.close();
    told.closed = await refused(() => session.undo());
    return told;
  });
  const expected = {
    busy: /PeregrineError Busy: the session is busy/,
    unknown: /BadArgument: options: unknown field `temprature`/,
    range: /BadSetting: top_p is 2/,
    id: /token id 1048576 at position 0/,
    undo: /NothingToUndo: nothing to undo/,
    junk: /State.*: .*snapshot/,
    files: /BadArgument: files: each is a pair/,
    missing: /config\.json/,
    weights: /no format "q9": .*q4_K/,
    slots: /NoFreeSlot/,
    closed: /Closed: the session is closed/,
  };
  for (const [name, pattern] of Object.entries(expected)) assert.match(told[name], pattern);
});

test("damaged models are errors, and the module goes on", async () => {
  const outcomes = await page.evaluate(async () => {
    const files = await peregrine.fetchModel("fixtures/falcon-tiny");
    const outcomes = [];
    const changed = (name, change) => files.map(([file, bytes]) => [file, file === name ? change(bytes.slice()) : bytes]);
    const byte = (at) => (bytes) => ((bytes[at % bytes.length] ^= 0x29), bytes);
    const attempts = [];
    for (let at = 0; at < 813; at += 53) attempts.push(changed("config.json", byte(at)));
    for (let at = 0; at < 3000; at += 301) attempts.push(changed("model-00001-of-00002.safetensors", byte(at)));
    attempts.push(changed("model-00002-of-00002.safetensors", (bytes) => bytes.subarray(0, 1000)));
    attempts.push(changed("tokenizer.json", () => new TextEncoder().encode("[".repeat(100_000))));
    for (const attempt of attempts) {
      outcomes.push(await refused(async () => (await peregrine.load(attempt, { slots: 1 })).free()));
    }
    const session = await model.chat({ temperature: 0 });
    outcomes.push(await session.send("What is 3 plus 4?").text());
    session.close();
    return outcomes;
  });
  assert.equal(outcomes.pop(), "3 plus 4 is 7.");
  const errors = outcomes.filter((outcome) => outcome !== "no error");
  assert.ok(errors.length > 8, `only ${errors.length} of ${outcomes.length} were refused`);
  for (const error of errors) assert.match(error, /^PeregrineError \w+: /);
});

test("the version is that of the package, and no event threw", async () => {
  const told = await page.evaluate(async () => [await peregrine.version(), thrown]);
  assert.deepEqual(told, [JSON.parse(readFileSync(join(SITE, "peregrine/package.json"), "utf8")).version, []]);
});

test("a thousand sessions leave no slot and no memory", async () => {
  const grown = await page.evaluate(async () => {
    const memory = () => [model.deviceMemory, peregrine.memory()];
    const rounds = async (count) => {
      for (let i = 0; i < count; i++) {
        const session = await model.chat({ seed: i });
        session.send("Hello!").close();
        session.free();
      }
    };
    await rounds(50);
    const [device, host] = memory();
    await rounds(950);
    return [memory()[0] - device, memory()[1] - host];
  });
  assert.equal(grown[0], 0);
  assert.ok(grown[1] <= 1 << 20, `${grown[1]} bytes`);
});
