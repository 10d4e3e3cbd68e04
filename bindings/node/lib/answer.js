'use strict';
// An answer: text as it is generated.

const { call } = require('./calls.js');
const { ASYNC_DISPOSE } = require('./dispose.js');

class Answer {
  #native;
  #signal;
  #said = '';
  #over = false;
  // Calls wait for each other.
  #row = Promise.resolve();

  constructor(native, signal) {
    this.#native = native;
    this.#signal = signal;
    signal?.addEventListener('abort', this.#abort, { once: true });
  }

  // A piece that is being made is waited for by whoever asked for it.
  #abort = () => this.#native.close();

  #end() {
    this.#over = true;
    this.#signal?.removeEventListener('abort', this.#abort);
  }

  async #make() {
    if (this.#over) return { done: true, value: undefined };
    try {
      const piece = this.#signal?.aborted ? null : await call((number) => this.#native.next(number));
      if (this.#signal?.aborted) throw this.#signal.reason;
      if (piece !== null) {
        this.#said += piece;
        return { done: false, value: piece };
      }
    } catch (error) {
      this.#native.close();
      this.#end();
      throw error;
    }
    this.#end();
    return { done: true, value: undefined };
  }

  next() {
    const made = this.#row.then(() => this.#make());
    this.#row = made.catch(() => {});
    return made;
  }

  /** What a loop calls that is left early. */
  async return(value) {
    await this.close();
    return { done: true, value };
  }

  async text() {
    while (!(await this.next()).done);
    return this.#said;
  }

  cancel() {
    this.#native.cancel();
  }

  async close() {
    this.#native.close();
    await this.#row;
    this.#end();
  }

  get finish() {
    return this.#native.finish;
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  [ASYNC_DISPOSE]() {
    return this.close();
  }
}

module.exports = { Answer };
