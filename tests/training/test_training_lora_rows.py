"""LoRAs of Stable Diffusion 3 and FLUX: the loss of diffusers' own scripts, and files that plain diffusers reads."""

import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_loss_weighting_for_sd3
from safetensors.torch import load_file

import mnemoscope as mn
import tiny_families
from mnemoscope.training.flow_times import FlowTimes
from mnemoscope.training.networks import Networks, TrainingBatch
from mnemoscope.training.noise import Draws
from mnemoscope.training.options import WEIGHTINGS, ObjectiveOptions, TrainOptions
from training_data import data, pictures, trained

pytestmark = pytest.mark.filterwarnings("ignore")  # what the pipelines say about optional packages
BUILDS = {"sd3": tiny_families.sd3, "flux": tiny_families.flux}
LORA = {"train": "lora", "lora_rank": 2, "steps": 2}


@pytest.fixture
def found(tmp_path):
    return data(pictures(tmp_path / "pictures"))


def place_by_hand(weighting: str, draws: Draws) -> torch.Tensor:
    """Where in the table each sample is, from diffusers' compute_density_for_timestep_sampling with our draws."""
    if weighting == "logit_normal":
        return torch.sigmoid(0.3 + 0.8 * draws.normal("timestep", ()))
    u = draws.uniform("timestep")
    return 1 - u - 1.29 * (torch.cos(math.pi * u / 2) ** 2 - 1 + u) if weighting == "mode" else u


@pytest.mark.parametrize("precondition", [False, True])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_loss_is_that_of_diffusers_script_for_sd3(weighting: str, precondition: bool) -> None:
    pipe = tiny_families.sd3()
    objective = ObjectiveOptions(weighting=weighting, logit_mean=0.3, logit_std=0.8, precondition_outputs=precondition)
    nets = Networks(pipe, TrainOptions(**LORA), objective)
    x_0 = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    captions, draws = ["a cat", "two dogs", "red"], Draws(7, 5, range(3))
    found = nets(TrainingBatch(x_0, captions, ["a"] * 3, draws)).loss
    table = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config)
    places = (place_by_hand(weighting, draws) * 1000).long()
    times, sigmas = table.timesteps[places], table.sigmas[places][:, None, None, None]
    noise, cond = draws.normal("noise", (4, 8, 8)), mn.Denoiser(pipe).encode(captions)
    noisy = (1.0 - sigmas) * x_0 + sigmas * noise
    predicted = pipe.transformer(hidden_states=noisy, timestep=times, return_dict=False, **cond)[0]
    target = noise - x_0
    if precondition:
        predicted, target = predicted * (-sigmas) + noisy, x_0
    weights = compute_loss_weighting_for_sd3(weighting, sigmas)
    expected = (weights * (predicted - target) ** 2).reshape(3, -1).mean(1).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_logit_normal_times_have_their_density_and_the_schedulers_shift() -> None:
    pipe = tiny_families.sd3()
    times = FlowTimes.of(ObjectiveOptions(weighting="logit_normal"), "flow_prediction")
    drawn = times(pipe.scheduler, Draws(0, 0, range(4000))) / 1000
    plain = drawn / (3 - 2 * drawn)  # shift 3 undone
    logits = torch.logit(1 - plain.clamp(1e-4, 1 - 1e-4))
    assert abs(logits.mean()) < 0.06 and abs(logits.std() - 1) < 0.06


@pytest.mark.parametrize("name", BUILDS)
def test_a_lora_is_trained_and_loaded_by_plain_diffusers_and_by_the_option(name: str, found, tmp_path) -> None:
    pipe, summary = trained(found, tmp_path / "run", BUILDS[name](), {"weighting": "logit_normal"}, **LORA)
    assert summary["export"] == "lora"
    weights = load_file(tmp_path / "run" / "lora" / "pytorch_lora_weights.safetensors")
    assert all(k.startswith("transformer.") for k in weights) and any("add_k_proj" in k for k in weights)
    assert any(v.abs().sum() > 0 for k, v in weights.items() if "lora_B" in k)
    asked = {"num_inference_steps": 2, "output_type": "latent", "height": 16, "width": 16, "prompt": "a cat"}

    def drawn(own) -> torch.Tensor:
        return own(generator=torch.Generator().manual_seed(1), **asked).images

    pipe.transformer.eval()
    plain, base = BUILDS[name](), drawn(BUILDS[name]())
    plain.load_lora_weights(tmp_path / "run" / "lora")
    torch.testing.assert_close(drawn(plain), drawn(pipe), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(drawn(plain), base, atol=1e-5)
    BUILDS[name]().save_pretrained(tmp_path / "base")
    merged = mn.Denoiser.from_pretrained(tmp_path / "base", lora=tmp_path / "run" / "lora", device="cpu")
    merged.pipe.set_progress_bar_config(disable=True)
    torch.testing.assert_close(drawn(merged.pipe), drawn(pipe), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", BUILDS)
def test_a_checkpoint_holds_the_adapter(name: str, tmp_path) -> None:
    first, second = (Networks(BUILDS[name](), TrainOptions(**LORA, seed=k), ObjectiveOptions()) for k in (1, 2))
    assert not torch.equal(first.parameters_trained[0], second.parameters_trained[0])
    first.write(tmp_path)
    second.read(tmp_path)
    assert len(first.parameters_trained) > 4
    assert all(torch.equal(a, b) for a, b in zip(first.parameters_trained, second.parameters_trained, strict=True))


REFUSED = [
    (tiny_families.sd3, {"train": "unet"}, {}, "Of a stable-diffusion-3 model a LoRA is trained here"),
    (tiny_families.pixart, {"train": "lora"}, {}, "A pixart-sigma model cannot be trained here; .* a LoRA of stable-d"),
    (tiny_families.kolors, {"train": "lora"}, {}, "A kolors model cannot be trained here"),
]


@pytest.mark.parametrize(("build", "options", "objective", "said"), REFUSED)
def test_what_is_not_trained_is_refused_by_name(build, options, objective, said) -> None:
    with pytest.raises(mn.UsageError, match=f"^{said}"):
        Networks(build(), TrainOptions(**options), ObjectiveOptions(**objective))


def test_times_of_a_flow_are_refused_for_other_models() -> None:
    for options in ({"weighting": "none"}, {"precondition_outputs": True}):
        with pytest.raises(mn.UsageError, match="are for flows, and this model is none"):
            FlowTimes.of(ObjectiveOptions(**options), "epsilon")
    with pytest.raises(mn.UsageError, match="^--weighting all is not known; give none, logit_normal"):
        ObjectiveOptions(weighting="all")
