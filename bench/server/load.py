#!/usr/bin/env python3
"""Load on a server with OpenAI's completions: requests and tokens a second, time to the first text and between pieces.

    load.py http://127.0.0.1:8080 --clients 1,8,32 --seconds 20

Each client sends one streamed request after the other. Needs nothing but Python.
"""

import argparse
import asyncio
import json
import time
from urllib.parse import urlsplit

PROMPT = "Once upon a time there was a"


async def request(host, port, body):
    """Sends one request; returns its times: when it was sent, and when each piece of its text came."""
    reader, writer = await asyncio.open_connection(host, port)
    data = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    head += f"Connection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    sent = time.perf_counter()
    writer.write(head.encode() + data)
    status = await reader.readline()
    pieces, tokens = [], 0
    if b" 200 " not in status:
        raise RuntimeError(f"{status!r} {await reader.read(500)!r}")
    async for line in reader:
        if not line.startswith(b"data: ") or b"[DONE]" in line:
            continue
        chunk = json.loads(line[6:])
        if "error" in chunk:
            raise RuntimeError(chunk)
        if any(choice.get("text") for choice in chunk["choices"]):
            pieces.append(time.perf_counter())
        tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
    writer.close()
    return sent, pieces, tokens


async def client(place, body, number, until, done):
    seed = number * 1_000_000
    while time.perf_counter() < until:
        done.append(await request(*place, {**body, "seed": seed}))
        seed += 1


def percentile(values, share):
    values = sorted(values)
    return 1e3 * values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--model", default="tiny-chat")
    parser.add_argument("--name", default="server")
    given = parser.parse_args()
    url = urlsplit(given.url)
    body = {
        "model": given.model,
        "prompt": PROMPT,
        "max_tokens": given.tokens,
        "temperature": 0.8,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    # Compiles what is compiled at first use.
    await request(url.hostname, url.port, {**body, "seed": 0})
    print("| server | clients | requests/s | tokens/s | first text p50, ms | p99, ms | between pieces p50, ms | p99, ms |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for count in map(int, given.clients.split(",")):
        done, start = [], time.perf_counter()
        tasks = (client((url.hostname, url.port), body, i, start + given.seconds, done) for i in range(count))
        await asyncio.gather(*tasks)
        elapsed = time.perf_counter() - start
        first = [pieces[0] - sent for sent, pieces, _ in done if pieces]
        gaps = [b - a for _, pieces, _ in done for a, b in zip(pieces, pieces[1:])]
        tokens = sum(tokens for *_, tokens in done)
        print(
            f"| {given.name} | {count} | {len(done) / elapsed:.1f} | {tokens / elapsed:.0f} "
            f"| {percentile(first, 0.5):.0f} | {percentile(first, 0.99):.0f} "
            f"| {percentile(gaps, 0.5):.1f} | {percentile(gaps, 0.99):.1f} |",
            flush=True,
        )


asyncio.run(main())
