"""Attributions are derivatives, their sums are true, and a planted neuron is the whole answer, at known cost."""

import json

import pytest
import torch
from PIL import Image

import mnemoscope as mn
import tiny
from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.localization import sets
from mnemoscope.localization.attribution import NeuronProbe, smallest
from mnemoscope.localization.files import read_neurons
from mnemoscope.localization.states import CLOSENESS, Look
from mnemoscope.localizers import neurons_by_gradient
from mnemoscope.mitigation.chosen import chosen
from mnemoscope.model import ablation
from mnemoscope.model.step import Step

PROMPTS = ["a cat", "two dogs"]
DOWN = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v"
MID = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v"
UP = "up_blocks.1.attentions.1.transformer_blocks.0.attn2.to_v"


@pytest.fixture(scope="module")
def model() -> mn.Denoiser:
    return mn.Denoiser(tiny.stable_diffusion())


def planted(neurons: dict[str, list[int]], strength: float = 30.0) -> mn.Denoiser:
    """A pipeline whose text reaches the prediction by these neurons alone."""
    model = mn.Denoiser(tiny.stable_diffusion())
    with torch.no_grad():
        for name, module in ablation.layers(model, "all").items():
            kept = module.weight.clone()
            module.weight.zero_()
            for i in neurons.get(name, []):
                module.weight[i] = strength * kept[i]
    return model


def probe(model: mn.Denoiser, look: Look | None = None, seeds: int = 1, **options) -> NeuronProbe:
    look = look or Look()
    value, (states,) = look.at(model, PROMPTS, range(seeds))
    return NeuronProbe(model, PROMPTS, states, value, **options)


# Attributions


@pytest.mark.parametrize("branch", ["both", "cond"])
def test_attributions_of_one_point_are_finite_differences_half_way(model: mn.Denoiser, branch: str) -> None:
    ours = probe(model, branch=branch)
    drops, h = ours.drops(1), 1e-2
    middle = torch.full((2, ours.width), -0.5)
    strongest = drops.abs().argmax(1).tolist()
    for place in {0, ours.width - 1, *strongest}:
        up, down = middle.clone(), middle.clone()
        up[:, place] += h
        down[:, place] -= h
        expected = (ours.values(up) - ours.values(down)) / (2 * h)
        torch.testing.assert_close(drops[:, place], expected, rtol=2e-2, atol=2e-4)


def test_attributions_sum_to_what_blocking_everything_takes_away(model: mn.Denoiser) -> None:
    ours = probe(model, seeds=2)
    truth = ours.values(ours.nothing) - ours.values(ours.everything)
    torch.testing.assert_close(ours.drops(16).sum(1), truth, rtol=1e-2, atol=1e-4)
    half = probe(model, seeds=2, factor=0.5)
    truth = half.values(half.nothing) - half.values(half.everything)
    torch.testing.assert_close(half.drops(16).sum(1), truth, rtol=1e-2, atol=1e-4)


def test_neurons_of_other_layers_are_worth_nothing(model: mn.Denoiser) -> None:
    seven, every = probe(model, layers="seven"), probe(model)
    assert int(seven.searched.sum()) == 48 and int(every.searched.sum()) == 80
    drops = seven.drops(1)
    assert (drops[:, 48:] == 0).all() and (drops[:, :48] != 0).any()
    assert (every.drops(1)[:, 48:] != 0).any()


def test_values_are_those_of_ablated_samplings(model: mn.Denoiser) -> None:
    ours, neurons = probe(model, seeds=2), [{DOWN: [1, 3], UP: [5]}, {MID: [0]}]
    gain = ours.gain([[ours.place(n, i) for n, own in each.items() for i in own] for each in neurons])
    assert torch.equal(gain, ablation.gain(model, neurons))
    expected = torch.zeros(2)
    for seed in (0, 1):
        with ablation.ablated(model, neurons):
            step = next(model.steps(PROMPTS, [seed, seed]))
        expected += mn.scores.noise_norm(step) / 2
    torch.testing.assert_close(ours.values(gain), expected, rtol=1e-5, atol=1e-6)
    assert ours.neurons([ours.place(UP, 5), ours.place(DOWN, 3)]) == {DOWN: [3], UP: [5]}


