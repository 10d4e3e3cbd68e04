"""Answers a file of requests with Ray Data: actors with a server each take rows as they become free.

    pip install "ray[data]" httpx
    PEREGRINE=target/release/peregrine python ray_data.py INPUT.jsonl OUTPUT_FOLDER

Rows are those of OpenAI's batch files, as `peregrine batch` takes them: {"custom_id", "url", "body"}. On one machine
`peregrine batch -i INPUT -o OUTPUT` does the same without Ray; this is for many. REPLICAS actors take a CPU each, and reading the
file takes one more.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import ray

SLOTS = int(os.environ.get("SLOTS", "8"))


class Answer:
    def __init__(self):
        program = os.path.abspath(os.environ.get("PEREGRINE", "peregrine"))
        model = os.path.abspath(os.environ.get("MODEL", "models/tiny-chat"))
        command = [program, "serve", "-m", model, "--port", "0", "--slots", str(SLOTS), "--parent", str(os.getpid())]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE)
        url = json.loads(self.server.stdout.readline())["url"]
        self.client = httpx.Client(base_url=url, timeout=None)
        self.threads = ThreadPoolExecutor(SLOTS)

    def one(self, line: str) -> str:
        row = json.loads(line)
        reply = self.client.post(row["url"], json=row["body"])
        response = {"status_code": reply.status_code, "body": reply.json()}
        return json.dumps({"custom_id": row["custom_id"], "response": response})

    def __call__(self, rows: dict) -> dict:
        return {"text": list(self.threads.map(self.one, rows["text"]))}


if __name__ == "__main__":
    source, target = sys.argv[1:]
    replicas = int(os.environ.get("REPLICAS", "2"))
    answers = ray.data.read_text(source).map_batches(
        Answer, batch_size=4 * SLOTS, concurrency=replicas, num_cpus=1, num_gpus=float(os.environ.get("GPUS", "0"))
    )
    os.makedirs(target, exist_ok=True)
    with open(os.path.join(target, "answers.jsonl"), "w") as file:
        for row in answers.iter_rows():
            file.write(row["text"] + "\n")
