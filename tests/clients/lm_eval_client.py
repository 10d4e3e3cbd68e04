"""lm-evaluation-harness: log-likelihoods equal to transformers' logits of a fixture, and generated answers scored as the model's card says.

Neither needs the Hugging Face hub: the harness takes the tokenizer from the server.
"""

import json
import math
import os
import struct
import subprocess
import tempfile
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_UPDATE_DOWNLOAD_COUNTS="FALSE")
os.environ.setdefault("HF_HOME", tempfile.mkdtemp())

import lm_eval
from lm_eval.models.openai_completions import LocalCompletionsAPI

ROOT = Path(__file__).resolve().parents[2]
PEREGRINE = os.environ.get("PEREGRINE", str(ROOT / "target/release/peregrine"))


def tensors(path):
    """Tensors of a safetensors file as flat tuples, with their shapes."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    kinds = {"F32": "f", "I32": "i"}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = data[8 + size + begin : 8 + size + end]
            yield name, (entry["shape"], struct.unpack(f"<{len(values) // 4}{kinds[entry['dtype']]}", values))


def log_probability(row, token):
    most = max(row)
    return row[token] - most - math.log(math.fsum(math.exp(value - most) for value in row))


def harness(url, name, **more):
    return LocalCompletionsAPI(base_url=f"{url}/v1/completions", model=name, tokenized_requests=True, **more)


def loglikelihoods():
    """The fixture's logits were made by transformers."""
    expected = dict(tensors(ROOT / "tests/fixtures/falcon-tiny/expected.safetensors"))
    command = [PEREGRINE, "serve", "-m", str(ROOT / "tests/fixtures/falcon-tiny"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            url = json.loads(server.stdout.readline())["url"]
            requests, sums, greedy = [], [], []
            for length in (5, 64, 300):
                ids = list(expected[f"ids.{length}"][1])
                (_, vocab), logits = expected[f"logits.{length}"]
                rows = [logits[i * vocab : (i + 1) * vocab] for i in range(length)]
                for context in (1, length // 2, length - 1):
                    requests.append((("", ""), ids[:context], ids[context:]))
                    targets = range(context, length)
                    sums.append(math.fsum(log_probability(rows[i - 1], ids[i]) for i in targets))
                    greedy.append(all(max(rows[i - 1]) == rows[i - 1][ids[i]] for i in targets))
            answers = harness(url, "falcon-tiny", batch_size=3)._loglikelihood_tokens(requests)
        finally:
            server.kill()
    worst = max(abs(answer - total) for (answer, _), total in zip(answers, sums))
    assert worst < 1e-2, worst
    assert [is_greedy for _, is_greedy in answers] == greedy
    return len(requests), worst


def generated(kinds):
    """Questions of the model's held-out file, scored by exact match; the card has the trainer's counts."""
    card = json.loads((ROOT / "models/tiny-chat/measured.json").read_text())["held_out"]
    rows = [json.loads(line) for line in (ROOT / "models/tiny-chat/eval.jsonl").read_text().splitlines()]
    scores = {}
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "questions.jsonl"
            file.write_text("".join(json.dumps(row) + "\n" for row in rows if row["kind"] == kind))
            task = {
                "task": kind.replace(" ", "_"),
                "dataset_path": "json",
                "dataset_kwargs": {"data_files": {"test": str(file)}},
                "test_split": "test",
                "output_type": "generate_until",
                "doc_to_text": "{{prompt}}",
                "doc_to_target": "{{answer}}",
                "generation_kwargs": {"until": ["<|im_end|>"], "max_gen_toks": 60, "temperature": 0},
                "metric_list": [{"metric": "exact_match"}],
            }
            model = harness(os.environ["SERVER"], "tiny-chat", num_concurrent=4)
            results = lm_eval.simple_evaluate(model=model, tasks=[task], bootstrap_iters=0)["results"]
        (result,) = results.values()
        right = round(result["exact_match,none"] * card[kind]["questions"])
        assert right == card[kind]["right"], (kind, right, card[kind])
        scores[kind] = f"{right}/{card[kind]['questions']}"
    return scores


count, worst = loglikelihoods()
scores = generated(["subtract", "opposites", "days and months"])
print(f"lm-eval {lm_eval.__version__}: {count} log-likelihoods within {worst:.1e} of transformers'; exact match {scores}")
