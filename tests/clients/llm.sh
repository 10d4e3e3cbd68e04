#!/usr/bin/env bash
# The `llm` command: a prompt, a stream, and a conversation that goes on.
set -euo pipefail
LLM_USER_PATH=$(mktemp -d)
export LLM_USER_PATH
trap 'rm -rf "$LLM_USER_PATH"' EXIT
cat >"$LLM_USER_PATH/extra-openai-models.yaml" <<YAML
- model_id: tiny
  model_name: tiny-chat
  api_base: $OPENAI_BASE_URL
YAML
first=$(llm -m tiny -o temperature 0 -o max_tokens 24 "Hello!")
whole=$(llm -m tiny --no-stream -o temperature 0 -o max_tokens 24 "Hello!")
[ -n "$first" ] && [ "$first" = "$whole" ]
next=$(llm -c "Tell me a story." -o max_tokens 24)
[ -n "$next" ]
echo "llm: streamed, whole, continued"
