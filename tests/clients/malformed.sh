#!/usr/bin/env bash
# schemathesis: requests made from the API's own description, valid and malformed, alone and in sequences. No response may be a 5xx,
# or differ from the description. EXAMPLES per endpoint.
set -euo pipefail
# It leaves a folder where it runs.
cd target/clients
schemathesis run "${DESCRIPTION:-$SERVER/openapi.json}" --url "$SERVER" --max-examples "${EXAMPLES:-100}" --workers 1 --seed "${SEED:-1}" \
  --checks not_a_server_error,content_type_conformance,response_schema_conformance,status_code_conformance \
  --phases examples,coverage,fuzzing,stateful --request-timeout 60 --no-color
