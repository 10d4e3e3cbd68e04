'use strict';
// Makes the package: node pack.js ADDON FOLDER [PLATFORM]
//
// Without a platform: FOLDER/peregrine, complete for this machine. With one, as npm's registry needs it: FOLDER/peregrine without an
// addon, which depends on a package for each platform, and FOLDER/peregrine-PLATFORM with this addon.

const { cpSync, mkdirSync, rmSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');
const about = require('./package.json');
const { platform } = require('./lib/native.js');

/** The platforms of releases, with what npm compares with the machine. */
const PLATFORMS = {
  'darwin-arm64': { os: ['darwin'], cpu: ['arm64'] },
  'darwin-x64': { os: ['darwin'], cpu: ['x64'] },
  'linux-arm64-gnu': { os: ['linux'], cpu: ['arm64'], libc: ['glibc'] },
  'linux-x64-gnu': { os: ['linux'], cpu: ['x64'], libc: ['glibc'] },
  'win32-x64-msvc': { os: ['win32'], cpu: ['x64'] },
};

function write(folder, about) {
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(about, null, 2)}\n`);
}

function fresh(...path) {
  const folder = join(...path);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  return folder;
}

function pack(addon, folder, target) {
  const file = `peregrine.${target ?? platform()}.node`;
  const main = fresh(folder, 'peregrine');
  for (const each of about.files) cpSync(join(__dirname, each), join(main, each), { recursive: true });
  if (target === undefined) {
    cpSync(addon, join(main, file));
    return write(main, { ...about, files: [...about.files, file] });
  }
  if (!PLATFORMS[target]) throw new Error(`no platform ${target}: ${Object.keys(PLATFORMS).join(', ')}`);
  const { private: _, ...published } = about;
  const others = Object.keys(PLATFORMS).map((each) => [`peregrine-${each}`, about.version]);
  write(main, { ...published, optionalDependencies: Object.fromEntries(others) });
  const { version, license, engines } = about;
  const description = `peregrine's addon for ${target}`;
  const own = fresh(folder, `peregrine-${target}`);
  cpSync(addon, join(own, file));
  write(own, { name: `peregrine-${target}`, version, description, license, main: file, files: [file], engines, ...PLATFORMS[target] });
}

const [addon, folder, target] = process.argv.slice(2);
if (folder === undefined) {
  console.error('usage: node pack.js ADDON FOLDER [PLATFORM]');
  process.exitCode = 2;
} else {
  pack(addon, folder, target);
}
