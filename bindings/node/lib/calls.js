'use strict';
// Calls of the addon as promises. It works on threads of its own, and rings when there are replies.

const { setInterval } = require('node:timers');
const { PeregrineError } = require('./errors.js');
const { addon } = require('./native.js');

const native = addon();
const waiting = new Map();
let last = 0;

// Keeps the process alive while calls wait, as the addon's threads do not.
const alive = setInterval(() => {}, 2 ** 31 - 1);
alive.unref();

const calls = new native.Calls(() => {
  for (let reply = calls.reply(); reply; reply = calls.reply()) deliver(reply);
});

// `process.exit` calls no hooks of addons.
process.on('exit', () => calls.exit());

function deliver({ call, note, progress, problem, value }) {
  const waits = waiting.get(call);
  if (note !== undefined) waits?.onNote?.(note);
  else if (progress) waits?.onProgress?.(progress);
  else if (!waits) discard(value);
  else if (problem) waits.reject(new PeregrineError(problem.text, problem.code, problem.kind));
  else waits.resolve(value);
}

/** Frees a model that arrives when nobody waits for it any more. */
function discard(value) {
  if (value instanceof native.VisionModel) value.close();
  else if (value instanceof native.Model) call((number) => value.close(number));
}

/**
 * A call that `start` starts by its number. A signal stops it: with `leave` it is left to itself then, else it is waited for, so that
 * its session is free afterwards.
 */
function call(start, { signal, leave = false, onNote, onProgress } = {}) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    last = (last + 1) % 2 ** 32;
    const number = last;
    const stop = () => {
      calls.stop(number);
      if (leave) end(() => reject(signal.reason));
    };
    const end = (settle) => {
      signal?.removeEventListener('abort', stop);
      waiting.delete(number);
      if (waiting.size === 0) alive.unref();
      settle();
    };
    if (waiting.size === 0) alive.ref();
    waiting.set(number, {
      onNote,
      onProgress: onProgress && (({ stage, done, total }) => {
        try {
          onProgress(stage, done, total);
        } catch (error) {
          calls.stop(number);
          end(() => reject(error));
        }
      }),
      resolve: (value) => end(() => resolve(value)),
      reject: (error) => end(() => reject(signal?.aborted && error.code === 'Cancelled' ? signal.reason : error)),
    });
    signal?.addEventListener('abort', stop, { once: true });
    try {
      start(number);
    } catch (error) {
      end(() => reject(error));
    }
  });
}

module.exports = { call, calls, native };
