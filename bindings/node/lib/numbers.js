'use strict';

/** Numbers of the addon with their shape. */
function shaped(values, shape) {
  return Object.defineProperty(values, 'shape', { value: Object.freeze(shape) });
}

module.exports = { shaped };