def test_a_prompt_is_the_same_in_any_batch(model: mn.Denoiser) -> None:
    together = probe(model, seeds=3, batch=4)
    value, (states,) = Look().at(model, PROMPTS[1:], range(3))
    alone = NeuronProbe(model, PROMPTS[1:], states, value, batch=64)
    torch.testing.assert_close(together.drops(2)[1:], alone.drops(2), rtol=1e-4, atol=1e-6)


def test_every_score_sees_the_ablated_unconditional_branch(model: mn.Denoiser) -> None:
    """Also one that evaluates the network by itself."""

    def again(step: Step) -> torch.Tensor:
        return (step.eps_at(step.x_t) - step.eps_at(step.x_t, branch="uncond")).flatten(1).norm(dim=1)

    ours, theirs = probe(model), probe(model, Look(score=again))
    torch.testing.assert_close(ours.drops(1), theirs.drops(1), rtol=1e-4, atol=1e-6)


def test_closeness_is_the_distance_to_the_training_image(model: mn.Denoiser) -> None:
    images = {p: Image.new("RGB", (32, 32), colour) for p, colour in zip(PROMPTS, ("red", "blue"), strict=True)}
    look = Look(references=images, steps=[10])
    value, (states,) = look.at(model, PROMPTS, [7])
    ours = NeuronProbe(model, PROMPTS, states, value)
    (state,) = states
    from mnemoscope.model.autoencoder import encode_images

    clean = encode_images(model.pipe, list(images.values()), model.latent_shape)
    bar = model.pipe.scheduler.alphas_cumprod[state.t].double()
    torch.testing.assert_close(
        state.x_t[:, 0], (bar.sqrt() * clean + (1 - bar).sqrt() * model.initial_noise([7])).float()
    )
    eps = model.predict_noise(state.x_t[:, 0], state.t, model.encode(PROMPTS))
    predicted = (state.x_t[:, 0] - (1 - bar).sqrt() * eps) / bar.sqrt()
    expected = -(predicted - clean).square().mean((1, 2, 3))
    torch.testing.assert_close(ours.values(ours.nothing), expected.float(), rtol=1e-4, atol=1e-5)
    assert [s.index for s in look.at(model, PROMPTS, [0])[1][0]] == [10]
    assert Look(references=images).indices(model) == [10, 25, 40]


# The planted neuron


@pytest.mark.parametrize("name", [DOWN, UP])
def test_a_planted_neuron_is_ranked_first_and_is_the_smallest_set(name: str) -> None:
    model = planted({name: [5]})
    found = neurons_by_gradient(model, PROMPTS, seeds=1)
    for each in found:
        assert each.neurons == {name: [5]} and each.count == 1 and each.details["reached"]
        assert each.before is not None and each.after is not None
        assert each.before > 1e-3 and each.after == pytest.approx(0, abs=1e-6)
        assert each.details["again_before"] > 1e-3 and each.details["again_after"] == pytest.approx(0, abs=1e-6)
        assert each.details["again_reached"] and each.details["drops"][name][0] == pytest.approx(each.before, rel=0.1)
        assert json.loads(json.dumps(each.row()))["neurons"] == {name: [5]}


def test_a_neuron_that_is_not_searched_is_not_found() -> None:
    (found,) = neurons_by_gradient(planted({UP: [5]}), PROMPTS[:1], seeds=1, layers="seven")
    assert not found.details["reached"] and found.neurons == {} and found.after == found.before


def test_only_planted_neurons_have_a_drop_and_they_are_taken_by_its_size() -> None:
    neurons = {DOWN: [2, 7], MID: [30], UP: [0, 15]}
    model = planted(neurons)
    ours = probe(model)
    drops = ours.drops(2)
    places = [ours.place(name, i) for name, own in neurons.items() for i in own]
    assert sorted(drops[0].nonzero()[:, 0].tolist()) == sorted(places)
    (found,) = neurons_by_gradient(model, PROMPTS[:1], threshold=-1)
    taken = [ours.place(name, i) for name, own in found.neurons.items() for i in own]
    assert set(taken) <= set(places) and not found.details["reached"]
    assert found.after is not None and found.before is not None and found.after < found.before


