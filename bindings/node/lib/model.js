'use strict';
// A loaded language model.

const { Answer } = require('./answer.js');
const { call } = require('./calls.js');
const { ASYNC_DISPOSE } = require('./dispose.js');
const { now } = require('./errors.js');
const { shaped } = require('./numbers.js');
const options = require('./options.js');
const { Session } = require('./session.js');

class Model {
  #native;

  constructor(native) {
    this.#native = native;
  }

  async chat(given = {}) {
    const { system, ...sampling } = options.read(given, { ...options.SAMPLING, system: options.text });
    return new Session(await call((number) => this.#native.chat(number, system, sampling)));
  }

  generate(prompt, given = {}) {
    const start = options.prompt('prompt', prompt);
    const [sampling, rest] = options.apart(given, options.SAMPLING);
    const [checked, signal] = options.answer(rest);
    signal?.throwIfAborted();
    return new Answer(now(() => this.#native.generate(start, options.read(sampling, options.SAMPLING), checked)), signal);
  }

  async logits(ids, given = {}) {
    const checked = options.ids('ids', ids);
    const { vocab } = this;
    const read = options.read(given, { signal: options.signal });
    return shaped(await call((number) => this.#native.logits(number, checked), read), [checked.length, vocab]);
  }

  async tokenize(text, given = {}) {
    options.text('text', text);
    const { addSpecial = false, parseSpecial = false } = options.read(given, {
      addSpecial: options.bool,
      parseSpecial: options.bool,
    });
    return call((number) => this.#native.tokenize(number, text, addSpecial, parseSpecial));
  }

  async detokenize(ids) {
    const checked = options.ids('ids', ids);
    return call((number) => this.#native.detokenize(number, checked));
  }

  async recover() {
    return call((number) => this.#native.recover(number));
  }

  async close() {
    await call((number) => this.#native.close(number));
  }

  get name() {
    return now(() => this.#native.name);
  }

  get adapter() {
    return now(() => this.#native.adapter);
  }

  get memory() {
    return now(() => this.#native.memory);
  }

  get slots() {
    return now(() => this.#native.slots);
  }

  get vocab() {
    return now(() => this.#native.vocab);
  }

  get eos() {
    return now(() => this.#native.eos);
  }

  get canChat() {
    return now(() => this.#native.canChat);
  }

  [ASYNC_DISPOSE]() {
    return this.close();
  }
}

module.exports = { Model };
