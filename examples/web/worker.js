// The model in a worker, so that the page stays responsive while it loads. Each message is a call: { id, name, argument }; the
// answers are { id, value }, { id, error } and, in between, { id, event }.

import { fetchModel, forgetModel, load, selfTest } from "./peregrine/index.js";

let model;
let session;

function state() {
  return { messages: session.messages, position: session.position };
}

/** Streams an answer: a piece is an event. */
async function stream(answer, tell) {
  const started = performance.now();
  for await (const piece of answer) tell({ piece });
  const { finish, tokens } = answer;
  answer.free();
  return { finish, tokens, seconds: (performance.now() - started) / 1000, ...state() };
}

const calls = {
  async open({ model: from, options }, tell) {
    const progress = (stage, done, total) => tell({ stage, done, total });
    // The model that is open stays until the files of the other one are here; the GPU may not have room for both.
    const fetched = (done, total) => progress("fetch", done, total);
    const files = typeof from === "string" ? await fetchModel(from, { progress: fetched }) : from;
    session?.close();
    model?.free();
    session = model = undefined;
    model = await load(files, { ...options, progress });
    if (!model.canChat) throw new Error("this model has no chat template: it continues texts, and does not chat");
    session = await model.chat();
    const info = (await navigator.gpu.requestAdapter())?.info;
    const adapter = [info?.vendor, info?.architecture, info?.description].filter(Boolean).join(" ");
    return { adapter, memory: model.deviceMemory, notes: model.takeNotes(), ...state() };
  },
  isOpen: async () => session !== undefined,
  send: ({ text }, tell) => stream(session.send(text, { maxTokens: 1000 }), tell),
  retry: (_, tell) => stream(session.retry({ maxTokens: 1000 }), tell),
  async undo() {
    const text = await session.undo();
    return { text, ...state() };
  },
  async clear() {
    await session.clear();
    return state();
  },
  async save() {
    return session.snapshot();
  },
  async restore({ bytes }) {
    const warnings = await session.restore(bytes);
    return { warnings, ...state() };
  },
  sample: ({ options }) => session.setSampling(options),
  async stop() {
    session?.cancel();
  },
  forget: ({ url }) => forgetModel(url),
  test: (options, tell) => selfTest({ ...options, group: (group) => tell({ group }) }),
};

self.onmessage = async ({ data: { id, name, argument } }) => {
  const tell = (event) => self.postMessage({ id, event });
  try {
    if (!session && !["open", "isOpen", "forget", "stop", "test"].includes(name)) throw new Error("no model is open");
    self.postMessage({ id, value: await calls[name](argument ?? {}, tell) });
  } catch (error) {
    // A trap inside the module has no text of ours.
    const text = error instanceof WebAssembly.RuntimeError ? `a mistake in peregrine: ${error.message}` : error.message;
    self.postMessage({ id, error: text ?? String(error) });
  }
};
