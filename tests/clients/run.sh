#!/usr/bin/env bash
# Runs programs that people use with OpenAI's API against `peregrine serve` with the shipped model. Needs python3, node with npm, and
# the network for their packages, which go to target/clients. `run.sh NAME…` runs only these.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/tests/clients
place=$PWD/target/clients
peregrine=${PEREGRINE:-$PWD/target/release/peregrine}
[ -x "$peregrine" ] || { echo "clients: $peregrine is missing: run make clients" >&2; exit 1; }

mkdir -p "$place"
if ! cmp -s "$here/requirements.txt" "$place/installed.txt"; then
  python3 -m venv "$place/python"
  "$place/python/bin/pip" install --quiet -r "$here/requirements.txt"
  (cd "$place" && npm install --silent --no-fund --no-audit openai@6)
  cp "$here/requirements.txt" "$place/installed.txt"
fi

exec 3< <(exec "$peregrine" serve -m models/tiny-chat --port 0 --slots 4 --queue 1000 2>"$place/server.log")
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
read -r ready <&3
url=$(sed 's/.*"url":"\([^"]*\)".*/\1/' <<<"$ready")
export PEREGRINE=$peregrine OPENAI_BASE_URL=$url/v1 OPENAI_API_KEY=none SERVER=$url MODELS=$PWD/models NODE_PATH=$place/node_modules
export PATH=$place/python/bin:$PATH

if [ $# = 0 ]; then set -- openai_python openai_node litellm langchain llm lm_eval s3 malformed; fi
failed=
for name in "$@"; do
  start=$SECONDS
  case $name in
    openai_node) cp "$here/openai_node.mjs" "$place/" && node "$place/openai_node.mjs" ;;
    llm) "$here/llm.sh" ;;
    malformed) "$here/malformed.sh" ;;
    *) python3 "$here/${name}_client.py" ;;
  esac >"$place/$name.log" 2>&1 && echo "ok $name ($((SECONDS - start)) s): $(tail -n 1 "$place/$name.log")" \
    || { failed=1; tail -n 40 "$place/$name.log"; echo "FAILED $name"; }
done
[ -z "$failed" ]
