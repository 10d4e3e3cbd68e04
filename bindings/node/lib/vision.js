'use strict';
// Pictures: classes and features by a Vision Mamba.

const { isUint8Array } = require('node:util/types');
const { call } = require('./calls.js');
const { ASYNC_DISPOSE, DISPOSE } = require('./dispose.js');
const { shaped } = require('./numbers.js');
const options = require('./options.js');

const numbers = ({ values, shape }) => shaped(values, shape);

/** A path, or the bytes of a picture's file. */
const picture = (value) => (isUint8Array(value) ? value : options.path('picture', value));

class VisionModel {
  #native;

  constructor(native) {
    this.#native = native;
  }

  /** Does `work` for one picture, or for several. */
  async #each(given, signal, work) {
    const pictures = (Array.isArray(given) ? given : [given]).map(picture);
    const results = await call((number) => work(number, pictures), { signal });
    return Array.isArray(given) ? results : results[0];
  }

  async classify(pictures, given = {}) {
    const { top = 5, signal } = options.read(given, { top: options.count, signal: options.signal });
    return this.#each(pictures, signal, (number, all) => this.#native.classify(number, all, top));
  }

  async features(pictures, given = {}) {
    const checks = { map: options.bool, layers: options.counts, image: options.counts, signal: options.signal };
    const { map = false, layers = [], image, signal } = options.read(given, checks);
    if (image && image.length !== 2) throw new TypeError('image: it has to be [height, width]');
    const shown = (features) => ({
      classToken: numbers(features.classToken),
      map: features.map ? numbers(features.map) : null,
      layers: features.layers.map(numbers),
    });
    const all = (number, given) => this.#native.features(number, given, { map, layers, image });
    const found = await this.#each(pictures, signal, all);
    return Array.isArray(found) ? found.map(shown) : shown(found);
  }

  cancel() {
    this.#native.cancel();
  }

  close() {
    this.#native.close();
  }

  get name() {
    return this.#native.name;
  }

  get adapter() {
    return this.#native.adapter;
  }

  get classes() {
    return this.#native.classes;
  }

  [DISPOSE]() {
    this.close();
  }

  async [ASYNC_DISPOSE]() {
    this.close();
  }
}

module.exports = { VisionModel };
