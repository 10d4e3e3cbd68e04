'use strict';
// What can go wrong.

class PeregrineError extends Error {
  constructor(text, code, kind = code) {
    super(text);
    this.code = code;
    this.kind = kind;
  }
}
// The name that stack traces show.
Object.defineProperty(PeregrineError.prototype, 'name', { value: 'PeregrineError', configurable: true, writable: true });

/** The result of a function of the addon that does not wait; its errors as PeregrineErrors. */
function now(work) {
  try {
    return work();
  } catch (error) {
    throw new PeregrineError(error.message, error.code);
  }
}

module.exports = { PeregrineError, now };
