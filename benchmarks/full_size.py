"""Models of full size with random weights: peak memory and seconds an evaluation of what is done with one prompt.

    python benchmarks/full_size.py [--models sd1 sd2 sdxl sd3] [--jobs detect explain ...] [--results full_size.jsonl]
    python benchmarks/full_size.py --low-memory --models sd1 --jobs explain descent

Each job runs in a process of its own, one at a time, and adds a line to the results; what has a line is not run again.
Networks have the shapes of the published ones and random weights, which are never written down; the tokenizer is the
bundled model's. SD 1.5 and SD 2.1 run in float32, SDXL and SD3-medium (without its T5) in bfloat16. Seconds are CPU
seconds on a CPU, wall seconds on an accelerator; an evaluation is one sample's way through the network, and a backward
pass counts towards its seconds. Memory is the highest resident size of the process, or of the accelerator's tensors;
`weights` is the same before the job.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, SD3Transformer2DModel, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import mnemoscope as mn
import timing
from mnemoscope.demo import MODEL
from mnemoscope.model.device import pick_device
from mnemoscope.model.loading import quiet
from mnemoscope.model.memory import save_memory

PROMPT = "a photograph of a red bicycle in front of an old brick wall"
GIB = 2**30
CROSS, PLAIN = "CrossAttn{}Block2D", "{}Block2D"
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
DDIM = {**BETAS, "clip_sample": False, "set_alpha_to_one": False}
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}
CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}


@dataclass(frozen=True)
class Shape:
    """A published model by the numbers in its configuration files."""

    pipeline: str
    scheduler: str
    dtype: torch.dtype
    network: dict[str, Any]
    encoders: tuple[dict[str, Any], ...]
    vae: dict[str, Any]
    timing: dict[str, Any] = field(default_factory=lambda: BETAS)


def _blocks(*attend: bool) -> dict[str, tuple[str, ...]]:
    """Types of the blocks on the way down, with cross-attention or without, and the same on the way up."""
    down = tuple((CROSS if a else PLAIN).format("Down") for a in attend)
    return {
        "down_block_types": down,
        "up_block_types": tuple((CROSS if a else PLAIN).format("Up") for a in reversed(attend)),
    }


SD1 = Shape(
    "StableDiffusionPipeline",
    "DDIMScheduler",
    torch.float32,
    {
        "sample_size": 64,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "block_out_channels": (320, 640, 1280, 1280),
    }
    | _blocks(True, True, True, False),
    ({**CLIP_L, "projection_dim": 768},),
    {"sample_size": 512, "latent_channels": 4, "scaling_factor": 0.18215},
    DDIM,
)
SD2 = Shape(
    "StableDiffusionPipeline",
    "DDIMScheduler",
    torch.float32,
    {
        **SD1.network,
        "sample_size": 96,
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
        "upcast_attention": True,
    },
    ({**CLIP_H, "projection_dim": 512, "hidden_act": "gelu"},),
    {"sample_size": 768, "latent_channels": 4, "scaling_factor": 0.18215},
    {**DDIM, "prediction_type": "v_prediction"},
)
SDXL = Shape(
    "StableDiffusionXLPipeline",
    "EulerDiscreteScheduler",
    torch.bfloat16,
    {
        "sample_size": 128,
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "block_out_channels": (320, 640, 1280),
        "transformer_layers_per_block": (1, 2, 10),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
    | _blocks(False, True, True),
    ({**CLIP_L, "projection_dim": 768}, {**CLIP_G, "projection_dim": 1280, "hidden_act": "gelu"}),
    {"sample_size": 1024, "latent_channels": 4, "scaling_factor": 0.13025, "force_upcast": True},
)
SD3 = Shape(
    "StableDiffusion3Pipeline",
    "FlowMatchEulerDiscreteScheduler",
    torch.bfloat16,
    {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 24,
        "attention_head_dim": 64,
        "num_attention_heads": 24,
        "joint_attention_dim": 4096,
        "caption_projection_dim": 1536,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 192,
    },
    SDXL.encoders,
    {
        "sample_size": 1024,
        "latent_channels": 16,
        "scaling_factor": 1.5305,
        "shift_factor": 0.0609,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    },
    {"shift": 3.0},
)
SHAPES = {"sd1": SD1, "sd2": SD2, "sdxl": SDXL, "sd3": SD3}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}


def tiny(shape: Shape) -> Shape:
    """The same blocks, as narrow as they can be, on latents of 16 x 16."""
    encoders = tuple(
        {**e, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        | {"projection_dim": 16}
        for e in shape.encoders
    )
    text = 16 * len(encoders)
    network = {**shape.network, "sample_size": 16}
    if "num_layers" in network:
        network |= {"num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2, "pooled_projection_dim": text}
        network |= {"joint_attention_dim": 4 * text, "caption_projection_dim": 16, "pos_embed_max_size": 16}
    else:
        wide = len(network["block_out_channels"])
        network |= {"block_out_channels": (8,) * wide, "attention_head_dim": 2, "cross_attention_dim": text}
        network |= {"norm_num_groups": 2}
    if "transformer_layers_per_block" in network:
        network |= {"transformer_layers_per_block": 1, "addition_time_embed_dim": 4}
        network |= {"projection_class_embeddings_input_dim": 6 * 4 + 16}
    vae = {**shape.vae, "block_out_channels": (4,) * 4, "norm_num_groups": 2, "sample_size": 128}
    return replace(shape, network=network, encoders=encoders, vae=vae)


def pipeline(shape: Shape) -> DiffusionPipeline:
    """A pipeline of that shape with random weights in its dtype, on the CPU."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(shape.dtype)
    torch.manual_seed(0)
    try:
        words = CLIPTokenizer.from_pretrained(MODEL / "tokenizer", model_max_length=77)
        encoders = [_encoder(config, k, shape, words) for k, config in enumerate(shape.encoders)]
        flow = "num_layers" in shape.network
        network = SD3Transformer2DModel(**shape.network) if flow else UNet2DConditionModel(**shape.network)
        vae = AutoencoderKL(**{**VAE, **shape.vae})
    finally:
        torch.set_default_dtype(before)
    scheduler = getattr(diffusers, shape.scheduler)(**shape.timing)
    parts: dict[str, Any] = {"vae": vae, "scheduler": scheduler, "transformer" if flow else "unet": network}
    for k, encoder in enumerate(encoders):
        tail = "" if k == 0 else f"_{k + 1}"
        parts |= {f"text_encoder{tail}": encoder, f"tokenizer{tail}": words}
    if flow:
        parts |= {"text_encoder_3": None, "tokenizer_3": None}
    elif len(encoders) == 1:
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return getattr(diffusers, shape.pipeline)(**parts)


