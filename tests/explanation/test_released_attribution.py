"""Token gradients as the released code of layer6 takes them, against a second implementation of what it computes."""

import pytest
import torch
from torch import Tensor

import mnemoscope as mn
import tiny
from mnemoscope import registry

W = 7.5


@pytest.fixture(scope="module")
def model() -> mn.Denoiser:
    return mn.Denoiser(tiny.stable_diffusion("epsilon"))


def released(model: mn.Denoiser, step: mn.Step, *, exchanged: bool) -> tuple[Tensor, Tensor]:
    """Gradients of the trace and of the norm with respect to the prompt's embedding, by plain differences."""
    c = step.cond["encoder_hidden_states"].detach().double().float().requires_grad_()
    null = model.encode([""])["encoder_hidden_states"]
    v = torch.randn(step.x_t.shape[1:], generator=torch.Generator().manual_seed(42))[None]

    def eps(x: Tensor, embedding: Tensor) -> Tensor:
        return model.network(x, step.t, encoder_hidden_states=embedding).sample

    def push(x: Tensor) -> Tensor:
        cond, uncond = eps(x, c), eps(x, null)
        return W * (uncond - cond) if exchanged else W * (cond - uncond)

    h = 0.01 * step.sigma
    moved = (push(step.x_t + h * v) - push(step.x_t - h * v)) / (2 * h)
    cond, uncond = eps(step.x_t, c), eps(step.x_t, null)
    guided = cond + W * (uncond - cond) if exchanged else uncond + W * (cond - uncond)
    terms = step.sigma * (v * moved).sum(), -guided.square().sum()
    return tuple(torch.autograd.grad(term, c, retain_graph=True)[0][0] for term in terms)


def test_flipd_has_the_sign_that_the_exchange_of_branches_gives(model: mn.Denoiser) -> None:
    trajectory = mn.Trajectory(model, ["a cat on a mat"], [0], num_inference_steps=4, guidance_scale=W)
    (step,) = trajectory.first(1)
    trace, norm = released(model, step, exchanged=True)
    forward, _ = released(model, step, exchanged=False)
    assert torch.nn.functional.cosine_similarity(trace.flatten(), forward.flatten(), dim=0) < -0.99
    assert trace.norm() > 0.01 * norm.norm()  # or a wrong sign would not be seen
    found = mn.explain(trajectory, "token_gradients", score="flipd", steps=[0], compat="layer6")[0]
    wanted = (trace + norm).norm(dim=-1) / 2
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.max()))
    opposite = (norm - trace).norm(dim=-1) / 2
    assert (found - opposite).abs().max() > 10 * (found - wanted).abs().max()


def test_the_mitigations_form_has_the_other_sign(model: mn.Denoiser) -> None:
    trajectory = mn.Trajectory(model, ["a cat on a mat"], [0], num_inference_steps=4, guidance_scale=W)
    (step,) = trajectory.first(1)
    trace, norm = released(model, step, exchanged=False)
    score = registry.with_score(
        registry.get("explain", "token_gradients"), {"score": "flipd", "score.compat": "layer6"}
    )
    found = mn.explain(trajectory, "token_gradients", steps=[0], **score)[0]
    wanted = (trace + norm).norm(dim=-1)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.max()))


def test_other_scores_are_those_of_wen(model: mn.Denoiser) -> None:
    trajectory = mn.Trajectory(model, ["a cat", "a dog"], [0, 1], num_inference_steps=4, guidance_scale=W)
    ours, theirs = (mn.explain(trajectory, "token_gradients", steps=[0, 1], compat=c) for c in ("layer6", "wen"))
    assert torch.equal(ours, theirs)
    plain = mn.explain(trajectory, "token_gradients", score="score_norm", steps=[0], compat="layer6")
    divided = mn.explain(trajectory, "token_gradients", score="score_norm", steps=[0], compat="wen")
    torch.testing.assert_close(plain, divided * trajectory.first(1)[0].sigma)