def test_a_set_is_enough_and_one_neuron_less_is_not(model: mn.Denoiser) -> None:
    ours = probe(model, seeds=2)
    drops, before = ours.drops(2), ours.values(ours.nothing)
    level = (before + ours.values(ours.gain(drops.topk(8).indices.tolist()))) / 2
    found = smallest(ours, drops, before.tolist(), level.tolist(), 80)
    for k, one in enumerate(found):
        assert one.reached and one.places == drops[k].argsort(descending=True)[: len(one.places)].tolist()
        fewer = [f.places[:-1] if j == k else f.places for j, f in enumerate(found)]
        assert ours.values(ours.gain(fewer))[k] > level[k] >= one.value


def test_a_score_that_is_low_already_needs_no_neuron(model: mn.Denoiser) -> None:
    (found,) = neurons_by_gradient(model, PROMPTS[:1], threshold=1e6)
    assert found.neurons == {} and found.details["tests"] == 0 and found.before == found.after


def test_no_more_neurons_are_taken_than_allowed(model: mn.Denoiser) -> None:
    (found,) = neurons_by_gradient(model, PROMPTS[:1], threshold=-1, most=0.05)
    assert found.count <= 4 and not found.details["reached"]
    assert found.after is not None and found.before is not None and found.after <= found.before


@pytest.mark.parametrize(("branch", "steps", "seeds"), [("both", None, 2), ("cond", None, 1), ("both", [0, 2], 3)])
def test_evaluations_are_counted_to_the_last_one(model: mn.Denoiser, branch: str, steps, seeds: int) -> None:
    before = model.network_evaluations
    found = neurons_by_gradient(model, PROMPTS, branch=branch, steps=steps, seeds=seeds, points=3)
    states = len(steps or [0]) * seeds
    assert sum(each.evaluations for each in found) == model.network_evaluations - before
    for each in found:
        sampling = 2 * 2 * 2 * seeds if steps else 0  # two branches of two steps for either list of seeds
        scored = 3 + 2 + each.details["tests"] + 3  # gradients; as it is, blocked; tests; again with other seeds
        assert each.evaluations == sampling + 2 * states * scored
        assert each.details["gradients"] == 2 * states * 3


def test_what_cannot_be_located_is_refused(model: mn.Denoiser) -> None:
    with pytest.raises(
        UsageError, match=r"^PlantedUNet has no cross-attention, hence no neurons to locate or ablate\.$"
    ):
        from mnemoscope.planted import model as closed_form

        neurons_by_gradient(closed_form(), ["memorized 1"])
    with pytest.raises(UsageError, match=r"^The score closeness .* give references or another score\.$"):
        neurons_by_gradient(model, PROMPTS, score=CLOSENESS)
    with pytest.raises(UsageError, match=r"^There is no training image of 'two dogs' among the references; each .*\.$"):
        neurons_by_gradient(model, PROMPTS, references={"a cat": Image.new("RGB", (8, 8))})
    with pytest.raises(UsageError, match=r"^The score does not depend on any neuron there"):
        neurons_by_gradient(model, PROMPTS, score=lambda step: step.x_t.flatten(1).norm(dim=1))
    for wrong in ({"most": 0}, {"most": 1.5}, {"seeds": 0}):
        with pytest.raises(UsageError, match=r"^neurons_by_gradient got \w+=.*; give .*\.$"):
            neurons_by_gradient(model, PROMPTS, **wrong)
    with pytest.raises(UsageError, match=r"^0 points of the path were asked for; give 1 or more\.$"):
        neurons_by_gradient(model, PROMPTS, points=0)


def test_ablating_what_was_located_keeps_the_bundled_model_from_its_image(bundled: mn.Denoiser) -> None:
    from mnemoscope import demo, features

    prompt = demo.prompts("verbatim")[0]
    references = {r.caption: r.image() for r in demo.references() if r.caption == prompt}
    (found,) = neurons_by_gradient(bundled, [prompt], references=references, steps=[5], seeds=1, points=2)
    draw = sets.drawn_like(found.neurons, ablation.widths(bundled, "all"), "0", found.neurons)
    own, cosine = features.pixels([references[prompt]])[0], {}
    for name, neurons in (("none", {}), ("located", found.neurons), ("random", draw)):
        with mn.mitigate(bundled, "neuron_ablation", neurons=neurons):
            image = bundled.generate([prompt], [1000], num_inference_steps=5, guidance_scale=3.0)
        cosine[name] = float((features.pixels(image) @ own)[0])
    assert found.details["reached"] and found.count < 0.15 * 944
    assert cosine["none"] > 0.9 and cosine["random"] > 0.85 and cosine["located"] < 0.8


