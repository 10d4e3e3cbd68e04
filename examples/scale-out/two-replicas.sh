#!/usr/bin/env bash
# Two replicas behind nginx share a folder of states. A conversation begins, the replica that answered is killed, and the other one
# continues it: the answer is the same as if nothing had happened. Needs nginx, curl and python3; uses the ports 8080 to 8082.
set -euo pipefail
cd "$(dirname "$0")/../.."
peregrine=${PEREGRINE:-$PWD/target/release/peregrine}
place=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$place"' EXIT

declare -A replica
for port in 8081 8082; do
  "$peregrine" serve -m models/tiny-chat --states "$place/states" --port $port --alias "replica-$port" >"$place/$port" 2>/dev/null &
  replica[$port]=$!
done
cp examples/scale-out/nginx.conf "$place/"
nginx -p "$place" -c nginx.conf -g 'daemon off;' 2>"$place/nginx.log" &
for port in 8081 8082 8080; do
  until curl -sf "localhost:$port/readyz" >/dev/null; do sleep 0.2; done
done

ask() { curl -sf localhost:8080/v1/chat/completions -d "$1"; }
field() { python3 -c 'import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1:]: value = value[int(key) if key.isdigit() else key]
print(value)' "$@"; }

first='{"messages": [{"role": "user", "content": "Tell me a story about a fox."}], "max_tokens": 40, "temperature": 0, "store": true}'
opened=$(ask "$first")
state=$(field state <<<"$opened")
by=$(field model <<<"$opened")
echo "$by: $(field choices 0 message content <<<"$opened")"
next='{"state": "'$state'", "messages": [{"role": "user", "content": "And then?"}], "max_tokens": 40, "temperature": 0}'
expected=$(ask "$next" | field choices 0 message content)

kill -9 "${replica[${by#replica-}]}"
echo "killed $by"
continued=$(ask "$next")
after=$(field choices 0 message content <<<"$continued")
echo "$(field model <<<"$continued"): $after"
[ "$(field model <<<"$continued")" != "$by" ]
[ "$after" = "$expected" ]
echo "ok: another replica continued the conversation from its state, with the same answer"
