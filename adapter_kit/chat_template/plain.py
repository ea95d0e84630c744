"""The layout of prompts for models without a chat template."""

from __future__ import annotations

from adapter_api import TaskRequest, Unsupported


class PlainLayout:
    """Renders each message as a block `role: text`; blocks are set apart by an empty line, and `assistant:` at the end
    invites the answer:

        system: Be brief.

        user: Hello

        assistant:

    The invitation is left out where a task says so, or where its last message is continued. Images have no place in it:
    they go beside the prompt.
    """

    takes_tools = False
    takes_variables = False
    text = ""

    def render(self, task: TaskRequest) -> str:
        """Return the prompt that `task.messages` make.

        Raises:
            Unsupported: The task has what only a chat template could say: tools, tool calls, variables for a template.
        """
        messages = task.messages or ()
        for what, given in (
            ("`tools`", task.tool_choice != "none" and (task.tools or task.tool_choice is not None)),
            ("messages with tool_calls", any(message.tool_calls for message in messages)),
            ("`chat_template_kwargs`", task.chat_template_kwargs),
        ):
            if given:
                raise Unsupported(f"model {task.model!r} takes one text, and {what} need a chat_template to become one")
        open_end = task.continue_final_message or task.add_generation_prompt is False
        blocks = [f"{message.role}: {message.text}" for message in messages]
        return "\n\n".join(blocks if open_end else [*blocks, "assistant:"])