# Sets, and the mitigation that takes them


def test_most_frequent_neurons_and_sets() -> None:
    rows = [{"a": [1, 2]}, {"b": [9], "a": [2]}, {"a": [2, 1]}, {}, {"b": [9, 3]}, {}]
    assert sets.most_frequent(rows, 2) == {"a": [1, 2]}  # 1 of a and 9 of b are in two sets each; a's was first
    assert sets.most_frequent(rows, 3) == {"a": [1, 2], "b": [9]}
    assert sets.most_frequent_per_layer(rows, 1) == {"a": [2], "b": [9]}
    assert sets.most_frequent_sets(rows, 1) == {"a": [1, 2]}
    assert sets.most_frequent_sets(rows, 2) == {"a": [1, 2], "b": [9]}


def test_controls_are_other_neurons_of_the_same_layers() -> None:
    found, widths = {"a": [0, 1, 2], "b": [4]}, {"a": 64, "b": 64}
    draw = sets.drawn_like(found, widths, "0", found)
    assert {n: len(own) for n, own in draw.items()} == {"a": 3, "b": 1}
    assert not set(draw["a"]) & {0, 1, 2} and draw == sets.drawn_like(found, widths, "0", found)
    assert draw != sets.drawn_like(found, widths, "1", found)
    same = {"a": list(range(8)), "b": list(range(8))}
    both = sets.drawn_like(same, widths, "0", same)
    assert both["a"] != both["b"]  # layers of equal width draw apart
    with pytest.raises(UsageError, match=r"^a has 3 neurons that were not found, and a control needs 5\.$"):
        sets.drawn_like({"a": [0, 1, 2, 3, 4]}, {"a": 8}, "0", {"a": [0, 1, 2, 3, 4]})


def test_prompts_of_one_kind() -> None:
    rows = [{"kind": "VM"}, {"kind": "tm"}, {"kind": None}, {}]
    assert sets.of_kind(rows, "TM") == [{"kind": "tm"}]
    with pytest.raises(UsageError, match=r"^No located prompt is of the kind N; the kinds there are: VM, tm\.$"):
        sets.of_kind(rows, "N")


ROWS = [
    {"prompt": "a cat", "neurons": {DOWN: [1, 2]}, "initial_neurons": {DOWN: [1, 2, 3]}, "kind": "VM"},
    {"prompt": "two dogs", "neurons": {DOWN: [2], MID: [4]}, "initial_neurons": {MID: [4, 5]}, "kind": "TM"},
]
COMMON = {DOWN: [2]}


def images_of(model: mn.Denoiser, prompts: list[str]) -> torch.Tensor:
    return next(model.steps(prompts, list(range(len(prompts))))).eps


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, [{DOWN: [1, 2]}, {DOWN: [2], MID: [4]}, {}]),
        ({"stage": "initial"}, [{DOWN: [1, 2, 3]}, {MID: [4, 5]}, {}]),
        ({"choose": "most_frequent", "count": 1}, [COMMON] * 3),
        ({"choose": "per_layer", "count": 1}, [{DOWN: [2], MID: [4]}] * 3),
        ({"choose": "subgroups", "count": 1}, [{DOWN: [1, 2]}] * 3),
        ({"choose": "most_frequent", "count": 9, "kind": "VM"}, [{DOWN: [1, 2]}] * 3),
        ({"kind": "TM"}, [{}, {DOWN: [2], MID: [4]}, {}]),
    ],
)
def test_each_prompt_has_the_neurons_that_are_meant(model: mn.Denoiser, tmp_path, parameters, expected) -> None:
    file, prompts = tmp_path / "rows.json", ["a  cat", "two dogs", "a tree"]
    file.write_text(json.dumps(ROWS))
    with mn.mitigate(model, "neuron_ablation", neurons=str(file), **parameters) as seen:
        ours = images_of(model, prompts)
    with ablation.ablated(model, expected):
        assert torch.equal(ours, images_of(model, prompts))
    assert [s["neuron_ablation"]["neurons"] for s in seen] == [ablation.count(e) for e in expected]
    if parameters in ({}, {"stage": "initial"}):
        assert [s["neuron_ablation"]["known"] for s in seen] == [True, True, False]
        assert torch.equal(ours[2], images_of(model, prompts)[2])


