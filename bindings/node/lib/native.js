'use strict';
// The addon for this machine: beside the package, or a package of its own.

const { existsSync } = require('node:fs');
const { join } = require('node:path');
const { PeregrineError } = require('./errors.js');

/** Which C library a Linux has. */
function linuxAbi() {
  // Without this the report asks for the names of all peers.
  const { report } = process;
  if (!report) return 'gnu';
  const before = report.excludeNetwork;
  report.excludeNetwork = true;
  const { header } = report.getReport();
  report.excludeNetwork = before;
  return header.glibcVersionRuntime ? 'gnu' : 'musl';
}

/** This platform, as the packages of addons are named. */
function platform() {
  const abi = { linux: linuxAbi, win32: () => 'msvc' }[process.platform];
  return [process.platform, process.arch, ...(abi ? [abi()] : [])].join('-');
}

function addon() {
  const name = platform();
  const beside = join(__dirname, '..', `peregrine.${name}.node`);
  if (existsSync(beside)) return require(beside);
  const other = `peregrine-${name}`;
  try {
    return require(other);
  } catch (error) {
    if (error.code !== 'MODULE_NOT_FOUND' || !error.message.includes(other)) throw error;
    const text = `there is no peregrine for ${name}: neither ${beside} nor the package ${other}; \`make node\` in a clone builds it`;
    throw new PeregrineError(text, 'NoAddon');
  }
}

module.exports = { addon, platform };
