'use strict';
// Arguments: their types are checked here, and their values by the library.

const { fileURLToPath } = require('node:url');
const { isUint8Array, isUint32Array } = require('node:util/types');

const wrong = (name, needed) => new TypeError(`${name}: it has to be ${needed}`);

/** A check of a type. */
const typed = (is, needed) => (name, value) => {
  if (!is(value)) throw wrong(name, needed);
  return value;
};

const number = typed((value) => typeof value === 'number', 'a number');
const text = typed((value) => typeof value === 'string', 'a string');
const bool = typed((value) => typeof value === 'boolean', 'a boolean');
const callback = typed((value) => typeof value === 'function', 'a function');
const list = typed(Array.isArray, 'an array');
const object = typed((value) => typeof value === 'object' && value !== null, 'an object');
const bytes = typed(isUint8Array, 'a Buffer or Uint8Array');
// By what it can do: test runners have classes of their own.
const signal = typed((value) => typeof value?.throwIfAborted === 'function', 'an AbortSignal');

const whole = (most) => (name, value) => {
  if (!Number.isInteger(number(name, value)) || value < 0 || value > most) {
    throw new RangeError(`${name}: ${value} is not a whole number from 0 to ${most}`);
  }
  return value;
};
const count = whole(2 ** 32 - 1);
const size = whole(Number.MAX_SAFE_INTEGER);

const texts = (name, value) => list(name, value).map((each) => text(name, each));
const counts = (name, value) => list(name, value).map((each) => count(name, each));

/** A path or a file URL. */
function path(name, value) {
  if (typeof value?.href === 'string') return fileURLToPath(value.href);
  return typed((it) => typeof it === 'string', 'a string or a file URL')(name, value);
}

/** Token ids. */
function ids(name, value) {
  if (isUint32Array(value)) return value;
  return Uint32Array.from(typed(Array.isArray, 'an array of token ids or a Uint32Array')(name, value), (id) => count(name, id));
}

const prompt = (name, value) => (typeof value === 'string' ? value : ids(name, value));

function seed(name, value) {
  if (typeof value === 'number') return BigInt(size(name, value));
  if (typeof value !== 'bigint') throw wrong(name, 'a number or a bigint');
  if (value < 0n || value >= 1n << 64n) throw new RangeError(`${name}: ${value} is not from 0 to 2^64 - 1`);
  return value;
}

function biases(name, value) {
  const entries = value instanceof Map ? [...value] : Object.entries(object(name, value));
  return entries.map(([id, bias]) => ({ id: count(name, Number(id)), bias: number(name, bias) }));
}

const SAMPLING = {
  temperature: number,
  topK: count,
  topP: number,
  minP: number,
  seed,
  repeatPenalty: number,
  presencePenalty: number,
  frequencyPenalty: number,
  repeatLastN: count,
  logitBias: biases,
};

const CONSTRAINTS = {
  jsonSchema: (name, value) => (typeof value === 'string' ? value : text(name, JSON.stringify(object(name, value)))),
  regex: text,
  choice: texts,
  grammar: text,
};

const ANSWER = {
  maxTokens: count,
  stop: (name, value) => (typeof value === 'string' ? [value] : texts(name, value)),
  ...CONSTRAINTS,
  signal,
};

/** The options that are given, checked by a table. One that nobody reads is an error. */
function read(options, checks) {
  object('options', options);
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(checks, name));
  if (unknown !== undefined) throw new TypeError(`there is no option ${unknown}`);
  const given = Object.entries(options).filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(given.map(([name, value]) => [name, checks[name](name, value)]));
}

/** Those of `names` apart from the rest. */
function apart(options, names) {
  const [ours, rest] = [{}, {}];
  for (const [name, value] of Object.entries(options)) (Object.hasOwn(names, name) ? ours : rest)[name] = value;
  return [ours, rest];
}

/** Options of an answer for the addon, and their signal. */
function answer(options) {
  const { signal, ...given } = read(options, ANSWER);
  const constraints = Object.keys(CONSTRAINTS).filter((name) => name in given);
  if (constraints.length > 1) throw new TypeError(`${constraints.join(' and ')} do not go together: give one`);
  return [{ stop: [], ...given }, signal];
}

function message(value) {
  const { role, content, ...fields } = object('a message', value);
  const others = Object.entries(fields).filter(([, value]) => value !== undefined);
  return {
    role: text('role of a message', role),
    content: text('content of a message', content),
    fields: others.map(([name, value]) => ({ name, json: text(name, JSON.stringify(value)) })),
  };
}

const messages = (value) => list('messages', value).map(message);

/** A message of the addon as users see it. */
const shownMessage = ({ role, content, fields }) => ({
  role,
  content,
  ...Object.fromEntries(fields.map(({ name, json }) => [name, JSON.parse(json)])),
});

module.exports = {
  SAMPLING,
  answer,
  apart,
  bool,
  bytes,
  callback,
  count,
  counts,
  ids,
  messages,
  path,
  prompt,
  read,
  shownMessage,
  signal,
  size,
  text,
};
