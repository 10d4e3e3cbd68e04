#!/usr/bin/env bash
# schemathesis: requests made from the API's own description, and malformed ones. No response may be a 5xx. EXAMPLES per endpoint.
set -euo pipefail
schemathesis run "$SERVER/openapi.json" --url "$SERVER" --max-examples "${EXAMPLES:-100}" --workers 4 --seed 1 \
  --checks not_a_server_error,content_type_conformance,response_schema_conformance,status_code_conformance \
  --phases examples,coverage,fuzzing --request-timeout 60 --no-color
