"""Write and edit text files of the workspace. A file has the old content or the new, never a part of either."""

import os
from typing import Annotated

from pydantic import Field

from ..definition import ToolContext, tool
from ..errors import ToolError
from .files import MAX_FILE_BYTES, FilePath
from .inside import open_file, replace_file

Text = Annotated[str, Field(max_length=4000)]


# Both hold to the workspace themselves, as those that read do; neither starts anything or runs what it is given.
@tool(effect="write", idempotent=True, sandbox=False)
def files_write(path: FilePath, text: Text, context: ToolContext) -> str:
    """Write a text file, in place of what it holds."""
    was_there = replace_file(context.workspace, path, text.encode("utf-8", errors="replace"))
    return f"{'replaced' if was_there else 'made'} {path}"


@tool(effect="write", sandbox=False)
def files_edit(
    path: FilePath, old: Annotated[str, Field(min_length=1, max_length=4000)], new: Text, context: ToolContext
) -> str:
    """Replace a text that stands exactly once in a file."""
    with open_file(context.workspace, path) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > MAX_FILE_BYTES:
            raise ToolError(f"{path!r} has {size} bytes; {MAX_FILE_BYTES} can be edited")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_FILE_BYTES)
    wanted = old.encode("utf-8", errors="replace")
    found = data.count(wanted)
    if found != 1:
        raise ToolError(f"the text stands {found} times in {path!r}; it must stand there once")
    replace_file(context.workspace, path, data.replace(wanted, new.encode("utf-8", errors="replace")))
    return f"edited {path}"
