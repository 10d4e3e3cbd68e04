#!/usr/bin/env bash
# The JavaScript of bindings/web and the page of examples/web, as `make web` builds it, in headless Chromium on its software driver for WebGPU. `make test-web` installs
# all of it.
set -euo pipefail
cd "$(dirname "$0")/.."
# Node finds packages in the folders above a test.
cp tests/web/* target/web/node/
SITE=$PWD/target/web/site FIXTURES=$PWD/tests/fixtures PEREGRINE=${PEREGRINE:-$PWD/target/debug/peregrine} CHROMIUM=$(command -v chromium) \
  node --test --test-concurrency=1 target/web/node/api.test.mjs target/web/node/page.test.mjs
