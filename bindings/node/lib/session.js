'use strict';
// A conversation.

const { Answer } = require('./answer.js');
const { call } = require('./calls.js');
const { ASYNC_DISPOSE, DISPOSE } = require('./dispose.js');
const { now } = require('./errors.js');
const options = require('./options.js');

/** A moment of a session. */
class Mark {
  #native;

  constructor(native) {
    this.#native = native;
  }

  static native(mark) {
    if (!(mark instanceof Mark)) throw new TypeError('mark: it has to be what mark() gave');
    return mark.#native;
  }

  get messages() {
    return this.#native.messages.map(options.shownMessage);
  }

  get position() {
    return this.#native.position;
  }
}

class Session {
  #native;

  constructor(native) {
    this.#native = native;
  }

  #answer(begin, given) {
    const [checked, signal] = options.answer(given);
    signal?.throwIfAborted();
    return new Answer(now(() => begin(checked)), signal);
  }

  send(text, given = {}) {
    options.text('text', text);
    return this.#answer((checked) => this.#native.send(text, checked), given);
  }

  converse(messages, given = {}) {
    const all = options.messages(messages);
    return this.#answer((checked) => this.#native.converse(all, checked), given);
  }

  complete(prompt, given = {}) {
    const start = options.prompt('prompt', prompt);
    return this.#answer((checked) => this.#native.complete(start, checked), given);
  }

  resume(given = {}) {
    return this.#answer((checked) => this.#native.resume(checked), given);
  }

  retry(given = {}) {
    return this.#answer((checked) => this.#native.retry(checked), given);
  }

  async feed(ids, given = {}) {
    const checked = options.ids('ids', ids);
    await call((number) => this.#native.feed(number, checked), options.read(given, { signal: options.signal }));
  }

  async setSampling(sampling) {
    const checked = options.read(sampling, options.SAMPLING);
    await call((number) => this.#native.setSampling(number, checked));
  }

  async system(text) {
    options.text('text', text);
    await call((number) => this.#native.system(number, text));
  }

  async clear() {
    await call((number) => this.#native.clear(number));
  }

  async undo() {
    return options.shownMessage(await call((number) => this.#native.undo(number)));
  }

  async fork() {
    return new Session(await call((number) => this.#native.fork(number)));
  }

  async mark() {
    return new Mark(await call((number) => this.#native.mark(number)));
  }

  async backTo(mark) {
    const moment = Mark.native(mark);
    await call((number) => this.#native.backTo(number, moment));
  }

  async snapshot() {
    return call((number) => this.#native.snapshot(number));
  }

  async restore(snapshot) {
    const bytes = options.bytes('snapshot', snapshot);
    return call((number) => this.#native.restore(number, bytes));
  }

  cancel() {
    this.#native.cancel();
  }

  close() {
    this.#native.close();
  }

  get messages() {
    return now(() => this.#native.messages).map(options.shownMessage);
  }

  get position() {
    return now(() => this.#native.position);
  }

  [DISPOSE]() {
    this.close();
  }

  async [ASYNC_DISPOSE]() {
    this.close();
  }
}

module.exports = { Mark, Session };
