#!/usr/bin/env bash
# Puts the module for browsers, with its JavaScript, and the page of examples/web into target/web/site. `make web` builds it first.
set -euo pipefail
cd "$(dirname "$0")/.."
site=target/web/site
rm -rf "$site"
mkdir -p "$site/models"
target/web/tools/bin/wasm-bindgen --target web --remove-name-section --remove-producers-section \
  --out-dir "$site/peregrine" target/wasm32-unknown-unknown/web/peregrine_web.wasm
cp bindings/web/js/* "$site/peregrine/"
cp examples/web/* "$site/"
cp -r models/tiny-chat "$site/models/"
wasm=$site/peregrine/peregrine_web_bg.wasm
echo "$wasm: $(wc -c <"$wasm") bytes, $(gzip -9 <"$wasm" | wc -c) compressed"
