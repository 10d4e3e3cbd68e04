"""Replicas of the server as a Ray Serve deployment. States are in a folder that all replicas see, so any of them continues any conversation.

    pip install "ray[serve]" httpx
    PEREGRINE=target/release/peregrine MODEL=models/tiny-chat STATES=/tmp/states serve run ray_serve:app

Run it in this folder. Requests go to http://127.0.0.1:8000/v1/….
"""

import json
import os
import subprocess

import httpx
from ray import serve
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

REPLICAS = int(os.environ.get("REPLICAS", "2"))
# Set num_gpus to 1 where each replica has a GPU of its own.
RESOURCES = {"num_cpus": 1, "num_gpus": float(os.environ.get("GPUS", "0"))}
PASSED_ON = ("authorization", "content-type", "x-request-id")


@serve.deployment(num_replicas=REPLICAS, ray_actor_options=RESOURCES, max_ongoing_requests=64)
class Peregrine:
    def __init__(self, program: str, model: str, states: str):
        # The server ends with this actor, however that ends.
        command = [program, "serve", "-m", model, "--states", states, "--port", "0", "--parent", str(os.getpid())]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE)
        ready = json.loads(self.server.stdout.readline())
        self.client = httpx.AsyncClient(base_url=ready["url"], timeout=None)

    async def check_health(self):
        (await self.client.get("/livez")).raise_for_status()

    async def __call__(self, request: Request) -> Response:
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        sent = self.client.build_request(
            request.method, request.url.path, params=request.query_params, headers=headers, content=await request.body()
        )
        answer = await self.client.send(sent, stream=True)

        async def body():
            try:
                async for piece in answer.aiter_raw():
                    yield piece
            finally:
                # Also if the client has gone: the server then frees the slot.
                await answer.aclose()

        return StreamingResponse(body(), answer.status_code, media_type=answer.headers.get("content-type"))


app = Peregrine.bind(
    os.path.abspath(os.environ.get("PEREGRINE", "peregrine")),
    os.path.abspath(os.environ.get("MODEL", "models/tiny-chat")),
    os.path.abspath(os.environ.get("STATES", "states")),
)
