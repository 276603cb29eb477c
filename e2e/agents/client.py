"""Asks `nexus mcp` with the client of the protocol's own Python SDK, and prints what it was told as one JSON object.

client.py CALLS COMMAND...: CALLS is a JSON list of [tool, arguments].
"""

import asyncio
import json
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


async def main() -> None:
    calls = json.loads(sys.argv[1])
    server = StdioServerParameters(command=sys.argv[2], args=sys.argv[3:])
    async with stdio_client(server) as (read, write):
        async with ClientSession(read, write) as session:
            begun = await session.initialize()
            tools = await session.list_tools()
            answers = []
            for tool, arguments in calls:
                answer = await session.call_tool(tool, arguments)
                answers.append({"error": bool(answer.is_error), "texts": [block.text for block in answer.content]})
            print(json.dumps({
                "server": begun.server_info.name,
                "tools": [tool.name for tool in tools.tools],
                "answers": answers,
            }))


asyncio.run(main())
