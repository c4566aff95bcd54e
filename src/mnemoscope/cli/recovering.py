"""The command that asks whether an edit removed anything."""

from pathlib import Path
from typing import Annotated, Any

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command


@command(app)
def recover(
    model: opt.Model,
    prompts: opt.TestedPrompts,
    sampling: opt.SamplingOptions,
    features: opt.Features,
    references: Annotated[str, opt.of(opt.COMPARISON, "Training images, with the prompts as their captions.")],
    out: opt.Out,
    captions: opt.ReferenceCaptions = None,
    edit: Annotated[
        list[str] | None, opt.of(opt.METHOD, "neuron_ablation, weight_pruning or another mitigation.")
    ] = None,
    param: opt.Param = None,
    edited_lora: Annotated[
        list[str] | None, opt.of(opt.MODEL, "LoRA in the place of --lora, as repair writes one; repeat it for several.")
    ] = None,
    edited_unet: Annotated[Path | None, opt.of(opt.MODEL, "Folder of a U-Net that was edited elsewhere.")] = None,
    controls: Annotated[str | None, opt.of(opt.COMPARISON, "Captioned images that were never memorized.")] = None,
    threshold: Annotated[float, opt.of(opt.COMPARISON, "Similarity above which the image is back.")] = 0.7,
    images: opt.Images = 4,
    attack_steps: Annotated[int, opt.of(opt.METHOD, "Steps of the search for an embedding.", min=1)] = 50,
    attack_batch: Annotated[int, opt.of(opt.METHOD, "Noises in each step of it.", min=1)] = 8,
    lr: Annotated[float, opt.of(opt.METHOD, "Learning rate of the search.", min=0.0)] = 0.1,
    begin: Annotated[str, opt.of(opt.METHOD, "Where it begins: prompt, random, or any text.")] = "prompt",
    batch_size: opt.Batch = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Search embeddings that bring memorized images back from an edited model."""
    from mnemoscope.recovery.editing import edited_by
    from mnemoscope.recovery.run import Recovery, run_recovery
    from mnemoscope.recovery.targets import targets_of
    from mnemoscope.run.settings import parameters

    loaded = model.load()
    listed, neutral = prompts.read(loaded, sampling.seed), prompts.read_negatives(loaded, sampling.seed)
    targets, told = targets_of(listed, references, controls, captions)
    given = {"unet": edited_unet, "lora": edited_lora}
    parts: dict[str, Any] = {name: value for name, value in given.items() if value}
    recovery = Recovery(
        images=images,
        seed=sampling.seed,
        attack_steps=attack_steps,
        lr=lr,
        attack_batch=attack_batch,
        begin=begin,
        threshold=threshold,
        **sampling.settings,
    )
    summary = run_recovery(
        loaded,
        targets,
        out,
        recovery,
        features.descriptor(model.device),
        edit=edited_by(loaded, edit or [], parameters(param), [p.text for p in listed], [p.text for p in neutral]),
        edited=model.load(**parts) if parts else None,
        batch=batch_size,
        overwrite=overwrite,
        told=told,
    )
    opt.show(out, summary["failed"])
