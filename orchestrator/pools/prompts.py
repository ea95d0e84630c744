"""The prompts that a task's messages make: each made once, and none where it would keep others waiting."""

from __future__ import annotations

from sys import getsizeof

from adapter_api import AdapterError, TaskRequest
from adapter_kit.chat_template import TakesLong, Template, render_at_once, render_beside
from adapter_kit.tool_choice import must_call
from orchestrator.held import Held


class Unmade(Exception):
    """There is no prompt by `template` yet, and it takes more than a moment: `await prompts.make(template)`."""

    def __init__(self, template: Template) -> None:
        super().__init__("the prompt is still to be made")
        self.template = template


class Prompts:
    """One task's prompts by template, as long as the task lives: on its arrival it is found out whether the template
    takes its messages, and what was made then is sent. Tasks of one request that say the same share them.

    A reload brings new templates, also where they say the same: what waits is rendered anew, by the one that is in
    force when it is sent.
    """

    def __init__(self, task: TaskRequest, held: Held | None = None) -> None:
        self._task = task
        self._held = held
        # By id, with the template, so that it stays the one whose id it is: templates need not be hashable.
        self._made: dict[int, tuple[Template, str | AdapterError]] = {}
        self._takes_long = False

    def by(self, template: Template) -> str:
        """Return the prompt.

        Raises:
            AdapterError: The template refuses the messages, as `Template.render` does.
            Unmade: It takes longer than a moment to make it.
        """
        if id(template) not in self._made:
            if self._takes_long:
                raise Unmade(template)
            try:
                made = render_at_once(self._task, lambda: self._render(template))
            except TakesLong:
                self._takes_long = True
                raise Unmade(template) from None
            self._keep(template, made)
        prompt = self._made[id(template)][1]
        if isinstance(prompt, AdapterError):
            raise prompt.with_traceback(None)
        return prompt

    async def make(self, template: Template) -> None:
        """Make the prompt in a thread, so that `by` has it. Whoever cancels this leaves the thread at work until the
        bounds of templates end it: seconds, and there are two such threads for all."""
        if id(template) in self._made:
            return
        self._keep(template, await render_beside(lambda: self._render(template)))

    def _keep(self, template: Template, made: str | AdapterError) -> None:
        if self._held is not None and isinstance(made, str):
            try:
                self._held.take(getsizeof(made))
            except AdapterError as exc:
                made = exc
        self._made[id(template)] = template, made

    def _render(self, template: Template) -> str | AdapterError:
        # That a tool has to be called is not the template's to say: the format of the answer is.
        task = self._task.model_copy(update={"tool_choice": None}) if must_call(self._task) else self._task
        try:
            return template.render(task)
        except AdapterError as exc:
            return exc
