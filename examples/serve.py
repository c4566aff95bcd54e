"""A guarded pipeline behind HTTP, for a start: who serves a model adds accounts, limits and a queue.

    pip install fastapi uvicorn
    MODEL=demo THRESHOLD=runs/detect INDEX=train.index uvicorn --factory --app-dir examples serve:app

POST /images with {"prompt": "...", "seed": 1} answers with a PNG, and with what the guard saw in the header X-Seen. A
copy of a training image that no other attempt removed is not sent: the answer is 409, with what was seen. INDEX may be
left out.
"""

import io
import json
import os
from typing import Any

import torch
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

import mnemoscope as mn


class Asked(BaseModel):
    prompt: str = Field(min_length=1, max_length=1000)
    seed: int = Field(0, ge=0, lt=2**32)


def serving(guard: mn.Guard, **sampling: Any) -> FastAPI:
    """The application around one guard; calls wait for one another."""
    application = FastAPI()

    @application.post("/images")
    def images(asked: Asked) -> Response:
        generator = torch.Generator().manual_seed(asked.seed)
        drawn = guard(asked.prompt, generator=generator, **sampling)
        seen = drawn.seen[0]
        if seen.get("withheld"):
            return JSONResponse({"error": "The image is a copy of a training image.", "seen": seen}, status_code=409)
        file = io.BytesIO()
        drawn.images[0].save(file, "PNG")
        return Response(file.getvalue(), media_type="image/png", headers={"X-Seen": json.dumps(seen)})

    return application


def app() -> FastAPI:
    """The application that the environment describes, for uvicorn."""
    pipe = mn.Denoiser.from_pretrained(os.environ["MODEL"]).pipe
    pipe.set_progress_bar_config(disable=True)
    guard = mn.Guard(pipe, threshold=os.environ["THRESHOLD"], index=os.environ.get("INDEX"))
    return serving(guard, num_inference_steps=50)
