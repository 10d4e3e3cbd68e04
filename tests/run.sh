#!/usr/bin/env bash
# All tests, two test programs at a time: many end with one test that keeps one core busy. Programs that compare durations, kill
# others at a moment, or wait for a terminal run alone after them.
set -euo pipefail
cd "$(dirname "$0")/.."
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}" LOGS=target/test-logs
# The longest first, so that none of them is left over at the end.
first=(kernels python node state faults accuracy interleavings shaders eval model batch snapshot)
alone=(cancel chat hostile killed last_chat length load server signals speed timing tuning)

either() { local IFS='|'; echo "/($*)-[0-9a-f]+\$"; }
# Runs one program; prints its output if it fails. Only it gets the variable that cargo sets: with it, cargo would build again.
run() {
  local name log start
  name=$(basename "$1")
  log="$LOGS/$name"
  start=$SECONDS
  if CARGO_MANIFEST_DIR="$PWD" "$1" >"$log" 2>&1; then
    echo "ok $((SECONDS - start)) s $name: $(grep -a '^test result' "$log")"
  else
    cat "$log"
    echo "FAILED $name"
    return 1
  fi
}
export -f run
side_by_side() { xargs -r -P "$1" -I {} bash -c 'run "$1"' run {}; }

rm -rf "$LOGS"
mkdir -p "$LOGS"
programs=$(cargo test --workspace --tests --no-run --message-format=json-render-diagnostics \
  | sed -n 's|.*"profile":{[^}]*"test":true}.*"executable":"\([^"]*\)".*|\1|p')
long=$(for name in "${first[@]}"; do grep -E "$(either "$name")" <<<"$programs" || echo "no test program $name" >&2; done)
quiet=$(grep -E "$(either "${alone[@]}")" <<<"$programs")
rest=$(grep -Fvx -e "$long" -e "$quiet" <<<"$programs")
[ "$(wc -l <<<"$quiet")" = ${#alone[@]} ] || { echo "tests/run.sh: not all of these are test programs: ${alone[*]}" >&2; exit 1; }
failed=
printf '%s\n%s\n' "$long" "$rest" | side_by_side 2 || failed=1
side_by_side 1 <<<"$quiet" || failed=1
[ -z "$failed" ]
cargo test --doc
