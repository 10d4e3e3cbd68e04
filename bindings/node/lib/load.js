'use strict';
// Loading models, and the adapters to load them on.

const { call, calls, native } = require('./calls.js');
const { Model } = require('./model.js');
const options = require('./options.js');
const { VisionModel } = require('./vision.js');

const COMMON = {
  gpu: (name, value) => {
    if (typeof value === 'string') return value;
    if (typeof value === 'number') return options.count(name, value);
    throw new TypeError(`${name}: it has to be an index, or a part of an adapter's name`);
  },
  weights: options.text,
  memory: options.size,
  math: options.text,
  onProgress: options.callback,
  signal: options.signal,
};

async function loaded(start, model, given, checks) {
  const { onProgress, signal, ...checked } = options.read(given, { ...COMMON, ...checks });
  const path = model === undefined || model === null ? undefined : options.path('model', model);
  const onNote = (note) => process.emitWarning(note, 'PeregrineWarning');
  return call((number) => start(number, path, checked), { signal, leave: true, onNote, onProgress });
}

async function load(model, given = {}) {
  const start = (number, path, checked) => calls.load(number, path, checked);
  return new Model(await loaded(start, model, given, { slots: options.count, chunk: options.count }));
}

async function loadVision(model, given = {}) {
  const start = (number, path, checked) => calls.loadVision(number, path, checked);
  return new VisionModel(await loaded(start, model, given, { batch: options.count }));
}

async function adapters() {
  return call((number) => calls.adapters(number));
}

module.exports = { adapters, load, loadVision, version: native.VERSION };