def test_controls_are_seeded_and_touch_nothing_that_was_found(model: mn.Denoiser, tmp_path) -> None:
    (file := tmp_path / "rows.json").write_text(json.dumps(ROWS))
    found = {}
    for control in (0, 0, 1):
        with mn.mitigate(model, "neuron_ablation", neurons=file, control=control) as seen:
            found.setdefault(control, []).append(images_of(model, ["a cat", "two dogs"]))
        assert [s["neuron_ablation"]["neurons"] for s in seen] == [2, 2]
    assert torch.equal(*found[0]) and not torch.equal(found[0][0], found[1][0])
    with mn.mitigate(model, "neuron_ablation", neurons=file):
        assert not torch.equal(images_of(model, ["a cat", "two dogs"]), found[0][0])


def test_factor_and_branch_of_the_mitigation(model: mn.Denoiser) -> None:
    for factor, branch in ((0.5, "both"), (0, "cond")):
        with mn.mitigate(model, "neuron_ablation", neurons=ROWS[0]["neurons"], factor=factor, branch=branch):
            ours = images_of(model, PROMPTS)
        with ablation.ablated(model, ROWS[0]["neurons"], factor=factor, branch=branch):
            assert torch.equal(ours, images_of(model, PROMPTS))


def test_neurons_of_any_source(tmp_path) -> None:
    (one := tmp_path / "set.json").write_text(json.dumps(COMMON))
    assert read_neurons(one, [DOWN, MID])[0]["neurons"] == COMMON == read_neurons(COMMON, [])[0]["initial_neurons"]
    run = tmp_path / "run"
    run.mkdir()
    rows = [{"id": str(k), "status": "ok", **row} for k, row in enumerate(ROWS)]
    (run / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [*rows, {"id": "9", "status": "failed"}]))
    assert [r["neurons"] for r in read_neurons(run, [])] == [r["neurons"] for r in ROWS]
    table = (
        "Caption;URL;Initial Neurons;Initial SSIM;Refined Neurons;Refined SSIM\na cat;;[[1, 2], [3]];.3;[[2], []];.2\n"
    )
    (csv := tmp_path / "nemo.csv").write_text(table)
    (row,) = read_neurons(csv, [DOWN, MID])
    assert row["prompt"] == "a cat" and row["neurons"] == COMMON and row["initial_neurons"] == {DOWN: [1, 2], MID: [3]}


def test_what_is_no_set_of_neurons_is_refused(model: mn.Denoiser, tmp_path) -> None:
    with pytest.raises(UsageError, match=r"^neuron_ablation needs the parameter neurons, and it was not given"):
        mn.mitigate(model, "neuron_ablation").__enter__()
    (file := tmp_path / "bad.json").write_text('{"a": "b"}')
    for wrong, said in (
        (file, r"are no neurons; write lists of indices"),
        (tmp_path / "none.json", r"is neither a run of localize, nor a readable JSON or CSV file"),
        ({DOWN: [99]}, rf"^{DOWN} has no neuron 99; it has 16, counted from 0\.$"),
    ):
        with pytest.raises(UsageError, match=said), mn.mitigate(model, "neuron_ablation", neurons=wrong):
            images_of(model, PROMPTS)
    with (
        pytest.raises(UsageError, match=r"^neuron_ablation got count=0; give 1 or more\.$"),
        mn.mitigate(model, "neuron_ablation", neurons=COMMON, choose="per_layer", count=0),
    ):
        images_of(model, PROMPTS)


def test_a_sweep_of_all_mitigations_takes_it_only_with_neurons() -> None:
    found = registry.stopping("neuron_ablation")
    assert registry.missing(found, ()) == ["neurons"] and registry.missing(found, {"neurons"}) == []
    (asked,) = chosen(["neuron_ablation"], {"neurons": "runs/neurons", "control": 0})
    assert asked.params == {"neurons": "runs/neurons", "control": 0}
    with pytest.raises(UsageError, match=r"^neuron_ablation needs the parameter neurons"):
        chosen(["neuron_ablation"], {"factor": 0.5})
