// peregrine for browsers: language models over WebGPU. Types and documentation are in index.d.ts.

import start, { Answer, Mark, Model, Session, selfTest as test, version as built } from "./peregrine_web.js";
import { fetchModel, forgetModel } from "./files.js";
import { Findings } from "./findings.js";

export { Answer, Mark, Model, Session, fetchModel, forgetModel };

let started;
let wasm;

/** Compiles the module; once, on first use. */
async function ready() {
  // After a failure, such as that of a network, the next call tries again.
  started ??= start().catch((error) => {
    started = undefined;
    throw error;
  });
  wasm = await started;
}

/** The version of the library. */
export async function version() {
  await ready();
  return built();
}

/** Bytes of the module's memory. */
export function memory() {
  return wasm?.memory.buffer.byteLength ?? 0;
}

/** Loads a model: from a URL, or from its files. */
export async function load(model, { progress, signal, ...options } = {}) {
  await ready();
  const name = typeof model === "string" ? model.replace(/\/+$/, "").split("/").pop() : undefined;
  const fetched = (done, total) => progress?.("fetch", done, total);
  const files = typeof model === "string" ? await fetchModel(model, { progress: fetched, signal }) : await read(model);
  signal?.throwIfAborted();
  const findings = await Findings.read();
  const loaded = (done, total) => progress?.("load", done, total);
  const made = await Model.load(files, { name, ...options }, loaded, findings.text);
  await findings.write(made.findings);
  return made;
}

/** Pairs of name and bytes; of `File`s, as an input element or a drop gives them, the bytes are read. */
async function read(files) {
  const one = async (file) => (file instanceof File ? [file.name, new Uint8Array(await file.arrayBuffer())] : file);
  return Promise.all(Array.from(files, one));
}

/** Tests the device: every kernel against its reference. */
export async function selfTest({ only, plant, group } = {}) {
  await ready();
  return JSON.parse(await test(only, plant, (json) => group?.(JSON.parse(json))));
}

// An answer is an async iterator, and `break` ends it.
Answer.prototype[Symbol.asyncIterator] = function () {
  return this;
};
/** The signals of answers that are not over, with what listens to them. */
const signals = new WeakMap();

function letGo(answer) {
  const { signal, stop } = signals.get(answer) ?? {};
  signal?.removeEventListener("abort", stop);
  signals.delete(answer);
}

for (const name of ["close", "free"]) {
  const end = Answer.prototype[name];
  Answer.prototype[name] = function () {
    letGo(this);
    return end.call(this);
  };
}
const next = Answer.prototype.next;
Answer.prototype.next = async function () {
  const result = await next.call(this);
  const signal = signals.get(this)?.signal;
  if (signal?.aborted) {
    this.close();
    throw signal.reason;
  }
  if (result.done) letGo(this);
  return result;
};
Answer.prototype.return = async function (value) {
  this.close();
  return { value, done: true };
};
Answer.prototype.text = async function () {
  let text = "";
  for await (const piece of this) text += piece;
  return text;
};

const chat = Model.prototype.chat;
Model.prototype.chat = function ({ system, ...sampling } = {}) {
  return chat.call(this, sampling, system);
};

for (const [name, places] of [["send", 1], ["complete", 1], ["retry", 0], ["resume", 0]]) {
  const call = Session.prototype[name];
  Session.prototype[name] = function (...given) {
    const { signal, ...options } = given[places] ?? {};
    signal?.throwIfAborted();
    const answer = call.call(this, ...given.slice(0, places), options);
    if (signal) {
      const stop = () => answer.cancel();
      signal.addEventListener("abort", stop, { once: true });
      signals.set(answer, { signal, stop });
    }
    return answer;
  };
}

Object.defineProperty(Session.prototype, "messages", {
  get() {
    return JSON.parse(this.messagesJson());
  },
});
