'use strict';
// The symbols of `using` and `await using`: those that compilers of TypeScript use, where Node has none.

module.exports = {
  DISPOSE: Symbol.dispose ?? Symbol.for('Symbol.dispose'),
  ASYNC_DISPOSE: Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose'),
};