def _encoder(config: dict[str, Any], index: int, shape: Shape, words: Any) -> torch.nn.Module:
    """A text encoder with the published vocabulary; the special tokens are those of the tokenizer at hand."""
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    projected = index > 0 or "num_layers" in shape.network
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    return kind(CLIPTextConfig(**config, **ends, vocab_size=49408, max_position_embeddings=77)).eval()


def detect(model: mn.Denoiser, steps: int) -> None:
    mn.detect(mn.Trajectory(model, PROMPT, 0), "noise_norm", steps=1)


def explain(model: mn.Denoiser, steps: int) -> None:
    mn.explain(mn.Trajectory(model, PROMPT, 0), "token_gradients", score="noise_norm", steps=1)


def descent(model: mn.Denoiser, steps: int) -> None:
    """One iteration: the unconditional branch, a test with its gradient, and the test of what it moved to."""
    with mn.mitigate(model, "embedding_descent", score="noise_norm", iterations=1):
        next(model.steps([PROMPT], [0]))


def generate(model: mn.Denoiser, steps: int) -> None:
    model.generate([PROMPT], [0], num_inference_steps=steps)


def guard(model: mn.Denoiser, steps: int) -> None:
    """A flagged image, as every score passes a threshold of zero."""
    guarded = mn.Guard(model.pipe, threshold=0.0, units=model.units, mitigation="embedding_descent", iterations=1)
    guarded(PROMPT, num_inference_steps=steps, generator=torch.Generator().manual_seed(0))


JOBS: dict[str, Callable[[mn.Denoiser, int], None]] = {
    "detect": detect,
    "explain": explain,
    "descent": descent,
    "generate": generate,
    "guard": guard,
}


