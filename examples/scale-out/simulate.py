#!/usr/bin/env python3
"""Simulates users who chat with N replicas, from measured step times, and prints latencies against N.

Compares states that any replica can load (the least busy one takes each message and reads only the message) with states that stay in
one replica (sticky sessions), and with no states (the whole conversation is read again).

    simulate.py --users 1000 --replicas 1,2,4,8 --slots 16 --step 8.0 --step-per-slot 0.6 --read 5104 --state-load 15

A user sends a message, reads the answer for a while, sends the next one, and after some messages a new user comes.
"""

import argparse
import heapq
import random


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--replicas", default="1,2,4,8,16")
    parser.add_argument("--slots", type=int, default=16, help="requests that a replica answers at a time")
    parser.add_argument("--step", type=float, required=True, help="ms of a decode step with one slot in use")
    parser.add_argument("--step-per-slot", type=float, required=True, help="ms that each more slot adds to it")
    parser.add_argument("--read", type=float, required=True, help="tokens of prompts read per second")
    parser.add_argument("--state-load", type=float, required=True, help="ms to load a state")
    parser.add_argument("--message", type=int, default=60, help="mean tokens of a message")
    parser.add_argument("--answer", type=int, default=150, help="mean tokens of an answer")
    parser.add_argument("--pause", type=float, default=30.0, help="mean seconds between an answer and the next message")
    parser.add_argument("--turns", type=int, default=8, help="mean messages of a conversation")
    parser.add_argument("--minutes", type=float, default=30.0, help="simulated time; the first tenth is not counted")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


class Replica:
    """Answers up to `slots` requests at a time, in common steps; others wait in order. Reading a prompt holds up the steps."""

    def __init__(self, given):
        self.given, self.waiting, self.running = given, [], []
        self.busy_until = 0.0
        self.stepping = False

    def load(self):
        return len(self.waiting) + len(self.running)

    def step_seconds(self):
        return (self.given.step + self.given.step_per_slot * (len(self.running) - 1)) / 1e3


def simulate(given, count, way):
    """Times in seconds to the first token, and between tokens, of all requests after the warm-up."""
    chance = random.Random(given.seed)
    replicas = [Replica(given) for _ in range(count)]
    events, order = [], 0
    end, counted_from = given.minutes * 60, given.minutes * 6
    first, gaps, read_tokens = [], [], 0

    def at(time, kind, what):
        nonlocal order
        order += 1
        heapq.heappush(events, (time, order, kind, what))

    def tokens(mean):
        return max(1, round(chance.expovariate(1 / mean)))

    for _ in range(given.users):
        at(chance.uniform(0, given.pause), "message", {"history": 0, "home": None})
    while events:
        now, _, kind, what = heapq.heappop(events)
        if now > end:
            break
        if kind == "message":
            user = what
            if way == "sticky" and user["home"] is not None:
                replica = user["home"]
            else:
                replica = min(replicas, key=Replica.load)
            user["home"] = replica
            replica.waiting.append({"user": user, "sent": now, "message": tokens(given.message), "left": tokens(given.answer)})
            if not replica.stepping:
                replica.stepping = True
                at(max(now, replica.busy_until), "step", replica)
            continue
        replica = what
        time = now
        while replica.waiting and len(replica.running) < given.slots:
            request = replica.waiting.pop(0)
            known = request["user"]["history"]
            read = request["message"] + (known if way == "none" else 0)
            read_tokens += read if now >= counted_from else 0
            time += read / given.read
            if way == "portable" and known:
                time += given.state_load / 1e3
            request["user"]["history"] += request["message"]
            request["last"] = None
            replica.running.append(request)
        if not replica.running:
            replica.stepping = False
            continue
        time += replica.step_seconds()
        ended = []
        for request in replica.running:
            if request["sent"] >= counted_from:
                if request["last"] is None:
                    first.append(time - request["sent"])
                else:
                    gaps.append(time - request["last"])
            request["last"] = time
            request["left"] -= 1
            request["user"]["history"] += 1
            if request["left"] == 0:
                ended.append(request)
        for request in ended:
            replica.running.remove(request)
            user = request["user"]
            if chance.random() < 1 / given.turns:
                user = {"history": 0, "home": None}
            at(time + chance.expovariate(1 / given.pause), "message", user)
        replica.busy_until = time
        at(time, "step", replica)
    return sorted(first), sorted(gaps), read_tokens


def percentile(values, share):
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def main():
    given = options()
    print("| replicas | states | answers | first token p50, s | p95 | p99 | between tokens p50, ms | p99 | tokens read |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|")
    for count in map(int, given.replicas.split(",")):
        for way, name in [("portable", "any replica"), ("sticky", "one replica"), ("none", "none: read again")]:
            first, gaps, read = simulate(given, count, way)
            waits = " | ".join(f"{percentile(first, share):.2f}" for share in (0.5, 0.95, 0.99))
            steps = " | ".join(f"{1e3 * percentile(gaps, share):.0f}" for share in (0.5, 0.99))
            print(f"| {count} | {name} | {len(first)} | {waits} | {steps} | {read:,} |")


if __name__ == "__main__":
    main()
