"""The page itself: three tabs, what can be typed and pressed in each, and what follows from it."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from mnemoscope.app import choices, fragments
from mnemoscope.app.handlers import Handlers
from mnemoscope.app.looking import LONGEST, Question

TITLE = "mnemoscope"
REFRESH = 5.0  # seconds between two looks at the folder of runs
QUEUE = 16  # looks that wait at most
USUAL_MITIGATION = "embedding_descent"
DO = (
    "Type a prompt, or choose an example. In seconds you see whether the model seems to have memorized it, which words "
    "give it away, what it draws, and what a mitigation makes of that."
)
CHECK = "Give a picture to see whether it is a copy of one that the model was trained on. It is not kept."
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
QUIET: dict[str, Any] = {**PRIVATE, "show_progress": "hidden"}


def theme() -> gr.themes.Base:
    """Plain, in the fonts of the person's own machine: none is loaded. What gradio leaves too pale is darker."""
    plain = gr.themes.Default(font=list(FONTS), font_mono=list(MONO), primary_hue="sky", neutral_hue="slate")
    pale = {"input_placeholder_color": "*neutral_500", "body_text_color_subdued": "*neutral_500"}
    return plain.set(**pale, input_placeholder_color_dark="*neutral_400")


def page(handlers: Handlers) -> gr.Blocks:
    """The whole page."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 600)) as blocks:
        gr.HTML(fragments.intro(handlers.desk))
        with gr.Tabs():
            with gr.Tab("Try a prompt", id="prompt"):
                _prompt_tab(handlers)
            with gr.Tab("Check a picture", id="picture"):
                _picture_tab(handlers)
            with gr.Tab("Runs", id="runs"):
                _runs_tab(handlers, blocks)

        def left(request: gr.Request) -> None:
            handlers.stop(_session(request))

        blocks.unload(left)
    blocks.queue(max_size=QUEUE, default_concurrency_limit=1, api_open=False)
    return blocks


def _session(request: gr.Request | None) -> str:
    return str(getattr(request, "session_hash", ""))


def _prompt_tab(handlers: Handlers) -> None:
    desk = handlers.desk
    gr.HTML(fragments.lead(DO))
    prompt = gr.Textbox(
        label="Prompt",
        placeholder="Type what you would ask the model to draw, and press Enter",
        max_lines=4,
        max_length=LONGEST,
        autofocus=True,
        elem_id="prompt",
    )
    if desk.subject.examples:
        gr.Examples([[each] for each in desk.subject.examples], [prompt], label="Examples", **PRIVATE)
    with gr.Accordion("Mitigation and seed", open=False):
        mitigation, strength, flagged, seed = _settings(handlers)
    with gr.Row(elem_classes="buttons"):
        start = gr.Button("Look", variant="primary", elem_id="look", scale=0, min_width=140)
        stop = gr.Button("Stop", interactive=False, elem_id="stop", scale=0, min_width=140)
    status = gr.HTML(fragments.status(), elem_id="look-status")
    result = gr.HTML(elem_id="look-result")

    def look(text: str, name: str, strong: str, only: bool, first: float, request: gr.Request) -> Iterator[Any]:
        question = Question(text or "", int(first or 0), name, str(strong), bool(only))
        for said, shown in handlers.look(question, _session(request)):
            found = gr.skip() if shown is None else shown
            yield said, found, gr.Button(interactive=False), gr.Button(interactive=True)
        yield gr.skip(), gr.skip(), gr.Button(interactive=True), gr.Button(interactive=False)

    inputs, outputs = [prompt, mitigation, strength, flagged, seed], [status, result, start, stop]
    gr.on([start.click, prompt.submit], look, inputs, outputs, concurrency_limit=1, trigger_mode="once", **QUIET)

    def end(request: gr.Request) -> None:
        handlers.stop(_session(request))

    stop.click(end, queue=False, **QUIET)


def _settings(handlers: Handlers) -> tuple[Any, ...]:
    desk = handlers.desk
    names = [choices.NONE, *choices.mitigations()]
    usual = USUAL_MITIGATION if desk.model.family.has_tokens else choices.NONE
    parameter, values = choices.strengths(usual, desk)
    with gr.Row():
        mitigation = gr.Dropdown(names, value=usual, label="Mitigation", elem_id="mitigation")
        strength = gr.Dropdown(
            values, value=values[0], label=_strength(parameter), allow_custom_value=True, elem_id="strength"
        )
        seed = gr.Number(0, label="First seed", precision=0, minimum=0, elem_id="seed")
    flagged = gr.Checkbox(
        desk.threshold is not None,
        label="Mitigate only pictures whose first step passes the threshold",
        interactive=desk.threshold is not None,
    )

    def chosen(name: str) -> Any:
        parameter, values = choices.strengths(name, desk)
        return gr.Dropdown(values, value=values[0], label=_strength(parameter), interactive=bool(parameter))

    mitigation.change(chosen, mitigation, strength, queue=False, **QUIET)
    return mitigation, strength, flagged, seed


def _strength(parameter: str) -> str:
    return f"Strength ({parameter})" if parameter else "Strength (it has none)"


def _picture_tab(handlers: Handlers) -> None:
    gr.HTML(fragments.lead(CHECK))
    upload = gr.File(
        label="A picture: PNG, JPEG or WebP, 10 MB at most",
        file_types=[".png", ".jpg", ".jpeg", ".webp"],
        type="filepath",
        height=140,
        elem_id="upload",
    )
    status = gr.HTML(fragments.status(), elem_id="check-status")
    result = gr.HTML(elem_id="check-result")
    upload.change(handlers.check, upload, [status, result], concurrency_limit=1, **QUIET)


def _runs_tab(handlers: Handlers, blocks: gr.Blocks) -> None:
    table, names = gr.HTML(elem_id="runs"), gr.State([])
    shown = gr.State("")
    chosen = gr.Dropdown([], multiselect=True, max_choices=2, label="Two runs to compare", elem_id="chosen")
    with gr.Row(elem_classes="buttons"):
        compare = gr.Button("Compare", elem_id="compare", scale=0, min_width=140)
    status, frame = gr.HTML(fragments.status()), gr.HTML(elem_id="comparison")

    def refresh(known: list[str], before: str) -> Any:
        listed, now = handlers.table()
        options = gr.Dropdown(choices=now) if now != known else gr.skip()
        return listed if listed != before else gr.skip(), options, now, listed

    gr.on(
        [blocks.load, gr.Timer(REFRESH).tick],
        refresh,
        [names, shown],
        [table, chosen, names, shown],
        queue=False,
        **QUIET,
    )
    compare.click(handlers.compare, chosen, [status, frame], queue=False, **QUIET)