class Meter:
    """Samples that go through a network, seconds, and the highest memory, between its making and now."""

    def __init__(self, model: mn.Denoiser) -> None:
        self.device, self.samples = model.device, 0
        model.network.register_forward_hook(self._count, with_kwargs=True)
        self.weights = memory(self.device)
        self.began = self.now()

    def _count(self, network: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        self.samples += len(next(v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor) and v.ndim == 4))

    def now(self) -> float:
        if self.device.type == "cpu":
            return time.process_time()
        torch.accelerator.synchronize(self.device)
        return time.perf_counter()

    def read(self) -> dict[str, Any]:
        seconds, evaluations = self.now() - self.began, max(1, self.samples)
        return {
            "evaluations": evaluations,
            "seconds": round(seconds, 2),
            "seconds_an_evaluation": round(seconds / evaluations, 3),
            "weights_gib": round(self.weights / GIB, 2),
            "peak_gib": round(memory(self.device) / GIB, 2),
        }


def memory(device: torch.device) -> int:
    """The most bytes so far: resident in this process, or held by tensors on the accelerator."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def one(name: str, job: str, args: argparse.Namespace) -> dict[str, Any]:
    """A job of one model in this process."""
    quiet()
    torch.set_num_threads(args.threads)
    shape = tiny(SHAPES[name]) if args.tiny else SHAPES[name]
    device = pick_device(args.device)
    pipe = pipeline(shape)
    pipe.set_progress_bar_config(disable=True)
    if args.low_memory:
        save_memory(pipe, device)
    model = mn.Denoiser(pipe if args.low_memory else pipe.to(device))
    meter = Meter(model)
    JOBS[job](model, args.steps)
    dtype = str(shape.dtype).removeprefix("torch.")
    return meter.read() | {"dtype": dtype, "size": "x".join(map(str, model.size)), "device": str(device)}


def asked(args: argparse.Namespace) -> list[dict[str, Any]]:
    """What is to be measured, as it is named in the results."""
    about = {"low_memory": args.low_memory, "tiny": args.tiny}
    return [{"model": m, "job": j, **about} for m in args.models for j in args.jobs]


def measured(results: Path, which: dict[str, Any]) -> dict[str, Any] | None:
    """The line of a job that was run already."""
    lines = results.read_text().splitlines() if results.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    return next((row for row in rows if all(row.get(k) == v for k, v in which.items())), None)


def run(which: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """A job in a process of its own; what ended it, where it did not come to its end."""
    command = [sys.executable, __file__, "--child", "--models", which["model"], "--jobs", which["job"]]
    command += ["--device", args.device, "--steps", str(args.steps), "--threads", str(args.threads)]
    command += [f"--{k.replace('_', '-')}" for k in ("low_memory", "tiny") if which[k]]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = ended.stdout.splitlines()
    if ended.returncode == 0 and lines:
        return {**which, **json.loads(lines[-1])}
    last = (ended.stderr.strip().splitlines() or [""])[-1]
    return {**which, "error": last or f"ended by {ended.returncode}"}


def table(rows: list[dict[str, Any]]) -> str:
    """The results in Markdown."""
    head = "| model | job | low memory | evaluations | s an evaluation | s | weights, GiB | peak, GiB |"
    lines = [head, "|---" * 8 + "|"]
    for row in rows:
        name = f"{row['model']}, {row['dtype']}, {row['size']}" if "error" not in row else row["model"]
        cells = [name, row["job"], "yes" if row["low_memory"] else "no", row.get("evaluations", row.get("error"))]
        cells += [row.get(k, "") for k in ("seconds_an_evaluation", "seconds", "weights_gib", "peak_gib")]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    parser = timing.parser(__doc__)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--low-memory", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=2, help="sampling steps of generate and guard")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path("full_size.jsonl"))
    parser.add_argument("--tiny", action="store_true", help="the same blocks, as narrow as they can be")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return timing.parsed(parser, models=["sd1"], jobs=["detect"], steps=1, tiny=True)


def main() -> None:
    args = parsed()
    if args.child:
        print(json.dumps(one(args.models[0], args.jobs[0], args)))
        return
    rows = []
    for which in asked(args):
        row = measured(args.results, which)
        if row is None:
            row = run(which, args)
            with args.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
