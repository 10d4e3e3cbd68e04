#!/usr/bin/env python3
"""Mixed load on `peregrine serve` for a long time: every answer is compared with the one that the same request gets alone.

    soak.py http://127.0.0.1:8080 --pid PID --minutes 60 --connections 200

Clients ask for whole and streamed answers, store and continue conversations, read slowly, disconnect at random, and leave connections
half open. Prints the server's memory and file descriptors as it goes; the exit status is 1 if an answer was lost, mixed or cut.
Needs nothing but Python, and Linux for memory and descriptors.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

WAYS = ["whole"] * 3 + ["streamed"] * 3 + ["continued"] * 2 + ["slow", "disconnect", "disconnect", "half open"]


class Wrong(Exception):
    pass


class Soak:
    def __init__(self, url, seeds):
        self.place = (url.hostname, url.port)
        self.seeds, self.alone, self.counts, self.wrong = seeds, {}, Counter(), []

    def body(self, seed):
        if seed % 3 == 0:
            return "/v1/chat/completions", {
                "messages": [{"role": "user", "content": f"Tell me a story about {seed} cats."}],
                "seed": seed, "max_tokens": 24 + seed % 17, "temperature": 0.7,
            }  # fmt: skip
        return "/v1/completions", {
            "prompt": "Once upon a time " * (1 + seed % 5), "seed": seed, "max_tokens": 8 + seed % 29, "temperature": 0.9,
        }  # fmt: skip

    async def open(self, path, body, length=None, limit=2**16):
        reader, writer = await asyncio.open_connection(*self.place, limit=limit)
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: s\r\nConnection: close\r\nContent-Length: {length or len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        await writer.drain()
        return reader, writer

    async def post(self, path, body):
        for _ in range(1000):
            reader, writer = await self.open(path, body)
            answer = await reader.read()
            writer.close()
            head, _, rest = answer.partition(b"\r\n\r\n")
            status = int(head.split()[1])
            if status == 429:
                self.counts["refused, sent again"] += 1
                await asyncio.sleep(random.random())
                continue
            if status >= 300:
                raise Wrong(f"{status}: {rest[:300]!r}")
            return json.loads(rest)
        raise Wrong("refused 1,000 times")

    @staticmethod
    def text(answer):
        choice = answer["choices"][0]
        return choice.get("text") or choice.get("message", {}).get("content") or ""

    async def prepare(self):
        for seed in range(self.seeds):
            path, body = self.body(seed)
            first = await self.post(path, {**body, "store": True})
            then = {"messages": []} if path.endswith("chat/completions") else {"prompt": " and"}
            if "messages" in then:
                then = {"messages": [{"role": "user", "content": "And then?"}]}
            next_body = {**then, "state": first["state"], "max_tokens": 12, "temperature": 0}
            second = await self.post(path, next_body)
            self.alone[seed] = (self.text(first), self.text(second), then)

    async def streamed(self, seed, pause=0.0):
        path, body = self.body(seed)
        reader, writer = await self.open(path, {**body, "stream": True}, limit=2**10 if pause else 2**16)
        status = await reader.readline()
        if b" 429 " in status:
            writer.close()
            self.counts["refused"] += 1
            return None
        text, ended = "", False
        while line := await reader.readline():
            if pause:
                await asyncio.sleep(pause)
            if line.startswith(b"data: [DONE]"):
                ended = True
            elif line.startswith(b"data: "):
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    raise Wrong(chunk)
                for choice in chunk["choices"]:
                    text += choice.get("text") or choice.get("delta", {}).get("content") or ""
        writer.close()
        if not ended:
            raise Wrong(f"a stream was cut after {text!r}")
        return text

    async def one(self, way, seed):
        path, body = self.body(seed)
        expected, expected_next, then = self.alone[seed]
        if way == "whole":
            got = self.text(await self.post(path, body))
        elif way in ("streamed", "slow"):
            got = await self.streamed(seed, 0.05 if way == "slow" else 0.0)
        elif way == "continued":
            first = await self.post(path, {**body, "store": True})
            got = self.text(first)
            after = await self.post(path, {**then, "state": first["state"], "max_tokens": 12, "temperature": 0})
            if self.text(after) != expected_next:
                raise Wrong(f"seed {seed} continued with {self.text(after)!r}, alone with {expected_next!r}")
        elif way == "disconnect":
            _, writer = await self.open(path, {**body, "max_tokens": 500, "stream": random.random() < 0.5})
            await asyncio.sleep(random.random())
            writer.transport.abort()
            got = None
        else:
            # A client that sends half a body and then nothing.
            _, writer = await self.open(path, body, length=100_000)
            await asyncio.sleep(5)
            writer.close()
            got = None
        if got is not None and got != expected:
            raise Wrong(f"seed {seed}, {way}: {got!r}, alone {expected!r}")

    async def client(self, until):
        while time.monotonic() < until:
            way = random.choice(WAYS)
            try:
                await asyncio.wait_for(self.one(way, random.randrange(self.seeds)), 600)
                self.counts[way] += 1
            except Exception as problem:
                self.wrong.append(f"{way}: {type(problem).__name__} {problem}")
                print(self.wrong[-1], file=sys.stderr, flush=True)


def watched(pid):
    status = open(f"/proc/{pid}/status").read().split("\n")
    memory = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    return memory / 1024, len(os.listdir(f"/proc/{pid}/fd"))


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=60)
    given = parser.parse_args()
    soak = Soak(urlsplit(given.url), given.seeds)
    await soak.prepare()
    print("| minute | memory, MB | descriptors | requests | wrong |\n|---:|---:|---:|---:|---:|")
    start = time.monotonic()
    until = start + 60 * given.minutes
    clients = [asyncio.create_task(soak.client(until)) for _ in range(given.connections)]

    def line():
        memory, descriptors = watched(given.pid)
        minute = (time.monotonic() - start) / 60
        print(f"| {minute:.1f} | {memory:.0f} | {descriptors} | {soak.counts.total()} | {len(soak.wrong)} |", flush=True)

    while time.monotonic() < until:
        line()
        await asyncio.sleep(min(max(6.0, given.minutes), max(0.1, until - time.monotonic())))
    await asyncio.gather(*clients)
    await asyncio.sleep(2)
    line()
    print("\n" + ", ".join(f"{way}: {count}" for way, count in sorted(soak.counts.items())))
    sys.exit(bool(soak.wrong))


asyncio.run(main())
