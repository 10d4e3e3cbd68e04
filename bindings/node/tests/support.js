'use strict';
// Models and folders that the tests share.

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const { mkdtempSync, rmSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const peregrine = require('peregrine');

const ROOT = process.env.PEREGRINE_ROOT;
const TINY_CHAT = join(ROOT, 'models', 'tiny-chat');
const DIGITS = join(ROOT, 'models', 'vim-digits');
const FIXTURES = join(ROOT, 'tests', 'fixtures');

const QUESTION = 'What is 3 plus 4?';
const ANSWER = '3 plus 4 is 7.';
const STORY = 'Tell me a story about a fox.';
/** A prompt that takes seconds. */
const LONG = 'On and on. '.repeat(1500);

let loaded;
const tinyChat = () => (loaded ??= peregrine.load(TINY_CHAT, { slots: 8, chunk: 32 }));
const chat = async () => (await tinyChat()).chat({ temperature: 0 });

/** Runs `work` with a new conversation. */
async function withChat(work) {
  const session = await chat();
  try {
    return await work(session);
  } finally {
    session.close();
  }
}

/** All pieces of an answer. */
async function pieces(answer) {
  const all = [];
  for await (const piece of answer) all.push(piece);
  return all;
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The error of a call. */
async function failure(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new assert.AssertionError({ message: 'nothing was thrown' });
}

/** Fails unless a call fails with this code. */
async function fails(call, code, text = '') {
  const error = await failure(call);
  assert.ok(error instanceof peregrine.PeregrineError, `${error.stack}`);
  assert.equal(error.code, code, error.message);
  assert.ok(error.message.includes(text), error.message);
  return error;
}

/** What a program prints, and how it ended. */
async function run(program, args, options = {}) {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  const said = { out: '', err: '' };
  child.stdout.on('data', (data) => (said.out += data));
  child.stderr.on('data', (data) => (said.err += data));
  const [code, signal] = await once(child, 'close');
  return { ...said, code, signal };
}

/** Runs code in another process of Node. */
const node = (code, ...flags) => run(process.execPath, [...flags, '-e', code], { timeout: 60_000 });

/** The command line, as the same cargo invocation built it. */
const program = (...args) => run(process.env.PEREGRINE_PROGRAM, args);

/** Runs `work` with a folder that is removed afterwards. */
async function withFolder(work) {
  const folder = mkdtempSync(join(tmpdir(), 'peregrine-'));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

module.exports = {
  ANSWER,
  DIGITS,
  FIXTURES,
  LONG,
  QUESTION,
  ROOT,
  STORY,
  TINY_CHAT,
  chat,
  failure,
  fails,
  node,
  pieces,
  program,
  run,
  sleep,
  tinyChat,
  withChat,
  withFolder,
};
