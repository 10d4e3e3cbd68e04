"""A service with S3's API (moto): two servers keep states in one bucket, and each continues the other's conversation."""

import contextlib
import json
import os
import subprocess
import urllib.error
import urllib.request

import boto3
from moto.server import ThreadedMotoServer

service = ThreadedMotoServer(port=0)
service.start()
host, port = service.get_host_and_port()
environment = {
    "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
    "AWS_ENDPOINT": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true",
}  # fmt: skip
bucket = boto3.resource(
    "s3", endpoint_url=environment["AWS_ENDPOINT"], region_name="us-east-1",
    aws_access_key_id="key", aws_secret_access_key="secret",
).create_bucket(Bucket="states")  # fmt: skip


def command(place):
    return [os.environ["PEREGRINE"], "serve", "-m", os.environ["MODELS"] + "/tiny-chat", "--port", "0", "--states", place]


@contextlib.contextmanager
def server(place):
    process = subprocess.Popen(command(place), env={**os.environ, **environment}, stdout=subprocess.PIPE)
    try:
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.kill()
        process.wait()


def call(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(asked, timeout=60) as reply:
        return reply.read()


def say(url, text, **more):
    body = {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 24, "store": True, **more}
    answer = json.loads(call("POST", url + "/v1/chat/completions", body))
    return answer["id"], answer["choices"][0]["message"]["content"]


with server("s3://states/chats") as first, server("s3://states/chats") as second, server("s3://states") as beside:
    one, _ = say(first, "Tell me a story about a fox.")
    assert [item.key for item in bucket.objects.all()] == [f"chats/{one}.state"]
    here = say(first, "What did it eat?", state=one)[1]
    there = say(second, "What did it eat?", state=one)[1]
    assert here == there, (here, there)
    assert there != say(second, "What did it eat?")[1], "the state makes no difference"
    states = json.loads(call("GET", second + "/v1/states"))["data"]
    assert one in [state["id"] for state in states]
    copy = json.loads(call("POST", f"{second}/v1/states/{one}/fork"))["id"]
    call("DELETE", f"{second}/v1/states/{one}")
    assert say(first, "What did it eat?", state=copy)[1] == here
    for gone in (f"{first}/v1/states/{one}", f"{beside}/v1/states/{copy}"):
        try:
            call("GET", gone)
            raise AssertionError(f"{gone} is there")
        except urllib.error.HTTPError as error:
            assert error.code == 404, error

refused = subprocess.run(command("s3://missing"), env={**os.environ, **environment}, capture_output=True, timeout=60)
assert refused.returncode != 0 and b"s3://missing" in refused.stderr, refused
service.stop()
print(f"s3: continued on another server, forked, deleted; a missing bucket: {refused.stderr.decode().strip().splitlines()[-1]}")
